//! The options right of `--`: queues, packets, forwarding and output.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use mana_pmd::{MIN_DEPTH, MIN_MTU};
use uverbs_abi::Mac;

use super::checksums::ByDevice;
use super::eal_args::note;
use super::getopt::{Given, UsageError};
use super::lengths::Lengths;
use super::modes::{FCS, Flows, ModeName, SourcePorts};
use super::options::{APP, AppOption};
use super::streams::Topology;

/// The largest burst, as in testpmd.
pub const MAX_BURST: usize = 512;
/// The largest pool cache, as in testpmd.
pub const MAX_CACHE: u32 = 512;
/// Ports that `--eth-peer` can name, exclusive.
pub const MAX_PORTS: usize = 32;
/// Ethernet, IPv4 and UDP headers: the shortest packet that txonly can build, in bytes.
pub const MIN_TX_PACKET: u32 = 42;

/// Where commands are read from before there is a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFile {
    /// The file.
    pub path: PathBuf,
    /// Whether its lines are printed as they are run.
    pub echo: bool,
}

/// What was asked for right of `--`.
#[derive(Debug, Clone, PartialEq)]
pub struct AppArgs {
    /// Forward mode.
    pub mode: ModeName,
    /// Whether `--forward-mode` named it.
    pub mode_named: bool,
    /// RX queues a port.
    pub rxq: u16,
    /// TX queues a port.
    pub txq: u16,
    /// Descriptors of an RX queue.
    pub rxd: u32,
    /// Descriptors of a TX queue.
    pub txd: u32,
    /// Packets a burst.
    pub burst: usize,
    /// Forwarding cores.
    pub nb_cores: usize,
    /// Data room of an mbuf in bytes, headroom included.
    pub mbuf_size: u32,
    /// Mbufs in each pool; `None` for the computed number.
    pub total_num_mbufs: Option<u32>,
    /// Mbufs in one pool cache record.
    pub mbcache: u32,
    /// Lengths of generated packets.
    pub tx_lengths: Lengths,
    /// Source and destination of txonly's packets.
    pub tx_ip: (Ipv4Addr, Ipv4Addr),
    /// UDP source and destination port of txonly's packets.
    pub tx_udp: (u16, u16),
    /// Whether txonly varies the UDP source port.
    pub multi_flow: bool,
    /// How many source ports each core varies it over.
    pub tx_flows: u8,
    /// What the device does for csum mode.
    pub by_device: ByDevice,
    /// Flows and clones of flowgen.
    pub flows: Flows,
    /// Destination MAC by TX port, where one was given.
    pub eth_peers: [Option<Mac>; MAX_PORTS],
    /// Which port a packet leaves by.
    pub topology: Topology,
    /// Time between two statistics.
    pub stats_period: Option<Duration>,
    /// Largest packet that must fit, bytes.
    pub max_pkt_len: Option<u32>,
    /// `--enable-scatter`: whether packets may take several mbufs.
    pub scatter: bool,
    /// Whether `--auto-start` was given (without a prompt forwarding starts in any case).
    pub auto_start: bool,
    /// Whether there is a prompt.
    pub interactive: bool,
    /// Level of `set verbose`.
    pub verbose: u32,
    /// Commands that are run first.
    pub command_file: Option<CommandFile>,
    /// Whether the sizes of bursts are recorded.
    pub record_bursts: bool,
    /// Whether cycles a packet are recorded.
    pub record_cycles: bool,
    /// Whether packets that came before forwarding begins are dropped.
    pub flush_rx: bool,
    /// Whether queues count in histograms.
    pub histograms: bool,
    /// Whether idle cores sleep until a packet comes.
    pub rx_interrupts: bool,
    /// Whether one burst is sent on every stream first.
    pub tx_first: bool,
    /// `--no-huge` on this side.
    pub no_huge: bool,
    /// How long to forward.
    pub duration: Option<Duration>,
    /// Whether to end with one JSON line.
    pub json: bool,
    /// `--help`.
    pub help: bool,
    /// One line for each option that means nothing here.
    pub notes: Vec<String>,
}

impl Default for AppArgs {
    /// testpmd's defaults; the ring sizes are MANA's.
    fn default() -> Self {
        AppArgs {
            mode: ModeName::Io,
            mode_named: false,
            rxq: 1,
            txq: 1,
            rxd: 256,
            txd: 256,
            burst: 32,
            nb_cores: 1,
            mbuf_size: 2176,
            total_num_mbufs: None,
            mbcache: 250,
            tx_lengths: Lengths::default(),
            tx_ip: (Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)),
            tx_udp: (9, 9),
            multi_flow: false,
            tx_flows: SourcePorts::MOST,
            by_device: ByDevice::default(),
            flows: Flows::default(),
            eth_peers: [None; MAX_PORTS],
            topology: Topology::Paired,
            stats_period: None,
            max_pkt_len: None,
            scatter: false,
            auto_start: false,
            interactive: false,
            verbose: 0,
            command_file: None,
            record_bursts: false,
            record_cycles: false,
            flush_rx: true,
            histograms: false,
            rx_interrupts: false,
            tx_first: false,
            no_huge: false,
            duration: None,
            json: false,
            help: false,
            notes: Vec::new(),
        }
    }
}

impl AppArgs {
    /// Reads the words right of `--`.
    ///
    /// # Errors
    ///
    /// For unknown options, values out of range, and lengths that no mbuf holds.
    pub fn parse(words: &[String]) -> Result<AppArgs, UsageError> {
        let mut args = AppArgs::default();
        for given in APP.parse(words)? {
            args.take(&given)?;
        }
        args.check()?;
        Ok(args)
    }

    /// The destination MAC of what leaves by `port`: the one given, else testpmd's
    /// `02:00:00:00:00:PORT`.
    pub fn peer(&self, port: usize) -> Mac {
        let given = self.eth_peers.get(port).copied().flatten();
        given.unwrap_or(Mac([2, 0, 0, 0, 0, port as u8]))
    }

    fn take(&mut self, given: &Given<AppOption>) -> Result<(), UsageError> {
        match given.id {
            AppOption::ForwardMode => {
                self.mode = parsed(given)?;
                self.mode_named = true;
            }
            // The upper limits are the port's to tell.
            AppOption::Rxq => self.rxq = number(given, 0, u64::from(u16::MAX))? as u16,
            AppOption::Txq => self.txq = number(given, 0, u64::from(u16::MAX))? as u16,
            AppOption::Rxd => self.rxd = depth(given)?,
            AppOption::Txd => self.txd = depth(given)?,
            // As in testpmd, 0 is the driver's choice, which is the default.
            AppOption::Burst => {
                self.burst = match number(given, 0, MAX_BURST as u64)? {
                    0 => AppArgs::default().burst,
                    burst => burst as usize,
                }
            }
            AppOption::NbCores => self.nb_cores = number(given, 1, 1024)? as usize,
            AppOption::MbufSize => {
                self.mbuf_size =
                    number(given, pmd_api::HEADROOM as u64 + 64, u64::from(u16::MAX))? as u32;
            }
            AppOption::TotalNumMbufs => {
                self.total_num_mbufs = Some(number(given, 1, u64::from(u32::MAX / 2))? as u32);
            }
            AppOption::Mbcache => self.mbcache = number(given, 0, u64::from(MAX_CACHE))? as u32,
            AppOption::Txpkts => {
                let taken = self.tx_lengths.take(&given.value);
                taken.map_err(|expected| bad(given, expected))?;
            }
            AppOption::Txsplit => self.tx_lengths.split = parsed(given)?,
            AppOption::TxIp => self.tx_ip = pair(given, "SRC,DST with two IPv4 addresses")?,
            AppOption::TxUdp => {
                self.tx_udp = match given.value.contains(',') {
                    true => pair(given, "SRC[,DST] with UDP ports")?,
                    false => {
                        let port = number(given, 0, u64::from(u16::MAX))? as u16;
                        (port, port)
                    }
                }
            }
            AppOption::TxonlyMultiFlow => self.multi_flow = true,
            AppOption::TxonlyFlows => {
                self.tx_flows = number(given, 1, u64::from(SourcePorts::MOST))? as u8;
            }
            AppOption::Csum => {
                let taken = self.by_device.take_choice(&given.value);
                taken.map_err(|expected| bad(given, expected))?;
            }
            AppOption::Tso => {
                let taken = self.by_device.take_mss(&given.value);
                taken.map_err(|expected| bad(given, expected))?;
            }
            AppOption::TxOffloads => {
                let taken = self.by_device.take_offloads(&given.value);
                let lacking = taken.map_err(|expected| bad(given, expected))?;
                if lacking != 0 {
                    self.notes.push(format!(
                        "bits {lacking:#x} of --tx-offloads ask for what this driver does not have"
                    ));
                }
            }
            AppOption::FlowgenFlows => {
                self.flows.flows = number(given, 1, i32::MAX as u64)? as u32;
            }
            AppOption::FlowgenClones => {
                self.flows.clones = number(given, 0, MAX_BURST as u64)? as usize;
            }
            AppOption::EthPeer => {
                let (port, mac): (usize, Mac) = pair(given, "PORT,MAC, as in 0,aa:bb:cc:dd:ee:ff")?;
                let peer = self.eth_peers.get_mut(port);
                let peer =
                    peer.ok_or_else(|| bad(given, format!("ports end at {}", MAX_PORTS - 1)))?;
                *peer = Some(mac);
            }
            AppOption::PortTopology => self.topology = parsed(given)?,
            AppOption::StatsPeriod => {
                let seconds = number(given, 0, u64::from(u32::MAX))?;
                self.stats_period = (seconds > 0).then(|| Duration::from_secs(seconds));
            }
            AppOption::MaxPktLen => {
                self.max_pkt_len = Some(number(given, 64, u64::from(u16::MAX))? as u32);
            }
            AppOption::AutoStart => self.auto_start = true,
            AppOption::Interactive => self.interactive = true,
            AppOption::CmdlineFile | AppOption::CmdlineFileNoecho => {
                self.command_file = Some(CommandFile {
                    path: given.value.clone().into(),
                    echo: given.id == AppOption::CmdlineFile,
                });
            }
            AppOption::RecordBurstStats => self.record_bursts = true,
            AppOption::RecordCoreCycles => self.record_cycles = true,
            AppOption::NoFlushRx => self.flush_rx = false,
            AppOption::Histograms => self.histograms = true,
            AppOption::RxInterrupts => self.rx_interrupts = true,
            AppOption::TxFirst => self.tx_first = true,
            AppOption::NoHuge => self.no_huge = true,
            AppOption::EnableScatter => self.scatter = true,
            AppOption::InMemory => {}
            AppOption::Duration => self.duration = Some(seconds(given)?),
            AppOption::Json => self.json = true,
            AppOption::Help => self.help = true,
            AppOption::Meaningless => self.notes.push(note(&given.option, given.help)),
            AppOption::NotYet => {
                return Err(UsageError::NotYet {
                    option: given.option.clone(),
                    instead: given.help,
                });
            }
        }
        Ok(())
    }

    /// The MTU that `--max-pkt-len` asks for: that is a length with Ethernet header and FCS, as
    /// DPDK counts.
    pub fn mtu(&self) -> Option<u32> {
        self.max_pkt_len
            .map(|length| length.saturating_sub(18).max(MIN_MTU))
    }

    /// Mbufs that the largest packet takes, where the netdev has an MTU of `netdev`.
    pub fn mbufs_of_a_packet(&self, netdev: u32) -> u32 {
        let frame = self.mtu().unwrap_or(netdev) + 14;
        let room = self.mbuf_size - pmd_api::HEADROOM as u32;
        match self.scatter {
            true => frame.div_ceil(room.max(1)),
            false => 1,
        }
    }

    /// What only the options together tell.
    ///
    /// # Errors
    ///
    /// Options that contradict each other.
    pub fn check(&self) -> Result<(), UsageError> {
        let room = self.mbuf_size - pmd_api::HEADROOM as u32;
        if let Some(length) = self.max_pkt_len
            && length > room
            && !self.scatter
        {
            return Err(UsageError::Conflict(format!(
                "packets of {length} bytes (--max-pkt-len) do not fit mbufs of {} bytes with {} of \
                 headroom: use --mbuf-size={} or --enable-scatter",
                self.mbuf_size,
                pmd_api::HEADROOM,
                length + pmd_api::HEADROOM as u32,
            )));
        }
        self.tx_lengths.check().map_err(UsageError::Conflict)?;
        let segments = &self.tx_lengths.segments;
        if let Some(length) = segments.iter().find(|length| **length > room) {
            return Err(UsageError::Conflict(format!(
                "a segment of {length} bytes (--txpkts) does not fit mbufs of {} bytes with {} of \
                 headroom: use --mbuf-size={}",
                self.mbuf_size,
                pmd_api::HEADROOM,
                length + pmd_api::HEADROOM as u32,
            )));
        }
        self.check_flowgen(room)
    }

    /// flowgen's packets are of one segment, and shorter than `--txpkts` says.
    fn check_flowgen(&self, room: u32) -> Result<(), UsageError> {
        if self.mode != ModeName::FlowGen {
            return Ok(());
        }
        if self.tx_lengths.vary() {
            return Err(UsageError::Conflict(
                "flowgen's packets have one length: leave out --txsplit=rand and the range in \
                 --txpkts"
                    .to_owned(),
            ));
        }
        let total: u32 = self.tx_lengths.segments.iter().sum();
        if total < MIN_TX_PACKET + FCS {
            return Err(UsageError::Conflict(format!(
                "flowgen counts the FCS of {FCS} bytes in --txpkts, as testpmd does: give it at \
                 least {}",
                MIN_TX_PACKET + FCS,
            )));
        }
        if total - FCS > room {
            return Err(UsageError::Conflict(format!(
                "flowgen sends packets of one segment, and {} bytes (--txpkts) do not fit mbufs of \
                 {} bytes with {} of headroom: use --mbuf-size={}",
                total - FCS,
                self.mbuf_size,
                pmd_api::HEADROOM,
                total - FCS + pmd_api::HEADROOM as u32,
            )));
        }
        Ok(())
    }
}

fn bad(given: &Given<AppOption>, expected: impl Into<String>) -> UsageError {
    UsageError::BadValue {
        option: given.option.clone(),
        value: given.value.clone(),
        expected: expected.into(),
    }
}

fn number(given: &Given<AppOption>, min: u64, max: u64) -> Result<u64, UsageError> {
    let value = given.value.parse::<u64>().ok();
    value
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| bad(given, format!("expected a number from {min} to {max}")))
}

/// Descriptors of a queue.
fn depth(given: &Given<AppOption>) -> Result<u32, UsageError> {
    Ok(number(given, u64::from(MIN_DEPTH), u64::from(u16::MAX))? as u32)
}

fn parsed<T: std::str::FromStr<Err = String>>(given: &Given<AppOption>) -> Result<T, UsageError> {
    given
        .value
        .parse()
        .map_err(|expected: String| bad(given, expected))
}

fn pair<A: std::str::FromStr, B: std::str::FromStr>(
    given: &Given<AppOption>,
    form: &str,
) -> Result<(A, B), UsageError> {
    let both = given.value.split_once(',');
    both.and_then(|(a, b)| Some((a.trim().parse().ok()?, b.trim().parse().ok()?)))
        .ok_or_else(|| bad(given, format!("expected {form}")))
}

fn seconds(given: &Given<AppOption>) -> Result<Duration, UsageError> {
    let seconds = given.value.parse::<f64>().ok();
    seconds
        .filter(|seconds| *seconds > 0.0)
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| {
            bad(
                given,
                "expected a number of seconds above 0, such as 5 or 0.5",
            )
        })
}

#[cfg(test)]
mod tests;
