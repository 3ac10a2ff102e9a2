//! What the examples share: the command line, the machine, ports from start to stop.

#![allow(dead_code, reason = "each example uses its part")]

mod arguments;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mana_model::{DoorbellMode, Model, ModelConfig, Runner, parse_device};
use mana_pmd::{
    Port, PortConfig, Queues, RxQueueConfig, Selector, System, TxBurst, TxQueue, TxQueueConfig,
    buffers_needed,
};
use mana_verbs::LinuxSystem;
use pmd_api::{Batch, HEADROOM, Mbuf, Pool, PoolConfig, TxFlags, TxOffload};
use signal_hook::consts::{SIGINT, SIGTERM};

pub use arguments::{Arguments, Options};

/// Whatever goes wrong; it is printed, and the program ends with code 1.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Descriptors of every queue.
const DEPTH: u32 = 512;
/// Packets that are moved at a time.
pub const BURST: usize = 32;

/// Runs an example: 0 if all went well, 1 with an error, 2 for a command line that makes no sense, 3
/// if the model found that the driver broke a rule.
///
/// `stop` is set by Ctrl-C, SIGTERM and `--duration`.
pub fn main(
    options: &Options,
    run: fn(&Arguments, &Machine, stop: &AtomicBool) -> Result<(), Error>,
) -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1), options) {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{options}");
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{options}");
            return ExitCode::from(2);
        }
    };
    let done = stop_flag(arguments.duration).and_then(|stop| {
        let machine = Machine::new(&arguments)?;
        run(&arguments, &machine, &stop)?;
        Ok(machine.finish())
    });
    match done {
        Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
        Ok(findings) => {
            for finding in findings {
                eprintln!("the model found: {finding}");
            }
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn stop_flag(duration: Option<Duration>) -> Result<Arc<AtomicBool>, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // A second signal ends the program at once.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())?;
        signal_hook::flag::register(signal, stop.clone())?;
    }
    if let Some(duration) = duration {
        let stop = stop.clone();
        thread::spawn(move || {
            thread::sleep(duration);
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(stop)
}

/// What the example runs on: models, whose device thread runs as long as this lives, or this Linux.
pub struct Machine {
    system: Arc<dyn System>,
    selectors: Vec<Selector>,
    model: Option<(Model, Runner)>,
}

impl Machine {
    /// Builds it; nothing is opened yet.
    pub fn new(arguments: &Arguments) -> Result<Machine, Error> {
        if !arguments.selectors.is_empty() {
            let selectors = arguments.selectors.iter().map(|text| text.parse());
            return Ok(Machine {
                system: Arc::new(LinuxSystem::new()),
                selectors: selectors.collect::<Result<_, _>>()?,
                model: None,
            });
        }
        let devices = arguments.models.iter().map(|text| parse_device(text));
        let model = Model::new(ModelConfig {
            devices: devices.collect::<Result<_, _>>()?,
            doorbells: DoorbellMode::Polled,
        })?;
        Ok(Machine {
            system: model.system(),
            selectors: vec![Selector::default()],
            model: Some((model.clone(), model.run())),
        })
    }

    /// Opens the `N` ports that the example needs.
    pub fn open<const N: usize>(&self) -> Result<[Port; N], Error> {
        let mut ports = Vec::new();
        for selector in &self.selectors {
            ports.extend(Port::open(&self.system, selector)?);
        }
        for (id, port) in (0..).zip(&mut ports) {
            port.set_id(id);
        }
        let found = ports.len();
        ports.try_into().map_err(|_| {
            format!(
                "{found} ports, this example needs {N}: name them with -a PCI,mac=MAC,mac=MAC, or \
                 give a model --vdev=model0,ports={N},link=…"
            )
            .into()
        })
    }

    /// The model, if it is one.
    pub fn model(&self) -> Option<&Model> {
        self.model.as_ref().map(|(model, _)| model)
    }

    /// Stops the model's thread, if there is one, and returns what the model found wrong.
    pub fn finish(self) -> Vec<mana_model::Finding> {
        self.model.map_or_else(Vec::new, |(model, runner)| {
            drop(runner);
            model.findings()
        })
    }
}

/// A pool for so many ports, each of which may send what any of them received.
pub fn pool(arguments: &Arguments, ports: usize) -> Result<Pool, Error> {
    let defaults = PoolConfig::default();
    let depths = vec![DEPTH; ports * arguments.queues];
    Ok(Pool::new(PoolConfig {
        buffers: u32::try_from(buffers_needed(&depths, &depths, defaults.cache))?,
        data_room: arguments.mbuf_size.unwrap_or(2048 + HEADROOM as u32),
        ..defaults
    })?)
}

/// Starts a port with queues in both directions over one pool.
pub fn start(port: &mut Port, arguments: &Arguments, pool: &Pool) -> Result<Queues, Error> {
    start_with(port, arguments, pool, false)
}

/// The same, with or without receive interrupts.
pub fn start_with(
    port: &mut Port,
    arguments: &Arguments,
    pool: &Pool,
    rx_interrupts: bool,
) -> Result<Queues, Error> {
    let rx = RxQueueConfig {
        depth: DEPTH,
        pool: pool.clone(),
    };
    port.configure(PortConfig {
        rx: vec![rx; arguments.queues],
        tx: vec![TxQueueConfig { depth: DEPTH }; arguments.queues],
        rx_interrupts,
        ..PortConfig::default()
    })?;
    Ok(port.start()?)
}

/// Stops and closes a port, and prints what it counted.
pub fn stop(mut port: Port, queues: Queues) -> Result<(), Error> {
    port.stop(queues)?;
    let (mac, stats) = (port.info().mac, port.stats());
    println!(
        "port {mac}: received {} packets ({} bytes, {} errors), sent {} packets ({} bytes, {} errors)",
        stats.rx_packets,
        stats.rx_bytes,
        stats.rx_errors,
        stats.tx_packets,
        stats.tx_bytes,
        stats.tx_errors
    );
    port.close()?;
    Ok(())
}

/// Asks for the tag to be put in again that the device has taken off. It does not tell the
/// priority.
pub fn keep_tag(packet: &mut Mbuf) {
    if let Some(id) = packet.vlan() {
        let tag = TxOffload {
            flags: TxFlags::VLAN,
            vlan_tci: id,
            ..TxOffload::default()
        };
        packet.set_tx_offload(tag).expect("a tag alone makes sense");
    }
}

/// Gives other threads the CPU where there was nothing to do: on a model they are the device. An
/// application with cores of its own spins instead. (`yield_now` would give a whole time slice away.)
pub fn rest() {
    thread::sleep(Duration::from_micros(20));
}

/// Sends what is in the batch and waits until it has left; false if that takes more than a second, as
/// on a link whose other side is gone.
pub fn drain(tx: &mut TxQueue, batch: &mut Batch) -> bool {
    for _ in 0..1000 {
        drop(tx.tx_burst(batch));
        tx.reclaim();
        if batch.is_empty() && tx.in_flight() == 0 {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}
