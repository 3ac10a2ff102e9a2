//! Event queue entries (§2.5, §6.8).

use bitfield_struct::bitfield;

/// Size of an entry in bytes.
pub const SIZE: usize = 16;
/// A completion queue has news; the first dword of the details is its id.
pub const TYPE_COMPLETION: u8 = 3;
/// Answer to a request for a test event.
pub const TYPE_TEST: u8 = 64;

/// The last dword of an entry; the 12 bytes before it are the details.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EqeTail {
    /// What happened.
    pub event_type: u8,
    /// Zero.
    pub reserved0: u8,
    /// Client it is for.
    #[bits(2)]
    pub client_id: u8,
    /// Zero.
    #[bits(11)]
    pub reserved1: u16,
    /// Owner bits, see [`crate::owner`].
    #[bits(3)]
    pub owner: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.5: type 0-7, client_id 16-17, owner 29-31.
    #[test]
    fn bits_stand_where_the_reference_says() {
        let tail = EqeTail::new()
            .with_event_type(TYPE_COMPLETION)
            .with_client_id(2)
            .with_owner(1);
        assert_eq!(tail.into_bits().to_le_bytes(), [3, 0, 2, 0x20]);
    }
}
