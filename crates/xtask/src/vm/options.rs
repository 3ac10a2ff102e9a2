//! The command line of `cargo xtask vm`.

use std::path::PathBuf;
use std::time::Duration;

pub const USAGE: &str = "\
usage: cargo xtask vm [OPTIONS] (--shell | -- COMMAND...)
  --kernel 6.12|7.x    Debian 13's kernel, or the newest of its backports [6.12]
  --vdev TEXT          the device, as for `mana testpmd` [model0, two ports, a pair]
  --no-device          none
  --no-modules         the drivers are there, but not loaded
  --dpdk               DPDK's programs are there
  --file PATH=PLACE    a file of this machine, at PLACE in the guest (repeats)
  --hugepages N        of 2 MiB [64]
  --memory N           MiB [1024]
  --excuse FUNCTION    whose warnings are no complaints of the kernel (repeats)
  --seconds N          how long all of it may take, but for --shell [60]
  --accel kvm|tcg      [KVM where it works]
  --mana PATH          the program, instead of building it";

/// How long a guest may take that nobody sits at.
const LIMIT: Duration = Duration::from_secs(60);

/// Which kernel of Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    V6_12,
    V7,
}

impl Kernel {
    /// Both.
    pub const ALL: [Kernel; 2] = [Kernel::V6_12, Kernel::V7];

    /// Its name to the user.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::V6_12 => "6.12",
            Kernel::V7 => "7.x",
        }
    }
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub kernel: Kernel,
    /// The device's text; none for a guest without one.
    pub device: Option<String>,
    pub modules: bool,
    pub dpdk: bool,
    /// Files, and their places in the guest.
    pub files: Vec<(PathBuf, String)>,
    pub hugepages: u32,
    /// MiB.
    pub memory: u32,
    /// Functions of the kernel whose warnings are no complaints.
    pub excused: Vec<String>,
    pub limit: Duration,
    pub accel: Option<Accel>,
    pub mana: Option<PathBuf>,
    /// The command's words; none for a prompt.
    pub command: Option<Vec<String>>,
}

impl Options {
    /// Reads the words behind `vm`.
    pub fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Options, String> {
        let mut options = Options {
            kernel: Kernel::V6_12,
            device: Some("model0,ports=2,link=pair".to_owned()),
            modules: true,
            dpdk: false,
            files: Vec::new(),
            hugepages: 64,
            memory: 1024,
            excused: Vec::new(),
            limit: LIMIT,
            accel: None,
            mana: None,
            command: None,
        };
        let mut shell = false;
        while let Some(word) = words.next() {
            let (name, inline) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word, None),
            };
            let mut value = || {
                inline
                    .or_else(|| words.next())
                    .ok_or_else(|| wrong(format!("{name} needs a value")))
            };
            match name {
                "--kernel" => {
                    options.kernel = match value()? {
                        "6.12" => Kernel::V6_12,
                        text if text == "7" || text.starts_with("7.") => Kernel::V7,
                        other => {
                            return Err(wrong(format!("--kernel {other}: there are 6.12 and 7.x")));
                        }
                    }
                }
                "--vdev" => options.device = Some(value()?.to_owned()),
                "--no-device" => options.device = None,
                "--no-modules" => options.modules = false,
                "--dpdk" => options.dpdk = true,
                "--file" => {
                    let value = value()?;
                    let (path, place) = value
                        .split_once('=')
                        .ok_or_else(|| wrong(format!("--file {value}: expected PATH=PLACE")))?;
                    options.files.push((PathBuf::from(path), place.to_owned()));
                }
                "--hugepages" => options.hugepages = number(name, value()?)?,
                "--memory" => options.memory = number(name, value()?)?,
                "--excuse" => options.excused.push(value()?.to_owned()),
                "--seconds" => options.limit = Duration::from_secs(number(name, value()?)?.into()),
                "--accel" => {
                    options.accel = Some(match value()? {
                        "kvm" => Accel::Kvm,
                        "tcg" => Accel::Tcg,
                        other => {
                            return Err(wrong(format!("--accel {other}: there are kvm and tcg")));
                        }
                    });
                }
                "--mana" => options.mana = Some(PathBuf::from(value()?)),
                "--shell" => shell = true,
                "--" => {
                    options.command = Some(words.by_ref().map(str::to_owned).collect());
                    break;
                }
                _ => return Err(wrong(format!("unknown argument `{word}`"))),
            }
        }
        match (&options.command, shell) {
            (None, true) => Ok(options),
            (Some(command), false) if !command.is_empty() => Ok(options),
            (Some(_), true) => Err(wrong("--shell and a command exclude each other".to_owned())),
            _ => Err(wrong(
                "expected --shell or a command behind `--`".to_owned(),
            )),
        }
    }
}

fn number(name: &str, text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_| wrong(format!("{name} {text}: expected a number")))
}

fn wrong(text: String) -> String {
    format!("{text}\n{USAGE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, String> {
        Options::parse(words.iter().copied())
    }

    #[test]
    fn a_command_stands_behind_the_separator() {
        let options = parse(&[
            "--kernel",
            "7.x",
            "--excuse=f",
            "--file=a=/b",
            "--seconds",
            "90",
            "--",
            "uname",
            "--kernel",
        ]);
        let options = options.unwrap();
        assert_eq!(options.kernel, Kernel::V7);
        assert_eq!(options.files, [(PathBuf::from("a"), "/b".to_owned())]);
        assert_eq!(options.excused, ["f"]);
        assert_eq!(options.limit, Duration::from_secs(90));
        assert_eq!(options.command.unwrap(), ["uname", "--kernel"]);
    }

    #[test]
    fn a_prompt_has_no_command() {
        let options = parse(&["--shell", "--no-device"]).unwrap();
        assert_eq!((options.command, options.device), (None, None));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for words in [
            &[][..],
            &["--"],
            &["--shell", "--", "true"],
            &["--kernel", "5.10", "--shell"],
            &["--kernel"],
            &["--seconds", "long", "--shell"],
            &["--file", "x", "--shell"],
            &["--accel=xen", "--shell"],
            &["true"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}
