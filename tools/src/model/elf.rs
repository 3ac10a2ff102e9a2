//! What kind of program it is: one that the dynamic linker starts, and so one that can be preloaded?

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::error::Error;

const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const ET_DYN: u16 = 3;
const X86_64: u16 = 62;
const SETUID_SETGID: u32 = 0o6000;
/// Scripts, each the interpreter of the one before, that are looked through.
const SCRIPTS: u32 = 5;

/// Finds the program as the shell does: by its path, or in PATH.
pub fn find(program: &str) -> Result<PathBuf, Error> {
    if program.contains('/') {
        return Ok(program.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_program = |file: &PathBuf| {
        let metadata = file.metadata();
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
    };
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(is_program)
        .ok_or_else(|| Error::Program {
            program: program.to_owned(),
            cause: rustix::io::Errno::NOENT.into(),
        })
}

/// Refuses programs in which nothing can be preloaded, and what is no program. Of a script, its
/// interpreter is what runs.
pub fn check(path: &Path) -> Result<(), Error> {
    check_behind(path, 0)
}

/// As [`check`], behind so many scripts.
fn check_behind(path: &Path, scripts: u32) -> Result<(), Error> {
    let failed = |cause| Error::Program {
        program: path.display().to_string(),
        cause,
    };
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        return Err(unsuitable(path, "is a folder: name a program in it"));
    }
    if metadata.mode() & 0o111 == 0 {
        return Err(unsuitable(path, "is not executable: `chmod +x` it"));
    }
    if metadata.mode() & SETUID_SETGID != 0 {
        return Err(unsuitable(
            path,
            "is setuid or setgid, and nothing is preloaded into such programs: run a copy of it \
             without that bit",
        ));
    }
    if !rustix::process::geteuid().is_root() && has_capabilities(path) {
        return Err(unsuitable(
            path,
            "has capabilities (`getcap` shows them), and nothing is preloaded into such programs: \
             run a copy of it, which has none",
        ));
    }
    // Program headers follow the file header, and what they name of the linker is near.
    let mut head = Vec::new();
    let file = match File::open(path) {
        Ok(file) => file,
        // It may be run and not be read: then whoever runs it sees what becomes of it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(()),
        Err(error) => return Err(failed(error)),
    };
    file.take(1 << 16).read_to_end(&mut head).map_err(failed)?;
    match kind(&head) {
        Kind::Dynamic => Ok(()),
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
        // More are too many for the kernel, which says so.
        Kind::Script(_) if scripts == SCRIPTS => Ok(()),
        Kind::Script(interpreter) => {
            check_behind(&interpreter, scripts + 1).map_err(|cause| Error::Interpreter {
                script: path.to_owned(),
                cause: Box::new(cause),
            })
        }
        Kind::Other => Err(unsuitable(
            path,
            "is no program, nor a script with a first line like `#!/bin/sh`: give it one, or run \
             `/bin/sh` with it",
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

/// Whether running the file gives privileges to who has none (capabilities(7)).
fn has_capabilities(path: &Path) -> bool {
    let mut value = [0; 64];
    rustix::fs::getxattr(path, "security.capability", &mut value).is_ok()
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
    /// A script, run by this interpreter.
    Script(PathBuf),
    /// Neither.
    Other,
}

fn kind(head: &[u8]) -> Kind {
    if let Some(interpreter) = interpreter(head) {
        return Kind::Script(interpreter);
    }
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

/// The interpreter in the first line of a script (execve(2), "Interpreter scripts").
fn interpreter(head: &[u8]) -> Option<PathBuf> {
    let line = head
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0));
    let word = words.find(|word| !word.is_empty())?;
    Some(OsStr::from_bytes(word).into())
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
        assert_eq!(kind(b"echo\n"), Kind::Other);
        assert_eq!(kind(b""), Kind::Other);
    }

    #[test]
    fn a_script_is_what_its_interpreter_is() {
        for head in ["#!/bin/sh", "#! /bin/sh\n", "#!\t/bin/sh -e\necho\n"] {
            assert_eq!(kind(head.as_bytes()), Kind::Script("/bin/sh".into()));
        }
        for head in ["#!", "#!\n/bin/sh", "#! \t\n"] {
            assert_eq!(kind(head.as_bytes()), Kind::Other);
        }
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
