//! Reserving hugepages, for the tests that can do with some.

use std::fs;

/// Reserves hugepages of 2 MiB for the length of a test, where that is possible.
pub struct Reservation {
    former: u64,
}

pub const NR: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
pub const FREE: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

pub fn number(file: &str) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

impl Reservation {
    pub fn of_free(pages: u64) -> Result<Reservation, String> {
        let former = number(NR).ok_or("this kernel has no hugetlb pages of 2 MiB")?;
        let free = number(FREE).unwrap_or(0);
        let reservation = Reservation { former };
        if free < pages {
            fs::write(NR, (former + pages - free).to_string())
                .map_err(|error| format!("hugepages cannot be reserved: {error}"))?;
        }
        match number(FREE) {
            Some(free) if free >= pages => Ok(reservation),
            free => Err(format!(
                "the kernel reserved only {} of {pages}",
                free.unwrap_or(0)
            )),
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if number(NR) != Some(self.former) {
            let _ = fs::write(NR, self.former.to_string());
        }
    }
}
