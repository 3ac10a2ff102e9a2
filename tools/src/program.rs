//! How this program was started, so that it can start itself again.
//!
//! Not by `/proc/self/exe`: under a dynamic loader that was named on the command line, as programs
//! over another release's libraries are run, that is the loader.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The words before this program's own arguments: its path, and before that the loader with its
/// options, if one was named.
///
/// # Errors
///
/// The kernel does not tell the command line, or the program it names is no longer there.
pub fn words() -> io::Result<Vec<OsString>> {
    let line = std::fs::read("/proc/self/cmdline")?;
    let words = before(&line, std::env::args_os().skip(1).count());
    let (Some(first), Some(last)) = (words.first(), words.last()) else {
        return Err(io::Error::other("/proc/self/cmdline is empty"));
    };
    let (loader, program) = (found(first)?, found(last)?);
    let mut words = words.clone();
    let end = words.len() - 1;
    words[0] = loader;
    words[end] = program;
    Ok(words)
}

/// The file of this program.
///
/// # Errors
///
/// As [`words`].
pub fn path() -> io::Result<PathBuf> {
    words().map(|words| words.last().map(PathBuf::from).unwrap_or_default())
}

/// A command line without its last `arguments` words.
fn before(line: &[u8], arguments: usize) -> Vec<OsString> {
    let line = line.strip_suffix(b"\0").unwrap_or(line);
    let mut words: Vec<OsString> = line
        .split(|byte| *byte == 0)
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    words.truncate(words.len().saturating_sub(arguments));
    words
}

/// The absolute path of a program, looked up as the shell does.
fn found(name: &OsStr) -> io::Result<OsString> {
    let is_path = Path::new(name).components().count() > 1;
    let path = std::env::var_os("PATH").filter(|_| !is_path);
    let mut places = match path {
        Some(path) => std::env::split_paths(&path)
            .map(|folder| folder.join(name))
            .collect(),
        None => vec![PathBuf::from(name)],
    };
    places.retain(|place| place.is_file());
    let place = places.first().ok_or_else(|| {
        let text = format!("{}: no such program", Path::new(name).display());
        io::Error::new(io::ErrorKind::NotFound, text)
    })?;
    std::path::absolute(place).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_before_the_arguments_starts_the_program() {
        let line = b"ld.so\0--library-path\0/l\0./mana\0conformance\0--list\0";
        let expected = ["ld.so", "--library-path", "/l", "./mana"].map(OsString::from);
        assert_eq!(before(line, 2), expected);
        assert_eq!(before(b"mana\0testpmd\0\0", 2), [OsString::from("mana")]);
        assert_eq!(before(b"", 0), [OsString::new()]);
    }

    #[test]
    fn this_test_finds_itself() {
        assert_eq!(path().unwrap(), std::env::current_exe().unwrap());
        assert!(found(OsStr::new("sh")).unwrap().len() > "sh".len());
        assert!(found(OsStr::new("./no-such-program")).is_err());
    }
}
