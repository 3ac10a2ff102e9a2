//! Doorbell pages: who has which. Page 0 is the hardware channel's.

use std::collections::BTreeMap;

use super::{Failure, status};

/// The doorbell pages of the function.
#[derive(Debug)]
pub(super) struct Pages {
    end: u32,
    /// Ranges that are taken: how many pages from the first on.
    taken: BTreeMap<u32, u32>,
}

impl Pages {
    pub(super) fn new(end: u32) -> Self {
        Self {
            end,
            taken: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// Takes `count` neighbours, the first a multiple of `alignment`; returns the first.
    pub(super) fn take(&mut self, count: u32, alignment: u32) -> Result<u32, Failure> {
        let alignment = alignment.max(1);
        if count == 0 || count > self.end {
            return Err(Failure::invalid(format!("{count} doorbell pages")));
        }
        let mut first = alignment;
        for (&start, &pages) in &self.taken {
            if first.saturating_add(count) <= start {
                break;
            }
            first = first.max(start + pages).next_multiple_of(alignment);
        }
        if first.saturating_add(count) > self.end {
            return Err(Failure {
                status: status::LIMIT,
                why: format!("no {count} doorbell pages are left"),
            });
        }
        self.taken.insert(first, count);
        Ok(first)
    }

    /// Gives back what was taken as one.
    pub(super) fn free(&mut self, first: u32, count: u32) -> Result<(), Failure> {
        if self.taken.get(&first) != Some(&count) {
            let why = format!("doorbell pages {first} + {count} were not allocated");
            return Err(Failure::missing(why));
        }
        self.taken.remove(&first);
        Ok(())
    }

    /// Whether somebody has the page.
    pub(super) fn has(&self, page: u32) -> Result<(), Failure> {
        let before = self.taken.range(..=page).next_back();
        if before.is_some_and(|(&first, &count)| page - first < count) {
            Ok(())
        } else {
            Err(Failure::missing(format!(
                "doorbell page {page} is nobody's"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_taken_in_aligned_ranges_and_given_back_whole() {
        let mut pages = Pages::new(16);
        assert_eq!(pages.take(1, 1).unwrap(), 1);
        assert_eq!(pages.take(2, 4).unwrap(), 4);
        assert_eq!(pages.take(2, 0).unwrap(), 2, "the gap between them");
        assert_eq!(pages.take(1, 1).unwrap(), 6);
        assert!(pages.free(2, 1).is_err() && pages.free(3, 1).is_err());
        assert!(pages.has(3).is_ok() && pages.has(7).is_err() && pages.has(0).is_err());
        pages.free(2, 2).unwrap();
        assert!(pages.has(3).is_err());
        assert_eq!(pages.take(9, 1).unwrap(), 7);
        for (count, alignment) in [(0, 1), (3, 1), (17, 1), (u32::MAX, 1), (1, u32::MAX)] {
            assert!(pages.take(count, alignment).is_err(), "{count} {alignment}");
        }
        assert_eq!(pages.take(1, 1).unwrap(), 2);
    }
}
