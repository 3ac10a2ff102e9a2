//! The model's front against the truth: what comes of every operation is what was recorded on the real
//! kernels, with their unmodified drivers on the device of `mana model serve`.
//!
//! `rulebook/linux-*.txt` are those recordings, of Debian's 6.12.117 and 7.3.4, made in a guest by
//! `cargo xtask vm --vdev model0,ports=2,link=loop -- mana conformance --rulebook -a 0000:00:04.0`. The test
//! `kernel_conformance` makes them again.

#![forbid(unsafe_code)]

use mana_model::config::PortConfig;
use mana_model::{DeviceConfig, DoorbellMode, Kernel, Model, ModelConfig, rulebook};

/// A line of the real kernel, and the model's.
///
/// On Linux 7.3.4 the ib device of Ethernet tells nobody of its netdevs. The model tells it, as the core of
/// ib does of devices that have a netdev: drivers are to be tried with these events too.
const DIFFERENT: [[&str; 2]; 2] = [
    [
        "netdev UP: its events -> ok none",
        "netdev UP: its events -> ok 9",
    ],
    [
        "netdev UP: its events, of the second port -> ok none",
        "netdev UP: its events, of the second port -> ok 9",
    ],
];

fn same(kernel: Kernel, recorded: &str, differs: bool) {
    let mut device = DeviceConfig::new(kernel);
    device.ports.resize_with(2, PortConfig::default);
    let doorbells = DoorbellMode::Stepped;
    let devices = vec![device];
    let model = Model::new(ModelConfig { devices, doorbells }).expect("it can be built");
    let system = model.system();
    let pci = system.ib_devices().expect("devices")[0].pci;
    let mut lines = Vec::new();
    let mut tell = |line: &str| lines.push(line.to_owned());
    rulebook::record(&*system, pci, &model, &mut tell).expect("it can be recorded");
    assert!(lines.len() > 400);
    let mut different = Vec::new();
    for (model, kernel) in lines.iter().zip(recorded.lines()) {
        if DIFFERENT.contains(&[kernel, model]) {
            different.push(kernel);
        } else {
            assert_eq!(model, kernel, "the model, and the real kernel");
        }
    }
    let expected = DIFFERENT.len() * usize::from(differs);
    assert_eq!(different.len(), expected, "{different:?}");
    assert_eq!(lines.len(), recorded.lines().count());
    assert!(model.findings().is_empty(), "{:?}", model.findings());
}

#[test]
fn the_model_has_the_rules_of_linux_6_12() {
    same(
        Kernel::V6_12,
        include_str!("../rulebook/linux-6.12.txt"),
        false,
    );
}

#[test]
fn the_model_has_the_rules_of_linux_7_3() {
    same(
        Kernel::V7_3,
        include_str!("../rulebook/linux-7.3.txt"),
        true,
    );
}
