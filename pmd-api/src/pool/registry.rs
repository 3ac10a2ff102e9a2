//! All pools of the process that have handles or buffers in use. Slow path only.

use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock};

use super::{PoolCore, PoolId};
use crate::meta::Meta;

/// As long as the live pools; searched, never indexed by id.
static POOLS: RwLock<Vec<Arc<PoolCore>>> = RwLock::new(Vec::new());

/// Enters a new pool.
pub(super) fn add(core: &Arc<PoolCore>) {
    POOLS.write().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(core));
}

fn find(matches: impl Fn(&PoolCore) -> bool) -> Option<Arc<PoolCore>> {
    let pools = POOLS.read().unwrap_or_else(PoisonError::into_inner);
    pools.iter().find(|core| matches(core)).map(Arc::clone)
}

/// The pool that a line belongs to. There is one for the line of every `Mbuf`.
pub(super) fn pool_of_line(line: NonNull<Meta>) -> Option<Arc<PoolCore>> {
    find(|core| core.index_of(line).is_some())
}

/// Runs `work` on the pool whose id a line names as that of its data.
pub(crate) fn with_pool_of_data<R>(pool: u32, work: impl FnOnce(&PoolCore) -> R) -> Option<R> {
    find(|core| core.id == PoolId(pool)).map(|core| work(&core))
}

/// Runs `work` on the pool that a line belongs to and the line's index.
pub(crate) fn with_pool_of_line<R>(
    line: NonNull<Meta>,
    work: impl FnOnce(&PoolCore, u32) -> R,
) -> Option<R> {
    let core = pool_of_line(line)?;
    let index = core.index_of(line)?;
    Some(work(&core, index))
}

/// Forgets an orphaned pool if all its buffers are home. Its memory goes with the last reference.
///
/// The caller knows that the pool is orphaned: then buffers only come home, and once complete it
/// stays so.
pub(super) fn remove_if_complete(core: &Arc<PoolCore>) {
    if core.home.is_complete() {
        let mut pools = POOLS.write().unwrap_or_else(PoisonError::into_inner);
        let position = pools.iter().position(|other| Arc::ptr_eq(other, core));
        let removed = position.map(|position| pools.swap_remove(position));
        drop(pools);
        drop(removed);
    }
}
