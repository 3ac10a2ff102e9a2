//! A file that is still written, copied as it grows.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

/// One file, and where it goes.
pub struct Follow<W> {
    path: PathBuf,
    file: Option<File>,
    out: W,
}

impl<W: Write> Follow<W> {
    /// A file that may not be there yet.
    pub fn new(path: PathBuf, out: W) -> Self {
        Self {
            path,
            file: None,
            out,
        }
    }

    /// Copies what has come since the last time. Who reads may have read enough: the run goes on.
    pub fn copy(&mut self) {
        if self.file.is_none() {
            self.file = File::open(&self.path).ok();
        }
        if let Some(file) = &mut self.file {
            let _read = io::copy(file, &mut self.out).and_then(|_| self.out.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_copied_as_it_grows() {
        let path = std::env::temp_dir().join(format!("xtask-follow-{}", std::process::id()));
        let mut out = Vec::new();
        let mut follow = Follow::new(path.clone(), &mut out);
        follow.copy();
        let mut file = File::create(&path).unwrap();
        file.write_all(b"one ").unwrap();
        follow.copy();
        file.write_all(b"two").unwrap();
        follow.copy();
        follow.copy();
        drop(follow);
        assert_eq!(out, b"one two");
        fs::remove_file(&path).unwrap();
    }
}
