//! CQ CREATE. The device has no CQ yet: its number comes with the queue that uses it
//! (reference/mana-hardware.md §4.2).

use uverbs_abi::ids::{CQ_ID_UNKNOWN, CREATE_RNIC_CQ, attr};
use uverbs_abi::{Errno, wire};

use super::attributes::Attributes;
use super::call::Kernel;
use super::objects::{Cq, Object};
use super::pages;
use crate::core::RegionId;

/// Bytes of a CQE.
const CQE: u64 = 64;
/// `buf_addr`: what the first rdma-core sent (§4.1).
const CREATE_CQ_LEAST: usize = 8;
/// `IB_UVERBS_CQ_FLAGS_TIMESTAMP_COMPLETION`, `_IGNORE_OVERRUN`.
const CQ_FLAGS: u64 = 3;
/// The number of a CQ of the RNIC, of which this device has none that works.
const RNIC_CQ_ID: u32 = 1;

impl Kernel<'_> {
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`]: the ring stays mapped and free of references
    /// until the CQ is destroyed.
    pub(crate) unsafe fn create_cq(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let entries: u32 = call.read(attr::CQ_CQE)?;
        let vector: u32 = call.read(attr::CQ_COMP_VECTOR)?;
        let user_handle = call.read(attr::CQ_USER_HANDLE)?;
        if vector >= self.limits.comp_vectors {
            return Err(Errno::EINVAL);
        }
        call.flags(attr::CQ_FLAGS, CQ_FLAGS)?;
        self.context.check_async_file(call.fd(attr::CQ_EVENT_FD))?;
        let channel = match call.fd(attr::CQ_COMP_CHANNEL) {
            Some(fd) => Some(self.context.channel(fd)?),
            None => None,
        };
        let request: wire::CreateCq =
            call.driver_in(CREATE_CQ_LEAST, self.rules.strict_driver_data)?;
        if self.rules.strict_driver_data && request.flags & !CREATE_RNIC_CQ != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if entries > self.limits.max_cqe {
            return Err(Errno::EINVAL);
        }
        // SAFETY: the caller's promise, passed on.
        let region = unsafe { self.pin(request.buf_addr, u64::from(entries) * CQE) }?;
        let rnic = self.rules.rnic_cq_flag && request.flags & CREATE_RNIC_CQ != 0;
        let handle = self.context.objects.insert(Object::Cq(Cq {
            user_handle,
            channel,
            region: Some(region),
            id: None,
            events: 0,
            rnic,
        }));
        call.put_handle(attr::CQ_HANDLE, handle);
        // mana_ib leaves the core's number at zero.
        call.put(attr::CQ_RESP_CQE, &0_u32);
        if self.rules.create_cq_answer {
            let cqid = if rnic { RNIC_CQ_ID } else { CQ_ID_UNKNOWN };
            call.put_driver(&wire::CreateCqResp { cqid, reserved: 0 });
        }
        Ok(())
    }

    /// Makes a ring of the program reachable for the device, which counts its offsets from the
    /// ring's first byte; that must begin a page (§4.3).
    ///
    /// # Safety
    ///
    /// `length` bytes from `address` must be mapped, must not be reached through any Rust
    /// reference, and must stay so until the object that takes the region is destroyed.
    pub(crate) unsafe fn pin(&mut self, address: u64, length: u64) -> Result<RegionId, Errno> {
        let end = address.checked_add(length);
        if length == 0 || !address.is_multiple_of(super::PAGE) || end.is_none() {
            return Err(Errno::EINVAL);
        }
        pages::populate(address, length, true)?;
        // SAFETY: the caller's promise; objects leave the device under the lock of every step, so
        // nothing reaches the ring after its destroy returned.
        Ok(unsafe { self.device.create_dma_region(address, length) })
    }

    /// The ring of a CQ for a queue that is about to be made. `EPROTO` from the device where its ring
    /// was used up by another queue, and for an RNIC's.
    pub(crate) fn cq_ring(&mut self, handle: u32) -> Result<RegionId, Errno> {
        let cq = self.context.objects.cq(handle)?;
        if cq.rnic {
            return Err(Errno::EPROTO);
        }
        cq.region.ok_or(Errno::EPROTO)
    }

    /// The device took the ring of the CQ into a queue and gave it a number.
    pub(crate) fn cq_taken(&mut self, handle: u32, id: u32) {
        if let Ok(cq) = self.context.objects.cq(handle) {
            cq.region = None;
            cq.id = Some(id);
        }
    }
}
