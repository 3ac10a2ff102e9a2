//! What can go wrong between this process and the kernel, with the way out of it.

use std::borrow::Cow;

use dma_memory::MemoryError;
use uverbs_abi::{Errno, SystemError};

use crate::RdmaCoreError;

/// Names of the operations that [`VerbsError::operation`] reports.
pub mod operation {
    /// Find out which driver id the kernel gave to MANA.
    pub const FIND_DRIVER_ID: &str = "find driver id";
    /// Create the uverbs context.
    pub const GET_CONTEXT: &str = "get context";
    /// Allocate the asynchronous event file.
    pub const ALLOC_ASYNC_EVENT: &str = "allocate asynchronous event file";
    /// Read the asynchronous event file.
    pub const READ_ASYNC_EVENT: &str = "read asynchronous event";
    /// Create, watch or wait for a file of events that belongs to no device.
    pub const WAIT_FOR_EVENTS: &str = "wait for events";
    /// Query the device's attributes.
    pub const QUERY_DEVICE: &str = "query device";
    /// Query a port's attributes.
    pub const QUERY_PORT: &str = "query port";
    /// Map a doorbell register.
    pub const MAP_DOORBELL: &str = "map doorbell";
    /// Allocate a protection domain.
    pub const ALLOC_PD: &str = "allocate protection domain";
    /// Register memory.
    pub const REGISTER_MEMORY: &str = "register memory";
    /// Create a completion channel.
    pub const CREATE_CHANNEL: &str = "create completion channel";
    /// Read a completion channel.
    pub const READ_COMPLETION_EVENT: &str = "read completion event";
    /// Create a completion queue.
    pub const CREATE_CQ: &str = "create completion queue";
    /// Create a raw packet queue pair.
    pub const CREATE_SEND_QUEUE: &str = "create send queue";
    /// Create a receive work queue.
    pub const CREATE_WORK_QUEUE: &str = "create work queue";
    /// Create an indirection table.
    pub const CREATE_INDIRECTION_TABLE: &str = "create indirection table";
    /// Create an RSS queue pair.
    pub const CREATE_RSS: &str = "create RSS queue pair";
    /// Destroy a protection domain.
    pub const DEALLOC_PD: &str = "deallocate protection domain";
    /// Deregister memory.
    pub const DEREGISTER_MEMORY: &str = "deregister memory";
    /// Destroy a completion queue.
    pub const DESTROY_CQ: &str = "destroy completion queue";
    /// Destroy a raw packet queue pair.
    pub const DESTROY_SEND_QUEUE: &str = "destroy send queue";
    /// Destroy a receive work queue.
    pub const DESTROY_WORK_QUEUE: &str = "destroy work queue";
    /// Destroy an indirection table.
    pub const DESTROY_INDIRECTION_TABLE: &str = "destroy indirection table";
    /// Destroy an RSS queue pair.
    pub const DESTROY_RSS: &str = "destroy RSS queue pair";
}

/// A failed operation of the control path.
#[derive(Debug, thiserror::Error)]
pub enum VerbsError {
    /// The device's node could not be opened.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The libraries of rdma-core can't be used for the device.
    #[error(transparent)]
    RdmaCore(#[from] RdmaCoreError),
    /// The kernel accepts none of the driver ids under which MANA is known.
    #[error(
        "{device}: the kernel accepts none of the driver ids {tried:?}: no MANA device, or a kernel \
         that numbers it otherwise; check `rdma -d dev show {device}` and report its kernel version"
    )]
    DriverId {
        /// Name of the ib device.
        device: String,
        /// The ids that were tried, in order.
        tried: Vec<u32>,
    },
    /// The kernel refused an operation.
    #[error("{device}: {operation}: {errno}: {fix}")]
    Kernel {
        /// Name of the ib device.
        device: String,
        /// One of [`operation`].
        operation: &'static str,
        /// The kernel's answer.
        errno: Errno,
        /// What to do about it.
        fix: Cow<'static, str>,
    },
    /// The kernel or the device answered with something that can't be true. An object that came
    /// with the answer was destroyed again.
    #[error("{device}: {operation}: {problem}: the device can't be used; see `dmesg`")]
    Answer {
        /// Name of the ib device.
        device: String,
        /// One of [`operation`].
        operation: &'static str,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The caller asked for something impossible; nothing was asked of the kernel.
    #[error("{operation}: {problem}")]
    Argument {
        /// One of [`operation`].
        operation: &'static str,
        /// What is wrong and what would be right.
        problem: String,
    },
}

impl VerbsError {
    pub(crate) fn kernel(device: &str, operation: &'static str, errno: Errno) -> Self {
        Self::Kernel {
            device: device.to_owned(),
            operation,
            errno,
            fix: Cow::Borrowed(fix(operation, errno)),
        }
    }

    pub(crate) fn argument(operation: &'static str, problem: impl Into<String>) -> Self {
        Self::Argument {
            operation,
            problem: problem.into(),
        }
    }

    /// Replaces the guess at what mends an `ENOMEM` by what the limit on pinned memory says, which
    /// is asked only then.
    pub(crate) fn with_memlock(mut self, check: impl FnOnce() -> Result<(), MemoryError>) -> Self {
        if let Self::Kernel { errno, fix, .. } = &mut self
            && *errno == Errno::ENOMEM
            && let Err(limit) = check()
        {
            *fix = Cow::Owned(limit.to_string());
        }
        self
    }

    /// The operation that failed, one of [`operation`]; `None` where the node was not opened.
    #[must_use]
    pub fn operation(&self) -> Option<&'static str> {
        match self {
            Self::System(_) => None,
            Self::RdmaCore(_) => Some(operation::GET_CONTEXT),
            Self::DriverId { .. } => Some(operation::FIND_DRIVER_ID),
            Self::Kernel { operation, .. }
            | Self::Answer { operation, .. }
            | Self::Argument { operation, .. } => Some(operation),
        }
    }

    /// The kernel's error number, where it gave one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::System(error) => Some(error.errno),
            Self::Kernel { errno, .. } => Some(*errno),
            Self::DriverId { .. } => Some(Errno::EINVAL),
            Self::RdmaCore(_) | Self::Answer { .. } | Self::Argument { .. } => None,
        }
    }

    /// Whether the kernel took the device away from this context (driver unload, removal, reset):
    /// the kernel destroys what is left, at latest when the context is closed
    /// (reference/mana-hardware.md §4.9).
    #[must_use]
    pub fn is_disassociated(&self) -> bool {
        matches!(self, Self::Kernel { errno, .. } if *errno == Errno::EIO)
    }
}

/// What mends `errno` of `operation` (reference/mana-hardware.md §4.5-§4.8).
fn fix(operation: &'static str, errno: Errno) -> &'static str {
    match (operation, errno) {
        (_, Errno::EIO) => "the device was removed or reset; what was made of it is gone",
        (operation::CREATE_SEND_QUEUE, Errno::ENODEV | Errno::EBUSY) => {
            "the port's netdev, or another program, owns the vPort; take the netdev and its netvsc \
             master down: `sudo ip link set dev NAME down`"
        }
        (operation::CREATE_SEND_QUEUE, Errno::EPERM) => {
            "raw packets need CAP_NET_RAW: run as root or `sudo setcap cap_net_raw+ep PROGRAM`"
        }
        (operation::CREATE_SEND_QUEUE, Errno::EINVAL) => {
            "work requests up to max_qp_wr, 30 segments and an existing port are possible, and one \
             port for all send queues of a protection domain"
        }
        (operation::CREATE_RSS, Errno::EBUSY) => {
            "another RSS queue pair uses this protection domain; destroy it first"
        }
        (operation::CREATE_RSS, Errno::EINVAL) => {
            "create the port's send queues first, on the same protection domain"
        }
        (
            operation::REGISTER_MEMORY
            | operation::CREATE_CQ
            | operation::CREATE_SEND_QUEUE
            | operation::CREATE_WORK_QUEUE,
            Errno::ENOMEM,
        ) => {
            "pinned memory is limited by RLIMIT_MEMLOCK; raise it: `ulimit -l unlimited`, or \
             LimitMEMLOCK=infinity in a service"
        }
        (_, Errno::ENOMEM) => "memory or a resource of the device is exhausted; see `dmesg`",
        (_, Errno::EMFILE) => "too many open files; raise the limit: `ulimit -n 65536`",
        (_, Errno::ENOTTY | Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP) => {
            "this kernel does not know the operation; Linux 6.2 or newer is needed"
        }
        _ => "the kernel log may say why: `sudo dmesg | grep -i mana`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_vport_is_told_with_both_errnos_and_the_command_that_mends_it() {
        for errno in [Errno::ENODEV, Errno::EBUSY] {
            let error = VerbsError::kernel("mana_0", operation::CREATE_SEND_QUEUE, errno);
            assert_eq!(error.errno(), Some(errno));
            assert_eq!(error.operation(), Some("create send queue"));
            assert!(error.to_string().contains("ip link set"), "{error}");
            assert!(error.to_string().contains(errno.name().unwrap()), "{error}");
        }
    }

    #[test]
    fn a_registration_above_the_memlock_limit_is_told_with_its_numbers() {
        let limit = || {
            Err(MemoryError::MemlockLimit {
                needed: 2 << 20,
                pinned: 0,
                limit: 65_536,
            })
        };
        let error = |errno| {
            VerbsError::kernel("mana_0", operation::REGISTER_MEMORY, errno).with_memlock(limit)
        };
        let text = error(Errno::ENOMEM).to_string();
        assert!(
            text.contains("65536") && text.contains("ulimit -l"),
            "{text}"
        );
        assert!(!error(Errno::EINVAL).to_string().contains("65536"));
    }

    #[test]
    fn only_eio_tells_that_the_device_is_gone() {
        let error = |errno| VerbsError::kernel("mana_0", operation::DESTROY_CQ, errno);
        assert!(error(Errno::EIO).is_disassociated());
        assert!(!error(Errno::EBUSY).is_disassociated());
    }
}
