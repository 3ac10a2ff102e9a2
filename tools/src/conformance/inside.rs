//! The process of one suite: runs it and tells what came of it, as one line of JSON.

use std::fs;
use std::io::Write;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use conformance::{Rig, Suite, packets};
use mana_model::DoorbellMode;
use mana_model::control::Client;
use mana_pmd::{ProviderChoice, Selector};
use mana_verbs::LinuxSystem;
use serde::{Deserialize, Serialize};
use uverbs_abi::System;

use super::error::Error;
use super::options::{Options, Target};
use super::served;

/// What the preloaded model is given to begin to listen.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of a suite.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// Where and why it panicked, if it did.
    pub failure: Option<String>,
    /// What the model found.
    pub findings: Vec<String>,
    /// How long it ran.
    pub seconds: f64,
    /// The provider of the port, where it could be opened.
    pub provider: Option<String>,
    /// The provider's versions, or why it was taken.
    pub note: Option<String>,
    /// Libraries of rdma-core that were mapped while the port was open.
    pub libraries: Vec<PathBuf>,
}

/// Runs the suite on a rig made for it.
pub fn run(options: &Options, socket: Option<&Path>) -> Result<(), Error> {
    let [suite] = options.suites.as_slice() else {
        return Err(Error::Usage("--inside needs one --suite".to_owned()));
    };
    let failure = Arc::new(Mutex::new(None));
    panic::set_hook({
        let failure = Arc::clone(&failure);
        Box::new(move |info| {
            // What panics later is a consequence.
            let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| info.to_string());
        })
    });
    let mut told = Told::default();
    let start = Instant::now();
    // The state that a panic leaves behind is looked at no more: the process ends.
    let run = AssertUnwindSafe(|| run_on(&rig(options, suite, socket), options, suite, &mut told));
    let panicked = panic::catch_unwind(run).is_err();
    told.seconds = start.elapsed().as_secs_f64();
    let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
    told.failure = failure.take().filter(|_| panicked);
    let line = serde_json::to_string(&told).map_err(std::io::Error::from)?;
    Ok(writeln!(std::io::stdout(), "{line}")?)
}

fn rig(options: &Options, suite: &Suite, socket: Option<&Path>) -> Rig {
    match &options.target {
        Target::Model {
            device,
            preloaded: false,
        } => {
            let machine = suite.machine((**device).clone());
            let mut rig = Rig::machine(machine, DoorbellMode::Stepped);
            rig.selector.provider = options.provider;
            rig
        }
        Target::Model { .. } => {
            let system = linux();
            // The model begins, and listens, when it is first looked for.
            mana_pmd::discover(&system)
                .unwrap_or_else(|error| panic!("the model is not found: {error}"));
            let socket = socket.expect("the preloaded model has a socket");
            let client = Client::wait_for(socket, PATIENCE)
                .unwrap_or_else(|error| panic!("the model can't be steered: {error}"));
            let mac = client.port(0).mac();
            let mac = mac.unwrap_or_else(|error| panic!("the model does not answer: {error}"));
            let selector = Selector {
                macs: vec![mac],
                provider: options.provider,
                ..Selector::default()
            };
            Rig::preloaded(system, selector, client)
        }
        Target::Hardware {
            selector,
            steer,
            control,
            ..
        } => {
            let rig = Rig::hardware(linux(), selector.clone());
            let info = rig.info();
            packets::address(info.mac);
            match steer {
                true => served::rig(rig, info.pci, control.as_deref(), suite),
                false => rig,
            }
        }
    }
}

fn linux() -> Arc<dyn System> {
    Arc::new(LinuxSystem::new())
}

fn run_on(rig: &Rig, options: &Options, suite: &Suite, told: &mut Told) {
    let port = rig.open();
    let info = port.info().clone();
    let libraries = mapped();
    drop(port);
    told.provider = Some(info.provider.to_owned());
    told.note = Some(info.provider_note);
    told.libraries.clone_from(&libraries);
    let is_mapped = |name: &str| libraries.iter().any(|path| starts(path, name));
    let both = is_mapped("libibverbs.so") && is_mapped("libmana.so");
    match options.provider {
        ProviderChoice::Auto => {}
        ProviderChoice::Uverbs => assert!(libraries.is_empty(), "mapped: {libraries:?}"),
        ProviderChoice::RdmaCore => assert!(both, "mapped: {libraries:?}"),
    }
    if options.provider != ProviderChoice::Auto {
        assert_eq!(info.provider, options.provider.to_string());
    }
    let before = descriptors();
    (suite.run)(rig);
    assert_eq!(descriptors(), before, "open descriptors");
    if rig.is_model() {
        told.findings = rig.device().findings();
    }
}

/// Descriptors that are open in this process.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// The files of libibverbs and libmana in this process.
fn mapped() -> Vec<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let mut paths: Vec<PathBuf> = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| PathBuf::from(&line[at..])))
        .filter(|path| starts(path, "libibverbs.so") || starts(path, "libmana.so"))
        .collect();
    paths.sort();
    paths.dedup();
    paths
}

fn starts(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with(prefix)
}
