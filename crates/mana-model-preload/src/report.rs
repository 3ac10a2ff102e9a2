//! What the model found in this process, left for `mana model exec`, which prints it at the end.
//!
//! A finding is written down as soon as it is made: the program may end by a signal or `_exit`, or
//! become another program. That is inside the fault handler, and the program may have used up its
//! descriptors: so each is the target of a symbolic link, which one system call makes. Links are named
//! after the process and the program, of which one process id can be several.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use mana_model::Finding;

use crate::files::inside;
use crate::gate::Held;
use crate::state;
use crate::sys;

/// Folder for what this process found.
const FOLDER: &CStr = c"MANA_MODEL_REPORTS";
/// Link there that says that this library was loaded at all.
const LOADED: &[u8] = b"/loaded\0";
/// Programs that one process id can be, one after the other.
const PROGRAMS: u32 = 10_000;
/// Bytes that a link's target can have.
const LONGEST: usize = libc::PATH_MAX as usize - 1;

/// The findings of this program.
pub(crate) struct Report {
    folder: PathBuf,
    /// Which program of its process id this is, once there is a finding.
    program: OnceLock<Option<u32>>,
    /// Links so far.
    count: AtomicU32,
}

impl Report {
    /// Where the environment wants it; none if it wants none.
    pub(crate) fn wanted() -> Option<Self> {
        let folder = std::env::var_os(FOLDER.to_str().unwrap_or_default())?;
        Some(Self {
            folder: folder.into(),
            program: OnceLock::new(),
            count: AtomicU32::new(0),
        })
    }

    /// Adds a finding. Calls do not overlap: the model is locked.
    pub(crate) fn add(&self, finding: &Finding) {
        let first = || (0..PROGRAMS).find_map(|program| self.link(program, 0, finding));
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        match self.program.get() {
            Some(Some(program)) => {
                self.link(*program, number, finding);
            }
            Some(None) => {}
            // Where the folder is gone there is nobody left to read it.
            None => self.program.set(first()).unwrap_or_default(),
        }
    }

    /// Writes `findings` in place of what was found so far: they are counted by now, or were taken.
    fn replace(&self, findings: &[Finding]) {
        let Some(Some(program)) = self.program.get() else {
            return;
        };
        for number in 0..self.count.swap(0, Ordering::Relaxed) {
            if let Some(path) = self.path(*program, number) {
                // SAFETY: the path is a string that ends with a zero.
                unsafe { libc::syscall(libc::SYS_unlinkat, libc::AT_FDCWD, path.as_ptr(), 0) };
            }
        }
        for finding in findings {
            let number = self.count.fetch_add(1, Ordering::Relaxed);
            self.link(*program, number, finding);
        }
    }

    /// Makes a link; gives back the program's number, unless that link is another's already.
    fn link(&self, program: u32, number: u32, finding: &Finding) -> Option<u32> {
        let mut text = finding.to_string().into_bytes();
        text.truncate(LONGEST);
        let (text, path) = (CString::new(text).ok()?, self.path(program, number)?);
        // SAFETY: both are strings that end with a zero.
        let result = unsafe {
            libc::syscall(
                libc::SYS_symlinkat,
                text.as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
        (result == 0).then_some(program)
    }

    /// In the order of names they are in the order of numbers.
    fn path(&self, program: u32, number: u32) -> Option<CString> {
        let name = format!("{}-{program:04}-{number:06}", sys::process());
        CString::new(self.folder.join(name).into_os_string().into_vec()).ok()
    }
}

/// Writes the findings so far with their counts.
pub(crate) fn write(held: &Held) {
    if let Some(state) = state::existing(held)
        && let Some(report) = &state.report
    {
        report.replace(&state.model.findings());
    }
}

/// Has the findings written with their counts when the process ends.
pub(crate) fn at_exit() {
    // SAFETY: the function is this library's, which stays loaded as long as the process.
    unsafe { libc::atexit(end) };
}

extern "C" fn end() {
    inside(|held| {
        if let Some(state) = state::existing(held) {
            // Captures are flushed where nothing moves.
            state.model.step();
            state.model.step();
            write(held);
            if let Some(control) = &state.control {
                control.remove();
            }
        }
    });
}

/// Tells `mana model exec` that this library is in the program. Runs before the program does, so
/// nothing is allocated.
pub(crate) extern "C" fn loaded() {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // SAFETY: the name is a string that ends with a zero, and so is what is found.
    let folder = unsafe {
        let folder = libc::getenv(FOLDER.as_ptr());
        if folder.is_null() {
            return;
        }
        CStr::from_ptr(folder).to_bytes()
    };
    let Some(place) = path.get_mut(..folder.len() + LOADED.len()) else {
        return;
    };
    place[..folder.len()].copy_from_slice(folder);
    place[folder.len()..].copy_from_slice(LOADED);
    if let Ok(path) = CStr::from_bytes_until_nul(&path) {
        // SAFETY: both are strings that end with a zero.
        unsafe {
            libc::syscall(
                libc::SYS_symlinkat,
                c"yes".as_ptr(),
                libc::AT_FDCWD,
                path.as_ptr(),
            )
        };
    }
}
