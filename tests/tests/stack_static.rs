//! The program without rdma-core's provider: linked statically, it needs nothing of the machine.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use conformance::skip;

/// The program, unless the test was skipped.
fn program(test: &str) -> Option<PathBuf> {
    let path = env::var_os("MANA_STATIC_BIN").map(PathBuf::from);
    if path.is_none() {
        skip(
            test,
            "MANA_STATIC_BIN names no program: `cargo xtask test --tier stack`",
        );
    }
    path
}

fn testpmd(program: &PathBuf, device: &str) -> Output {
    let line = "--forward-mode=io --tx-first --duration 0.2 --total-num-mbufs=4096";
    let mut command = Command::new(program);
    command.args(["testpmd", "--no-huge", "-l", "0-1"]);
    command
        .arg(format!("--vdev={device}"))
        .arg("--")
        .args(line.split(' '));
    // Whatever it could load is not there.
    command.env("LD_LIBRARY_PATH", "/nonexistent");
    command.output().expect("the program starts")
}

/// Entry 3 of a program header table, PT_INTERP, names the dynamic loader (System V ABI, ELF-64:
/// e_phoff at 32, e_phentsize at 54, e_phnum at 56; p_type first in an entry).
#[test]
fn the_static_program_asks_for_no_loader() {
    let Some(program) = program("the_static_program_asks_for_no_loader") else {
        return;
    };
    let image = fs::read(program).expect("the program can be read");
    let word = |at: usize| usize::from(u16::from_le_bytes([image[at], image[at + 1]]));
    let table = u64::from_le_bytes(image[32..40].try_into().expect("8 bytes")) as usize;
    let (size, count) = (word(54), word(56));
    let kinds: Vec<u32> = (0..count)
        .map(|n| table + n * size)
        .map(|at| u32::from_le_bytes(image[at..at + 4].try_into().expect("4 bytes")))
        .collect();
    assert!(kinds.contains(&1), "no segment is loaded: {kinds:?}");
    assert!(!kinds.contains(&3), "{kinds:?}");
}

#[test]
fn the_static_program_forwards_on_a_model_and_names_the_provider_it_lacks() {
    let Some(program) =
        program("the_static_program_forwards_on_a_model_and_names_the_provider_it_lacks")
    else {
        return;
    };
    let run = testpmd(&program, "model0");
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{run:?}");
    assert!(text.contains("Port 0 provider: uverbs ("), "{text}");
    let run = testpmd(&program, "model0,provider=rdma-core");
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(1));
    assert!(text.contains("without the feature `rdma-core`"), "{text}");
}
