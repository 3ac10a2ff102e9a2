//! Structures and constants of libibverbs and libmana, exactly those that this provider uses, as
//! the headers of rdma-core 44 and later declare them. `layout` compares them with the headers.
//!
//! Fields nobody here reads or writes are there for their room.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// `__VERBS_ABI_IS_EXTENDED`: in `abi_compat`, that a `verbs_context` lies around the context.
pub(super) const ABI_IS_EXTENDED: usize = usize::MAX;

/// `IBV_QPT_RAW_PACKET`.
pub(super) const QPT_RAW_PACKET: c_int = 8;
/// `IBV_WQT_RQ`.
pub(super) const WQT_RQ: c_int = 0;
/// `IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT`.
pub(super) const PARENT_DOMAIN_PD_CONTEXT: u32 = 1 << 1;
/// `IBV_QP_INIT_ATTR_PD`.
pub(super) const QP_INIT_PD: u32 = 1 << 0;
/// `IBV_QP_INIT_ATTR_IND_TABLE`.
pub(super) const QP_INIT_IND_TABLE: u32 = 1 << 4;
/// `IBV_QP_INIT_ATTR_RX_HASH`.
pub(super) const QP_INIT_RX_HASH: u32 = 1 << 5;
/// `IBV_RX_HASH_FUNC_TOEPLITZ`.
pub(super) const RX_HASH_TOEPLITZ: u8 = 1;
/// `IBV_RX_HASH_SRC_IPV4 | IBV_RX_HASH_DST_IPV4`, which no kernel reads
/// (reference/mana-hardware.md §4.6).
pub(super) const RX_HASH_IPV4: u64 = 3;
/// `MANADV_CTX_ATTR_BUF_ALLOCATORS`.
pub(super) const CTX_ATTR_BUF_ALLOCATORS: c_int = 0;
/// `MANADV_OBJ_QP`.
pub(super) const OBJ_QP: u64 = 1 << 0;
/// `MANADV_OBJ_CQ`.
pub(super) const OBJ_CQ: u64 = 1 << 1;
/// `MANADV_OBJ_RWQ`.
pub(super) const OBJ_RWQ: u64 = 1 << 2;

macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub(super) struct $name {
            _private: [u8; 0],
        }
    )*};
}

opaque! {
    /// `ibv_device`.
    Device
    /// `ibv_pd`.
    Pd
    /// `ibv_cq`.
    Cq
    /// `ibv_qp`.
    Qp
    /// `ibv_rwq_ind_table`.
    RwqIndTable
}

/// An operation that this provider does not call.
pub(super) type Unused = *const c_void;

/// `ibv_context_ops`.
#[repr(C)]
pub(super) struct ContextOps {
    pub(super) before: [Unused; 11],
    /// Every driver has one of its own, so that its address tells the driver.
    pub(super) poll_cq: Unused,
    pub(super) after: [Unused; 20],
}

/// `ibv_context`.
#[repr(C)]
pub(super) struct Context {
    pub(super) device: *mut Device,
    pub(super) ops: ContextOps,
    pub(super) cmd_fd: c_int,
    pub(super) async_fd: c_int,
    pub(super) num_comp_vectors: c_int,
    pub(super) mutex: libc::pthread_mutex_t,
    pub(super) abi_compat: *mut c_void,
}

pub(super) type QueryPort = unsafe extern "C" fn(*mut Context, u8, *mut PortAttr, usize) -> c_int;
pub(super) type AllocParentDomain =
    unsafe extern "C" fn(*mut Context, *mut ParentDomainInitAttr) -> *mut Pd;
pub(super) type DestroyRwqIndTable = unsafe extern "C" fn(*mut RwqIndTable) -> c_int;
pub(super) type CreateRwqIndTable =
    unsafe extern "C" fn(*mut Context, *mut RwqIndTableInitAttr) -> *mut RwqIndTable;
pub(super) type DestroyWq = unsafe extern "C" fn(*mut Wq) -> c_int;
pub(super) type CreateWq = unsafe extern "C" fn(*mut Context, *mut WqInitAttr) -> *mut Wq;
pub(super) type QueryDeviceEx =
    unsafe extern "C" fn(*mut Context, *const c_void, *mut DeviceAttrEx, usize) -> c_int;
pub(super) type CreateQpEx = unsafe extern "C" fn(*mut Context, *mut QpInitAttrEx) -> *mut Qp;

/// `verbs_context`, from `query_port` down. It grows upwards: new operations are added above the
/// first, so that only distances from its end are fixed.
#[repr(C)]
pub(super) struct VerbsContext {
    pub(super) query_port: Option<QueryPort>,
    pub(super) from_advise_mr: [Unused; 13],
    pub(super) alloc_parent_domain: Option<AllocParentDomain>,
    pub(super) from_dealloc_td: [Unused; 4],
    pub(super) destroy_rwq_ind_table: Option<DestroyRwqIndTable>,
    pub(super) create_rwq_ind_table: Option<CreateRwqIndTable>,
    pub(super) destroy_wq: Option<DestroyWq>,
    pub(super) modify_wq: Unused,
    pub(super) create_wq: Option<CreateWq>,
    pub(super) from_query_rt_values: [Unused; 3],
    pub(super) query_device_ex: Option<QueryDeviceEx>,
    pub(super) from_destroy_flow: [Unused; 5],
    pub(super) create_qp_ex: Option<CreateQpEx>,
    pub(super) from_get_srq_num: [Unused; 4],
    pub(super) placeholder: u64,
    /// Bytes of the library's own `verbs_context`.
    pub(super) sz: usize,
    pub(super) context: Context,
}

/// `ibv_mr`.
#[repr(C)]
pub(super) struct Mr {
    pub(super) context: *mut Context,
    pub(super) pd: *mut Pd,
    pub(super) addr: *mut c_void,
    pub(super) length: usize,
    pub(super) handle: u32,
    pub(super) lkey: u32,
    pub(super) rkey: u32,
}

/// `ibv_comp_channel`.
#[repr(C)]
pub(super) struct CompChannel {
    pub(super) context: *mut Context,
    pub(super) fd: c_int,
    pub(super) refcnt: c_int,
}

/// `ibv_wq`.
#[repr(C)]
pub(super) struct Wq {
    pub(super) context: *mut Context,
    pub(super) wq_context: *mut c_void,
    pub(super) pd: *mut Pd,
    pub(super) cq: *mut Cq,
    pub(super) wq_num: u32,
    pub(super) handle: u32,
    pub(super) state: c_int,
    pub(super) wq_type: c_int,
    pub(super) post_recv: Unused,
    pub(super) mutex: libc::pthread_mutex_t,
    pub(super) cond: libc::pthread_cond_t,
    pub(super) events_completed: u32,
    pub(super) comp_mask: u32,
}

/// `ibv_parent_domain_init_attr`.
#[repr(C)]
pub(super) struct ParentDomainInitAttr {
    pub(super) pd: *mut Pd,
    pub(super) td: *mut c_void,
    pub(super) comp_mask: u32,
    pub(super) alloc: Unused,
    pub(super) free: Unused,
    pub(super) pd_context: *mut c_void,
}

/// `ibv_wq_init_attr`.
#[repr(C)]
pub(super) struct WqInitAttr {
    pub(super) wq_context: *mut c_void,
    pub(super) wq_type: c_int,
    pub(super) max_wr: u32,
    pub(super) max_sge: u32,
    pub(super) pd: *mut Pd,
    pub(super) cq: *mut Cq,
    pub(super) comp_mask: u32,
    pub(super) create_flags: u32,
}

/// `ibv_rwq_ind_table_init_attr`.
#[repr(C)]
pub(super) struct RwqIndTableInitAttr {
    pub(super) log_ind_tbl_size: u32,
    pub(super) ind_tbl: *mut *mut Wq,
    pub(super) comp_mask: u32,
}

/// `ibv_qp_cap`.
#[repr(C)]
#[derive(Default)]
pub(super) struct QpCap {
    pub(super) max_send_wr: u32,
    pub(super) max_recv_wr: u32,
    pub(super) max_send_sge: u32,
    pub(super) max_recv_sge: u32,
    pub(super) max_inline_data: u32,
}

/// `ibv_qp_init_attr`.
#[repr(C)]
pub(super) struct QpInitAttr {
    pub(super) qp_context: *mut c_void,
    pub(super) send_cq: *mut Cq,
    pub(super) recv_cq: *mut Cq,
    pub(super) srq: *mut c_void,
    pub(super) cap: QpCap,
    pub(super) qp_type: c_int,
    pub(super) sq_sig_all: c_int,
}

/// `ibv_rx_hash_conf`.
#[repr(C)]
pub(super) struct RxHashConf {
    pub(super) rx_hash_function: u8,
    pub(super) rx_hash_key_len: u8,
    pub(super) rx_hash_key: *mut u8,
    pub(super) rx_hash_fields_mask: u64,
}

/// `ibv_qp_init_attr_ex`.
#[repr(C)]
pub(super) struct QpInitAttrEx {
    pub(super) qp_context: *mut c_void,
    pub(super) send_cq: *mut Cq,
    pub(super) recv_cq: *mut Cq,
    pub(super) srq: *mut c_void,
    pub(super) cap: QpCap,
    pub(super) qp_type: c_int,
    pub(super) sq_sig_all: c_int,
    pub(super) comp_mask: u32,
    pub(super) pd: *mut Pd,
    pub(super) xrcd: *mut c_void,
    pub(super) create_flags: u32,
    pub(super) max_tso_header: u16,
    pub(super) rwq_ind_tbl: *mut RwqIndTable,
    pub(super) rx_hash_conf: RxHashConf,
    pub(super) source_qpn: u32,
    pub(super) send_ops_flags: u64,
}

/// `ibv_device_attr`.
#[repr(C)]
pub(super) struct DeviceAttr {
    pub(super) fw_ver: [c_char; 64],
    pub(super) node_guid: u64,
    pub(super) sys_image_guid: u64,
    pub(super) max_mr_size: u64,
    pub(super) page_size_cap: u64,
    pub(super) vendor_id: u32,
    pub(super) vendor_part_id: u32,
    pub(super) hw_ver: u32,
    pub(super) max_qp: c_int,
    pub(super) max_qp_wr: c_int,
    pub(super) device_cap_flags: c_uint,
    pub(super) max_sge: c_int,
    pub(super) max_sge_rd: c_int,
    pub(super) max_cq: c_int,
    pub(super) max_cqe: c_int,
    pub(super) max_mr: c_int,
    pub(super) max_pd: c_int,
    pub(super) from_max_qp_rd_atom: [c_int; 20],
    pub(super) max_pkeys: u16,
    pub(super) local_ca_ack_delay: u8,
    pub(super) phys_port_cnt: u8,
}

/// `ibv_device_attr_ex`.
#[repr(C)]
pub(super) struct DeviceAttrEx {
    pub(super) orig_attr: DeviceAttr,
    pub(super) comp_mask: u32,
    pub(super) from_odp_caps: [u64; 11],
    pub(super) max_wq_type_rq: u32,
    pub(super) packet_pacing_caps: [u32; 3],
    pub(super) raw_packet_caps: u32,
    pub(super) from_tm_caps: [u32; 6],
    pub(super) max_dm_size: u64,
    pub(super) from_pci_atomic_caps: [u64; 2],
}

/// `ibv_port_attr` as rdma-core 44 has it. Later ones are longer; the library is told how much room
/// there is.
#[repr(C)]
pub(super) struct PortAttr {
    pub(super) state: c_int,
    pub(super) max_mtu: c_int,
    pub(super) active_mtu: c_int,
    pub(super) from_gid_tbl_len: [u32; 5],
    pub(super) from_pkey_tbl_len: [u16; 3],
    pub(super) from_lmc: [u8; 5],
    pub(super) active_width: u8,
    pub(super) active_speed: u8,
    pub(super) phys_state: u8,
    pub(super) link_layer: u8,
    pub(super) flags: u8,
    pub(super) port_cap_flags2: u16,
}

/// `ibv_async_event`.
#[repr(C)]
#[derive(Default)]
pub(super) struct AsyncEvent {
    /// A pointer to the object, or in the first half the number of the port.
    pub(super) element: u64,
    pub(super) event_type: c_int,
}

/// `manadv_ctx_allocators`.
#[repr(C)]
pub(super) struct Allocators {
    pub(super) alloc: unsafe extern "C" fn(usize, *mut c_void) -> *mut c_void,
    pub(super) free: unsafe extern "C" fn(*mut c_void, *mut c_void),
    pub(super) data: *mut c_void,
}

/// `manadv_qp`.
#[repr(C)]
pub(super) struct ManaQp {
    pub(super) sq_buf: *mut c_void,
    /// Work requests, not units of the ring: nothing to count ring space by
    /// (reference/mana-hardware.md §8, defect 17).
    pub(super) sq_count: u32,
    /// Bytes.
    pub(super) sq_size: u32,
    pub(super) sq_id: u32,
    pub(super) tx_vp_offset: u32,
    pub(super) db_page: *mut c_void,
}

/// `manadv_cq`.
#[repr(C)]
pub(super) struct ManaCq {
    pub(super) buf: *mut c_void,
    pub(super) count: u32,
    pub(super) cq_id: u32,
}

/// `manadv_rwq`.
#[repr(C)]
pub(super) struct ManaRwq {
    pub(super) buf: *mut c_void,
    pub(super) count: u32,
    pub(super) size: u32,
    pub(super) wq_id: u32,
    pub(super) db_page: *mut c_void,
}

/// One pair of pointers in `manadv_obj`.
#[repr(C)]
pub(super) struct InOut<I, O> {
    pub(super) input: *mut I,
    pub(super) output: *mut O,
}

/// `manadv_obj`.
#[repr(C)]
pub(super) struct Obj {
    pub(super) qp: InOut<Qp, ManaQp>,
    pub(super) cq: InOut<Cq, ManaCq>,
    pub(super) rwq: InOut<Wq, ManaRwq>,
}
