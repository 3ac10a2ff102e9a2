//! How it is measured.
//!
//! A timed region is one burst: everything that the driver does to send it or to receive it, earlier
//! bursts' completions and the refilling of the ring included, and nothing else. Between regions the
//! packets are made or freed and the device is stepped. A sample is as many bursts as make 256
//! packets, so that work that is saved up for a later burst is in it. Of a sample's cycles those of as many
//! empty regions are taken off.

use std::hint::black_box;
use std::sync::atomic::{Ordering, fence};

use gdma::cycles;

use super::super::error::Error;
use super::super::plan::{Count, Direction, Events, Pass, Plan};
use super::events::Counters;

/// Packets, or polls, of one sample at least.
const SAMPLE: u64 = 256;
/// Packets that are not measured: they warm what the pass before, or another process, left cold.
const WARM: u64 = 4096;
/// Empty regions that are timed to know what one costs, in samples as those of packets are: the counter
/// moves in steps, so the median of single regions would be one step or another.
const EMPTY: usize = 4096;
/// Bursts without a packet after which nothing is expected any more.
const PATIENCE: u32 = 64;

/// A stack that is measured: bursts of one size on one or several queues in turn.
pub trait Bursts {
    /// Makes a burst of packets ready to be sent.
    fn fill(&mut self);
    /// Packets that are ready to be sent, or were received.
    fn ready(&self) -> usize;
    /// Sends what is ready; returns how many.
    fn tx(&mut self) -> usize;
    /// Receives; returns how many.
    fn rx(&mut self) -> usize;
    /// Receives and sends what came; returns how many came.
    fn forward(&mut self) -> usize;
    /// Frees what is ready.
    fn free(&mut self);
    /// Lets the device work.
    fn step(&mut self);
    /// On with the next queue.
    fn turn(&mut self);
    /// Takes the stack apart.
    fn finish(self);
}

// What is timed. Not inlined, so that callgrind can tell them.

#[inline(never)]
fn timed_tx_burst(bursts: &mut impl Bursts) -> usize {
    black_box(bursts.tx())
}

#[inline(never)]
fn timed_rx_burst(bursts: &mut impl Bursts) -> usize {
    black_box(bursts.rx())
}

#[inline(never)]
fn timed_forward_burst(bursts: &mut impl Bursts) -> usize {
    black_box(bursts.forward())
}

#[inline(never)]
fn timed_poll_burst(bursts: &mut impl Bursts) -> usize {
    black_box(bursts.rx())
}

#[inline(never)]
fn timed_nothing(bursts: &mut impl Bursts) -> usize {
    black_box(&*bursts);
    0
}

/// At the end of a count: callgrind writes down what it has when this is called.
#[inline(never)]
fn section_end() {
    black_box(());
}

/// Cycles and regions of a sample.
#[derive(Default)]
struct Clock {
    on: bool,
    drain: bool,
    cycles: u64,
    regions: u64,
    /// Counts events instead, if there are some.
    counters: Option<Counters>,
}

impl Clock {
    #[inline(always)]
    fn time<B>(&mut self, bursts: &mut B, region: impl FnOnce(&mut B) -> usize) -> usize {
        self.regions += 1;
        if let Some(counters) = &mut self.counters {
            return counters.during(|| region(bursts));
        }
        if !self.on {
            return region(bursts);
        }
        let start = cycles::now();
        let moved = region(bursts);
        if self.drain {
            fence(Ordering::SeqCst);
        }
        self.cycles += cycles::now() - start;
        moved
    }
}

/// One burst; returns its packets.
fn burst<B: Bursts>(bursts: &mut B, direction: Direction, clock: &mut Clock) -> u64 {
    let moved = match direction {
        Direction::Tx => {
            bursts.fill();
            let count = bursts.ready();
            while bursts.ready() > 0 {
                clock.time(bursts, timed_tx_burst);
                bursts.step();
            }
            count
        }
        Direction::Rx => {
            let count = clock.time(bursts, timed_rx_burst);
            bursts.free();
            bursts.step();
            count
        }
        Direction::Forward => {
            let count = clock.time(bursts, timed_forward_burst);
            while bursts.ready() > 0 {
                bursts.step();
                bursts.tx();
            }
            bursts.step();
            count
        }
        Direction::Poll => {
            let count = clock.time(bursts, timed_poll_burst);
            assert_eq!(count, 0, "packets on an idle port");
            1
        }
    };
    bursts.turn();
    moved as u64
}

fn sample<B: Bursts>(bursts: &mut B, direction: Direction, packets: u64, clock: &mut Clock) -> u64 {
    let (mut done, mut barren) = (0, 0);
    while done < packets {
        let moved = burst(bursts, direction, clock);
        done += moved;
        barren = if moved > 0 { 0 } else { barren + 1 };
        assert!(barren < PATIENCE, "no packets come");
    }
    done
}

/// Cycles of a region with nothing in it.
fn overhead<B: Bursts>(bursts: &mut B, drain: bool) -> f64 {
    let empty = |_| {
        let mut clock = Clock {
            on: true,
            drain,
            ..Clock::default()
        };
        for _ in 0..SAMPLE {
            clock.time(bursts, timed_nothing);
        }
        clock.cycles as f64 / SAMPLE as f64
    };
    let samples = EMPTY as u64 / SAMPLE;
    median(&mut (0..samples).map(empty).collect::<Vec<_>>())
}

/// Measures so many packets.
pub fn pass<B: Bursts>(bursts: &mut B, plan: &Plan, direction: Direction, packets: u64) -> Pass {
    let clock = || Clock {
        on: true,
        drain: plan.drain,
        ..Clock::default()
    };
    sample(bursts, direction, WARM, &mut clock());
    let overhead = overhead(bursts, plan.drain);
    let (mut samples, mut cycles) = (Vec::new(), 0.0);
    let mut pass = Pass {
        direction,
        packets: 0,
        regions: 0,
        overhead,
        median: 0.0,
        min: 0.0,
        mean: 0.0,
    };
    samples.reserve_exact(packets.div_ceil(SAMPLE) as usize);
    while pass.packets < packets {
        let mut clock = clock();
        let moved = sample(bursts, direction, SAMPLE, &mut clock);
        let net = clock.cycles as f64 - overhead * clock.regions as f64;
        samples.push(net / moved as f64);
        cycles += net;
        pass.packets += moved;
        pass.regions += clock.regions;
    }
    pass.median = median(&mut samples);
    pass.min = samples.first().copied().unwrap_or_default();
    pass.mean = cycles / pass.packets as f64;
    pass
}

/// Moves so many packets, for callgrind.
pub fn count(bursts: &mut impl Bursts, direction: Direction, packets: u64) -> Count {
    let mut clock = Clock::default();
    let packets = sample(bursts, direction, packets, &mut clock);
    section_end();
    Count {
        packets,
        regions: clock.regions,
    }
}

/// Moves so many packets, and counts the processor's events in the timed regions.
pub fn events(
    bursts: &mut impl Bursts,
    direction: Direction,
    packets: u64,
) -> Result<Events, Error> {
    let (empty, counters) = match (Counters::open(), Counters::open()) {
        (Ok(empty), Ok(counters)) => (empty, counters),
        (Err(refused), _) | (_, Err(refused)) => return Ok(Events::missing(refused.to_string())),
    };
    let clock = |counters| Clock {
        counters: Some(counters),
        ..Clock::default()
    };
    let (mut empty, mut clock) = (clock(empty), clock(counters));
    sample(bursts, direction, WARM, &mut Clock::default());
    for _ in 0..EMPTY {
        empty.time(bursts, timed_nothing);
    }
    let packets = sample(bursts, direction, packets, &mut clock);
    let regions = clock.regions as f64;
    let (Some(mut empty), Some(mut counters)) = (empty.counters, clock.counters) else {
        return Ok(Events::missing("no counters".to_owned()));
    };
    let events = counters.read()?.into_iter().zip(empty.read()?);
    let events = events.map(|((name, full), (_, empty))| {
        let empty = empty as f64 / EMPTY as f64 * regions;
        (name.to_owned(), (full as f64 - empty) / packets as f64)
    });
    Ok(Events {
        packets,
        events: events.collect(),
        missing: counters.missing().map(str::to_owned),
    })
}

/// The median; sorts the samples.
fn median(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}
