//! Finds the lines of a log that a topic knows.

use std::io::{self, BufRead, Read};

use super::topics::{TOPICS, Topic};

/// What is looked at of one line, in bytes; a longer one is no message of any of these programs.
const MAX_LINE: u64 = 4096;
/// What is shown of one, in characters.
const SHOWN: usize = 160;

/// A topic that a log speaks of.
pub struct Hit {
    pub topic: &'static Topic,
    /// Number of the first line, from 1.
    pub line: u64,
    /// That line.
    pub text: String,
    /// Lines of the same topic.
    pub times: u64,
}

/// The topics of a log in the order of their first lines. Memory does not grow with the log.
pub fn recognise(mut log: impl BufRead) -> io::Result<Vec<Hit>> {
    let mut hits: Vec<Hit> = Vec::new();
    let mut bytes = Vec::new();
    let mut line = 0;
    loop {
        bytes.clear();
        if log.by_ref().take(MAX_LINE).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(hits);
        }
        line += 1;
        if bytes.last() != Some(&b'\n') {
            skip_line(&mut log)?;
        }
        let text = String::from_utf8_lossy(&bytes);
        let Some(topic) = TOPICS.iter().find(|topic| knows(topic, &text)) else {
            continue;
        };
        match hits.iter_mut().find(|hit| std::ptr::eq(hit.topic, topic)) {
            Some(hit) => hit.times += 1,
            None => hits.push(Hit {
                topic,
                line,
                text: shown(&text),
                times: 1,
            }),
        }
    }
}

/// Whether one of the topic's signs is in the line: all of its parts, in whatever order.
fn knows(topic: &Topic, text: &str) -> bool {
    (topic.signs.iter()).any(|parts| parts.iter().all(|part| text.contains(part)))
}

/// Reads the rest of a line and forgets it.
fn skip_line(log: &mut impl BufRead) -> io::Result<()> {
    loop {
        let piece = log.fill_buf()?;
        if piece.is_empty() {
            return Ok(());
        }
        match piece.iter().position(|byte| *byte == b'\n') {
            Some(at) => {
                log.consume(at + 1);
                return Ok(());
            }
            None => {
                let all = piece.len();
                log.consume(all);
            }
        }
    }
}

fn shown(text: &str) -> String {
    let clean = text
        .trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    clean.take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(log: &str) -> Vec<&'static str> {
        let hits = recognise(log.as_bytes()).unwrap();
        hits.iter().map(|hit| hit.topic.name).collect()
    }

    /// The guide's table and that of reference/field.md §A.1, as users paste them.
    #[test]
    fn the_lines_that_users_paste_are_known() {
        for (line, name) in [
            (
                "mana_start_tx_queues(): Failed to create qp queue index 0",
                "netdev-down",
            ),
            (
                "mana_dev_start(): failed to start tx queues -19",
                "netdev-down",
            ),
            (
                "MANA_DRIVER: mana_dev_start(): failed to start tx queues -16",
                "netdev-down",
            ),
            (
                "EAL: No free 2048 kB hugepages reported on node 0",
                "hugepages",
            ),
            (
                "EAL: No available 1048576 kB hugepages reported",
                "hugepages",
            ),
            ("EAL: FATAL: Cannot get hugepage information.", "hugepages"),
            ("  Cause: Cannot init EAL: Permission denied", "hugepages"),
            (
                "mana_probe_port(): ibv_alloc_parent_domain failed port 2",
                "driver-id",
            ),
            (
                "mana_pci_probe_mac(): Probe on IB port 2 failed -12",
                "driver-id",
            ),
            ("hn_vf_attach(): Couldn't find port for VF", "slow-path"),
            ("net_vdev_netvsc0: probed", "dpdk-vdevs"),
            (
                "ERROR: ld.so: libibverbs.so.1: version `MLX5_1.24' not found",
                "rdma-core",
            ),
            (
                "dpdk: Unsupported PCI device 0x1414:0x00ba found at PCI address 7870:00:00.0",
                "vpp-pci-device",
            ),
            (
                "mana 7870:00:00.0: HWC: Failed hw_channel req: 0xc00000bb",
                "firmware",
            ),
            (
                "mana 7870:00:00.0: gdma probe failed: err = -71",
                "firmware",
            ),
            (
                "mana_dev_configure(): number of TX/RX queues must be power of 2",
                "queue-counts",
            ),
            ("Only support equal number of rx/tx queues", "queue-counts"),
            (
                "Error during enabling promiscuous mode for port 0: Operation not supported - ignore",
                "promiscuous",
            ),
            (
                "mana_start_tx_queues(): failed to create cq queue index 0: -22",
                "descriptors",
            ),
            ("ibv_reg_mr failed: Protocol error", "mr-protocol-error"),
            (
                "net/mana:\tmissing dependency, \"libmana\"",
                "pmd-not-built",
            ),
            ("rte_eth_xstats_get(0) returned 8/0 stats.", "vpp-xstats"),
        ] {
            assert_eq!(names(line), [name], "{line}");
        }
    }

    #[test]
    fn every_topic_is_told_once_and_other_lines_are_passed_over() {
        let line = "mana_dev_start(): failed to start tx queues -19\n";
        let log = format!("nothing\n{line}{}{line}\u{1b}[31m\n", "x".repeat(10_000));
        let hits = recognise(log.as_bytes()).unwrap();
        assert_eq!(hits.len(), 1);
        // The second follows 10 000 bytes on its own line and is out of sight.
        assert_eq!((hits[0].line, hits[0].times), (2, 1));
        assert!(!hits[0].text.contains('\u{1b}'));
        assert_eq!(names("\0\u{ff}garbage\n\n"), Vec::<&str>::new());
    }
}
