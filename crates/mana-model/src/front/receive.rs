//! WQ CREATE and the RSS QP (reference/mana-hardware.md §4.6).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use uverbs_abi::ids::{HASH_TOEPLITZ, WQT_RQ, attr};
use uverbs_abi::{Errno, wire};

use super::attributes::Attributes;
use super::call::Kernel;
use super::objects::{Object, Qp, RssQp, RssQueue, Wq};
use crate::core::{ALL_HASHES, Steering};

/// Entries of the hardware's indirection table (§3.8).
const TABLE: usize = 64;
/// `IB_UVERBS_WQ_FLAGS_*`.
const WQ_FLAGS: u64 = 0xF;
/// Bytes of the Toeplitz key.
const KEY: usize = 40;

impl Kernel<'_> {
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`]: the ring stays mapped and free of references
    /// until the RSS QP and the WQ are destroyed.
    pub(crate) unsafe fn create_wq(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        if !self.context.kind.ethernet {
            return Err(Errno::EOPNOTSUPP);
        }
        let pd = call.handle(attr::WQ_PD).ok_or(Errno::EINVAL)?;
        let cq = call.handle(attr::WQ_CQ).ok_or(Errno::EINVAL)?;
        self.context.objects.pd(pd)?;
        self.context.objects.cq(cq)?;
        call.flags(attr::WQ_FLAGS, WQ_FLAGS)?;
        self.context.check_async_file(call.fd(attr::WQ_EVENT_FD))?;
        if call.constant(attr::WQ_TYPE)? != WQT_RQ {
            return Err(Errno::EINVAL);
        }
        let whole = size_of::<wire::CreateWq>();
        let request: wire::CreateWq = call.driver_in(whole, self.rules.strict_driver_data)?;
        // SAFETY: the caller's promise, passed on.
        let ring = unsafe { self.pin(request.wq_buf_addr, u64::from(request.wq_buf_size)) }?;
        let handle = self.context.objects.insert(Object::Wq(Wq {
            pd,
            cq,
            region: Some(ring),
        }));
        call.put_handle(attr::WQ_HANDLE, handle);
        for (answer, request) in [
            (attr::WQ_RESP_MAX_WR, attr::WQ_MAX_WR),
            (attr::WQ_RESP_MAX_SGE, attr::WQ_MAX_SGE),
        ] {
            let granted: u32 = call.read(request)?;
            call.put(answer, &granted);
        }
        // The device has no queue yet, so there is no number.
        call.put(attr::WQ_RESP_WQ_NUM, &0_u32);
        Ok(())
    }

    /// Makes the hardware queues of a table and turns reception on.
    pub(crate) fn create_rss_qp(
        &mut self,
        call: &mut Attributes<'_, '_>,
        pd: u32,
        table: u32,
        cap: &wire::QpCap,
    ) -> Result<u32, Errno> {
        let wqs = self.context.objects.table(table)?.wqs.clone();
        if cap.max_recv_wr != 0 || cap.max_recv_sge != 0 {
            return Err(Errno::EINVAL);
        }
        // Who wants to send needs a CQ for it.
        if cap.max_send_wr != 0 {
            call.object(attr::QP_SEND_CQ)?;
        }
        let whole = size_of::<wire::CreateQpRss>();
        let request: wire::CreateQpRss = call.driver_in(whole, self.rules.strict_driver_data)?;
        let port = self.port_index(u64::from(request.port))?;
        if request.rx_hash_key_len as usize > KEY
            || wqs.len() > TABLE
            || request.rx_hash_function != HASH_TOEPLITZ
        {
            return Err(Errno::EINVAL);
        }
        let holds_vport = self.check_rss_pd(pd, port)?;
        self.check_configured(port)?;
        self.check_room(call)?;
        let queues = self.create_receive_queues(pd, port, &wqs)?;
        let steering = Steering {
            table: std::array::from_fn(|entry| queues[entry % queues.len()].rq_id),
            rss: queues.len() > 1,
            // The variable that mana_ib's loop leaves behind (§3.8).
            default: queues[queues.len() - 1].rq_id,
            key: key(&request),
            // mana_ib asks for it wherever it can (§3.6).
            coalescing: if self.rules.coalescing { 8 } else { 1 },
            hash_types: ALL_HASHES,
        };
        self.device.configure_vport_rx(port, Some(steering));
        if holds_vport
            && let Ok(pd) = self.context.objects.pd(pd)
            && let Some(vport) = &mut pd.vport
        {
            vport.users += 1;
        }
        let mut answer = wire::CreateQpRssResp {
            num_entries: queues.len() as u64,
            ..wire::CreateQpRssResp::default()
        };
        for (entry, queue) in answer.entries.iter_mut().zip(&queues) {
            *entry = wire::RssQpEntry {
                cqid: queue.cq_id,
                wqid: queue.rq_id,
            };
        }
        call.put_driver(&answer);
        let qp = RssQp {
            pd,
            port,
            table,
            queues,
            holds_vport,
        };
        Ok(self.context.objects.insert(Object::Qp(Qp::Rss(qp))))
    }

    /// Whether the PD may have an RSS QP on the port; answers whether that QP then counts as a user
    /// of the vPort.
    fn check_rss_pd(&mut self, pd: u32, port: usize) -> Result<bool, Errno> {
        let has_rss = self
            .context
            .objects
            .iter()
            .any(|(_, object)| matches!(object, Object::Qp(Qp::Rss(qp)) if qp.pd == pd));
        if self.rules.one_rss_qp && has_rss {
            return Err(Errno::EBUSY);
        }
        let vport = &self.context.objects.pd(pd)?.vport;
        let has_raw_qp = vport.as_ref().is_some_and(|vport| vport.port == port);
        if self.rules.rss_needs_raw_qp && !has_raw_qp {
            return Err(Errno::EINVAL);
        }
        Ok(self.rules.rss_needs_raw_qp)
    }

    /// All hardware queues of the table, or none.
    fn create_receive_queues(
        &mut self,
        pd: u32,
        port: usize,
        wqs: &[u32],
    ) -> Result<Vec<RssQueue>, Errno> {
        let mut queues = Vec::with_capacity(wqs.len());
        for &wq in wqs {
            match self.create_receive_queue(pd, port, wq) {
                Ok(queue) => queues.push(queue),
                Err(errno) => {
                    for queue in queues {
                        self.device.destroy_receive_queue(queue.rq_id);
                        self.context.cq_unused(queue.cq);
                    }
                    return Err(errno);
                }
            }
        }
        Ok(queues)
    }

    /// One hardware queue. Its ring is used up by it: a WQ that stands in the table twice, or was
    /// in an RSS QP before, is refused by the device (§4.2, §4.6).
    fn create_receive_queue(&mut self, pd: u32, port: usize, wq: u32) -> Result<RssQueue, Errno> {
        let pd = self.context.objects.pd(pd)?.id;
        let object = self.context.objects.wq(wq)?;
        let (ring, cq) = (object.region.ok_or(Errno::EPROTO)?, object.cq);
        let cq_ring = self.cq_ring(cq)?;
        let context = self.context.id;
        let queue = self
            .device
            .create_receive_queue(port, context, pd, ring, cq_ring)
            .ok_or(Errno::EPROTO)?;
        self.context.objects.wq(wq)?.region = None;
        self.cq_taken(cq, queue.cq_id);
        Ok(RssQueue {
            rq_id: queue.wq_id,
            cq_id: queue.cq_id,
            cq,
        })
    }
}

/// The key of the request; a random one where it has none. A short one is padded with zeros.
fn key(request: &wire::CreateQpRss) -> [u8; KEY] {
    let length = request.rx_hash_key_len as usize;
    if length == 0 {
        let state = RandomState::new();
        return std::array::from_fn(|index| state.hash_one(index) as u8);
    }
    std::array::from_fn(|index| match index < length {
        true => request.rx_hash_key[index],
        false => 0,
    })
}
