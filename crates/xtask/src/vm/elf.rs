//! What is read of programs and libraries: which libraries they need, and where they end without what is
//! for debuggers, which is most of a program of this house, and a guest holds it in memory.

/// The first bytes of an ELF file of 64 bits in little endian.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// Where its header has the place and number of program headers, and those of sections
/// (elf(5), `Elf64_Ehdr`).
const PROGRAM_HEADERS: usize = 32;
const SECTION_HEADERS: usize = 40;
const PROGRAM_HEADER_COUNT: usize = 56;
const SECTION_HEADER_COUNT: usize = 60;
const HEADER: usize = 64;
/// Of a program header (`Elf64_Phdr`): its size, and where it has the kind, place, address and size of a
/// part.
const ENTRY: usize = 56;
const OFFSET: usize = 8;
const ADDRESS: usize = 16;
const SIZE: usize = 32;
/// Kinds of parts.
const LOAD: u32 = 1;
const DYNAMIC: u32 = 2;
const NOTE: u32 = 4;
/// Entries of the dynamic part (`Elf64_Dyn`): a tag and a value, of 8 bytes each.
const NEEDED: usize = 1;
const STRINGS: usize = 5;
/// The note with the address where a hypervisor enters a kernel (`XEN_ELFNOTE_PHYS32_ENTRY`): the sizes
/// of name and value, its kind, its name.
const PVH_NOTES: [&[u8]; 2] = [
    b"\x04\0\0\0\x04\0\0\0\x12\0\0\0Xen\0",
    b"\x04\0\0\0\x08\0\0\0\x12\0\0\0Xen\0",
];

/// A program or library cut behind what its program headers name, without sections. Anything else, and
/// what is not as it should be, as it is.
pub fn loaded(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = end(&bytes) {
        bytes.truncate(end);
        bytes[SECTION_HEADERS..SECTION_HEADERS + 8].fill(0);
        // Their number, and which has the names.
        bytes[SECTION_HEADER_COUNT..HEADER].fill(0);
    }
    bytes
}

/// The names of the libraries that a program or library is linked with.
pub fn needed(bytes: &[u8]) -> Vec<String> {
    names(bytes).unwrap_or_default()
}

/// Whether this is a kernel that QEMU enters without firmware.
pub fn has_pvh_entry(bytes: &[u8]) -> bool {
    let parts = parts(bytes).unwrap_or_default();
    let notes = parts.iter().filter(|part| part.kind == NOTE);
    notes
        .filter_map(|part| bytes.get(part.offset..part.end))
        .any(|notes| PVH_NOTES.iter().any(|note| find(notes, note)))
}

fn find(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

fn names(bytes: &[u8]) -> Option<Vec<String>> {
    let parts = parts(bytes)?;
    let dynamic = parts.iter().find(|part| part.kind == DYNAMIC)?;
    let entries: Vec<(usize, usize)> = (dynamic.offset..dynamic.end)
        .step_by(16)
        .map_while(|at| Some((word(bytes, at)?, word(bytes, at + 8)?)))
        .take_while(|(tag, _)| *tag != 0)
        .collect();
    let (_, strings) = entries.iter().find(|(tag, _)| *tag == STRINGS)?;
    // An address, and in which part of the file it is.
    let inside = |part: &&Part| {
        let size = part.end - part.offset;
        part.kind == LOAD && (part.address..part.address + size).contains(strings)
    };
    let part = parts.iter().find(inside)?;
    let strings = bytes.get(part.offset + (strings - part.address)..)?;
    let name = |at: usize| {
        let text = strings.get(at..)?.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    };
    let needed = entries.iter().filter(|(tag, _)| *tag == NEEDED);
    needed.map(|(_, at)| name(*at)).collect()
}

/// A part that a program header names.
struct Part {
    kind: u32,
    offset: usize,
    /// Where it ends in the file.
    end: usize,
    address: usize,
}

fn parts(bytes: &[u8]) -> Option<Vec<Part>> {
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return None;
    }
    let first = word(bytes, PROGRAM_HEADERS)?;
    (0..count(bytes))
        .map(|number| {
            let entry = first.checked_add(number * ENTRY)?;
            let offset = word(bytes, entry.checked_add(OFFSET)?)?;
            let part = Part {
                kind: word(bytes, entry)? as u32,
                offset,
                end: offset.checked_add(word(bytes, entry + SIZE)?)?,
                address: word(bytes, entry + ADDRESS)?,
            };
            // Addresses of what is there do not go round.
            part.address.checked_add(part.end - offset)?;
            (part.end <= bytes.len()).then_some(part)
        })
        .collect()
}

/// The number of program headers.
fn count(bytes: &[u8]) -> usize {
    usize::from(bytes[PROGRAM_HEADER_COUNT]) | usize::from(bytes[PROGRAM_HEADER_COUNT + 1]) << 8
}

/// Where the last part ends.
fn end(bytes: &[u8]) -> Option<usize> {
    let parts = parts(bytes)?;
    let headers = word(bytes, PROGRAM_HEADERS)?.checked_add(parts.len() * ENTRY)?;
    let end = parts.iter().map(|part| part.end).fold(headers, usize::max);
    (!parts.is_empty() && end >= HEADER && end <= bytes.len()).then_some(end)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes.get(at..at.checked_add(8)?)?;
    usize::try_from(u64::from_le_bytes(word.try_into().ok()?)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_is_smaller_and_runs_all_the_same() {
        use std::os::unix::fs::PermissionsExt;
        let this = std::env::current_exe().unwrap();
        let whole = std::fs::read(&this).unwrap();
        let part = loaded(whole.clone());
        assert!(
            part.len() < whole.len() / 2,
            "{} of {}",
            part.len(),
            whole.len()
        );
        let path = std::env::temp_dir().join(format!("xtask-elf-{}", std::process::id()));
        std::fs::write(&path, part).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let output = std::process::Command::new(&path)
            .arg("--list")
            .output()
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(
            listed.contains("this_program_is_smaller_and_runs_all_the_same"),
            "{listed}"
        );
    }

    #[test]
    fn this_program_needs_the_libraries_that_it_runs_with() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let names = needed(&this);
        assert!(names.iter().any(|name| name == "libc.so.6"), "{names:?}");
        assert_eq!(
            needed(&loaded(this.clone())),
            names,
            "also without sections"
        );
        assert!(!has_pvh_entry(&this));
        assert!(needed(b"#!/bin/sh\n").is_empty());
    }

    #[test]
    fn a_kernel_says_by_a_note_that_it_can_be_entered() {
        let mut bytes = [MAGIC, &[0; 200]].concat();
        bytes[PROGRAM_HEADERS] = 64;
        bytes[PROGRAM_HEADER_COUNT] = 1;
        bytes[64] = NOTE as u8;
        bytes[64 + OFFSET] = 120;
        bytes[64 + SIZE] = 24;
        assert!(!has_pvh_entry(&bytes));
        bytes[124..140].copy_from_slice(PVH_NOTES[0]);
        assert!(has_pvh_entry(&bytes));
        bytes[64 + SIZE] = 18;
        assert!(!has_pvh_entry(&bytes), "it ends before");
    }

    #[test]
    fn what_is_no_program_or_a_broken_one_stays_as_it_is() {
        for bytes in [
            b"#!/bin/sh\n".to_vec(),
            MAGIC.to_vec(),
            [MAGIC, &[0xFF; 100]].concat(),
            [MAGIC, &[0; 100]].concat(),
        ] {
            assert_eq!(loaded(bytes.clone()), bytes);
        }
    }
}
