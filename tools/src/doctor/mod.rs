//! `mana doctor`: why a port does not start, one line a check, and what mends it.
//!
//! `tree` reads files of this machine or of another below a folder; `machine` makes functions,
//! interfaces, ib devices and ports of them; `checks` judge; `explain` has the long form of each
//! check and knows the lines of logs; `bundle` packs what support would ask for. Nothing here
//! changes anything.

mod bundle;
pub mod checks;
pub mod explain;
pub mod machine;
mod redact;
pub mod report;
#[cfg(test)]
mod tests;
pub mod tree;
#[cfg(test)]
pub mod trees;

use std::io::{self, BufReader, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use checks::Asked;
use machine::{Machine, Wanted};
use report::Report;
use tree::Tree;

/// Say why a MANA port does not start, and what mends it
#[derive(clap::Args)]
#[command(
    after_help = "Exits 0 where all is well, 1 with a warning, 2 where no port would start, \
                          3 where the checks could not be run."
)]
pub struct Args {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// The port that is asked about: its MAC, an interface, or a PCI address
    #[arg(long, value_name = "MAC|NETDEV|BDF")]
    port: Option<String>,
    /// The cores that are to poll, as in `mana testpmd -l`: 1-3,5
    #[arg(long, value_name = "LIST")]
    cores: Option<String>,
    /// Read /sys, /proc, /dev, /etc and /usr below DIR; nothing is loaded or opened as a device
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Say more of a check; without NAME, of the known lines of a log on the standard input
    #[arg(long, value_name = "NAME", num_args = 0..=1, conflicts_with_all = ["json", "bundle"])]
    explain: Option<Option<String>>,
    /// Write what support would ask for: the report and the files it was made from
    #[arg(long, value_name = "FILE.tar.gz")]
    bundle: Option<PathBuf>,
    /// Leave addresses and names in the bundle as they are
    #[arg(long, requires = "bundle")]
    keep_names: bool,
}

/// The checks could not be run.
const TROUBLE: u8 = 3;

/// Runs `mana doctor`.
pub fn main(args: &Args) -> ExitCode {
    match run(args) {
        Ok(code) => ExitCode::from(code),
        // Whoever reads the output has seen enough.
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::from(TROUBLE)
        }
        Err(error) => {
            eprintln!("mana doctor: error: {error}");
            ExitCode::from(TROUBLE)
        }
    }
}

/// Why the checks could not be run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("--root={}: {cause}; give a folder that holds sys, proc, dev and etc", .path.display())]
    Root { path: PathBuf, cause: io::Error },
    #[error("--cores={text}: expected numbers and ranges, such as 1-3,5")]
    Cores { text: String },
    #[error("there is no check or topic `{name}`{}; `mana doctor --explain list` names all", Meant(.meant))]
    Topic {
        name: String,
        meant: Option<&'static str>,
    },
    #[error("the log can't be read: {0}")]
    Log(io::Error),
    #[error("{}: {cause}", .path.display())]
    Bundle { path: PathBuf, cause: io::Error },
    #[error("the report can't be written: {0}")]
    Output(#[from] io::Error),
}

struct Meant<'a>(&'a Option<&'static str>);

impl std::fmt::Display for Meant<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(name) => write!(f, ", did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

fn run(args: &Args) -> Result<u8, Error> {
    let mut out = io::stdout().lock();
    if let Some(name) = &args.explain {
        return explain(&mut out, name.as_deref());
    }
    let cores = args
        .cores
        .as_ref()
        .map(|text| checks::cores(text).ok_or_else(|| Error::Cores { text: text.clone() }));
    let asked = Asked {
        cores: cores.transpose()?.unwrap_or_default(),
    };
    let tree = match &args.root {
        None => Tree::live(),
        Some(path) => Tree::below(path).map_err(|cause| Error::Root {
            path: path.clone(),
            cause,
        })?,
    };
    let wanted = args.port.as_deref().map(Wanted::parse);
    let machine = Machine::read(tree, args.root.is_none(), wanted);
    let report = Report {
        checks: checks::all(&machine, &asked),
    };
    if let Some(path) = &args.bundle {
        bundle::write(path, &machine, &report, args.keep_names).map_err(|cause| Error::Bundle {
            path: path.clone(),
            cause,
        })?;
    }
    match args.json {
        true => {
            serde_json::to_writer(&mut out, &report).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        false => write!(out, "{report}")?,
    }
    Ok(report.exit_code())
}

fn explain(out: &mut impl Write, name: Option<&str>) -> Result<u8, Error> {
    match name {
        None => {
            let log = BufReader::with_capacity(1 << 16, io::stdin().lock());
            let known = explain::write_log(out, log).map_err(Error::Log)?;
            if known == 0 {
                writeln!(
                    out,
                    "no line of this log is known; `mana doctor` looks at the machine"
                )?;
            }
        }
        Some("list") => {
            for topic in explain::TOPICS {
                writeln!(out, "{:<18}{}", topic.name, topic.title)?;
            }
        }
        Some(name) => {
            let topic = explain::topic(name).ok_or_else(|| Error::Topic {
                name: name.to_owned(),
                meant: explain::nearest(name),
            })?;
            explain::write(out, topic)?;
        }
    }
    Ok(0)
}
