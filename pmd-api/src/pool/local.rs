//! A thread's cache records, found once a burst.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::{Arc, Weak};

use super::home::Claim;
use super::{PoolCore, PoolExhausted, PoolId, registry};
use crate::meta::Meta;
use crate::{Batch, Mbuf};

/// A record that this thread claimed; given back when its last user is gone.
#[derive(Debug)]
struct Held {
    /// The addresses of the pool's lines: tells whose record it is without reaching the pool.
    lines: Range<usize>,
    core: Weak<PoolCore>,
    claim: Claim,
}

impl Held {
    /// Whether the record may be used for the line at `address`. A dead pool's addresses may belong
    /// to another one by now, but its records are orphaned.
    #[inline]
    fn serves(&self, address: usize) -> bool {
        self.lines.contains(&address) && !self.claim.record().is_orphaned()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(core) = self.core.upgrade() {
            core.home.release(&self.claim);
            if core.is_orphaned() {
                registry::remove_if_complete(&core);
            }
        }
    }
}

/// The records of a thread.
struct Records(Vec<Rc<Held>>);

impl Drop for Records {
    fn drop(&mut self) {
        LAST.set(None);
    }
}

thread_local! {
    static RECORDS: RefCell<Records> = const { RefCell::new(Records(Vec::new())) };
    /// The record used last. Points into an `Rc` of `RECORDS` and is cleared before one is dropped.
    static LAST: Cell<Option<NonNull<Held>>> = const { Cell::new(None) };
}

/// This thread's record for the line at `address`, if it has one.
#[inline]
fn record_of(address: usize) -> Option<Rc<Held>> {
    if let Some(last) = LAST.get() {
        // SAFETY: `LAST` points to the content of an `Rc` that `RECORDS` of this thread owns: it is set
        // from there and cleared before `RECORDS` drops anything.
        if unsafe { last.as_ref() }.serves(address) {
            // SAFETY: as above, and the pointer was made by `Rc::as_ptr`.
            unsafe { Rc::increment_strong_count(last.as_ptr()) };
            // SAFETY: the count that was just added is this `Rc`'s.
            return Some(unsafe { Rc::from_raw(last.as_ptr()) });
        }
    }
    search(address)
}

#[cold]
fn search(address: usize) -> Option<Rc<Held>> {
    let found = RECORDS.try_with(|records| {
        let records = records.try_borrow().ok()?;
        records.0.iter().find(|held| held.serves(address)).map(Rc::clone)
    });
    let found = found.ok().flatten()?;
    remember(&found);
    Some(found)
}

fn remember(held: &Rc<Held>) {
    LAST.set(NonNull::new(Rc::as_ptr(held).cast_mut()));
}

/// Claims a record of `core` for this thread.
#[cold]
fn claim(core: &Arc<PoolCore>) -> Option<Rc<Held>> {
    let stale = RECORDS.try_with(|records| {
        let mut records = records.try_borrow_mut().ok()?;
        let claim = core.home.claim()?;
        LAST.set(None);
        // Records of pools that are gone are of no use any more; dropped below, after the borrow.
        let (live, stale) =
            records.0.drain(..).partition(|held: &Rc<Held>| !held.claim.record().is_orphaned());
        records.0 = live;
        let held = Held { lines: core.lines_range(), core: Arc::downgrade(core), claim };
        let held = Rc::new(held);
        records.0.push(Rc::clone(&held));
        remember(&held);
        Some((held, stale))
    });
    let (held, stale): (_, Vec<_>) = stale.ok().flatten()?;
    drop(stale);
    Some(held)
}

/// Brings the buffer of a line home whose owner is gone: simple, and free of any chain.
#[inline]
pub(crate) fn put_home(line: NonNull<Meta>) {
    let address = line.as_ptr() as usize;
    let cached = record_of(address).is_some_and(|held| {
        if held.claim.is_full() {
            // While this buffer is out its pool is alive.
            let Some(core) = held.core.upgrade() else { return false };
            if held.claim.size() == 0 {
                return false;
            }
            core.home.make_room(&held.claim, 1);
        }
        // From here on the pool may go at any time if it was orphaned meanwhile; the record stays.
        held.claim.put(((address - held.lines.start) / size_of::<Meta>()) as u32);
        true
    });
    if !cached {
        put_shared(line);
    }
}

#[cold]
fn put_shared(line: NonNull<Meta>) {
    // A line's pool stays registered while the line is out, so it is always found.
    if let Some(core) = registry::pool_of_line(line)
        && let Some(index) = core.index_of(line)
    {
        core.home.put(std::iter::once(index));
        if core.is_orphaned() {
            registry::remove_if_complete(&core);
        }
    }
}

/// A thread's access to a pool for the length of a burst: its cache record where it has one, else
/// the shared ring. Not `Send`.
#[derive(Debug)]
pub struct Local<'a> {
    core: &'a Arc<PoolCore>,
    held: Option<Rc<Held>>,
}

impl<'a> Local<'a> {
    /// With a record, which is claimed if need be and one is free.
    #[inline]
    pub(super) fn of(core: &'a Arc<PoolCore>) -> Self {
        let held = record_of(core.lines_range().start).or_else(|| claim(core));
        Self { core, held }
    }

    /// With a record if this thread has claimed one before.
    #[inline]
    pub(super) fn if_claimed(core: &'a Arc<PoolCore>) -> Self {
        Self { core, held: record_of(core.lines_range().start) }
    }

    /// The claim for an operation on `count` buffers, if this thread has one of that size.
    #[inline]
    fn claim(&self, count: usize) -> Option<&Claim> {
        let claim = &self.held.as_ref()?.claim;
        (count <= claim.size() as usize).then_some(claim)
    }

    /// The pool's id.
    #[inline]
    #[must_use]
    pub fn pool(&self) -> PoolId {
        self.core.id
    }

    #[inline]
    pub(crate) fn core(&self) -> &PoolCore {
        self.core
    }

    /// Takes `count` free buffers, or none; hands their indexes over.
    #[inline]
    pub(crate) fn take(&self, count: u32, each: impl FnMut(u32)) -> bool {
        match self.claim(count as usize) {
            Some(claim) => {
                let prepared = self.core.home.prepare(claim, count);
                if prepared {
                    claim.take(count).for_each(each);
                }
                prepared
            }
            None => self.core.home.take(count, each),
        }
    }

    /// Brings free buffers home.
    #[inline]
    pub(crate) fn put(&self, indexes: impl ExactSizeIterator<Item = u32>) {
        match self.claim(indexes.len()) {
            Some(claim) => {
                self.core.home.make_room(claim, indexes.len() as u32);
                claim.put_all(indexes);
            }
            None => self.core.home.put(indexes),
        }
    }

    /// Allocates one buffer.
    #[must_use]
    pub fn alloc(&self) -> Option<Mbuf> {
        let mut mbuf = None;
        self.take(1, |index| mbuf = Some(self.core.fresh(index)));
        mbuf
    }

    /// Appends `count` empty buffers to `batch`.
    ///
    /// # Errors
    ///
    /// [`PoolExhausted`] if the pool or the batch has no room for all; nothing is allocated then.
    pub fn alloc_bulk(&self, batch: &mut Batch, count: usize) -> Result<(), PoolExhausted> {
        if batch.room() < count {
            return Err(PoolExhausted { wanted: count, available: batch.room() });
        }
        let taken = u32::try_from(count).is_ok_and(|count| {
            self.take(count, |index| batch.push_in_room(self.core.fresh(index)))
        });
        let available = self.core.home.len() as usize;
        if taken { Ok(()) } else { Err(PoolExhausted { wanted: count, available }) }
    }
}
