use std::io::{Read, Seek, SeekFrom, Write};

use rustix::fs::{MemfdFlags, memfd_create};

use super::*;

const BOTH: Access = Access {
    read: true,
    write: true,
};

/// One that takes the seal and is mapped, as QEMU's memory.
fn file(pages: u64) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(memfd_create("memory", flags).unwrap());
    file.set_len(pages * PAGE).unwrap();
    file
}

/// One that takes no seal and is reached by calls.
fn file_on_disk(pages: u64) -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(pages * PAGE).unwrap();
    file
}

fn memory() -> (GuestMemory, File) {
    memory_of(file(4))
}

fn memory_of(file: File) -> (GuestMemory, File) {
    let memory = GuestMemory::default();
    memory
        .map(
            0x10_000,
            2 * PAGE,
            Some(file.try_clone().unwrap()),
            PAGE,
            BOTH,
        )
        .unwrap();
    memory.set_mastering(true);
    (memory, file)
}

#[test]
fn what_is_written_stands_in_the_clients_file_at_its_offset() {
    for file in [file(4), file_on_disk(4)] {
        what_is_written_stands_in(file);
    }
}

fn what_is_written_stands_in(file: File) {
    let (memory, mut file) = memory_of(file);
    let bytes: Vec<u8> = (0..100).collect();
    for at in 0..9 {
        memory.write(0x10_FC3 + at, &bytes).unwrap();
        let mut seen = [0; 100];
        file.seek(SeekFrom::Start(PAGE + 0xFC3 + at)).unwrap();
        file.read_exact(&mut seen).unwrap();
        assert_eq!(seen, bytes[..], "the file");
        memory.read(0x10_FC3 + at, &mut seen).unwrap();
        assert_eq!(seen, bytes[..], "read back");
    }
    memory.store_entry(0x10_040, &[1, 2]).unwrap();
    file.seek(SeekFrom::Start(PAGE + 0x40)).unwrap();
    let mut seen = [0; 16];
    file.read_exact(&mut seen).unwrap();
    assert_eq!(seen, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
    file.seek(SeekFrom::Start(PAGE + 0x40)).unwrap();
    file.write_all(&[9; 8]).unwrap();
    assert_eq!(memory.load(0x10_040), Some(0x0909_0909_0909_0909));
}

/// A file that could be cut short under a mapping would be a SIGBUS at the next access.
#[test]
fn files_are_not_cut_short_under_a_mapping_and_others_end_where_they_end() {
    let (memory, mapped) = memory();
    assert_eq!(
        mapped.set_len(0).unwrap_err().raw_os_error(),
        Some(libc::EPERM)
    );
    assert_eq!(memory.load(0x10_000), Some(0));
    mapped.set_len(8 * PAGE).unwrap();
    for file in [file_on_disk(4), {
        let file = File::from(memfd_create("no seals", MemfdFlags::CLOEXEC).unwrap());
        file.set_len(4 * PAGE).unwrap();
        file
    }] {
        let (memory, file) = memory_of(file);
        assert_eq!(memory.store_entry(0x10_000, &[1, 2]), Some(()));
        file.set_len(PAGE + 12).unwrap();
        assert_eq!(
            (memory.load(0x10_000), memory.load(0x10_008)),
            (Some(1), None)
        );
        assert_eq!(memory.read(0x10_000, &mut [0; 13]), None);
        assert_eq!(memory.write(0x10_000, &[0; 13]), None);
        assert_eq!(memory.store_entry(0x11_000, &[1, 2]), None);
        assert_eq!(
            file.metadata().unwrap().len(),
            PAGE + 12,
            "it does not grow"
        );
        file.set_len(4 * PAGE).unwrap();
        assert_eq!(
            memory.store_entry(0x11_000, &[1, 2]),
            Some(()),
            "it is there again"
        );
    }
}

#[test]
fn nothing_outside_is_reached() {
    let (memory, _) = memory();
    assert_eq!(memory.read(0xF_FFF, &mut [0; 2]), None);
    assert_eq!(memory.read(0x11_FFF, &mut [0; 2]), None);
    assert_eq!(memory.read(0x11_FFF, &mut [0; 1]), Some(()));
    assert_eq!(memory.write(u64::MAX, &[0; 2]), None);
    assert_eq!(memory.load(0x10_004), None);
    assert_eq!(memory.load(0x12_000), None);
    assert_eq!(memory.store_entry(0x11_FF8, &[1; 2]), None);
    assert_eq!(memory.load(0x11_FF8), Some(0), "nothing of it was written");
    assert_eq!(memory.store_entry(0x10_004, &[1]), None);
    assert_eq!(memory.store_entry(0x10_000, &[]), None);
}

#[test]
fn neighbouring_stretches_are_one() {
    let (memory, _) = memory();
    memory.map(0x12_000, PAGE, Some(file(1)), 0, BOTH).unwrap();
    let bytes: Vec<u8> = (0..64).collect();
    memory.write(0x11_FE3, &bytes).unwrap();
    let mut seen = [0; 64];
    memory.read(0x11_FE3, &mut seen).unwrap();
    assert_eq!(seen, bytes[..]);
    memory.map(0x14_000, PAGE, None, 0, BOTH).unwrap();
    assert_eq!(memory.write(0x12_FFF, &bytes), None, "a hole");
    assert_eq!(memory.read(0x14_000, &mut seen), None, "no file");
}

#[test]
fn what_the_client_does_not_allow_is_not_done() {
    let memory = GuestMemory::default();
    let only = |read, write| Access { read, write };
    memory
        .map(0, PAGE, Some(file(1)), 0, only(true, false))
        .unwrap();
    memory
        .map(PAGE, PAGE, Some(file(1)), 0, only(false, true))
        .unwrap();
    assert_eq!(memory.load(0), None, "the function masters no bus");
    memory.set_mastering(true);
    assert_eq!((memory.load(0), memory.load(PAGE)), (Some(0), None));
    assert_eq!(memory.write(0, &[1]), None);
    assert_eq!(memory.write(PAGE, &[1]), Some(()));
    assert_eq!(memory.write(PAGE - 1, &[1, 1]), None);
    memory.set_mastering(false);
    assert_eq!(memory.write(PAGE, &[1]), None);
}

#[test]
fn stretches_that_make_no_sense_are_refused() {
    let (memory, _) = memory();
    let map = |address, size, pages, offset| {
        memory
            .map(address, size, Some(file(pages)), offset, BOTH)
            .is_ok()
    };
    assert!(!map(0x11_000, PAGE, 1, 0), "overlaps");
    assert!(!map(0xF_000, 2 * PAGE, 2, 0), "overlaps");
    assert!(
        !map(0, 1 << 40, 1, 0),
        "overlaps and is longer than its file"
    );
    assert!(!map(0x20_000, 2 * PAGE, 1, 0), "longer than its file");
    assert!(!map(0x20_000, PAGE, 1, PAGE), "behind the end of its file");
    assert!(!map(0x20_000, PAGE, 1, u64::MAX - PAGE + 1));
    assert!(!map(0x20_000, 0, 1, 0));
    assert!(!map(u64::MAX - PAGE + 1, 2 * PAGE, 2, 0));
    assert!(!map(0x20_800, PAGE, 1, 0));
    assert!(!map(0x20_000, 100, 1, 0));
    assert_eq!(memory.stretches(), 1);
}

#[test]
fn what_is_unmapped_is_gone_and_may_come_back() {
    let (memory, _) = memory();
    assert!(memory.unmap(0x10_000, PAGE).is_err(), "a part");
    memory.write(0x10_000, &[7]).unwrap();
    memory.unmap(0x30_000, PAGE).unwrap();
    memory.unmap(0x10_000, 2 * PAGE).unwrap();
    assert_eq!(memory.load(0x10_000), None);
    memory.map(0x10_000, PAGE, Some(file(1)), 0, BOTH).unwrap();
    assert_eq!(memory.load(0x10_000), Some(0));
    memory.unmap(0, u64::MAX).unwrap();
    assert_eq!(memory.stretches(), 0);
}

/// An unmap waits for accesses that run, and those that follow fail: no access finds the memory
/// gone.
#[test]
fn unmapping_beside_accesses_is_safe() {
    let (memory, _) = memory();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut found, mut missed) = (0_u32, 0_u32);
            while found < 1000 || missed < 10 {
                match memory.write(0x10_F00, &[1; 512]) {
                    Some(()) => found += 1,
                    None => missed += 1,
                }
            }
        });
        while !reader.is_finished() {
            memory.unmap(0x10_000, 2 * PAGE).unwrap();
            // One core must do for both: each state lasts for a turn of the other.
            std::thread::yield_now();
            memory
                .map(0x10_000, 2 * PAGE, Some(file(2)), 0, BOTH)
                .unwrap();
            std::thread::yield_now();
        }
        reader.join().unwrap();
    });
}
