//! Which queues are forwarded to which, and by which core.

use std::ops::Range;
use std::str::FromStr;

/// Which port a packet leaves by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Ports 0-1, 2-3, …; an odd last one loops to itself.
    Paired,
    /// Each to the next, the last to the first.
    Chained,
    /// Each to itself.
    Loop,
}

impl Topology {
    /// The port by which packets received on `port` of `ports` ports leave.
    pub fn tx_port(self, port: usize, ports: usize) -> usize {
        match self {
            Topology::Paired if port ^ 1 < ports => port ^ 1,
            Topology::Paired | Topology::Loop => port,
            Topology::Chained if port + 1 < ports => port + 1,
            Topology::Chained => 0,
        }
    }
}

impl FromStr for Topology {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "paired" => Ok(Topology::Paired),
            "chained" => Ok(Topology::Chained),
            "loop" => Ok(Topology::Loop),
            _ => Err("expected paired, chained or loop".to_owned()),
        }
    }
}

/// What one step of forwarding works on: an RX queue and the TX queue its packets leave by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPlan {
    /// Port received from.
    pub rx_port: usize,
    /// Port sent from.
    pub tx_port: usize,
    /// Queue on both ports.
    pub queue: u16,
}

/// The streams of a run, in testpmd's order: queue by queue, within it port by port.
pub fn plan(ports: usize, queues: u16, topology: Topology) -> Vec<StreamPlan> {
    (0..queues)
        .flat_map(|queue| {
            (0..ports).map(move |rx_port| StreamPlan {
                rx_port,
                tx_port: topology.tx_port(rx_port, ports),
                queue,
            })
        })
        .collect()
}

/// How `streams` streams are dealt to at most `cores` cores: contiguous shares, the larger ones
/// last, no core without a stream. This is testpmd's rule.
pub fn deal(streams: usize, cores: usize) -> Vec<Range<usize>> {
    let cores = cores.min(streams);
    if cores == 0 {
        return Vec::new();
    }
    let (share, extra) = (streams / cores, streams % cores);
    let mut next = 0;
    (0..cores)
        .map(|core| {
            let first = next;
            next += share + usize::from(core >= cores - extra);
            first..next
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tx_ports(topology: Topology, ports: usize) -> Vec<usize> {
        (0..ports)
            .map(|port| topology.tx_port(port, ports))
            .collect()
    }

    #[test]
    fn paired_ports_exchange_and_an_odd_last_one_loops_to_itself() {
        assert_eq!(tx_ports(Topology::Paired, 4), [1, 0, 3, 2]);
        assert_eq!(tx_ports(Topology::Paired, 3), [1, 0, 2]);
        assert_eq!(tx_ports(Topology::Paired, 1), [0]);
    }

    #[test]
    fn chained_ports_form_a_ring_and_looped_ones_keep_to_themselves() {
        assert_eq!(tx_ports(Topology::Chained, 3), [1, 2, 0]);
        assert_eq!(tx_ports(Topology::Loop, 3), [0, 1, 2]);
    }

    #[test]
    fn every_tx_queue_belongs_to_one_stream_whatever_the_topology() {
        for topology in [Topology::Paired, Topology::Chained, Topology::Loop] {
            for ports in 1..6 {
                let streams = plan(ports, 3, topology);
                let mut queues: Vec<_> = streams.iter().map(|s| (s.tx_port, s.queue)).collect();
                queues.sort_unstable();
                queues.dedup();
                assert_eq!(queues.len(), streams.len());
            }
        }
    }

    #[test]
    fn streams_run_through_the_ports_before_the_queues() {
        let order: Vec<_> = plan(2, 2, Topology::Paired)
            .iter()
            .map(|s| (s.rx_port, s.queue, s.tx_port))
            .collect();
        assert_eq!(order, [(0, 0, 1), (1, 0, 0), (0, 1, 1), (1, 1, 0)]);
    }

    #[test]
    fn the_last_cores_take_the_remaining_streams() {
        assert_eq!(deal(8, 4), [0..2, 2..4, 4..6, 6..8]);
        assert_eq!(deal(8, 3), [0..2, 2..5, 5..8]);
        assert_eq!(deal(2, 4), [0..1, 1..2]);
        assert_eq!(deal(0, 4), []);
    }
}
