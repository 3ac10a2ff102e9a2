//! Event queues and work queues: how they come and go, and how they are rung.

use gdma::doorbell::{CompletionValue, EventValue};
use uverbs_abi::DoorbellKind;

use super::{Hardware, IDS, MAX_EVENT_QUEUES, MAX_QUEUES, Refusal, below};
use crate::core::{BusPages, Device, DmaSpace, EventQueue, PdId, QueueIds, RegionId};
use crate::findings::FindingKind;

/// Registers of a doorbell page (reference/mana-hardware.md §2.7) besides those of
/// [`DoorbellKind`].
mod register {
    pub(super) const RQ_CLIENT: u32 = 0x408;
    pub(super) const CQ_MODERATION: u32 = 0x820;
    pub(super) const EQ: u32 = 0xFF8;
}

/// An event queue and the page on which it is rung.
pub(super) struct Events {
    queue: EventQueue,
    page: u32,
}

/// What the two of a queue are rung by.
fn registers(ids: QueueIds) -> [(DoorbellRegister, u32); 2] {
    [
        (DoorbellRegister::Work, ids.wq_id),
        (DoorbellRegister::Completion, ids.cq_id),
    ]
}

/// What a queue is rung by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DoorbellRegister {
    Work,
    Completion,
}

impl Hardware {
    /// Makes an event queue that is rung on `page`; returns its id.
    ///
    /// # Errors
    ///
    /// [`Refusal::Ring`], [`Refusal::Limit`].
    pub fn create_event_queue(
        &mut self,
        ring: BusPages,
        page: u32,
        vector: u16,
    ) -> Result<u32, Refusal> {
        below(self.events.len(), MAX_EVENT_QUEUES)?;
        let free = IDS.clone().find(|id| !self.events.contains_key(id));
        let id = free.ok_or(Refusal::Limit)?;
        let queue = EventQueue::new(ring, vector).ok_or(Refusal::Ring)?;
        self.events.insert(id, Events { queue, page });
        Ok(id)
    }

    /// That there is such an event queue.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`].
    pub fn has_event_queue(&self, id: u32) -> Result<(), Refusal> {
        let found = self.events.contains_key(&id);
        found.then_some(()).ok_or(Refusal::EventQueue)
    }

    /// Destroys an event queue. Completion queues that told it of their news tell nobody any more.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`].
    pub fn destroy_event_queue(&mut self, id: u32) -> Result<(), Refusal> {
        self.events.remove(&id).ok_or(Refusal::EventQueue)?;
        self.parents.retain(|_, parent| *parent != id);
        Ok(())
    }

    /// Writes an event.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`].
    pub fn push_event(&mut self, id: u32, event: u8, details: [u32; 3]) -> Result<(), Refusal> {
        let events = self.events.get_mut(&id).ok_or(Refusal::EventQueue)?;
        if events.queue.push(event, details) {
            self.interrupts.push(events.queue.vector());
        }
        Ok(())
    }

    /// Makes a send queue of a port, with the domain and the page that the port is configured for; its
    /// completion queue tells `event_queue` of its news.
    ///
    /// # Errors
    ///
    /// Each [`Refusal`] of ports, event queues and rings; nothing is created then.
    pub fn create_send_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        ring: BusPages,
        cq_ring: BusPages,
    ) -> Result<QueueIds, Refusal> {
        self.create_queue(
            port,
            event_queue,
            [ring, cq_ring],
            Device::create_send_queue,
        )
    }

    /// Makes a receive queue; see [`Hardware::create_send_queue`].
    ///
    /// # Errors
    ///
    /// Likewise.
    pub fn create_receive_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        ring: BusPages,
        cq_ring: BusPages,
    ) -> Result<QueueIds, Refusal> {
        self.create_queue(
            port,
            event_queue,
            [ring, cq_ring],
            Device::create_receive_queue,
        )
    }

    fn create_queue(
        &mut self,
        port: usize,
        event_queue: u32,
        rings: [BusPages; 2],
        create: impl FnOnce(&mut Device, usize, u32, PdId, RegionId, RegionId) -> Option<QueueIds>,
    ) -> Result<QueueIds, Refusal> {
        self.port(port)?;
        below(self.live().work_queues, 2 * MAX_QUEUES)?;
        self.has_event_queue(event_queue)?;
        let owner = self.device.vport_owner(port);
        let (pd, page) = owner.ok_or(Refusal::NotConfigured)?;
        if !rings.iter().all(BusPages::is_page_aligned) {
            return Err(Refusal::Ring);
        }
        let [ring, cq_ring] = rings.map(|ring| self.device.add_region(DmaSpace::Pages(ring)));
        let Some(ids) = create(&mut self.device, port, page, pd, ring, cq_ring) else {
            self.device.destroy_dma_region(ring);
            self.device.destroy_dma_region(cq_ring);
            return Err(Refusal::Ring);
        };
        self.parents.insert(ids.cq_id, event_queue);
        for queue in registers(ids) {
            self.retired.remove(&queue);
            self.pages.insert(queue, page);
        }
        Ok(ids)
    }

    /// Destroys a send queue with its completion queue: nothing touches their memory after it.
    pub fn destroy_send_queue(&mut self, ids: QueueIds) {
        self.device.destroy_send_queue(ids.wq_id);
        self.retire(ids);
    }

    /// Destroys a receive queue likewise. What was steered to it leads nowhere.
    pub fn destroy_receive_queue(&mut self, ids: QueueIds) {
        self.device.destroy_receive_queue(ids.wq_id);
        self.retire(ids);
    }

    fn retire(&mut self, ids: QueueIds) {
        self.parents.remove(&ids.cq_id);
        for queue in registers(ids) {
            if let Some(page) = self.pages.remove(&queue) {
                self.retired.insert(queue, page);
            }
        }
        // Ids go up, and whoever rings late does so soon.
        while self.retired.len() > 4 * MAX_QUEUES as usize {
            self.retired.pop_first();
        }
    }

    /// Posts the completion that says that a receive queue holds everything that arrived before.
    ///
    /// # Errors
    ///
    /// [`Refusal::WorkQueue`].
    pub fn fence(&mut self, receive_queue: u32) -> Result<(), Refusal> {
        let fenced = self.device.fence(receive_queue);
        self.deliver_events();
        fenced.then_some(()).ok_or(Refusal::WorkQueue)
    }

    /// Takes the id of a work queue outside the data path, which is rung on `page` and to which nothing
    /// ever happens: the RNIC's.
    ///
    /// # Errors
    ///
    /// [`Refusal::Limit`].
    pub fn take_queue_id(&mut self, page: u32) -> Result<u32, Refusal> {
        below(self.foreign.len(), 4 * MAX_QUEUES)?;
        let taken =
            |hardware: &Self, id| hardware.foreign.contains_key(&(DoorbellRegister::Work, id));
        let mut id = self.device.next_queue_id();
        while taken(self, id) {
            id = self.device.next_queue_id();
        }
        self.foreign.insert((DoorbellRegister::Work, id), page);
        Ok(id)
    }

    /// Gives it back.
    pub fn free_queue_id(&mut self, id: u32) {
        self.foreign.remove(&(DoorbellRegister::Work, id));
    }

    /// Takes the id of a completion queue outside the data path, likewise.
    ///
    /// # Errors
    ///
    /// [`Refusal::EventQueue`], [`Refusal::Limit`].
    pub fn take_cq_id(&mut self, page: u32, event_queue: u32) -> Result<u32, Refusal> {
        below(self.foreign.len(), 4 * MAX_QUEUES)?;
        self.has_event_queue(event_queue)?;
        let id = self.device.take_cq_id();
        self.foreign
            .insert((DoorbellRegister::Completion, id), page);
        self.parents.insert(id, event_queue);
        Ok(id)
    }

    /// Gives it back.
    pub fn free_cq_id(&mut self, id: u32) {
        if self
            .foreign
            .remove(&(DoorbellRegister::Completion, id))
            .is_some()
        {
            self.device.free_cq_id(id);
            self.parents.remove(&id);
        }
    }

    /// Takes a store to a doorbell page. Nothing moves before [`Hardware::step`], but an interrupt may
    /// be due. Queues are rung on their own page only; what is wrong is a finding. Rung on the page that it
    /// had, a queue that was destroyed is silent.
    pub fn doorbell(&mut self, page: u32, offset: u32, value: u64) {
        let kind = match offset {
            register::EQ => return self.event_doorbell(page, value),
            register::RQ_CLIENT | 0x400 => DoorbellKind::Receive,
            register::CQ_MODERATION | 0x800 => DoorbellKind::Completion,
            0x000 => DoorbellKind::Send,
            _ => {
                return self.device.found(
                    FindingKind::DoorbellRegister,
                    None,
                    format_args!("{value:#018x} stored at offset {offset:#05x} of page {page}"),
                );
            }
        };
        let id = CompletionValue::from_bits(value).id();
        let register = match kind {
            DoorbellKind::Completion => DoorbellRegister::Completion,
            DoorbellKind::Send | DoorbellKind::Receive => DoorbellRegister::Work,
        };
        if self.foreign.get(&(register, id)) == Some(&page) {
            return;
        }
        // A kernel whose driver goes destroys the queues of programs before it takes their pages away, and
        // they ring on meanwhile.
        if self.retired.get(&(register, id)) == Some(&page) {
            return;
        }
        if matches!(offset, register::RQ_CLIENT | register::CQ_MODERATION) {
            return self.device.found(
                FindingKind::DoorbellRegister,
                Some(id),
                format_args!("{value:#018x} stored at offset {offset:#05x} of page {page}"),
            );
        }
        self.device.doorbell(page, kind, id, value);
        self.deliver_events();
    }

    fn event_doorbell(&mut self, page: u32, value: u64) {
        let value = EventValue::from_bits(value);
        let id = u32::from(value.id());
        match self
            .events
            .get_mut(&id)
            .filter(|events| events.page == page)
        {
            Some(events) => {
                if events.queue.doorbell(value) {
                    self.interrupts.push(events.queue.vector());
                }
            }
            None => self.device.found(
                FindingKind::DoorbellQueue,
                Some(id),
                format_args!(
                    "event queue doorbell {:#018x} on page {page}",
                    value.into_bits()
                ),
            ),
        }
    }
}
