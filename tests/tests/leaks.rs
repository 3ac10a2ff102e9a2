//! A thousand starts and stops: nothing of the process grows. Alone in its program, because it
//! counts what the whole process has.

#![forbid(unsafe_code)]

use std::fs;

use conformance::{Rig, suites};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};

/// Open file descriptors and mapped pages apart from heap and stacks.
fn process() -> (usize, usize) {
    let descriptors = fs::read_dir("/proc/self/fd").expect("procfs").count();
    let maps = fs::read_to_string("/proc/self/maps").expect("procfs");
    let mappings = maps.lines().filter(|line| !line.ends_with("[heap]"));
    (descriptors, mappings.count())
}

#[test]
fn a_thousand_cycles_leave_descriptors_and_mappings_as_they_were() {
    for kernel in Kernel::ALL {
        let rig = Rig::model(DeviceConfig::new(kernel), DoorbellMode::Stepped);
        suites::restart::cycles(&rig, 1000, process);
    }
}
