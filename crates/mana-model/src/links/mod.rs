//! What is behind the ports: where frames go that a port sends, and where those come from that it
//! receives.
//!
//! A link inside the machine loses nothing. Where it is full, [`Links::can_send`] says so and the
//! port leaves its work in the send ring. What becomes of a frame for which no buffer is posted is
//! the link's [`Patience`]. A tap loses what its interface does not take, and counts it.

mod capture;
mod generator;
mod pace;
mod replay;
pub(crate) mod tap;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::capture::{Capture, Files};
use self::generator::Generator;
use self::pace::Pace;
use self::replay::Replay;
use self::tap::Tap;
pub use self::tap::TapError;
pub(crate) use self::tap::{Ears, Look, Watcher};
use self::wire::Wire;
use crate::config::{DeviceConfig, LinkConfig, default_mac};
use crate::error::ModelError;

/// All links of a machine, by port counted over all devices.
pub(crate) struct Links {
    ends: Vec<End>,
    /// When the machine was built: the zero of links' time.
    start: Instant,
    /// Whether any link has a clock to look at.
    timed: bool,
    /// Whether any link is a tap.
    tapped: bool,
}

/// One port's end of its link.
struct End {
    /// Where frames come from besides the wire.
    source: Source,
    /// What the port sends goes there.
    target: Target,
    /// Frames on their way to the port.
    wire: Wire,
    /// Gets what the port sends and what arrives at it.
    capture: Option<Capture>,
    /// Whether there is a carrier.
    up: bool,
    /// Frames lost for want of it.
    lost: u64,
}

/// What becomes of a frame for which no buffer is posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// It is lost, as on hardware.
    None,
    /// It waits a moment where only the buffer is missing: a tap, whose frames queue up in the
    /// kernel meanwhile. Those of a port that does not receive are lost at once.
    Brief,
    /// It waits for ever: a source that is as fast as the port.
    Endless,
}

/// Frames that no port of the machine sent.
enum Source {
    None,
    Replay {
        replay: Replay,
        pace: Pace,
    },
    Generator {
        generator: Generator,
        pace: Pace,
    },
    /// Both ways: it is its end's target too.
    Tap(Tap),
}

/// Where frames go.
enum Target {
    /// To the wire of the port with this index, which may be the sender's own.
    Port(usize),
    Capture(Capture),
    Keep(Vec<Vec<u8>>),
    /// To the tap that is the source.
    Tap,
    Nowhere,
}

impl Links {
    /// The links of all ports; `pairs` of ports are wired to each other. Captures to replay are
    /// read, captures to write are created.
    ///
    /// # Errors
    ///
    /// [`ModelError::Capture`] names the file and what is wrong with it; nothing was created if it
    /// is one to replay. [`ModelError::Tap`] names the tap and what helps.
    pub(crate) fn new(
        devices: &[DeviceConfig],
        pairs: &[(usize, usize)],
    ) -> Result<Self, ModelError> {
        let mut ends = Vec::new();
        for (number, device) in devices.iter().enumerate() {
            for (port, settings) in device.ports.iter().enumerate() {
                let mac = settings.mac.unwrap_or_else(|| default_mac(number, port));
                let (source, target) = match &settings.link {
                    LinkConfig::Loop => (Source::None, Target::Port(ends.len())),
                    LinkConfig::Pair => (Source::None, Target::Port(partner(ends.len(), pairs))),
                    LinkConfig::Sink { capture: true } => (Source::None, Target::Keep(Vec::new())),
                    LinkConfig::Sink { capture: false } => (Source::None, Target::Nowhere),
                    LinkConfig::Tap(config) => {
                        let tap = Tap::open(config).map_err(|cause| ModelError::Tap {
                            name: config.name.clone(),
                            cause,
                        })?;
                        (Source::Tap(tap), Target::Tap)
                    }
                    LinkConfig::Gen(config) => {
                        let generator = Generator::new(config, mac);
                        let pace = Pace::new(config.pps);
                        (Source::Generator { generator, pace }, Target::Nowhere)
                    }
                    LinkConfig::Pcap { rx: None, .. } => (Source::None, Target::Nowhere),
                    LinkConfig::Pcap {
                        rx: Some(path),
                        pps,
                        ..
                    } => {
                        let (replay, pace) = (Replay::open(path)?, Pace::new(*pps));
                        (Source::Replay { replay, pace }, Target::Nowhere)
                    }
                };
                ends.push(End {
                    source,
                    target,
                    wire: Wire::default(),
                    capture: None,
                    up: true,
                    lost: 0,
                });
            }
        }
        // Creating a file empties it, so all that are replayed must have been read by now.
        let ports = devices.iter().flat_map(|device| &device.ports);
        let mut files = Files::replayed(ports.clone().filter_map(|port| match &port.link {
            LinkConfig::Pcap { rx, .. } => rx.as_deref(),
            _ => None,
        }));
        for (end, settings) in ends.iter_mut().zip(ports) {
            if let LinkConfig::Pcap { tx: Some(path), .. } = &settings.link {
                end.target = Target::Capture(Capture::create(path, &mut files)?);
            }
            if let Some(path) = &settings.capture {
                end.capture = Some(Capture::create(path, &mut files)?);
            }
        }
        Ok(Self {
            timed: ends.iter().any(End::is_timed),
            tapped: ends.iter().any(|end| end.tap().is_some()),
            ends,
            start: Instant::now(),
        })
    }

    /// Lets time pass until now: rates become due, captures are handed to the file system.
    /// Called once a step.
    #[inline]
    pub(crate) fn tick(&mut self) {
        if self.timed {
            self.tick_at(self.start.elapsed());
        }
    }

    /// Whether any link has a clock to look at.
    pub(crate) fn is_timed(&self) -> bool {
        self.timed
    }

    /// [`Links::tick`] with the time since the machine was built.
    fn tick_at(&mut self, now: Duration) {
        for end in &mut self.ends {
            match &mut end.source {
                Source::Replay { pace, .. } | Source::Generator { pace, .. } => pace.tick(now),
                Source::None | Source::Tap(_) => {}
            }
            for capture in end.captures() {
                capture.tick(now);
            }
        }
    }

    /// Whether `port` may send a frame now.
    #[inline]
    pub(crate) fn can_send(&self, port: usize) -> bool {
        match self.ends[port].target {
            Target::Port(peer) => !self.ends[peer].wire.is_full(),
            _ => true,
        }
    }

    /// Gives the link of `port` a carrier or takes it; returns the ports at its ends.
    pub(crate) fn set_up(&mut self, port: usize, up: bool) -> Vec<usize> {
        let mut ports = vec![port];
        if let Target::Port(peer) = self.ends[port].target
            && peer != port
        {
            ports.push(peer);
        }
        for port in &ports {
            self.ends[*port].up = up;
        }
        ports
    }

    /// Whether the link of `port` has a carrier.
    pub(crate) fn is_up(&self, port: usize) -> bool {
        self.ends[port].up
    }

    /// Puts another link behind `port`, with nothing on it; false where that can't be one while the
    /// machine runs.
    pub(crate) fn set_wire(&mut self, port: usize, link: &LinkConfig) -> bool {
        let target = match link {
            LinkConfig::Loop => Target::Port(port),
            LinkConfig::Sink { capture: true } => Target::Keep(Vec::new()),
            LinkConfig::Sink { capture: false } => Target::Nowhere,
            _ => return false,
        };
        let end = &mut self.ends[port];
        (end.source, end.target, end.wire) = (Source::None, target, Wire::default());
        true
    }

    /// Allows each tap so many frames until the next call. One that was silent may be passed over
    /// unless `eager`.
    #[inline]
    pub(crate) fn listen(&mut self, frames: usize, eager: bool) {
        if !self.tapped {
            return;
        }
        for end in &mut self.ends {
            if let Source::Tap(tap) = &mut end.source {
                tap.listen(frames, eager);
            }
        }
    }

    /// What an idle thread may wait on for frames; `None` without taps.
    pub(crate) fn ears(&self) -> Option<Ears> {
        let taps = self.ends.iter().filter_map(End::tap);
        Ears::new(taps.map(|tap| Arc::clone(tap.shared())).collect())
    }

    /// Starts to look at the taps' interfaces, once now; `None` without taps.
    pub(crate) fn watch(&self) -> Option<Watcher> {
        let ends = self.ends.iter().enumerate();
        let taps: Vec<_> = ends
            .filter_map(|(port, end)| Some((port, Arc::clone(end.tap()?.shared()))))
            .collect();
        (!taps.is_empty()).then(|| Watcher::start(taps))
    }

    /// Frames of a port that its link could not hand over.
    pub(crate) fn dropped(&self, port: usize) -> u64 {
        let end = &self.ends[port];
        end.lost + end.tap().map_or(0, Tap::dropped)
    }

    /// Takes a frame that send queue `queue` of `port` sent.
    #[inline]
    pub(crate) fn send(&mut self, port: usize, queue: u32, frame: &[u8]) {
        let End {
            source,
            target,
            capture,
            up,
            lost,
            ..
        } = &mut self.ends[port];
        if !*up {
            *lost += 1;
            return;
        }
        if let Some(capture) = capture {
            capture.write(frame);
        }
        match target {
            Target::Port(peer) => {
                let peer = *peer;
                self.ends[peer].wire.push(frame);
            }
            Target::Capture(capture) => capture.write(frame),
            Target::Keep(kept) => kept.push(frame.to_vec()),
            Target::Tap => {
                if let Source::Tap(tap) = source {
                    tap.write(queue, frame);
                }
            }
            Target::Nowhere => {}
        }
    }

    /// Lets a frame arrive at `port`, before any of the link's own source.
    pub(crate) fn deliver(&mut self, port: usize, frame: &[u8]) {
        self.ends[port].wire.push(frame);
    }

    /// What becomes of a frame for `port` for which no buffer is posted.
    #[inline]
    pub(crate) fn patience(&self, port: usize) -> Patience {
        match &self.ends[port].source {
            Source::Replay { pace, .. } | Source::Generator { pace, .. } if pace.is_unlimited() => {
                Patience::Endless
            }
            Source::Tap(_) => Patience::Brief,
            _ => Patience::None,
        }
    }

    /// The next frame for `port`, in place of what `frame` held; false if there is none now.
    #[inline]
    pub(crate) fn receive(&mut self, port: usize, frame: &mut Vec<u8>) -> bool {
        let end = &mut self.ends[port];
        if !end.up {
            end.lose(frame);
            return false;
        }
        let arrived = end.wire.pop(frame) || end.source.next(frame);
        if let (true, Some(capture)) = (arrived, &mut end.capture) {
            capture.write(frame);
        }
        arrived
    }

    /// Takes what a capturing sink has kept, oldest first; empty for other links.
    pub(crate) fn take_frames(&mut self, port: usize) -> Vec<Vec<u8>> {
        match &mut self.ends[port].target {
            Target::Keep(kept) => std::mem::take(kept),
            _ => Vec::new(),
        }
    }

    /// Whether every source that ends has ended, nothing is on a wire, and captures are in their
    /// files.
    pub(crate) fn drained(&self) -> bool {
        self.ends.iter().all(End::is_drained)
    }
}

impl Source {
    /// The next frame, in place of what `frame` held; false if there is none now.
    #[inline]
    fn next(&mut self, frame: &mut Vec<u8>) -> bool {
        match self {
            Source::None => false,
            Source::Replay { replay, pace } => {
                !replay.is_done() && pace.take() && replay.next(frame)
            }
            Source::Generator { generator, pace } => {
                !generator.is_done() && pace.take() && generator.next(frame)
            }
            Source::Tap(tap) => tap.read(frame),
        }
    }
}

impl End {
    fn captures(&mut self) -> impl Iterator<Item = &mut Capture> {
        let target = match &mut self.target {
            Target::Capture(capture) => Some(capture),
            _ => None,
        };
        target.into_iter().chain(&mut self.capture)
    }

    /// Loses what would arrive now. A source as fast as the port would never end: it waits.
    #[cold]
    fn lose(&mut self, frame: &mut Vec<u8>) {
        let waits = match &self.source {
            Source::None => true,
            Source::Replay { pace, .. } | Source::Generator { pace, .. } => pace.is_unlimited(),
            Source::Tap(_) => false,
        };
        while self.wire.pop(frame) || !waits && self.source.next(frame) {
            self.lost += 1;
        }
    }

    fn tap(&self) -> Option<&Tap> {
        match &self.source {
            Source::Tap(tap) => Some(tap),
            _ => None,
        }
    }

    fn is_timed(&self) -> bool {
        let paced = match &self.source {
            Source::None | Source::Tap(_) => false,
            Source::Replay { pace, .. } | Source::Generator { pace, .. } => !pace.is_unlimited(),
        };
        paced || self.capture.is_some() || matches!(self.target, Target::Capture(_))
    }

    fn is_drained(&self) -> bool {
        let done = match &self.source {
            // What a tap still brings, nobody knows.
            Source::None | Source::Tap(_) => true,
            Source::Replay { replay, .. } => replay.is_done(),
            Source::Generator { generator, .. } => generator.is_done() || generator.is_endless(),
        };
        let written = match &self.target {
            Target::Capture(capture) => capture.is_flushed(),
            _ => true,
        } && self.capture.as_ref().is_none_or(Capture::is_flushed);
        done && written && self.wire.is_empty()
    }
}

/// The other port of the pair. The configuration was checked: each port that says `pair` is in one.
fn partner(port: usize, pairs: &[(usize, usize)]) -> usize {
    let mut both_ways = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]);
    let found = both_ways.find(|(one, _)| *one == port);
    found.map_or(port, |(_, other)| other)
}

#[cfg(test)]
mod tests;
