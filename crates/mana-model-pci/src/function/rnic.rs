//! Requests of the RNIC (reference/mana-hardware.md §6.7): enough for mana_ib to probe and to make its
//! own queue pair. Its objects exist and are counted, but nothing is ever sent or received by them.

use super::gdma::{in_use, unsupported};
use super::kinds;
use super::message::{Answer, Request};
use super::objects::{Object, RnicQp};
use super::regions::Held;
use super::{Done, Failure, Function, status};

/// What GET_ADAPTER_CAP answers from offset 32 on. The sizes of rings define how many work requests a
/// driver may ask for: 16384.
const CAPABILITIES: [u32; 18] = [
    0x7FFF,    // largest id of a send queue
    0x7FFF,    // of a receive queue
    0x7FFF,    // of a completion queue
    1024,      // queue pairs
    1024,      // completion queues
    16384,     // memory regions
    4096,      // protection domains
    16,        // reads that come in
    16,        // reads that go out
    0,         // memory windows
    0,         // shared receive queues
    512 << 14, // bytes of a requester's send ring
    512 << 14, // of a responder's
    256 << 14, // of a requester's receive ring
    256 << 14, // of a responder's
    30,        // elements of a send request
    15,        // of a receive request
    256,       // bytes of inline data
];

/// A kind of queue pairs, by where its fields are.
struct Shape {
    /// Rings, from offset 72 on, and as many queue ids in the answer.
    rings: usize,
    /// Offset of the doorbell page.
    page: usize,
}

/// Datagrams: send and receive.
const UD: Shape = Shape { rings: 2, page: 92 };
/// Connections: send and receive of both roles, and one that the driver does not use.
const RC: Shape = Shape {
    rings: 5,
    page: 136,
};
/// Connections without acknowledgements.
const UC: Shape = Shape {
    rings: 3,
    page: 104,
};

impl Function {
    pub(super) fn rnic(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        match request.kind {
            kinds::GET_ADAPTER_CAP => answer.u32s(32, CAPABILITIES),
            kinds::CREATE_ADAPTER => {
                self.hardware.has_event_queue(request.u32(40))?;
                answer.u64(32, self.objects.insert(Object::Adapter));
            }
            kinds::DESTROY_ADAPTER => self.destroy_adapter(request.u64(40))?,
            kinds::CONFIG_IP_ADDR
            | kinds::CONFIG_MAC_ADDR
            | kinds::QUERY_VF_COUNTERS
            | kinds::QUERY_DEVICE_COUNTERS => self.objects.adapter(request.u64(40))?,
            kinds::CREATE_CQ => self.create_rnic_cq(request, answer)?,
            kinds::DESTROY_CQ => self.destroy_rnic_cq(request)?,
            kinds::CREATE_UD_QP => self.create_rnic_qp(request, answer, &UD)?,
            kinds::CREATE_RC_QP => self.create_rnic_qp(request, answer, &RC)?,
            kinds::CREATE_UC_QP => self.create_rnic_qp(request, answer, &UC)?,
            kinds::DESTROY_UD_QP | kinds::DESTROY_RNIC_QP => self.destroy_rnic_qp(request)?,
            kinds::SET_QP_STATE => {
                self.objects.adapter(request.u64(40))?;
                self.rnic_qp(request.u64(48))?;
            }
            _ => return Err(unsupported()),
        }
        Ok(status::OK)
    }

    fn destroy_adapter(&mut self, handle: u64) -> Result<(), Failure> {
        self.objects.adapter(handle)?;
        let user = self.objects.iter().find(|(_, object)| match object {
            Object::RnicCq { adapter, .. } => *adapter == handle,
            Object::RnicQp(qp) => qp.adapter == handle,
            _ => false,
        });
        if let Some((user, _)) = user {
            return Err(in_use(handle, user));
        }
        self.objects.remove(handle);
        Ok(())
    }

    fn create_rnic_cq(
        &mut self,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
    ) -> Result<(), Failure> {
        let adapter = request.u64(40);
        self.objects.adapter(adapter)?;
        let (region, events, page) = (request.u64(48), request.u32(56), request.u32(60));
        self.pages.has(page)?;
        self.regions.memory(region, self.hardware.memory())?;
        let id = self.hardware.take_cq_id(page, events)?;
        let held = self.regions.take_over(region);
        let handle = self.objects.insert(Object::RnicCq { adapter, id, held });
        answer.u64(32, handle);
        answer.u32(40, id);
        Ok(())
    }

    fn destroy_rnic_cq(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        self.objects.adapter(request.u64(40))?;
        let handle = request.u64(48);
        let Some(Object::RnicCq { id, held, .. }) = self.objects.get(handle) else {
            return Err(no_cq(handle));
        };
        let (id, held) = (*id, *held);
        let user = self
            .objects
            .iter()
            .find(|(_, object)| matches!(object, Object::RnicQp(qp) if qp.cqs.contains(&handle)));
        if let Some((user, _)) = user {
            return Err(in_use(handle, user));
        }
        self.hardware.free_cq_id(id);
        self.regions.release(held);
        self.objects.remove(handle);
        Ok(())
    }

    fn create_rnic_qp(
        &mut self,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
        shape: &Shape,
    ) -> Result<(), Failure> {
        let [adapter, domain, send, receive] = [40, 48, 56, 64].map(|at| request.u64(at));
        self.objects.adapter(adapter)?;
        self.objects.domain(domain)?;
        for cq in [send, receive] {
            if !matches!(self.objects.get(cq), Some(Object::RnicCq { .. })) {
                return Err(no_cq(cq));
            }
        }
        let page = request.u32(shape.page);
        self.pages.has(page)?;
        let regions = (0..shape.rings).map(|ring| request.u64(72 + 8 * ring));
        // Handle 0 is no region: roles that have no ring.
        let regions: Vec<u64> = regions.filter(|region| *region != 0).collect();
        for (index, region) in regions.iter().enumerate() {
            self.regions.memory(*region, self.hardware.memory())?;
            if regions[..index].contains(region) {
                return Err(Failure::invalid("one region for several rings"));
            }
        }
        let mut ids = Vec::new();
        for index in 0..shape.rings {
            match self.hardware.take_queue_id(page) {
                Ok(id) => ids.push(id),
                Err(refusal) => {
                    self.free_queue_ids(&ids);
                    return Err(refusal.into());
                }
            }
            answer.u32(40 + 4 * index, ids[index]);
        }
        let held = regions
            .into_iter()
            .map(|region| self.regions.take_over(region));
        let qp = RnicQp {
            adapter,
            domain,
            cqs: [send, receive],
            ids,
            held: held.fold(Held::default(), |sum, held| sum + held),
        };
        answer.u64(32, self.objects.insert(Object::RnicQp(qp)));
        Ok(())
    }

    fn free_queue_ids(&mut self, ids: &[u32]) {
        for id in ids {
            self.hardware.free_queue_id(*id);
        }
    }

    fn rnic_qp(&self, handle: u64) -> Result<&RnicQp, Failure> {
        match self.objects.get(handle) {
            Some(Object::RnicQp(qp)) => Ok(qp),
            _ => Err(Failure::missing(format!("no queue pair {handle:#x}"))),
        }
    }

    fn destroy_rnic_qp(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        self.objects.adapter(request.u64(40))?;
        let handle = request.u64(48);
        let qp = self.rnic_qp(handle)?;
        let (ids, held) = (qp.ids.clone(), qp.held);
        self.free_queue_ids(&ids);
        self.regions.release(held);
        self.objects.remove(handle);
        Ok(())
    }
}

fn no_cq(handle: u64) -> Failure {
    Failure::missing(format!("no completion queue {handle:#x}"))
}
