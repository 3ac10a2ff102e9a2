//! What a forward mode works on: the two queues of a stream, one burst's packets and the counters.

use std::sync::{Arc, Once};
use std::thread;
use std::time::{Duration, Instant};

use pmd_api::{Batch, Mbuf, RxBurst, TxBurst, TxFlags, TxOffload};

use super::stats::{BadChecksums, StreamCounters};
use super::watch::Watch;
use super::workers::NAP;

/// Looks at a full TX queue before a polite thread sleeps.
const SPINS: u32 = 64;

/// How long a mode that sends on what it received waits for a TX queue that takes nothing, before
/// it drops the rest of the burst.
///
/// testpmd drops at once unless its retry mode is on, and then tries 64 times, 1 µs apart. Here that
/// is the rule on hardware. A model's device is a thread that the kernel may not schedule for many
/// milliseconds, so there the wait is long: what a model replays comes out whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Longest time without progress.
    pub limit: Duration,
    /// Whether other threads are given the CPU meanwhile, by short sleeps.
    pub polite: bool,
}

impl Patience {
    /// For a device that works by itself.
    pub const HARDWARE: Patience = Patience {
        limit: Duration::from_micros(64),
        polite: false,
    };
    /// For a device that is a thread of this process.
    pub const MODEL: Patience = Patience {
        limit: Duration::from_secs(2),
        polite: true,
    };

    /// Waits a moment; `turns` counts the moments without progress.
    fn pause(self, turns: &mut u32) {
        *turns += 1;
        if self.polite && *turns > SPINS {
            thread::sleep(NAP);
        } else {
            std::hint::spin_loop();
        }
    }
}

/// A stream: its queues (where the mode uses them), its burst and its counters.
pub struct Stream<Rx, Tx> {
    rx: Option<Rx>,
    tx: Option<Tx>,
    batch: Batch,
    counters: Arc<StreamCounters>,
    patience: Patience,
    /// VLAN tag for what leaves.
    tag: Option<u16>,
    queue: u16,
    rx_watch: Arc<Watch>,
    tx_watch: Arc<Watch>,
}

impl<Rx: RxBurst, Tx: TxBurst> Stream<Rx, Tx> {
    /// A stream with room for `burst` packets.
    pub fn new(
        rx: Option<Rx>,
        tx: Option<Tx>,
        burst: usize,
        counters: Arc<StreamCounters>,
        patience: Patience,
    ) -> Self {
        Stream {
            rx,
            tx,
            batch: Batch::with_capacity(burst),
            counters,
            patience,
            tag: None,
            queue: 0,
            rx_watch: Arc::default(),
            tx_watch: Arc::default(),
        }
    }

    /// The same stream with its queues' number and those who look at the packets of its ports.
    pub fn watched(mut self, queue: u16, rx: Arc<Watch>, tx: Arc<Watch>) -> Self {
        (self.queue, self.rx_watch, self.tx_watch) = (queue, rx, tx);
        self
    }

    /// The same stream with the VLAN tag that the device puts into what leaves.
    pub fn tagged(mut self, tag: Option<u16>) -> Self {
        self.tag = tag;
        self
    }

    /// The view of it that a forward mode works on.
    pub fn lane(&mut self) -> Lane<'_> {
        Lane {
            rx: self.rx.as_mut().map(|queue| queue as &mut dyn RxBurst),
            tx: self.tx.as_mut().map(|queue| queue as &mut dyn TxBurst),
            batch: &mut self.batch,
            counters: &self.counters,
            patience: self.patience,
            tag: self.tag,
            queue: self.queue,
            rx_watch: &self.rx_watch,
            tx_watch: &self.tx_watch,
        }
    }

    /// Its counters.
    pub fn counters(&self) -> &StreamCounters {
        &self.counters
    }

    /// Its receive queue.
    pub fn rx_mut(&mut self) -> Option<&mut Rx> {
        self.rx.as_mut()
    }

    /// Gives the queues back.
    pub fn into_queues(self) -> (Option<Rx>, Option<Tx>) {
        (self.rx, self.tx)
    }
}

/// The first packet that can never be sent is told with its reason; all are counted.
static FIRST_REJECT: Once = Once::new();

/// One burst of a stream in the hands of a forward mode.
pub struct Lane<'a> {
    rx: Option<&'a mut dyn RxBurst>,
    tx: Option<&'a mut dyn TxBurst>,
    /// The packets; empty before and after a mode's turn.
    pub batch: &'a mut Batch,
    counters: &'a StreamCounters,
    patience: Patience,
    tag: Option<u16>,
    queue: u16,
    rx_watch: &'a Watch,
    tx_watch: &'a Watch,
}

impl Lane<'_> {
    /// Receives a burst; returns how many packets came.
    pub fn receive(&mut self) -> usize {
        let Some(rx) = &mut self.rx else {
            return 0;
        };
        let received = rx.rx_burst(self.batch);
        self.counters.record_rx(received);
        if received > 0 {
            self.counters.received(received);
            if self.rx_watch.is_active() {
                self.rx_watch.received(self.queue, self.batch.as_slice());
            }
        }
        received
    }

    /// Calls each queue and moves no packet, so that one that its mode has nothing to do with for now
    /// is given up when its port recovers, and its completions are looked for.
    pub fn visit(&mut self) {
        if let Some(rx) = &mut self.rx {
            rx.rx_burst(&mut Batch::with_capacity(0));
        }
        self.reclaim();
    }

    /// Drops what has arrived, `limit` packets or a few more, and counts nothing.
    pub fn flush(&mut self, limit: usize) {
        let Some(rx) = &mut self.rx else {
            return;
        };
        let mut flushed = 0;
        while flushed < limit {
            let received = rx.rx_burst(self.batch);
            if received == 0 {
                return;
            }
            self.batch.clear();
            flushed += received;
        }
    }

    /// Sends the batch; what the queue does not take is dropped and counted. Returns how many
    /// packets were sent.
    pub fn transmit_once(&mut self) -> usize {
        let sent = self.burst();
        self.counters.record_tx(sent);
        self.drop_rest();
        sent
    }

    /// Sends the batch, waiting for room as long as the queue makes progress and [`Patience`]
    /// beyond that. What is left then is dropped and counted.
    pub fn transmit_all(&mut self) {
        let mut sent = self.burst();
        if self.batch.is_empty() {
            self.counters.record_tx(sent);
            return;
        }
        let (mut progress, mut turns) = (Instant::now(), 0);
        while !self.batch.is_empty() && progress.elapsed() < self.patience.limit {
            let (reclaimed, more) = (self.reclaim(), self.burst());
            sent += more;
            if reclaimed + more > 0 {
                (progress, turns) = (Instant::now(), 0);
            } else {
                self.patience.pause(&mut turns);
            }
        }
        self.counters.record_tx(sent);
        self.drop_rest();
    }

    /// Asks for the VLAN tag that the device took out of each received packet to be put back when it
    /// leaves, so that forwarding does not change a frame. (MANA reports the VLAN id alone: priority
    /// and drop-eligible bit are lost at the device.)
    pub fn restore_tags(&mut self) {
        for mbuf in self.batch.iter_mut() {
            if let Some(id) = mbuf.vlan() {
                request_tag(mbuf, id);
            }
        }
    }

    /// Asks for the tag of `tx_vlan set` in every packet; where there is none, as
    /// [`Lane::restore_tags`].
    pub fn insert_tags(&mut self) {
        match self.tag {
            Some(_) => self.tag_generated(),
            None => self.restore_tags(),
        }
    }

    /// Asks for the tag of `tx_vlan set` in every packet; for packets that were not received.
    pub fn tag_generated(&mut self) {
        if let Some(tci) = self.tag {
            for mbuf in self.batch.iter_mut() {
                request_tag(mbuf, tci);
            }
        }
    }

    /// Makes the packets of the batch ready for their offloads. One that can't be is dropped and
    /// counted.
    pub fn prepare(&mut self) {
        let Some(tx) = &mut self.tx else {
            return;
        };
        while let Err(bad) = tx.tx_prepare(self.batch) {
            FIRST_REJECT.call_once(|| tracing::warn!("a packet can never be sent: {bad}"));
            self.batch.remove(bad.index);
            self.counters.dropped(1);
        }
    }

    /// Drops the packets of the batch that `which` names, and counts them.
    pub fn drop_those(&mut self, which: impl Fn(&Mbuf) -> bool) {
        let before = self.batch.len();
        self.batch.retain_mut(|mbuf| !which(mbuf));
        self.counters.dropped(before - self.batch.len());
    }

    /// Counts received packets with wrong checksums.
    pub fn found_bad(&mut self, bad: BadChecksums) {
        if bad != BadChecksums::default() {
            self.counters.found_bad(bad);
        }
    }

    /// Brings buffers home whose transmission has finished; returns how many packets that were.
    pub fn reclaim(&mut self) -> usize {
        self.tx.as_mut().map_or(0, |tx| tx.reclaim())
    }

    /// Hands packets from the front of the batch to the queue until it takes no more. A packet that
    /// can never be sent is dropped and counted, and those behind it go on.
    fn burst(&mut self) -> usize {
        let Some(tx) = &mut self.tx else {
            return 0;
        };
        let mut sent = 0;
        loop {
            let watched = match self.tx_watch.is_active() {
                true => self.tx_watch.about_to_send(self.queue, self.batch),
                false => Vec::new(),
            };
            let outcome = tx.tx_burst(self.batch);
            sent += outcome.sent;
            if !watched.is_empty() {
                self.tx_watch.sent(&watched[..outcome.sent]);
            }
            let Some((_, reason)) = outcome.rejected else {
                break;
            };
            FIRST_REJECT.call_once(|| tracing::warn!("a packet can never be sent: {reason}"));
            self.counters.dropped(1);
        }
        if sent > 0 {
            self.counters.sent(sent);
        }
        sent
    }

    fn drop_rest(&mut self) {
        if !self.batch.is_empty() {
            self.counters.dropped(self.batch.len());
            self.batch.clear();
        }
    }
}

fn request_tag(mbuf: &mut Mbuf, tci: u16) {
    let tag = TxOffload {
        flags: TxFlags::VLAN,
        vlan_tci: tci,
        ..TxOffload::default()
    };
    // Only lengths can be refused, and there are none.
    let _ = mbuf.set_tx_offload(tag);
}

#[cfg(test)]
pub mod tests {
    //! A stream over queues that are lists: what modes are tested on.

    use super::*;
    use dma_memory::{HugePages, RegionOptions};
    use pmd_api::{BadPacket, Mbuf, Pool, PoolConfig, Reject, TxOffload, TxOutcome};
    use std::sync::Mutex;

    use crate::testpmd::stats::StreamStats;

    /// What is behind the two queues.
    #[derive(Default)]
    pub struct Wire {
        arriving: Mutex<Vec<Mbuf>>,
        left: Mutex<Vec<Mbuf>>,
        /// How many packets the TX queue still takes.
        room: Mutex<usize>,
        /// How much room each reclaim makes.
        reclaimed: Mutex<usize>,
        reclaims: Mutex<usize>,
    }

    impl Wire {
        /// The TX queue takes `packets` more and then none.
        pub fn accept(&self, packets: usize) {
            *self.room.lock().unwrap() = packets;
        }

        /// Each reclaim makes room for `packets`.
        pub fn reclaim_gives(&self, packets: usize) {
            *self.reclaimed.lock().unwrap() = packets;
        }

        /// How often the queue was asked to reclaim.
        pub fn reclaims(&self) -> usize {
            *self.reclaims.lock().unwrap()
        }

        /// A packet arrives.
        pub fn arrive(&self, mbuf: Mbuf) {
            self.arriving.lock().unwrap().push(mbuf);
        }

        /// What was asked for of every packet sent.
        pub fn sent_offloads(&self) -> Vec<TxOffload> {
            let left = self.left.lock().unwrap();
            left.iter().map(Mbuf::tx_offload).collect()
        }

        /// Every packet sent, segment by segment.
        pub fn sent_segments(&self) -> Vec<Vec<Vec<u8>>> {
            let left = self.left.lock().unwrap();
            left.iter()
                .map(|mbuf| mbuf.iter().map(|part| part.data().to_vec()).collect())
                .collect()
        }
    }

    /// Every packet sent.
    pub fn frames(wire: &Wire) -> Vec<Vec<u8>> {
        wire.sent_segments()
            .iter()
            .map(|packet| packet.concat())
            .collect()
    }

    /// A pool in small pages.
    pub fn pool(buffers: u32) -> Pool {
        Pool::new(PoolConfig {
            name: "test".to_owned(),
            buffers,
            cache: 0,
            memory: RegionOptions {
                huge: HugePages::Never,
                ..RegionOptions::default()
            },
            ..PoolConfig::default()
        })
        .unwrap()
    }

    pub struct FakeRx(Arc<Wire>);
    pub struct FakeTx(Arc<Wire>);

    impl RxBurst for FakeRx {
        fn rx_burst(&mut self, batch: &mut Batch) -> usize {
            let mut arriving = self.0.arriving.lock().unwrap();
            let count = arriving.len().min(batch.room());
            for mbuf in arriving.drain(..count) {
                batch.push(mbuf).unwrap();
            }
            count
        }
    }

    impl TxBurst for FakeTx {
        fn tx_burst(&mut self, batch: &mut Batch) -> TxOutcome {
            let mut room = self.0.room.lock().unwrap();
            let mut sent = 0;
            while *room > 0
                && let Some(mbuf) = batch.remove(0)
            {
                if mbuf.packet_len() == 0 {
                    return TxOutcome {
                        sent,
                        rejected: Some((mbuf, Reject::Empty)),
                    };
                }
                self.0.left.lock().unwrap().push(mbuf);
                *room -= 1;
                sent += 1;
            }
            TxOutcome {
                sent,
                rejected: None,
            }
        }

        fn tx_prepare(&mut self, batch: &mut Batch) -> Result<(), BadPacket> {
            for (index, mbuf) in batch.iter_mut().enumerate() {
                mbuf.prepare_checksums().map_err(|error| BadPacket {
                    index,
                    reason: error.into(),
                })?;
            }
            Ok(())
        }

        fn reclaim(&mut self) -> usize {
            *self.0.reclaims.lock().unwrap() += 1;
            let gives = *self.0.reclaimed.lock().unwrap();
            *self.0.room.lock().unwrap() += gives;
            gives
        }
    }

    /// A stream on which `frames` have arrived, and its wire.
    pub fn stream_with(frames: &[Vec<u8>]) -> (Stream<FakeRx, FakeTx>, Arc<Wire>) {
        stream_over(&pool(64), frames)
    }

    /// The same with buffers of `pool`.
    pub fn stream_over(pool: &Pool, frames: &[Vec<u8>]) -> (Stream<FakeRx, FakeTx>, Arc<Wire>) {
        let wire = Arc::new(Wire::default());
        wire.accept(usize::MAX);
        for frame in frames {
            let mut mbuf = pool.alloc().unwrap();
            mbuf.extend_from_slice(frame).unwrap();
            wire.arrive(mbuf);
        }
        let patience = Patience {
            limit: Duration::from_millis(5),
            polite: true,
        };
        let (rx, tx) = (FakeRx(wire.clone()), FakeTx(wire.clone()));
        let stream = Stream::new(Some(rx), Some(tx), 32, Arc::default(), patience);
        (stream, wire)
    }

    #[test]
    fn what_is_flushed_is_dropped_uncounted_up_to_the_limit() {
        let pool = pool(128);
        let (mut stream, _wire) = stream_over(&pool, &vec![vec![7; 60]; 100]);
        // Bursts are of 32.
        stream.lane().flush(40);
        assert_eq!(pool.in_use(), 36);
        stream.lane().flush(40);
        assert_eq!(pool.in_use(), 0);
        assert_eq!(stream.counters.snapshot(), StreamStats::default());
    }

    #[test]
    fn the_tag_that_was_set_goes_into_what_leaves() {
        let frames = vec![vec![7; 60]; 2];
        for tag in [None, Some(291)] {
            let (stream, wire) = stream_with(&frames);
            let mut stream = stream.tagged(tag);
            let mut lane = stream.lane();
            lane.receive();
            lane.insert_tags();
            lane.transmit_all();
            for offload in wire.sent_offloads() {
                let asked = offload.flags.contains(TxFlags::VLAN);
                assert_eq!(asked.then_some(offload.vlan_tci), tag);
            }
        }
    }

    #[test]
    fn a_full_queue_is_tried_again_until_it_took_everything() {
        let (mut stream, wire) = stream_with(&vec![vec![7; 60]; 9]);
        wire.accept(2);
        wire.reclaim_gives(1);
        let mut lane = stream.lane();
        assert_eq!(lane.receive(), 9);
        lane.transmit_all();
        assert_eq!(frames(&wire).len(), 9);
        assert_eq!(stream.counters.snapshot().tx_dropped, 0);
    }

    #[test]
    fn a_queue_that_stays_full_costs_the_rest_of_the_burst_after_the_limit() {
        let (mut stream, wire) = stream_with(&vec![vec![7; 60]; 5]);
        wire.accept(2);
        let before = Instant::now();
        let mut lane = stream.lane();
        lane.receive();
        lane.transmit_all();
        assert!(before.elapsed() >= Duration::from_millis(5));
        assert!(lane.batch.is_empty());
        let stats = stream.counters.snapshot();
        assert_eq!(
            (stats.rx_packets, stats.tx_packets, stats.tx_dropped),
            (5, 2, 3)
        );
    }

    #[test]
    fn a_packet_that_can_never_be_sent_is_counted_and_those_behind_it_go_on() {
        let (mut stream, wire) = stream_with(&[vec![1; 60], vec![], vec![2; 60]]);
        let mut lane = stream.lane();
        lane.receive();
        lane.transmit_all();
        assert_eq!(frames(&wire), [vec![1; 60], vec![2; 60]]);
        let stats = stream.counters.snapshot();
        assert_eq!((stats.tx_packets, stats.tx_dropped), (2, 1));
    }
}
