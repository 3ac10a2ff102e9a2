//! The methods of ib_uverbs that a raw-packet user needs, each with its attributes
//! (reference/mana-hardware.md §5.2).

use uverbs_abi::ids::{attr, method, object};
use uverbs_abi::wire;
use uverbs_abi::{Call, Errno};

use super::attributes::{Kind, Spec, needs, takes};

/// A method that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    InvokeWrite,
    QueryPort,
    GetContext,
    AllocAsyncEvent,
    DestroyPd,
    CreateCq,
    DestroyCq,
    CreateQp,
    DestroyQp,
    DestroyMr,
    DestroyTable,
    CreateWq,
    DestroyWq,
}

impl Method {
    /// `EPROTONOSUPPORT` where the object or the method does not exist.
    pub(crate) fn of(call: Call) -> Result<Self, Errno> {
        Ok(match (call.object, call.method) {
            (object::DEVICE, method::DEVICE_INVOKE_WRITE) => Self::InvokeWrite,
            (object::DEVICE, method::DEVICE_QUERY_PORT) => Self::QueryPort,
            (object::DEVICE, method::DEVICE_GET_CONTEXT) => Self::GetContext,
            (object::ASYNC_EVENT, method::ASYNC_EVENT_ALLOC) => Self::AllocAsyncEvent,
            (object::PD, method::PD_DESTROY) => Self::DestroyPd,
            (object::CQ, method::CQ_CREATE) => Self::CreateCq,
            (object::CQ, method::CQ_DESTROY) => Self::DestroyCq,
            (object::QP, method::QP_CREATE) => Self::CreateQp,
            (object::QP, method::QP_DESTROY) => Self::DestroyQp,
            (object::MR, method::MR_DESTROY) => Self::DestroyMr,
            (object::RWQ_IND_TBL, method::RWQ_IND_TBL_DESTROY) => Self::DestroyTable,
            (object::WQ, method::WQ_CREATE) => Self::CreateWq,
            (object::WQ, method::WQ_DESTROY) => Self::DestroyWq,
            _ => return Err(Errno::EPROTONOSUPPORT),
        })
    }

    /// Whether it destroys an object.
    pub(crate) const fn destroys(self) -> bool {
        matches!(
            self,
            Self::DestroyPd
                | Self::DestroyCq
                | Self::DestroyQp
                | Self::DestroyMr
                | Self::DestroyTable
                | Self::DestroyWq
        )
    }

    /// The attributes it takes.
    pub(crate) const fn attributes(self) -> &'static [Spec] {
        match self {
            Self::InvokeWrite => INVOKE_WRITE,
            Self::QueryPort => QUERY_PORT,
            Self::GetContext => GET_CONTEXT,
            Self::AllocAsyncEvent => ALLOC_ASYNC_EVENT,
            Self::DestroyPd | Self::DestroyMr | Self::DestroyTable => DESTROY,
            Self::CreateCq => CREATE_CQ,
            Self::DestroyCq => DESTROY_CQ,
            Self::CreateQp => CREATE_QP,
            Self::DestroyQp | Self::DestroyWq => DESTROY_QUEUE,
            Self::CreateWq => CREATE_WQ,
        }
    }
}

const INVOKE_WRITE: &[Spec] = &[
    takes(attr::CORE_IN, Kind::Data),
    takes(attr::CORE_OUT, Kind::Room(0)),
    needs(attr::WRITE_CMD, Kind::Const),
    takes(attr::UHW_IN, Kind::Data),
    takes(attr::UHW_OUT, Kind::Room(0)),
];

const QUERY_PORT: &[Spec] = &[
    needs(attr::PORT_NUM, Kind::Const),
    needs(
        attr::PORT_RESP,
        Kind::Room(size_of::<wire::QueryPortResp>()),
    ),
];

const GET_CONTEXT: &[Spec] = &[
    takes(attr::CONTEXT_NUM_COMP_VECTORS, Kind::Out(4)),
    takes(attr::CONTEXT_CORE_SUPPORT, Kind::Out(8)),
    takes(attr::UHW_IN, Kind::Data),
    takes(attr::UHW_OUT, Kind::Room(0)),
];

const ALLOC_ASYNC_EVENT: &[Spec] = &[needs(attr::ASYNC_FD, Kind::NewFd)];

const DESTROY: &[Spec] = &[needs(attr::DESTROY_HANDLE, Kind::Handle)];

const DESTROY_QUEUE: &[Spec] = &[
    needs(attr::DESTROY_HANDLE, Kind::Handle),
    needs(attr::DESTROY_RESP, Kind::Out(4)),
];

const DESTROY_CQ: &[Spec] = &[
    needs(attr::DESTROY_HANDLE, Kind::Handle),
    needs(
        attr::DESTROY_RESP,
        Kind::Out(size_of::<wire::DestroyCqResp>()),
    ),
];

const CREATE_CQ: &[Spec] = &[
    needs(attr::CQ_HANDLE, Kind::NewHandle),
    needs(attr::CQ_CQE, Kind::In(4)),
    needs(attr::CQ_USER_HANDLE, Kind::In(8)),
    takes(attr::CQ_COMP_CHANNEL, Kind::Fd),
    needs(attr::CQ_COMP_VECTOR, Kind::In(4)),
    takes(attr::CQ_FLAGS, Kind::Flags),
    needs(attr::CQ_RESP_CQE, Kind::Out(4)),
    takes(attr::CQ_EVENT_FD, Kind::Fd),
    takes(attr::UHW_IN, Kind::Data),
    takes(attr::UHW_OUT, Kind::Room(0)),
];

const CREATE_WQ: &[Spec] = &[
    needs(attr::WQ_HANDLE, Kind::NewHandle),
    needs(attr::WQ_PD, Kind::Handle),
    needs(attr::WQ_CQ, Kind::Handle),
    needs(attr::WQ_USER_HANDLE, Kind::In(8)),
    needs(attr::WQ_TYPE, Kind::Const),
    takes(attr::WQ_EVENT_FD, Kind::Fd),
    needs(attr::WQ_MAX_WR, Kind::In(4)),
    needs(attr::WQ_MAX_SGE, Kind::In(4)),
    needs(attr::WQ_FLAGS, Kind::Flags),
    needs(attr::WQ_RESP_MAX_WR, Kind::Out(4)),
    needs(attr::WQ_RESP_MAX_SGE, Kind::Out(4)),
    takes(attr::WQ_RESP_WQ_NUM, Kind::Out(4)),
    takes(attr::UHW_IN, Kind::Data),
    takes(attr::UHW_OUT, Kind::Room(0)),
];

const CREATE_QP: &[Spec] = &[
    needs(attr::QP_HANDLE, Kind::NewHandle),
    takes(attr::QP_PD, Kind::Handle),
    takes(attr::QP_SRQ, Kind::Handle),
    takes(attr::QP_SEND_CQ, Kind::Handle),
    takes(attr::QP_RECV_CQ, Kind::Handle),
    takes(attr::QP_IND_TABLE, Kind::Handle),
    needs(attr::QP_USER_HANDLE, Kind::In(8)),
    needs(attr::QP_CAP, Kind::In(size_of::<wire::QpCap>())),
    needs(attr::QP_TYPE, Kind::Const),
    takes(attr::QP_FLAGS, Kind::Flags),
    takes(attr::QP_EVENT_FD, Kind::Fd),
    needs(attr::QP_RESP_CAP, Kind::Room(size_of::<wire::QpCap>())),
    takes(attr::QP_RESP_QP_NUM, Kind::Out(4)),
    takes(attr::UHW_IN, Kind::Data),
    takes(attr::UHW_OUT, Kind::Room(0)),
];
