//! The verbs objects of a context, as the kernel's structures hold them.

use std::sync::Arc;

use uverbs_abi::{Errno, wire};

use super::events::EventFile;
use super::handles::Handles;
use super::methods::Method;
use crate::core::{MrId, PdId, RegionId};

/// One object.
pub(crate) enum Object {
    Pd(Pd),
    Mr(Mr),
    Cq(Cq),
    Wq(Wq),
    Table(Table),
    Qp(Qp),
}

/// A protection domain.
pub(crate) struct Pd {
    pub(crate) id: PdId,
    /// The vPort that its first raw QP took.
    pub(crate) vport: Option<Vport>,
}

/// A vPort in the hands of a PD.
pub(crate) struct Vport {
    /// The port, from 0.
    pub(crate) port: usize,
    /// What every OOB must carry.
    pub(crate) offset: u32,
    /// Raw QPs, and the RSS QP where the kernel counts it.
    pub(crate) users: u32,
}

/// A memory region.
pub(crate) struct Mr {
    pub(crate) id: MrId,
    pub(crate) pd: u32,
}

/// A completion queue. The device has none until a queue uses it.
#[derive(Clone)]
pub(crate) struct Cq {
    pub(crate) user_handle: u64,
    pub(crate) channel: Option<Arc<EventFile>>,
    /// Its ring; gone for good once a queue was made of it (reference/mana-hardware.md §4.2).
    pub(crate) region: Option<RegionId>,
    /// The device's number while a queue uses it.
    pub(crate) id: Option<u32>,
    /// Completion events written into the channel.
    pub(crate) events: u32,
    /// Made for the RNIC: useless for Ethernet (§4.1).
    pub(crate) rnic: bool,
}

impl Cq {
    /// What its destruction answers: how many events the program has read, for as many
    /// acknowledgements libibverbs waits. Those that it has not read are taken back.
    pub(crate) fn reported(&self) -> wire::DestroyCqResp {
        let user_handle = self.user_handle.to_ne_bytes();
        let channel = self.channel.as_ref();
        let unread = channel.map_or(0, |channel| channel.withdraw(&user_handle));
        wire::DestroyCqResp {
            comp_events_reported: self.events.saturating_sub(unread),
            async_events_reported: 0,
        }
    }
}

/// A receive work queue. The device has none until the RSS QP.
pub(crate) struct Wq {
    pub(crate) pd: u32,
    pub(crate) cq: u32,
    /// Its ring; gone for good once the RSS QP took it.
    pub(crate) region: Option<RegionId>,
}

/// An indirection table.
pub(crate) struct Table {
    pub(crate) wqs: Vec<u32>,
}

/// A queue pair.
pub(crate) enum Qp {
    Raw(RawQp),
    Rss(RssQp),
}

/// A raw-packet send queue.
pub(crate) struct RawQp {
    pub(crate) pd: u32,
    pub(crate) cq: u32,
    pub(crate) sq_id: u32,
}

/// The receive side of a port.
pub(crate) struct RssQp {
    pub(crate) pd: u32,
    /// The port, from 0.
    pub(crate) port: usize,
    pub(crate) table: u32,
    pub(crate) queues: Vec<RssQueue>,
    /// Whether it counts among the users of the PD's vPort.
    pub(crate) holds_vport: bool,
}

/// One receive queue of an RSS QP.
pub(crate) struct RssQueue {
    pub(crate) rq_id: u32,
    pub(crate) cq_id: u32,
    /// Handle of its CQ.
    pub(crate) cq: u32,
}

impl Object {
    /// The largest [`Object::destroy_order`].
    pub(crate) const LAST_DESTROYED: u8 = 4;

    /// Users before what they use.
    pub(crate) const fn destroy_order(&self) -> u8 {
        match self {
            Self::Qp(_) => 0,
            Self::Table(_) => 1,
            Self::Wq(_) | Self::Mr(_) => 2,
            Self::Cq(_) => 3,
            Self::Pd(_) => Self::LAST_DESTROYED,
        }
    }

    /// The method that destroys it.
    pub(crate) const fn destroyed_by(&self) -> Method {
        match self {
            Self::Pd(_) => Method::DestroyPd,
            Self::Mr(_) => Method::DestroyMr,
            Self::Cq(_) => Method::DestroyCq,
            Self::Wq(_) => Method::DestroyWq,
            Self::Table(_) => Method::DestroyTable,
            Self::Qp(_) => Method::DestroyQp,
        }
    }

    /// Whether it holds the object `handle`.
    fn uses(&self, handle: u32) -> bool {
        match self {
            Self::Pd(_) | Self::Cq(_) => false,
            Self::Mr(mr) => mr.pd == handle,
            Self::Wq(wq) => wq.pd == handle || wq.cq == handle,
            Self::Table(table) => table.wqs.contains(&handle),
            Self::Qp(Qp::Raw(qp)) => qp.pd == handle || qp.cq == handle,
            Self::Qp(Qp::Rss(qp)) => qp.pd == handle || qp.table == handle,
        }
    }
}

macro_rules! lookups {
    ($($name:ident: $variant:ident;)*) => {
        impl Handles<Object> {
            $(
                /// `ENOENT` without such an object, `EINVAL` for one of another kind.
                pub(crate) fn $name(&mut self, handle: u32) -> Result<&mut $variant, Errno> {
                    match self.get_mut(handle)? {
                        Object::$variant(object) => Ok(object),
                        _ => Err(Errno::EINVAL),
                    }
                }
            )*
        }
    };
}

lookups! {
    pd: Pd;
    cq: Cq;
    wq: Wq;
    table: Table;
}

impl Handles<Object> {
    /// `EBUSY` while another object holds this one.
    pub(crate) fn check_unused(&self, handle: u32) -> Result<(), Errno> {
        match self.iter().any(|(_, object)| object.uses(handle)) {
            true => Err(Errno::EBUSY),
            false => Ok(()),
        }
    }
}
