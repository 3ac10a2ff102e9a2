//! The committed table of suites by kernels and stacks, `docs/kernel-matrix.md`, which `cargo xtask long kernel`
//! writes anew: what a test of the tier `kernel` sees of it must be what stands there.

use crate::stack;

const COMMITTED: &str = include_str!("../../docs/kernel-matrix.md");
/// Set where the table is being written.
const WRITTEN: &str = "MANA_MATRIX";

/// Whether the whole table is asked for, to be written.
#[must_use]
pub fn is_written() -> bool {
    std::env::var_os(WRITTEN).is_some()
}

/// Writes a cell of the table of the report, and asserts that it is the committed one.
///
/// # Panics
///
/// If it is not, unless the table is being written.
#[track_caller]
pub fn cell(row: &str, column: &str, text: &str) {
    stack::cell(row, column, text);
    if !is_written() {
        let committed = find(COMMITTED, row, column);
        let told = committed == Some(text);
        assert!(
            told,
            "{row} on {column}: {text}\nbut docs/kernel-matrix.md has {committed:?}: \
             `cargo xtask long kernel` writes it anew"
        );
    }
}

/// Writes what a column stands on: the kernel's release, and libraries by their file names. Releases of Debian
/// differ, so it need not be what is committed.
pub fn describe(column: &str, kernel: &str, libraries: &str) {
    stack::cell("kernel", column, kernel);
    stack::cell("libraries", column, libraries);
}

/// The text of a cell: what its note says, where it has one (`passed [2]`).
fn find<'a>(table: &'a str, row: &str, column: &str) -> Option<&'a str> {
    let mut rows = table.lines().filter_map(cells);
    let at = rows.next()?.iter().position(|name| *name == column)?;
    let cell = *rows.find(|cells| cells[0] == row)?.get(at)?;
    let Some((_, note)) = cell.split_once(" [") else {
        return Some(cell).filter(|cell| *cell != "-");
    };
    let start = format!("[{note} ");
    let mut notes = table.lines().map(str::trim_end);
    notes.find_map(|line| line.strip_prefix(&start))
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
    Some(line.split(" | ").map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
text
| suite | ours, 6.12 | C, 6.12 |
|---|---|---|
| smoke | passed | passed [1] |
| rss | - | fails [2] |

[1] passed; but slowly  
[2] fails: no hash
";

    #[test]
    fn a_cell_is_what_stands_there_or_its_note() {
        let of = |row, column| find(TABLE, row, column);
        assert_eq!(of("smoke", "ours, 6.12"), Some("passed"));
        assert_eq!(of("smoke", "C, 6.12"), Some("passed; but slowly"));
        assert_eq!(of("rss", "C, 6.12"), Some("fails: no hash"));
        assert_eq!(of("rss", "ours, 6.12"), None);
        assert_eq!(of("rss", "ours, 7.x"), None);
        assert_eq!(of("vlan", "C, 6.12"), None);
    }
}
