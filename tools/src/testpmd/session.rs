//! A session: the ports of a run with pools and cores, and forwarding between them, which starts and
//! stops any number of times.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dma_memory::HugePages;
use mana_pmd::{Port, PortEvent};
use pmd_api::PortStats;

use super::app_args::AppArgs;
use super::cores::{self, CorePlan};
use super::devices::Machine;
use super::display::{self, Plan, PortLine};
use super::error::Error;
use super::lane::Patience;
use super::modes::ModeName;
use super::observe;
use super::port::{Rss, TestPort};
use super::run::say;
use super::setup::{Forwarding, Pools, QueuePlan, return_queues};
use super::stats::StreamStats;
use super::streams::Topology;
use super::summary::{self, Summary};
use super::workers::{Crew, Idle, Pulse};
use crate::telemetry::Telemetry;

/// What is told once, where ports are paired and one has none.
pub const ODD_PORTS: &str = "\nWarning! port-topology=paired and odd forward ports number, the last \
                             port will pair with itself.\n\n";

/// How long a change of RSS is waited for: a core that runs needs a burst to give its queue up.
const RSS_PATIENCE: Duration = Duration::from_secs(20);

/// Ports, pools and cores, and what is set for the next start.
pub struct Session<'m> {
    /// Where the ports are.
    pub machine: &'m Machine,
    /// All ports by number, closed ones included.
    pub ports: Vec<TestPort>,
    /// Where their packets lie.
    pub pools: Pools,
    /// What was asked for, on the command line and since.
    pub args: AppArgs,
    /// The cores.
    pub cores: CorePlan,
    /// The queues of every port.
    pub queues: QueuePlan,
    /// Who asks for numbers.
    pub telemetry: Option<Telemetry>,
    /// Whether it was told that a port is paired with itself.
    pub told_odd: bool,
    huge: HugePages,
    running: Option<Running>,
    counted: Option<Counted>,
}

/// Forwarding under way.
struct Running {
    crew: Crew,
    start: Instant,
    first_cycle: u64,
}

/// What the last start counts or has counted.
struct Counted {
    mode: ModeName,
    forwarding: Forwarding,
    ports: Vec<usize>,
    /// What streams and ports had counted when counting began.
    streams_before: Vec<StreamStats>,
    ports_before: Vec<PortStats>,
    cycles_mhz: Option<u64>,
}

/// How forwarding went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// How long.
    pub seconds: f64,
    /// What each port counted meanwhile.
    pub ports: Vec<PortStats>,
}

impl<'m> Session<'m> {
    /// A session over ports that are not started yet.
    pub fn new(
        machine: &'m Machine,
        ports: Vec<TestPort>,
        pools: Pools,
        args: AppArgs,
        cores: CorePlan,
        queues: QueuePlan,
        huge: HugePages,
    ) -> Self {
        Session {
            machine,
            ports,
            pools,
            args,
            cores,
            queues,
            telemetry: None,
            told_odd: false,
            huge,
            running: None,
            counted: None,
        }
    }

    /// Starts a port.
    ///
    /// # Errors
    ///
    /// Whatever it refuses.
    pub fn start_port(&mut self, number: usize) -> Result<(), mana_pmd::Error> {
        self.ports[number].start(&self.args, self.queues, &self.pools, self.huge)
    }

    /// Sets a port's RSS, and where it runs waits until that has taken effect, for some seconds at most:
    /// whether it did.
    ///
    /// # Errors
    ///
    /// What the port refuses, inside; outside as [`Session::tend`].
    pub fn set_rss(
        &mut self,
        number: usize,
        rss: &Rss,
    ) -> Result<Result<bool, mana_pmd::Error>, Error> {
        let (args, queues, pools, huge) = (&self.args, self.queues, &self.pools, self.huge);
        let configure = |port: &mut TestPort| port.configure(args, queues, pools, huge);
        if let Err(error) = self.ports[number].set_rss(rss, configure) {
            return Ok(Err(error));
        }
        let begun = Instant::now();
        let changing = |port: &TestPort| port.open().is_some_and(Port::is_rss_changing);
        while changing(&self.ports[number]) && begun.elapsed() < RSS_PATIENCE {
            self.tend()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        // What it had to tell.
        self.tend()?;
        let now = self.ports[number].open();
        Ok(Ok(now.is_some_and(|port| match rss {
            Rss::Key(key) => port.rss_key() == *key,
            Rss::Table(table) => port.rss_table() == Some(*table),
        })))
    }

    /// Numbers of the ports that were not closed.
    pub fn open_ports(&self) -> Vec<usize> {
        let open = self.ports.iter().filter(|port| port.open().is_some());
        open.map(|port| port.number).collect()
    }

    /// Whether packets are forwarded.
    pub fn is_forwarding(&self) -> bool {
        self.running.is_some()
    }

    /// Takes queue numbers into account that were set; for when no port is started.
    pub fn plan_queues(&mut self) {
        self.queues = QueuePlan::any_mode(self.args.mode, self.args.rxq, self.args.txq);
        for port in &mut self.ports {
            // A redirection table is one of the queues that were.
            port.rss_table = None;
            port.changed = true;
        }
    }

    fn plan(&self) -> (Vec<usize>, Forwarding) {
        let ports = self.open_ports();
        let queues = self.queues.of(self.args.mode);
        let workers = &self.cores.workers[..self.args.nb_cores];
        let forwarding = Forwarding::plan(&ports, &self.args, queues, workers);
        (ports, forwarding)
    }

    /// What some part of the start-up lines says of what would be forwarded now.
    pub fn describe(&self, parts: &[fn(&mut String, &Plan<'_>)]) -> String {
        let (ports, forwarding) = self.plan();
        self.describe_plan(&ports, &forwarding, parts)
    }

    fn describe_plan(
        &self,
        ports: &[usize],
        forwarding: &Forwarding,
        parts: &[fn(&mut String, &Plan<'_>)],
    ) -> String {
        let args = &self.args;
        let lines: Vec<PortLine> = ports
            .iter()
            .map(|number| self.ports[*number].line(args))
            .collect();
        let plan = Plan {
            mode: args.mode,
            ports: &lines,
            streams: &forwarding.plans,
            cores: &forwarding.cores,
            queues: (self.queues.rx, self.queues.tx),
            depths: (args.rxd.next_power_of_two(), args.txd.next_power_of_two()),
            burst: args.burst,
            tx_lengths: &args.tx_lengths,
            flows: args.flows.flows,
        };
        let mut text = String::new();
        for part in parts {
            part(&mut text, &plan);
        }
        text
    }

    /// Starts forwarding over all open ports, each of which is started, after `tx_first`
    /// bursts of packets on every stream.
    ///
    /// # Errors
    ///
    /// Packets that a port does not take; cores that can't be had: the ports must be started anew
    /// then.
    pub fn start_forwarding(&mut self, tx_first: usize) -> Result<(), Error> {
        let (ports, forwarding) = self.plan();
        let args = &self.args;
        self.check_segments(&ports)?;
        let mut text = self.describe_plan(
            &ports,
            &forwarding,
            &[display::forwarding, display::configuration],
        );
        if args.mode == ModeName::Csum && !args.interactive {
            for number in &ports {
                text.push_str(&self.ports[*number].by_device.describe());
            }
        }
        let topology = args.mode.topology(args.topology);
        if !self.told_odd && topology == Topology::Paired && ports.len() % 2 == 1 {
            self.told_odd = true;
            text.insert_str(0, ODD_PORTS);
        }
        let is_model = self.machine.model().is_some();
        let patience = if is_model {
            Patience::MODEL
        } else {
            Patience::HARDWARE
        };
        let (all, pools) = (&mut self.ports, &self.pools);
        let mut shares = forwarding.assign(all, args, pools, patience, tx_first > 0);
        // As in testpmd, what came before forwarding begins is nobody's: no more than a ring holds,
        // where packets come without end. A source that ends is left whole, as it is for
        // --no-flush-rx there.
        if args.flush_rx && !self.machine.is_finite() {
            for assigned in shares.iter_mut().flatten() {
                let limit = args.rxd.next_power_of_two();
                assigned.stream.lane().flush(limit as usize);
            }
        }
        let ports_before = ports.iter().map(|number| self.ports[*number].stats());
        let counted = Counted {
            mode: args.mode,
            streams_before: vec![StreamStats::default(); forwarding.plans.len()],
            ports_before: ports_before.collect(),
            cycles_mhz: None,
            ports,
            forwarding,
        };
        say(&text)?;
        for _ in 0..tx_first {
            for assigned in shares.iter_mut().flatten() {
                if let Some(generator) = &mut assigned.first {
                    generator.forward(&mut assigned.stream.lane());
                }
            }
        }
        // The device thread of a model is busy as well. Behind a tap so are the kernel and the
        // programs that talk through it, wherever they run; and who spins has used up his time slice
        // when a frame comes, while who sleeps is woken at once.
        let polite = self.machine.has_taps()
            || self.cores.crowded(
                counted.forwarding.cores.len(),
                usize::from(is_model),
                cores::allowed()?.len(),
            );
        cores::pin(self.cores.main)?;
        let cores = counted.forwarding.cores.iter().map(|(core, _)| *core);
        let work = cores.zip(shares).collect();
        let idle = match (args.rx_interrupts, polite) {
            (true, _) => Idle::Sleep,
            (false, true) => Idle::Nap,
            (false, false) => Idle::Spin,
        };
        let crew = Crew::start(work, idle, args.record_cycles)?;
        self.counted = Some(counted);
        self.running = Some(Running {
            crew,
            start: Instant::now(),
            first_cycle: gdma::cycles::now(),
        });
        Ok(())
    }

    fn check_segments(&self, ports: &[usize]) -> Result<(), Error> {
        let segments = self.args.tx_lengths.segments.len();
        for number in ports {
            let max = self.ports[*number].info().max_tx_segments as usize;
            if self.args.mode == ModeName::TxOnly && segments > max {
                return Err(Error::TooManySegments {
                    segments,
                    max,
                    port: *number,
                });
            }
        }
        Ok(())
    }

    /// Stops forwarding and prints the final tables; nothing where nothing is forwarded.
    ///
    /// # Errors
    ///
    /// If they can't be printed.
    pub fn stop_forwarding(&mut self) -> Result<Outcome, Error> {
        let Some(running) = self.running.take() else {
            return Ok(Outcome::default());
        };
        let stopping = say("Telling cores to stop...\nWaiting for lcores to finish...\n");
        let (streams, slept) = running.crew.dismiss();
        let elapsed = running.start.elapsed();
        let cycles = gdma::cycles::now() - running.first_cycle;
        stopping?;
        if self.args.rx_interrupts {
            say(&format!(
                "Forwarding cores slept {} times, {} of them for a moment without interrupt\n",
                slept.sleeps, slept.naps
            ))?;
        }
        if let Some(counted) = &mut self.counted {
            let mhz = u128::from(cycles) * 1000 / elapsed.as_nanos().max(1);
            counted.cycles_mhz = self.args.record_cycles.then_some(mhz as u64);
        }
        say(&format!("{}\nDone.\n", self.forward_statistics()))?;
        return_queues(&mut self.ports, streams);
        Ok(Outcome {
            seconds: elapsed.as_secs_f64(),
            ports: self
                .counted_ports()
                .into_iter()
                .map(|(_, stats)| stats)
                .collect(),
        })
    }

    fn counted_ports(&self) -> Vec<(usize, PortStats)> {
        let Some(counted) = &self.counted else {
            return Vec::new();
        };
        let ports = counted.ports.iter().zip(&counted.ports_before);
        ports
            .map(|(number, before)| (*number, self.ports[*number].stats() - *before))
            .collect()
    }

    /// testpmd's tables of what was forwarded since the last start, or since it was cleared.
    pub fn forward_statistics(&self) -> String {
        let Some(counted) = &self.counted else {
            let ports: Vec<_> = self
                .open_ports()
                .into_iter()
                .map(|number| (number, PortStats::default()))
                .collect();
            return summary::tables(&Summary {
                mode: self.args.mode,
                plans: &[],
                counters: &[],
                before: &[],
                ports: &ports,
                cycles_mhz: None,
            });
        };
        summary::tables(&Summary {
            mode: counted.mode,
            plans: &counted.forwarding.plans,
            counters: &counted.forwarding.counters,
            before: &counted.streams_before,
            ports: &self.counted_ports(),
            cycles_mhz: counted.cycles_mhz,
        })
    }

    /// Counts what is forwarded from 0 again.
    pub fn clear_forward_statistics(&mut self) {
        if let Some(counted) = &mut self.counted {
            let counters = counted.forwarding.counters.iter();
            counted.streams_before = counters.map(|counters| counters.snapshot()).collect();
            let ports = counted.ports.iter();
            counted.ports_before = ports.map(|number| self.ports[*number].stats()).collect();
        }
    }

    /// What all streams have counted since the last start.
    pub fn total(&self) -> StreamStats {
        let mut total = StreamStats::default();
        for counters in self
            .counted
            .iter()
            .flat_map(|counted| &counted.forwarding.counters)
        {
            total += counters.snapshot();
        }
        total
    }

    /// What the forwarding cores say of their idleness.
    pub fn pulses(&self) -> &[Arc<Pulse>] {
        self.running
            .as_ref()
            .map_or(&[], |running| running.crew.pulses())
    }

    /// How long packets have been forwarded.
    pub fn forwarding_for(&self) -> Option<Duration> {
        self.running.as_ref().map(|running| running.start.elapsed())
    }

    /// Drives the ports, prints what has happened to them, as dpdk-testpmd does, and answers
    /// telemetry's questions; to be called often. A port whose
    /// device goes away recovers while its cores go on; true if one can't.
    ///
    /// # Errors
    ///
    /// Events that can't be read or printed.
    pub fn tend(&mut self) -> Result<bool, Error> {
        let mut failed = false;
        for port in &mut self.ports {
            port.give_way();
            while let Some((happened, text)) = port.next_event()? {
                failed |= matches!(happened, PortEvent::RecoveryFailed { .. });
                say(&text)?;
            }
        }
        if let Some(telemetry) = &self.telemetry {
            let open = self
                .ports
                .iter()
                .filter_map(|p| Some((p.number, p.open()?)));
            observe::answer(telemetry, open);
        }
        Ok(failed)
    }

    /// Stops and closes every port, whatever happens to one of them; the first error counts.
    ///
    /// # Errors
    ///
    /// That of a port, or of the output.
    pub fn tear_down(mut self) -> Result<(), Error> {
        let mut first = Ok(());
        let mut keep = |port, result: Result<(), mana_pmd::Error>| {
            if let Err(error) = result {
                tracing::error!("port {port}: {error}");
                if first.is_ok() {
                    first = Err(Error::Port { port, error });
                }
            }
        };
        drop(self.telemetry);
        drop(self.pools);
        let mut output = say(&self.machine.losses());
        let mut open: Vec<_> = self
            .ports
            .iter_mut()
            .filter(|p| p.open().is_some())
            .collect();
        for port in &mut open {
            let number = port.number;
            keep(number, port.stop());
            output = output.and(say(&format!(
                "\nStopping port {number}...\nStopping ports...\nDone\n"
            )));
        }
        for port in open {
            let number = port.number;
            keep(number, port.close());
            output = output.and(say(&format!(
                "\nShutting down port {number}...\nClosing ports...\nPort {number} is closed\n\
                 Done\n"
            )));
        }
        output = output.and(say("\nBye...\n"));
        first.and(output)
    }
}
