//! The suites, one a file, named after those of DPDK's DTS and Microsoft's LISA where they have the
//! same.
//!
//! DTS is the one in DPDK's tree, `dts/tests/TestSuite_NAME.py`; the former is the repository before it,
//! `test_plans/NAME_test_plan.rst`.

mod buffer_scatter;
mod checksum_offload;
mod clones;
mod device_fatal;
mod device_reset;
mod errno_at_every_operation;
mod ethtool_stats;
mod external_memory;
mod full_ring;
mod garbage_cqe;
mod kernel;
mod loopback;
mod mtu;
mod pool_exhaustion;
mod port_stats;
mod queue_ids;
mod queue_status;
mod recovery;
mod rejects;
pub mod restart;
mod ring_laps;
mod rss;
mod rss_update;
mod rx_burst_boundary;
mod rx_interrupt;
mod rx_truncated;
mod rx_wakeup;
mod send_only;
mod smoke;
mod soak;
mod tso;
mod two_ports;
mod tx_error_cqes;
mod tx_multi_segment;
mod tx_prepare;
mod vlan;
mod vport_offset;

use mana_model::config::PortConfig;
use mana_model::{DeviceConfig, LinkConfig};

use crate::Rig;

/// What a suite needs of the device and the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// A port, whatever is behind it.
    Port,
    /// A wire that brings back every frame as it was sent.
    Loop,
    /// The same wire, and a machine whose netdevs are set UP and DOWN, whose driver is unbound, and
    /// whose device asks for a reset: see [`crate::Steering`].
    Steering,
    /// The model: the suite looks into the device or lets it fail.
    Model,
    /// The model, with another device in the machine: see [`Rig::bring_back`].
    Neighbour,
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

impl Suite {
    /// The machine on which the suite runs over a model of `device`, which is its first.
    #[must_use]
    pub fn machine(&self, mut device: DeviceConfig) -> Vec<DeviceConfig> {
        (self.prepare)(&mut device);
        match self.needs {
            Needs::Neighbour => with_neighbour(device),
            Needs::Port | Needs::Loop | Needs::Steering | Needs::Model => vec![device],
        }
    }
}

/// A machine of `device` and another one, so that it can come back under another name
/// ([`Rig::bring_back`]).
#[must_use]
pub fn with_neighbour(device: DeviceConfig) -> Vec<DeviceConfig> {
    let other = |texts: [&str; 2], taken: &str| {
        let other = texts.iter().find(|text| **text != taken);
        other.map_or_else(String::new, ToString::to_string)
    };
    let pci = device.pci.map(|pci| pci.to_string()).unwrap_or_default();
    let neighbour = DeviceConfig {
        name: other(["model1", "model2"], &device.name),
        pci: other(["7870:00:01.0", "7870:00:02.0"], &pci).parse().ok(),
        driver_id: device.driver_id,
        netlink: device.netlink,
        ..DeviceConfig::new(device.kernel)
    };
    vec![device, neighbour]
}

/// All suites.
pub const ALL: &[Suite] = &[
    smoke::SUITE,
    send_only::SUITE,
    loopback::SUITE,
    ring_laps::SUITE,
    tx_multi_segment::SUITE,
    clones::SUITE,
    external_memory::SUITE,
    checksum_offload::SUITE,
    tx_prepare::SUITE,
    tso::SUITE,
    vlan::SUITE,
    rss::SUITE,
    rss_update::SUITE,
    rx_burst_boundary::SUITE,
    tx_error_cqes::SUITE,
    rx_truncated::SUITE,
    buffer_scatter::SUITE,
    mtu::SUITE,
    pool_exhaustion::SUITE,
    full_ring::SUITE,
    rejects::SUITE,
    port_stats::SUITE,
    ethtool_stats::SUITE,
    restart::SUITE,
    two_ports::SUITE,
    errno_at_every_operation::SUITE,
    garbage_cqe::SUITE,
    vport_offset::SUITE,
    queue_ids::SUITE,
    queue_status::SUITE,
    rx_interrupt::SUITE,
    rx_wakeup::SUITE,
    device_fatal::SUITE,
    device_reset::SUITE,
    recovery::traffic::SUITE,
    recovery::workers::SUITE,
    recovery::comes_by_itself::SUITE,
    recovery::tx_stuck::SUITE,
    recovery::silent_owner::SUITE,
    recovery::sleeper::SUITE,
    recovery::sleeper_learns::SUITE,
    recovery::dropped_handles::SUITE,
    recovery::forgotten_handle::SUITE,
    recovery::restart::SUITE,
    recovery::in_a_row::SUITE,
    recovery::errno::SUITE,
    recovery::removed_again::SUITE,
    recovery::stays_away::SUITE,
    recovery::both_ports::SUITE,
    recovery::vport_taken::SUITE,
    kernel::forwarding::SUITE,
    kernel::interrupts::SUITE,
    kernel::missed::SUITE,
    kernel::netdev_up::SUITE,
    kernel::unload::SUITE,
    kernel::reset_request::SUITE,
    soak::SUITE,
];

/// The names of the suites that must hold on a real kernel: what `--suite kernel` stands for.
#[must_use]
pub fn kernel() -> Vec<&'static str> {
    let plain = ["smoke", "loopback", "restart"];
    let kernel = |suite: &&Suite| plain.contains(&suite.name) || suite.needs == Needs::Steering;
    ALL.iter().filter(kernel).map(|suite| suite.name).collect()
}

/// Suites in which the kernel refuses an operation, or loses the device at it, because it is told to:
/// no real one can be told.
pub const REFUSING: [&str; 4] = [
    "errno_at_every_operation",
    "recovery_errno",
    "recovery_removed_again",
    "soak",
];

/// The one for which the kernel serves the reset that a device asks for, as Linux does from 7 on.
pub const RESETTING: &str = "kernel_reset_request";

/// The names of the suites that the tier `kernel` runs in a guest with this kernel, `6.12` or `7.x`,
/// over the kernel's own interface: there all that can be, elsewhere those of a real kernel.
#[must_use]
pub fn on_kernel(kernel: &str) -> Vec<&'static str> {
    match kernel {
        "6.12" => {
            let names = ALL.iter().map(|suite| suite.name);
            let can = |name: &&str| !REFUSING.contains(name) && *name != RESETTING;
            names.filter(can).collect()
        }
        _ => self::kernel(),
    }
}

/// The suite of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Suite> {
    ALL.iter().find(|suite| suite.name == name)
}

/// Makes it a device of two ports.
fn two_ports(device: &mut DeviceConfig) {
    let port = device.ports[0].clone();
    device.ports.truncate(1);
    device.ports.push(PortConfig { mac: None, ..port });
}

/// What leaves is kept for the suite, what arrives is what the suite delivers.
fn capture(device: &mut DeviceConfig) {
    device.ports[0].link = LinkConfig::Sink { capture: true };
}
