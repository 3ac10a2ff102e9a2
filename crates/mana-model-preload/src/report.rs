//! What the model found in this process, left for `mana model exec`, which prints it at the end.

use std::fmt::Write as _;
use std::fs;

use crate::files::inside;
use crate::gate::Held;
use crate::state;
use crate::sys;

/// Has the findings written when the process ends.
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

/// Writes all findings so far, a line each, into the file of this process.
pub(crate) fn write(held: &Held) {
    let Some(state) = state::existing(held) else {
        return;
    };
    let Some(folder) = &state.reports else {
        return;
    };
    let mut text = String::new();
    for finding in state.model.findings() {
        // Writing to a String does not fail.
        let _always = writeln!(text, "{finding}");
    }
    let path = folder.join(sys::process().to_string());
    // Where the folder is gone there is nobody left to read it.
    let _gone = if text.is_empty() {
        fs::remove_file(path)
    } else {
        fs::write(path, text)
    };
}
