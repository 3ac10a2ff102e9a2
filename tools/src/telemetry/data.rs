//! What is told, in no format yet: the source of both.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mana_pmd::{Link, Port, PortInfo, QueueHistograms, Xstat};
use pmd_api::{PortStats, QueueStats};

/// How long a question waits for whoever owns the ports; what was told last is the answer then.
const PATIENCE: Duration = Duration::from_millis(500);

/// What stays the same as long as the program runs.
#[derive(Debug, Clone, Default)]
pub struct Program {
    /// Words left of `--`, the program's name first.
    pub eal_words: Vec<String>,
    /// Words right of `--`.
    pub app_words: Vec<String>,
    /// The cores, the main core first.
    pub cores: Vec<CoreData>,
}

/// A core of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoreData {
    /// Its number.
    pub id: u32,
    /// The CPU under it.
    pub cpu: u32,
    /// That CPU's NUMA node.
    pub socket: u32,
}

/// A port at one moment.
#[derive(Debug, Clone)]
pub struct PortData {
    /// Its number.
    pub number: u16,
    /// Who it is.
    pub info: PortInfo,
    /// Whether it is started.
    pub started: bool,
    /// Whether it was configured.
    pub configured: bool,
    /// Its link.
    pub link: Link,
    /// Bytes behind the Ethernet header.
    pub mtu: u32,
    /// Whether packets may arrive in several buffers.
    pub scattered: bool,
    /// Sums over its queues.
    pub stats: PortStats,
    /// By receive queue.
    pub rx: Vec<QueueStats>,
    /// By transmit queue.
    pub tx: Vec<QueueStats>,
    /// Everything by name.
    pub xstats: Vec<Xstat>,
    /// By receive queue, where they are asked for.
    pub rx_histograms: Vec<QueueHistograms>,
    /// By transmit queue, likewise.
    pub tx_histograms: Vec<QueueHistograms>,
    /// Bytes of its smallest receive buffer with headroom, 0 before it was configured.
    pub buffer: u32,
}

impl PortData {
    /// Reads a port.
    pub fn of(number: usize, port: &Port) -> PortData {
        let config = port.config();
        let rooms = config.map(|config| config.rx.iter().map(|queue| queue.pool.data_room()));
        let count = |queues: Option<usize>| queues.unwrap_or(0) as u16;
        let queues = (
            count(config.map(|config| config.rx.len())),
            count(config.map(|config| config.tx.len())),
        );
        let counted = |queues| if port.has_histograms() { queues } else { 0 };
        PortData {
            number: number as u16,
            info: port.info().clone(),
            started: port.is_started(),
            configured: config.is_some(),
            link: port.link(),
            mtu: port.mtu(),
            scattered: port.scatters(),
            stats: port.stats(),
            rx: (0..queues.0)
                .map(|queue| port.rx_queue_stats(queue))
                .collect(),
            tx: (0..queues.1)
                .map(|queue| port.tx_queue_stats(queue))
                .collect(),
            xstats: port.xstats(),
            rx_histograms: (0..counted(queues.0))
                .map(|queue| port.rx_histograms(queue))
                .collect(),
            tx_histograms: (0..counted(queues.1))
                .map(|queue| port.tx_histograms(queue))
                .collect(),
            buffer: rooms.and_then(Iterator::min).unwrap_or(0),
        }
    }

    /// The name that DPDK gives the same port.
    pub fn name(&self) -> String {
        format!("{}_port{}", self.info.pci, self.info.port)
    }
}

/// Where those who ask and the one who answers meet.
#[derive(Debug)]
pub struct Board {
    /// What stays.
    pub program: Program,
    state: Mutex<State>,
    told: Condvar,
}

#[derive(Debug, Default)]
struct State {
    wanted: bool,
    answers: u64,
    ports: Vec<PortData>,
}

impl Board {
    /// Without ports until they are told.
    pub fn new(program: Program) -> Board {
        // The first answer comes without a question, for those who ask when nobody can answer.
        let state = State {
            wanted: true,
            ..State::default()
        };
        Board {
            program,
            state: Mutex::new(state),
            told: Condvar::new(),
        }
    }

    /// The CPU of the main core.
    pub fn cpu(&self) -> Option<u32> {
        self.program.cores.first().map(|core| core.cpu)
    }

    /// The ports as they are now, or as they were last if their owner is busy.
    pub fn ports(&self) -> Vec<PortData> {
        let mut state = self.state();
        state.wanted = true;
        let before = state.answers;
        let waited = self
            .told
            .wait_timeout_while(state, PATIENCE, |state| state.answers == before);
        waited
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .ports
            .clone()
    }

    /// Answers, if someone asked.
    pub fn answer(&self, ports: impl FnOnce() -> Vec<PortData>) {
        let mut state = self.state();
        if std::mem::take(&mut state.wanted) {
            state.ports = ports();
            state.answers += 1;
            self.told.notify_all();
        }
    }

    /// A panic elsewhere leaves at worst an old answer.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use dma_memory::HugePages;
    use mana_model::{DoorbellMode, Model, ModelConfig, parse_device};
    use mana_pmd::{PortConfig, RxQueueConfig, Selector, TxQueueConfig};
    use pmd_api::{Pool, PoolConfig};

    use super::*;

    /// A port of the model with two queues each way, read while it is started.
    pub fn port() -> PortData {
        let model = Model::new(ModelConfig {
            devices: vec![parse_device("model0").unwrap()],
            doorbells: DoorbellMode::Polled,
        })
        .unwrap();
        let _device = model.run();
        let mut config = PoolConfig {
            buffers: 4096,
            ..PoolConfig::default()
        };
        config.memory.huge = HugePages::Never;
        let pool = Pool::new(config).unwrap();
        let mut port = Port::open(&model.system(), &Selector::default())
            .unwrap()
            .remove(0);
        let rx = || RxQueueConfig {
            depth: 256,
            pool: pool.clone(),
        };
        port.configure(PortConfig {
            rx: vec![rx(), rx()],
            tx: vec![TxQueueConfig { depth: 256 }, TxQueueConfig { depth: 256 }],
            ..PortConfig::default()
        })
        .unwrap();
        let queues = port.start().unwrap();
        let data = PortData::of(0, &port);
        port.stop(queues).unwrap();
        data
    }

    #[test]
    fn the_owner_of_the_ports_is_asked_only_when_someone_wants_to_know() {
        let board = Arc::new(Board::new(Program::default()));
        let counted = AtomicU32::new(0);
        let port = port();
        let answer = || {
            board.answer(|| {
                counted.fetch_add(1, Relaxed);
                vec![port.clone()]
            });
        };
        answer();
        answer();
        assert_eq!(counted.load(Relaxed), 1, "the first answer and no other");
        let asker = std::thread::spawn({
            let board = board.clone();
            move || board.ports().len()
        });
        while !asker.is_finished() {
            answer();
        }
        assert_eq!((asker.join().unwrap(), counted.load(Relaxed)), (1, 2));
    }

    #[test]
    fn an_owner_who_is_busy_leaves_what_was_told_last() {
        let board = Board::new(Program::default());
        board.answer(|| vec![port()]);
        assert_eq!(board.ports().len(), 1);
    }
}
