//! The PCI function as a client of vfio-user sees it: configuration space, BAR0 and what stores to it
//! set in motion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mana_model::hardware::BusMemory;

use crate::channel::Channel;
use crate::config_space::{Asked, ConfigSpace};
use crate::function::Function;
use crate::interrupts::Interrupts;
use crate::limits::{VECTORS, channel};
use crate::memory::GuestMemory;
use crate::registers::{self, Place};
use crate::smc::{self, Message, Queues};
use crate::trace::{Trace, test_event};

/// How long packets are moved after one store: what is left then is the device thread's, so that the
/// socket's thread hears the guest again.
const TURN: Duration = Duration::from_millis(5);

/// Everything that one lock guards.
pub(crate) struct Device {
    config: ConfigSpace,
    messages: smc::Channel,
    /// The hardware channel, once it is established.
    channel: Option<Channel>,
    pub(crate) function: Function,
    pub(crate) memory: Arc<GuestMemory>,
    pub(crate) interrupts: Interrupts,
    /// By which the client is asked to take the function out of its machine.
    pub(crate) give_back: Interrupts,
    /// It fell off the bus: reads are all ones, nothing is done, until the next client.
    gone: bool,
    /// Packets move in [`Device::settle`] only.
    pub(crate) held: bool,
    trace: Trace,
    /// Requests so far.
    pub(crate) requests: u64,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Device {
    pub(crate) fn new(function: Function, memory: Arc<GuestMemory>, trace: Trace) -> Self {
        Self {
            config: ConfigSpace::new(),
            messages: smc::Channel::default(),
            channel: None,
            function,
            memory,
            interrupts: Interrupts::new(VECTORS),
            give_back: Interrupts::new(1),
            gone: false,
            held: false,
            trace,
            requests: 0,
            request: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// Reads from the configuration space.
    pub(crate) fn read_config(&self, offset: u64, bytes: &mut [u8]) {
        match self.gone {
            true => bytes.fill(0xFF),
            false => self.config.read(offset, bytes),
        }
    }

    /// Writes to the configuration space.
    pub(crate) fn write_config(&mut self, offset: u64, bytes: &[u8]) {
        if self.gone {
            return;
        }
        match self.config.write(offset, bytes) {
            Asked::Nothing => {}
            Asked::Mastering(on) => self.memory.set_mastering(on),
            Asked::Reset => self.reset(),
        }
    }

    /// Reads from BAR0.
    pub(crate) fn read_bar(&self, offset: u64, bytes: &mut [u8]) {
        match self.gone {
            true => bytes.fill(0xFF),
            false => registers::read(&self.messages, offset, bytes),
        }
    }

    /// Writes to BAR0. True if packets still wait to be moved.
    pub(crate) fn write_bar(&mut self, offset: u64, bytes: &[u8]) -> bool {
        if self.gone {
            return false;
        }
        match registers::place(offset) {
            Place::Register => false,
            Place::Channel(at) => {
                if let Some(message) = self.messages.write(at, bytes) {
                    let status = self.message(message);
                    self.messages.answer(status);
                }
                self.raise();
                false
            }
            Place::Doorbell(page, offset) => {
                let more = match bytes.try_into().map(u64::from_le_bytes) {
                    Ok(value) => self.doorbell(page, offset, value),
                    // Relative doorbells of 32 bits are not had, and others do not exist (§2.7).
                    Err(_) => {
                        let len = bytes.len();
                        tracing::debug!(page, offset, len, "a doorbell that is not of 8 bytes");
                        false
                    }
                };
                self.raise();
                more
            }
        }
    }

    /// Carries a message of the shared-memory channel out; its status.
    fn message(&mut self, message: Message) -> u8 {
        match message {
            Message::Establish(queues) => self.establish(&queues),
            Message::Destroy { reset } => {
                self.trace.note("SMC DESTROY_HWC");
                if self.channel.is_none() && !reset {
                    tracing::warn!("DESTROY_HWC without a hardware channel");
                }
                self.stop();
                smc::OK
            }
            Message::Timeout(details) => {
                self.trace
                    .note(format_args!("SMC REPORT_HWC_TIMEOUT {details:?}"));
                smc::OK
            }
            Message::Unknown { kind, version } => {
                tracing::warn!(kind, version, "an unknown message in shared memory");
                smc::INVALID
            }
        }
    }

    fn establish(&mut self, queues: &Queues) -> u8 {
        let Queues {
            eq,
            cq,
            rq,
            sq,
            vector,
        } = queues;
        self.trace.note(format_args!(
            "SMC ESTABLISH_HWC eq {eq:#x} cq {cq:#x} rq {rq:#x} sq {sq:#x} msix {vector}"
        ));
        if self.channel.is_some() {
            tracing::warn!("ESTABLISH_HWC while there is a hardware channel");
            return smc::REFUSED;
        }
        if *vector >= VECTORS {
            tracing::warn!(vector, "ESTABLISH_HWC with a vector that is none");
            return smc::INVALID;
        }
        let memory: Arc<dyn BusMemory> = Arc::clone(&self.memory) as _;
        self.channel = Channel::establish(&memory, queues);
        match self.channel {
            Some(_) => smc::OK,
            None => {
                tracing::warn!("ESTABLISH_HWC with queues that are not in memory");
                smc::INVALID
            }
        }
    }

    /// Takes a store to a doorbell page. True if packets still wait to be moved.
    fn doorbell(&mut self, page: u32, offset: u32, value: u64) -> bool {
        // Nothing exists that could be rung before there is a channel.
        let Some(channel) = &mut self.channel else {
            tracing::debug!(page, offset, value, "a doorbell before ESTABLISH_HWC");
            return false;
        };
        if page == channel::DOORBELL_PAGE && channel.doorbell(offset, value) {
            self.serve();
            return false;
        }
        self.function.doorbell(page, offset, value);
        !self.held && self.turn().1
    }

    /// Moves packets until nothing moves or the turn is over: how many, and whether it was over.
    fn turn(&mut self) -> (usize, bool) {
        let begun = Instant::now();
        let mut all = 0;
        loop {
            let moved = self.function.step();
            all += moved;
            if moved == 0 || begun.elapsed() > TURN {
                return (all, moved > 0);
            }
        }
    }

    /// Answers what the driver asks for.
    fn serve(&mut self) {
        let Some(channel) = &mut self.channel else {
            return;
        };
        while channel.next_request(&mut self.request) {
            self.requests += 1;
            self.answer.clear();
            match test_event(&self.request, channel::EQ) {
                Some(kind) => {
                    channel.event(kind, 0);
                    crate::trace::plain_answer(&self.request, &mut self.answer);
                }
                None => self.function.request(&self.request, &mut self.answer),
            }
            self.trace.exchange(&self.request, &self.answer);
            channel.answer(&self.answer);
        }
    }

    /// Moves what is pending, for a turn; how many packets that were.
    pub(crate) fn settle(&mut self) -> usize {
        if self.channel.is_none() {
            return 0;
        }
        let (moved, _) = self.turn();
        self.raise();
        moved
    }

    /// Moves packets once around; how many.
    pub(crate) fn step(&mut self) -> usize {
        if self.channel.is_none() || self.held {
            return 0;
        }
        let moved = self.function.step();
        self.raise();
        moved
    }

    /// Raises the vectors that fired.
    fn raise(&mut self) {
        for vector in self.function.take_interrupts() {
            self.interrupts.raise(vector);
        }
        if let Some(vector) = self.channel.as_mut().and_then(Channel::take_interrupt) {
            self.interrupts.raise(vector);
        }
    }

    /// Posts an event on the channel's EQ; false without a channel.
    pub(crate) fn event(&mut self, kind: u8, details: u32) -> bool {
        let Some(channel) = &mut self.channel else {
            return false;
        };
        self.trace
            .note(format_args!("EQE {kind} details {details:#x}"));
        channel.event(kind, details);
        self.raise();
        true
    }

    /// Whether a driver has established the hardware channel.
    pub(crate) fn is_established(&self) -> bool {
        self.channel.is_some()
    }

    /// Takes the channel and all that was created through it down: on return nothing reaches memory
    /// any more.
    fn stop(&mut self) {
        self.channel = None;
        self.function.reset();
        self.interrupts.reset();
    }

    /// A reset of the function: as after power on. Who listens to vectors, and what is mapped, are
    /// the client's and stay.
    pub(crate) fn reset(&mut self) {
        self.trace.note("reset");
        self.begin_anew();
    }

    fn begin_anew(&mut self) {
        self.stop();
        self.held = false;
        self.config = ConfigSpace::new();
        self.messages = smc::Channel::default();
        self.memory.set_mastering(false);
    }

    /// It falls off the bus.
    pub(crate) fn fall_off(&mut self) {
        self.begin_anew();
        self.gone = true;
    }

    /// The client is gone, and with it the guest: ready for the next.
    pub(crate) fn release(&mut self) {
        self.begin_anew();
        self.memory.clear();
        self.interrupts.silence();
        self.give_back = Interrupts::new(1);
        self.gone = false;
    }
}
