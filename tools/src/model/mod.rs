//! `mana model`: the device model beside other programs.
//!
//! `exec` runs an unmodified program on it: `options` reads the command line, `elf` looks at the
//! program, `tree` writes the sysfs that it will see, `preload` finds the library that answers in
//! the kernel's place, `exec` puts them together and reports.

mod elf;
mod error;
mod exec;
mod options;
mod preload;
mod tree;

use std::process::ExitCode;

use error::Error;
use options::Options;

/// Exit code of a run that succeeded, but whose model found something wrong with the driver.
const FINDINGS: u8 = 3;

const USAGE: &str = "\
Usage: mana model exec [OPTIONS] -- PROGRAM [ARGUMENTS]

Runs an unmodified program on the device model: whatever opens MANA devices through libibverbs, such
as ibv_devinfo and dpdk-testpmd, finds the model's. At the end the findings are printed; the exit
code is the program's, 128 and the number of the signal that ended it, 3 if it succeeded and there
are findings, 1 if it could not be run, 2 for a wrong command line.

Options:
  --vdev=TEXT         a device, as for `mana testpmd`: model0,mac=..,kernel=6.12,link=.. (repeats);
                      pci=7870:00:00.0 names its address; without it one model0
  --driver-id=N       the kernel's driver id of every device without its own [20]
  --doorbell=trap     every doorbell is seen as it is stored (x86-64)
  --doorbell=step     doorbells are plain memory, which the device reads when it is stepped
  --help              this text
";

/// Runs the words behind `mana model`.
pub fn main(words: &[String]) -> ExitCode {
    let Some((command, rest)) = words.split_first() else {
        return fail(&Error::Usage("expected a command: exec".to_owned()));
    };
    match command.as_str() {
        "exec"
            if rest
                .iter()
                .take_while(|word| *word != "--")
                .any(|word| word == "--help") =>
        {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        "--help" | "help" => {
            print!("{USAGE}");
            ExitCode::SUCCESS
        }
        "exec" => match Options::parse(rest).and_then(|options| exec::run(&options)) {
            Ok(code) => ExitCode::from(code),
            Err(error) => fail(&error),
        },
        other => fail(&Error::Usage(format!(
            "unknown command `{other}`: there is exec"
        ))),
    }
}

fn fail(error: &Error) -> ExitCode {
    eprintln!("mana model: error: {error}");
    ExitCode::from(error.exit_code())
}
