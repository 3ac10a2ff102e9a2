//! Tables that tests fill cell by cell: what is compared side by side.

use std::fmt;

/// A table of texts.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    /// Takes the lines of a test program, `row<TAB>column<TAB>text` each. A later one replaces an
    /// earlier; other lines are left out.
    pub fn read(&mut self, lines: &str) {
        for line in lines.lines() {
            let mut fields = line.splitn(3, '\t');
            if let (Some(row), Some(column), Some(text)) =
                (fields.next(), fields.next(), fields.next())
            {
                self.set(row, column, text);
            }
        }
    }

    /// Names of the rows, in the order in which they came.
    pub fn rows(&self) -> impl Iterator<Item = &str> {
        self.rows.iter().map(|(name, _)| name.as_str())
    }

    /// The text of a cell.
    pub fn cell(&self, row: &str, column: &str) -> Option<&str> {
        let at = self.columns.iter().position(|name| name == column)?;
        let (_, cells) = self.rows.iter().find(|(name, _)| name == row)?;
        cells
            .get(at)
            .map(String::as_str)
            .filter(|text| !text.is_empty())
    }

    fn set(&mut self, row: &str, column: &str, text: &str) {
        let at = position(
            &mut self.columns,
            |name| name == column,
            || column.to_owned(),
        );
        let empty = || (row.to_owned(), Vec::new());
        let row = position(&mut self.rows, |(name, _)| name == row, empty);
        let cells = &mut self.rows[row].1;
        cells.resize(cells.len().max(at + 1), String::new());
        text.clone_into(&mut cells[at]);
    }
}

/// Where the wanted one is, put at the end if it is not there.
fn position<T>(all: &mut Vec<T>, wanted: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> usize {
    all.iter().position(wanted).unwrap_or_else(|| {
        all.push(new());
        all.len() - 1
    })
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut columns = self.columns.clone();
        columns.sort();
        let order: Vec<usize> = columns
            .iter()
            .filter_map(|name| self.columns.iter().position(|other| other == name))
            .collect();
        writeln!(f, "| situation | {} |", columns.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(columns.len()))?;
        for (row, cells) in &self.rows {
            let cells: Vec<&str> = order
                .iter()
                .map(|at| cells.get(*at).map_or("-", String::as_str))
                .map(|text| if text.is_empty() { "-" } else { text })
                .collect();
            writeln!(f, "| {row} | {} |", cells.join(" | "))?;
        }
        writeln!(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stand_in_their_row_and_column_and_later_ones_win() {
        let mut table = Table::default();
        table.read("b\tours\tFAILED\nb\tours\t3 = 3\nb\tC\t2 of 3\n");
        table.read("a\tours\tyes\nno table\n");
        assert_eq!(
            table.to_string(),
            "| situation | C | ours |\n|---|---|---|\n| b | 2 of 3 | 3 = 3 |\n| a | - | yes |\n\n"
        );
        assert_eq!(Table::default().to_string(), "");
    }
}
