//! Regions on the machine the tests run on. One test after the other: one reserves
//! hugepages, and all read what this process has mapped.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use dma_memory::{HugePages, MemoryError, PageKind, Region, RegionOptions};

mod reserve;
use reserve::{FREE, NR, Reservation, number};

static SERIAL: Mutex<()> = Mutex::new(());

fn serial() -> MutexGuard<'static, ()> {
    SERIAL
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Tells `cargo xtask test` (and the reader) that a test could not run here.
fn skip(test: &str, reason: &str) {
    use std::io::Write;
    println!("skipped: {test}: {reason}");
    if let Some(file) = std::env::var_os("MANA_SKIPPED_FILE") {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
        writeln!(file, "{test}\t{reason}").unwrap();
    }
}

fn options(huge: HugePages) -> RegionOptions {
    RegionOptions {
        huge,
        numa_node: None,
    }
}

/// Every word of the region is zero, can be written and keeps what was written.
fn exercise(region: &Region) {
    let words = region.len() / 8;
    let base = region.base().cast::<u64>();
    for i in 0..words {
        // SAFETY: i is below len / 8 and the mapping is page-aligned; this thread alone knows it.
        let word = unsafe { base.add(i) };
        // SAFETY: as above; the mapping is readable.
        assert_eq!(unsafe { word.read_volatile() }, 0, "word {i}");
        // SAFETY: as above; the mapping is writable.
        unsafe { word.write_volatile(i as u64 ^ 0x5555) };
    }
    // SAFETY: the last word of the region, as above.
    let last = unsafe { base.add(words - 1).read_volatile() };
    assert_eq!(last, (words - 1) as u64 ^ 0x5555);
}

/// hugetlb memory mapped by this process, in KiB.
fn hugetlb_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("HugetlbPages:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn no_huge_gives_base_pages_and_reports_them() {
    let _serial = serial();
    let region = Region::allocate("test", 3 * 4096 + 1, &options(HugePages::Never)).unwrap();
    assert_eq!(region.page_kind(), PageKind::Base);
    assert_eq!(region.len(), 4 * 4096);
    assert_eq!(region.page_size(), 4096);
    assert!(region.base().addr().get().is_multiple_of(4096));
    assert!(region.fd().is_none());
    assert!(region.steps_down().is_empty(), "nothing else was asked for");
    exercise(&region);
}

#[test]
fn whatever_auto_gets_is_aligned_zeroed_and_explained() {
    let _serial = serial();
    for huge in [HugePages::Auto, HugePages::Auto1G] {
        let region = Region::allocate("test", 5 << 20, &options(huge)).unwrap();
        assert!(region.len() >= 5 << 20);
        assert!(
            region
                .base()
                .addr()
                .get()
                .is_multiple_of(region.page_size())
        );
        assert!(region.len().is_multiple_of(region.page_size()));
        let steps = region.steps_down();
        match region.page_kind() {
            PageKind::Huge1G => assert!(steps.is_empty()),
            PageKind::Huge2M => assert_eq!(steps.is_empty(), huge == HugePages::Auto),
            PageKind::TransparentHuge | PageKind::Base => {
                assert!(region.fd().is_none());
                assert!(
                    steps
                        .iter()
                        .any(|step| step.starts_with("2 MiB hugetlb pages: "))
                );
            }
        }
        exercise(&region);
    }
}

#[test]
fn a_required_page_size_that_is_not_free_is_an_error_with_the_numbers() {
    let _serial = serial();
    let free = number(FREE).unwrap_or(0);
    let len = usize::try_from((free + 1) << 21).unwrap();
    let error = Region::allocate("test", len, &options(HugePages::Require2M)).unwrap_err();
    if number(NR).is_none() {
        assert!(matches!(
            error,
            MemoryError::HugepagesUnsupported { page_kib: 2048, .. }
        ));
        return;
    }
    let text = error.to_string();
    let MemoryError::NoFreeHugepages {
        needed,
        free: counted,
        ..
    } = error
    else {
        panic!("{text}");
    };
    assert_eq!((needed, counted), (free + 1, free));
    assert!(text.contains("reserve: echo"), "{text}");
}

#[test]
fn reserved_hugepages_are_used_shared_and_given_back() {
    let _serial = serial();
    let reservation = match Reservation::of_free(3) {
        Ok(reservation) => reservation,
        Err(reason) => return skip("reserved_hugepages_are_used_shared_and_given_back", &reason),
    };
    for huge in [HugePages::Auto, HugePages::Require2M] {
        let region = Region::allocate("pool 0", 5 << 20, &options(huge)).unwrap();
        assert_eq!(region.page_kind(), PageKind::Huge2M);
        assert_eq!((region.len(), region.page_size()), (6 << 20, 2 << 20));
        assert!(region.steps_down().is_empty(), "{:?}", region.steps_down());
        assert_eq!(hugetlb_kib(), 6 << 10, "populated, not only promised");
        exercise(&region);
        let fd = region
            .fd()
            .expect("a hugetlb region is a memfd")
            .as_raw_fd();
        let link = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert!(link.to_string_lossy().contains("pool 0"), "{link:?}");
        let file = fs::OpenOptions::new()
            .write(true)
            .open(format!("/proc/self/fd/{fd}"))
            .unwrap();
        assert!(file.set_len(0).is_err(), "the seal keeps the size");
        drop(file);
        drop(region);
        assert_eq!(hugetlb_kib(), 0);
    }
    drop(reservation);
}

#[test]
fn a_region_is_bound_to_the_node_asked_for() {
    let _serial = serial();
    if !Path::new("/proc/self/numa_maps").exists() {
        return skip(
            "a_region_is_bound_to_the_node_asked_for",
            "this kernel has no NUMA",
        );
    }
    let options = RegionOptions {
        huge: HugePages::Never,
        numa_node: Some(0),
    };
    let region = Region::allocate("test", 1 << 20, &options).unwrap();
    assert_eq!(region.numa_node(), Some(0));
    let maps = fs::read_to_string("/proc/self/numa_maps").unwrap();
    let address = format!("{:x} ", region.base().addr().get());
    let line = maps
        .lines()
        .find(|line| line.starts_with(&address))
        .expect(&address);
    assert!(
        line.contains(" bind:0 ") && line.contains(" N0=256"),
        "{line}"
    );
}

#[test]
fn a_node_that_does_not_exist_is_refused() {
    let _serial = serial();
    let options = RegionOptions {
        huge: HugePages::Auto,
        numa_node: Some(1000),
    };
    let error = Region::allocate("test", 4096, &options).unwrap_err();
    assert!(
        matches!(error, MemoryError::NodeMissing { node: 1000, .. }),
        "{error}"
    );
}

#[test]
fn a_length_that_cannot_be_is_refused() {
    let _serial = serial();
    for len in [0, usize::MAX, isize::MAX as usize] {
        let error = Region::allocate("test", len, &options(HugePages::Never)).unwrap_err();
        assert!(
            matches!(error, MemoryError::Length { .. }),
            "{len}: {error}"
        );
    }
    let error = Region::allocate("test", 1 << 47, &options(HugePages::Auto)).unwrap_err();
    assert!(
        matches!(
            error,
            MemoryError::System {
                operation: "mmap",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_overrun_of_a_private_region_hits_a_guard_page() {
    let _serial = serial();
    let region = Region::allocate("test", 4096, &options(HugePages::Never)).unwrap();
    let start = region.base().addr().get();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let ends = |text: &str| {
        maps.lines()
            .any(|line| line.contains(text) && line.contains(" ---p "))
    };
    assert!(ends(&format!("-{start:x} ")), "before {start:x}:\n{maps}");
    assert!(
        ends(&format!("{:x}-", start + 4096)),
        "after {start:x}:\n{maps}"
    );
}
