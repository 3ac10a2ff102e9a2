//! The checks that cargo itself makes.

use std::path::Path;
use std::process::Command;

use crate::process;
use crate::report::Verdict;
use crate::workspace::Workspace;

const AARCH64: &str = "aarch64-unknown-linux-gnu";

/// `cargo fmt` has nothing to change.
pub fn format(_: &Workspace) -> Verdict {
    process::run(process::cargo().args(["fmt", "--all", "--check"])).into()
}

/// No warning of clippy in any target.
pub fn clippy(_: &Workspace) -> Verdict {
    let mut cargo = process::cargo();
    cargo.args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-Dwarnings",
    ]);
    process::run(&mut cargo).into()
}

/// No warning of clippy in what is built without the libraries of rdma-core.
pub fn without_libraries(_: &Workspace) -> Verdict {
    let mut cargo = process::cargo();
    cargo.args([
        "clippy",
        "--package",
        "mana",
        "--no-default-features",
        "--quiet",
    ]);
    process::run(cargo.args(["--", "-Dwarnings"])).into()
}

/// No warning of rustdoc.
pub fn docs(_: &Workspace) -> Verdict {
    let mut cargo = process::cargo();
    cargo
        .args([
            "doc",
            "--workspace",
            "--all-features",
            "--no-deps",
            "--quiet",
        ])
        .env("RUSTDOCFLAGS", "-Dwarnings");
    process::run(&mut cargo).into()
}

/// The house type-checks for 64-bit Arm, where that target is installed.
pub fn aarch64(_: &Workspace) -> Verdict {
    let libraries = process::capture(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        AARCH64,
    ]));
    if !libraries.is_ok_and(|folder| Path::new(folder.trim()).is_dir()) {
        return Verdict::Skipped(format!(
            "the target is not installed; install: rustup target add {AARCH64}"
        ));
    }
    let mut cargo = process::cargo();
    cargo.args(["check", "--workspace", "--quiet", "--target", AARCH64]);
    process::run(&mut cargo).into()
}
