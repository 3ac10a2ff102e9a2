//! What is measured: one set of conditions, and the words by which the processes are told.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use mana_model::Cooling;
use serde::{Deserialize, Serialize};

/// What packets are asked of the device on their way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Offload {
    /// Nothing.
    #[default]
    Off,
    /// Checksums of IPv4 header and UDP.
    Checksum,
    /// A VLAN tag inserted.
    Vlan,
}

/// Conditions of a measurement; the default is the point around which axes are varied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Packets of a burst.
    pub burst: u32,
    /// Bytes of a packet without FCS.
    pub size: u32,
    /// Depth of every queue.
    pub ring: u32,
    /// Segments of a packet to send.
    pub segments: u32,
    /// Queues each way, served by one thread in turn.
    pub queues: u32,
    /// What sent packets ask for.
    pub offload: Offload,
    /// Packets of a receive completion at most.
    pub coalescing: u32,
    /// Where completions lie when they are read.
    #[serde(with = "cooling")]
    pub cool: Cooling,
    /// Whether the store buffer is drained within the timed region.
    pub drain: bool,
    /// Whether packets arrive.
    pub traffic: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            burst: 32,
            size: 60,
            ring: 256,
            segments: 1,
            queues: 1,
            offload: Offload::Off,
            coalescing: 1,
            cool: Cooling::None,
            drain: false,
            traffic: true,
        }
    }
}

impl Plan {
    /// The device that it is measured on, as the text behind `--vdev=`.
    pub fn vdev(&self) -> String {
        // Enough flows for every queue to have some of them.
        let flows = if self.queues > 1 { 1024 } else { 1 };
        let link = match self.traffic {
            true => format!("gen:size={}:flows={flows}", self.size),
            false => "sink".to_owned(),
        };
        format!("model0,link={link},coalescing={}", self.coalescing)
    }

    /// The number behind each name: what the program in C is told, and [`Plan::from_str`] reads.
    fn words(&self) -> [(&'static str, u32); 11] {
        [
            ("burst", self.burst),
            ("size", self.size),
            ("ring", self.ring),
            ("segments", self.segments),
            ("queues", self.queues),
            ("checksum", (self.offload == Offload::Checksum).into()),
            ("vlan", (self.offload == Offload::Vlan).into()),
            ("coalescing", self.coalescing),
            ("cool", self.cool as u32),
            ("drain", self.drain.into()),
            ("traffic", self.traffic.into()),
        ]
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.words().into_iter().enumerate() {
            let separator = if index > 0 { " " } else { "" };
            write!(f, "{separator}{name}={value}")?;
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for word in text.split_whitespace() {
            let parsed = word
                .split_once('=')
                .and_then(|(name, value)| Some((name, value.parse::<u32>().ok()?)));
            let (name, value) = parsed.ok_or_else(|| format!("`{word}`: expected NAME=NUMBER"))?;
            match name {
                "burst" => plan.burst = value,
                "size" => plan.size = value,
                "ring" => plan.ring = value,
                "segments" => plan.segments = value,
                "queues" => plan.queues = value,
                "checksum" if value > 0 => plan.offload = Offload::Checksum,
                "vlan" if value > 0 => plan.offload = Offload::Vlan,
                "checksum" | "vlan" => {}
                "coalescing" => plan.coalescing = value,
                "cool" => {
                    let cooling = Cooling::ALL.get(value as usize);
                    plan.cool = *cooling.ok_or_else(|| format!("`{word}`: 0, 1 or 2"))?;
                }
                "drain" => plan.drain = value > 0,
                "traffic" => plan.traffic = value > 0,
                _ => return Err(format!("`{word}`: unknown")),
            }
        }
        Ok(plan)
    }
}

/// By the command's names.
mod cooling {
    use mana_model::Cooling;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(cooling: &Cooling, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(cooling.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cooling, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Out.
    Tx,
    /// In.
    Rx,
    /// In and out again.
    Forward,
    /// Looking for packets where none are.
    Poll,
}

impl Direction {
    /// Those in which packets move.
    pub const MOVING: [Self; 3] = [Self::Tx, Self::Rx, Self::Forward];
    /// All.
    pub const ALL: [Self; 4] = [Self::Tx, Self::Rx, Self::Forward, Self::Poll];

    /// Its name to the processes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tx => "tx",
            Self::Rx => "rx",
            Self::Forward => "forward",
            Self::Poll => "poll",
        }
    }
}

/// What a process answers to `pass`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// As asked for.
    pub direction: Direction,
    /// Packets, or polls, that were measured.
    pub packets: u64,
    /// Timed regions in which they moved.
    pub regions: u64,
    /// Cycles of an empty region, which were taken off.
    pub overhead: f64,
    /// Median cycles a packet, over samples of 256 packets or more.
    pub median: f64,
    /// The least of them.
    pub min: f64,
    /// All cycles over all packets.
    pub mean: f64,
}

/// What a process answers to `count`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Packets that moved.
    pub packets: u64,
    /// Calls in which they did.
    pub regions: u64,
}

/// What a process answers to `events`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Events {
    /// Packets that moved.
    pub packets: u64,
    /// Events of the timed regions a packet, by name, less those of empty regions.
    pub events: BTreeMap<String, f64>,
    /// Why others are not counted.
    #[serde(default)]
    pub missing: Option<String>,
}

impl Events {
    /// None, for a reason.
    pub fn missing(reason: String) -> Self {
        Self {
            packets: 0,
            events: BTreeMap::new(),
            missing: Some(reason),
        }
    }
}

/// What a process says first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Who talks to the kernel, or DPDK's version.
    pub provider: String,
    /// What the start of the port added to the process's resident memory, in KiB; the pool was there
    /// before.
    pub memory_kib: i64,
    /// Libraries of DPDK's driver and rdma-core that are mapped.
    pub libraries: Vec<std::path::PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_what_its_words_say() {
        let mut plan = Plan::default();
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        plan = Plan {
            burst: 1,
            size: 9000,
            ring: 1024,
            segments: 4,
            queues: 8,
            offload: Offload::Vlan,
            coalescing: 4,
            cool: Cooling::Memory,
            drain: true,
            traffic: false,
        };
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&json).unwrap(), plan);
        for wrong in ["burst", "burst=x", "cool=3", "what=1"] {
            assert!(wrong.parse::<Plan>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_plan_has_a_device() {
        for (plan, link) in [
            (Plan::default(), "link=gen:size=60:flows=1"),
            (
                Plan {
                    traffic: false,
                    ..Plan::default()
                },
                "link=sink",
            ),
        ] {
            let text = plan.vdev();
            assert!(text.contains(link), "{text}");
            mana_model::parse_device(&text).unwrap();
        }
    }
}
