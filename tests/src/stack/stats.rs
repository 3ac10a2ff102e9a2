//! What testpmd counted, in the words that DPDK's and ours share.

/// The last statistics of a testpmd's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets received by all ports, by the ports' own counters.
    pub rx: u64,
    /// Packets sent, by the ports' own counters.
    pub tx: u64,
    /// Packets received that found no buffer or were missed.
    pub rx_dropped: u64,
    /// Packets that forwarding could not send.
    pub tx_dropped: u64,
    /// Each stream, where there is more than one.
    pub streams: Vec<Stream>,
}

/// One stream: what a core counted of a pair of queues.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stream {
    /// Packets received.
    pub rx: u64,
    /// Packets handed to the driver, which took them.
    pub tx: u64,
    /// Packets that the driver did not take.
    pub dropped: u64,
}

impl Stats {
    /// Reads what was printed when forwarding stopped last: its streams and the sum over all ports.
    /// None where it never stopped.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let (before, sums) = text.rsplit_once("Accumulated forward statistics for all ports")?;
        // A stop begins with this line.
        let (_, last) = before.rsplit_once("Telling cores to stop")?;
        let mut sums = sums.lines().skip(1);
        let (received, sent) = (sums.next()?, sums.next()?);
        let streams: Vec<Stream> = last
            .split("Forward Stats for RX Port=")
            .skip(1)
            .map(|text| Stream {
                rx: number(text, "RX-packets:").unwrap_or_default(),
                tx: number(text, "TX-packets:").unwrap_or_default(),
                dropped: number(text, "TX-dropped:").unwrap_or_default(),
            })
            .collect();
        Some(Self {
            rx: number(received, "RX-packets:")?,
            rx_dropped: number(received, "RX-dropped:")?,
            tx: number(sent, "TX-packets:")?,
            tx_dropped: number(sent, "TX-dropped:")?,
            streams,
        })
    }

    /// What the streams sum up to; the ports' counters where there is one stream, which is not
    /// printed.
    #[must_use]
    pub fn sum(&self) -> Stream {
        if self.streams.is_empty() {
            return Stream {
                rx: self.rx,
                tx: self.tx,
                dropped: self.tx_dropped,
            };
        }
        let sum = |value: fn(&Stream) -> u64| self.streams.iter().map(value).sum();
        Stream {
            rx: sum(|stream| stream.rx),
            tx: sum(|stream| stream.tx),
            dropped: sum(|stream| stream.dropped),
        }
    }
}

/// The number behind a word.
fn number(text: &str, word: &str) -> Option<u64> {
    let (_, rest) = text.split_once(word)?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from dpdk-testpmd 24.11.
    const RECORDED: &str = "
Telling cores to stop...
Waiting for lcores to finish...

  ------- Forward Stats for RX Port= 0/Queue= 0 -> TX Port= 0/Queue= 0 -------
  RX-packets: 0              TX-packets: 32             TX-dropped: 0             

  ------- Forward Stats for RX Port= 0/Queue= 1 -> TX Port= 0/Queue= 1 -------
  RX-packets: 1138880        TX-packets: 1138912        TX-dropped: 7             

  ---------------------- Forward statistics for port 0  ----------------------
  RX-packets: 1138880        RX-dropped: 0             RX-total: 1138880
  TX-packets: 1138879        TX-dropped: 7             TX-total: 1138886
  ----------------------------------------------------------------------------

  +++++++++++++++ Accumulated forward statistics for all ports+++++++++++++++
  RX-packets: 1138880        RX-dropped: 3             RX-total: 1138880
  TX-packets: 1138879        TX-dropped: 7             TX-total: 1138886
  ++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++++

Done.
";

    #[test]
    fn what_testpmd_printed_last_is_read() {
        let first = RECORDED.replace("1138880", "5");
        let stats = Stats::read(&format!("{first}{RECORDED}")).unwrap();
        assert_eq!((stats.rx, stats.tx), (1_138_880, 1_138_879));
        assert_eq!((stats.rx_dropped, stats.tx_dropped), (3, 7));
        assert_eq!(stats.streams.len(), 2);
        assert_eq!(
            stats.sum(),
            Stream {
                rx: 1_138_880,
                tx: 1_138_944,
                dropped: 7
            }
        );
        assert_eq!(Stats::read("Done."), None);
    }
}
