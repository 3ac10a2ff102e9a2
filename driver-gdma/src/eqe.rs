//! Event queue entries (§2.5, §6.8). The kernel owns event queues; a model of the device writes them.

use core::fmt;

use bitfield_struct::bitfield;

/// Size of an entry in bytes.
pub const SIZE: usize = 16;
/// 64-bit words of an entry. The last one holds the owner bits.
pub const WORDS: usize = SIZE / 8;

/// Types of events (§6.8).
pub mod event {
    /// A completion queue has news; the first detail is its id.
    pub const COMPLETION: u8 = 3;
    /// Answer to a request for a test event.
    pub const TEST: u8 = 64;
    /// The first of three that bring the hardware channel up: its event queue.
    pub const HWC_INIT_EQ_ID_DB: u8 = 129;
    /// A value of the hardware channel's set-up.
    pub const HWC_INIT_DATA: u8 = 130;
    /// The hardware channel is up.
    pub const HWC_INIT_DONE: u8 = 131;
    /// The device is about to be reconfigured; it goes away for ten seconds.
    pub const FPGA_RECONFIG: u8 = 132;
    /// A setting changed: timeout of the hardware channel, link up, link down.
    pub const SOC_RECONFIG_DATA: u8 = 133;
    /// RDMA is suspended or resumed.
    pub const SOC_SERVICE: u8 = 134;
    /// The driver shall suspend and resume the device.
    pub const RESET_REQUEST: u8 = 135;
    /// An RNIC queue pair failed; the first detail is its number.
    pub const RNIC_QP_FATAL: u8 = 176;

    /// The name of a type, if it is one of these.
    #[must_use]
    pub const fn name(event_type: u8) -> Option<&'static str> {
        Some(match event_type {
            COMPLETION => "COMPLETION",
            TEST => "TEST_EVENT",
            HWC_INIT_EQ_ID_DB => "HWC_INIT_EQ_ID_DB",
            HWC_INIT_DATA => "HWC_INIT_DATA",
            HWC_INIT_DONE => "HWC_INIT_DONE",
            FPGA_RECONFIG => "FPGA_RECONFIG",
            SOC_RECONFIG_DATA => "SOC_RECONFIG_DATA",
            SOC_SERVICE => "SOC_SERVICE",
            RESET_REQUEST => "RESET_REQUEST",
            RNIC_QP_FATAL => "RNIC_QP_FATAL",
            _ => return None,
        })
    }
}

/// The last dword of an entry; the 12 bytes before it are the details.
#[bitfield(u32)]
#[derive(PartialEq, Eq)]
pub struct EqeTail {
    /// What happened, see [`event`].
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

/// An entry as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eqe {
    /// What the type says about them.
    pub details: [u32; 3],
    /// Type, client and owner.
    pub tail: EqeTail,
}

const _: () = assert!(size_of::<Eqe>() == SIZE && size_of::<EqeTail>() == 4);

impl Eqe {
    /// The entry as it stands in the ring.
    #[must_use]
    pub const fn words(self) -> [u64; WORDS] {
        let [a, b, c] = self.details;
        [
            a as u64 | (b as u64) << 32,
            c as u64 | (self.tail.into_bits() as u64) << 32,
        ]
    }

    /// The entry that stands in the ring as `words`.
    #[must_use]
    pub const fn from_words([first, last]: [u64; WORDS]) -> Self {
        Self {
            details: [first as u32, (first >> 32) as u32, last as u32],
            tail: EqeTail::from_bits((last >> 32) as u32),
        }
    }
}

impl fmt::Display for Eqe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c] = self.details;
        match event::name(self.tail.event_type()) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "event {}", self.tail.event_type())?,
        }
        write!(f, " {a:#x} {b:#x} {c:#x} owner {}", self.tail.owner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.5: type 0-7, client_id 16-17, owner 29-31 of byte 12; details in bytes 0-11. §6.8: the
    /// first detail of COMPLETION is the CQ's id.
    #[test]
    fn an_entry_is_twelve_bytes_of_details_and_a_tail() {
        let bytes = [
            0x56, 0x34, 0x12, 0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 3, 0, 2, 0x20,
        ];
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        let eqe = Eqe::from_words([word(0), word(8)]);
        assert_eq!(eqe.details, [0x12_3456, 0x4433_2211, 0x8877_6655]);
        let tail = eqe.tail;
        assert_eq!(
            (tail.event_type(), tail.client_id(), tail.owner()),
            (event::COMPLETION, 2, 1)
        );
        assert_eq!((tail.reserved0(), tail.reserved1()), (0, 0));
        assert_eq!(eqe.words(), [word(0), word(8)]);
        assert_eq!(
            eqe.to_string(),
            "COMPLETION 0x123456 0x44332211 0x88776655 owner 1"
        );
    }

    /// §2.5: bits 8-15 and 18-28 are reserved.
    #[test]
    fn reserved_bits_are_told_from_the_others() {
        let tail = EqeTail::from_bits(0x1FFC_FF00);
        assert_eq!((tail.reserved0(), tail.reserved1()), (0xFF, 0x7FF));
        assert_eq!(
            (tail.event_type(), tail.client_id(), tail.owner()),
            (0, 0, 0)
        );
    }

    /// §6.8.
    #[test]
    fn types_have_the_names_of_the_table() {
        let named: Vec<u8> = (0..=255).filter(|&t| event::name(t).is_some()).collect();
        assert_eq!(named, [3, 64, 129, 130, 131, 132, 133, 134, 135, 176]);
    }
}
