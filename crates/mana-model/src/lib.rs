//! The MANA device in software: it moves packets as the hardware does, holds the kernel's rules in
//! front of it, and tells what the driver did wrong.
//!
//! A [`Model`] is a machine with one or several MANA devices. Its [`Model::system`] is what a driver
//! opens instead of Linux; its findings are what the driver must not cause. It runs in a thread of
//! its own ([`Model::run`], for applications) or step by step ([`Model::step`], for tests).
//!
//! Rooms, from the outside in: [`config`] and [`faults`] say what the machine is like; `front` is
//! the kernel (`System`, `Transport`, the rules of uverbs and mana_ib in several flavours), [`sysfs`]
//! what it shows unmodified programs of it; `core`
//! is the device (objects, data path); `links` is what is behind its ports; [`control`] is all of it
//! by text, for those in other processes; [`rulebook`] holds the kernel's rules against a real one.
//!
//! ```
//! use mana_model::{DoorbellMode, Model, ModelConfig, parse_device};
//! use uverbs_abi::SystemKind;
//!
//! let model = Model::new(ModelConfig {
//!     devices: vec![parse_device("model0,mac=00:0d:3a:76:3b:d0,kernel=7.3")?],
//!     doorbells: DoorbellMode::Stepped,
//! })?;
//! let system = model.system();
//! assert_eq!(system.kind(), SystemKind::Model);
//! let names: Vec<_> = system.ib_devices()?.into_iter().map(|device| device.name).collect();
//! assert_eq!(names, ["mana_0", "manae_0"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod checksum;
pub mod config;
pub mod control;
mod core;
mod error;
pub mod faults;
mod findings;
mod front;
pub mod hardware;
mod links;
mod model;
pub mod pcap;
pub mod rulebook;
pub mod sysfs;
pub mod toeplitz;

pub use crate::core::{Cooling, ParseCoolingError, PortCounters};
pub use config::{
    DEVICE_HELP, DeviceConfig, DoorbellMode, GenConfig, Kernel, Limits, LinkConfig, ModelConfig,
    PortConfig, TapConfig, parse_device,
};
pub use error::ModelError;
pub use faults::Fault;
pub use findings::{Finding, FindingKind};
pub use front::node::Node;
pub use links::TapError;
pub use model::{After, Model, ObjectCounts, PortView, Runner};
