//! The options left of `--`: cores, devices and memory.

use tracing::level_filters::LevelFilter;

use super::cores::{parse_list, parse_mask};
use super::getopt::{Given, UsageError};
use super::options::{EAL, EalOption};
use crate::telemetry;

/// What was asked for left of `--`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EalArgs {
    /// Cores in ascending order; `None` for all of the machine.
    pub cores: Option<Vec<u32>>,
    /// The main core, if not the first.
    pub main_core: Option<u32>,
    /// Devices in the order given (`-a`, `--vdev`).
    pub devices: Vec<String>,
    /// Devices to be left out (`-b`).
    pub blocked: Vec<String>,
    /// `--no-huge`.
    pub no_huge: bool,
    /// Level of the log on standard error; `None` for warnings.
    pub log_level: Option<LevelFilter>,
    /// `--file-prefix`, `--no-telemetry`, `--metrics`.
    pub telemetry: telemetry::Options,
    /// `-v`.
    pub version: bool,
    /// `--help`.
    pub help: bool,
    /// One line for each option that means nothing here.
    pub notes: Vec<String>,
}

impl EalArgs {
    /// Reads the words left of `--`.
    ///
    /// # Errors
    ///
    /// For unknown options and values out of their form.
    pub fn parse(words: &[String]) -> Result<EalArgs, UsageError> {
        let mut args = EalArgs::default();
        for given in EAL.parse(words)? {
            args.take(&given)?;
        }
        Ok(args)
    }

    fn take(&mut self, given: &Given<EalOption>) -> Result<(), UsageError> {
        match given.id {
            EalOption::Lcores | EalOption::CoreMask => {
                let parsed = match given.id {
                    EalOption::Lcores => parse_list(&given.value),
                    _ => parse_mask(&given.value),
                };
                let cores = parsed.map_err(|expected| bad(given, expected))?;
                if self.cores.replace(cores).is_some() {
                    return Err(UsageError::Conflict(
                        "cores are given twice: use one of -l, --lcores and -c, once".to_owned(),
                    ));
                }
            }
            EalOption::MainLcore => {
                let core = given.value.parse();
                self.main_core = Some(core.map_err(|_| bad(given, "expected a core number"))?);
            }
            EalOption::Allow => self.devices.push(given.value.clone()),
            EalOption::Block => self.blocked.push(given.value.clone()),
            EalOption::NoHuge => self.no_huge = true,
            EalOption::InMemory => {}
            EalOption::LogLevel => {
                let level = parse_log_level(&given.value).ok_or_else(|| {
                    bad(
                        given,
                        "expected [TYPE:]LEVEL with a level of 1-8, emergency, alert, critical, \
                         error, warning, notice, info or debug",
                    )
                })?;
                self.log_level = self.log_level.max(Some(level));
            }
            EalOption::FilePrefix => {
                if matches!(given.value.as_str(), "" | "." | "..") || given.value.contains('/') {
                    return Err(bad(given, "expected the name of a folder"));
                }
                self.telemetry.file_prefix.clone_from(&given.value);
            }
            EalOption::Telemetry => self.telemetry.socket = true,
            EalOption::NoTelemetry => self.telemetry.socket = false,
            EalOption::Metrics => {
                let port = || {
                    given
                        .value
                        .parse()
                        .map(|port| ([127, 0, 0, 1], port).into())
                };
                let address = given.value.parse().or_else(|_| port());
                self.telemetry.metrics = Some(address.map_err(|_| {
                    bad(
                        given,
                        "expected PORT or ADDRESS:PORT, as in 127.0.0.1:9876 or [::1]:9876",
                    )
                })?);
            }
            EalOption::Version => self.version = true,
            EalOption::Help => self.help = true,
            EalOption::Meaningless => self.notes.push(note(&given.option, given.help)),
        }
        Ok(())
    }
}

/// The line that is printed for an option without meaning here.
pub fn note(option: &str, reason: &str) -> String {
    format!("option {option} has no meaning here: {reason}")
}

fn bad(given: &Given<EalOption>, expected: impl Into<String>) -> UsageError {
    UsageError::BadValue {
        option: given.option.clone(),
        value: given.value.clone(),
        expected: expected.into(),
    }
}

/// DPDK's eight syslog levels, by number or name, as this program's five. The type before the colon
/// is accepted and ignored: there is one level for the whole program.
fn parse_log_level(text: &str) -> Option<LevelFilter> {
    let level = text.rsplit([':', ',']).next().unwrap_or(text);
    Some(match level {
        "1" | "emergency" | "2" | "alert" | "3" | "critical" | "4" | "error" => LevelFilter::ERROR,
        "5" | "warning" => LevelFilter::WARN,
        "6" | "notice" | "7" | "info" => LevelFilter::INFO,
        "8" | "debug" => LevelFilter::TRACE,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<EalArgs, UsageError> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        EalArgs::parse(&words)
    }

    #[test]
    fn azures_lines_read_as_cores_and_a_device() {
        let args = parse("-l 1-3 --vdev=7870:00:00.0,mac=00:0d:3a:76:3b:d0").unwrap();
        assert_eq!(args.cores, Some(vec![1, 2, 3]));
        assert_eq!(args.devices, ["7870:00:00.0,mac=00:0d:3a:76:3b:d0"]);
        assert!(args.notes.is_empty());
    }

    #[test]
    fn devices_repeat_in_order_under_each_of_their_names() {
        let args = parse("-a a --vdev b --allow=c -b d --block e").unwrap();
        assert_eq!(args.devices, ["a", "b", "c"]);
        assert_eq!(args.blocked, ["d", "e"]);
    }

    #[test]
    fn an_option_without_meaning_is_accepted_with_one_line_that_says_so() {
        let args = parse("-n 4 --file-prefix x -l1-2 --proc-type=primary -m 512").unwrap();
        assert_eq!(args.notes.len(), 3);
        assert_eq!(
            args.notes[0],
            "option -n has no meaning here: memory channels are the memory controller's business"
        );
    }

    #[test]
    fn log_levels_are_dpdks_numbers_and_names() {
        assert_eq!(parse("").unwrap().log_level, None);
        for (line, level) in [
            ("--log-level=4", LevelFilter::ERROR),
            ("--log-level lib.eal:debug", LevelFilter::TRACE),
            (
                "--log-level=pmd.net.mana:info --log-level=lib.*:3",
                LevelFilter::INFO,
            ),
        ] {
            assert_eq!(parse(line).unwrap().log_level, Some(level), "{line}");
        }
        assert!(parse("--log-level=loud").is_err());
    }

    #[test]
    fn telemetry_is_served_under_rte_unless_told_otherwise_and_metrics_on_loopback() {
        assert_eq!(parse("").unwrap().telemetry, telemetry::Options::default());
        let line = "--no-telemetry --file-prefix=x --metrics 9876";
        let told = parse(line).unwrap().telemetry;
        assert_eq!((told.socket, told.file_prefix.as_str()), (false, "x"));
        assert_eq!(told.metrics, Some(([127, 0, 0, 1], 9876).into()));
        let told = parse("--metrics=[::1]:1").unwrap().telemetry;
        assert_eq!(told.metrics, Some("[::1]:1".parse().unwrap()));
        for line in [
            "--metrics=x",
            "--metrics=:1",
            "--metrics=70000",
            "--file-prefix=../x",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn cores_given_twice_or_with_a_mapping_are_refused() {
        assert!(matches!(parse("-l 1 -c 2"), Err(UsageError::Conflict(_))));
        let error = parse("--lcores=(0-2)@1").unwrap_err().to_string();
        assert!(error.contains("only plain core lists"), "{error}");
    }
}
