//! `--rulebook`: what comes of every operation at the uverbs node.

use std::io::Write;
use std::path::Path;

use conformance::Steering;
use mana_model::config::PortConfig;
use mana_model::control::Client;
use mana_model::{DoorbellMode, Model, ModelConfig, rulebook};
use mana_verbs::LinuxSystem;

use super::error::Error;
use super::options::{Options, Target};

/// Records and writes it on standard output. A model of one port gets a second one.
pub fn record(options: &Options, control: Option<&Path>) -> Result<(), Error> {
    let mut broken = None;
    // A kernel that dies of a line does not take those before it along.
    let mut tell = |line: &str| {
        let written = writeln!(std::io::stdout(), "{line}");
        broken = broken.take().or(written.err());
    };
    match &options.target {
        Target::Model { device, .. } => {
            let mut device = (**device).clone();
            device.ports.resize_with(2, PortConfig::default);
            let model = Model::new(ModelConfig {
                devices: vec![device],
                doorbells: DoorbellMode::Stepped,
            })?;
            let system = model.system();
            let first = system.ib_devices().map_err(mana_pmd::Error::from)?;
            let pci = first.first().map(|device| device.pci);
            let pci = pci.ok_or(mana_pmd::Error::NoDevice)?;
            rulebook::record(&*system, pci, &model, &mut tell)?;
        }
        Target::Hardware { selector, .. } => {
            let pci = selector.pci.ok_or_else(|| {
                Error::Usage("--rulebook needs the device by its PCI address: -a BDF".to_owned())
            })?;
            let system = LinuxSystem::new();
            match control {
                Some(socket) => {
                    // A preloaded model begins, and listens, when it is first looked for.
                    uverbs_abi::System::ib_devices(&system).map_err(mana_pmd::Error::from)?;
                    rulebook::record(&system, pci, &Client::connect(socket)?, &mut tell)?;
                }
                None => rulebook::record(&system, pci, &Steering::new(pci), &mut tell)?,
            }
        }
    }
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(()),
    }
}
