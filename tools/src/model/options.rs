//! The command line of `mana model exec`.

use std::path::PathBuf;

use mana_model::{DoorbellMode, LinkConfig, ModelConfig, parse_device};

use super::error::Error;

/// How the preloaded model sees doorbells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doorbell {
    /// Every store, as it happens.
    Trap,
    /// Plain memory, which is read in steps.
    Step,
    /// The first until the first step, then the second.
    TrapUntilStep,
}

impl Doorbell {
    const ALL: [Self; 3] = [Self::Trap, Self::Step, Self::TrapUntilStep];

    /// Its name, to users and to the library.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Step => "step",
            Self::TrapUntilStep => "trap-until-step",
        }
    }
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Options {
    /// The devices' texts, complete.
    pub devices: Vec<String>,
    /// How doorbells are seen.
    pub doorbell: Doorbell,
    /// Socket by which the model is steered.
    pub control: Option<PathBuf>,
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

impl Options {
    /// Reads the words behind `exec`.
    pub fn parse(words: &[String]) -> Result<Self, Error> {
        let mut devices: Vec<String> = Vec::new();
        let (mut driver_id, mut doorbell, mut control) = (None, Doorbell::Trap, None);
        let mut words = words.iter();
        let program = loop {
            let Some(word) = words.next() else {
                return Err(usage("expected `-- PROGRAM` behind the options"));
            };
            if word == "--" {
                break words.next();
            }
            if !word.starts_with("--") {
                return Err(usage(format!("`{word}`: put `--` before the program")));
            }
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, value.to_owned()),
                None => match words.next() {
                    Some(value) if value != "--" => (word.as_str(), value.clone()),
                    _ => return Err(usage(format!("{word} needs a value"))),
                },
            };
            match name {
                "--vdev" => devices.push(value),
                "--driver-id" => match value.parse::<u32>() {
                    Ok(id) => driver_id = Some(id),
                    Err(_) => return Err(usage(format!("--driver-id={value}: expected a number"))),
                },
                "--doorbell" => {
                    let known = Doorbell::ALL
                        .into_iter()
                        .find(|known| known.name() == value);
                    doorbell = known.ok_or_else(|| {
                        usage(format!(
                            "--doorbell={value}: expected trap, step or trap-until-step"
                        ))
                    })?;
                }
                "--control" => control = Some(PathBuf::from(value)),
                _ => {
                    return Err(usage(format!(
                        "unknown option {name}: there are --vdev, --driver-id, --doorbell and \
                         --control"
                    )));
                }
            }
        };
        let Some(program) = program.filter(|program| !program.is_empty()) else {
            return Err(usage("expected a program behind `--`"));
        };
        if devices.is_empty() {
            devices.push("model0".to_owned());
        }
        if let Some(id) = driver_id {
            for device in &mut devices {
                if !device.split(',').any(|part| part.starts_with("driver-id=")) {
                    device.push_str(&format!(",driver-id={id}"));
                }
            }
        }
        Ok(Self {
            devices,
            doorbell,
            control,
            program: program.clone(),
            arguments: words.cloned().collect(),
        })
    }

    /// The machine, for looking at: with nothing behind its ports, so that no file is opened and no
    /// tap is made twice.
    pub fn machine(&self) -> Result<ModelConfig, Error> {
        let mut config = ModelConfig {
            devices: self
                .devices
                .iter()
                .map(|text| parse_device(text))
                .collect::<Result<_, _>>()?,
            doorbells: DoorbellMode::Trapped,
        };
        config.check()?;
        for port in config
            .devices
            .iter_mut()
            .flat_map(|device| &mut device.ports)
        {
            port.link = LinkConfig::Sink { capture: false };
            port.capture = None;
        }
        Ok(config)
    }
}

fn usage(text: impl Into<String>) -> Error {
    Error::Usage(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    }

    #[test]
    fn everything_behind_the_separator_is_the_programs() {
        let options = parse("--vdev=model0,kernel=7.3 --vdev model1 -- prog -v -- x").unwrap();
        assert_eq!(options.devices, ["model0,kernel=7.3", "model1"]);
        assert_eq!(options.program, "prog");
        assert_eq!(options.arguments, ["-v", "--", "x"]);
        assert_eq!(options.doorbell, Doorbell::Trap);
    }

    #[test]
    fn without_a_device_there_is_one() {
        assert_eq!(parse("-- prog").unwrap().devices, ["model0"]);
    }

    #[test]
    fn the_driver_id_is_that_of_devices_without_their_own() {
        let options = parse("--driver-id 19 --vdev=model0 --vdev=model1,driver-id=20 -- p");
        assert_eq!(
            options.unwrap().devices,
            ["model0,driver-id=19", "model1,driver-id=20"]
        );
    }

    #[test]
    fn wrong_lines_say_what_is_expected() {
        for (line, text) in [
            ("", "-- PROGRAM"),
            ("--", "program behind"),
            ("prog", "put `--` before"),
            ("--vdev", "needs a value"),
            ("--vdev -- p", "needs a value"),
            ("--doorbell=poll -- p", "trap, step or"),
            ("--driver-id=x -- p", "a number"),
            ("--what=1 -- p", "--vdev"),
        ] {
            let message = parse(line).unwrap_err().to_string();
            assert!(message.contains(text), "{line}: {message}");
        }
    }
}
