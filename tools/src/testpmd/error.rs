//! Why a run failed, and the exit code that says so.

use super::getopt::UsageError;

/// Why a run of testpmd failed. Each text names the cause and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The main core is not among the cores.
    #[error("--main-lcore={main} is not among the cores {cores}: add it to -l")]
    MainCore {
        /// The main core asked for.
        main: u32,
        /// The cores of the run.
        cores: String,
    },
    /// Only one core was given.
    #[error(
        "core {main} is the main core, which does not forward, and there is no other: \
         give at least two cores, as in -l {main}-{}", .main + 1
    )]
    NoForwardingCore {
        /// The only core.
        main: u32,
    },
    /// More forwarding cores than there are.
    #[error(
        "--nb-cores={asked}, but only {workers} cores forward (one is the main core): \
         give more by -l, or fewer by --nb-cores"
    )]
    TooManyCores {
        /// What `--nb-cores` says.
        asked: usize,
        /// Cores besides the main core.
        workers: usize,
    },
    /// Cores that do not exist.
    #[error("-l names cores that this machine lacks: {missing}; it has {existing}")]
    MissingCores {
        /// Those missing.
        missing: String,
        /// Those that exist.
        existing: String,
    },
    /// A thread could not be bound to its core.
    #[error(
        "can't bind a thread to {core} core: {errno}; \
         if this is a container, use cores of its CPU set (grep Cpus_allowed_list /proc/self/status)"
    )]
    Affinity {
        /// Which core.
        core: String,
        /// What the kernel answered.
        errno: std::io::Error,
    },
    /// The address of `--metrics` can't be had.
    #[error(
        "can't serve --metrics={address}: {cause}; use another port, or 0 for any that is free"
    )]
    Metrics {
        /// What was asked for.
        address: std::net::SocketAddr,
        /// What the kernel answered.
        cause: std::io::Error,
    },
    /// A thread could not be started.
    #[error("can't start a forwarding thread: {0}; raise the limit on threads (ulimit -u)")]
    Thread(std::io::Error),
    /// A forwarding core that has nothing to sleep on.
    #[error("a forwarding core can't sleep: {0}; raise the limit on open files (ulimit -n)")]
    Sleep(mana_pmd::Error),
    /// Two models describe the same machine, or one is wrong.
    #[error("model: {0}")]
    Model(#[from] mana_model::ModelError),
    /// A device that can't be found, understood or opened.
    #[error(transparent)]
    Device(mana_pmd::Error),
    /// A machine without MANA, and no model asked for.
    #[error("{0}; without one a model runs on any machine: --vdev=model0")]
    NoHardware(mana_pmd::Error),
    /// Every port is left out by `-b`.
    #[error("no port is left to forward on: -b leaves out {blocked}; devices found:{found}")]
    NoPorts {
        /// What `-b` says.
        blocked: String,
        /// All candidates, each on a line with what it lacks.
        found: String,
    },
    /// A port refused something.
    #[error("port {port}: {error}")]
    Port {
        /// Its number.
        port: usize,
        /// Why.
        error: mana_pmd::Error,
    },
    /// A pool could not be created.
    #[error("mbuf pool {name} of {mbufs} mbufs: {error}")]
    Pool {
        /// Its name.
        name: String,
        /// Its size.
        mbufs: u32,
        /// Why.
        error: pmd_api::PoolError,
    },
    /// A packet shape the device does not take.
    #[error("--txpkts asks for {segments} segments a packet, port {port} takes {max}")]
    TooManySegments {
        /// Asked for.
        segments: usize,
        /// What the port takes.
        max: usize,
        /// The port.
        port: usize,
    },
    /// A command file that can't be read, without a prompt.
    #[error(
        "--cmdline-file={}: {cause}: forwarding does not begin without its commands; name a file \
         that can be read, or leave the option out", .path.display()
    )]
    CommandFile {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// A signal handler could not be installed.
    #[error("can't handle signals: {0}")]
    Signal(std::io::Error),
    /// Standard output could not be written.
    #[error("standard output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The check of `mana doctor` that explains it.
    pub fn check(&self) -> Option<&'static str> {
        match self {
            Error::Device(error) | Error::NoHardware(error) | Error::Port { error, .. } => {
                error.check()
            }
            _ => None,
        }
    }

    /// 2 for a command line that could not be understood, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            _ => 1,
        }
    }
}
