//! Hugepages of the machine: what is free, and a few reserved for a test.

use std::fs;

const FOLDER: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB";

/// Hugepages of 2 MiB that are free; none where the kernel has no such pages.
#[must_use]
pub fn free_hugepages() -> Option<u64> {
    number("free_hugepages")
}

/// So many free hugepages of 2 MiB as long as this value lives, as far as the machine has them. Then
/// it has as many as before.
pub struct Hugepages {
    former: Option<u64>,
}

impl Hugepages {
    /// Reserves what is missing.
    #[must_use]
    pub fn of_free(pages: u64) -> Self {
        let former = number("nr_hugepages");
        if let (Some(former), Some(free)) = (former, free_hugepages())
            && free < pages
        {
            set(former + pages - free);
        }
        Self { former }
    }
}

impl Drop for Hugepages {
    fn drop(&mut self) {
        if let Some(former) = self.former
            && number("nr_hugepages") != Some(former)
        {
            set(former);
        }
    }
}

/// The kernel may give fewer, or this may be a container that may not ask: the test runs all the
/// same, on what there is.
fn set(pages: u64) {
    let _ = fs::write(format!("{FOLDER}/nr_hugepages"), pages.to_string());
}

fn number(file: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("{FOLDER}/{file}")).ok()?;
    text.trim().parse().ok()
}
