//! The command line of the examples.

use std::fmt;
use std::time::Duration;

use super::Error;

/// What an example is and takes.
pub struct Options {
    /// Its name.
    pub name: &'static str,
    /// The device models it runs on when the command line names no device.
    pub models: &'static [&'static str],
    /// Options of its own: name without the dashes, and what it means.
    pub own: &'static [(&'static str, &'static str)],
}

/// What the command line said.
pub struct Arguments {
    /// `--vdev`, or the example's own choice.
    pub models: Vec<String>,
    /// Neither `--vdev` nor `-a` was given.
    pub demo: bool,
    /// `-a`.
    pub selectors: Vec<String>,
    /// `--duration`.
    pub duration: Option<Duration>,
    /// `--queues`.
    pub queues: usize,
    /// `--mbuf-size`.
    pub mbuf_size: Option<u32>,
    own: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Reads `--name=value`, `--name value` and `-a value`; `None` if help is asked for.
    pub fn parse(
        words: impl IntoIterator<Item = String>,
        options: &Options,
    ) -> Result<Option<Arguments>, Error> {
        let mut arguments = Arguments {
            models: Vec::new(),
            demo: false,
            selectors: Vec::new(),
            duration: None,
            queues: 1,
            mbuf_size: None,
            own: Vec::new(),
        };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            if ["-h", "--help"].contains(&name) {
                return Ok(None);
            }
            let mut value = || {
                let next = value.clone().or_else(|| words.next());
                next.ok_or_else(|| format!("{name} needs a value"))
            };
            let own = name.strip_prefix("--").and_then(|name| {
                let known = options.own.iter().find(|(own, _)| *own == name)?;
                Some(known.0)
            });
            match (name, own) {
                (_, Some(own)) => arguments.own.push((own, value()?)),
                ("--vdev", _) => arguments.models.push(value()?),
                ("-a", _) => arguments.selectors.push(value()?),
                ("--duration", _) => {
                    let seconds = number::<f64>(name, &value()?)?;
                    let duration = Duration::try_from_secs_f64(seconds);
                    arguments.duration =
                        Some(duration.map_err(|_| format!("{name}: {seconds} is no time to run"))?);
                }
                ("--queues", _) => arguments.queues = number(name, &value()?)?,
                ("--mbuf-size", _) => arguments.mbuf_size = Some(number(name, &value()?)?),
                _ => return Err(format!("`{name}` is no option of {}", options.name).into()),
            }
        }
        if !(1..=64).contains(&arguments.queues) {
            return Err(format!("--queues={}: a port has 1 to 64", arguments.queues).into());
        }
        match (arguments.models.is_empty(), arguments.selectors.is_empty()) {
            (true, true) => {
                arguments.demo = true;
                arguments.models = options.models.iter().map(|t| (*t).into()).collect();
            }
            (false, false) => return Err("give either models (--vdev) or devices (-a)".into()),
            _ => {}
        }
        Ok(Some(arguments))
    }

    /// The values of an option of the example's own, in order.
    pub fn own(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.own.iter().filter(move |(own, _)| *own == name);
        named.map(|(_, value)| value.as_str())
    }

    /// The last value of an option of the example's own, as a number.
    pub fn own_number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Error> {
        self.own(name)
            .last()
            .map(|text| number(&format!("--{name}"), text))
            .transpose()
    }
}

fn number<T: std::str::FromStr>(option: &str, text: &str) -> Result<T, Error> {
    text.parse()
        .map_err(|_| format!("{option}: `{text}` is no number that fits").into())
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "usage: {} [OPTION]...", self.name)?;
        writeln!(
            f,
            "  --vdev=MODEL       a device model (below); repeats; default:"
        )?;
        for model in self.models {
            writeln!(f, "                       --vdev={model}")?;
        }
        writeln!(
            f,
            "  -a SELECTOR        a port of this machine: PCI address, mac=, netdev=; repeats"
        )?;
        writeln!(
            f,
            "  --duration=SECONDS stop after this time; otherwise Ctrl-C stops"
        )?;
        writeln!(f, "  --queues=N         queues of each port (1)")?;
        write!(
            f,
            "  --mbuf-size=BYTES  a buffer, headroom of 128 included (2176)"
        )?;
        for (name, meaning) in self.own {
            write!(f, "\n  {:<18} {meaning}", format!("--{name}"))?;
        }
        write!(f, "\n\nMODEL:\n{}", mana_model::DEVICE_HELP.trim_end())
    }
}
