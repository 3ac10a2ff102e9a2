//! Statistics by name, as DPDK's `rte_eth_xstats_get` tells them: its own names where it has them,
//! then what this driver counts beyond.

use gdma::cqe::tx;
use pmd_api::PortStats;

use crate::queue::TX_ERRORS;
use crate::stats::Totals;

/// One statistic of a port: see [`crate::Port::xstats`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xstat {
    /// Its name: lower case, words joined by `_`, `rx_q3_…` for receive queue 3.
    pub name: String,
    /// Its value.
    pub value: u64,
}

impl Xstat {
    /// Whether it goes down as well as up, so that no difference of two values makes sense.
    #[must_use]
    pub fn is_gauge(&self) -> bool {
        let ends = ["_p50", "_p99", "_max"];
        self.name.contains("deficit") || ends.iter().any(|end| self.name.ends_with(end))
    }
}

/// All of them, always in the same order and number for the same number of queues.
pub(crate) fn list(stats: &PortStats, rx: &Totals, tx: &Totals) -> Vec<Xstat> {
    let mut list = Vec::new();
    let mut add = |name: String, value| list.push(Xstat { name, value });
    for (name, value) in [
        ("rx_good_packets", stats.rx_packets),
        ("tx_good_packets", stats.tx_packets),
        ("rx_good_bytes", stats.rx_bytes),
        ("tx_good_bytes", stats.tx_bytes),
        ("rx_missed_errors", stats.rx_missed),
        ("rx_errors", stats.rx_errors),
        ("tx_errors", stats.tx_errors),
        ("rx_mbuf_allocation_errors", stats.rx_nombuf),
    ] {
        add(name.to_owned(), value);
    }
    for (direction, totals) in [("rx", rx), ("tx", tx)] {
        for queue in 0..totals.queues() {
            let stats = totals.queue(queue);
            for (name, value) in [
                ("packets", stats.packets),
                ("bytes", stats.bytes),
                ("errors", stats.errors),
            ] {
                add(format!("{direction}_q{queue}_{name}"), value);
            }
        }
    }
    for queue in 0..rx.queues() {
        let (stats, details) = (rx.queue(queue), rx.details(queue));
        for (name, value) in [
            ("truncated_packets", stats.errors),
            ("bad_completions", stats.bad_completions),
            ("mbuf_allocation_errors", stats.nombuf),
            ("bursts", details.bursts),
            ("empty_bursts", details.empty),
            ("full_bursts", details.full),
            ("completions", details.completions),
            ("ring_empty_events", details.ring_empty),
            ("refill_deficit", details.deficit),
            ("refill_deficit_max", details.deficit_max),
            ("doorbells", details.doorbells),
        ] {
            add(format!("rx_q{queue}_{name}"), value);
        }
    }
    for queue in 0..tx.queues() {
        let (stats, details) = (tx.queue(queue), tx.details(queue));
        for (name, value) in [
            ("error_bytes", stats.error_bytes),
            ("rejected_packets", stats.rejected),
            ("bad_completions", stats.bad_completions),
            ("bursts", details.bursts),
            ("ring_full_events", details.full),
            ("doorbells", details.doorbells),
        ] {
            add(format!("tx_q{queue}_{name}"), value);
        }
    }
    for error in 0..TX_ERRORS {
        let value = (0..tx.queues()).map(|queue| tx.details(queue).by_type[error]);
        let name = tx::name(tx::SA_DROP + error as u8).unwrap_or("TX_UNKNOWN");
        add(format!("{}_errors", name.to_lowercase()), value.sum());
    }
    for (direction, totals) in [("rx", rx), ("tx", tx)] {
        let queues = if totals.has_histograms() {
            totals.queues()
        } else {
            0
        };
        for queue in 0..queues {
            for (name, histogram) in totals.histograms(queue).named(direction) {
                for (end, value) in [
                    ("count", histogram.count()),
                    ("p50", histogram.percentile(50.0)),
                    ("p99", histogram.percentile(99.0)),
                    ("max", histogram.max()),
                ] {
                    add(format!("{direction}_q{queue}_{name}_{end}"), value);
                }
            }
        }
    }
    list
}
