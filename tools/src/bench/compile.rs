//! The program in C, compiled against an unpacked DPDK by the machine's compiler.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tree::{Dpdk, find_exactly};

/// The program.
const SOURCE: &str = include_str!("../../bench/c_pmd.c");
/// What it is linked with; the last two are found at run time by nobody but the linker.
const LIBRARIES: [&str; 6] = [
    "librte_eal",
    "librte_ethdev",
    "librte_mbuf",
    "librte_mempool",
    "librte_net_mana",
    "librte_mempool_ring",
];
/// The least processor that DPDK is built for.
const MACHINE: &str = "-march=corei7";

/// Compiles it into `folder`; the reason where that is not possible.
pub fn compile(dpdk: &Dpdk, headers: &Path, folder: &Path) -> Result<PathBuf, String> {
    if !cfg!(target_arch = "x86_64") {
        return Err("programs run on the model on x86-64 only".to_owned());
    }
    let include = |name: &str| {
        let file = find_exactly(headers, name);
        let folder = file.and_then(|file| Some(file.parent()?.to_owned()));
        folder.ok_or_else(|| format!("no {name} below {}", headers.display()))
    };
    let source = folder.join("c_pmd.c");
    std::fs::write(&source, SOURCE).map_err(|error| format!("{}: {error}", source.display()))?;
    let program = folder.join("c_pmd");
    let mut arguments: Vec<OsString> = vec!["-O3".into(), MACHINE.into(), "-o".into()];
    arguments.extend([program.clone().into(), source.into()]);
    for header in ["rte_ethdev.h", "rte_config.h", "rte_build_config.h"] {
        let mut argument = OsString::from("-I");
        argument.push(include(header)?);
        arguments.push(argument);
    }
    // The libraries' own needs are for their loader, which may be of a newer libc than the linker.
    arguments.extend(["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"].map(OsString::from));
    for library in LIBRARIES {
        arguments.push(dpdk.library(library)?.into());
    }
    // Part of librte_eal before 24.03.
    arguments.extend(dpdk.library("librte_log").map(OsString::from));
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let output = Command::new(&compiler).args(&arguments).output();
    let compiler = compiler.to_string_lossy();
    let output = output.map_err(|error| format!("no C compiler: {compiler}: {error}"))?;
    if output.status.success() {
        return Ok(program);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let wrong = ["error:", "undefined reference", "error"];
    let first = wrong
        .iter()
        .find_map(|text| said.lines().find(|line| line.contains(text)));
    Err(format!(
        "{compiler} can't compile it: {}",
        first.unwrap_or(said.trim())
    ))
}
