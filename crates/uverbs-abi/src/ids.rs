//! Numbers of the uverbs ABI (reference/mana-hardware.md §5.1-§5.4).

/// `RDMA_VERBS_IOCTL`: the one ioctl of the uverbs node.
pub const RDMA_VERBS_IOCTL: u32 = 0xC018_1B01;
/// Attribute flag: the kernel must know this attribute.
pub const ATTR_F_MANDATORY: u16 = 1;
/// Attribute flag set by the kernel on outputs it wrote.
pub const ATTR_F_VALID_OUTPUT: u16 = 2;
/// Driver ids under which MANA is found: 20 upstream, 19 in Ubuntu's 5.15 Azure backport.
pub const MANA_DRIVER_IDS: [u32; 2] = [20, 19];
/// PCI vendor id of Microsoft.
pub const VENDOR_MICROSOFT: u16 = 0x1414;
/// PCI device id of the MANA virtual function.
pub const DEVICE_MANA_VF: u16 = 0x00BA;
/// PCI device id of the MANA physical function.
pub const DEVICE_MANA_PF: u16 = 0x00B9;
/// `vendor_part_id` of the ib device that carries Ethernet (GDMA device type 2). 0 on kernels
/// before 6.16, which have one ib device for all (reference/mana-hardware.md §1.3).
pub const PART_ID_ETHERNET: u32 = 2;
/// `vendor_part_id` of the RNIC's ib device.
pub const PART_ID_RNIC: u32 = 3;
/// `IB_QPT_RAW_PACKET`.
pub const QPT_RAW_PACKET: u64 = 8;
/// `IB_WQT_RQ`.
pub const WQT_RQ: u64 = 0;
/// `IBV_ACCESS_LOCAL_WRITE`: what received packets need; sending needs no bit.
pub const ACCESS_LOCAL_WRITE: u32 = 1;
/// `MANA_IB_RX_HASH_FUNC_TOEPLITZ`.
pub const HASH_TOEPLITZ: u8 = 1;
/// `MANA_IB_CREATE_RNIC_CQ`: must not be set for Ethernet CQs.
pub const CREATE_RNIC_CQ: u16 = 1;
/// `cqid` of an Ethernet CQ before a queue uses it.
pub const CQ_ID_UNKNOWN: u32 = u32::MAX;
/// Asynchronous event: the device is gone (driver unload, removal, reset).
pub const EVENT_DEVICE_FATAL: u32 = 8;
/// Asynchronous event: the port's netdev came up.
pub const EVENT_PORT_ACTIVE: u32 = 9;
/// Asynchronous event: the port's netdev went down.
pub const EVENT_PORT_ERR: u32 = 10;
/// `IB_PORT_ACTIVE`.
pub const PORT_STATE_ACTIVE: u8 = 4;
/// `IB_PORT_DOWN`.
pub const PORT_STATE_DOWN: u8 = 1;
/// `IB_RAW_PACKET_CAP_IP_CSUM`, the raw packet capability that `manae_*` reports.
pub const RAW_PACKET_CAP_IP_CSUM: u32 = 1 << 2;
/// `RDMA_NODE_IB_CA`.
pub const NODE_TYPE_CA: u8 = 1;
/// Bit of a write command number that marks the extended form.
pub const WRITE_CMD_EXTENDED: u32 = 0x8000_0000;

/// Object ids.
pub mod object {
    /// The context itself.
    pub const DEVICE: u16 = 0;
    /// Protection domain.
    pub const PD: u16 = 1;
    /// Completion channel.
    pub const COMP_CHANNEL: u16 = 2;
    /// Completion queue.
    pub const CQ: u16 = 3;
    /// Queue pair.
    pub const QP: u16 = 4;
    /// Memory region.
    pub const MR: u16 = 7;
    /// Receive work queue indirection table.
    pub const RWQ_IND_TBL: u16 = 11;
    /// Work queue.
    pub const WQ: u16 = 12;
    /// Asynchronous event file.
    pub const ASYNC_EVENT: u16 = 16;
}

/// Method ids, by object.
pub mod method {
    /// DEVICE: a write command in an ioctl's clothes.
    pub const DEVICE_INVOKE_WRITE: u16 = 0;
    /// DEVICE: query a port.
    pub const DEVICE_QUERY_PORT: u16 = 2;
    /// DEVICE: create the context.
    pub const DEVICE_GET_CONTEXT: u16 = 3;
    /// PD: destroy.
    pub const PD_DESTROY: u16 = 0;
    /// CQ: create.
    pub const CQ_CREATE: u16 = 0;
    /// CQ: destroy.
    pub const CQ_DESTROY: u16 = 1;
    /// QP: create.
    pub const QP_CREATE: u16 = 0;
    /// QP: destroy.
    pub const QP_DESTROY: u16 = 1;
    /// MR: destroy.
    pub const MR_DESTROY: u16 = 1;
    /// Indirection table: destroy.
    pub const RWQ_IND_TBL_DESTROY: u16 = 0;
    /// WQ: create.
    pub const WQ_CREATE: u16 = 0;
    /// WQ: destroy.
    pub const WQ_DESTROY: u16 = 1;
    /// ASYNC_EVENT: allocate the event file.
    pub const ASYNC_EVENT_ALLOC: u16 = 0;
}

/// Attribute ids, by method.
pub mod attr {
    /// Driver data for the kernel.
    pub const UHW_IN: u16 = 0x1000;
    /// Driver data from the kernel.
    pub const UHW_OUT: u16 = 0x1001;

    /// INVOKE_WRITE: core request, without headers.
    pub const CORE_IN: u16 = 0;
    /// INVOKE_WRITE: core response.
    pub const CORE_OUT: u16 = 1;
    /// INVOKE_WRITE: command number (const).
    pub const WRITE_CMD: u16 = 2;

    /// GET_CONTEXT: number of completion vectors, out u32.
    pub const CONTEXT_NUM_COMP_VECTORS: u16 = 0;
    /// GET_CONTEXT: core features, out u64.
    pub const CONTEXT_CORE_SUPPORT: u16 = 1;

    /// QUERY_PORT: port number, in u8.
    pub const PORT_NUM: u16 = 0;
    /// QUERY_PORT: response, out 48 bytes.
    pub const PORT_RESP: u16 = 1;

    /// ASYNC_EVENT ALLOC: the new fd.
    pub const ASYNC_FD: u16 = 0;

    /// Every DESTROY: the object.
    pub const DESTROY_HANDLE: u16 = 0;
    /// DESTROY of CQ (8 bytes), QP (4) and WQ (4): numbers of events reported.
    pub const DESTROY_RESP: u16 = 1;

    /// CQ CREATE: new handle.
    pub const CQ_HANDLE: u16 = 0;
    /// CQ CREATE: entries, in u32.
    pub const CQ_CQE: u16 = 1;
    /// CQ CREATE: user handle, in u64 (comes back in completion events).
    pub const CQ_USER_HANDLE: u16 = 2;
    /// CQ CREATE: completion channel, fd (optional).
    pub const CQ_COMP_CHANNEL: u16 = 3;
    /// CQ CREATE: completion vector, in u32.
    pub const CQ_COMP_VECTOR: u16 = 4;
    /// CQ CREATE: flags, in u32 (optional).
    pub const CQ_FLAGS: u16 = 5;
    /// CQ CREATE: entries granted, out u32.
    pub const CQ_RESP_CQE: u16 = 6;
    /// CQ CREATE: asynchronous event file, fd (optional).
    pub const CQ_EVENT_FD: u16 = 7;

    /// WQ CREATE: new handle.
    pub const WQ_HANDLE: u16 = 0;
    /// WQ CREATE: PD.
    pub const WQ_PD: u16 = 1;
    /// WQ CREATE: CQ.
    pub const WQ_CQ: u16 = 2;
    /// WQ CREATE: user handle, in u64.
    pub const WQ_USER_HANDLE: u16 = 3;
    /// WQ CREATE: type, const.
    pub const WQ_TYPE: u16 = 4;
    /// WQ CREATE: asynchronous event file, fd (optional).
    pub const WQ_EVENT_FD: u16 = 5;
    /// WQ CREATE: work requests, in u32.
    pub const WQ_MAX_WR: u16 = 6;
    /// WQ CREATE: segments, in u32.
    pub const WQ_MAX_SGE: u16 = 7;
    /// WQ CREATE: flags, in u32 (mandatory).
    pub const WQ_FLAGS: u16 = 8;
    /// WQ CREATE: work requests granted, out u32.
    pub const WQ_RESP_MAX_WR: u16 = 9;
    /// WQ CREATE: segments granted, out u32.
    pub const WQ_RESP_MAX_SGE: u16 = 10;
    /// WQ CREATE: number, out u32 (meaningless for MANA).
    pub const WQ_RESP_WQ_NUM: u16 = 11;

    /// QP CREATE: new handle.
    pub const QP_HANDLE: u16 = 0;
    /// QP CREATE: PD.
    pub const QP_PD: u16 = 2;
    /// Handle of a shared receive queue.
    pub const QP_SRQ: u16 = 3;
    /// QP CREATE: CQ of the send side.
    pub const QP_SEND_CQ: u16 = 4;
    /// QP CREATE: CQ of the receive side.
    pub const QP_RECV_CQ: u16 = 5;
    /// QP CREATE: indirection table.
    pub const QP_IND_TABLE: u16 = 6;
    /// QP CREATE: user handle, in u64.
    pub const QP_USER_HANDLE: u16 = 7;
    /// QP CREATE: capabilities, in 20 bytes.
    pub const QP_CAP: u16 = 8;
    /// QP CREATE: type, const.
    pub const QP_TYPE: u16 = 9;
    /// `IB_UVERBS_QP_CREATE_*`, 4 or 8 bytes in.
    pub const QP_FLAGS: u16 = 10;
    /// QP CREATE: asynchronous event file, fd (optional).
    pub const QP_EVENT_FD: u16 = 12;
    /// QP CREATE: capabilities granted, out 20 bytes.
    pub const QP_RESP_CAP: u16 = 13;
    /// QP CREATE: number, out u32.
    pub const QP_RESP_QP_NUM: u16 = 14;
}

/// Numbers of write commands (used through INVOKE_WRITE).
pub mod write_cmd {
    use super::WRITE_CMD_EXTENDED;

    /// Query device, legacy form. Without buffers it probes the driver id: `ENOSPC` for the right
    /// one, `EINVAL` for a wrong one.
    pub const QUERY_DEVICE: u32 = 1;
    /// Query device, extended form.
    pub const EX_QUERY_DEVICE: u32 = WRITE_CMD_EXTENDED | 1;
    /// Allocate a protection domain.
    pub const ALLOC_PD: u32 = 3;
    /// Register memory.
    pub const REG_MR: u32 = 9;
    /// Create a completion channel.
    pub const CREATE_COMP_CHANNEL: u32 = 17;
    /// Create an indirection table.
    pub const EX_CREATE_RWQ_IND_TBL: u32 = WRITE_CMD_EXTENDED | 55;
}

/// Netlink numbers for finding a device's driver id (reference/mana-hardware.md §5.4).
pub mod nldev {
    /// `NETLINK_RDMA`.
    pub const NETLINK_RDMA: i32 = 20;
    /// `RDMA_NL_NLDEV`.
    pub const CLIENT: u16 = 5;
    /// Get or dump devices.
    pub const CMD_GET: u16 = 1;
    /// Get a character device.
    pub const CMD_GET_CHARDEV: u16 = 15;
    /// Attribute: device index, u32.
    pub const ATTR_DEV_INDEX: u16 = 1;
    /// Attribute: device name.
    pub const ATTR_DEV_NAME: u16 = 2;
    /// Attribute: character device type ("uverbs").
    pub const ATTR_CHARDEV_TYPE: u16 = 69;
    /// Attribute: character device name.
    pub const ATTR_CHARDEV_NAME: u16 = 70;
    /// Attribute: driver id, u32.
    pub const ATTR_UVERBS_DRIVER_ID: u16 = 73;
}
