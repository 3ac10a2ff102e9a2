//! What kind of program it is: one that the dynamic linker starts, and so one that can be preloaded?

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Error;

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const ET_DYN: u16 = 3;
const X86_64: u16 = 62;
const SETUID_SETGID: u32 = 0o6000;

/// Finds the program as the shell does: by its path, or in PATH.
pub fn find(program: &str) -> Result<PathBuf, Error> {
    let missing = || Error::Program {
        program: program.to_owned(),
        cause: std::io::ErrorKind::NotFound.into(),
    };
    if program.contains('/') {
        let path = PathBuf::from(program);
        return if path.is_file() {
            Ok(path)
        } else {
            Err(missing())
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(is_program)
        .ok_or_else(missing)
}

/// Refuses programs in which nothing can be preloaded. Scripts pass: their interpreter is what runs.
pub fn check(path: &Path) -> Result<(), Error> {
    let failed = |cause| Error::Program {
        program: path.display().to_string(),
        cause,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode();
    if mode & SETUID_SETGID != 0 {
        return Err(unsuitable(
            path,
            "is setuid or setgid, and nothing is preloaded into such programs: run a copy of it \
             without that bit",
        ));
    }
    // Program headers follow the file header, and what they name of the linker is near.
    let mut head = Vec::new();
    file.by_ref()
        .take(1 << 16)
        .read_to_end(&mut head)
        .map_err(failed)?;
    match kind(&head) {
        Kind::Dynamic | Kind::Other => Ok(()),
        // The linker itself may be the program, with the true one as its argument.
        Kind::NoInterpreter if is_linker(path) => Ok(()),
        Kind::NoInterpreter => Err(unsuitable(
            path,
            "is statically linked, and nothing can be preloaded into it: link it dynamically",
        )),
        Kind::Foreign => Err(unsuitable(
            path,
            "is no 64-bit x86-64 program, for which the preloaded library is built",
        )),
    }
}

fn unsuitable(path: &Path, why: &'static str) -> Error {
    Error::Unsuitable {
        program: path.to_owned(),
        why,
    }
}

/// Whether a file without an interpreter is the dynamic linker, by its name.
fn is_linker(path: &Path) -> bool {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    [path, &real].iter().any(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ld-linux") || name.starts_with("ld-2.") || name == "ld.so"
    })
}

/// What the first bytes of a file tell.
#[derive(Debug, PartialEq, Eq)]
enum Kind {
    /// The dynamic linker starts it.
    Dynamic,
    /// Nobody does: static, or the linker itself.
    NoInterpreter,
    /// For another machine.
    Foreign,
    /// No ELF file.
    Other,
}

fn kind(head: &[u8]) -> Kind {
    if !head.starts_with(b"\x7fELF") {
        return Kind::Other;
    }
    // ELFCLASS64, ELFDATA2LSB.
    if head.get(4..6) != Some(&[2, 1]) || number(head, 18, 2) != Some(u64::from(X86_64)) {
        return Kind::Foreign;
    }
    let start = number(head, 32, 8).unwrap_or(0) as usize;
    let size = number(head, 54, 2).unwrap_or(0) as usize;
    let count = number(head, 56, 2).unwrap_or(0) as usize;
    let has = |wanted: u32| {
        (0..count).any(|index| {
            let at = start.saturating_add(index * size);
            number(head, at, 4) == Some(u64::from(wanted))
        })
    };
    let shared = number(head, 16, 2) == Some(u64::from(ET_DYN));
    if has(PT_INTERP) && (has(PT_DYNAMIC) || shared) {
        Kind::Dynamic
    } else {
        Kind::NoInterpreter
    }
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(
        bytes
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file header of the ELF specification with program headers of the given types.
    fn file(machine: u16, types: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[16] = 3;
        bytes[18..20].copy_from_slice(&machine.to_le_bytes());
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = types.len() as u8;
        for kind in types {
            bytes.extend(kind.to_le_bytes());
            bytes.extend([0; 52]);
        }
        bytes
    }

    #[test]
    fn a_program_with_an_interpreter_is_dynamic() {
        assert_eq!(kind(&file(62, &[6, 3, 1, 1, 2])), Kind::Dynamic);
        assert_eq!(kind(&file(62, &[1, 1, 2])), Kind::NoInterpreter);
        assert_eq!(kind(&file(62, &[1, 1])), Kind::NoInterpreter);
        assert_eq!(kind(&file(183, &[3, 2])), Kind::Foreign);
        assert_eq!(kind(b"#!/bin/sh\n"), Kind::Other);
        assert_eq!(kind(b""), Kind::Other);
    }

    #[test]
    fn cut_and_lying_headers_are_no_panic() {
        let whole = file(62, &[3, 2]);
        for end in 0..whole.len() {
            kind(&whole[..end]);
        }
        for at in 0..64 {
            let mut bytes = whole.clone();
            bytes[at] = 0xFF;
            kind(&bytes);
        }
    }

    #[test]
    fn this_test_can_be_preloaded() {
        let this = std::env::current_exe().unwrap();
        if cfg!(all(
            target_arch = "x86_64",
            not(target_feature = "crt-static")
        )) {
            check(&this).unwrap();
        }
    }
}
