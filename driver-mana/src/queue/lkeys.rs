//! Memory keys by pool: a small table behind a one-entry cache.

use pmd_api::PoolId;

/// No pool's number.
const NONE: u64 = u64::MAX;

/// The keys under which the pools of a port are registered.
#[derive(Debug, Clone)]
pub(crate) struct Lkeys {
    table: Vec<(PoolId, u32)>,
    /// Number of the pool whose key is known without a search, and the key.
    pool: u64,
    key: u32,
}

impl Lkeys {
    /// A table of `(pool, lkey)`. The first pool is the one looked up first.
    pub(crate) fn new(table: Vec<(PoolId, u32)>) -> Self {
        let first = table.first().map(|&(pool, key)| (pool.get().into(), key));
        let (pool, key) = first.unwrap_or((NONE, 0));
        Self { table, pool, key }
    }

    /// The key of `pool`, which becomes the cached one.
    #[inline]
    pub(super) fn find(&mut self, pool: PoolId) -> Option<u32> {
        self.cached(pool).or_else(|| self.search(pool))
    }

    /// The key of `pool`, if that is the cached one.
    #[inline]
    pub(super) fn cached(&self, pool: PoolId) -> Option<u32> {
        (self.pool == pool.get().into()).then_some(self.key)
    }

    #[cold]
    fn search(&mut self, pool: PoolId) -> Option<u32> {
        let (pool, key) = *self.table.iter().find(|(id, _)| *id == pool)?;
        (self.pool, self.key) = (pool.get().into(), key);
        Some(key)
    }
}
