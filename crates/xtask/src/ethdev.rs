//! `tests/programs/ethdev.c`: compiled against Debian's DPDK, for the tiers `stack` and `kernel`.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::debian;
use crate::report::Tally;
use crate::workspace::Workspace;

/// The variable with its path.
pub const FOUND: &str = "MANA_ETHDEV";
const MISSING: &str = "MANA_ETHDEV_SKIP";

const SOURCE: &str = include_str!("../../../tests/programs/ethdev.c");
/// DPDK's libraries that the program calls.
const LIBRARIES: [&str; 4] = [
    "librte_eal.so.25",
    "librte_ethdev.so.25",
    "librte_mbuf.so.25",
    "librte_mempool.so.25",
];
/// What DPDK's own description asks of compilers, `libdpdk-libs.pc`.
const FLAGS: &str = "-march=corei7 -mrtm -include rte_config.h";
/// Where the packages have headers and libraries.
const HEADERS: [&str; 3] = ["x86_64-linux-gnu", "x86_64-linux-gnu/dpdk", "dpdk"];
const FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// [`FOUND`] with its path, or `MANA_ETHDEV_SKIP` with what is missing here; none of both where it does not
/// compile, which is a failure.
pub fn variable(workspace: &Workspace, tally: &mut Tally) -> Option<(&'static str, OsString)> {
    println!("== build: ethdev.c");
    let trees = debian::DPDK
        .fetch(workspace)
        .and_then(|tree| Ok((tree, debian::DPDK_HEADERS.fetch(workspace)?)));
    let (tree, headers) = match trees {
        Ok(trees) => trees,
        Err(reason) => return Some((MISSING, reason.into())),
    };
    let program = workspace.target.join("ethdev");
    let mut cc = command(&tree, &headers.join("usr/include"), &program);
    let written = fs::write(program.with_extension("c"), SOURCE);
    match written.and_then(|()| cc.output()) {
        Err(error) => Some((MISSING, format!("no C compiler: cc: {error}").into())),
        Ok(output) if output.status.success() => Some((FOUND, program.into())),
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            tally.fail("build of ethdev.c", errors);
            None
        }
    }
}

fn command(tree: &Path, headers: &Path, program: &Path) -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-O2", "-Wall"]).args(FLAGS.split(' '));
    for part in HEADERS {
        cc.arg("-isystem").arg(headers.join(part));
    }
    cc.arg(program.with_extension("c"))
        .arg("-o")
        .arg(program)
        .args(LIBRARIES.map(|name| tree.join(FOLDER).join(name)))
        // They ask for a libc that may be newer than the machine's.
        .arg("-Wl,--allow-shlib-undefined");
    cc
}
