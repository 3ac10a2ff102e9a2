//! What a device and its ports say about themselves.

use std::mem::offset_of;

use uverbs_abi::ids::PART_ID_ETHERNET;
use uverbs_abi::wire::{ExQueryDeviceResp, QueryPortResp};

/// Limits and identity of a device (reference/mana-hardware.md §4.7). Whatever the device claims
/// is passed on: nothing here is checked for plausibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAttributes {
    /// Firmware version; 0 through rdma-core, whose libmana does not pass it on.
    pub fw_ver: u64,
    /// PCI vendor, 0 on kernels before 6.16.
    pub vendor_id: u32,
    /// 2 (Ethernet) or 3 (RNIC); 0 on kernels before 6.16, which have one ib device for both.
    pub vendor_part_id: u32,
    /// Number of ports, from 1.
    pub phys_port_cnt: u8,
    /// Queue pairs.
    pub max_qp: u32,
    /// Work requests of a queue.
    pub max_qp_wr: u32,
    /// Segments of a work request: the smaller of the limits for sending and receiving.
    pub max_sge: u32,
    /// Completion queues.
    pub max_cq: u32,
    /// Entries of a completion queue.
    pub max_cqe: u32,
    /// Memory regions.
    pub max_mr: u32,
    /// Protection domains.
    pub max_pd: u32,
    /// Bytes of a memory region.
    pub max_mr_size: u64,
    /// Page sizes the device translates, a bit each.
    pub page_size_cap: u64,
    /// Raw packet capabilities; 0 on kernels before 6.16 and where raw packets can't be sent.
    pub raw_packet_caps: u32,
}

impl DeviceAttributes {
    /// Whether raw packet queues can be made on this ib device: all of them on kernels that do
    /// not tell, otherwise the Ethernet one only (reference/mana-hardware.md §1.3).
    #[must_use]
    pub const fn carries_ethernet(&self) -> bool {
        match self.vendor_part_id {
            0 => true,
            PART_ID_ETHERNET => self.raw_packet_caps != 0,
            _ => false,
        }
    }

    /// Reads the kernel's answer; fields behind its `response_length` count as zero.
    pub(crate) fn from_wire(answer: &ExQueryDeviceResp) -> Self {
        let base = &answer.base;
        let raw_packet_caps_end = offset_of!(ExQueryDeviceResp, raw_packet_caps) + size_of::<u32>();
        let raw_packet_caps = if answer.response_length as usize >= raw_packet_caps_end {
            answer.raw_packet_caps
        } else {
            0
        };
        Self {
            fw_ver: base.fw_ver,
            vendor_id: base.vendor_id,
            vendor_part_id: base.vendor_part_id,
            phys_port_cnt: base.phys_port_cnt,
            max_qp: base.max_qp,
            max_qp_wr: base.max_qp_wr,
            max_sge: base.max_sge,
            max_cq: base.max_cq,
            max_cqe: base.max_cqe,
            max_mr: base.max_mr,
            max_pd: base.max_pd,
            max_mr_size: base.max_mr_size,
            page_size_cap: base.page_size_cap,
            raw_packet_caps,
        }
    }
}

/// State of a port. MANA reports it from the netdev, which is down while a poll-mode driver owns
/// the port: it is no link state (reference/mana-hardware.md §4.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAttributes {
    /// [`uverbs_abi::ids::PORT_STATE_ACTIVE`] or [`uverbs_abi::ids::PORT_STATE_DOWN`].
    pub state: u8,
    /// Largest MTU, as an enumeration (5 is 4096 bytes).
    pub max_mtu: u8,
    /// MTU, as an enumeration.
    pub active_mtu: u8,
    /// Width, as an enumeration.
    pub active_width: u8,
    /// Speed, as an enumeration.
    pub active_speed: u8,
    /// Physical state, as an enumeration.
    pub phys_state: u8,
    /// 2 for Ethernet.
    pub link_layer: u8,
}

impl PortAttributes {
    pub(crate) const fn from_wire(answer: &QueryPortResp) -> Self {
        Self {
            state: answer.state,
            max_mtu: answer.max_mtu,
            active_mtu: answer.active_mtu,
            active_width: answer.active_width,
            active_speed: answer.active_speed,
            phys_state: answer.phys_state,
            link_layer: answer.link_layer,
        }
    }
}

#[cfg(test)]
mod tests {
    use uverbs_abi::ids::{PART_ID_RNIC, RAW_PACKET_CAP_IP_CSUM};

    use super::*;

    fn answer(vendor_part_id: u32, raw_packet_caps: u32) -> ExQueryDeviceResp {
        let mut answer = ExQueryDeviceResp {
            response_length: 304,
            raw_packet_caps,
            ..Default::default()
        };
        answer.base.vendor_part_id = vendor_part_id;
        answer
    }

    /// The table of reference/mana-hardware.md §1.3.
    #[test]
    fn ethernet_is_carried_by_old_devices_and_by_part_2_with_raw_packets() {
        let carries =
            |part, caps| DeviceAttributes::from_wire(&answer(part, caps)).carries_ethernet();
        assert!(carries(0, 0));
        assert!(carries(PART_ID_ETHERNET, RAW_PACKET_CAP_IP_CSUM));
        assert!(!carries(PART_ID_ETHERNET, 0));
        assert!(!carries(PART_ID_RNIC, 0));
        assert!(!carries(PART_ID_RNIC, RAW_PACKET_CAP_IP_CSUM));
    }

    #[test]
    fn raw_packet_capabilities_behind_the_response_length_do_not_count() {
        let mut answer = answer(PART_ID_ETHERNET, RAW_PACKET_CAP_IP_CSUM);
        answer.response_length = 256;
        assert!(DeviceAttributes::from_wire(&answer).carries_ethernet());
        answer.response_length = 255;
        assert!(!DeviceAttributes::from_wire(&answer).carries_ethernet());
    }
}
