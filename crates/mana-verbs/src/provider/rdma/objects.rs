//! Objects of libibverbs, by the handles that the rest of the crate knows them by. A handle leads
//! to one object of one kind or to none, so that no wrong pointer ever reaches the library.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::ffi;
use crate::VerbsError;
use crate::provider::Handle;

/// A protection domain, with a parent domain for each port that has used it: libmana takes the
/// port's number from there.
#[derive(Clone)]
pub(super) struct Domain {
    pub(super) pd: *mut ffi::Pd,
    pub(super) parents: Vec<(u8, *mut ffi::Pd)>,
}

/// A work queue with what its queue pair must ask the numbers of.
#[derive(Clone, Copy)]
pub(super) struct WorkQueue {
    pub(super) wq: *mut ffi::Wq,
    pub(super) cq: *mut ffi::Cq,
    /// Address of its ring.
    pub(super) ring: u64,
}

/// What a handle stands for.
#[derive(Clone)]
pub(super) enum Object {
    Domain(Domain),
    Memory(*mut ffi::Mr),
    /// With the address of its ring.
    CompletionQueue(*mut ffi::Cq, u64),
    WorkQueue(WorkQueue),
    Table(*mut ffi::RwqIndTable, Vec<WorkQueue>),
    /// With the address of its ring, if it has one.
    QueuePair(*mut ffi::Qp, Option<u64>),
}

// SAFETY: libibverbs' objects belong to no thread; what may be done with one at the same time is
// decided where it is used.
unsafe impl Send for Object {}

/// All objects of one context.
#[derive(Default)]
pub(super) struct Objects(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: Handle,
    live: HashMap<Handle, Object>,
}

impl Objects {
    fn with<T>(&self, then: impl FnOnce(&mut Table) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn insert(&self, object: Object) -> Handle {
        self.with(|table| {
            loop {
                table.last = table.last.wrapping_add(1);
                if table.last != 0 && !table.live.contains_key(&table.last) {
                    break;
                }
            }
            table.live.insert(table.last, object);
            table.last
        })
    }

    /// What `choose` takes from the object of this handle.
    pub(super) fn get<T>(
        &self,
        operation: &'static str,
        handle: Handle,
        choose: impl FnOnce(&mut Object) -> Option<T>,
    ) -> Result<T, VerbsError> {
        self.with(|table| table.live.get_mut(&handle).and_then(choose))
            .ok_or_else(|| unknown(operation, handle))
    }

    /// Takes the object out: nobody finds it from now on.
    pub(super) fn take(
        &self,
        operation: &'static str,
        handle: Handle,
    ) -> Result<Object, VerbsError> {
        self.with(|table| table.live.remove(&handle))
            .ok_or_else(|| unknown(operation, handle))
    }
}

fn unknown(operation: &'static str, handle: Handle) -> VerbsError {
    VerbsError::argument(operation, format!("there is no such object {handle}"))
}

#[cfg(test)]
mod tests {
    use std::ptr;

    use super::*;
    use crate::operation::CREATE_CQ;

    #[test]
    fn a_handle_leads_to_its_object_until_it_is_taken() {
        let objects = Objects::default();
        let memory = |address| Object::Memory(ptr::without_provenance_mut(address));
        let (a, b) = (objects.insert(memory(8)), objects.insert(memory(16)));
        assert_ne!(a, b);
        let address = |handle| {
            objects.get(CREATE_CQ, handle, |object| match object {
                Object::Memory(mr) => Some(mr.addr()),
                _ => None,
            })
        };
        assert_eq!((address(a).unwrap(), address(b).unwrap()), (8, 16));
        assert!(objects.take(CREATE_CQ, a).is_ok());
        assert!(address(a).is_err() && objects.take(CREATE_CQ, a).is_err());
        // A handle that was given back is not found again under another object at once.
        assert_ne!(objects.insert(memory(24)), a);
    }

    #[test]
    fn an_object_of_another_kind_is_not_taken_for_it() {
        let objects = Objects::default();
        let handle = objects.insert(Object::Memory(ptr::null_mut()));
        let cq = objects.get(CREATE_CQ, handle, |object| match object {
            Object::CompletionQueue(cq, _) => Some(*cq),
            _ => None,
        });
        assert!(matches!(cq, Err(VerbsError::Argument { .. })));
    }

    #[test]
    fn handles_wrap_around_those_in_use() {
        let objects = Objects::default();
        let first = objects.insert(Object::Memory(ptr::null_mut()));
        objects.with(|table| table.last = Handle::MAX - 1);
        assert_eq!(objects.insert(Object::Memory(ptr::null_mut())), Handle::MAX);
        let next = objects.insert(Object::Memory(ptr::null_mut()));
        assert!(next != 0 && next != first && next != Handle::MAX);
    }
}
