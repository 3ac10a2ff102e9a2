//! Measures the points, stacks one after the other in every round.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::callgrind;
use super::error::Error;
use super::plan::{Direction, Pass, Plan};
use super::points::Point;
use super::process::{Process, Started};
use super::results::{About, Figure, Machine, Measured, Ratios, Report, Row, Skipped, median};
use super::stacks::{Means, Stack};
use super::tree::Valgrind;

/// Queue pairs whose memory is measured.
const QUEUES: u32 = 64;
/// Passes of one direction at a point: noise that comes and goes hits all stacks.
pub struct Rounds {
    pub rounds: u32,
    /// Packets of a figure, if not those of the point.
    pub packets: Option<u64>,
    /// Packets that are counted for instructions.
    pub counted: u64,
}

/// Measures everything.
pub fn run(
    means: &Means,
    stacks: &[Stack],
    points: &[Point],
    rounds: &Rounds,
    valgrind: &Result<Valgrind, String>,
    full: bool,
) -> Result<Report, Error> {
    let start = Instant::now();
    let mut runner = Runner {
        means,
        rounds,
        stacks: Vec::new(),
        about: BTreeMap::new(),
        skipped: Vec::new(),
    };
    for &stack in stacks {
        match means.missing(stack) {
            Some(reason) => runner.skip(stack.title(), reason),
            None => runner.stacks.push(stack),
        }
    }
    let mut machine = machine(means);
    let everywhere = pin(means.core)?;
    machine.tsc_mhz = tsc_mhz();
    let mut rows = Vec::new();
    for point in points {
        progress(&format!("{}: {}", point.axis, point.value));
        rows.push(runner.measure(point)?);
    }
    progress("memory of 64 queues");
    runner.memory()?;
    // Instructions are the same on every processor: from here on all may be used.
    sched_setaffinity(None, &everywhere).map_err(Error::failed)?;
    match valgrind {
        Ok(valgrind) => {
            let counted: Vec<&Point> = points.iter().filter(|point| point.instructions).collect();
            for point in counted {
                progress(&format!("instructions: {} {}", point.axis, point.value));
                let found =
                    callgrind::count(means, valgrind, &runner.stacks, point, rounds.counted);
                let row = rows.iter_mut().find(|row| row.plan == point.plan);
                let Some(row) = row else { continue };
                for (stack, result) in found {
                    match result {
                        Ok(counts) => set_instructions(row, stack, &counts),
                        Err(reason) => {
                            let what = format!("instructions of {}", stack.title());
                            runner.skip(&what, reason);
                        }
                    }
                }
            }
        }
        Err(reason) => runner.skip("instructions", reason.clone()),
    }
    let base = rows.iter().find(|row| row.axis == "base");
    let ratios = |direction: Direction| {
        let measured = base.and_then(|base| base.directions.get(&direction));
        (direction, measured.map(Ratios::of).unwrap_or_default())
    };
    Ok(Report {
        version: env!("CARGO_PKG_VERSION"),
        full,
        rounds: rounds.rounds,
        seconds: start.elapsed().as_secs_f64(),
        machine,
        ratios: Direction::MOVING.into_iter().map(ratios).collect(),
        stacks: runner.about.into_values().collect(),
        points: rows,
        skipped: runner.skipped,
    })
}

fn progress(what: &str) {
    eprintln!("mana bench: {what}");
}

struct Runner<'a> {
    means: &'a Means,
    rounds: &'a Rounds,
    /// Those that can be measured here.
    stacks: Vec<Stack>,
    about: BTreeMap<Stack, About>,
    skipped: Vec<Skipped>,
}

impl Runner<'_> {
    fn skip(&mut self, what: &str, reason: impl Into<String>) {
        let skipped = Skipped {
            what: what.to_owned(),
            reason: reason.into(),
        };
        progress(&format!("{} is skipped: {}", skipped.what, skipped.reason));
        self.skipped.push(skipped);
    }

    /// The same of what is missing at every point.
    fn skip_once(&mut self, what: &str, reason: String) {
        let known = |skipped: &Skipped| skipped.what == what && skipped.reason == reason;
        if !self.skipped.iter().any(known) {
            self.skip(what, reason);
        }
    }

    /// Starts a stack; none where it has no such thing, which is noted.
    fn start(&mut self, stack: Stack, plan: &Plan, what: &str) -> Result<Option<Process>, Error> {
        let command = self.means.command(stack, plan, &[]);
        let started = Process::start(stack, command, |ready| self.means.check(stack, ready))?;
        match started {
            Started::Ready(process) => {
                let ready = &process.ready;
                self.about.entry(stack).or_insert_with(|| About {
                    stack,
                    provider: ready.provider.clone(),
                    libraries: ready.libraries.iter().map(name_of).collect(),
                    kib_per_queue_pair: None,
                    findings: Vec::new(),
                });
                Ok(Some(process))
            }
            Started::Unsupported(reason) if stack == Stack::RdmaCore => {
                if self.means.has_rdma_core() {
                    let stack = stack.name();
                    return Err(Error::Stack { stack, why: reason });
                }
                // It stays so.
                self.stacks.retain(|other| *other != stack);
                self.skip(stack.title(), reason);
                Ok(None)
            }
            Started::Unsupported(reason) => {
                self.skip(&format!("{}, {what}", stack.title()), reason);
                Ok(None)
            }
        }
    }

    /// Ends a stack. What the model found of it makes its figures worthless unless it is harmless.
    fn end(&mut self, stack: Stack, process: Process) -> Result<Option<String>, Error> {
        let findings = process.end()?;
        let wrong = findings
            .iter()
            .find(|finding| !stack.may_have(std::slice::from_ref(finding)))
            .cloned();
        if let Some(about) = self.about.get_mut(&stack) {
            for finding in findings {
                // Without numbers, of which there are as many as queues.
                let kind = finding.split_once(": ").map_or(&*finding, |(_, rest)| rest);
                let kind = kind.split_once(": ").map_or(kind, |(_, rest)| rest);
                let kind = kind.split(": ").next().unwrap_or(kind).to_owned();
                if !about.findings.contains(&kind) {
                    about.findings.push(kind);
                }
            }
        }
        Ok(wrong)
    }

    fn measure(&mut self, point: &Point) -> Result<Row, Error> {
        let what = format!("{} {}", point.axis, point.value);
        let mut processes = Vec::new();
        for stack in self.stacks.clone() {
            if stack.cannot(&point.plan).is_none()
                && let Some(process) = self.start(stack, &point.plan, &what)?
            {
                processes.push((stack, process));
            }
        }
        let packets = self.rounds.packets.unwrap_or(point.packets);
        let each = packets.div_ceil(self.rounds.rounds.into());
        let mut passes: BTreeMap<(Direction, Stack), Vec<Pass>> = BTreeMap::new();
        for _ in 0..self.rounds.rounds {
            for &direction in point.directions {
                for (stack, process) in &mut processes {
                    let pass = process.pass(direction, each)?;
                    passes.entry((direction, *stack)).or_default().push(pass);
                }
            }
        }
        let mut events: BTreeMap<(Direction, Stack), BTreeMap<String, f64>> = BTreeMap::new();
        if point.instructions && self.rounds.counted > 0 {
            for &direction in point.directions {
                for (stack, process) in &mut processes {
                    let counted = process.events(direction, self.rounds.counted)?;
                    events.insert((direction, *stack), counted.events);
                    if let Some(reason) = counted.missing {
                        self.skip_once("counters of the processor", reason);
                    }
                }
            }
        }
        for (stack, process) in processes {
            if let Some(wrong) = self.end(stack, process)? {
                passes.retain(|(_, other), _| *other != stack);
                let what = format!("{}, {what}", stack.title());
                self.skip(
                    &what,
                    format!("what it sends is not right, the model found: {wrong}"),
                );
            }
        }
        let mut directions: BTreeMap<Direction, Measured> = BTreeMap::new();
        for ((direction, stack), passes) in passes {
            let measured = directions.entry(direction).or_default();
            let figure = Figure {
                events: events.remove(&(direction, stack)).unwrap_or_default(),
                ..figure(&passes)
            };
            measured.stacks.insert(stack, figure);
        }
        Ok(Row {
            axis: point.axis,
            value: point.value.clone(),
            plan: point.plan.clone(),
            directions,
        })
    }

    /// What a start with many queues adds to a process.
    fn memory(&mut self) -> Result<(), Error> {
        let plan = Plan {
            queues: QUEUES,
            traffic: false,
            ..Plan::default()
        };
        for stack in self.stacks.clone() {
            if stack.cannot(&plan).is_some() {
                continue;
            }
            let Some(process) = self.start(stack, &plan, "memory")? else {
                continue;
            };
            let kib = process.ready.memory_kib as f64 / f64::from(QUEUES);
            self.end(stack, process)?;
            if let Some(about) = self.about.get_mut(&stack) {
                about.kib_per_queue_pair = Some(kib);
            }
        }
        Ok(())
    }
}

fn name_of(path: impl AsRef<Path>) -> String {
    let name = path.as_ref().file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn figure(passes: &[Pass]) -> Figure {
    let rounds: Vec<f64> = passes.iter().map(|pass| pass.median).collect();
    let packets = passes.iter().map(|pass| pass.packets).sum();
    let cycles: f64 = passes
        .iter()
        .map(|pass| pass.mean * pass.packets as f64)
        .sum();
    let min = passes.iter().map(|pass| pass.min);
    Figure {
        median: median(&mut rounds.clone()).unwrap_or_default(),
        min: min.fold(f64::INFINITY, f64::min),
        mean: cycles / packets as f64,
        rounds,
        packets,
        ..Figure::default()
    }
}

fn set_instructions(row: &mut Row, stack: Stack, counts: &[(Direction, f64)]) {
    for (direction, instructions) in counts {
        let measured = row.directions.get_mut(direction);
        if let Some(figure) = measured.and_then(|measured| measured.stacks.get_mut(&stack)) {
            figure.instructions = Some(*instructions);
        }
    }
}

/// Keeps this thread, and whatever it starts, on one processor. Returns where it was before.
fn pin(core: usize) -> Result<CpuSet, Error> {
    let before = sched_getaffinity(None).map_err(Error::failed)?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one)
        .map_err(|error| Error::Usage(format!("--core {core}: {error}")))?;
    Ok(before)
}

/// The processor that is taken without `--core`: the last one that this process may use, which is less
/// likely the one that serves the machine's interrupts.
pub fn last_core() -> usize {
    let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU)
        .rev()
        .find(|core| allowed.is_set(*core))
        .unwrap_or(0)
}

fn machine(means: &Means) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let processor = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let load = read("/proc/loadavg");
    Machine {
        processor: processor.map_or("unknown", |(_, name)| name).to_owned(),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        tsc_mhz: 0.0,
        core: means.core,
        pages: if means.huge { "2 MiB" } else { "4 KiB" },
        load: load
            .split_whitespace()
            .next()
            .and_then(|load| load.parse().ok())
            .unwrap_or_default(),
        preloaded: means.is_preloaded(),
    }
}

/// Rate of the time-stamp counter, whose cycles all figures are in.
fn tsc_mhz() -> f64 {
    let mut rates: Vec<f64> = (0..9)
        .map(|_| {
            let (start, first) = (Instant::now(), gdma::cycles::now());
            while start.elapsed() < Duration::from_millis(5) {}
            let cycles = gdma::cycles::now() - first;
            cycles as f64 / start.elapsed().as_secs_f64() / 1e6
        })
        .collect();
    median(&mut rates).unwrap_or_default()
}

/// The stacks, each once, in their order.
pub fn chosen(stacks: &[Stack]) -> Vec<Stack> {
    let chosen: BTreeSet<Stack> = stacks.iter().copied().collect();
    Stack::ALL
        .into_iter()
        .filter(|stack| chosen.is_empty() || chosen.contains(stack))
        .collect()
}
