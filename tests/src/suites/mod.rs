//! The suites, one a file, named after those of DPDK's DTS and Microsoft's LISA where they have the
//! same.

mod loopback;
mod smoke;

use mana_model::DeviceConfig;

use crate::Rig;

/// What a suite needs of the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Packets that are sent come back.
    Loop,
    /// The model: the suite looks into the device or lets it fail.
    Model,
}

/// One property of driver and device.
#[derive(Clone, Copy)]
pub struct Suite {
    /// Its name, that of its file.
    pub name: &'static str,
    /// What it proves, in a sentence.
    pub proves: &'static str,
    /// What it needs.
    pub needs: Needs,
    /// Makes a model what the suite needs.
    pub prepare: fn(&mut DeviceConfig),
    /// Runs it. Panics where the property does not hold.
    pub run: fn(&Rig),
}

/// All suites.
pub const ALL: &[Suite] = &[smoke::SUITE, loopback::SUITE];
