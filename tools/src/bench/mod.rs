//! `mana bench`: what a packet costs, side by side with DPDK's driver in C and with the least that is
//! possible.
//!
//! Every stack is a process of its own (`worker`, for the driver in C `tools/bench/c_pmd.c`) on the
//! same core with the same stepped model; `run` lets them measure in turn, round by round, and
//! `callgrind` counts their instructions. `points` says under which conditions; `stacks`, `tree` and
//! `compile` find what they run on. `results` is what came of it, written by `table`, as JSON, and
//! by `report` as a page with plots.

mod callgrind;
mod compile;
mod error;
mod hardware;
mod plan;
mod points;
mod process;
mod report;
mod results;
mod run;
mod stacks;
mod table;
mod tree;
mod worker;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use error::Error;
use run::Rounds;
use stacks::{Means, Stack};
use tree::Valgrind;

/// Measure what a packet costs this driver, beside DPDK's driver in C
///
/// All run on the same device model, in bursts, with the device stepped outside of what is timed. A
/// quick run measures the base point (burst 32, 60 bytes, ring 256) and some others; --full varies
/// everything. What is not there is skipped by name: nothing is fetched. `cargo xtask bench` fetches
/// Debian's DPDK, rdma-core and valgrind, and runs this.
///
/// The exit code is 0, 1 if something that is there could not be measured, 2 for a wrong command line.
#[derive(clap::Args)]
pub struct Args {
    /// Port of this machine, as for `mana testpmd`: `mana testpmd` and dpdk-testpmd, if there is one,
    /// send, receive and forward on it in turn. Its netdev is DOWN. Rates and cycles only; nothing is
    /// stepped
    #[arg(short = 'a', long = "allow", value_name = "DEVICE", conflicts_with_all = ["full", "stacks", "report", "axes"])]
    pub device: Option<String>,
    /// With -a: seconds of each run
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u32).range(1..3600))]
    pub duration: u32,
    /// With -a: cores that forward, with a queue each way for each
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub cores: usize,
    /// Folder with the unpacked packages of `cargo xtask fetch`: dpdk, dpdk-headers, valgrind
    #[arg(long, value_name = "FOLDER")]
    pub tree: Option<PathBuf>,
    /// Another DPDK with its libraries anywhere below: an unpacked package, or a prefix that it was
    /// installed to
    #[arg(long, value_name = "FOLDER")]
    pub dpdk: Option<PathBuf>,
    /// Its headers, if they are not below it
    #[arg(long, value_name = "FOLDER")]
    pub dpdk_headers: Option<PathBuf>,
    /// All axes, some minutes
    #[arg(long)]
    pub full: bool,
    /// Only this axis, or `base`; repeats
    #[arg(long = "axis", value_name = "NAME")]
    pub axes: Vec<String>,
    /// Only this stack; repeats
    #[arg(long = "stack", value_name = "NAME", value_enum)]
    pub stacks: Vec<Stack>,
    /// Processor to run on [default: the last one that may be used]
    #[arg(long, value_name = "NUMBER")]
    pub core: Option<usize>,
    /// Rounds in which the stacks are measured in turn [default: 5, with --full 7]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..1000))]
    pub rounds: Option<u32>,
    /// Packets of each figure [default: 3000000 at the base point]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    pub packets: Option<u64>,
    /// Packets that are run under callgrind, or 0 for no instructions
    #[arg(long, value_name = "NUMBER", default_value = "128000")]
    pub counted: u64,
    /// Buffers and rings in 2 MiB pages, or in ordinary ones [default: 2 MiB if 768 MiB are free]
    #[arg(long, value_name = "PAGES", value_parser = ["2m", "4k"])]
    pub pages: Option<String>,
    /// Write a page with plots into this folder: index.html, SVG files, report.json
    #[arg(long, value_name = "FOLDER")]
    pub report: Option<PathBuf>,
    /// End with one line of JSON
    #[arg(long)]
    pub json: bool,
    /// The command that the page says it was made by
    #[arg(long, hide = true, value_name = "COMMAND")]
    pub made_by: Option<String>,
    /// Be the process of one stack
    #[arg(long, hide = true, value_enum, requires = "plan")]
    pub worker: Option<worker::Role>,
    /// What it measures
    #[arg(long, hide = true)]
    pub plan: Option<String>,
    /// Whether it takes huge pages
    #[arg(long, hide = true)]
    pub huge: bool,
}

/// Measures. The exit code is 0, 1 after an error, 2 for a command line that could not be understood.
pub fn main(args: &Args) -> ExitCode {
    let done = match (&args.worker, &args.plan) {
        (Some(role), Some(plan)) => worker::run(*role, plan, args.huge),
        _ => match &args.device {
            Some(device) => port(args, device),
            None => bench(args),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mana bench: error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A port of this machine.
fn port(args: &Args, device: &str) -> Result<(), Error> {
    let dpdk = args.dpdk.clone().or_else(|| below(args, "dpdk"));
    let rates = hardware::run(&hardware::Hardware {
        device,
        duration: Duration::from_secs(args.duration.into()),
        cores: args.cores,
        dpdk: dpdk.as_deref(),
        huge: huge(args),
    })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", rates.text())?;
    if args.json {
        let line = serde_json::to_string(&rates).map_err(std::io::Error::from)?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A folder of `--tree`, if it is there.
fn below(args: &Args, name: &str) -> Option<PathBuf> {
    let folder = args.tree.as_ref()?.join(name);
    folder.is_dir().then_some(folder)
}

/// Whether buffers and rings shall lie in huge pages.
fn huge(args: &Args) -> bool {
    match args.pages.as_deref() {
        Some(pages) => pages == "2m",
        None => free_huge_pages() >= HUGE_PAGES,
    }
}

fn bench(args: &Args) -> Result<(), Error> {
    let (dpdk, headers) = match &args.dpdk {
        Some(dpdk) => (Some(dpdk.clone()), args.dpdk_headers.clone()),
        None => (below(args, "dpdk"), below(args, "dpdk-headers")),
    };
    let points = points::chosen(args.full, &args.axes)?;
    let core = args.core.unwrap_or_else(run::last_core);
    let means = Means::find(dpdk.as_deref(), headers.as_deref(), core, huge(args))?;
    let rounds = Rounds {
        rounds: args.rounds.unwrap_or(if args.full { 7 } else { 5 }),
        packets: args.packets,
        counted: args.counted,
    };
    let valgrind = match args.counted {
        0 => Err("--counted 0".to_owned()),
        _ => Valgrind::find(below(args, "valgrind").as_deref()),
    };
    let report = run::run(
        &means,
        &run::chosen(&args.stacks),
        &points,
        &rounds,
        &valgrind,
        args.full,
    )?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table::text(&report))?;
    if let Some(folder) = &args.report {
        let words: Vec<String> = std::env::args().skip(2).collect();
        let own = || format!("mana bench {}", words.join(" "));
        let command = args.made_by.clone().unwrap_or_else(own);
        report::write(&report, folder, &command)?;
        writeln!(out, "the page is {}", folder.join("index.html").display())?;
    }
    if args.json {
        let line = serde_json::to_string(&report).map_err(std::io::Error::from)?;
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// Huge pages of 2 MiB that the stacks of one point take together.
const HUGE_PAGES: u64 = 384;

fn free_huge_pages() -> u64 {
    let path = Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    let text = fs::read_to_string(path).unwrap_or_default();
    text.trim().parse().unwrap_or_default()
}
