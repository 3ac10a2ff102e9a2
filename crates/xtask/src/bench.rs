//! `cargo xtask bench [OPTIONS]`: `mana bench` with everything it can be measured against.
//!
//! Fetches Debian's DPDK, its headers, rdma-core and valgrind into `target/debian`, builds `mana` and the
//! preload library in release, and passes the options on. What can't be fetched is said, and skipped
//! by the program.

use std::process::Command;

use crate::workspace::Workspace;
use crate::{debian, process, program};

/// The package of the library that puts programs on the model.
const PRELOAD: &str = "mana-model-preload";

/// Runs it on this program's terminal.
pub fn run(workspace: &Workspace, options: &[String]) -> Result<(), String> {
    for group in [&debian::DPDK, &debian::DPDK_HEADERS, &debian::VALGRIND] {
        if let Err(reason) = group.fetch(workspace) {
            println!("not fetched: {reason}");
        }
    }
    println!("== build: mana, {PRELOAD}");
    let mut mana = Command::new(program::build("mana", "mana", false)?);
    mana.env("MANA_PRELOAD", program::library(PRELOAD)?)
        .args(["bench", "--tree"])
        .arg(workspace.target.join("debian"))
        .arg("--made-by")
        .arg(format!("cargo xtask bench {}", options.join(" ")))
        .args(options);
    process::run(&mut mana)
}
