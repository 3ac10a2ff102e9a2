//! A client of the echo service.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmd_api::{RxBurst, TxBurst};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;

use super::common::{self, Error};
use super::host::{self, Host};

/// Datagrams on their way at most.
const WINDOW: u64 = 32;
/// Those on their way this long after the last answer are lost.
const LOST: Duration = Duration::from_secs(1);
/// Bytes of the longest datagram; the shortest is one number.
const LONGEST: usize = 1400;

/// Sends `count` datagrams of different lengths to `server` until `stop` is set. Returns how many
/// came back, each as it was sent.
///
/// # Errors
/// An answer that nobody asked for.
pub(crate) fn ask<R: RxBurst, T: TxBurst>(
    host: &mut Host<R, T>,
    server: IpEndpoint,
    count: u64,
    stop: &AtomicBool,
) -> Result<u64, Error> {
    let mut socket = host::udp_socket();
    socket.bind(49152).map_err(|e| e.to_string())?;
    let handle = host.sockets.add(socket);
    let (mut sent, mut answered, mut lost) = (0_u64, 0_u64, 0_u64);
    let mut last = Instant::now();
    while answered + lost < count && !stop.load(Ordering::Relaxed) {
        let socket = host.sockets.get_mut::<udp::Socket>(handle);
        while sent < count && sent - answered - lost < WINDOW {
            if socket.send_slice(&datagram(sent), server).is_err() {
                break;
            }
            sent += 1;
        }
        if host.poll() {
            common::rest();
        }
        let socket = host.sockets.get_mut::<udp::Socket>(handle);
        while let Ok((bytes, _)) = socket.recv() {
            let number = bytes
                .first_chunk()
                .map_or(u64::MAX, |n| u64::from_be_bytes(*n));
            if number >= sent || bytes != datagram(number) {
                return Err(
                    format!("an answer of {} bytes that nobody asked for", bytes.len()).into(),
                );
            }
            answered += 1;
            // Late, and not lost after all.
            lost = lost.saturating_sub(1);
            last = Instant::now();
        }
        if last.elapsed() > LOST {
            lost = sent - answered;
            last = Instant::now();
        }
    }
    host.sockets.remove(handle);
    Ok(answered)
}

/// Its number, and then bytes that depend on it.
fn datagram(number: u64) -> Vec<u8> {
    let len = 8 + (number as usize * 7) % (LONGEST - 7);
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend((8..len).map(|at| (number as usize + at) as u8));
    bytes
}
