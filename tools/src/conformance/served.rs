//! Suites on a real kernel whose device is a model in another process (`mana model serve`).

use std::fs;
use std::path::Path;

use conformance::{Device, Needs, Rig, Served, Suite, suites};
use mana_model::control::Client;
use mana_model::{DeviceConfig, Kernel, parse_device};
use uverbs_abi::PciAddress;

use super::error::Error;

/// Of suites in which operations fail.
const REFUSES: &str = "needs a kernel that refuses, or takes the device away at, the operation it is told to: a real \
     one does not";

/// Of one that needs a younger kernel.
const RESETS: &str = "needs a kernel that serves the reset request of a device: from 7 on";

/// Why a suite can't run there, if it can't.
pub fn in_the_way(suite: &Suite, served: Option<&DeviceConfig>) -> Option<&'static str> {
    let reset = suite.name == suites::RESETTING;
    if suite.needs == Needs::Steering && !reset {
        return None;
    }
    let Some(served) = served else {
        return Some(
            "needs a device model (--vdev, or --control): it looks into the device or lets it fail",
        );
    };
    if !is_made_for(served, suite) {
        return Some("needs a device that is made for it: `mana model serve --vdev` makes it");
    }
    if reset && !serves_resets(&release()) {
        return Some(RESETS);
    }
    suites::REFUSING.contains(&suite.name).then_some(REFUSES)
}

/// What is served, as the model says.
pub fn device(control: &Path) -> Result<DeviceConfig, Error> {
    let client = Client::connect(control)?;
    let answer = client.send("device")?;
    let text = answer.first().and_then(|line| line.strip_prefix("device "));
    Ok(parse_device(text.unwrap_or_default())?)
}

/// Whether the device is what the suite would make it, but for what is behind its ports and how many it
/// has. The kernel bounds the ids of completion queues: they are what they are.
fn is_made_for(served: &DeviceConfig, suite: &Suite) -> bool {
    let mut prepared = served.clone();
    (suite.prepare)(&mut prepared);
    prepared.ports.clone_from(&served.ports);
    prepared.first_cq_id = served.first_cq_id;
    prepared == *served
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
        if let Some(other) = device.ports.get(1) {
            served.set_netdev_up(1, other.netdev_up);
        }
    }
    Rig::served(plain.system, plain.selector, served, is_model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_that_a_real_kernel_leaves_no_way_are_named() {
        for name in suites::REFUSING.iter().chain([&suites::RESETTING]) {
            assert!(suites::find(name).is_some(), "{name}");
        }
        let device = |text: &str| parse_device(text).unwrap();
        let plain = device("model0,ports=2,link=loop");
        fn reason(name: &str, served: Option<&DeviceConfig>) -> Option<&'static str> {
            in_the_way(suites::find(name).unwrap(), served)
        }
        assert_eq!(reason("rss", Some(&plain)), None);
        assert!(reason("rss", None).unwrap().contains("--control"));
        assert_eq!(reason("kernel_unload", None), None);
        for (name, option) in [
            ("queue_ids", "first-queue-id=1022"),
            ("vport_offset", "vport-offset=2302"),
        ] {
            assert!(reason(name, Some(&plain)).unwrap().contains("made for it"));
            let made = device(&format!("model0,ports=2,{option}"));
            assert_eq!(reason(name, Some(&made)), None, "{name}");
        }
        assert_eq!(reason("recovery_traffic", Some(&plain)), None);
        assert!(
            reason("recovery_errno", Some(&plain))
                .unwrap()
                .contains("refuses")
        );
        assert!(reason("kernel_reset_request", None).is_some());
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
