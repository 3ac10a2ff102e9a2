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
    /// A physical function: its registers and what it alone is asked for are not had.
    #[error(
        "pf=on: a machine is given a virtual function only: leave it out, or use the model in this process"
    )]
    Physical,
    /// The system has no room for threads or descriptors.
    #[error("the function can't be served: {0}: end other programs, or raise the limits (ulimit)")]
    System(#[from] io::Error),
}
