//! Why suites could not be run at all.

use std::io;

/// Each text names the cause and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line.
    #[error("{0} (`mana conformance --help` shows the options)")]
    Usage(String),
    /// A model that can't be.
    #[error("--vdev: {0}")]
    Model(#[from] mana_model::ModelError),
    /// This program could not be started again, for a suite of its own.
    #[error("this program can't be started for a suite: {0}; start it by its full path")]
    Start(io::Error),
    /// The kernel's rules could not be recorded.
    #[error("--rulebook: {0}")]
    Rulebook(#[from] mana_model::rulebook::RulebookError),
    /// The port of `--rulebook` can't be found.
    #[error("--rulebook: {0}")]
    Device(#[from] mana_pmd::Error),
    /// The model's socket can't be used.
    #[error("--control: {0}")]
    Control(#[from] mana_model::control::ClientError),
    /// Standard output is gone.
    #[error("the results can't be written: {0}")]
    Output(#[from] io::Error),
}

impl Error {
    /// 2 for a command line that could not be understood, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::Model(_) => 2,
            _ => 1,
        }
    }
}
