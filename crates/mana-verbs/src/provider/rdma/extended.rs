//! The operations of a context that libibverbs' headers call inline: they stand in front of the
//! context, in a `verbs_context` that the library made as large as it knew how to.

use std::ffi::c_void;
use std::mem::offset_of;

use uverbs_abi::Errno;

use super::ffi::{self, VerbsContext};

/// The `verbs_context` around a context, with the check that the headers make before each use:
/// that there is one, and that it is large enough to hold the operation.
///
/// The library's structure may be shorter than ours or longer, so its fields are found by their
/// distance from the context, which is its last.
#[derive(Clone, Copy)]
pub(super) struct Extended {
    context: *mut ffi::Context,
}

/// Where the field at `offset` of the structure lies.
const fn field<T>(context: *mut ffi::Context, offset: usize) -> *mut T {
    context
        .wrapping_byte_sub(offset_of!(VerbsContext, context) - offset)
        .cast()
}

/// One operation's field: that of the structure if the library has it and filled it in.
macro_rules! operation {
    ($name:ident: $type:ty) => {
        pub(super) fn $name(self) -> Result<$type, Errno> {
            const OFFSET: usize = offset_of!(VerbsContext, $name);
            // SAFETY: `of` has shown that the structure is there, and `sz` lies right in front of
            // the context in every version of it.
            let sz = unsafe { field::<usize>(self.context, offset_of!(VerbsContext, sz)).read() };
            if sz < size_of::<VerbsContext>() - OFFSET {
                return Err(Errno::EOPNOTSUPP);
            }
            // SAFETY: the library's structure reaches up to this field, as just shown; it is null
            // or a function of this type.
            unsafe { field::<Option<$type>>(self.context, OFFSET).read() }.ok_or(Errno::EOPNOTSUPP)
        }
    };
}

impl Extended {
    /// The structure around `context`; `EOPNOTSUPP` where there is none, which is so in libraries
    /// that are many years old.
    ///
    /// # Safety
    ///
    /// `context` is an open context of libibverbs, and stays open while the value is used.
    pub(super) unsafe fn of(context: *mut ffi::Context) -> Result<Self, Errno> {
        // SAFETY: the context is open.
        let compat = unsafe { (*context).abi_compat };
        if compat.addr() != ffi::ABI_IS_EXTENDED {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(Self { context })
    }

    operation!(query_port: ffi::QueryPort);
    operation!(query_device_ex: ffi::QueryDeviceEx);
    operation!(alloc_parent_domain: ffi::AllocParentDomain);
    operation!(create_wq: ffi::CreateWq);
    operation!(destroy_wq: ffi::DestroyWq);
    operation!(create_rwq_ind_table: ffi::CreateRwqIndTable);
    operation!(destroy_rwq_ind_table: ffi::DestroyRwqIndTable);
    operation!(create_qp_ex: ffi::CreateQpEx);

    /// An address inside the library that opened the context.
    pub(super) fn driver(self) -> *const c_void {
        // SAFETY: the context is open.
        unsafe { (*self.context).ops.poll_cq }
    }
}

#[cfg(test)]
mod tests {
    use std::alloc::{Layout, alloc_zeroed, dealloc};
    use std::ffi::c_int;
    use std::ptr::{self, NonNull};

    use super::*;

    unsafe extern "C" fn destroy_wq(_: *mut ffi::Wq) -> c_int {
        17
    }

    unsafe extern "C" fn query_port(
        _: *mut ffi::Context,
        port: u8,
        _: *mut ffi::PortAttr,
        _: usize,
    ) -> c_int {
        port.into()
    }

    unsafe extern "C" fn parent(
        _: *mut ffi::Context,
        _: *mut ffi::ParentDomainInitAttr,
    ) -> *mut ffi::Pd {
        ptr::null_mut()
    }

    /// A `verbs_context` as a library that knows the last `sz` bytes of it would allocate it:
    /// nothing lies in front.
    struct Library {
        memory: NonNull<u8>,
        layout: Layout,
    }

    impl Library {
        fn new(sz: usize) -> Self {
            let layout = Layout::from_size_align(sz, 8).unwrap();
            // SAFETY: the size is not 0.
            let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
            let library = Self { memory, layout };
            library.set(offset_of!(VerbsContext, sz), sz);
            library.set(offset_of!(VerbsContext, context) + COMPAT, usize::MAX);
            library
        }

        /// The context at the end of the allocation.
        fn context(&self) -> *mut ffi::Context {
            let at = self.layout.size() - size_of::<ffi::Context>();
            self.memory.as_ptr().wrapping_add(at).cast()
        }

        /// Writes a field of the whole structure, which must be in the allocation.
        fn set<T>(&self, offset: usize, value: T) {
            assert!(size_of::<VerbsContext>() - offset <= self.layout.size());
            let field = self.memory.as_ptr().wrapping_add(self.layout.size());
            let field = field.wrapping_sub(size_of::<VerbsContext>() - offset);
            // SAFETY: it lies inside the allocation, as just shown, and fields are aligned.
            unsafe { field.cast::<T>().write(value) };
        }
    }

    impl Drop for Library {
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with this layout.
            unsafe { dealloc(self.memory.as_ptr(), self.layout) };
        }
    }

    const COMPAT: usize = offset_of!(ffi::Context, abi_compat);
    const WHOLE: usize = size_of::<VerbsContext>();

    #[test]
    fn operations_are_found_by_their_distance_from_the_end() {
        // As large as known here, and larger: operations added in front change nothing.
        for sz in [WHOLE, WHOLE + 8 * 7] {
            let library = Library::new(sz);
            library.set(
                offset_of!(VerbsContext, destroy_wq),
                destroy_wq as ffi::DestroyWq,
            );
            library.set(
                offset_of!(VerbsContext, query_port),
                query_port as ffi::QueryPort,
            );
            // SAFETY: the context is as libibverbs makes it.
            let extended = unsafe { Extended::of(library.context()) }.unwrap();
            let (wq, port) = (
                extended.destroy_wq().unwrap(),
                extended.query_port().unwrap(),
            );
            // SAFETY: these functions touch nothing.
            unsafe {
                assert_eq!(wq(ptr::null_mut()), 17);
                assert_eq!(port(library.context(), 3, ptr::null_mut(), 0), 3);
            }
        }
    }

    #[test]
    fn an_operation_in_front_of_the_librarys_structure_is_not_read() {
        // The last library without alloc_parent_domain, and one without query_port.
        let without = offset_of!(VerbsContext, from_dealloc_td);
        for (cut, parent_domain) in [(without, false), (8, true)] {
            let library = Library::new(WHOLE - cut);
            // SAFETY: the context is as libibverbs makes it.
            let extended = unsafe { Extended::of(library.context()) }.unwrap();
            assert_eq!(extended.query_port().err(), Some(Errno::EOPNOTSUPP));
            if parent_domain {
                let offset = offset_of!(VerbsContext, alloc_parent_domain);
                library.set(offset, parent as ffi::AllocParentDomain);
            }
            assert_eq!(extended.alloc_parent_domain().is_ok(), parent_domain);
        }
    }

    #[test]
    fn an_operation_that_the_driver_lacks_is_not_supported() {
        let library = Library::new(WHOLE);
        // SAFETY: the context is as libibverbs makes it.
        let extended = unsafe { Extended::of(library.context()) }.unwrap();
        assert_eq!(extended.create_wq().err(), Some(Errno::EOPNOTSUPP));
    }

    #[test]
    fn a_context_of_the_first_libibverbs_has_no_operations() {
        let library = Library::new(WHOLE);
        for compat in [0usize, 1, usize::MAX - 1] {
            library.set(offset_of!(VerbsContext, context) + COMPAT, compat);
            // SAFETY: the context is readable.
            let extended = unsafe { Extended::of(library.context()) };
            assert_eq!(extended.err(), Some(Errno::EOPNOTSUPP));
        }
    }
}
