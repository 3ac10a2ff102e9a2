//! Failures on demand: what [`crate::Model::inject`] takes.

use uverbs_abi::Errno;

/// One failure, which happens once and is then spent. `port` counts over all devices from 0, `nth`
/// counts from 1 (the next one) at the moment of the injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The `nth` control operation (method call or doorbell mapping, over all devices) fails and
    /// has no effect.
    FailOperation {
        /// Which one.
        nth: u64,
        /// With what.
        errno: Errno,
    },
    /// The `nth` packet that the port takes from its send queues is not sent but ends in an error
    /// CQE, suppressed or not (reference/mana-hardware.md §3.4).
    TxError {
        /// The port.
        port: usize,
        /// Only packets of this send queue count; `None` counts those of every queue.
        sq: Option<u32>,
        /// Type of the CQE, 33 to 42.
        cqe_type: u8,
        /// Which packet.
        nth: u64,
    },
    /// The `nth` packet that the port would receive ends as TRUNCATED (type 4): buffer used,
    /// packet lost.
    RxTruncated {
        /// The port.
        port: usize,
        /// Which packet.
        nth: u64,
    },
    /// The `nth` CQE of the port, of either direction, comes with a client part of nonsense; queue
    /// and owner bits stay right.
    GarbageCqe {
        /// The port.
        port: usize,
        /// Which CQE.
        nth: u64,
    },
    /// The `nth` CQE of the port, of either direction, is never written: what it would have told is
    /// done, but the driver is not told.
    LostCqe {
        /// The port.
        port: usize,
        /// Which CQE.
        nth: u64,
    },
    /// The device goes away with the `nth` control operation (over all devices), which is the first
    /// to find it gone where it is one of the device's own; nothing where it is away by then.
    RemoveAt {
        /// Index of the device in [`crate::ModelConfig::devices`].
        device: usize,
        /// Which operation.
        nth: u64,
    },
    /// The device goes away at once, as by [`crate::Model::remove`]; nothing where it is away.
    DeviceFatal {
        /// Index of the device in [`crate::ModelConfig::devices`].
        device: usize,
    },
}
