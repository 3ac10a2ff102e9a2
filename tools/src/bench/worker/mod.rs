//! The process of one stack: makes it ready, and measures what it is told on standard input.
//!
//! What it says and what it is told is that of `tools/bench/c_pmd.c`, which is the same for the
//! driver in C.

mod device;
mod driver;
mod events;
mod floor;
mod frame;
mod measure;

use std::fs;
use std::io::{self, BufRead, Write};

use dma_memory::HugePages;
use serde::Serialize;

use super::error::Error;
use super::plan::{Direction, Plan, Ready};
use device::Device;
use driver::Driver;
use measure::{Bursts, count, events, pass};

/// Who is measured, as the command line names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Role {
    /// This driver over the kernel's own interface
    Uverbs,
    /// This driver over libibverbs and libmana
    RdmaCore,
    /// The least that is possible
    Floor,
}

/// Runs until standard input ends.
pub fn run(role: Role, plan: &str, huge: bool) -> Result<(), Error> {
    let plan: Plan = plan.parse().map_err(Error::Usage)?;
    let huge = if huge {
        HugePages::Require2M
    } else {
        HugePages::Never
    };
    match start(role, &plan, huge) {
        Err(Error::Unsupported(unsupported)) => say(&serde_json::json!({
            "unsupported": unsupported,
        })),
        done => done,
    }
}

fn start(role: Role, plan: &Plan, huge: HugePages) -> Result<(), Error> {
    let device = Device::new(plan)?;
    match role {
        Role::Floor => {
            let (floor, ready) = floor::start(plan, device, huge)?;
            serve(floor, plan, ready)
        }
        Role::Uverbs | Role::RdmaCore => {
            let (driver, ready) = Driver::start(plan, device, huge, role)?;
            serve(driver, plan, ready)
        }
    }
}

fn serve(mut bursts: impl Bursts, plan: &Plan, ready: Ready) -> Result<(), Error> {
    say(&ready)?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[verb, direction, packets] = words.as_slice() else {
            return Err(Error::Usage(format!("`{line}`: expected three words")));
        };
        let direction = Direction::ALL
            .into_iter()
            .find(|known| known.name() == direction)
            .ok_or_else(|| Error::Usage(format!("`{line}`: unknown direction")))?;
        let packets = packets
            .parse()
            .map_err(|_| Error::Usage(format!("`{line}`: expected a number")))?;
        match verb {
            "pass" => say(&pass(&mut bursts, plan, direction, packets))?,
            "events" => say(&events(&mut bursts, direction, packets)?)?,
            "count" => say(&count(&mut bursts, direction, packets))?,
            _ => return Err(Error::Usage(format!("`{line}`: unknown"))),
        }
    }
    bursts.finish();
    Ok(())
}

fn say(value: &impl Serialize) -> Result<(), Error> {
    let line = serde_json::to_string(value).map_err(io::Error::from)?;
    Ok(writeln!(io::stdout(), "{line}")?)
}

/// Memory of this process that is resident, huge pages included, in KiB.
fn resident() -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let value = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name));
        rest.and_then(|rest| rest.split_whitespace().next()?.parse::<i64>().ok())
    };
    value("VmRSS:").unwrap_or_default() + value("HugetlbPages:").unwrap_or_default()
}

/// What this process has mapped of rdma-core.
fn libraries() -> Vec<std::path::PathBuf> {
    let process = std::process::id();
    let mapped = conformance::stack::mapped(process);
    let of_rdma_core = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libmana.so") || name.starts_with("libibverbs.so")
    };
    mapped.into_iter().filter(of_rdma_core).collect()
}
