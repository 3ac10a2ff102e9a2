//! Tests that can't run here say so.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Reports that the test `name` did not run: in the file that `MANA_SKIPPED_FILE` names, from which
/// `cargo xtask test` takes it, otherwise on standard output.
///
/// # Panics
///
/// If the file can't be written: a skipped test must not look like one that passed.
pub fn skip(name: &str, reason: &str) {
    let Some(path) = env::var_os("MANA_SKIPPED_FILE") else {
        println!("skipped: {name}: {reason}");
        return;
    };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let mut file = file.expect("the file of skipped tests can be opened");
    writeln!(file, "{name}\t{reason}").expect("the file of skipped tests can be written");
}
