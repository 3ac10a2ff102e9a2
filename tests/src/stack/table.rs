//! Situations by stacks: what `cargo xtask test --tier stack` prints as one table.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;

/// Puts `text` into the row and column: in the file that `MANA_TABLE_FILE` names, from which
/// `cargo xtask test` takes it, otherwise on standard output. A later text replaces an earlier one.
///
/// # Panics
///
/// If the file can't be written.
pub fn cell(row: &str, column: &str, text: &str) {
    println!("{column}: {row}: {text}");
    if let Some(path) = env::var_os("MANA_TABLE_FILE") {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let mut file = file.expect("the file of the table can be opened");
        // At once: several threads may do so.
        let line = format!("{row}\t{column}\t{text}\n");
        file.write_all(line.as_bytes())
            .expect("the file of the table can be written");
    }
}
