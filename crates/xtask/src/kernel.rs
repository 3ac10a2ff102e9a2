//! The tier `kernel`: test programs of the package `conformance` whose names begin with `guest_` are run
//! inside guests, one guest of each kernel and program; those that begin with `kernel_` start guests
//! themselves.

use std::env;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

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
/// How long a guest with one program may take: several times what it does, which on one core beside
/// other work is 110 seconds.
const SECONDS: &str = "400";
const DPDK_SECONDS: &str = "600";

/// Whether the test program of that name belongs to this tier.
pub fn is_its(target: &str) -> bool {
    target.starts_with(INSIDE) || target.starts_with(BESIDE)
}

/// Set where all suites shall run over all stacks, for the table.
const MATRIX: &str = "MANA_MATRIX";
/// How long a program may take then: a guest has hundreds of suites.
const MATRIX_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// Runs the tier. `mana` is the program, built now. `matrix` has it run everything that the table of
/// [`crate::matrix`] has, instead of what a tier has the time for.
pub fn run(
    workspace: &Workspace,
    programs: &[TestProgram],
    mana: &OsStr,
    matrix: bool,
    tally: &mut Tally,
) {
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
    ];
    match debian::HOST.fetch(workspace) {
        Ok(tree) => environment.push(("MANA_HOST_TOOLS", tree.into())),
        Err(reason) => environment.push(("MANA_HOST_SKIP", reason.into())),
    }
    let third = vm::fetch(workspace, Kernel::THIRD).err();
    environment.extend(third.map(|reason| ("MANA_KERNEL_6_1_SKIP", reason.into())));
    environment.extend(reason.map(|reason| ("MANA_KERNEL_SKIP", reason.into())));
    environment.extend(matrix.then(|| (MATRIX, "1".into())));
    let ethdev = ethdev::variable(workspace, tally);
    let how = How {
        serial: true,
        environment,
        limit: matrix.then_some(MATRIX_LIMIT),
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
                command.arg("--resets");
                if let Some((ethdev::FOUND, path)) = &ethdev {
                    command.args(["--file", &at(Path::new(path), "/usr/bin/ethdev")]);
                }
            } else {
                command.args(["--seconds", SECONDS]);
            }
            let place = format!("/usr/bin/{}", program.target);
            command.args(["--file", &at(&program.path, &place)]);
            command.args(["--", "sh", "-c", &script(&place, matrix)]);
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
fn script(program: &str, matrix: bool) -> String {
    let more = if matrix { "MANA_MATRIX=1" } else { "" };
    let tell =
        |file: &str, prefix: &str| format!("if [ -e {file} ]; then sed 's/^/{prefix}/' {file}; fi");
    format!(
        "export MANA_GUEST=1 MANA_SKIPPED_FILE=/tmp/skipped MANA_TABLE_FILE=/tmp/table {more}; \
         {program} --test-threads=1; code=$?; {}; {}; exit $code",
        tell("/tmp/skipped", SKIPPED),
        tell("/tmp/table", CELL),
    )
}
