//! `GET /metrics` over plain HTTP/1.1, one request a connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::data::Board;
use super::openmetrics::{self, Format};
use super::serve::{Life, Thread};

/// How long a client may take for its request, and for each piece of the answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of a request.
const MAX_REQUEST: usize = 8 << 10;

/// A listener and the thread that serves it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    _thread: Thread,
}

impl Server {
    /// Serves `address`.
    ///
    /// # Errors
    ///
    /// If it can't be had.
    pub fn start(address: SocketAddr, board: Arc<Board>) -> io::Result<Server> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let (address, cpu) = (listener.local_addr()?, board.cpu());
        let thread = Thread::start("metrics", cpu, move |life| {
            serve(&life, &listener, &board);
        })?;
        Ok(Server {
            address,
            _thread: thread,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(life: &Life, listener: &TcpListener, board: &Board) {
    while life.wait(&[listener.as_fd()]).is_some() {
        let served = match listener.accept() {
            Ok((client, _)) => reply(client, board),
            Err(error) => {
                // Out of descriptors, say: it would be called again at once.
                std::thread::sleep(Duration::from_millis(100));
                Err(error)
            }
        };
        if let Err(error) = served {
            tracing::debug!("a client of the metrics was not served: {error}");
        }
    }
}

fn reply(mut client: TcpStream, board: &Board) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_write_timeout(Some(PATIENCE))?;
    let head = head(&mut client)?;
    client.write_all(response(&head, board).as_bytes())
}

/// The request up to its empty line.
fn head(client: &mut TcpStream) -> io::Result<String> {
    let end = Instant::now() + PATIENCE;
    let mut request = Vec::new();
    let mut buffer = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        let left = end.saturating_duration_since(Instant::now());
        client.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match client.read(&mut buffer)? {
            0 => break,
            length => request.extend_from_slice(&buffer[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}

fn response(head: &str, board: &Board) -> String {
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let path = target.split('?').next().unwrap_or_default();
    let plain = "text/plain; charset=utf-8";
    let (status, kind, body) = match (method, path) {
        ("GET" | "HEAD", "/metrics") => {
            let accepts = lines.any(|line| {
                let line = line.to_ascii_lowercase();
                line.starts_with("accept:") && line.contains("application/openmetrics-text")
            });
            let format = if accepts {
                Format::OpenMetrics
            } else {
                Format::Prometheus
            };
            (
                "200 OK",
                format.content_type(),
                openmetrics::text(&board.ports(), format),
            )
        }
        ("GET" | "HEAD", _) => (
            "404 Not Found",
            plain,
            "There is only /metrics.\n".to_owned(),
        ),
        _ => (
            "405 Method Not Allowed\r\nAllow: GET, HEAD",
            plain,
            "GET /metrics\n".to_owned(),
        ),
    };
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::super::Program;
    use super::super::data::tests::port;
    use super::*;

    #[test]
    fn metrics_are_served_in_the_format_that_is_accepted_and_nothing_else_is() {
        let board = Arc::new(Board::new(Program::default()));
        board.answer(|| vec![port()]);
        let server = Server::start(([127, 0, 0, 1], 0).into(), board).unwrap();
        let get = |request: &str| {
            let mut client = TcpStream::connect(server.address()).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text
        };
        let plain = get("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(plain.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
        let (head, body) = plain.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())));
        let open = get("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n");
        assert!(open.ends_with("\n# EOF\n") && open.contains("version=1.0.0"));
        assert!(get("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        assert!(get("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
        assert!(get("HEAD /metrics HTTP/1.1\r\n\r\n").ends_with("\r\n\r\n"));
        // Silent, it keeps the next one waiting for a second and no longer.
        let _silent = TcpStream::connect(server.address()).unwrap();
        assert!(get("GET /metrics HTTP/1.1\r\n\r\n").contains("mana_port_info"));
    }
}
