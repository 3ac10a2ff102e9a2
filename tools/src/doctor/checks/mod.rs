//! The checks, in the order in which a port needs what they look at.

mod device;
mod kernel;
mod libraries;
mod memory;
mod ports;
mod process;
mod routes;
mod verbs;

use super::machine::Machine;
use super::report::Check;

pub use device::cores;
pub use routes::Routes;

/// What is asked about besides the machine.
#[derive(Debug, Default)]
pub struct Asked {
    /// The cores that are to poll.
    pub cores: Vec<u32>,
}

/// Every check of the machine.
pub fn all(machine: &Machine, asked: &Asked) -> Vec<Check> {
    let routes = Routes::read(machine);
    vec![
        process::preload(machine),
        device::pci_device(machine),
        device::kernel_driver(machine),
        kernel::kernel(machine),
        kernel::distribution(machine),
        kernel::modules(machine),
        verbs::ib_device(machine),
        verbs::uverbs_node(machine),
        verbs::driver_id(machine),
        verbs::device_opens(machine),
        libraries::rdma_core(machine),
        ports::ports(machine, &routes),
        ports::netdev_down(machine, &routes),
        ports::default_route(machine, &routes),
        ports::mtu(machine),
        ports::slow_path(machine),
        ports::netvsc(machine),
        memory::hugepages(machine),
        memory::hugetlb_mount(machine),
        memory::hugetlb_cgroup(machine),
        memory::thp(machine),
        memory::memlock(machine),
        process::capabilities(machine),
        process::container(machine),
        process::device_users(machine),
        process::dpdk_vdevs(machine),
        device::numa(machine, asked),
    ]
}
