//! A model in this process that others may steer.

use std::io::{self, PipeWriter};
use std::path::Path;
use std::thread::{self, JoinHandle};

use super::error::BindError;
use super::server::Server;
use super::socket::SocketFile;
use crate::Model;

/// A thread that serves a control socket; dropping it ends the thread and removes the socket.
#[derive(Debug)]
pub struct Service {
    /// Closing it ends the thread.
    stop: Option<PipeWriter>,
    thread: Option<JoinHandle<()>>,
    file: SocketFile,
}

/// Serves the model by a socket at `path`, on a thread of its own.
///
/// # Errors
///
/// Those of [`Server::bind`].
pub fn serve(model: &Model, path: &Path) -> Result<Service, BindError> {
    let server = Server::bind(path)?;
    let file = server.file();
    let failed = |cause| BindError::Io {
        path: path.to_owned(),
        cause,
    };
    let (stopped, stop) = io::pipe().map_err(failed)?;
    let model = model.clone();
    let thread = thread::Builder::new().name("mana-control".to_owned());
    let thread = thread.spawn(move || server.run(Some(&stopped), |line| super::run(&model, line)));
    Ok(Service {
        stop: Some(stop),
        thread: Some(thread.map_err(failed)?),
        file,
    })
}

impl Drop for Service {
    fn drop(&mut self) {
        self.file.remove();
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Its panic was printed where it happened.
            let _ended = thread.join();
        }
    }
}
