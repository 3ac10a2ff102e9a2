//! `cargo xtask long kernel`: every suite over every stack on both kernels, and DPDK's testpmd on its driver in C,
//! in guests; what came of each goes into `docs/kernel-matrix.md`, which is committed. The tier `kernel` holds
//! the part that it runs against it (`tests/src/matrix.rs`).

use std::fmt::Write as _;
use std::fs;

use crate::debian::failed;
use crate::report::Tally;
use crate::table::Table;
use crate::workspace::Workspace;
use crate::{kernel, process, program, runner};

/// What stands in the table, in this order, by what the test programs call it.
const COLUMNS: [&str; 8] = [
    "uverbs, 6.12",
    "rdma-core 56, 6.12",
    "rdma-core 44, 6.12",
    "C, 6.12",
    "uverbs, 7.x",
    "rdma-core 56, 7.x",
    "rdma-core 44, 7.x",
    "C, 7.x",
];
/// The programs that fill it.
const PROGRAMS: [&str; 2] = ["kernel_conformance", "guest_dpdk"];
/// Rows that tell what a column stands on.
const DESCRIBED: [&str; 2] = ["kernel", "libraries"];
const PLACE: &str = "docs/kernel-matrix.md";

const HEAD: &str = "\
# Suites by kernels and stacks

Written by `cargo xtask long kernel`, which boots Debian's unmodified kernels with their own mana.ko and mana_ib.ko in guests, on the device
that `mana model serve` plays (`--vdev model0,ports=2`, for the columns of this driver with `first-queue-id=1022,vport-offset=2302`), and runs in them all suites of
`mana conformance` over three stacks, and of `--suite kernel` their counterparts for DPDK's testpmd on its driver in C (`C`;
`tests/tests/guest_dpdk.rs`, defects by their numbers in [c-pmd-defects.md](c-pmd-defects.md)). The tier `kernel` fails where what it runs of it comes
out otherwise.
";

/// Runs it all and writes the file.
pub fn write(workspace: &Workspace) -> Result<(), String> {
    let mut cargo = process::cargo();
    cargo.args(["test", "--package", "conformance"]);
    cargo.args(PROGRAMS.iter().flat_map(|name| ["--test", name]));
    let (programs, built) = runner::build(workspace, &mut cargo);
    built?;
    let mana = program::build("mana", "mana", false)?;
    let mut tally = Tally::new("kernel");
    kernel::run(workspace, &programs, mana.as_os_str(), true, &mut tally);
    for named in tally.failed.iter().chain(&tally.skipped) {
        println!("{}: {}", named.name, named.reason);
    }
    let text = text(&tally.table)?;
    if let Some(failed) = tally.failed.first() {
        return Err(format!("{}: {}", failed.name, failed.reason));
    }
    let path = workspace.root.join(PLACE);
    fs::write(&path, text).map_err(|error| failed(&path, &error))?;
    println!("{}", path.display());
    Ok(())
}

fn text(table: &Table) -> Result<String, String> {
    let mut notes: Vec<&str> = Vec::new();
    let mut text = format!("{HEAD}\n| suite | {} |\n", COLUMNS.join(" | "));
    text += &format!("|---|{}\n", "---|".repeat(COLUMNS.len()));
    for row in table.rows().filter(|row| !DESCRIBED.contains(row)) {
        let mut cells = Vec::new();
        for column in COLUMNS {
            let cell = table.cell(row, column).unwrap_or("-");
            if cell.contains(" | ") {
                return Err(format!("{row} on {column}: no cell of a table: {cell}"));
            }
            cells.push(short(cell, &mut notes));
        }
        // Writing to a String does not fail.
        let _always = writeln!(text, "| {row} | {} |", cells.join(" | "));
    }
    text.push('\n');
    for (number, note) in notes.iter().enumerate() {
        let _always = writeln!(text, "[{}] {note}  ", number + 1);
    }
    text += "\nWhat the columns stood on:\n\n| column | kernel | libraries that their processes had mapped |\n|---|---|---|\n";
    for column in COLUMNS {
        let cell = |row| table.cell(row, column).filter(|text| !text.is_empty());
        let [kernel, libraries] = DESCRIBED.map(|row| cell(row).unwrap_or("none"));
        let _always = writeln!(text, "| {column} | {kernel} | {libraries} |");
    }
    Ok(text)
}

/// A cell's first words, with the number of the note that has all of it.
fn short<'a>(cell: &'a str, notes: &mut Vec<&'a str>) -> String {
    let Some(end) = cell.find([':', ';']) else {
        return cell.to_owned();
    };
    let number = notes.iter().position(|note| *note == cell);
    let number = number.unwrap_or_else(|| {
        notes.push(cell);
        notes.len() - 1
    });
    format!("{} [{}]", &cell[..end], number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_short_cells_and_notes_once() {
        let mut table = Table::default();
        table.read("smoke\tC, 6.12\tpassed; slowly\nsmoke\tC, 7.x\tpassed; slowly\n");
        table.read("smoke\tuverbs, 6.12\tpassed\nrss\tC, 6.12\tfails: no hash\n");
        table.read("kernel\tC, 6.12\t6.12.1\nlibraries\tC, 6.12\ta.so\n");
        let text = text(&table).unwrap();
        for line in [
            "| smoke | passed | - | - | passed [1] | - | - | - | passed [1] |",
            "| rss | - | - | - | fails [2] | - | - | - | - |",
            "[1] passed; slowly  ",
            "[2] fails: no hash  ",
            "| C, 6.12 | 6.12.1 | a.so |",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("[3]"), "{text}");
    }
}
