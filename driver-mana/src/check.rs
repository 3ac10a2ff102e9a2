//! Which check of `mana doctor` explains an error. The names are stable; `mana doctor --explain NAME`
//! prints cause, fix and source.

use dma_memory::MemoryError;
use mana_verbs::{RdmaCoreError, VerbsError, operation};
use uverbs_abi::{Errno, SystemError};

use crate::Error;
use crate::queue::QueueError;

impl Error {
    /// Name of the check of `mana doctor` that explains the error; `None` where the error is the
    /// caller's own, and its message says all there is to say.
    #[must_use]
    pub fn check(&self) -> Option<&'static str> {
        match self {
            Self::System(error) => Some(system(error)),
            Self::Verbs(error) => verbs(error),
            Self::Memory(error) => memory(error),
            Self::Queue(QueueError::Verbs(error)) => verbs(error),
            Self::NoDevice => Some("pci-device"),
            Self::NoSuchPort { .. } | Self::Ambiguous { .. } => Some("ports"),
            Self::NotEthernet { .. } => Some("ib-device"),
            Self::Unusable { .. } | Self::NoUsablePort { .. } => Some("device-opens"),
            Self::NetdevUp { .. } => Some("netdev-down"),
            Self::VportInUse { .. } => Some("device-users"),
            Self::RxQueues { .. } => Some("queue-counts"),
            Self::Depth { .. } => Some("descriptors"),
            Self::BufferBelowMtu { .. } | Self::Mtu { .. } | Self::MtuRunning { .. } => Some("mtu"),
            Self::NoInterrupts => Some("kernel"),
            Self::DeviceRemoved { .. } => Some("pci-device"),
            Self::DeviceStaysAway { error, .. } => error.check(),
            _ => None,
        }
    }
}

fn system(error: &SystemError) -> &'static str {
    match error.path.starts_with("/dev") {
        true => "uverbs-node",
        false => "ib-device",
    }
}

fn verbs(error: &VerbsError) -> Option<&'static str> {
    match error {
        VerbsError::System(error) => Some(system(error)),
        VerbsError::RdmaCore(error) => match error {
            RdmaCoreError::DriverId { .. }
            | RdmaCoreError::NotListed { .. }
            | RdmaCoreError::ForeignContext { .. } => Some("driver-id"),
            RdmaCoreError::NotBuilt | RdmaCoreError::OutOfReach { .. } => None,
            _ => Some("rdma-core"),
        },
        VerbsError::DriverId { .. } => Some("driver-id"),
        VerbsError::Kernel {
            operation, errno, ..
        } => kernel(operation, *errno),
        _ => Some("device-opens"),
    }
}

fn kernel(operation: &str, errno: Errno) -> Option<&'static str> {
    match (operation, errno) {
        (operation::REGISTER_MEMORY, Errno::ENOMEM) => Some("memlock"),
        (operation::CREATE_SEND_QUEUE, Errno::EPERM) => Some("capabilities"),
        (operation::CREATE_SEND_QUEUE, Errno::ENODEV | Errno::EBUSY) => Some("netdev-down"),
        (operation::CREATE_CQ, Errno::EINVAL) => Some("descriptors"),
        _ => Some("device-opens"),
    }
}

fn memory(error: &MemoryError) -> Option<&'static str> {
    match error {
        MemoryError::NoFreeHugepages { .. } | MemoryError::HugepagesUnsupported { .. } => {
            Some("hugepages")
        }
        MemoryError::CgroupLimit { .. } => Some("hugetlb-cgroup"),
        MemoryError::TransparentHugeUnsupported { .. } | MemoryError::TransparentHugeOff { .. } => {
            Some("thp")
        }
        MemoryError::MemlockLimit { .. } => Some("memlock"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn what_keeps_a_port_from_starting_is_explained_by_a_check() {
        let kernel = |operation, errno| {
            let (device, fix) = ("mana_0".to_owned(), Cow::Borrowed(""));
            Error::Verbs(VerbsError::Kernel {
                device,
                operation,
                errno,
                fix,
            })
        };
        let send = |errno| kernel(operation::CREATE_SEND_QUEUE, errno).check();
        assert_eq!(send(Errno::EPERM), Some("capabilities"));
        assert_eq!(send(Errno::ENODEV), Some("netdev-down"));
        let node = Error::System(SystemError {
            path: PathBuf::from("/dev/infiniband/uverbs0"),
            errno: Errno::EACCES,
            fix: None,
        });
        assert_eq!(node.check(), Some("uverbs-node"));
        assert_eq!(Error::NoDevice.check(), Some("pci-device"));
        assert_eq!(Error::NotStarted.check(), None);
    }
}
