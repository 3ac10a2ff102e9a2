//! What the kernel's driver hands on with each packet, as the kernel's own tracepoint tells it.

use std::fs;
use std::path::Path;

use super::{Side, run, wait_until};

const TRACING: &str = "/sys/kernel/tracing";
/// Where drivers that coalesce hand packets on: `mana` among them.
const EVENT: &str = "events/net/napi_gro_receive_entry/enable";
/// Bytes of the headers of UDP in IPv4 and in IPv6.
const HEADERS: [usize; 2] = [28, 48];

/// A packet as its driver handed it on.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// The receive queue.
    pub queue: u16,
    /// The hash.
    pub hash: u32,
    /// Whether that covers the ports.
    pub l4_hash: bool,
    /// Whether the device has found the checksum right: `CHECKSUM_UNNECESSARY`.
    pub checksum_is_right: bool,
    /// Bytes from the header of IP on.
    pub len: usize,
}

/// The packets of one netdev, as long as this value lives.
pub struct Trace {
    netdev: String,
}

impl Trace {
    /// Begins.
    ///
    /// # Panics
    ///
    /// If the kernel can't trace.
    #[must_use]
    #[track_caller]
    pub fn start(side: &Side) -> Self {
        if !Path::new(TRACING).join(EVENT).exists() {
            run(&format!("mount -t tracefs tracefs {TRACING}"));
        }
        set("trace", "");
        set(EVENT, "1");
        Self {
            netdev: side.netdev.clone(),
        }
    }

    /// Waits for so many datagrams of UDP with that many bytes of payload, and returns them.
    ///
    /// # Panics
    ///
    /// If fewer come, or more.
    #[must_use]
    #[track_caller]
    pub fn wait_for(&self, payload: usize, count: usize) -> Vec<Packet> {
        let mut found = Vec::new();
        wait_until("all datagrams are handed on", || {
            found = self.packets();
            found.retain(|packet| HEADERS.map(|header| header + payload).contains(&packet.len));
            found.len() >= count
        });
        assert_eq!(found.len(), count, "{found:?}");
        found
    }

    fn packets(&self) -> Vec<Packet> {
        let text = fs::read_to_string(Path::new(TRACING).join("trace")).expect("a trace");
        let netdev = format!(" dev={} ", self.netdev);
        let lines = text.lines().filter(|line| line.contains(&netdev));
        lines.map(packet).collect()
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        set(EVENT, "0");
    }
}

fn set(file: &str, text: &str) {
    fs::write(Path::new(TRACING).join(file), text).expect("this is root, and traces");
}

/// Reads a line of `NAME=VALUE` words.
fn packet(line: &str) -> Packet {
    let number = |name: &str| -> u64 {
        let mut words = line.split_whitespace();
        let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let parsed = found.and_then(|text| match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        });
        parsed.unwrap_or_else(|| panic!("{name} in {line}"))
    };
    Packet {
        // Counted from 1, as 0 is for none.
        queue: (number("queue_mapping") as u16).wrapping_sub(1),
        hash: number("hash") as u32,
        l4_hash: number("l4_hash") == 1,
        checksum_is_right: number("ip_summed") == 1,
        len: number("len") as usize,
    }
}
