//! Why a function can't be served.

use std::io;

use mana_model::ModelError;
use mana_model::control::BindError;

/// Why a function can't be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device can't be.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The socket can't be had.
    #[error(transparent)]
    Socket(#[from] BindError),
    /// The system has no room for threads or descriptors.
    #[error("the function can't be served: {0}: end other programs, or raise the limits (ulimit)")]
    System(#[from] io::Error),
}
