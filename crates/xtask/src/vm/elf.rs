//! Programs without what is for debuggers: most of a program of this house, and a guest holds it in memory.

/// The first bytes of an ELF file of 64 bits in little endian.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";
/// Where its header has the place and number of program headers, and those of sections
/// (elf(5), `Elf64_Ehdr`).
const PROGRAM_HEADERS: usize = 32;
const SECTION_HEADERS: usize = 40;
const PROGRAM_HEADER_COUNT: usize = 56;
const SECTION_HEADER_COUNT: usize = 60;
const HEADER: usize = 64;
/// Of a program header (`Elf64_Phdr`): its size, and where it has the place and size of a part.
const ENTRY: usize = 56;
const OFFSET: usize = 8;
const SIZE: usize = 32;

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

fn end(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < HEADER || !bytes.starts_with(MAGIC) {
        return None;
    }
    let first = word(bytes, PROGRAM_HEADERS)?;
    let count = usize::from(bytes[PROGRAM_HEADER_COUNT])
        | usize::from(bytes[PROGRAM_HEADER_COUNT + 1]) << 8;
    let mut end = first.checked_add(count.checked_mul(ENTRY)?)?;
    for number in 0..count {
        let entry = first + number * ENTRY;
        let part = word(bytes, entry + OFFSET)?.checked_add(word(bytes, entry + SIZE)?)?;
        end = end.max(part);
    }
    (count > 0 && end >= HEADER && end <= bytes.len()).then_some(end)
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
