//! Events that the kernel counts for a process: page faults, which every machine counts, and what the
//! processor counts, where it does and programs may read it. In virtual machines it mostly does not.

use perf_event::events::{Cache, CacheId, CacheOp, CacheResult, Hardware, Software};
use perf_event::{Builder, Counter, Group};

use crate::bench::error::Error;

/// Counters of this thread, in user space only, that stand still but for [`Counters::during`].
pub struct Counters {
    group: Group,
    /// In the order of the group.
    counters: Vec<(&'static str, Counter)>,
    missing: Option<String>,
}

impl Counters {
    /// All that there are.
    pub fn open() -> Result<Self, Error> {
        let refused = |error| Error::failed(format!("perf_event_open: {error}"));
        let mut group = Group::new().map_err(refused)?;
        let mut counters = Vec::new();
        let faults = group.add(&Builder::new(Software::PAGE_FAULTS));
        counters.push(("page-faults", faults.map_err(refused)?));
        let mut missing = None;
        let mut add = |name, builder: Builder<'_>| match group.add(&builder) {
            Ok(counter) => counters.push((name, counter)),
            Err(error) => {
                missing.get_or_insert_with(|| format!("{name}: perf_event_open: {error}"));
            }
        };
        add("cycles", Builder::new(Hardware::CPU_CYCLES));
        add("instructions", Builder::new(Hardware::INSTRUCTIONS));
        add("branch-misses", Builder::new(Hardware::BRANCH_MISSES));
        let misses = Cache {
            which: CacheId::L1D,
            operation: CacheOp::READ,
            result: CacheResult::MISS,
        };
        add("l1d-misses", Builder::new(misses));
        Ok(Self {
            group,
            counters,
            missing,
        })
    }

    /// Why there are not all; the first of the reasons.
    pub fn missing(&self) -> Option<&str> {
        self.missing.as_deref()
    }

    /// Counts while `run` runs, and what it takes to begin and to end.
    #[inline(always)]
    pub fn during<R>(&mut self, run: impl FnOnce() -> R) -> R {
        // What was opened can be switched.
        let _on = self.group.enable();
        let result = run();
        let _off = self.group.disable();
        result
    }

    /// What was counted.
    pub fn read(&mut self) -> Result<Vec<(&'static str, u64)>, Error> {
        let counts = self.group.read()?;
        let counters = self.counters.iter();
        Ok(counters
            .map(|(name, counter)| (*name, counts[counter]))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    /// Pages of fresh memory that are written in a region are its page faults, and nothing between the
    /// regions is. Skipped, by name, where the kernel lets no program count.
    #[test]
    fn what_happens_in_regions_is_counted_and_nothing_else() {
        const PAGES: usize = 64;
        let mut counters = match Counters::open() {
            Ok(counters) => counters,
            Err(error) => {
                conformance::skip(
                    "what_happens_in_regions_is_counted_and_nothing_else",
                    &error.to_string(),
                );
                return;
            }
        };
        let touch = || {
            // Beyond what an allocator keeps: fresh from the kernel, which gives pages when they are used.
            let mut memory = vec![0_u8; PAGES << 20];
            for page in 0..PAGES {
                memory[page << 20] = 1;
            }
            black_box(&memory);
        };
        counters.during(|| ());
        let (name, before) = counters.read().unwrap()[0];
        touch();
        counters.during(|| ());
        let between = counters.read().unwrap()[0].1;
        counters.during(touch);
        let within = counters.read().unwrap()[0].1;
        assert_eq!(name, "page-faults");
        assert!(between - before < 8, "{before}, {between}");
        let found = within - between;
        assert!((32..1024).contains(&found), "{found} faults");
        for (name, count) in &counters.read().unwrap()[1..] {
            assert!(*count > 0, "{name}");
        }
    }
}
