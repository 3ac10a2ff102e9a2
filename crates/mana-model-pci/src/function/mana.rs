//! Requests of the Ethernet device: vPorts, work queues, steering (reference/mana-hardware.md §6.6).

use mana_model::hardware::{QueueIds, Steering};

use super::gdma::unsupported;
use super::kinds;
use super::message::{Answer, Request};
use super::objects::{FIRST_VPORT, Object, Reception, TABLE, WorkQueue};
use super::{Done, Failure, Function, status};
use crate::limits::VECTORS;

/// Most queues of a vPort, in either direction (§3.8).
const VPORT_QUEUES: u32 = 64;
/// What a link is said to do, in Mbit/s.
const LINK_SPEED: u32 = 200_000;
/// vPort offsets that fit the short OOB (§3.1).
const SHORT_OFFSETS: u32 = 256;
/// Capability: completions of eight packets.
const COALESCING_8: u64 = 1 << 5;
/// Three-valued fields: leave it as it is.
const KEEP: u32 = u32::MAX;

/// Types of work queues.
mod wq {
    pub(super) const SEND: u32 = 1;
    pub(super) const RECEIVE: u32 = 2;
}

impl Function {
    pub(super) fn mana(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        match request.kind {
            kinds::QUERY_DEV_CONFIG => self.query_device(answer),
            kinds::QUERY_GF_STAT => self.query_statistics(request, answer),
            kinds::QUERY_PHY_STAT => self.query_phy_statistics(request, answer),
            kinds::QUERY_VPORT_CONFIG => self.query_vport(request, answer),
            kinds::QUERY_LINK_CONFIG => {
                let port = self.objects.port(request.u64(40))?;
                answer.u32(32, LINK_SPEED);
                answer.u32(40, self.objects.clamps[port].unwrap_or(LINK_SPEED));
                Ok(status::OK)
            }
            kinds::SET_BW_CLAMP => {
                let port = self.objects.port(request.u64(40))?;
                let (enable, speed) = (request.u32(48), request.u32(52));
                match enable {
                    KEEP => {}
                    0 => self.objects.clamps[port] = None,
                    _ if speed == 0 => return Err(Failure::invalid("a speed of 0")),
                    _ => self.objects.clamps[port] = Some(speed.min(LINK_SPEED)),
                }
                Ok(status::OK)
            }
            kinds::CONFIG_VPORT_TX => {
                let port = self.objects.port(request.u64(40))?;
                let (domain, page) = (request.u32(48), request.u32(52));
                self.pages.has(page)?;
                let offset = self.hardware.configure_sending(port, domain, page)?;
                answer.u16(32, offset as u16);
                answer.u8(34, u8::from(offset < SHORT_OFFSETS));
                Ok(status::OK)
            }
            kinds::CREATE_WQ_OBJ => self.create_work_queue(request, answer),
            kinds::DESTROY_WQ_OBJ => {
                let handle = request.u64(48);
                let sends = sends(request.u32(40))?;
                if self.objects.work_queue(handle)?.sends != sends {
                    return Err(Failure::invalid(format!("{handle:#x} is of another type")));
                }
                self.destroy_work_queue(handle)?;
                Ok(status::OK)
            }
            kinds::FENCE_RQ => {
                let queue = self.receive_queue(request.u64(40))?;
                self.hardware.fence(queue.ids.wq_id)?;
                Ok(status::OK)
            }
            kinds::CONFIG_VPORT_RX => self.configure_reception(request),
            _ => Err(unsupported()),
        }
    }

    fn query_device(&mut self, answer: &mut Answer<'_>) -> Done {
        let config = self.hardware.config();
        let coalescing_8 = if config.coalescing > 4 {
            COALESCING_8
        } else {
            0
        };
        let mtus = config.ports.iter().map(|port| port.adapter_mtu);
        answer.u64(32, coalescing_8);
        answer.u16(64, config.ports.len() as u16);
        answer.u32(68, VECTORS.into());
        if answer.version() >= 2 {
            answer.u16(72, mtus.min().unwrap_or_default() as u16);
        }
        if answer.version() >= 4 {
            answer.u32(76, LINK_SPEED);
        }
        Ok(status::OK)
    }

    fn query_vport(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let port = request.u32(40);
        let mac = self.hardware.mac(port as usize);
        let mac = mac.ok_or_else(|| Failure::missing(format!("no vPort number {port}")))?;
        answer.u32s(32, [VPORT_QUEUES, VPORT_QUEUES, TABLE as u32]);
        answer.bytes(48, &mac.0);
        answer.u64(56, FIRST_VPORT + u64::from(port));
        Ok(status::OK)
    }

    fn create_work_queue(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        let port = self.objects.port(request.u64(40))?;
        let sends = sends(request.u32(48))?;
        let regions = [56, 64].map(|offset| request.u64(offset));
        if regions[0] == regions[1] {
            return Err(Failure::invalid("one region for both rings"));
        }
        let mut rings = Vec::with_capacity(2);
        for (region, size) in regions.into_iter().zip([72, 76]) {
            let ring = self.regions.memory(region, self.hardware.memory())?;
            let said = request.u32(size);
            if ring.len() != u64::from(said) {
                let why = format!("ring of {said} bytes, region of {}", ring.len());
                return Err(Failure::invalid(why));
            }
            rings.push(ring);
        }
        let (Some(cq_ring), Some(ring)) = (rings.pop(), rings.pop()) else {
            return Err(unsupported());
        };
        let events = request.u32(84);
        let domain = self.hardware.sending_domain(port);
        let ids = match sends {
            true => self
                .hardware
                .create_send_queue(port, events, ring, cq_ring)?,
            false => self
                .hardware
                .create_receive_queue(port, events, ring, cq_ring)?,
        };
        let [ring, cq_ring] = regions.map(|region| self.regions.take_over(region));
        let QueueIds { wq_id, cq_id } = ids;
        let handle = self.objects.insert(Object::WorkQueue(WorkQueue {
            sends,
            port,
            domain: domain.unwrap_or_default(),
            ids,
            held: ring + cq_ring,
        }));
        answer.u32s(32, [wq_id, cq_id]);
        answer.u64(40, handle);
        if request.version >= 3 && answer.version() >= 2 {
            // What was asked for, and that it is off: events are told at once.
            answer.u16(48, request.u16(90));
            answer.u16(50, request.u16(92));
        }
        Ok(status::OK)
    }

    pub(super) fn destroy_work_queue(&mut self, handle: u64) -> Result<(), Failure> {
        let queue = self.objects.work_queue(handle)?;
        match queue.sends {
            true => self.hardware.destroy_send_queue(queue.ids),
            false => self.hardware.destroy_receive_queue(queue.ids),
        }
        self.regions.release(queue.held);
        self.objects.remove(handle);
        Ok(())
    }

    fn receive_queue(&self, handle: u64) -> Result<WorkQueue, Failure> {
        let queue = self.objects.work_queue(handle)?;
        match queue.sends {
            false => Ok(queue),
            true => Err(Failure::invalid(format!("{handle:#x} is a send queue"))),
        }
    }

    fn configure_reception(&mut self, request: &Request<'_>) -> Done {
        let port = self.objects.port(request.u64(40))?;
        let mut now = self.objects.receptions[port].clone();
        tristate(&mut now.enabled, request.u32(52))?;
        tristate(&mut now.rss, request.u32(56))?;
        let receives = |handle: u64| match self.receive_queue(handle)?.port == port {
            true => Ok(handle),
            false => Err(Failure::invalid(format!("{handle:#x} is another vPort's"))),
        };
        if request.u8(60) != 0 {
            now.default = receives(request.u64(64))?;
        }
        if request.u8(61) != 0 {
            now.key = request.key(72);
        }
        if request.u8(62) != 0 {
            let entries = table(request)?;
            for handle in &entries {
                receives(*handle)?;
            }
            now.table = std::array::from_fn(|entry| entries[entry % entries.len()]);
        }
        if request.version >= 2 {
            now.coalescing = if request.u8(112) != 0 { 4 } else { 1 };
        }
        if request.version >= 5 {
            now.hash_types = match request.u16(116) {
                0 => u16::MAX,
                types => types,
            };
            if request.u8(118) != 0 {
                now.coalescing = 8;
            }
        }
        let steering = now.enabled.then(|| self.steering(&now));
        self.hardware.steer(port, steering)?;
        self.objects.receptions[port] = now;
        Ok(status::OK)
    }

    /// The same by ids. A queue that was destroyed since leads nowhere.
    fn steering(&self, reception: &Reception) -> Steering {
        let id = |handle| {
            let queue = self.objects.work_queue(handle);
            queue.map_or(u32::MAX, |queue| queue.ids.wq_id)
        };
        Steering {
            table: reception.table.map(id),
            rss: reception.rss,
            default: id(reception.default),
            key: reception.key,
            coalescing: reception.coalescing,
            hash_types: reception.hash_types,
        }
    }
}

fn sends(kind: u32) -> Result<bool, Failure> {
    match kind {
        wq::SEND => Ok(true),
        wq::RECEIVE => Ok(false),
        _ => Err(Failure::invalid(format!("work queue of type {kind}"))),
    }
}

fn tristate(value: &mut bool, said: u32) -> Result<(), Failure> {
    match said {
        0 | 1 => *value = said == 1,
        KEEP => {}
        _ => {
            return Err(Failure::invalid(format!(
                "{said:#x} is neither true nor false"
            )));
        }
    }
    Ok(())
}

/// The indirection table of a request: as many entries as it says, at the offset that it says.
fn table(request: &Request<'_>) -> Result<Vec<u64>, Failure> {
    let (count, offset) = (usize::from(request.u16(48)), usize::from(request.u16(50)));
    let fields = if request.version >= 2 { 120 } else { 112 };
    if !count.is_power_of_two() || count > TABLE || offset < fields {
        return Err(Failure::invalid(format!(
            "table of {count} entries at byte {offset}"
        )));
    }
    let entries = request.words(offset, count);
    entries.ok_or_else(|| {
        let size = request.size();
        Failure::invalid(format!(
            "table of {count} entries at byte {offset} of {size}"
        ))
    })
}
