//! What is behind the ports: where frames go that a port sends, and where those come from that it
//! receives.

mod generator;
mod pace;

use std::collections::VecDeque;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::generator::Generator;
use self::pace::Pace;
use crate::config::{DeviceConfig, LinkConfig};
use crate::{ModelError, pcap};

/// Frames that may wait on a wire. A port whose wire is full sends no more until some arrived: a link
/// loses nothing.
const WIRE: usize = 4096;
/// Frames kept for frames of the same size: their memory is used again.
const SPARE: usize = WIRE;

/// All links of a machine, by port counted over all devices.
pub(crate) struct Links {
    ends: Vec<End>,
}

/// One port's end.
struct End {
    link: Link,
    /// Frames on their way to this port.
    arriving: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

enum Link {
    /// To the port with this index: itself for a loop.
    Wire { peer: usize },
    Pcap { frames: VecDeque<Vec<u8>>, capture: Option<Capture>, pace: Pace },
    Gen { generator: Generator, pace: Pace },
    Sink { kept: Option<Vec<Vec<u8>>> },
}

/// A capture that is being written.
struct Capture {
    writer: pcap::Writer,
    /// Since the last look something was written, or is not handed to the file system yet.
    busy: bool,
    unflushed: bool,
}

impl Capture {
    fn write(&mut self, port: usize, frame: &[u8]) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        (self.busy, self.unflushed) = (true, true);
        // A full disk must not stop the machine; the capture is short then, and says so.
        if let Err(error) = self.writer.write(now, frame) {
            tracing::error!(port, %error, "a frame is missing in the capture");
        }
    }

    /// Hands everything to the file system once nothing was written for a turn.
    fn tick(&mut self, port: usize) {
        if self.unflushed && !std::mem::take(&mut self.busy) {
            self.unflushed = false;
            if let Err(error) = self.writer.flush() {
                tracing::error!(port, %error, "the capture can't be written");
            }
        }
    }
}

impl Links {
    /// The links of all ports; `pairs` are wired to each other.
    pub(crate) fn new(
        devices: &[DeviceConfig],
        pairs: &[(usize, usize)],
    ) -> Result<Self, ModelError> {
        let partner = |port| {
            let wired = pairs.iter().find(|(a, b)| *a == port || *b == port)?;
            Some(if wired.0 == port { wired.1 } else { wired.0 })
        };
        let ports = devices.iter().flat_map(|device| &device.ports).enumerate();
        let ends = ports.map(|(index, port)| {
            let link = match &port.link {
                LinkConfig::Loop => Link::Wire { peer: index },
                LinkConfig::Pair => Link::Wire { peer: partner(index).unwrap_or(index) },
                LinkConfig::Pcap { rx, tx, pps } => Link::Pcap {
                    frames: rx.as_deref().map(replay).transpose()?.unwrap_or_default().into(),
                    capture: tx.as_deref().map(capture).transpose()?,
                    pace: Pace::new(*pps),
                },
                LinkConfig::Gen(config) => {
                    Link::Gen { generator: Generator::new(config), pace: Pace::new(config.pps) }
                }
                LinkConfig::Sink { capture } => Link::Sink { kept: capture.then(Vec::new) },
            };
            Ok(End { link, arriving: VecDeque::new(), spare: Vec::new() })
        });
        Ok(Self { ends: ends.collect::<Result<_, ModelError>>()? })
    }

    /// Lets time pass for links with a rate; hands captures to the file system.
    pub(crate) fn tick(&mut self) {
        for (port, end) in self.ends.iter_mut().enumerate() {
            match &mut end.link {
                Link::Pcap { pace, capture, .. } => {
                    pace.tick();
                    if let Some(capture) = capture {
                        capture.tick(port);
                    }
                }
                Link::Gen { pace, .. } => pace.tick(),
                Link::Wire { .. } | Link::Sink { .. } => {}
            }
        }
    }

    /// Whether `port` may send a frame now.
    #[inline]
    pub(crate) fn can_send(&self, port: usize) -> bool {
        match &self.ends[port].link {
            Link::Wire { peer } => self.ends[*peer].arriving.len() < WIRE,
            _ => true,
        }
    }

    /// Whether frames for `port` wait until a buffer is there: sources without a rate. Others arrive
    /// when they arrive.
    #[inline]
    pub(crate) fn waits_for_buffers(&self, port: usize) -> bool {
        let end = &self.ends[port];
        end.arriving.is_empty()
            && match &end.link {
                Link::Pcap { pace, .. } | Link::Gen { pace, .. } => pace.is_free(),
                Link::Wire { .. } | Link::Sink { .. } => false,
            }
    }

    /// Takes a frame that `port` sent.
    #[inline]
    pub(crate) fn send(&mut self, port: usize, frame: &[u8]) {
        match &mut self.ends[port].link {
            Link::Wire { peer } => {
                let peer = *peer;
                self.deliver(peer, frame);
            }
            Link::Pcap { capture: Some(capture), .. } => capture.write(port, frame),
            Link::Sink { kept: Some(kept) } => kept.push(frame.to_vec()),
            Link::Pcap { capture: None, .. } | Link::Gen { .. } | Link::Sink { kept: None } => {}
        }
    }

    /// Lets a frame arrive at `port`.
    #[inline]
    pub(crate) fn deliver(&mut self, port: usize, frame: &[u8]) {
        let end = &mut self.ends[port];
        let mut copy = end.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        end.arriving.push_back(copy);
    }

    /// The next frame for `port`, into `frame`; false if there is none now.
    #[inline]
    pub(crate) fn receive(&mut self, port: usize, frame: &mut Vec<u8>) -> bool {
        let end = &mut self.ends[port];
        if let Some(next) = end.arriving.pop_front() {
            let old = std::mem::replace(frame, next);
            if end.spare.len() < SPARE {
                end.spare.push(old);
            }
            return true;
        }
        match &mut end.link {
            Link::Pcap { frames, pace, .. } => match frames.pop_front_if(|_| pace.take()) {
                Some(next) => {
                    *frame = next;
                    true
                }
                None => false,
            },
            Link::Gen { generator, pace } => {
                let due = !generator.is_done() && pace.take();
                if due {
                    generator.next_into(frame);
                }
                due
            }
            Link::Wire { .. } | Link::Sink { .. } => false,
        }
    }

    /// What a capturing sink has kept.
    pub(crate) fn take_frames(&mut self, port: usize) -> Vec<Vec<u8>> {
        match &mut self.ends[port].link {
            Link::Sink { kept: Some(kept) } => std::mem::take(kept),
            _ => Vec::new(),
        }
    }

    /// Whether every source that ends has ended, nothing is on a wire, and captures are written.
    pub(crate) fn drained(&self) -> bool {
        self.ends.iter().all(|end| {
            end.arriving.is_empty()
                && match &end.link {
                    Link::Pcap { frames, capture, .. } => {
                        frames.is_empty() && capture.as_ref().is_none_or(|capture| !capture.unflushed)
                    }
                    Link::Gen { generator, .. } => generator.is_done() || generator.is_endless(),
                    Link::Wire { .. } | Link::Sink { .. } => true,
                }
        })
    }
}

fn replay(path: &Path) -> Result<Vec<Vec<u8>>, ModelError> {
    pcap::read(path)
        .map_err(|error| ModelError::Capture { path: path.to_owned(), cause: error.to_string() })
}

fn capture(path: &Path) -> Result<Capture, ModelError> {
    let writer = pcap::Writer::create(path).map_err(|error| ModelError::Capture {
        path: path.to_owned(),
        cause: format!("can't be written: {error}"),
    })?;
    Ok(Capture { writer, busy: false, unflushed: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GenConfig, PortConfig};

    fn links(links: &[LinkConfig], pairs: &[(usize, usize)]) -> Links {
        let port = |link: &LinkConfig| PortConfig { link: link.clone(), ..PortConfig::default() };
        let device = DeviceConfig { ports: links.iter().map(port).collect(), ..Default::default() };
        Links::new(&[device], pairs).unwrap()
    }

    fn receive(links: &mut Links, port: usize) -> Option<Vec<u8>> {
        let mut frame = Vec::new();
        links.receive(port, &mut frame).then_some(frame)
    }

    #[test]
    fn a_loop_gives_frames_back_in_order_and_holds_back_when_full() {
        let mut links = links(&[LinkConfig::Loop], &[]);
        let mut sent = 0u32;
        while links.can_send(0) {
            links.send(0, &sent.to_be_bytes());
            sent += 1;
        }
        assert!(!links.drained());
        for expected in 0..sent {
            assert_eq!(receive(&mut links, 0), Some(expected.to_be_bytes().to_vec()));
            assert!(links.can_send(0));
        }
        assert_eq!(receive(&mut links, 0), None);
        assert!(links.drained());
    }

    #[test]
    fn a_pair_crosses() {
        let mut links = links(&[LinkConfig::Pair, LinkConfig::Pair], &[(0, 1)]);
        links.send(0, &[1]);
        links.send(1, &[2]);
        assert_eq!(receive(&mut links, 0), Some(vec![2]));
        assert_eq!(receive(&mut links, 1), Some(vec![1]));
    }

    #[test]
    fn a_capture_is_replayed_and_taken() {
        let (rx, tx) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        let mut writer = pcap::Writer::create(rx.path()).unwrap();
        for byte in 0..10u8 {
            writer.write(Duration::ZERO, &[byte; 60]).unwrap();
        }
        writer.flush().unwrap();
        let config = LinkConfig::Pcap {
            rx: Some(rx.path().into()),
            tx: Some(tx.path().into()),
            pps: None,
        };
        let mut links = links(&[config], &[]);
        while let Some(frame) = receive(&mut links, 0) {
            links.send(0, &frame);
        }
        links.tick();
        assert!(!links.drained(), "the capture is not on disk yet");
        links.tick();
        assert!(links.drained());
        assert_eq!(pcap::read(tx.path()).unwrap(), pcap::read(rx.path()).unwrap());
    }

    #[test]
    fn a_generator_ends_after_its_count_and_a_sink_keeps() {
        let gen_config = GenConfig { count: Some(3), ..GenConfig::default() };
        let mut links = links(&[LinkConfig::Gen(gen_config), LinkConfig::Sink { capture: true }], &[]);
        assert!(!links.drained());
        while let Some(frame) = receive(&mut links, 0) {
            assert_eq!(frame.len(), 60);
            links.send(1, &frame);
        }
        assert!(links.drained());
        assert_eq!(links.take_frames(1).len(), 3);
        assert_eq!(receive(&mut links, 1), None);
        links.deliver(1, &[9]);
        assert_eq!(receive(&mut links, 1), Some(vec![9]));
    }
}
