//! Instructions a packet of the two bursts, counted by callgrind: the figure that is the same on
//! every machine. It is printed and never judged.
//!
//! The program is the example `burst_cost` of the package `conformance`: `burst_cost tx N` sends N
//! packets, `burst_cost rx N` receives them, in bursts of 32, the bursts alone inside the function
//! `timed_tx_burst` or `timed_rx_burst`, and prints `packets N`, the packets that really went.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::Tally;
use crate::workspace::Workspace;
use crate::{debian, process, program};

const PACKAGE: &str = "conformance";
const EXAMPLE: &str = "burst_cost";
const DIRECTIONS: [&str; 2] = ["tx", "rx"];
const PACKETS: &str = "32000";
/// The size of burst of the example.
const BURST: u32 = 32;

/// Measures both directions.
pub fn run(workspace: &Workspace, tally: &mut Tally) {
    let exists = workspace
        .member(PACKAGE)
        .is_some_and(|package| package.has_target("example", EXAMPLE));
    let tools = if exists {
        Valgrind::fetch(workspace)
    } else {
        Err(format!("{PACKAGE} has no example {EXAMPLE}"))
    };
    let valgrind = match tools {
        Ok(valgrind) => valgrind,
        Err(reason) => {
            DIRECTIONS
                .iter()
                .for_each(|name| tally.skip(format!("{name}_burst"), &reason));
            return;
        }
    };
    println!("== build: {EXAMPLE}");
    let example = match program::build(PACKAGE, EXAMPLE, true) {
        Ok(example) => example,
        Err(reason) => {
            tally.fail(EXAMPLE, reason);
            return;
        }
    };
    for direction in DIRECTIONS {
        println!("== instructions: {direction}_burst");
        match valgrind.measure(workspace, &example, direction) {
            Ok(cost) => {
                tally.passed += 1;
                tally.notes.push(format!(
                    "{direction}_burst: {cost:.1} instructions a packet (callgrind, burst {BURST})"
                ));
            }
            Err(reason) => tally.fail(format!("{direction}_burst"), reason),
        }
    }
}

/// An unpacked valgrind.
struct Valgrind {
    program: PathBuf,
    /// Where it looks for its tools: `VALGRIND_LIB`.
    library: PathBuf,
}

impl Valgrind {
    fn fetch(workspace: &Workspace) -> Result<Valgrind, String> {
        let tree = debian::VALGRIND.fetch(workspace)?;
        // `valgrind` itself is a script that looks for debug symbols of the installed system.
        let program = debian::find(&tree, "valgrind.bin");
        let library =
            debian::find(&tree, "callgrind-").and_then(|tool| tool.parent().map(Path::to_owned));
        match (program, library) {
            (Some(program), Some(library)) => Ok(Valgrind { program, library }),
            _ => Err(format!(
                "no valgrind with callgrind under {}",
                tree.display()
            )),
        }
    }

    /// Instructions a packet.
    fn measure(
        &self,
        workspace: &Workspace,
        example: &Path,
        direction: &str,
    ) -> Result<f64, String> {
        let out = workspace.target.join(format!("callgrind.{direction}"));
        let mut command = Command::new(&self.program);
        command
            .env("VALGRIND_LIB", &self.library)
            .args(["-q", "--tool=callgrind"])
            .arg(format!("--toggle-collect=*timed_{direction}_burst*"))
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(example)
            .args([direction, PACKETS]);
        let printed = process::capture(&mut command)?;
        let packets = number_after(&printed, "packets ")
            .filter(|&packets| packets > 0)
            .ok_or_else(|| format!("{EXAMPLE} printed no `packets N` but:\n{printed}"))?;
        let profile =
            fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let instructions = number_after(&profile, "totals: ")
            .filter(|&instructions| instructions > 0)
            .ok_or_else(|| format!("callgrind saw no call of timed_{direction}_burst"))?;
        Ok(instructions as f64 / packets as f64)
    }
}

/// The number in the line that starts with `word`.
fn number_after(text: &str, word: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(word))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_lines_they_stand_in() {
        let profile = "events: Ir\nfn=(1) timed_tx_burst\n16 3\ntotals: 33100\n";
        assert_eq!(number_after(profile, "totals: "), Some(33_100));
        assert_eq!(
            number_after("noise\npackets 1000\n", "packets "),
            Some(1000)
        );
        assert_eq!(number_after("packets lost", "packets "), None);
        assert_eq!(number_after("", "totals: "), None);
    }
}
