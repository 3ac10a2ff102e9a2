//! Memory keys by pool: a small table behind a one-entry cache.

use pmd_api::PoolId;

/// The keys under which the pools of a port are registered.
#[derive(Debug, Clone)]
pub(crate) struct Lkeys {
    table: Vec<(PoolId, u32)>,
    last: Option<(PoolId, u32)>,
}

impl Lkeys {
    /// A table of `(pool, lkey)`. The first pool is the one looked up first.
    pub(crate) fn new(table: Vec<(PoolId, u32)>) -> Self {
        let last = table.first().copied();
        Self { table, last }
    }

    /// The key of `pool`, which becomes the cached one.
    #[inline]
    pub(super) fn find(&mut self, pool: PoolId) -> Option<u32> {
        match self.last {
            Some((cached, key)) if cached == pool => Some(key),
            _ => self.search(pool),
        }
    }

    /// The key of `pool`, if that is the cached one.
    #[inline]
    pub(super) fn cached(&self, pool: PoolId) -> Option<u32> {
        self.last
            .filter(|(cached, _)| *cached == pool)
            .map(|(_, key)| key)
    }

    #[cold]
    fn search(&mut self, pool: PoolId) -> Option<u32> {
        let entry = *self.table.iter().find(|(id, _)| *id == pool)?;
        self.last = Some(entry);
        Some(entry.1)
    }
}
