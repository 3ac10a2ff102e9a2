//! `mana model`: the device model beside other programs.
//!
//! `control` steers the model of a running program. `serve` is a device for virtual machines. `exec` runs an unmodified program on it:
//! `options` reads the command line, `elf` looks at the program, `tree` writes the sysfs that it will
//! see, `preload` finds the library that answers in the kernel's place, `exec` puts them together,
//! waits with `signals`, and reports.

mod control;
mod elf;
mod error;
mod exec;
mod options;
mod preload;
mod serve;
mod signals;
mod tree;

use std::fmt;
use std::io::Write;
use std::process::ExitCode;

use error::Error;
use options::Options;
pub use preload::find as find_preload;

/// Exit code of a run that succeeded, but whose model found something wrong with the driver.
const FINDINGS: u8 = 3;

/// What `--help` prints.
pub const USAGE: &str = "\
Usage: mana model exec [OPTIONS] -- PROGRAM [ARGUMENTS]
       mana model serve --socket=PATH [OPTIONS]
       mana model control [--wait=SECONDS] SOCKET COMMAND...

Runs an unmodified program on the device model: whatever opens MANA devices through libibverbs, such
as ibv_devinfo and dpdk-testpmd, finds the model's. At the end the findings are printed; the exit
code is the program's, 128 and the number of the signal that ended it, 3 if it succeeded and there
are findings, 1 if it could not be run, 2 for a wrong command line.

The program needs no privileges, devices or hugepages. It may fork, start others and become another:
all run on a model each, and all findings are told. Static, setuid and 32-bit programs can't be run.
TERM and HUP are passed on to a program that has not ended 3 seconds later. The model's sysfs is in a
folder below TMPDIR, which goes with the run; of a run that was killed, with the next one.

Options of exec:
  --vdev=TEXT         a device, as for `mana testpmd`: model0,mac=..,kernel=6.12,link=.. (repeats);
                      pci=7870:00:00.0 names its address; without it one model0
  --driver-id=N       the kernel's driver id of every device without its own [20]
  --doorbell=trap     every doorbell is seen as it is stored (x86-64)
  --doorbell=step     doorbells are plain memory, which the device reads when it is stepped, by the
                      command `step` or the program's own call of mana_model_step (mana_model.h):
                      for benchmarks; of queues that ring in between the last one is seen
  --doorbell=trap-until-step
                      the first until the first step, the second from then on: so that several
                      queues can be started
  --control=SOCKET    a Unix socket (mode 0600) by which the model is steered and read; it is there
                      from when the program first looks for devices until its end
  --help              this text

Serve is a device in a virtual machine: it listens on a Unix socket (mode 0600) for a client of
vfio-user, such as QEMU 10.1 or later with memory that is shared:

  -object memory-backend-memfd,id=m,size=1G,share=on -machine q35,memory-backend=m
  -device '{\"driver\":\"vfio-user-pci\",\"rombar\":0,\"socket\":{\"type\":\"unix\",\"path\":\"PATH\"}}'

The guest's own mana and mana_ib drive it, or whatever else is in the guest. It serves one machine
after the other until INT, TERM or HUP; then the findings are printed and the exit code is 3 if there
are some.

Options of serve:
  --socket=PATH       where to listen
  --vdev=TEXT         the device, as above, once; its kernel= and driver-id= count for nothing, as
                      the guest's kernel stands in front of it [model0]
  --rnic=no           list the Ethernet adapter only, not the RNIC beside it: Linux 6.12 needs the
                      RNIC for its verbs, Linux 7.3 makes a second ib device of it
  --log=FILE          write a line for each message of the driver; - is standard error
  --log-level=LEVEL   what of the device's own is told on standard error: off, error, warn, info,
                      debug or trace [warn]
  --control=SOCKET    a Unix socket by which the device is steered and read, also by guests' harnesses

Control runs one command over the model behind SOCKET and prints the answer; `help` lists the
commands. It exits 0 if the command was run, 3 if it is findings or take-findings and there are some,
1 if it was refused or nobody listens (--wait waits for somebody), 2 for a wrong command line.
";

/// Runs the words behind `mana model`.
pub fn main(words: &[String]) -> ExitCode {
    let Some((command, rest)) = words.split_first() else {
        return fail(&Error::Usage(
            "expected a command: exec, serve or control".to_owned(),
        ));
    };
    match command.as_str() {
        "exec" | "serve" | "control"
            if rest
                .iter()
                .take_while(|word| *word != "--")
                .any(|word| word == "--help" || word == "-h") =>
        {
            help()
        }
        "--help" | "-h" | "help" => help(),
        "exec" => match Options::parse(rest).and_then(|options| exec::run(&options)) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        "serve" => match serve::run(rest) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        "control" => match control::run(rest) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        other => fail(&Error::Usage(format!(
            "unknown command `{other}`: there are exec, serve and control"
        ))),
    }
}

fn help() -> ExitCode {
    // Who reads may have read enough.
    let _read = std::io::stdout().write_all(USAGE.as_bytes());
    ExitCode::SUCCESS
}

fn fail(error: &Error) -> ExitCode {
    tell(error);
    ExitCode::from(error.exit_code())
}

fn tell(error: &Error) {
    say(format_args!("mana model: error: {error}"));
}

/// A line on standard error, if anybody reads it.
fn say(line: fmt::Arguments<'_>) {
    let _read = writeln!(std::io::stderr(), "{line}");
}
