//! What a device found out about a packet, and what it is asked to do with one.

mod checksum;
mod packet_type;
mod rx;
mod sum;
mod toeplitz;
mod tx;

pub use checksum::ChecksumError;
pub use packet_type::{L3Type, L4Type, PacketType};
pub(crate) use rx::VLAN_ID;
pub use rx::{Checksum, HashType, RxWord, VLAN_PRESENT};
pub use sum::InternetSum;
pub use toeplitz::{RSS_KEY, Toeplitz};
pub use tx::{OffloadError, TxFlags, TxOffload, TxWord};
