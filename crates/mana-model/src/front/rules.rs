//! In what the kernels differ: one table, filled in once a flavour.

use uverbs_abi::Errno;
use uverbs_abi::ids::{PART_ID_ETHERNET, PART_ID_RNIC, RAW_PACKET_CAP_IP_CSUM, VENDOR_MICROSOFT};

use crate::config::Kernel;

/// The rules of one kernel. What is not here is the same in all.
#[derive(Debug)]
pub(crate) struct Rules {
    /// The ib devices of a PCI function (reference/mana-hardware.md §1.3).
    pub(crate) ib_devices: &'static [IbKind],
    /// Raw QP while the vPort belongs to the netdev or another PD (§4.5).
    pub(crate) vport_in_use: Errno,
    /// Whether a PD that has a raw QP is refused on a second port; otherwise the second port is
    /// silently not configured and gets the first one's vPort offset (§4.5).
    pub(crate) pd_bound_to_port: bool,
    /// Whether the RSS QP needs a raw QP on the same PD and port, and then keeps the vPort (§4.6).
    pub(crate) rss_needs_raw_qp: bool,
    /// Whether a second RSS QP on a PD is refused; otherwise it overwrites the steering (§4.6).
    pub(crate) one_rss_qp: bool,
    /// Access bits of REG_MR that are understood (§4.8).
    pub(crate) access: u32,
    /// Access bits that are dropped without a word (§4.8).
    pub(crate) access_optional: u32,
    /// Whether trailing driver data must be zero (§4.10).
    pub(crate) strict_driver_data: bool,
    /// Whether `MANA_IB_CREATE_RNIC_CQ` makes a CQ that Ethernet can't use (§4.1).
    pub(crate) rnic_cq_flag: bool,
    /// Whether changes of the netdev's state are asynchronous events of the port (§4.9).
    pub(crate) port_events: bool,
    /// Whether a QP without room for the driver's answer is refused.
    pub(crate) answer_needs_room: bool,
    /// Whether the first port says of itself what a port of RoCE does, as it does where one ib device
    /// is for both.
    pub(crate) first_port_is_roce: bool,
    /// Whether CQs have an event queue, without which completion channels stay silent (§4.10).
    pub(crate) cq_events: bool,
    /// Whether CREATE_CQ answers driver data (§4.10, rdma-core v53).
    pub(crate) create_cq_answer: bool,
    /// Whether steering asks for several packets a completion: the V2 message (§3.6, §4.10).
    pub(crate) coalescing: bool,
    /// Whether reception is turned off before an RSS QP's queues are destroyed (§3.11).
    pub(crate) rss_destroy_disables: bool,
    /// Whether QUERY_PORT says more than zeros (`mana_ib_query_port`, empty in 6.2).
    pub(crate) port_properties: bool,
}

/// One kind of ib device.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IbKind {
    /// Its name without the number.
    pub(crate) prefix: &'static str,
    /// Whether raw packet queues can be created on it.
    pub(crate) ethernet: bool,
    /// `vendor_id` of QUERY_DEVICE.
    pub(crate) vendor_id: u32,
    /// `vendor_part_id` of QUERY_DEVICE.
    pub(crate) vendor_part_id: u32,
    /// `raw_packet_caps` of EX QUERY_DEVICE.
    pub(crate) raw_packet_caps: u32,
}

impl Kernel {
    pub(crate) const fn rules(self) -> &'static Rules {
        match self {
            Self::V6_12 => &KERNEL_6_12,
            Self::V7_3 => &KERNEL_7_3,
            Self::V5_15Azure => &KERNEL_5_15_AZURE,
        }
    }
}

const LOCAL_WRITE_TO_REMOTE_READ: u32 = 0b111;
const ATOMIC_TO_ZERO_BASED: u32 = 0b11_1000;
/// `IB_ACCESS_OPTIONAL`: bits 20 to 29.
const OPTIONAL: u32 = 0x3FF0_0000;

const KERNEL_6_12: Rules = Rules {
    ib_devices: &[IbKind {
        prefix: "mana",
        ethernet: true,
        vendor_id: 0,
        vendor_part_id: 0,
        raw_packet_caps: 0,
    }],
    vport_in_use: Errno::ENODEV,
    pd_bound_to_port: false,
    rss_needs_raw_qp: false,
    one_rss_qp: false,
    access: LOCAL_WRITE_TO_REMOTE_READ,
    access_optional: OPTIONAL,
    strict_driver_data: false,
    rnic_cq_flag: true,
    port_events: false,
    answer_needs_room: true,
    first_port_is_roce: true,
    cq_events: true,
    create_cq_answer: true,
    coalescing: true,
    rss_destroy_disables: true,
    port_properties: true,
};

const KERNEL_7_3: Rules = Rules {
    ib_devices: &[
        IbKind {
            prefix: "mana",
            ethernet: false,
            vendor_id: VENDOR_MICROSOFT as u32,
            vendor_part_id: PART_ID_RNIC,
            raw_packet_caps: 0,
        },
        IbKind {
            prefix: "manae",
            ethernet: true,
            vendor_id: VENDOR_MICROSOFT as u32,
            vendor_part_id: PART_ID_ETHERNET,
            raw_packet_caps: RAW_PACKET_CAP_IP_CSUM,
        },
    ],
    vport_in_use: Errno::EBUSY,
    pd_bound_to_port: true,
    rss_needs_raw_qp: true,
    one_rss_qp: true,
    access: LOCAL_WRITE_TO_REMOTE_READ | ATOMIC_TO_ZERO_BASED,
    access_optional: OPTIONAL,
    strict_driver_data: true,
    rnic_cq_flag: false,
    port_events: true,
    answer_needs_room: false,
    first_port_is_roce: false,
    cq_events: true,
    create_cq_answer: true,
    coalescing: true,
    rss_destroy_disables: true,
    port_properties: true,
};

/// mana_ib as it was merged in 6.2, which is what Azure's 5.15 has.
const KERNEL_5_15_AZURE: Rules = Rules {
    rnic_cq_flag: false,
    cq_events: false,
    create_cq_answer: false,
    coalescing: false,
    rss_destroy_disables: false,
    port_properties: false,
    ..KERNEL_6_12
};
