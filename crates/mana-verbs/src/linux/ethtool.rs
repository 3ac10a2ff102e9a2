//! Statistics of a netdev by name: the calls behind `ethtool -S` (linux/ethtool.h).

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use uverbs_abi::Errno;

use crate::fd::last_errno;

const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const GET_SET_INFO: u32 = 0x37;
/// `ETH_SS_STATS`, the set of names of statistics.
const STATISTICS: u32 = 1;
/// Bytes of a name, `ETH_GSTRING_LEN`.
const NAME: usize = 32;
/// More statistics than any driver has: mana.ko has some hundred at most.
const MOST: usize = 32_768;
/// Room for them. The calls that read them take no size of the buffer.
const ROOM: usize = 2 * MOST;

/// `struct ifreq` with the pointer of its union.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut u64,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

/// Names and values, in the driver's order; empty for a driver without statistics.
pub(super) fn statistics(netdev: &str) -> Result<Vec<(String, u64)>, Errno> {
    // Any socket of this network namespace serves; it is never bound.
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(|error| {
        let errno = error.raw_os_error();
        errno.map_or(Errno::EIO, Errno)
    })?;
    let count = match set_size(&socket, netdev) {
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        count => count?,
    };
    if count > MOST {
        return Err(Errno::E2BIG);
    }
    let names = ask(
        &socket,
        netdev,
        GET_STRINGS,
        STATISTICS,
        ROOM * NAME / 8 + 2,
    )?;
    // Newer kernels give values only to who knows how many there are.
    let values = ask(&socket, netdev, GET_STATISTICS, count as u32, ROOM + 2)?;
    let told = |words: &[u64], at: usize| (words[at / 2] >> (32 * (at % 2))) as u32 as usize;
    // In 32-bit words: command, set, count, names; command, count, values. Queues may have come or
    // gone between the two.
    if told(&names, 2) != told(&values, 1) {
        return Err(Errno::EAGAIN);
    }
    let count = told(&values, 1).min(ROOM);
    let words = names.iter().take(count * NAME / 8 + 2);
    let bytes: Vec<u8> = words.flat_map(|word| word.to_ne_bytes()).collect();
    let named = bytes[12..].chunks_exact(NAME).map(|name| {
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&name[..end]).into_owned()
    });
    Ok(named.zip(values[1..].iter().copied()).take(count).collect())
}

/// Number of statistics.
fn set_size(socket: &UdpSocket, netdev: &str) -> Result<usize, Errno> {
    // struct ethtool_sset_info: command, reserved, 64-bit mask, then a size for each bit.
    let mut words = vec![0_u64; 4];
    words[0] = u64::from(GET_SET_INFO);
    words[1] = 1 << STATISTICS;
    call(socket, netdev, &mut words)?;
    match words[1] {
        0 => Err(Errno::EOPNOTSUPP),
        _ => Ok(words[2] as u32 as usize),
    }
}

/// One of the two calls whose buffers begin with two 32-bit words that are given.
fn ask(
    socket: &UdpSocket,
    netdev: &str,
    command: u32,
    second: u32,
    words: usize,
) -> Result<Vec<u64>, Errno> {
    let mut buffer = vec![0_u64; words];
    buffer[0] = u64::from(command) | u64::from(second) << 32;
    call(socket, netdev, &mut buffer)?;
    Ok(buffer)
}

/// SIOCETHTOOL over a buffer.
fn call(socket: &UdpSocket, netdev: &str, buffer: &mut [u64]) -> Result<(), Errno> {
    if netdev.len() >= libc::IFNAMSIZ {
        return Err(Errno::ENODEV);
    }
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: buffer.as_mut_ptr(),
        rest: [0; 2],
    };
    request.name[..netdev.len()].copy_from_slice(netdev.as_bytes());
    // SAFETY: the request is a live `struct ifreq` whose pointer is that of a buffer which is
    // borrowed exclusively. The kernel writes one size there, or as many names or values as the
    // netdev's driver has at that moment: at most MOST when it was asked right before, and there is
    // room for twice as many. The kernel, which this trusts as every system call does, would have to
    // grow a driver by more than 32 768 statistics between two calls.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) };
    if result < 0 {
        return Err(last_errno());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_told_as_such() {
        assert_eq!(statistics("mana-none0"), Err(Errno::ENODEV));
        assert_eq!(statistics("a-name-that-is-too-long"), Err(Errno::ENODEV));
    }

    #[test]
    fn a_driver_without_statistics_has_none() {
        assert_eq!(statistics("lo"), Ok(Vec::new()));
    }
}
