//! The command line of `mana conformance`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use conformance::{Needs, Suite, suites};
use mana_model::{DeviceConfig, DoorbellMode, LinkConfig, ModelConfig, parse_device};
use mana_pmd::{ProviderChoice, Selector};

use super::error::Error;
use super::served;

/// What `--suite` calls those that must hold on a real kernel.
const KERNEL: &str = "kernel";

/// Run the conformance suites over the device model or a port of this machine
///
/// Each suite runs in a process of its own and proves what `--list` says of it. On a model all of
/// them run. On a port of this machine those that look into the device are skipped, and what is
/// behind the port decides about the others:
///
///   nothing needed      smoke, send_only, restart: packets are sent from the port's own address to
///                       itself; whether they arrive anywhere does not matter
///
///   a wire that loops   loopback, ring_laps, tx_multi_segment, rx_wakeup: every frame must come back
///                       once and unchanged, in order, and nothing else. Say --wire=loop
///
/// The exit code is 0 where every suite passed that could run, 1 if one failed, 2 for a wrong command
/// line, 3 if no suite failed but the model has findings.
#[derive(clap::Args)]
pub struct Args {
    /// Port of this machine: PCI address, mac=, netdev=, ibdev=, as for `mana testpmd`; it must name
    /// one port, whose netdev is DOWN
    #[arg(short = 'a', long = "allow", value_name = "DEVICE")]
    pub device: Option<String>,
    /// Device model, as for `mana testpmd` but without link=: each suite chooses what is behind the
    /// port under test, which is the first [default: model0]
    #[arg(long, value_name = "MODEL", conflicts_with = "device")]
    pub vdev: Option<String>,
    /// auto, rdma-core or uverbs. rdma-core on a model runs over the preloaded model, as by
    /// `mana model exec`, and the real libibverbs and libmana
    #[arg(long, value_name = "PROVIDER", default_value = "auto")]
    pub provider: ProviderChoice,
    /// Run the model preloaded with any provider
    #[arg(long, conflicts_with = "device")]
    pub preload: bool,
    /// What is behind a port of this machine
    #[arg(long, value_enum, default_value = "none")]
    pub wire: Wire,
    /// Only this suite; repeats. `kernel` stands for those that must hold on a real kernel
    #[arg(long = "suite", value_name = "NAME")]
    pub suites: Vec<String>,
    /// List the suites and what they prove, and run nothing
    #[arg(long)]
    pub list: bool,
    /// Run no suite, but record what comes of every operation at the uverbs node, right or wrong: a
    /// line each. The device needs two ports, whose netdevs are DOWN, and goes away for a moment
    #[arg(long, conflicts_with_all = ["list", "json", "tap", "suites"])]
    pub rulebook: bool,
    /// This is root, and suites may set the netdevs of the device UP and DOWN and take its driver away
    #[arg(long, requires = "device")]
    pub steer: bool,
    /// What is behind the port is a model that `mana model serve` serves: its control socket, or the
    /// serial port of a virtual machine that leads to it. Suites look into it and put behind the port
    /// what they need; --steer and --wire=loop are implied
    #[arg(
        long,
        value_name = "PATH",
        requires = "device",
        conflicts_with = "rulebook"
    )]
    pub control: Option<PathBuf>,
    /// Seconds after which a suite counts as hanging
    #[arg(long, value_name = "SECONDS", default_value = "120")]
    pub timeout: u64,
    /// Write one JSON object at the end
    #[arg(long, conflicts_with = "tap")]
    pub json: bool,
    /// Write TAP version 13
    #[arg(long)]
    pub tap: bool,
    /// Be the process of one suite
    #[arg(long, hide = true)]
    pub inside: bool,
    /// Steer the preloaded model by this socket
    #[arg(long, hide = true)]
    pub socket: Option<PathBuf>,
}

/// What is behind a port of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wire {
    /// Nothing is known to come back
    None,
    /// Every frame comes back once, unchanged and in order, and nothing else
    Loop,
}

/// What suites run on.
pub enum Target {
    /// A model whose first port is under test.
    Model {
        device: Box<DeviceConfig>,
        /// Whether it stands in the kernel's place, and not in this process.
        preloaded: bool,
    },
    /// A port of this machine.
    Hardware {
        selector: Selector,
        wire: Wire,
        /// Whether the machine may be steered.
        steer: bool,
        /// Where the model is steered that serves the device.
        control: Option<PathBuf>,
        /// What that device is, where suites are chosen.
        served: Option<Box<DeviceConfig>>,
    },
}

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Table,
    Tap,
    Json,
}

/// What is asked for.
pub struct Options {
    pub target: Target,
    pub provider: ProviderChoice,
    pub suites: Vec<&'static Suite>,
    pub timeout: Duration,
    pub format: Format,
}

impl Options {
    /// Checks the arguments against each other.
    pub fn new(args: &Args) -> Result<Self, Error> {
        let mut provider = args.provider;
        let target = match &args.device {
            Some(text) => {
                let selector = hardware(text, &mut provider)?;
                Target::Hardware {
                    selector,
                    wire: match args.control {
                        Some(_) => Wire::Loop,
                        None => args.wire,
                    },
                    steer: args.steer || args.control.is_some(),
                    control: args.control.clone(),
                    served: match &args.control {
                        Some(path) if !args.inside => Some(Box::new(served::device(path)?)),
                        _ => None,
                    },
                }
            }
            None if args.wire == Wire::Loop => {
                let text = "--wire tells what is behind a port of this machine (-a); behind a \
                            model's each suite puts what it needs";
                return Err(Error::Usage(text.to_owned()));
            }
            None => Target::Model {
                device: Box::new(model(args)?),
                preloaded: args.preload || provider == ProviderChoice::RdmaCore,
            },
        };
        let format = match (args.json, args.tap) {
            (true, _) => Format::Json,
            (_, true) => Format::Tap,
            _ => Format::Table,
        };
        Ok(Self {
            target,
            provider,
            suites: suites(&args.suites)?,
            timeout: Duration::from_secs(args.timeout),
            format,
        })
    }

    /// Why a suite can't run on the target, if it can't.
    pub fn in_the_way(&self, suite: &Suite) -> Option<&'static str> {
        let Target::Hardware {
            wire,
            steer,
            served,
            ..
        } = &self.target
        else {
            return None;
        };
        match (suite.needs, wire) {
            (Needs::Port, _) => None,
            (Needs::Loop | Needs::Steering, Wire::None) => {
                Some("needs a wire that brings back every frame: --wire=loop")
            }
            (Needs::Steering, _) if !steer => {
                Some("needs a machine whose netdevs and driver it may steer: --steer")
            }
            (Needs::Loop, Wire::Loop) => None,
            (Needs::Steering | Needs::Model | Needs::Neighbour, _) => {
                served::in_the_way(suite, served.as_deref())
            }
        }
    }
}

fn hardware(text: &str, provider: &mut ProviderChoice) -> Result<Selector, Error> {
    if text.starts_with("model") {
        let fix = format!("-a {text}: a model is given by --vdev={text}");
        return Err(Error::Usage(fix));
    }
    let mut selector: Selector = text
        .parse()
        .map_err(|error| Error::Usage(format!("-a {text}: {error}")))?;
    match (*provider, selector.provider) {
        (_, ProviderChoice::Auto) => selector.provider = *provider,
        (ProviderChoice::Auto, named) => *provider = named,
        (asked, named) if asked == named => {}
        (asked, named) => {
            let text = format!("-a {text}: provider={named}, and --provider={asked}");
            return Err(Error::Usage(text));
        }
    }
    Ok(selector)
}

fn model(args: &Args) -> Result<DeviceConfig, Error> {
    let text = args.vdev.as_deref().unwrap_or("model0");
    let device = parse_device(text)?;
    if device.ports.first().map(|port| &port.link) != Some(&LinkConfig::Loop) {
        let text = format!(
            "--vdev={text}: each suite chooses what is behind the first port; leave link= out"
        );
        return Err(Error::Usage(text));
    }
    let machine = ModelConfig {
        devices: vec![device],
        doorbells: DoorbellMode::Stepped,
    };
    machine.check()?;
    Ok(machine.devices.into_iter().next().unwrap_or_default())
}

/// The suites of these names, all without one, in the order in which they are listed.
pub fn suites(names: &[String]) -> Result<Vec<&'static Suite>, Error> {
    for name in names {
        if name != KERNEL && suites::find(name).is_none() {
            let known: Vec<&str> = suites::ALL.iter().map(|suite| suite.name).collect();
            let list = known.join(", ");
            return Err(Error::Usage(format!(
                "there is no suite `{name}`; there are {list}, and `{KERNEL}` for those of a real \
                 kernel"
            )));
        }
    }
    let kernel = suites::kernel();
    let asked = |suite: &&Suite| {
        let named =
            |name: &String| name == suite.name || name == KERNEL && kernel.contains(&suite.name);
        names.is_empty() || names.iter().any(named)
    };
    Ok(suites::ALL.iter().filter(asked).collect())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn options(line: &str) -> Result<Options, String> {
        let words = std::iter::once("conformance").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        Options::new(&line.args).map_err(|error| error.to_string())
    }

    fn skipped(line: &str) -> Vec<&'static str> {
        let options = options(line).unwrap();
        let skipped = |suite: &&&Suite| options.in_the_way(suite).is_some();
        let suites = options.suites.iter().filter(skipped);
        suites.map(|suite| suite.name).collect()
    }

    #[test]
    fn without_a_device_all_suites_run_on_a_model() {
        let options = options("").unwrap();
        assert!(matches!(
            options.target,
            Target::Model {
                preloaded: false,
                ..
            }
        ));
        assert_eq!(options.suites.len(), suites::ALL.len());
        assert_eq!(skipped(""), [""; 0]);
        assert_eq!(skipped("--provider=rdma-core"), [""; 0]);
    }

    #[test]
    fn on_hardware_only_what_wire_and_port_allow_runs() {
        let of = |needs: &[Needs]| -> Vec<&str> {
            let suites = suites::ALL.iter().filter(|s| !needs.contains(&s.needs));
            suites.map(|suite| suite.name).collect()
        };
        let port = skipped("-a 7870:00:00.0");
        assert_eq!(port, of(&[Needs::Port]));
        assert!(!port.contains(&"smoke") && !port.contains(&"send_only"));
        let wired = skipped("-a 7870:00:00.0 --wire=loop");
        assert_eq!(wired, of(&[Needs::Port, Needs::Loop]));
        assert!(wired.contains(&"rss") && !wired.contains(&"loopback"));
    }

    #[test]
    fn the_libraries_need_the_preloaded_model() {
        for line in ["--provider rdma-core", "--preload --provider uverbs"] {
            let target = options(line).unwrap().target;
            assert!(matches!(
                target,
                Target::Model {
                    preloaded: true,
                    ..
                }
            ));
        }
    }

    #[test]
    fn the_help_text_names_the_suites_of_each_wire() {
        let help = <Line as clap::CommandFactory>::command()
            .render_long_help()
            .to_string();
        for suite in suites::ALL
            .iter()
            .filter(|s| matches!(s.needs, Needs::Port | Needs::Loop))
        {
            assert!(help.contains(suite.name), "{}", suite.name);
        }
    }

    #[test]
    fn wrong_lines_say_what_is_expected() {
        for (line, part) in [
            ("--suite=smoky", "smoke, send_only, loopback"),
            ("--vdev=modl0", "modelN"),
            ("--vdev=model0,link=gen", "leave link= out"),
            ("--vdev=model0,coalescing=9", "1 to 8"),
            ("-a model0", "--vdev=model0"),
            ("-a x", "-a x"),
            (
                "-a 7870:00:00.0,provider=uverbs --provider rdma-core",
                "provider=uverbs",
            ),
            ("--wire=loop", "-a"),
            ("-a 7870:00:00.0 --vdev=model0", "cannot be used with"),
            ("--json --tap", "cannot be used with"),
            ("--provider=dpdk", "auto, rdma-core and uverbs"),
        ] {
            let message = options(line).err().unwrap_or_default();
            assert!(message.contains(part), "{line}: {message}");
        }
    }
}
