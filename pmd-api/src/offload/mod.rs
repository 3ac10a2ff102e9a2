//! What a device found out about a packet, and what it is asked to do with one.

mod checksum;
mod rx;
mod sum;
mod tx;

pub use checksum::ChecksumError;
pub use rx::{Checksum, HashType, RxWord, VLAN_PRESENT};
pub use sum::InternetSum;
pub use tx::{OffloadError, TxFlags, TxOffload, TxWord};
