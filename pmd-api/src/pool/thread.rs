//! This thread's cache records.

use std::cell::{Cell, RefCell};
use std::ptr::NonNull;

use super::depot::Claim;
use super::{Body, PoolDepot};
use crate::meta::Handle;

/// A record found for this thread.
pub(crate) type RecordPointer = NonNull<super::record::Record<Handle>>;

/// The record found last: `(pool id, record)`; without a record if this thread has none there.
type Memo = (u32, Option<RecordPointer>);

/// No pool has this id.
pub(super) const NO_POOL: u32 = 0;

// Not dropped at thread exit, so that it can be read at any time, and for the price of a load.
#[cfg(not(mana_loom))]
thread_local! {
    static MEMO: Cell<Memo> = const { Cell::new((NO_POOL, None)) };
    static CLAIMS: Claims = const { Claims(RefCell::new(Vec::new())) };
}
#[cfg(mana_loom)]
loom::thread_local! {
    static MEMO: Cell<Memo> = Cell::new((NO_POOL, None));
    static CLAIMS: Claims = Claims(RefCell::new(Vec::new()));
}

struct Claims(RefCell<Vec<(u32, Claim<Handle, Body>)>>);

/// The thread ends: everything goes home. From here on `CLAIMS.try_with` fails, so that mbufs
/// dropped by later destructors go to the ring.
impl Drop for Claims {
    fn drop(&mut self) {
        set_memo((NO_POOL, None));
        self.0.get_mut().clear();
    }
}

#[inline]
fn memo() -> Memo {
    MEMO.with(Cell::get)
}

fn set_memo(memo: Memo) {
    MEMO.with(|place| place.set(memo));
}

/// This thread's record in the pool with this id, if it has claimed one.
///
/// The record is alive until this thread claims another one or ends. The caller uses it before it
/// does anything else, and calls nothing of the user's meanwhile.
#[inline]
pub(crate) fn record(pool: u32) -> Option<RecordPointer> {
    match memo() {
        (id, record) if id == pool => record,
        _ => look_up(pool),
    }
}

/// The same; claims a record if this thread has none and one is free.
///
/// # Safety
/// `depot` returns the pool's, which is alive while this runs.
#[inline]
pub(crate) unsafe fn claimed_record(
    pool: u32,
    depot: impl FnOnce() -> NonNull<PoolDepot>,
) -> Option<RecordPointer> {
    match memo() {
        (id, Some(record)) if id == pool => Some(record),
        // SAFETY: the caller's promise, passed on.
        _ => unsafe { look_up_or_claim(pool, depot()) },
    }
}

#[cold]
#[inline(never)]
fn look_up(pool: u32) -> Option<RecordPointer> {
    let found = CLAIMS.try_with(|claims| {
        let claims = claims.0.try_borrow().ok()?;
        claims
            .iter()
            .find(|(id, _)| *id == pool)
            .map(|(_, claim)| claim.record())
    });
    let found = found.ok().flatten();
    set_memo((pool, found));
    found
}

/// # Safety
/// As for [`claimed_record`].
#[cold]
#[inline(never)]
unsafe fn look_up_or_claim(pool: u32, depot: NonNull<PoolDepot>) -> Option<RecordPointer> {
    // SAFETY: the caller's promise, passed on.
    look_up(pool).or_else(|| unsafe { claim(pool, depot) })
}

/// # Safety
/// As for [`claimed_record`].
unsafe fn claim(pool: u32, depot: NonNull<PoolDepot>) -> Option<RecordPointer> {
    // Frees pools, perhaps: outside the borrow.
    drop(closed_claims());
    CLAIMS
        .try_with(|claims| {
            let mut claims = claims.0.try_borrow_mut().ok()?;
            // SAFETY: alive, says the caller; claims stay in this thread-local.
            let claim = unsafe { Claim::new(depot) }?;
            let record = claim.record();
            claims.push((pool, claim));
            set_memo((pool, Some(record)));
            Some(record)
        })
        .ok()
        .flatten()
}

/// Takes out this thread's claims on pools that have no handle any more.
fn closed_claims() -> Vec<(u32, Claim<Handle, Body>)> {
    let closed = CLAIMS.try_with(|claims| {
        let mut claims = claims.0.try_borrow_mut().ok()?;
        let closed: Vec<_> = claims
            .extract_if(.., |(_, claim)| claim.is_closed())
            .collect();
        // The memo may name one of them.
        set_memo((NO_POOL, None));
        Some(closed)
    });
    closed.ok().flatten().unwrap_or_default()
}

/// Records this thread has claimed, those of pools that are gone included.
#[cfg(all(test, not(mana_loom)))]
pub(super) fn claims() -> usize {
    CLAIMS.with(|claims| claims.0.borrow().len())
}
