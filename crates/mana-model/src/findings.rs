//! What the driver did wrong: rules that it broke, with the evidence.

use std::fmt;
use std::sync::Arc;

/// Findings that a device keeps; further ones only count.
const KEPT: usize = 100;

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The rule that was broken. Sections are those of reference/mana-hardware.md.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FindingKind {
            $($(#[$doc])* $name,)*
        }

        impl FindingKind {
            /// What is wrong, in a few words.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }

            /// Its name in this enum, in which it is one word.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// The kind of a [`FindingKind::name`].
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $(stringify!($name) => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// A doorbell rang for a queue that the context does not have (§2.7).
    DoorbellQueue = "doorbell for a queue that the context does not have",
    /// A store to the doorbell page that is not at a register's offset (§2.7).
    DoorbellRegister = "store to the doorbell page outside its registers",
    /// Reserved bits or a count in a doorbell (§2.7: `wqe_cnt` must be 0).
    DoorbellReserved = "reserved bits in a doorbell",
    /// A cursor that moves backwards, beyond the ring, or inside a unit (§2.2).
    DoorbellCursor = "doorbell with an impossible cursor",
    /// The consumer of a CQ is said to be ahead of the device (§2.8).
    CqAhead = "CQ doorbell ahead of the device",
    /// No CQ doorbell for 8 laps (§2.8).
    CqDoorbellOverdue = "no CQ doorbell for 8 laps",
    /// More completions than the CQ has entries (§2.10).
    CqOverflow = "completion queue overflow",
    /// A WQE with a size, number of elements or end that can't be (§2.3).
    WqeFormat = "malformed WQE",
    /// Reserved bits in a WQE or OOB that are not zero (§2.3, §3.2).
    WqeReserved = "reserved bits in a WQE",
    /// An OOB that contradicts itself or its queue (§3.1, §3.2).
    Oob = "OOB contradicts itself or its queue",
    /// A vPort that was not given to the queue's domain (§4.5, §6.12).
    VPort = "vPort is not configured for the queue",
    /// An offload request that does not fit the packet (§3.3).
    Offload = "offload request does not fit the packet",
    /// A segmentation request that breaks a rule or does not fit the packet (§3.3).
    Segmentation = "segmentation request breaks a rule or does not fit the packet",
    /// A memory key that does not exist.
    MemoryKey = "unknown memory key",
    /// A memory key of another protection domain (§6.12).
    MemoryDomain = "memory key of another protection domain",
    /// An address outside its memory region.
    MemoryBounds = "address outside the memory region",
    /// Memory that the device may not write (§4.8).
    MemoryAccess = "memory region is not writable for the device",
    /// An element without bytes (§2.3).
    EmptyElement = "scatter-gather element without bytes",
    /// Ring memory that the device can't reach.
    RingMemory = "ring memory can't be reached",
}

impl FindingKind {
    /// Rules that can't be decided when doorbells are polled, because a value may be overwritten before
    /// it is seen.
    pub const UNDECIDED_WHEN_POLLED: &'static [Self] =
        &[Self::DoorbellReserved, Self::DoorbellCursor];
}

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub kind: FindingKind,
    /// Name of the device.
    pub device: String,
    /// Id of the work or completion queue.
    pub queue: Option<u32>,
    /// What was seen.
    pub evidence: String,
    /// How often the queue broke this rule.
    pub count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.device)?;
        if let Some(queue) = self.queue {
            write!(f, "queue {queue:#x}: ")?;
        }
        write!(f, "{}: {}", self.kind.text(), self.evidence)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)
        } else {
            Ok(())
        }
    }
}

/// Who is told of each finding as it is made.
pub(crate) type Watch = Arc<dyn Fn(&Finding) + Send + Sync>;

/// The findings of a device: one a rule and queue, counted.
pub(crate) struct Findings {
    device: String,
    list: Vec<Finding>,
    watch: Option<Watch>,
}

impl Findings {
    pub(crate) fn new(device: &str) -> Self {
        Self {
            device: device.to_owned(),
            list: Vec::new(),
            watch: None,
        }
    }

    pub(crate) fn watch(&mut self, watch: Watch) {
        self.watch = Some(watch);
    }

    /// Notes a broken rule; the evidence is only written out for the first of its kind.
    #[cold]
    pub(crate) fn add(
        &mut self,
        kind: FindingKind,
        queue: Option<u32>,
        evidence: fmt::Arguments<'_>,
    ) {
        let known = self
            .list
            .iter()
            .position(|known| known.kind == kind && known.queue == queue);
        match known {
            Some(known) => self.list[known].count += 1,
            None if self.list.len() < KEPT => {
                let finding = Finding {
                    kind,
                    device: self.device.clone(),
                    queue,
                    evidence: evidence.to_string(),
                    count: 1,
                };
                if let Some(watch) = &self.watch {
                    watch(&finding);
                }
                self.list.push(finding);
            }
            None => {}
        }
    }

    pub(crate) fn list(&self) -> &[Finding] {
        &self.list
    }

    pub(crate) fn take(&mut self) -> Vec<Finding> {
        std::mem::take(&mut self.list)
    }
}
