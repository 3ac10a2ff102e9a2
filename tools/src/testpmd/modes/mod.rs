//! The forward modes. Each is one file: what happens to the packets of a burst between two queues.
//!
//! A forwarding core calls [`ForwardMode::forward`] for each of its streams in turn. The loop
//! allocates nothing, takes no lock and logs nothing.

mod csum;
mod five_tuple;
mod flowgen;
#[cfg(test)]
mod fuzz;
mod icmpecho;
mod incremental;
mod io;
mod mac;
mod macswap;
mod rxonly;
mod txonly;

use std::fmt;
use std::str::FromStr;

use pmd_api::Pool;
use uverbs_abi::Mac;

use super::checksums::ByDevice;
use super::lane::Lane;
use super::streams::Topology;
use flowgen::FlowGen;
use txonly::TxOnly;

pub use flowgen::{FCS, Flows};
pub use txonly::{Shape, SourcePorts};

/// One burst of one stream.
pub trait ForwardMode: Send {
    /// Moves what there is to move, at most a burst; returns the number of packets received or, in
    /// a mode that only sends, sent. 0 means that the stream had nothing to do.
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize;
}

/// A forward mode by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModeName {
    /// Unchanged.
    Io,
    /// With the addresses of the next hop.
    Mac,
    /// With source and destination MAC exchanged.
    MacSwap,
    /// Received and dropped.
    RxOnly,
    /// Generated and sent.
    TxOnly,
    /// With checksums computed anew.
    Csum,
    /// Answered, where they are requests.
    IcmpEcho,
    /// With source and destination exchanged in every layer.
    FiveTupleSwap,
    /// Dropped, and packets of many flows are generated and sent.
    FlowGen,
}

impl ModeName {
    /// All modes, in the order of the error message.
    pub const ALL: [ModeName; 9] = [
        ModeName::Io,
        ModeName::Mac,
        ModeName::MacSwap,
        ModeName::RxOnly,
        ModeName::TxOnly,
        ModeName::Csum,
        ModeName::IcmpEcho,
        ModeName::FiveTupleSwap,
        ModeName::FlowGen,
    ];

    /// Modes of DPDK's that do not exist here.
    const MISSING: [&str; 5] = ["ieee1588", "tm", "noisy", "shared-rxq", "recycle_mbufs"];

    fn name(self) -> &'static str {
        match self {
            ModeName::Io => "io",
            ModeName::Mac => "mac",
            ModeName::MacSwap => "macswap",
            ModeName::RxOnly => "rxonly",
            ModeName::TxOnly => "txonly",
            ModeName::Csum => "csum",
            ModeName::IcmpEcho => "icmpecho",
            ModeName::FiveTupleSwap => "5tswap",
            ModeName::FlowGen => "flowgen",
        }
    }

    /// Whether what is received is sent on, so that every received packet must be accounted for.
    pub fn sends_on(self) -> bool {
        matches!(
            self,
            ModeName::Io
                | ModeName::Mac
                | ModeName::MacSwap
                | ModeName::Csum
                | ModeName::IcmpEcho
                | ModeName::FiveTupleSwap
        )
    }

    /// Which port a packet leaves by, where `asked` is what was asked for: answers go out where the
    /// request came in.
    pub fn topology(self, asked: Topology) -> Topology {
        match self {
            ModeName::IcmpEcho => Topology::Loop,
            _ => asked,
        }
    }

    /// Whether it makes packets, by what `--txpkts` says.
    pub fn generates(self) -> bool {
        matches!(self, ModeName::TxOnly | ModeName::FlowGen)
    }

    /// The mode for a stream that leaves by a port with MAC `source` towards `peer`. `shape` and
    /// `pool` are for the packets that txonly makes, `by_device` is for csum.
    pub fn build(
        self,
        source: Mac,
        peer: Mac,
        shape: &Shape,
        pool: &Pool,
        by_device: ByDevice,
    ) -> Box<dyn ForwardMode> {
        match self {
            ModeName::Io => Box::new(io::Io),
            ModeName::Mac => Box::new(mac::MacForward::new(source, peer)),
            ModeName::MacSwap => Box::new(macswap::MacSwap),
            ModeName::RxOnly => Box::new(rxonly::RxOnly),
            ModeName::TxOnly => Box::new(TxOnly::new(source, peer, shape, pool.clone())),
            ModeName::Csum => Box::new(csum::Csum::new(source, peer, by_device)),
            ModeName::IcmpEcho => Box::new(icmpecho::IcmpEcho::new(source)),
            ModeName::FiveTupleSwap => Box::new(five_tuple::FiveTupleSwap),
            ModeName::FlowGen => Box::new(FlowGen::new(source, peer, shape, pool.clone())),
        }
    }
}

impl fmt::Display for ModeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for ModeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(mode) = Self::ALL.into_iter().find(|mode| mode.name() == text) {
            return Ok(mode);
        }
        let names = Self::ALL.map(ModeName::name).join(", ");
        match Self::MISSING.contains(&text) {
            true => Err(format!(
                "this mode of DPDK's is not there yet; there are {names}"
            )),
            false => Err(format!("no such mode; there are {names}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_by_testpmds_names() {
        for mode in ModeName::ALL {
            assert_eq!(mode.to_string().parse::<ModeName>(), Ok(mode));
        }
        let missing = "noisy".parse::<ModeName>().unwrap_err();
        assert!(
            missing.starts_with("this mode of DPDK's is not there yet"),
            "{missing}"
        );
        let unknown = "sideways".parse::<ModeName>().unwrap_err();
        assert_eq!(
            unknown,
            "no such mode; there are io, mac, macswap, rxonly, txonly, csum, icmpecho, 5tswap, flowgen"
        );
    }
}
