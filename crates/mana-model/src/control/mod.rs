//! A model steered and read by text, from outside its process and from inside.
//!
//! A [`Command`] is a line, such as `inject rx-truncated 0 1`; [`run`] runs it over a [`Model`] and
//! answers with lines. [`Server`] does so for the clients of a Unix socket: each line that a client
//! sends is answered by the answer's lines and a last one, which is `ok`, or `error` with a number of
//! the kernel's and the reason. So `nc -U` is enough to talk to it, and [`Client`] has the methods of
//! [`Model`] for programs.
//!
//! ```
//! use mana_model::control::{self, Client};
//! use mana_model::{DoorbellMode, Fault, Model, ModelConfig, parse_device};
//!
//! let model = Model::new(ModelConfig {
//!     devices: vec![parse_device("model0,link=sink")?],
//!     doorbells: DoorbellMode::Stepped,
//! })?;
//! assert_eq!(control::run(&model, "drained")?, "drained yes\n");
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("control");
//! let service = control::serve(&model, &path)?;
//! let client = Client::connect(&path)?;
//! client.inject(Fault::RxTruncated { port: 0, nth: 1 })?;
//! client.port(0).deliver(&[0xFF; 60])?;
//! client.step()?;
//! assert_eq!(client.port(0).counters()?.rx_disabled, 1);
//! # drop(service);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod answer;
mod client;
mod command;
mod error;
mod hardware;
mod preloaded;
mod run;
mod server;
mod service;
mod socket;
#[cfg(test)]
mod tests;

pub use answer::PortState;
pub use client::{Client, PortClient};
pub use command::{Command, HELP};
pub use error::{BindError, ClientError, ControlError};
pub use hardware::run_on_hardware;
pub use preloaded::Preloaded;
pub use run::run;
pub use server::{Server, ServerFiles};
pub use service::{Service, serve};
pub use socket::SocketFile;

#[cfg(doc)]
use crate::Model;
