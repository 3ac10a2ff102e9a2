//! The tier `kernel`: test programs of the package `conformance` whose names begin with `guest_` are run
//! inside guests, one guest of each kernel and program; those that begin with `kernel_` start guests
//! themselves.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

use crate::debian;
use crate::report::Tally;
use crate::runner::{self, How, SKIPPED, TestProgram};
use crate::vm::{self, Kernel};
use crate::workspace::Workspace;

const INSIDE: &str = "guest_";
const BESIDE: &str = "kernel_";
/// How long a guest with one program may take.
const SECONDS: &str = "150";

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
    ];
    match debian::HOST.fetch(workspace) {
        Ok(tree) => environment.push(("MANA_HOST_TOOLS", tree.into())),
        Err(reason) => environment.push(("MANA_HOST_SKIP", reason.into())),
    }
    environment.extend(reason.map(|reason| ("MANA_KERNEL_SKIP", reason.into())));
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
            command.args(["vm", "--kernel", kernel.name(), "--seconds", SECONDS]);
            command.arg("--mana").arg(mana);
            let place = format!("/usr/bin/{}", program.target);
            command
                .arg("--file")
                .arg(format!("{}={place}", program.path.display()));
            command.args(["--", "sh", "-c", &script(&place)]);
            runner::count(workspace, &mut command, &name(program, kernel), tally);
        }
    }
}

fn name(program: &TestProgram, kernel: Kernel) -> String {
    format!("{} {}", program.target, kernel.name())
}

/// What the guest runs: the tests one after the other, and then what could not be run.
fn script(program: &str) -> String {
    format!(
        "export MANA_GUEST=1 MANA_SKIPPED_FILE=/tmp/skipped; {program} --test-threads=1; code=$?; \
         if [ -e /tmp/skipped ]; then sed 's/^/{SKIPPED}/' /tmp/skipped; fi; exit $code"
    )
}
