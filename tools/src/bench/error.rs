//! Why nothing could be measured.

use std::io;

/// Each text names the cause and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0} (`mana bench --help` shows the options)")]
    Usage(String),
    /// This program could not be started again, for a stack.
    #[error("this program can't be started for a stack: {0}; start it by its full path")]
    Start(io::Error),
    /// A stack stopped.
    #[error("{stack}: {why}")]
    Stack {
        /// Which.
        stack: &'static str,
        /// What happened.
        why: String,
    },
    /// A file of the report.
    #[error("{}: {cause}", path.display())]
    Report {
        /// The file.
        path: std::path::PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// This machine has no such thing.
    #[error("{0}")]
    Unsupported(String),
    /// What a library said.
    #[error("{0}")]
    Failed(String),
    /// Standard input or output is gone.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl Error {
    /// Of any error whose text says what is wrong.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    /// 2 for a command line that could not be understood, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            _ => 1,
        }
    }
}
