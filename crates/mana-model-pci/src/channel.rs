//! The hardware channel: the queues by which the driver sends requests and gets answers
//! (reference/mana-hardware.md §6.3, §6.4).

use std::sync::Arc;

use gdma::cqe::{self, Cqe, CqeTail};
use gdma::doorbell::{CompletionValue, EventValue, ReceiveValue, SendValue};
use gdma::eqe::event;
use gdma::owner::{initial_cursor, owner};
use gdma::wqe::{self, Sge, WqeHeader};
use mana_model::hardware::{BusMemory, BusPages, EventQueue};

use crate::limits::{MAX_CQS, channel};
use crate::smc::Queues;

/// Bytes of the largest request and of the largest answer.
pub(crate) const LARGEST: usize = 4096;
/// Bytes of each of the queues.
const RING: u32 = 4096;
/// Requests that may be under way: the driver waits for each answer.
const DEPTH: u32 = 1;
/// Bytes of the OOB of a request, and of the room for one in a receive WQE.
const SEND_OOB: usize = 24;
const RECEIVE_OOB: usize = 8;

/// An established channel.
pub(crate) struct Channel {
    memory: Arc<dyn BusMemory>,
    eq: EventQueue,
    cq: Completions,
    rq: Ring,
    sq: Ring,
    /// Its vector is to be raised.
    fired: bool,
}

impl Channel {
    /// Takes the driver's queues and tells it all that it must know of the channel, by events.
    /// `None` where a queue is not in memory.
    pub(crate) fn establish(memory: &Arc<dyn BusMemory>, queues: &Queues) -> Option<Self> {
        let page = |address| {
            let page = BusPages::page(Arc::clone(memory), address)?;
            // All of it must be there, now; later each access sees for itself.
            page.read(0, &mut [0; RING as usize])?;
            Some(page)
        };
        let mut channel = Self {
            memory: Arc::clone(memory),
            eq: EventQueue::new(page(queues.eq)?, queues.vector)?,
            cq: Completions::new(page(queues.cq)?),
            rq: Ring::new(page(queues.rq)?),
            sq: Ring::new(page(queues.sq)?),
            fired: false,
        };
        let doorbells = channel::DOORBELL_PAGE << 16;
        channel.event(event::HWC_INIT_EQ_ID_DB, channel::EQ | doorbells);
        for (kind, value) in [
            (1, channel::CQ),
            (2, channel::RQ),
            (3, channel::SQ),
            (4, DEPTH),
            (5, LARGEST as u32),
            (6, LARGEST as u32),
            (7, MAX_CQS),
            (8, channel::PD),
            (9, channel::KEY),
        ] {
            channel.event(event::HWC_INIT_DATA, value | kind << 24);
        }
        channel.event(event::HWC_INIT_DONE, 0);
        Some(channel)
    }

    /// Posts an event of `kind` on the channel's EQ.
    pub(crate) fn event(&mut self, kind: u8, details: u32) {
        self.fired |= self.eq.push(kind, [details, 0, 0]);
    }

    /// The vector that fires now.
    pub(crate) fn take_interrupt(&mut self) -> Option<u16> {
        std::mem::take(&mut self.fired).then(|| self.eq.vector())
    }

    /// Takes a store to the channel's doorbell page; whether it is for one of its queues.
    pub(crate) fn doorbell(&mut self, offset: u32, value: u64) -> bool {
        match offset {
            0x000 if SendValue::from_bits(value).id() == channel::SQ => {
                self.sq.doorbell(SendValue::from_bits(value).tail());
            }
            0x400 if ReceiveValue::from_bits(value).id() == channel::RQ => {
                self.rq.doorbell(ReceiveValue::from_bits(value).tail());
            }
            0x800 if CompletionValue::from_bits(value).id() == channel::CQ => {
                if self.cq.doorbell(CompletionValue::from_bits(value)) {
                    self.event(event::COMPLETION, channel::CQ);
                }
            }
            0xFF8 if u32::from(EventValue::from_bits(value).id()) == channel::EQ => {
                self.fired |= self.eq.doorbell(EventValue::from_bits(value));
            }
            _ => return false,
        }
        true
    }

    /// The next request that the driver has sent, in place of what `request` held; false without
    /// one. Its send WQE is complete then.
    pub(crate) fn next_request(&mut self, request: &mut Vec<u8>) -> bool {
        while let Some(work) = self.sq.next(SEND_OOB) {
            let gathered = match &work.elements {
                Some(elements) => self.gather(elements, request),
                None => Err("is none of this channel"),
            };
            self.complete(channel::SQ, true, [0, 0, 0, work.offset, 0, 0, 0, 0]);
            match gathered {
                Ok(()) => return true,
                Err(what) => tracing::warn!(offset = work.offset, "a send WQE {what}"),
            }
        }
        false
    }

    /// Hands an answer to the driver, in the buffer of its next receive WQE. One for which there is
    /// none, or whose buffer can't be reached, is lost.
    pub(crate) fn answer(&mut self, answer: &[u8]) {
        let Some(work) = self.rq.next(RECEIVE_OOB) else {
            return tracing::warn!("no receive WQE for an answer");
        };
        let scattered = match &work.elements {
            Some(elements) => self.scatter(elements, answer),
            None => Err("is none of this channel"),
        };
        match scattered {
            Ok(()) => {
                // §6.4: dword 1 has the sender, 3 the WQE's offset in bytes, 6 the answer's length.
                let length = answer.len() as u32;
                self.complete(
                    channel::RQ,
                    false,
                    [0, channel::SQ, 0, work.offset, 0, 0, length, 0],
                );
            }
            Err(what) => tracing::warn!(offset = work.offset, "a receive WQE {what}"),
        }
    }

    /// Copies what the elements name.
    fn gather(&self, elements: &[Sge], request: &mut Vec<u8>) -> Result<(), &'static str> {
        request.clear();
        for element in elements {
            let from = request.len();
            let len = element.size as usize;
            if element.key != channel::KEY {
                return Err("has another key");
            }
            if len > LARGEST - from {
                return Err("has more than 4096 bytes");
            }
            request.resize(from + len, 0);
            let read = self.memory.read(element.address, &mut request[from..]);
            read.ok_or("names memory that is not mapped")?;
        }
        Ok(())
    }

    /// Copies to what the elements name.
    fn scatter(&self, elements: &[Sge], answer: &[u8]) -> Result<(), &'static str> {
        let mut rest = answer;
        for element in elements {
            if element.key != channel::KEY {
                return Err("has another key");
            }
            let (now, later) = rest.split_at(rest.len().min(element.size as usize));
            let written = self.memory.write(element.address, now);
            written.ok_or("names memory that is not mapped")?;
            rest = later;
        }
        match rest {
            [] => Ok(()),
            _ => Err("has too little room"),
        }
    }

    fn complete(&mut self, wq: u32, is_sq: bool, dwords: [u32; 8]) {
        if self.cq.post(wq, is_sq, dwords) {
            self.event(event::COMPLETION, channel::CQ);
        }
    }
}

/// A work queue of the channel.
struct Ring {
    memory: BusPages,
    /// Free-running, in bytes.
    produced: u32,
    consumed: u32,
}

/// A WQE.
struct Work {
    /// Where it stands in the ring, in bytes.
    offset: u32,
    /// Its elements; none if it is malformed.
    elements: Option<Vec<Sge>>,
}

impl Ring {
    fn new(memory: BusPages) -> Self {
        Self {
            memory,
            produced: 0,
            consumed: 0,
        }
    }

    /// Takes how far the driver has filled the ring.
    fn doorbell(&mut self, tail: u32) {
        let ahead = tail.wrapping_sub(self.consumed);
        if ahead > RING || !tail.is_multiple_of(wqe::UNIT as u32) {
            tracing::warn!(tail, "a doorbell of the channel that can't be");
            return;
        }
        self.produced = tail;
    }

    /// Takes the next WQE, with an OOB of so many bytes. Of one that is malformed only a unit is
    /// passed over, as its length can't be known.
    fn next(&mut self, oob: usize) -> Option<Work> {
        let ahead = self.produced.wrapping_sub(self.consumed);
        if ahead == 0 {
            return None;
        }
        let offset = self.consumed % RING;
        let (elements, units) = match self.parse(oob, ahead) {
            Some((elements, units)) => (Some(elements), units),
            None => (None, 1),
        };
        self.consumed = self.consumed.wrapping_add(units * wqe::UNIT as u32);
        Some(Work { offset, elements })
    }

    /// The elements of the WQE at the cursor and its length in units, within `ahead` bytes.
    fn parse(&self, oob: usize, ahead: u32) -> Option<(Vec<Sge>, u32)> {
        let header = WqeHeader::from_bits(self.word(0)?);
        let count = usize::from(header.num_sge());
        let units = wqe::units(oob, count);
        let right = usize::from(header.inline_oob_size_div4()) * 4 == oob && !header.sgl_direct();
        if !right || count == 0 || units * wqe::UNIT as u32 > ahead {
            return None;
        }
        let first = wqe::HEADER + oob;
        let element = |index| {
            let at = (first + wqe::SGE * index) as u32;
            Some(Sge::from_words([self.word(at)?, self.word(at + 8)?]))
        };
        Some(((0..count).map(element).collect::<Option<_>>()?, units))
    }

    /// The word at so many bytes behind the cursor, round the ring's end.
    fn word(&self, at: u32) -> Option<u64> {
        self.memory
            .load(u64::from(self.consumed.wrapping_add(at) % RING))
    }
}

/// The completion queue of the channel (§2.6, §2.8).
struct Completions {
    memory: BusPages,
    /// Free-running, in entries; both begin at the size.
    produced: u32,
    consumed: u32,
    armed: bool,
}

impl Completions {
    const ENTRIES: u32 = RING / cqe::SIZE as u32;
    const LOG2: u32 = Self::ENTRIES.trailing_zeros();

    /// It is born armed.
    fn new(memory: BusPages) -> Self {
        let first = initial_cursor(Self::ENTRIES);
        Self {
            memory,
            produced: first,
            consumed: first,
            armed: true,
        }
    }

    /// Writes an entry; whether an event is due.
    fn post(&mut self, wq: u32, is_sq: bool, dwords: [u32; 8]) -> bool {
        let mut entry = Cqe {
            words: [0; cqe::WORDS],
        };
        for (index, dword) in dwords.into_iter().enumerate() {
            entry.set_dword(index, dword);
        }
        let tail = CqeTail::new().with_wq_num(wq).with_is_sq(is_sq);
        let tail = tail.with_owner(owner(self.produced, Self::LOG2));
        entry.set_dword(15, tail.into_bits());
        let offset = u64::from(self.produced % Self::ENTRIES) * cqe::SIZE as u64;
        if self.memory.store_entry(offset, &entry.words).is_none() {
            tracing::warn!("the channel's completion queue is not mapped");
            return false;
        }
        self.produced = self.produced.wrapping_add(1);
        std::mem::take(&mut self.armed)
    }

    /// Takes a doorbell; whether an event is due at once, as entries wait.
    fn doorbell(&mut self, value: CompletionValue) -> bool {
        let cycle = (8 << Self::LOG2) - 1;
        let step = value.tail().wrapping_sub(self.consumed) & cycle;
        let behind = self.produced.wrapping_sub(self.consumed);
        if value.tail() > cycle || step > behind {
            tracing::warn!(tail = value.tail(), "a doorbell ahead of the channel's CQ");
            return false;
        }
        self.consumed = self.consumed.wrapping_add(step);
        let waiting = behind - step;
        self.armed = value.arm() && waiting == 0;
        value.arm() && waiting > 0 && waiting <= Self::ENTRIES
    }
}
