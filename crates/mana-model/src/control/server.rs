//! Answers the clients of a control socket, all of them on one thread.

use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use super::error::{BindError, ControlError};
use super::socket::SocketFile;

/// Clients at a time.
const CLIENTS: usize = 16;
/// Bytes of a line: twice those of the largest frame, and the words before it.
const LINE: usize = 256 * 1024;
/// How long a client may take to read its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A control socket.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: SocketFile,
    open: Arc<ServerFiles>,
}

/// The descriptors that a server has open, for a process that forks: its child has them, too, and
/// would keep the socket alive.
#[derive(Debug)]
pub struct ServerFiles([AtomicI32; CLIENTS + 1]);

impl ServerFiles {
    /// Their numbers.
    pub fn iter(&self) -> impl Iterator<Item = RawFd> {
        let numbers = self.0.iter().map(|fd| fd.load(Ordering::Relaxed));
        numbers.filter(|fd| *fd >= 0)
    }

    fn note(&self, from: i32, to: i32) {
        for slot in &self.0 {
            let noted = slot.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
            if noted.is_ok() {
                return;
            }
        }
    }
}

struct Client {
    stream: UnixStream,
    /// What has no line's end yet.
    pending: Vec<u8>,
    open: Arc<ServerFiles>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.open.note(self.stream.as_raw_fd(), -1);
    }
}

impl Server {
    /// Binds a socket of mode 0600 at `path`. One that a killed model has left is replaced.
    ///
    /// # Errors
    ///
    /// Says what is in the way, and what to do.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let (listener, file) = SocketFile::bind(path)?;
        let open = ServerFiles([const { AtomicI32::new(-1) }; CLIENTS + 1]);
        open.note(-1, listener.as_raw_fd());
        Ok(Self {
            listener,
            file,
            open: Arc::new(open),
        })
    }

    /// The socket's file, which the server leaves where it is.
    #[must_use]
    pub fn file(&self) -> SocketFile {
        self.file.clone()
    }

    /// What it has open.
    #[must_use]
    pub fn files(&self) -> Arc<ServerFiles> {
        Arc::clone(&self.open)
    }

    /// Answers each line of each client by `answer`, until the other end of `stop` is closed; for
    /// ever without one. Clients that send lines beyond 256 KiB, or don't read their answers for
    /// 10 seconds, lose their connection.
    pub fn run(
        self,
        stop: Option<&PipeReader>,
        mut answer: impl FnMut(&str) -> Result<String, ControlError>,
    ) {
        let mut clients: Vec<Client> = Vec::new();
        loop {
            let stop = stop.map_or(-1, AsRawFd::as_raw_fd);
            let streams = clients.iter().map(|client| client.stream.as_raw_fd());
            let mut polled: Vec<libc::pollfd> = [stop, self.listener.as_raw_fd()]
                .into_iter()
                .chain(streams)
                .map(|fd| libc::pollfd {
                    fd,
                    events: libc::POLLIN,
                    revents: 0,
                })
                .collect();
            // SAFETY: the array is live during the call and has that many entries; those with a
            // negative number are passed over.
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
            if polled[0].revents != 0 {
                return;
            }
            // From behind, so that numbers before stay right.
            for index in (0..clients.len()).rev() {
                if polled[2 + index].revents != 0 && !serve(&mut clients[index], &mut answer) {
                    clients.swap_remove(index);
                }
            }
            if polled[1].revents != 0 && !self.accept(&mut clients) {
                return;
            }
        }
    }

    /// Takes a client in; `false` once the socket is gone, closed by a process that closes what it
    /// does not know.
    fn accept(&self, clients: &mut Vec<Client>) -> bool {
        let mut stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Else it went away, or there are no descriptors: some may be freed meanwhile.
                std::thread::sleep(Duration::from_millis(1));
                let gone = [libc::EBADF, libc::ENOTSOCK, libc::EINVAL, libc::EOPNOTSUPP];
                return error
                    .raw_os_error()
                    .is_none_or(|errno| !gone.contains(&errno));
            }
        };
        if stream.set_write_timeout(Some(PATIENCE)).is_err() {
            return true;
        }
        if clients.len() == CLIENTS {
            // Who is refused learns it by the end of the connection, too.
            let _told =
                stream.write_all(b"error 11 16 clients are connected: wait for one to end\n");
            return true;
        }
        self.open.note(-1, stream.as_raw_fd());
        clients.push(Client {
            stream,
            pending: Vec::new(),
            open: Arc::clone(&self.open),
        });
        true
    }
}

/// Takes what the client sent and answers its whole lines; `false` once it is gone.
fn serve(
    client: &mut Client,
    answer: &mut impl FnMut(&str) -> Result<String, ControlError>,
) -> bool {
    let mut chunk = [0; 4096];
    let count = match client.stream.read(&mut chunk) {
        Ok(count) => count,
        Err(error) => return error.kind() == io::ErrorKind::Interrupted,
    };
    let begun = client.pending.len();
    client.pending.extend(&chunk[..count]);
    if count == 0 && begun > 0 {
        // The last line may lack its end.
        client.pending.push(b'\n');
    }
    let mut from = 0;
    let mut search = begun;
    while let Some(at) = client.pending[search..]
        .iter()
        .position(|byte| *byte == b'\n')
    {
        let line = String::from_utf8_lossy(&client.pending[from..search + at]);
        let framed = if line.trim().is_empty() {
            String::new()
        } else {
            frame(answer(&line))
        };
        if client.stream.write_all(framed.as_bytes()).is_err() {
            return false;
        }
        search += at + 1;
        from = search;
    }
    client.pending.drain(..from);
    if client.pending.len() > LINE {
        let _told = client.stream.write_all(b"error 90 the line is too long\n");
        return false;
    }
    count > 0
}

/// An answer with its last line.
fn frame(answer: Result<String, ControlError>) -> String {
    match answer {
        Ok(lines) => lines + "ok\n",
        Err(error) => {
            let why = error.why.replace(['\n', '\r'], " ");
            format!("error {} {why}\n", error.errno.0)
        }
    }
}
