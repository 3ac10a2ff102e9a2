//! DPDK's telemetry protocol, version 2: a SEQPACKET socket that greets, and answers each message with
//! one of JSON.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with,
};

use super::data::Board;
use super::json;
use super::serve::{Life, Thread};

const NAME: &str = "dpdk_telemetry.v2";
/// Clients at one time, as in DPDK.
const MAX_CLIENTS: usize = 10;
/// Bytes of a message, as in DPDK.
const MAX_MESSAGE: usize = 1023;
/// Processes with the same prefix.
const MAX_INSTANCES: u32 = 100;

/// A socket and the thread that serves it.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    _thread: Thread,
}

impl Server {
    /// Serves `folder`'s socket. Where another process does, `:1` comes behind the name and so on, as
    /// for DPDK's processes without shared memory (`dpdk-telemetry.py -i 1`); what a dead process
    /// left is replaced.
    ///
    /// # Errors
    ///
    /// If there can be no socket.
    pub fn start(folder: &Path, board: Arc<Board>) -> io::Result<Server> {
        let names = (0..MAX_INSTANCES).map(|instance| match instance {
            0 => NAME.to_owned(),
            _ => format!("{NAME}:{instance}"),
        });
        for path in names.map(|name| folder.join(name)) {
            let failed = |error: io::Error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            };
            let (board, cpu) = (board.clone(), board.cpu());
            let Some(listener) = claim(&path).map_err(failed)? else {
                continue;
            };
            let thread = Thread::start("telemetry", cpu, move |life| {
                serve(&life, &listener, &board)
            });
            let thread = thread.inspect_err(|_| drop(fs::remove_file(&path)));
            return Ok(Server {
                _thread: thread.map_err(failed)?,
                path,
            });
        }
        Err(io::Error::other(format!(
            "{} processes serve {} already; use --file-prefix",
            MAX_INSTANCES,
            folder.display()
        )))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
    }
}

fn open() -> rustix::io::Result<OwnedFd> {
    socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// The listening socket at `path`; none if somebody serves it.
fn claim(path: &Path) -> io::Result<Option<OwnedFd>> {
    let address = SocketAddrUnix::new(path)?;
    let socket = open()?;
    if let Err(error) = bind(&socket, &address) {
        if error != Errno::ADDRINUSE {
            return Err(error.into());
        }
        if !fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(io::Error::other("there is something else than a socket"));
        }
        // Only nobody's socket refuses; a busy or foreign one fails otherwise.
        if connect(&open()?, &address) != Err(Errno::CONNREFUSED) {
            return Ok(None);
        }
        fs::remove_file(path)?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => return Ok(None),
            bound => bound?,
        }
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listen(&socket, MAX_CLIENTS as i32)?;
    Ok(Some(socket))
}

fn serve(life: &Life, listener: &OwnedFd, board: &Board) {
    let mut clients: Vec<OwnedFd> = Vec::new();
    loop {
        let mut all: Vec<BorrowedFd<'_>> = clients.iter().map(AsFd::as_fd).collect();
        // Whoever comes when all places are taken waits for one.
        if clients.len() < MAX_CLIENTS {
            all.push(listener.as_fd());
        }
        let Some(ready) = life.wait(&all) else {
            return;
        };
        let comes = ready.get(clients.len()).copied().unwrap_or(false);
        let mut index = 0;
        clients.retain(|client| {
            index += 1;
            !ready[index - 1] || reply(client, board)
        });
        if !comes {
            continue;
        }
        match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(client) if tell(&client, &json::greeting()) => clients.push(client),
            Ok(_) => {}
            // Out of descriptors, say: it would be called again at once.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Answers a message; false if the client is gone.
fn reply(client: &OwnedFd, board: &Board) -> bool {
    let mut buffer = [0; MAX_MESSAGE];
    match recv(client, &mut buffer[..], RecvFlags::DONTWAIT) {
        Ok((_, 0)) => false,
        Ok((_, length)) => tell(
            client,
            &json::answer(&buffer[..length.min(MAX_MESSAGE)], board),
        ),
        Err(error) => error == Errno::INTR || error == Errno::AGAIN,
    }
}

/// A client that reads nothing keeps nobody waiting: it is let go.
fn tell(client: &OwnedFd, text: &str) -> bool {
    send(
        client,
        text.as_bytes(),
        SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::*;

    fn start(folder: &Path) -> Server {
        Server::start(folder, Arc::new(Board::new(Program::default()))).unwrap()
    }

    fn ask(path: &Path, message: &str) -> String {
        let client = open().unwrap();
        connect(&client, &SocketAddrUnix::new(path).unwrap()).unwrap();
        let mut buffer = vec![0; json::MAX_OUTPUT];
        recv(&client, &mut buffer[..], RecvFlags::empty()).unwrap();
        send(&client, message.as_bytes(), SendFlags::NOSIGNAL).unwrap();
        let (_, length) = recv(&client, &mut buffer[..], RecvFlags::empty()).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_second_process_gets_a_number_and_the_socket_goes_with_its_server() {
        let folder = tempfile::tempdir().unwrap();
        let (first, second) = (start(folder.path()), start(folder.path()));
        assert_eq!(first.path, folder.path().join("dpdk_telemetry.v2"));
        assert_eq!(second.path, folder.path().join("dpdk_telemetry.v2:1"));
        for server in [&first, &second] {
            assert_eq!(ask(&server.path, "/nope"), r#"{"/nope":null}"#);
            let mode = fs::metadata(&server.path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        drop((first, second));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_process_left_is_replaced_but_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        bind(open().unwrap(), &SocketAddrUnix::new(&path).unwrap()).unwrap();
        let server = start(folder.path());
        assert_eq!(server.path, path);
        drop(server);
        fs::write(&path, "mine").unwrap();
        let error = Server::start(folder.path(), Arc::new(Board::new(Program::default())));
        assert!(error.unwrap_err().to_string().contains("something else"));
        assert_eq!(fs::read(&path).unwrap(), b"mine");
    }

    #[test]
    fn ten_clients_are_served_and_the_eleventh_when_one_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let server = start(folder.path());
        let address = SocketAddrUnix::new(&server.path).unwrap();
        let mut clients: Vec<OwnedFd> = Vec::new();
        for _ in 0..=MAX_CLIENTS {
            let client = open().unwrap();
            connect(&client, &address).unwrap();
            clients.push(client);
        }
        let mut buffer = [0; 100];
        for client in &clients[..MAX_CLIENTS] {
            assert!(recv(client, &mut buffer[..], RecvFlags::empty()).unwrap().1 > 0);
        }
        let last = clients.pop().unwrap();
        let none = recv(&last, &mut buffer[..], RecvFlags::DONTWAIT);
        assert_eq!(none.unwrap_err(), Errno::AGAIN);
        clients.remove(0);
        assert!(recv(&last, &mut buffer[..], RecvFlags::empty()).unwrap().1 > 0);
    }
}
