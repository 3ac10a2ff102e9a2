//! One run from its arguments to its exit: set up, forward, print, tear down.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use dma_memory::HugePages;
use pmd_api::Support;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::app_args::AppArgs;
use super::cores::{self, CorePlan};
use super::devices::Machine;
use super::display;
use super::eal_args::EalArgs;
use super::error::Error;
use super::json;
use super::observe;
use super::port::TestPort;
use super::prompt;
use super::session::{ODD_PORTS, Outcome, Session};
use super::setup::{Pools, QueuePlan};
use super::stats::StreamStats;
use super::streams::Topology;
use super::workers::{Pulse, WITHOUT_INTERRUPT};

/// How often the main core looks whether something is to be done.
pub const TICK: Duration = Duration::from_millis(10);

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

    if app.interactive {
        say("Interactive-mode selected\n")?;
    }
    let script = read_commands(app)?;
    let machine = Machine::new(&eal.devices, &eal.blocked)?;
    let mut session = open(&machine, eal, app)?;
    let outcome = work(&mut session, script.as_deref(), &stop)?;
    session.tear_down()?;
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

/// The commands of `--cmdline-file`. With a prompt, a file that can't be read is told and the prompt
/// comes all the same; without one, forwarding would begin other than its user set it up.
fn read_commands(app: &AppArgs) -> Result<Option<String>, Error> {
    let Some(file) = &app.command_file else {
        return Ok(None);
    };
    let path = file.path.display();
    say(&format!("CLI commands to be read from {path}\n"))?;
    match std::fs::read(&file.path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(cause) if app.interactive => {
            prompt::complain(&format!("Failed to open file {path}: {cause}"));
            Ok(None)
        }
        Err(cause) => Err(Error::CommandFile {
            path: file.path.clone(),
            cause,
        }),
    }
}

/// Opens and starts the ports.
fn open<'m>(machine: &'m Machine, eal: &EalArgs, app: &AppArgs) -> Result<Session<'m>, Error> {
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
    let queues = match app.interactive || app.command_file.is_some() {
        true => QueuePlan::any_mode(app.mode, app.rxq, app.txq),
        false => QueuePlan::new(app.mode, app.rxq, app.txq),
    };
    if queues.tx != app.txq {
        say(&format!(
            "testpmd: {} needs a TX queue for each RX queue: {} TX queues a port instead of {}\n",
            if app.interactive {
                "forwarding".to_owned()
            } else {
                app.mode.to_string()
            },
            queues.tx,
            app.txq,
        ))?;
    }

    let pools = Pools::create(&ports, app, queues, plan.workers.len(), huge)?;
    say(&pools.describe())?;
    let topology = app.mode.topology(app.topology);
    let odd = topology == Topology::Paired && ports.len() % 2 == 1;
    say(if odd { ODD_PORTS } else { "" })?;
    for (port, peer) in app.eth_peers.iter().enumerate().skip(ports.len()) {
        if peer.is_some() {
            say(&format!(
                "testpmd: --eth-peer={port},… means nothing: there is no port {port}\n"
            ))?;
        }
    }
    if app.mode_named {
        say(&format!("Set {} packet forwarding mode\n", app.mode))?;
    }
    if app.auto_start {
        say("Auto-start selected\n")?;
    }
    let ports = ports.into_iter().enumerate();
    let ports: Vec<TestPort> = ports
        .map(|(number, port)| TestPort::new(number, port, app.by_device, &pools))
        .collect();
    let mut session = Session::new(machine, ports, pools, app.clone(), plan, queues, huge);
    session.told_odd = odd;
    for port in 0..session.ports.len() {
        let started = session.start_port(port);
        started.map_err(|error| Error::Port { port, error })?;
        let mut text = String::new();
        display::configured(&mut text, port, &session.ports[port].line(app), true);
        if app.rx_interrupts
            && session.ports[port].capability(|can| can.rx_interrupt) != Support::Yes
        {
            text.push_str(&format!(
                "Port {port}: its kernel sends no receive interrupts: idle cores look at it \
                 every {WITHOUT_INTERRUPT:?}\n"
            ));
        }
        say(&text)?;
    }
    say("Checking link statuses...\nDone\n")?;
    session.telemetry = Some(observe::start(eal, &session.cores)?);
    Ok(session)
}

/// What is done with the ports: commands, a prompt, or forwarding until it is time to stop.
fn work(
    session: &mut Session<'_>,
    script: Option<&str>,
    stop: &Arc<AtomicBool>,
) -> Result<Outcome, Error> {
    let (interactive, auto_start) = (session.args.interactive, session.args.auto_start);
    let mut goes_on = true;
    if let (Some(script), Some(file)) = (script, session.args.command_file.clone()) {
        goes_on = prompt::run_script(session, script, file.echo, stop)?;
        say(&format!("Read CLI commands from {}\n", file.path.display()))?;
    }
    if goes_on && interactive {
        if auto_start && !session.is_forwarding() {
            say("Start automatic packet forwarding\n")?;
            session.start_forwarding(0)?;
        }
        prompt::run(session, stop)?;
    } else if goes_on {
        if !session.is_forwarding() {
            say("No commandline core given, start packet forwarding\n")?;
            session.start_forwarding(session.args.tx_first.into())?;
        }
        let waited = wait(session, stop);
        let outcome = session.stop_forwarding();
        waited?;
        return outcome;
    }
    session.stop_forwarding()
}

/// Prints statistics until it is time to stop: a signal, Enter, the duration, or, where no duration
/// was given, the end of every source of packets.
fn wait(session: &mut Session<'_>, stop: &Arc<AtomicBool>) -> Result<(), Error> {
    let app = session.args.clone();
    let start = Instant::now() - session.forwarding_for().unwrap_or_default();
    if app.stats_period.is_none() && app.duration.is_none() && io::stdin().is_terminal() {
        say("Press enter to exit\n")?;
        stop_on_enter(stop.clone());
    }
    let clear_screen = io::stdout().is_terminal();
    let mut next_show = start;
    let mut calm = Calm::default();
    loop {
        let now = Instant::now();
        if stop.load(Relaxed) || session.tend()? {
            return Ok(());
        }
        match app.duration {
            Some(duration) if now >= start + duration => return Ok(()),
            None => {
                let drained = session.machine.drained();
                if calm.look(drained, session.total(), session.pulses()) {
                    return Ok(());
                }
            }
            Some(_) => {}
        }
        if let Some(period) = app.stats_period
            && now >= next_show
        {
            let mut text = String::new();
            display::periodic_heading(&mut text, clear_screen);
            for port in &mut session.ports {
                let rates = port.rates();
                display::port_statistics(&mut text, port.number, &port.shown(), &rates);
            }
            say(&text)?;
            next_show += period;
        }
        let end = app.duration.map(|duration| start + duration);
        let tick = end.map_or(TICK, |end| end.saturating_duration_since(now).min(TICK));
        thread::sleep(tick);
    }
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
