//! Structures that cross the uverbs boundary, native byte order and natural alignment as in the
//! kernel's headers. Sizes and offsets: reference/mana-hardware.md §4.1, §5.3.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

macro_rules! wire {
    ($($(#[$doc:meta])* $name:ident, $size:literal { $($(#[$fdoc:meta])* $field:ident: $type:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            pub struct $name {
                $($(#[$fdoc])* pub $field: $type,)*
            }

            const _: () = assert!(size_of::<$name>() == $size);

            impl Default for $name {
                fn default() -> Self {
                    zerocopy::FromZeros::new_zeroed()
                }
            }
        )*
    };
}

wire! {
    /// `mana_ib_create_cq`: UHW_IN of CQ CREATE. Kernels accept the first 8 bytes alone.
    CreateCq, 16 {
        /// Address of the CQ buffer, page aligned and zeroed.
        buf_addr: u64,
        /// [`crate::ids::CREATE_RNIC_CQ`] or 0.
        flags: u16,
        /// Zero.
        reserved0: u16,
        /// Zero.
        reserved1: u32,
    }
    /// `mana_ib_create_cq_resp`: UHW_OUT of CQ CREATE.
    CreateCqResp, 8 {
        /// [`crate::ids::CQ_ID_UNKNOWN`] for Ethernet CQs.
        cqid: u32,
        /// Zero.
        reserved: u32,
    }
    /// `mana_ib_create_qp`: UHW_IN of QP CREATE for a raw send queue.
    CreateQp, 16 {
        /// Address of the SQ buffer, page aligned.
        sq_buf_addr: u64,
        /// Its size in bytes.
        sq_buf_size: u32,
        /// IB port, from 1.
        port: u32,
    }
    /// `mana_ib_create_qp_resp`: UHW_OUT of QP CREATE for a raw send queue.
    CreateQpResp, 16 {
        /// Send queue id.
        sqid: u32,
        /// Completion queue id.
        cqid: u32,
        /// The vPort offset that every OOB must carry.
        tx_vp_offset: u32,
        /// Zero.
        reserved: u32,
    }
    /// `mana_ib_create_wq`: UHW_IN of WQ CREATE. There is no response.
    CreateWq, 16 {
        /// Address of the RQ buffer, page aligned.
        wq_buf_addr: u64,
        /// Its size in bytes.
        wq_buf_size: u32,
        /// Zero.
        reserved: u32,
    }
    /// `mana_ib_create_qp_rss`: UHW_IN of QP CREATE with an indirection table.
    CreateQpRss, 64 {
        /// Ignored by every kernel.
        rx_hash_fields_mask: u64,
        /// [`crate::ids::HASH_TOEPLITZ`].
        rx_hash_function: u8,
        /// Zero.
        reserved: [u8; 7],
        /// 40, or 0 for a random key.
        rx_hash_key_len: u32,
        /// Toeplitz key.
        rx_hash_key: [u8; 40],
        /// IB port, from 1.
        port: u32,
    }
    /// Ids of one receive queue, see [`CreateQpRssResp`].
    RssQpEntry, 8 {
        /// Completion queue id.
        cqid: u32,
        /// Receive queue id.
        wqid: u32,
    }
    /// `mana_ib_create_qp_rss_resp`: UHW_OUT of QP CREATE with an indirection table; the only
    /// place where ids of receive queues appear.
    CreateQpRssResp, 520 {
        /// Number of entries filled in.
        num_entries: u64,
        /// In the order of the indirection table.
        entries: [RssQpEntry; 64],
    }
    /// `ib_uverbs_qp_cap`: capabilities of QP CREATE.
    QpCap, 20 {
        /// Send work requests.
        max_send_wr: u32,
        /// Receive work requests.
        max_recv_wr: u32,
        /// Segments of a send.
        max_send_sge: u32,
        /// Segments of a receive.
        max_recv_sge: u32,
        /// Inline bytes.
        max_inline_data: u32,
    }
    /// CORE_IN of ALLOC_PD and CREATE_COMP_CHANNEL: the slot of the response pointer, unused.
    ResponseSlot, 8 {
        /// Ignored under INVOKE_WRITE.
        response: u64,
    }
    /// CORE_OUT of ALLOC_PD.
    AllocPdResp, 4 {
        /// Handle of the PD.
        pd_handle: u32,
    }
    /// CORE_OUT of CREATE_COMP_CHANNEL.
    CreateCompChannelResp, 4 {
        /// New file descriptor.
        fd: u32,
    }
    /// CORE_IN of REG_MR.
    RegMr, 40 {
        /// Ignored under INVOKE_WRITE.
        response: u64,
        /// First byte of the memory.
        start: u64,
        /// Bytes.
        length: u64,
        /// Address by which segments name it; equal to `start` modulo the page size.
        hca_va: u64,
        /// PD it belongs to.
        pd_handle: u32,
        /// [`crate::ids::ACCESS_LOCAL_WRITE`] or 0.
        access_flags: u32,
    }
    /// CORE_OUT of REG_MR.
    RegMrResp, 12 {
        /// Handle of the MR.
        mr_handle: u32,
        /// Key for segments.
        lkey: u32,
        /// Key for peers (unused).
        rkey: u32,
    }
    /// CORE_IN of EX CREATE_RWQ_IND_TBL, followed by `1 << log_ind_tbl_size` WQ handles (u32),
    /// the whole padded to a multiple of 8 bytes.
    CreateRwqIndTbl, 8 {
        /// Zero.
        comp_mask: u32,
        /// Base 2 logarithm of the number of handles.
        log_ind_tbl_size: u32,
    }
    /// CORE_OUT of EX CREATE_RWQ_IND_TBL.
    CreateRwqIndTblResp, 16 {
        /// Zero.
        comp_mask: u32,
        /// At least 16.
        response_length: u32,
        /// Handle of the table.
        ind_tbl_handle: u32,
        /// Its number.
        ind_tbl_num: u32,
    }
    /// CORE_IN of EX QUERY_DEVICE.
    ExQueryDevice, 8 {
        /// Zero.
        comp_mask: u32,
        /// Zero.
        reserved: u32,
    }
    /// `ib_uverbs_query_device_resp`.
    QueryDeviceResp, 176 {
        /// Firmware version.
        fw_ver: u64,
        /// GUIDs of node and system image.
        guids: [u64; 2],
        /// Largest memory region in bytes.
        max_mr_size: u64,
        /// Page sizes, a bit each.
        page_size_cap: u64,
        /// PCI vendor, 0 on old kernels.
        vendor_id: u32,
        /// 0 on old kernels, else [`crate::ids::PART_ID_ETHERNET`] or
        /// [`crate::ids::PART_ID_RNIC`].
        vendor_part_id: u32,
        /// Hardware version.
        hw_ver: u32,
        /// QPs.
        max_qp: u32,
        /// Work requests of a queue.
        max_qp_wr: u32,
        /// Capability flags.
        device_cap_flags: u32,
        /// Segments: the smaller of send and receive.
        max_sge: u32,
        /// Segments of an RDMA read.
        max_sge_rd: u32,
        /// CQs.
        max_cq: u32,
        /// Entries of a CQ.
        max_cqe: u32,
        /// MRs.
        max_mr: u32,
        /// PDs.
        max_pd: u32,
        /// Fields that Ethernet does not use.
        unused: [u8; 83],
        /// Number of ports.
        phys_port_cnt: u8,
        /// Zero.
        reserved: [u8; 4],
    }
    /// `ib_uverbs_ex_query_device_resp`: CORE_OUT of EX QUERY_DEVICE.
    ExQueryDeviceResp, 304 {
        /// The base structure.
        base: QueryDeviceResp,
        /// Valid fields.
        comp_mask: u32,
        /// Bytes the kernel filled in.
        response_length: u32,
        /// On-demand paging, clocks, extended flags.
        unused0: [u8; 48],
        /// RSS: supported QP types, table sizes.
        rss_caps: [u32; 4],
        /// Receive work queues.
        max_wq_type_rq: u32,
        /// Raw packet capabilities, 0 where raw packets can't be sent.
        raw_packet_caps: u32,
        /// Tag matching, CQ moderation, device memory.
        unused1: [u8; 48],
    }
    /// `ib_uverbs_query_port_resp_ex`: answer of QUERY_PORT.
    QueryPortResp, 48 {
        /// Capability flags.
        port_cap_flags: u32,
        /// Largest message.
        max_msg_sz: u32,
        /// Key counters and size of the GID table.
        unused0: [u32; 3],
        /// Size of the key table and local ids.
        unused1: [u16; 3],
        /// `IB_PORT_ACTIVE` (4) where the netdev has a carrier and runs.
        state: u8,
        /// Largest MTU, as an enumeration.
        max_mtu: u8,
        /// MTU, as an enumeration (5 is 4096).
        active_mtu: u8,
        /// Fields that Ethernet does not use.
        unused2: [u8; 5],
        /// Width, as an enumeration.
        active_width: u8,
        /// Speed, as an enumeration.
        active_speed: u8,
        /// Physical state.
        phys_state: u8,
        /// 2 for Ethernet.
        link_layer: u8,
        /// Flags and reserved bytes.
        unused3: [u8; 10],
    }
    /// CQ DESTROY's response.
    DestroyCqResp, 8 {
        /// Completion events the kernel delivered.
        comp_events_reported: u32,
        /// Asynchronous events the kernel delivered.
        async_events_reported: u32,
    }
    /// `ib_uverbs_async_event_desc`: one record of the asynchronous event file.
    AsyncEvent, 16 {
        /// User handle of the object, or the port.
        element: u64,
        /// See [`crate::ids`] `EVENT_*`.
        event_type: u32,
        /// Zero.
        reserved: u32,
    }
    /// `ib_uverbs_comp_event_desc`: one record of a completion channel.
    CompEvent, 8 {
        /// User handle of the CQ.
        cq_handle: u64,
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// Offsets as compiled from the kernel's headers, reference/mana-hardware.md §4.1 and §5.3.
    #[test]
    fn offsets_are_those_of_the_kernel_headers() {
        assert_eq!(offset_of!(CreateQpRss, rx_hash_function), 8);
        assert_eq!(offset_of!(CreateQpRss, rx_hash_key_len), 16);
        assert_eq!(offset_of!(CreateQpRss, rx_hash_key), 20);
        assert_eq!(offset_of!(CreateQpRss, port), 60);
        assert_eq!(offset_of!(CreateQpRssResp, entries), 8);
        assert_eq!(offset_of!(QueryDeviceResp, max_mr_size), 24);
        assert_eq!(offset_of!(QueryDeviceResp, page_size_cap), 32);
        assert_eq!(offset_of!(QueryDeviceResp, vendor_id), 40);
        assert_eq!(offset_of!(QueryDeviceResp, vendor_part_id), 44);
        assert_eq!(offset_of!(QueryDeviceResp, max_qp), 52);
        assert_eq!(offset_of!(QueryDeviceResp, max_qp_wr), 56);
        assert_eq!(offset_of!(QueryDeviceResp, max_sge), 64);
        assert_eq!(offset_of!(QueryDeviceResp, max_cq), 72);
        assert_eq!(offset_of!(QueryDeviceResp, max_cqe), 76);
        assert_eq!(offset_of!(QueryDeviceResp, max_mr), 80);
        assert_eq!(offset_of!(QueryDeviceResp, max_pd), 84);
        assert_eq!(offset_of!(QueryDeviceResp, phys_port_cnt), 171);
        assert_eq!(offset_of!(ExQueryDeviceResp, comp_mask), 176);
        assert_eq!(offset_of!(ExQueryDeviceResp, response_length), 180);
        assert_eq!(offset_of!(ExQueryDeviceResp, rss_caps), 232);
        assert_eq!(offset_of!(ExQueryDeviceResp, max_wq_type_rq), 248);
        assert_eq!(offset_of!(ExQueryDeviceResp, raw_packet_caps), 252);
        assert_eq!(offset_of!(RegMr, start), 8);
        assert_eq!(offset_of!(RegMr, hca_va), 24);
        assert_eq!(offset_of!(RegMr, pd_handle), 32);
        assert_eq!(offset_of!(RegMr, access_flags), 36);
        assert_eq!(offset_of!(QueryPortResp, state), 26);
        assert_eq!(offset_of!(QueryPortResp, active_mtu), 28);
        assert_eq!(offset_of!(QueryPortResp, active_speed), 35);
        assert_eq!(offset_of!(QueryPortResp, phys_state), 36);
    }
}
