//! The model under a stack: preloaded into this process, or made in it.

use std::sync::Arc;

use mana_model::control::Preloaded;
use mana_model::{DoorbellMode, Model, ModelConfig, parse_device};
use mana_verbs::LinuxSystem;
use uverbs_abi::System;

use super::super::error::Error;
use super::super::plan::Plan;

/// A stepped model.
pub enum Device {
    /// `mana model exec` put it where the kernel's devices would be.
    Preloaded(Preloaded),
    /// In this process, met by calls.
    Inside(Model),
}

impl Device {
    /// The preloaded model, if there is one; else one is made.
    pub fn new(plan: &Plan) -> Result<Self, Error> {
        let device = match Preloaded::find() {
            Some(preloaded) => {
                let command = format!("cool {}", plan.cool);
                preloaded.run(&command).map_err(Error::failed)?;
                Self::Preloaded(preloaded)
            }
            None => {
                let model = Model::new(ModelConfig {
                    devices: vec![parse_device(&plan.vdev()).map_err(Error::failed)?],
                    doorbells: DoorbellMode::Stepped,
                })
                .map_err(Error::failed)?;
                model.set_cooling(plan.cool);
                Self::Inside(model)
            }
        };
        Ok(device)
    }

    /// What a driver looks for devices in.
    pub fn system(&self) -> Arc<dyn System> {
        match self {
            Self::Preloaded(_) => Arc::new(LinuxSystem::new()),
            Self::Inside(model) => model.system(),
        }
    }

    /// Lets the device do all it can.
    pub fn step(&self) {
        match self {
            Self::Preloaded(preloaded) => {
                preloaded.step().expect("the preloaded model is there");
            }
            Self::Inside(model) => {
                model.step();
            }
        }
    }

    /// What the driver did wrong, where nobody else tells: findings of a preloaded model are told by
    /// `mana model exec`.
    pub fn findings(&self) -> Vec<String> {
        match self {
            Self::Preloaded(_) => Vec::new(),
            Self::Inside(model) => model.findings().iter().map(ToString::to_string).collect(),
        }
    }
}
