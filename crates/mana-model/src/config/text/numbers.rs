//! The options that are one number of the whole device.

use crate::config::DeviceConfig;

/// One of them.
pub(super) struct Number {
    pub(super) name: &'static str,
    /// Its value, if the device has one.
    pub(super) get: fn(&DeviceConfig) -> Option<u64>,
    /// Sets it; `false` where it does not fit.
    pub(super) set: fn(&mut DeviceConfig, u64) -> bool,
}

fn set<T: TryFrom<u64>>(field: &mut T, value: u64) -> bool {
    T::try_from(value).map(|value| *field = value).is_ok()
}

macro_rules! numbers {
    ($($name:literal: $($field:ident).+,)*) => {
        &[$(Number {
            name: $name,
            get: |device| Some(device.$($field).+.into()),
            set: |device, value| set(&mut device.$($field).+, value),
        },)* Number {
            name: "numa-node",
            get: |device| device.numa_node.map(u64::from),
            set: |device, value| set(device.numa_node.get_or_insert_default(), value),
        }]
    };
}

/// All of them.
pub(super) const NUMBERS: &[Number] = numbers! {
    "coalescing": coalescing,
    "vport-offset": vport_offset,
    "first-queue-id": first_queue_id,
    "first-cq-id": first_cq_id,
    "max-qp": limits.max_qp,
    "max-qp-wr": limits.max_qp_wr,
    "max-cqe": limits.max_cqe,
    "max-sge": limits.max_sge,
    "max-cq": limits.max_cq,
    "max-mr": limits.max_mr,
    "max-pd": limits.max_pd,
    "max-mr-size": limits.max_mr_size,
    "comp-vectors": limits.comp_vectors,
};
