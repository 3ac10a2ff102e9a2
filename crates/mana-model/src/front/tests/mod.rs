//! The front as a program sees it: every call is made of the attributes that libibverbs and
//! libmana send (reference/uverbs-boundary.md §2), no helper of ours in between.

mod context;
mod destroy;
mod doorbells;
mod end_to_end;
mod faults;
mod memory;
mod polled;
mod ports;
mod presence;
mod program;
mod receive;
mod send;
mod system;

use std::sync::Arc;

use crate::config::{DoorbellMode, Kernel, ModelConfig, parse_device};
use crate::model::Model;

/// A stepped machine of one device, described as `--vdev` does without the name.
fn model(kernel: Kernel, options: &str) -> Model {
    let text = format!("model0,kernel={}{options}", kernel.name());
    let device = parse_device(&text).expect("a valid text");
    machine(vec![device])
}

fn machine(devices: Vec<crate::DeviceConfig>) -> Model {
    Model::new(ModelConfig {
        devices,
        doorbells: DoorbellMode::Stepped,
    })
    .expect("a valid machine")
}

/// Runs a test in each flavour, on a machine with `options`.
fn in_each_kernel(options: &str, test: impl Fn(Kernel, &Model)) {
    for kernel in Kernel::ALL {
        let model = model(kernel, options);
        test(kernel, &model);
        assert!(model.findings().is_empty(), "{:?}", model.findings());
    }
}

fn system(model: &Model) -> Arc<dyn uverbs_abi::System> {
    model.system()
}
