//! Metadata lines, and the cache of free ones.

use std::ptr::NonNull;

/// Word of a line with the packet's length.
pub(crate) const LENGTH: usize = 1;
/// Word of a line with the address of its data.
pub(crate) const ADDRESS: usize = 5;

/// One metadata line: 64 bytes, laid out as `pmd-api`'s where it matters.
#[repr(C, align(64))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line(pub(crate) [u64; 8]);

/// Address of a line.
pub(crate) type Handle = *mut Line;

/// Memory of values that are only reached through its pointer.
#[derive(Debug)]
pub(crate) struct Array<T> {
    base: NonNull<T>,
    len: usize,
}

// SAFETY: the memory is this value's alone.
unsafe impl<T: Send> Send for Array<T> {}

impl<T> Array<T> {
    pub(crate) fn new(values: Vec<T>) -> Self {
        let values: &mut [T] = Box::leak(values.into_boxed_slice());
        let len = values.len();
        Self {
            base: NonNull::from(values).cast(),
            len,
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut T {
        self.base.as_ptr()
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        let values = std::ptr::slice_from_raw_parts_mut(self.base.as_ptr(), self.len);
        // SAFETY: pointer and length are those of the box that `new` leaked, and nobody else frees
        // it.
        drop(unsafe { Box::from_raw(values) });
    }
}

/// Handles: of free lines, of a batch, of what is in a ring.
#[derive(Debug)]
pub(crate) struct Handles {
    slots: Array<Handle>,
    pub(crate) len: usize,
}

// SAFETY: handles are addresses of lines that live and are used with them.
unsafe impl Send for Handles {}

impl Handles {
    pub(crate) fn new(room: usize) -> Self {
        Self {
            slots: Array::new(vec![std::ptr::null_mut(); room]),
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn as_ptr(&self) -> *mut Handle {
        self.slots.as_ptr()
    }
}
