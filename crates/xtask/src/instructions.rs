//! Instructions a packet of the bursts, counted by callgrind: the figure that is the same on every
//! machine. Each has a bound; a burst that takes more fails.
//!
//! The program is the example `burst_cost` of the package `conformance`: `burst_cost CASE N` moves N
//! packets, the bursts alone inside the functions `timed_…_burst`, and prints `packets N`, the packets
//! that really went. What was tried to bring the figures down, and what it gave, is in
//! docs/performance.md; whoever brings one down lowers its bound.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::report::{Tally, Verdict};
use crate::workspace::Workspace;
use crate::{debian, process, program};

const PACKAGE: &str = "conformance";
const EXAMPLE: &str = "burst_cost";
const PACKETS: &str = "32000";

/// A case of the example, and what it may cost.
struct Case {
    name: &'static str,
    /// What it moves.
    what: &'static str,
    /// Instructions for each packet, or poll, at most. A twentieth above what was measured: other
    /// compilers and C libraries count a little differently.
    bound: f64,
}

/// The bounds that an issue promises against the C PMD (24.11: 487 instructions a packet sent, 396
/// received, 883 forwarded) are 61 sent, 71 received and 123 forwarded in bursts of 32.
const CASES: [Case; 11] = [
    case("tx", "a packet sent, bursts of 32", 43.4),
    case("rx", "a packet received, bursts of 32", 51.0),
    case(
        "rx-coalesced",
        "a packet received, 4 a completion, bursts of 32",
        56.0,
    ),
    case("forward", "a packet forwarded, bursts of 32", 94.0),
    case(
        "tx-segments",
        "a packet of two segments sent, bursts of 32",
        148.0,
    ),
    case(
        "tx-segments-4",
        "a packet of four segments sent, bursts of 32",
        218.5,
    ),
    case(
        "tx-vlan",
        "a packet sent with a VLAN tag to insert, bursts of 32",
        116.5,
    ),
    case("tx-1", "a packet sent, bursts of 1", 118.0),
    case("rx-1", "a packet received, bursts of 1", 207.0),
    case("forward-1", "a packet forwarded, bursts of 1", 318.0),
    case("rx-empty", "a poll that finds nothing", 26.0),
];

const fn case(name: &'static str, what: &'static str, bound: f64) -> Case {
    Case { name, what, bound }
}

/// Measures and judges all cases.
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
            CASES
                .iter()
                .for_each(|case| tally.skip(format!("burst_cost {}", case.name), &reason));
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
    for case in &CASES {
        println!("== instructions: {}", case.name);
        let verdict = match valgrind.measure(workspace, &example, case.name) {
            Ok(cost) => {
                let figure = case.figure(cost);
                tally.notes.push(figure.clone());
                if case.allows(cost) {
                    Verdict::Passed
                } else {
                    Verdict::Failed(figure)
                }
            }
            Err(reason) => Verdict::Failed(reason),
        };
        tally.count(&format!("burst_cost {}", case.name), verdict);
    }
}

impl Case {
    fn allows(&self, cost: f64) -> bool {
        cost <= self.bound
    }

    fn figure(&self, cost: f64) -> String {
        let Self { name, what, bound } = self;
        format!("{name}: {cost:.1} instructions {what} (callgrind; at most {bound})")
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
    fn measure(&self, workspace: &Workspace, example: &Path, case: &str) -> Result<f64, String> {
        let out = workspace.target.join(format!("callgrind.{case}"));
        let mut command = Command::new(&self.program);
        command
            .env("VALGRIND_LIB", &self.library)
            .args(["-q", "--tool=callgrind"])
            .arg("--toggle-collect=*timed_*_burst*")
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(example)
            .args([case, PACKETS]);
        let printed = process::capture(&mut command)?;
        let packets = number_after(&printed, "packets ")
            .filter(|&packets| packets > 0)
            .ok_or_else(|| format!("{EXAMPLE} printed no `packets N` but:\n{printed}"))?;
        let profile =
            fs::read_to_string(&out).map_err(|error| format!("{}: {error}", out.display()))?;
        let instructions = number_after(&profile, "totals: ")
            .filter(|&instructions| instructions > 0)
            .ok_or_else(|| format!("callgrind saw no burst of `{EXAMPLE} {case}`"))?;
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
    fn a_burst_that_takes_more_than_its_bound_is_told_with_both_figures() {
        let case = case("tx", "a packet sent, bursts of 32", 61.0);
        assert!(case.allows(61.0) && !case.allows(61.1));
        assert_eq!(
            case.figure(61.149),
            "tx: 61.1 instructions a packet sent, bursts of 32 (callgrind; at most 61)"
        );
    }

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
