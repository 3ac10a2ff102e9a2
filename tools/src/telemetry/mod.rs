//! What a running program tells others about its ports: DPDK's telemetry protocol (`socket`) and
//! OpenMetrics over HTTP (`openmetrics`), both from the same `data`.
//!
//! Each has a thread of its own, bound to the main core. It reads no port: it asks, and the main
//! core, which owns the ports, answers when it next looks ([`Telemetry::answer`]). So forwarding
//! cores never meet it, and without a client nothing is counted together.

mod data;
mod http;
mod json;
mod openmetrics;
mod runtime;
mod serve;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;

use data::Board;
pub use data::{CoreData, PortData, Program};

/// Where it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Whether there is a socket of DPDK's protocol.
    pub socket: bool,
    /// `--file-prefix`, the folder of the socket.
    pub file_prefix: String,
    /// Where OpenMetrics are served.
    pub metrics: Option<SocketAddr>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            socket: true,
            file_prefix: "rte".to_owned(),
            metrics: None,
        }
    }
}

/// The servers of this process. Dropped, they end and the socket is gone.
pub struct Telemetry {
    board: Arc<Board>,
    _socket: Option<socket::Server>,
    metrics: Option<http::Server>,
}

impl Telemetry {
    /// Starts what `options` ask for. A socket that can't be had is a warning: nobody asked for it.
    ///
    /// # Errors
    ///
    /// If the address of the metrics, which somebody did ask for, can't be had.
    pub fn start(options: &Options, program: Program) -> std::io::Result<Telemetry> {
        let board = Arc::new(Board::new(program));
        let metrics = options
            .metrics
            .map(|address| http::Server::start(address, board.clone()));
        let socket = options.socket.then(|| {
            runtime::folder(&options.file_prefix)
                .and_then(|folder| socket::Server::start(&folder, board.clone()))
                .inspect_err(|error| tracing::warn!("no telemetry: {error}"))
        });
        Ok(Telemetry {
            metrics: metrics.transpose()?,
            _socket: socket.and_then(Result::ok),
            board,
        })
    }

    /// Where OpenMetrics are served, if they are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(http::Server::address)
    }

    /// For whoever owns the ports, every few milliseconds: if someone asked, tells what `ports` says.
    pub fn answer(&self, ports: impl FnOnce() -> Vec<PortData>) {
        self.board.answer(ports);
    }
}
