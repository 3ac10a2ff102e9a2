//! tcpdump as a judge of frames.

use std::path::Path;

use super::Stack;

/// What tcpdump prints of a capture with these options: a line a frame, more with `-v`.
///
/// # Panics
///
/// If it fails.
#[must_use]
#[track_caller]
pub fn tcpdump(stack: &Stack, options: &str, capture: &Path) -> String {
    // As root it would become another user, who may not read the file.
    let line = format!("tcpdump -Z root -nn {options} -r {}", capture.display());
    let output = stack.tools().command(&line).output();
    let output = output.expect("tcpdump starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
