//! Suites on a real kernel whose device is a model in another process (`mana model serve`).

use std::fs;
use std::path::Path;

use conformance::{Needs, Rig, Served, Suite};
use mana_model::control::Client;
use mana_model::{DeviceConfig, Kernel};
use uverbs_abi::PciAddress;

/// Suites for which a real kernel leaves no way, with the reason.
const NOT_SERVED: &[(&str, &str)] = &[
    (
        "errno_at_every_operation",
        "needs a kernel that refuses the operation it is told to: a real one does not",
    ),
    (
        "kernel_reset_request",
        "needs a kernel that serves the reset request of a device: from 7 on",
    ),
];

/// Why a suite can't run there, if it can't.
pub fn in_the_way(suite: &Suite, control: bool) -> Option<&'static str> {
    let reset = suite.name == "kernel_reset_request";
    if suite.needs == Needs::Steering && !reset {
        return None;
    }
    if !control {
        return Some(
            "needs a device model (--vdev, or --control): it looks into the device or lets it fail",
        );
    }
    if suite.needs == Needs::Neighbour {
        return Some("needs a machine in which two devices change names: only --vdev is one");
    }
    if made_for_it(suite) {
        return Some("needs a device that is made for it: only --vdev is");
    }
    if reset && serves_resets(&release()) {
        return None;
    }
    let found = NOT_SERVED.iter().find(|(name, _)| *name == suite.name);
    found.map(|(_, reason)| *reason)
}

/// Whether the suite changes more of the device than what is behind its ports, and how many it has.
fn made_for_it(suite: &Suite) -> bool {
    let plain = DeviceConfig::new(Kernel::V6_12);
    let mut prepared = plain.clone();
    (suite.prepare)(&mut prepared);
    let ports = plain.ports.clone();
    DeviceConfig { ports, ..prepared } != plain
}

/// The kernel's release.
fn release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()
}

/// Whether a kernel of this release resets a device that asks for it (reference/mana-hardware.md
/// §6.8).
fn serves_resets(release: &str) -> bool {
    let major = release.split('.').next().unwrap_or_default();
    major.parse().is_ok_and(|major: u32| major >= 7)
}

/// The rig of a suite: with what it needs behind the port.
pub fn rig(plain: Rig, pci: PciAddress, control: Option<&Path>, suite: &Suite) -> Rig {
    let model = control
        .map(|path| Client::connect(path).unwrap_or_else(|error| panic!("--control: {error}")));
    let is_model = model.is_some();
    let served = Served::new(pci, model);
    let served = served.unwrap_or_else(|error| panic!("--control: {error}"));
    if is_model {
        let mut device = DeviceConfig::new(Kernel::V6_12);
        (suite.prepare)(&mut device);
        let link = &device.ports[0].link;
        let wired = served.set_wire(link);
        wired.unwrap_or_else(|error| panic!("--control: {error}"));
    }
    Rig::served(plain.system, plain.selector, served, is_model)
}

#[cfg(test)]
mod tests {
    use conformance::suites;

    use super::*;

    #[test]
    fn suites_that_a_real_kernel_leaves_no_way_are_named() {
        for (name, _) in NOT_SERVED {
            assert!(suites::find(name).is_some(), "{name}");
        }
        let reason = |name, control| in_the_way(suites::find(name).unwrap(), control);
        assert_eq!(reason("rss", true), None);
        assert!(reason("rss", false).unwrap().contains("--control"));
        assert_eq!(reason("kernel_unload", false), None);
        assert!(reason("queue_ids", true).unwrap().contains("made for it"));
        assert!(reason("recovery_traffic", true).unwrap().contains("names"));
        assert!(reason("kernel_reset_request", false).is_some());
    }

    #[test]
    fn kernels_from_7_on_serve_resets() {
        for (release, serves) in [
            ("7.3.4+deb13-cloud-amd64\n", true),
            ("10.0.1", true),
            ("6.12.117+deb13-cloud-amd64", false),
            ("", false),
        ] {
            assert_eq!(serves_resets(release), serves, "{release}");
        }
    }
}
