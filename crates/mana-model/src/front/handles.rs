//! The object numbers of one context. All kinds share them, the lowest free one is taken next
//! (ib_uverbs keeps them in one xarray a file).

use uverbs_abi::Errno;

/// A table of objects.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    slots: Vec<Option<T>>,
}

impl<T> Default for Handles<T> {
    fn default() -> Self {
        Self { slots: Vec::new() }
    }
}

impl<T> Handles<T> {
    /// Enters an object.
    pub(crate) fn insert(&mut self, object: T) -> u32 {
        let free = self.slots.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(object);
        index as u32
    }

    /// An object; `ENOENT` where there is none.
    pub(crate) fn get(&self, handle: u32) -> Result<&T, Errno> {
        let slot = self.slots.get(handle as usize);
        slot.and_then(Option::as_ref).ok_or(Errno::ENOENT)
    }

    /// An object; `ENOENT` where there is none.
    pub(crate) fn get_mut(&mut self, handle: u32) -> Result<&mut T, Errno> {
        let slot = self.slots.get_mut(handle as usize);
        slot.and_then(Option::as_mut).ok_or(Errno::ENOENT)
    }

    /// Takes an object out; its handle is free again.
    pub(crate) fn remove(&mut self, handle: u32) -> Option<T> {
        self.slots.get_mut(handle as usize)?.take()
    }

    /// All objects with their handles.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        let with_handles = self.slots.iter().enumerate();
        with_handles.filter_map(|(index, slot)| Some((index as u32, slot.as_ref()?)))
    }

    /// All objects.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_handle_is_taken_next() {
        let mut handles = Handles::default();
        for object in ['a', 'b', 'c'] {
            handles.insert(object);
        }
        assert_eq!(handles.remove(1), Some('b'));
        assert_eq!(handles.get(1), Err(Errno::ENOENT));
        assert_eq!(handles.insert('d'), 1);
        assert_eq!(handles.insert('e'), 3);
        let all: Vec<_> = handles.iter().collect();
        assert_eq!(all, [(0, &'a'), (1, &'d'), (2, &'c'), (3, &'e')]);
    }
}
