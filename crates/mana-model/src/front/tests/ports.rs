//! The machine from outside: ports over all devices, operations, what is drained.

use super::machine;
use super::program::Program;
use crate::config::{DeviceConfig, GenConfig, Kernel, LinkConfig, parse_device};
use crate::faults::Fault;

#[test]
fn ports_are_counted_over_all_devices() {
    let texts = ["model0,ports=2", "model1,kernel=7.3", "model2,ports=2"];
    let model = machine(
        texts
            .iter()
            .map(|text| parse_device(text).unwrap())
            .collect(),
    );
    assert_eq!(model.ports(), 5);
    let netdevs: Vec<_> = (0..5).map(|port| model.port(port).netdev()).collect();
    assert_eq!(
        netdevs,
        [
            "enP30832s1",
            "enP30832s1d1",
            "enP30832s2",
            "enP30832s3",
            "enP30832s3d1"
        ]
    );
    assert_eq!(model.port(4).mac().to_string(), "00:0d:3a:00:02:01");
}

#[test]
#[should_panic(expected = "the model has no port 1")]
fn a_port_that_is_not_there_panics() {
    let _view = super::model(Kernel::V6_12, "").port(1);
}

#[test]
#[should_panic(expected = "the model has no port 7")]
fn a_fault_for_a_port_that_is_not_there_panics() {
    super::model(Kernel::V6_12, "").inject(Fault::RxTruncated { port: 7, nth: 1 });
}

#[test]
fn operations_of_all_devices_count_together() {
    let texts = ["model0", "model1"];
    let model = machine(
        texts
            .iter()
            .map(|text| parse_device(text).unwrap())
            .collect(),
    );
    let (one, two) = (
        Program::open(&model, "mana_0"),
        Program::open(&model, "mana_1"),
    );
    assert_eq!(model.operations(), 0);
    one.get_context().unwrap();
    two.get_context().unwrap();
    two.alloc_pd().unwrap();
    assert_eq!(model.operations(), 3);
}

#[test]
fn a_fatal_device_leaves_the_others_alone() {
    let texts = ["model0", "model1"];
    let model = machine(
        texts
            .iter()
            .map(|text| parse_device(text).unwrap())
            .collect(),
    );
    let (one, two) = (
        Program::open(&model, "mana_0"),
        Program::open(&model, "mana_1"),
    );
    one.get_context().unwrap();
    two.get_context().unwrap();
    model.inject(Fault::DeviceFatal { device: 0 });
    assert!(one.alloc_pd().is_err());
    assert!(two.alloc_pd().is_ok());
}

#[test]
fn a_machine_is_drained_once_its_sources_are() {
    assert!(super::model(Kernel::V6_12, "").drained());
    let generator = |count| {
        let mut device = DeviceConfig::default();
        device.ports[0].link = LinkConfig::Gen(GenConfig {
            count,
            ..GenConfig::default()
        });
        machine(vec![device])
    };
    assert!(generator(Some(0)).drained());
    assert!(!generator(Some(1)).drained());
}
