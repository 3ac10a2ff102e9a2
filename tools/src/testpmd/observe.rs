//! What a run shows to others: its ports and words as telemetry.

use mana_pmd::Port;

use super::cores::{CorePlan, Lcore, socket_of};
use super::eal_args::EalArgs;
use super::error::Error;
use super::run::say;
use crate::telemetry::{CoreData, PortData, Program, Telemetry};

/// Starts the servers that the command line asks for, and tells where the metrics are.
///
/// # Errors
///
/// If the address of `--metrics` can't be had, or the output is gone.
pub fn start(eal: &EalArgs, cores: &CorePlan) -> Result<Telemetry, Error> {
    let options = &eal.telemetry;
    let telemetry = Telemetry::start(options, program(cores)).map_err(|cause| Error::Metrics {
        address: options
            .metrics
            .unwrap_or_else(|| ([127, 0, 0, 1], 0).into()),
        cause,
    })?;
    if let Some(address) = telemetry.metrics() {
        say(&format!("testpmd: metrics at http://{address}/metrics\n"))?;
    }
    Ok(telemetry)
}

fn program(cores: &CorePlan) -> Program {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut eal_words: Vec<String> = words.collect();
    let separator = eal_words.iter().position(|word| word == "--");
    let app_words = separator
        .map(|at| eal_words.split_off(at))
        .unwrap_or_default();
    let core = |core: &Lcore| CoreData {
        id: core.id,
        cpu: core.cpu,
        socket: socket_of(core.cpu),
    };
    Program {
        eal_words,
        app_words: app_words.into_iter().skip(1).collect(),
        cores: std::iter::once(&cores.main)
            .chain(&cores.workers)
            .map(core)
            .collect(),
    }
}

/// Answers whoever asks for the ports.
pub fn answer<'p>(telemetry: &Telemetry, ports: impl Iterator<Item = (usize, &'p Port)>) {
    let read = |(number, port): (usize, &Port)| {
        port.refresh_missed();
        PortData::of(number, port)
    };
    telemetry.answer(|| ports.map(read).collect());
}
