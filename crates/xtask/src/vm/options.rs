//! The command line of `cargo xtask vm`.

use std::path::{Path, PathBuf};
use std::time::Duration;

pub const USAGE: &str = "\
usage: cargo xtask vm [OPTIONS] (--shell | -- COMMAND...)
  --kernel KERNEL      6.12: Debian 13's, 7.x: the newest of its backports, 6.1: Debian 12's;
                       the name of any suite of Debian, for its kernel for clouds; or the path of
                       a folder (./DIR) with boot/vmlinuz-RELEASE and lib/modules/RELEASE,
                       as `dpkg-deb -x` or `make modules_install` leave it [6.12]
  --vdev TEXT          the device, as for `mana testpmd` [model0, two ports, a pair]
  --socket PATH        the device that another program serves there over vfio-user, instead
  --no-device          none
  --no-modules         the drivers are there, but not loaded
  --dpdk               DPDK's programs are there
  --file PATH=PLACE    a file of this machine, at PLACE in the guest (repeats)
  --hugepages N        of 2 MiB [64]
  --memory N           MiB [1024]
  --resets             the device will ask for resets: what Linux 7 then warns of is no complaint
  --seconds N          how long all of it may take, but for --shell [60]
  --accel kvm|tcg      [KVM where it works]
  --mana PATH          the program, instead of building it
  --help               this text
The command's output and exit status are this program's; 125 where there is none. ARCHITECTURE.md,
section \"A guest\", tells what a guest has.";

/// How long a guest may take that nobody sits at.
const LIMIT: Duration = Duration::from_secs(60);

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    V6_12,
    V7,
    /// The one for clouds of a suite of Debian.
    Suite(&'static str),
    /// One that somebody has unpacked or installed in this folder.
    Tree(&'static Path),
}

impl Kernel {
    /// Those that the tests run on.
    pub const ALL: [Kernel; 2] = [Kernel::V6_12, Kernel::V7];
    /// Debian 12's, 6.1: what is no kernel of the tests' is tried on it.
    pub const THIRD: Kernel = Kernel::Suite("bookworm");

    /// Its name to the user.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::V6_12 => "6.12",
            Kernel::V7 => "7.x",
            Kernel::Suite(suite) => suite,
            Kernel::Tree(_) => "a folder's",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        // Names that live as long as the process, which reads one command line.
        let kept = || &*String::leak(text.to_owned());
        let suite = |text: &str| {
            let known = |letter: u8| letter.is_ascii_lowercase() || letter == b'-';
            text.bytes().all(known) && text.starts_with(|first: char| first.is_ascii_lowercase())
        };
        match text {
            "6.12" => Ok(Kernel::V6_12),
            "6.1" => Ok(Kernel::THIRD),
            _ if text == "7" || text.starts_with("7.") => Ok(Kernel::V7),
            _ if text.contains('/') => Ok(Kernel::Tree(Path::new(kept()))),
            _ if suite(text) => Ok(Kernel::Suite(kept())),
            _ => Err(wrong(format!(
                "--kernel {text}: there are 6.12, 7.x, 6.1, suites of Debian, and folders (./DIR)"
            ))),
        }
    }
}

/// Who executes the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// Where the device comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// `mana model serve`, started with this text.
    Model(String),
    /// Whoever listens at this socket.
    Socket(PathBuf),
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    pub kernel: Kernel,
    /// The device; none for a guest without one.
    pub device: Option<Device>,
    pub modules: bool,
    pub dpdk: bool,
    /// Files, and their places in the guest.
    pub files: Vec<(PathBuf, String)>,
    pub hugepages: u32,
    /// MiB.
    pub memory: u32,
    /// Whether the device will ask for resets.
    pub resets: bool,
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
            device: Some(Device::Model("model0,ports=2,link=pair".to_owned())),
            modules: true,
            dpdk: false,
            files: Vec::new(),
            hugepages: 64,
            memory: 1024,
            resets: false,
            limit: LIMIT,
            accel: None,
            mana: None,
            command: None,
        };
        let mut shell = false;
        let mut named: Option<&str> = None;
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
                "--kernel" => options.kernel = Kernel::parse(value()?)?,
                "--vdev" | "--socket" | "--no-device" => {
                    if let Some(other) = named.filter(|other| *other != name) {
                        return Err(wrong(format!("{name} and {other} exclude each other")));
                    }
                    named = Some(name);
                    options.device = match name {
                        "--vdev" => Some(Device::Model(value()?.to_owned())),
                        "--socket" => Some(Device::Socket(PathBuf::from(value()?))),
                        _ => None,
                    };
                }
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
                "--resets" => options.resets = true,
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
            "--resets",
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
        assert!(options.resets);
        assert_eq!(options.limit, Duration::from_secs(90));
        assert_eq!(options.command.unwrap(), ["uname", "--kernel"]);
    }

    #[test]
    fn a_prompt_has_no_command() {
        let options = parse(&["--shell", "--no-device"]).unwrap();
        assert_eq!((options.command, options.device), (None, None));
    }

    #[test]
    fn kernels_are_named_by_version_suite_or_folder() {
        let kernel = |text: &str| parse(&["--shell", "--kernel", text]).unwrap().kernel;
        for (text, expected) in [
            ("6.12", Kernel::V6_12),
            ("7.3", Kernel::V7),
            ("6.1", Kernel::Suite("bookworm")),
            ("bookworm-backports", Kernel::Suite("bookworm-backports")),
            ("./linux", Kernel::Tree(Path::new("./linux"))),
        ] {
            assert_eq!(kernel(text), expected);
        }
    }

    #[test]
    fn a_device_is_served_here_or_by_somebody_else() {
        let device = |words: &[&str]| parse(words).unwrap().device;
        let model = Device::Model("model0".to_owned());
        assert_eq!(device(&["--shell", "--vdev", "model0"]), Some(model));
        let socket = Device::Socket(PathBuf::from("/run/s"));
        assert_eq!(device(&["--socket=/run/s", "--shell"]), Some(socket));
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for words in [
            &[][..],
            &["--"],
            &["--shell", "--", "true"],
            &["--kernel", "5.10", "--shell"],
            &["--kernel", "", "--shell"],
            &["--socket", "/s", "--vdev", "model0", "--shell"],
            &["--no-device", "--socket", "/s", "--shell"],
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
