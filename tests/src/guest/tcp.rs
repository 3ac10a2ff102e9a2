//! Bytes over TCP between two sides, each of them looked at.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::Side;

/// Versions of IP.
pub const V4: bool = false;
/// See [`V4`].
pub const V6: bool = true;

/// How long a stream may stand still.
const STILL: Duration = Duration::from_secs(60);

/// Sends `length` bytes each way at once between two sides, and compares all of them.
///
/// # Panics
///
/// If a byte is lost or wrong, or the stream stands still.
#[track_caller]
pub fn exchange(from: &Side, to: &Side, v6: bool, length: usize) {
    between(from, to, to.address(v6), length);
}

/// The same to an address of the second side.
#[track_caller]
pub fn between(from: &Side, to: &Side, address: IpAddr, length: usize) {
    let (sender, port) = mpsc::channel();
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            to.enter();
            let listener = TcpListener::bind(SocketAddr::new(address, 0)).expect("a listener");
            sender
                .send(listener.local_addr().expect("an address"))
                .expect("the other thread waits");
            let (stream, _) = listener.accept().expect("a connection");
            both_ways(stream, 1, 2, length);
        });
        let client = scope.spawn(move || {
            from.enter();
            let address = port.recv().expect("the other thread listens");
            let stream = TcpStream::connect_timeout(&address, STILL).expect("a connection");
            both_ways(stream, 2, 1, length);
        });
        for thread in [client, server] {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

fn both_ways(stream: TcpStream, send: u64, receive: u64, length: usize) {
    stream.set_read_timeout(Some(STILL)).expect("a limit");
    stream.set_write_timeout(Some(STILL)).expect("a limit");
    let mut out = stream.try_clone().expect("a second handle");
    thread::scope(|scope| {
        scope.spawn(move || {
            out.write_all(&bytes(send, length)).expect("all is sent");
            out.shutdown(std::net::Shutdown::Write)
                .expect("the end is sent");
        });
        let mut found = Vec::new();
        (&stream).read_to_end(&mut found).expect("all comes");
        let expected = bytes(receive, length);
        assert_eq!(found.len(), expected.len());
        let differs = found.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "the first byte that differs");
    });
}

/// Bytes that repeat at no distance that a device could mistake (xorshift).
fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}
