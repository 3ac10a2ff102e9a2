//! The tier `kernel`: test programs of the package `conformance` whose names begin with `guest_` are run
//! inside guests, one guest of each kernel and program; those that begin with `kernel_` start guests
//! themselves.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::debian;
use crate::ethdev;
use crate::report::Tally;
use crate::runner::{self, CELL, How, SKIPPED, TestProgram};
use crate::vm::{self, Kernel};
use crate::workspace::Workspace;

const INSIDE: &str = "guest_";
const BESIDE: &str = "kernel_";
/// The one of them that runs Debian's DPDK.
const DPDK: &str = "guest_dpdk";
/// How long a guest with one program may take: several times what it does.
const SECONDS: &str = "150";
const DPDK_SECONDS: &str = "400";
/// Where Linux 7 warns when a device asks for a reset: it then waits for an answer of the device no longer than
/// for its next tick, and a busy machine is slower. What it could not destroy goes with the reset.
const HASTY: [&str; 4] = [
    "ib_dealloc_pd_user",
    "ib_mad_port_close",
    "rdma_restrack_clean",
    "uverbs_destroy_ufile_hw",
];

/// Whether the test program of that name belongs to this tier.
pub fn is_its(target: &str) -> bool {
    target.starts_with(INSIDE) || target.starts_with(BESIDE)
}

/// Runs the tier. `mana` is the program, built now.
pub fn run(workspace: &Workspace, programs: &[TestProgram], mana: &OsStr, tally: &mut Tally) {
    let this = match env::current_exe() {
        Ok(this) => this,
        Err(error) => return tally.fail("kernel", format!("this program: {error}")),
    };
    let named = |prefix: &'static str| {
        programs
            .iter()
            .filter(move |program| program.target.starts_with(prefix))
    };
    let mut reason = None;
    for kernel in Kernel::ALL {
        let Err(missing) = vm::fetch(workspace, kernel) else {
            continue;
        };
        for program in named(INSIDE) {
            tally.skip(name(program, kernel), missing.as_str());
        }
        reason = Some(missing);
    }
    let mut environment = vec![
        ("MANA_BIN", mana.to_owned()),
        ("MANA_XTASK", this.clone().into()),
        ("MANA_HASTY", HASTY.join(",").into()),
    ];
    match debian::HOST.fetch(workspace) {
        Ok(tree) => environment.push(("MANA_HOST_TOOLS", tree.into())),
        Err(reason) => environment.push(("MANA_HOST_SKIP", reason.into())),
    }
    let third = vm::fetch(workspace, Kernel::THIRD).err();
    environment.extend(third.map(|reason| ("MANA_KERNEL_6_1_SKIP", reason.into())));
    environment.extend(reason.map(|reason| ("MANA_KERNEL_SKIP", reason.into())));
    let ethdev = ethdev::variable(workspace, tally);
    let how = How {
        serial: true,
        environment,
        ..How::default()
    };
    for program in named(BESIDE) {
        program.run(workspace, &how, tally);
    }
    for kernel in Kernel::ALL {
        if vm::fetch(workspace, kernel).is_err() {
            continue;
        }
        for program in named(INSIDE) {
            let mut command = Command::new(&this);
            command.args(["vm", "--kernel", kernel.name()]);
            command.arg("--mana").arg(mana);
            if program.target == DPDK {
                if let Err(reason) = debian::DPDK.fetch(workspace) {
                    tally.skip(name(program, kernel), reason);
                    continue;
                }
                command.args(["--dpdk", "--seconds", DPDK_SECONDS]);
                if kernel == Kernel::V7 {
                    command.args(HASTY.iter().flat_map(|name| ["--excuse", name]));
                }
                if let Some((ethdev::FOUND, path)) = &ethdev {
                    command.args(["--file", &at(Path::new(path), "/usr/bin/ethdev")]);
                }
            } else {
                command.args(["--seconds", SECONDS]);
            }
            let place = format!("/usr/bin/{}", program.target);
            command.args(["--file", &at(&program.path, &place)]);
            command.args(["--", "sh", "-c", &script(&place)]);
            runner::count(workspace, &mut command, &name(program, kernel), tally);
        }
    }
}

fn name(program: &TestProgram, kernel: Kernel) -> String {
    format!("{} {}", program.target, kernel.name())
}

/// A file of this machine and its place in a guest, as `--file` wants them.
fn at(path: &Path, place: &str) -> String {
    format!("{}={place}", path.display())
}

/// What the guest runs: the tests one after the other; then it tells what could not be run, and the cells
/// of tables.
fn script(program: &str) -> String {
    let tell =
        |file: &str, prefix: &str| format!("if [ -e {file} ]; then sed 's/^/{prefix}/' {file}; fi");
    format!(
        "export MANA_GUEST=1 MANA_SKIPPED_FILE=/tmp/skipped MANA_TABLE_FILE=/tmp/table; \
         {program} --test-threads=1; code=$?; {}; {}; exit $code",
        tell("/tmp/skipped", SKIPPED),
        tell("/tmp/table", CELL),
    )
}
