//! What was done, written down before it is done.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::step::Step;

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The kernel's id of the boot: what a reboot undoes needs no undoing after it.
    boot: String,
    step: Step,
}

/// A file with one JSON object a line, in the order in which the steps were done.
pub struct Journal {
    path: PathBuf,
    boot: String,
}

impl Journal {
    pub fn new(path: PathBuf, boot: String) -> Self {
        Self { path, boot }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anything was done that was not undone.
    pub fn is_empty(&self) -> bool {
        !self.path.exists()
    }

    /// Writes a step down. When this returns it is on the disk.
    pub fn write(&self, step: &Step) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        // A line that an earlier run could not finish would spoil this one.
        let whole = match fs::read(&self.path) {
            Ok(bytes) => bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1),
            Err(_) => 0,
        };
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)?;
        file.set_len(whole as u64)?;
        io::Seek::seek(&mut file, io::SeekFrom::End(0))?;
        let line = Line {
            boot: self.boot.clone(),
            step: step.clone(),
        };
        let mut text = serde_json::to_string(&line).map_err(io::Error::from)?;
        text.push('\n');
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// The steps that are to be undone, the last one first. Those that a reboot has undone are left
    /// out; so is a line that was not written to its end, whose step was not begun.
    ///
    /// # Errors
    ///
    /// The file can't be read, or a whole line is none of ours.
    pub fn steps(&self) -> io::Result<Vec<Step>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut steps = Vec::new();
        for (number, line) in text.split_inclusive('\n').enumerate() {
            if !line.ends_with('\n') {
                break;
            }
            let line: Line = serde_json::from_str(line)
                .map_err(|error| io::Error::other(format!("line {}: {error}", number + 1)))?;
            if line.boot == self.boot || !line.step.ends_with_boot() {
                steps.push(line.step);
            }
        }
        steps.reverse();
        Ok(steps)
    }

    /// Takes the last steps out again, which were undone.
    pub fn keep(&self, count: usize) -> io::Result<()> {
        if count == 0 {
            return self.clear();
        }
        let text = fs::read_to_string(&self.path)?;
        let kept: String = text.split_inclusive('\n').take(count).collect();
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(kept.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, &self.path)
    }

    /// Lines that are whole.
    pub fn lines(&self) -> usize {
        let text = fs::read_to_string(&self.path).unwrap_or_default();
        text.matches('\n').count()
    }

    /// Forgets everything: all was undone.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
