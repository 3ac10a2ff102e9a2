//! One run from its arguments to its exit: set up, forward, print, tear down.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dma_memory::HugePages;
use mana_pmd::PortEvent;
use pmd_api::PortStats;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::app_args::AppArgs;
use super::cores::{self, CorePlan};
use super::devices::Machine;
use super::display::{self, Plan, PortLine};
use super::eal_args::EalArgs;
use super::error::Error;
use super::json;
use super::lane::Patience;
use super::modes::ModeName;
use super::observe;
use super::setup::{Forwarding, Pools, QueuePlan, StartedPort, return_queues};
use super::stats::{RateMeter, StreamStats};
use super::streams::Topology;
use super::summary::{self, Summary};
use super::workers::{Crew, Pulse};
use crate::telemetry::Telemetry;

/// How often the main core looks whether something is to be done.
const TICK: Duration = Duration::from_millis(10);

/// Runs testpmd. Returns the number of findings of the model.
///
/// # Errors
///
/// Whatever keeps it from forwarding, or from tearing down cleanly.
pub fn run(eal: &EalArgs, app: &AppArgs) -> Result<usize, Error> {
    let stop = stop_on_signals()?;
    let notes = eal.notes.iter().map(|note| format!("EAL: {note}\n"));
    let notes = notes.chain(app.notes.iter().map(|note| format!("testpmd: {note}\n")));
    say(&notes.collect::<String>())?;

    let machine = Machine::new(&eal.devices, &eal.blocked)?;
    let ports = machine.open_ports()?;
    let is_model = machine.model().is_some();
    let (plan, available) = plan_cores(eal, app, is_model)?;
    if !plan.lacking.is_empty() {
        say(&format!(
            "EAL: this machine has no cores {}: on a model they share CPUs {}\n",
            cores::format_list(&plan.lacking),
            cores::format_list(&available),
        ))?;
    }
    let huge = match eal.no_huge || app.no_huge {
        true => HugePages::Never,
        false => HugePages::Auto,
    };
    let queues = QueuePlan::new(app.mode, app.rxq, app.txq);
    if queues.tx != app.txq {
        say(&format!(
            "testpmd: {} needs a TX queue for each RX queue: {} TX queues a port instead of {}\n",
            app.mode, queues.tx, app.txq,
        ))?;
    }

    let pools = Pools::create(&ports, app, queues, plan.workers.len(), huge)?;
    say(&pools.describe())?;
    let topology = app.mode.topology(app.topology);
    if topology == Topology::Paired && ports.len() % 2 == 1 {
        say(
            "\nWarning! port-topology=paired and odd forward ports number, \
             the last port will pair with itself.\n\n",
        )?;
    }
    for (port, peer) in app.eth_peers.iter().enumerate().skip(ports.len()) {
        if peer.is_some() {
            say(&format!(
                "testpmd: --eth-peer={port},… means nothing: there is no port {port}\n"
            ))?;
        }
    }
    say(&format!("Set {} packet forwarding mode\n", app.mode))?;
    if app.auto_start {
        say("Auto-start selected\n")?;
    }
    let mut started = Vec::with_capacity(ports.len());
    for (number, port) in ports.into_iter().enumerate() {
        let port = StartedPort::start(port, number, app, queues, &pools, huge)?;
        let mut text = String::new();
        display::configured(&mut text, number, &port.line(number, app));
        say(&text)?;
        started.push(port);
    }
    say("Checking link statuses...\nDone\n")?;

    let outside = Outside {
        stop,
        telemetry: observe::start(eal, &plan)?,
    };
    let outcome = forward(&machine, &mut started, &pools, app, queues, &plan, &outside)?;
    drop(outside);
    drop(pools);
    say(&machine.losses())?;
    tear_down(started)?;
    let findings = machine.finish();
    for finding in &findings {
        eprintln!("finding: {finding}");
    }
    if app.json {
        let line = json::line(outcome.seconds, &outcome.ports, findings.len());
        say(&format!("{}\n", line.map_err(io::Error::from)?))?;
    }
    Ok(findings.len())
}

/// What may come while it forwards: a signal, and questions.
struct Outside {
    stop: Arc<AtomicBool>,
    telemetry: Telemetry,
}

/// What a run counted.
struct Outcome {
    seconds: f64,
    ports: Vec<PortStats>,
}

/// Starts the forwarding cores, waits until it is time to stop, and prints the final tables.
fn forward(
    machine: &Machine,
    ports: &mut [StartedPort],
    pools: &Pools,
    app: &AppArgs,
    queues: QueuePlan,
    cores: &CorePlan,
    outside: &Outside,
) -> Result<Outcome, Error> {
    let is_model = machine.model().is_some();
    let patience = if is_model {
        Patience::MODEL
    } else {
        Patience::HARDWARE
    };
    let forwarding = Forwarding::plan(ports.len(), app, queues, &cores.workers[..app.nb_cores]);
    let lines: Vec<PortLine> = ports
        .iter()
        .enumerate()
        .map(|(number, port)| port.line(number, app))
        .collect();
    let plan = Plan {
        mode: app.mode,
        ports: &lines,
        streams: &forwarding.plans,
        cores: &forwarding.cores,
        queues: (queues.rx, queues.tx),
        depths: (app.rxd.next_power_of_two(), app.txd.next_power_of_two()),
        burst: app.burst,
        tx_lengths: &app.tx_lengths,
        flows: app.flows.flows,
        tx_offloads: app.by_device.offloads(),
    };
    let mut text = String::from("No commandline core given, start packet forwarding\n");
    display::forwarding(&mut text, &plan);
    display::configuration(&mut text, &plan);
    if app.mode == ModeName::Csum {
        text.push_str(&app.by_device.describe());
    }

    let mut shares = forwarding.assign(ports, app, pools, patience);
    // As in testpmd, what came before forwarding begins is nobody's: no more than a ring holds, where
    // packets come without end. A source that ends is left whole, as it is for --no-flush-rx there.
    if app.flush_rx && !machine.is_finite() {
        for assigned in shares.iter_mut().flatten() {
            assigned.stream.lane().flush(plan.depths.0 as usize);
        }
    }
    let before: Vec<PortStats> = ports.iter().map(counted).collect();

    say(&text)?;
    for assigned in shares.iter_mut().flatten() {
        if let Some(mut generator) = assigned.first.take() {
            generator.forward(&mut assigned.stream.lane());
        }
    }
    // The device thread of a model is busy as well. Behind a tap so are the kernel and the programs
    // that talk through it, wherever they run; and who spins has used up his time slice when a frame
    // comes, while who sleeps is woken at once.
    let polite = machine.has_taps()
        || cores.crowded(
            forwarding.cores.len(),
            usize::from(is_model),
            cores::allowed()?.len(),
        );
    cores::pin(cores.main)?;
    let work = forwarding
        .cores
        .iter()
        .map(|(core, _)| *core)
        .zip(shares)
        .collect();
    let crew = Crew::start(work, polite, app.record_cycles)?;
    let (start, first_cycle) = (Instant::now(), gdma::cycles::now());
    let waited = wait(
        machine,
        ports,
        app,
        &forwarding,
        crew.pulses(),
        outside,
        start,
    );
    let stopping = say("Telling cores to stop...\nWaiting for lcores to finish...\n");
    let streams = crew.dismiss();
    let elapsed = start.elapsed();
    let cycles = gdma::cycles::now() - first_cycle;
    waited?;
    stopping?;
    let stats: Vec<PortStats> = ports
        .iter()
        .zip(before)
        .map(|(port, before)| counted(port) - before)
        .collect();
    let mhz = u128::from(cycles) * 1000 / elapsed.as_nanos().max(1);
    say(&summary::tables(&Summary {
        mode: app.mode,
        plans: &forwarding.plans,
        counters: &forwarding.counters,
        ports: &stats,
        cycles_mhz: app.record_cycles.then_some(mhz as u64),
    }))?;
    return_queues(ports, streams);
    Ok(Outcome {
        seconds: elapsed.as_secs_f64(),
        ports: stats,
    })
}

/// What a port counted until now, packets that found no buffer among it.
fn counted(port: &StartedPort) -> PortStats {
    port.port.refresh_missed();
    port.port.stats()
}

/// Prints statistics until it is time to stop: a signal, Enter, the duration, or, where no duration
/// was given, the end of every source of packets.
fn wait(
    machine: &Machine,
    ports: &mut [StartedPort],
    app: &AppArgs,
    forwarding: &Forwarding,
    pulses: &[Arc<Pulse>],
    outside: &Outside,
    start: Instant,
) -> Result<(), Error> {
    if app.stats_period.is_none() && app.duration.is_none() && io::stdin().is_terminal() {
        say("Press enter to exit\n")?;
        stop_on_enter(outside.stop.clone());
    }
    let stop = &outside.stop;
    let queues = forwarding.queues;
    let clear_screen = io::stdout().is_terminal();
    let mut meters: Vec<RateMeter> = ports.iter().map(|_| RateMeter::default()).collect();
    let mut next_show = start;
    let mut calm = Calm::default();
    loop {
        let now = Instant::now();
        if stop.load(Relaxed) || tell_events(ports)? {
            return Ok(());
        }
        let all = ports.iter().map(|port| &port.port).enumerate();
        observe::answer(&outside.telemetry, all, queues, app.mbuf_size);
        match app.duration {
            Some(duration) if now >= start + duration => return Ok(()),
            None if calm.look(machine.drained(), total(forwarding), pulses) => return Ok(()),
            _ => {}
        }
        if let Some(period) = app.stats_period
            && now >= next_show
        {
            let mut text = String::new();
            display::periodic_heading(&mut text, clear_screen);
            for (number, (port, meter)) in ports.iter().zip(&mut meters).enumerate() {
                let stats = counted(port);
                let rates = meter.look(Instant::now(), &stats);
                display::port_statistics(&mut text, number, &stats, &rates);
            }
            say(&text)?;
            next_show += period;
        }
        let end = app.duration.map(|duration| start + duration);
        let tick = end.map_or(TICK, |end| end.saturating_duration_since(now).min(TICK));
        thread::sleep(tick);
    }
}

/// Prints what has happened to the ports, as dpdk-testpmd does. A port whose device goes away recovers
/// while its cores go on; true if one can't: forwarding stops then, and as there is no prompt here,
/// the program with it.
fn tell_events(ports: &mut [StartedPort]) -> Result<bool, Error> {
    let mut failed = false;
    for (number, port) in ports.iter_mut().enumerate() {
        let event = |error| Error::Port {
            port: number,
            error,
        };
        while let Some(happened) = port.port.next_event().map_err(event)? {
            failed |= matches!(happened, PortEvent::RecoveryFailed { .. });
            say(&display::event(number, happened))?;
        }
    }
    Ok(failed)
}

/// Decides that nothing moves any more: over several looks in a row the sources are drained, no
/// counter changed, and every forwarding core has passed over its streams without finding anything.
#[derive(Debug, Default)]
struct Calm {
    looks: u32,
    last: StreamStats,
    idle_passes: Vec<u64>,
}

impl Calm {
    /// Looks in a row that must agree.
    const LOOKS: u32 = 4;

    fn look(&mut self, drained: bool, total: StreamStats, pulses: &[Arc<Pulse>]) -> bool {
        let idle_passes: Vec<u64> = pulses.iter().map(|pulse| pulse.idle_passes()).collect();
        // Two passes: the first may have begun before the last look.
        let all_idle = self.idle_passes.len() == idle_passes.len()
            && self
                .idle_passes
                .iter()
                .zip(&idle_passes)
                .all(|(before, now)| now - before >= 2);
        if !drained || total != self.last {
            self.looks = 0;
        } else if all_idle {
            self.looks += 1;
        } else {
            // A core had no turn since the last look: this one says nothing.
            return false;
        }
        self.last = total;
        self.idle_passes = idle_passes;
        self.looks >= Self::LOOKS
    }
}

fn total(forwarding: &Forwarding) -> StreamStats {
    let mut total = StreamStats::default();
    for counters in &forwarding.counters {
        total += counters.snapshot();
    }
    total
}

/// Stops and closes every port, whatever happens to one of them; the first error counts.
fn tear_down(mut ports: Vec<StartedPort>) -> Result<(), Error> {
    let mut first = Ok(());
    let mut keep = |port, result: Result<(), mana_pmd::Error>| {
        if let Err(error) = result {
            tracing::error!("port {port}: {error}");
            if first.is_ok() {
                first = Err(Error::Port { port, error });
            }
        }
    };
    let mut output = Ok(());
    for (number, port) in ports.iter_mut().enumerate() {
        keep(number, port.stop());
        output = output.and(say(&format!(
            "\nStopping port {number}...\nStopping ports...\nDone\n"
        )));
    }
    for (number, port) in ports.into_iter().enumerate() {
        keep(number, port.close());
        output = output.and(say(&format!(
            "\nShutting down port {number}...\nClosing ports...\nPort {number} is closed\nDone\n"
        )));
    }
    output = output.and(say("\nBye...\n"));
    first.and(output)
}

/// The cores of the run, and the CPUs they come from.
fn plan_cores(eal: &EalArgs, app: &AppArgs, is_model: bool) -> Result<(CorePlan, Vec<u32>), Error> {
    // A model may run anywhere this process may; for hardware the machine's own numbers count, and
    // a core outside this process's set is refused when a thread is bound to it.
    let available = match is_model || eal.cores.is_none() {
        true => cores::allowed()?,
        false => cores::online()?,
    };
    let plan = CorePlan::new(eal.cores.as_deref(), eal.main_core, &available, is_model)?;
    if app.nb_cores > plan.workers.len() {
        return Err(Error::TooManyCores {
            asked: app.nb_cores,
            workers: plan.workers.len(),
        });
    }
    Ok((plan, available))
}

/// A flag that SIGINT and SIGTERM set; a second one ends the program at once.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(Error::Signal)?;
    }
    Ok(stop)
}

/// Sets the flag when a line arrives on standard input. The thread ends with the program.
fn stop_on_enter(stop: Arc<AtomicBool>) {
    let reader = move || {
        let read = io::stdin().read_line(&mut String::new());
        if read.is_ok() {
            stop.store(true, Relaxed);
        }
    };
    if let Err(error) = thread::Builder::new()
        .name("enter".to_owned())
        .spawn(reader)
    {
        tracing::warn!("Enter will not stop the run: {error}");
    }
}

/// Prints to standard output at once.
///
/// # Errors
///
/// If nobody reads it any more, or it can't be written.
pub fn say(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_calm_only_after_several_looks_at_idle_cores_and_still_counters() {
        let pulses = [Arc::new(Pulse::default())];
        let mut calm = Calm::default();
        let stats = |rx_packets| StreamStats {
            rx_packets,
            ..StreamStats::default()
        };
        let mut look = |drained, packets, passes| {
            pulses[0].pass(passes);
            calm.look(drained, stats(packets), &pulses)
        };
        // The first look has nothing to compare with; a sleeping core resets nothing.
        assert!(!look(true, 5, 2));
        for _ in 0..Calm::LOOKS - 1 {
            assert!(!look(true, 5, 2));
        }
        assert!(!look(true, 5, 0), "the core had no turn");
        assert!(look(true, 5, 2));
        assert!(!look(true, 6, 2), "a packet came");
        assert!(!look(false, 6, 2), "there is more to come");
    }
}
