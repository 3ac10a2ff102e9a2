//! The tier `check`: what can be judged without running the house.

mod arrows;
mod cargo;
mod dependencies;
mod text;
mod unsafety;

use crate::report::{Tally, Verdict};
use crate::workspace::Workspace;

type Check = fn(&Workspace) -> Verdict;

/// Runs every check, whatever the others say.
pub fn run(workspace: &Workspace, tally: &mut Tally) {
    let checks: [(&str, Check); 9] = [
        ("format", cargo::format),
        ("clippy", cargo::clippy),
        ("without rdma-core", cargo::without_libraries),
        ("docs", cargo::docs),
        ("dependencies", |workspace| {
            dependencies::check(workspace).into()
        }),
        ("arrows", |workspace| arrows::check(workspace).into()),
        ("unsafe", |workspace| unsafety::check(workspace).into()),
        ("text", text::check),
        ("aarch64", cargo::aarch64),
    ];
    for (name, check) in checks {
        println!("== check: {name}");
        let verdict = check(workspace);
        if let Verdict::Failed(reason) = &verdict {
            println!("{reason}");
        }
        tally.count(name, verdict);
    }
}

/// No faults, or all of them.
fn verdict(faults: Vec<String>) -> Result<(), String> {
    if faults.is_empty() {
        Ok(())
    } else {
        Err(faults.join("\n"))
    }
}
