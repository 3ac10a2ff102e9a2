//! Why a program could not be run on the model.

use std::io;
use std::path::PathBuf;

use mana_model::control::{BindError, ClientError};

/// Each text names the cause and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0} (`mana model --help` shows the options)")]
    Usage(String),
    /// A device that can't be.
    #[error("model: {0}")]
    Model(#[from] mana_model::ModelError),
    /// The wrong machine.
    #[error(
        "programs can be run on the model on x86-64 Linux only: doorbells are trapped by decoding \
         x86-64 stores; on this machine use the model in process, `mana testpmd --vdev=model0`"
    )]
    Architecture,
    /// No such program.
    #[error("{program}: {cause}; give its path, or a name that is in PATH")]
    Program {
        /// As it was given.
        program: String,
        /// What the system answered.
        cause: io::Error,
    },
    /// A program that can't be preloaded.
    #[error("{} {why}", .program.display())]
    Unsuitable {
        /// Its path.
        program: PathBuf,
        /// What is in the way, and what to do.
        why: &'static str,
    },
    /// A script whose interpreter can't be preloaded, or is not there.
    #[error("{}: its interpreter, named in its first line: {cause}", .script.display())]
    Interpreter {
        /// Its path.
        script: PathBuf,
        /// What is wrong with the interpreter.
        cause: Box<Error>,
    },
    /// The library is nowhere.
    #[error(
        "the library that is preloaded, {name}, is not in {looked}: build it with `cargo build -p \
         mana-model-preload`, with `--release` if this program was, or name it by MANA_PRELOAD"
    )]
    NoPreload {
        /// Its file name.
        name: &'static str,
        /// Where it was looked for.
        looked: String,
    },
    /// The library's path can't be told to the loader.
    #[error(
        "{}: LD_PRELOAD can't name a path with a blank, a colon or a dollar sign, and that of TMPDIR \
         (now {}) has one, too: name a folder there that has none",
        .library.display(), std::env::temp_dir().display()
    )]
    Preloadable {
        /// Its path.
        library: PathBuf,
    },
    /// The tree could not be written.
    #[error(
        "{}: {cause}; the model's sysfs is written below TMPDIR (now {}): name a folder there in \
         which this user can write", .path.display(), std::env::temp_dir().display()
    )]
    Tree {
        /// What was being made.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The socket by which the model shall be steered.
    #[error("--control: {0}")]
    Control(#[from] BindError),
    /// A function that can't be served.
    #[error(transparent)]
    Serve(#[from] mana_model_pci::Error),
    /// The file for the log.
    #[error("--log={}: {cause}: name a file in a folder in which this user can write", .path.display())]
    Log {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The system has no room for another descriptor or thread.
    #[error("{0}: end other programs, or raise the limits (ulimit)")]
    System(io::Error),
    /// The model could not be asked, or did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The program could not be started or waited for.
    #[error("{}: {cause}{}", .program.display(), start_hint(.cause))]
    Start {
        /// Its path.
        program: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The program ran, but without the library.
    #[error(
        "{}: the preloaded library was not loaded into it, so it ran on this machine and not on the \
         model: only programs that the GNU C library's loader starts, and that get no privileges by \
         being started, can be run on the model", .program.display()
    )]
    NotLoaded {
        /// Its path.
        program: PathBuf,
    },
}

/// What mends a start that failed.
fn start_hint(cause: &io::Error) -> &'static str {
    match cause.kind() {
        // The program itself was looked at before.
        io::ErrorKind::NotFound => {
            "; the dynamic loader that it names is not there (`file` shows it): install the C library \
             that it was built for, or run it by its own loader"
        }
        io::ErrorKind::PermissionDenied => {
            "; this user may not run it, or it is on a file system mounted noexec"
        }
        _ => "",
    }
}

impl Error {
    /// 2 for a command line that could not be understood, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
