//! Who looks at the packets of a port: `set verbose` prints them, `set capture` writes them to a
//! file. A burst that nobody looks at pays one relaxed load.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pmd_api::{Batch, Mbuf, PoolId, TxFlags};

use super::capture::Capture;
use super::verbose;

/// A direction of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// What is received.
    Rx,
    /// What is sent.
    Tx,
}

/// The watch over one port.
pub struct Watch {
    port: usize,
    pools: Vec<(PoolId, String)>,
    active: AtomicBool,
    verbose: AtomicU32,
    rx: Mutex<Option<Capture>>,
    tx: Mutex<Option<Capture>>,
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new(0, Vec::new())
    }
}

impl Watch {
    /// A watch that does not look. `pools` are the names of the pools that packets come from.
    pub fn new(port: usize, pools: Vec<(PoolId, String)>) -> Watch {
        Watch {
            port,
            pools,
            active: AtomicBool::new(false),
            verbose: AtomicU32::new(0),
            rx: Mutex::new(None),
            tx: Mutex::new(None),
        }
    }

    /// Whether anybody looks: asked once a burst.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.active.load(Relaxed)
    }

    /// Prints packets from now on: 1 received ones, 2 sent ones, from 3 on both, 0 none.
    pub fn set_verbose(&self, level: u32) {
        self.verbose.store(level, Relaxed);
        self.update();
    }

    /// Writes the packets of one direction to `path` from now on, in place of an earlier file.
    ///
    /// # Errors
    ///
    /// A file that can't be written; an earlier capture goes on then.
    pub fn capture(&self, way: Way, path: &Path) -> std::io::Result<()> {
        let capture = Capture::create(path)?;
        *self.file(way) = Some(capture);
        self.update();
        Ok(())
    }

    /// Ends a capture: the packets in its file, or none where there was no capture.
    pub fn end_capture(&self, way: Way) -> Option<u64> {
        let ended = self.file(way).take();
        self.update();
        ended.map(|capture| capture.packets())
    }

    fn file(&self, way: Way) -> MutexGuard<'_, Option<Capture>> {
        let file = match way {
            Way::Rx => &self.rx,
            Way::Tx => &self.tx,
        };
        file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self) {
        let captures = self.file(Way::Rx).is_some() || self.file(Way::Tx).is_some();
        let active = captures || self.verbose.load(Relaxed) > 0;
        self.active.store(active, Relaxed);
    }

    /// Looks at received packets.
    #[cold]
    pub fn received(&self, queue: u16, packets: &[Mbuf]) {
        if matches!(self.verbose.load(Relaxed), 1 | 3..) {
            self.print(Way::Rx, queue, packets);
        }
        if self.file(Way::Rx).is_some() {
            let frames: Vec<Vec<u8>> = packets.iter().map(|mbuf| frame(mbuf, Way::Rx)).collect();
            self.write(Way::Rx, &frames);
        }
    }

    /// Copies what is about to be sent, if that is captured: how much of it was sent is known later.
    #[cold]
    pub fn about_to_send(&self, queue: u16, batch: &Batch) -> Vec<Vec<u8>> {
        if self.verbose.load(Relaxed) >= 2 {
            self.print(Way::Tx, queue, batch.as_slice());
        }
        match *self.file(Way::Tx) {
            Some(_) => {
                let mbufs = batch.as_slice().iter();
                mbufs.map(|mbuf| frame(mbuf, Way::Tx)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Writes frames that were sent.
    #[cold]
    pub fn sent(&self, frames: &[Vec<u8>]) {
        self.write(Way::Tx, frames);
    }

    fn write(&self, way: Way, frames: &[Vec<u8>]) {
        let mut file = self.file(way);
        let Some(capture) = file.as_mut() else {
            return;
        };
        if let Err(error) = capture.write(frames) {
            tracing::error!(
                "port {}: the capture to {} ends: {error}",
                self.port,
                capture.path().display()
            );
            *file = None;
            drop(file);
            self.update();
        }
    }

    fn print(&self, way: Way, queue: u16, packets: &[Mbuf]) {
        if packets.is_empty() {
            return;
        }
        let text = verbose::burst(self.port, queue, way, packets, &self.pools);
        // Who closed standard output is told by the main core.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

/// A packet as it is on the wire: a VLAN tag that the device took out, or will put in, is in it.
fn frame(mbuf: &Mbuf, way: Way) -> Vec<u8> {
    let mut bytes = mbuf.to_vec();
    let tag = match way {
        Way::Rx => mbuf.vlan(),
        Way::Tx => {
            let offload = mbuf.tx_offload();
            let has = offload.flags.contains(TxFlags::VLAN);
            has.then_some(offload.vlan_tci)
        }
    };
    if let Some(tag) = tag
        && bytes.len() >= 12
    {
        let [high, low] = tag.to_be_bytes();
        bytes.splice(12..12, [0x81, 0x00, high, low]);
    }
    bytes
}
