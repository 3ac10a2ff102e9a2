//! QP CREATE, and the raw-packet send queue (reference/mana-hardware.md §4.5).

use uverbs_abi::ids::{QPT_RAW_PACKET, attr};
use uverbs_abi::{Errno, wire};

use super::attributes::Attributes;
use super::call::Kernel;
use super::objects::{Object, Qp, RawQp, Vport};

/// Segments of a send WQE (§2.1).
const MAX_SEND_SGE: u32 = 30;
/// `IB_UVERBS_QP_CREATE_*` that the core takes.
const QP_FLAGS: u64 = 1 << 1 | 1 << 8 | 1 << 9 | 1 << 11 | 1 << 12;

impl Kernel<'_> {
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`]: the ring stays mapped and free of references
    /// until the QP is destroyed.
    pub(crate) unsafe fn create_qp(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let cap: wire::QpCap = call.read(attr::QP_CAP)?;
        let pd = call.object(attr::QP_PD)?;
        self.context.objects.pd(pd)?;
        self.context.check_async_file(call.fd(attr::QP_EVENT_FD))?;
        let table = call.handle(attr::QP_IND_TABLE);
        call.flags(attr::QP_FLAGS, QP_FLAGS)?;
        if call.handle(attr::QP_SRQ).is_some() {
            return Err(Errno::EINVAL);
        }
        if call.constant(attr::QP_TYPE)? != QPT_RAW_PACKET || !self.context.kind.ethernet {
            return Err(Errno::EINVAL);
        }
        let handle = match table {
            Some(_) if call.handle(attr::QP_RECV_CQ).is_some() => return Err(Errno::EINVAL),
            Some(table) => self.create_rss_qp(call, pd, table, &cap)?,
            None => {
                let receive = call.object(attr::QP_RECV_CQ)?;
                self.context.objects.cq(receive)?;
                let send = call.object(attr::QP_SEND_CQ)?;
                // SAFETY: the caller's promise, passed on.
                unsafe { self.create_raw_qp(call, pd, send, &cap) }?
            }
        };
        call.put_handle(attr::QP_HANDLE, handle);
        call.put(attr::QP_RESP_CAP, &cap);
        // MANA numbers no QP of raw packets.
        call.put(attr::QP_RESP_QP_NUM, &0_u32);
        Ok(())
    }

    /// # Safety
    ///
    /// As [`Kernel::create_qp`].
    unsafe fn create_raw_qp(
        &mut self,
        call: &mut Attributes<'_, '_>,
        pd: u32,
        cq: u32,
        cap: &wire::QpCap,
    ) -> Result<u32, Errno> {
        self.context.objects.cq(cq)?;
        let whole = size_of::<wire::CreateQp>();
        let request: wire::CreateQp = call.driver_in(whole, self.rules.strict_driver_data)?;
        let port = self.port_index(u64::from(request.port))?;
        if cap.max_send_wr > self.limits.max_qp_wr || cap.max_send_sge > MAX_SEND_SGE {
            return Err(Errno::EINVAL);
        }
        self.check_room(call)?;
        let tx_vp_offset = self.take_vport(pd, port)?;
        // SAFETY: the caller's promise, passed on.
        let queue = unsafe { self.create_send_queue(pd, cq, port, &request) };
        let (sqid, cqid) = queue.inspect_err(|_| {
            self.context.release_vport(pd, self.device, self.ports);
        })?;
        call.put_driver(&wire::CreateQpResp {
            sqid,
            cqid,
            tx_vp_offset,
            reserved: 0,
        });
        let qp = RawQp {
            pd,
            cq,
            sq_id: sqid,
        };
        Ok(self.context.objects.insert(Object::Qp(Qp::Raw(qp))))
    }

    /// The hardware queue: its id and that of its CQ.
    ///
    /// # Safety
    ///
    /// As [`Kernel::create_qp`].
    unsafe fn create_send_queue(
        &mut self,
        pd: u32,
        cq: u32,
        port: usize,
        request: &wire::CreateQp,
    ) -> Result<(u32, u32), Errno> {
        let pd = self.context.objects.pd(pd)?.id;
        self.check_configured(port)?;
        // SAFETY: the caller's promise, passed on.
        let ring = unsafe { self.pin(request.sq_buf_addr, u64::from(request.sq_buf_size)) }?;
        let queue = self.cq_ring(cq).and_then(|cq_ring| {
            let context = self.context.id;
            self.device
                .create_send_queue(port, context, pd, ring, cq_ring)
                .ok_or(Errno::EPROTO)
        });
        let queue = queue.inspect_err(|_| self.device.destroy_dma_region(ring))?;
        self.cq_taken(cq, queue.cq_id);
        Ok((queue.wq_id, queue.cq_id))
    }

    /// Takes the vPort of `port` for the PD, or counts one more user where the PD has one already.
    fn take_vport(&mut self, pd_handle: u32, port: usize) -> Result<u32, Errno> {
        let pd = self.context.objects.pd(pd_handle)?;
        if let Some(vport) = &mut pd.vport {
            if self.rules.pd_bound_to_port && vport.port != port {
                return Err(Errno::EINVAL);
            }
            vport.users += 1;
            return Ok(vport.offset);
        }
        let state = &mut self.ports[port];
        if state.netdev.up || state.vport_owner.is_some() {
            return Err(self.rules.vport_in_use);
        }
        let offset = self.device.configure_vport_tx(port, pd.id, self.context.id);
        state.vport_owner = Some((self.context.id, pd_handle));
        state.configured = Some(pd.id);
        pd.vport = Some(Vport {
            port,
            offset,
            users: 1,
        });
        Ok(offset)
    }

    /// `EPROTO` from the device where nobody has taken the port for its queues (§4.5).
    pub(crate) fn check_configured(&self, port: usize) -> Result<(), Errno> {
        let port = &self.ports[port];
        match port.netdev.up || port.configured.is_some() {
            true => Ok(()),
            false => Err(Errno::EPROTO),
        }
    }

    /// `EFAULT` where the kernel wants room for what the driver answers of a QP, and there is none.
    pub(crate) fn check_room(&self, call: &Attributes<'_, '_>) -> Result<(), Errno> {
        match self.rules.answer_needs_room && call.room(attr::UHW_OUT) == 0 {
            true => Err(Errno::EFAULT),
            false => Ok(()),
        }
    }
}
