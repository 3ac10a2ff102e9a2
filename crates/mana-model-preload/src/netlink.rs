//! NETLINK_RDMA as far as libibverbs asks it (reference/uverbs-boundary.md §2 "Netlink"): which
//! devices there are, and the node and driver id of each.
//!
//! The program's socket is one end of a pair of local datagram sockets, so that reading, polling
//! and options work by themselves; what it sends is answered at once into the other end.

use std::ffi::{c_int, c_void};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use mana_model::Model;
use uverbs_abi::ids::NODE_TYPE_CA;
use uverbs_abi::ids::nldev::{
    ATTR_CHARDEV_NAME, ATTR_CHARDEV_TYPE, ATTR_DEV_INDEX, ATTR_DEV_NAME, ATTR_UVERBS_DRIVER_ID,
    CLIENT, CMD_GET, CMD_GET_CHARDEV, NETLINK_RDMA,
};

use crate::files::inside;
use crate::state::{self, Open};
use crate::sys;

/// `RDMA_NLDEV_CMD_SYS_GET`.
const CMD_SYS_GET: u16 = 6;
const ATTR_PORT_INDEX: u16 = 3;
const ATTR_NODE_GUID: u16 = 6;
const ATTR_NODE_TYPE: u16 = 14;
const ATTR_CHARDEV_ABI: u16 = 71;
const ATTR_CHARDEV: u16 = 72;
/// Tells libibverbs that it need not keep registered memory from being copied by a fork.
const ATTR_COPY_ON_FORK: u16 = 93;
/// `NLM_F_MULTI`, `NLM_F_DUMP`.
const F_MULTI: u16 = 2;
const F_DUMP: u16 = 0x300;
/// `NLMSG_ERROR`, `NLMSG_DONE`.
const KIND_ERROR: u16 = 2;
const KIND_DONE: u16 = 3;
/// Bits of an attribute's type that are its number.
const TYPE_MASK: u16 = 0x3fff;
/// Bytes of `nlmsghdr` and `nlattr`.
const HEADER: usize = 16;
const ATTR_HEADER: usize = 4;
/// `dev_t` 1:3, the stand-in behind an open node.
const STAND_IN: u64 = 1 << 8 | 3;
/// The only ABI version of mana_ib.
const ABI: u64 = 1;
const SOL_NETLINK: c_int = 270;

/// What netlink tells of one ib device.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    /// Its number, never used twice.
    index: u32,
    name: String,
    node: String,
    ports: u32,
    driver_id: Option<u32>,
}

fn devices(model: &Model) -> Vec<Device> {
    let system = model.system();
    let found = system.ib_devices().unwrap_or_default();
    let device = |device: &uverbs_abi::IbDevice| Device {
        // The kernel counts them by themselves; here the node's number is unique, too.
        index: device
            .node
            .trim_start_matches("uverbs")
            .parse()
            .unwrap_or(0),
        name: device.name.clone(),
        node: device.node.clone(),
        ports: system.netdevs(device).map_or(1, |ports| ports.len() as u32),
        driver_id: device.driver_id,
    };
    found.iter().map(device).collect()
}

/// The datagrams that answer the requests in `sent`.
fn answers(sent: &[u8], devices: &[Device]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    let mut rest = sent;
    while let Some(length) = u32_at(rest, 0)
        && let Some(body) = rest.get(HEADER..length as usize)
        && let (Some(kind), Some(flags), Some(sequence)) =
            (u16_at(rest, 4), u16_at(rest, 6), u32_at(rest, 8))
    {
        datagrams.push(answer(kind, flags, sequence, body, devices));
        let next = (length as usize).next_multiple_of(4);
        rest = rest.get(next..).unwrap_or_default();
    }
    datagrams
}

fn answer(kind: u16, flags: u16, sequence: u32, body: &[u8], devices: &[Device]) -> Vec<u8> {
    let mut datagram = Vec::new();
    let asked = number(body, ATTR_DEV_INDEX)
        .and_then(|index| devices.iter().find(|device| device.index == index));
    match (kind >> 10 == CLIENT, kind & 0x3FF) {
        (true, CMD_SYS_GET) => {
            let mut reply = Vec::new();
            push(&mut reply, ATTR_COPY_ON_FORK, &[1]);
            message(&mut datagram, kind, 0, sequence, &reply);
        }
        (true, CMD_GET) if flags & F_DUMP != 0 => {
            for device in devices {
                message(&mut datagram, kind, F_MULTI, sequence, &described(device));
            }
            message(&mut datagram, KIND_DONE, F_MULTI, sequence, &[0; 4]);
        }
        (true, CMD_GET) => match asked {
            Some(device) => {
                message(&mut datagram, kind, 0, sequence, &described(device));
            }
            None => error(&mut datagram, sequence, libc::ENODEV),
        },
        (true, CMD_GET_CHARDEV) => {
            let uverbs = attribute(body, ATTR_CHARDEV_TYPE)
                .is_some_and(|text| text.strip_suffix(b"\0").unwrap_or(text) == b"uverbs");
            match asked {
                Some(device) if uverbs => {
                    let mut reply = Vec::new();
                    push(&mut reply, ATTR_CHARDEV, &STAND_IN.to_ne_bytes());
                    push(&mut reply, ATTR_CHARDEV_ABI, &ABI.to_ne_bytes());
                    push_text(&mut reply, ATTR_CHARDEV_NAME, &device.node);
                    if let Some(id) = device.driver_id {
                        push(&mut reply, ATTR_UVERBS_DRIVER_ID, &id.to_ne_bytes());
                    }
                    message(&mut datagram, kind, 0, sequence, &reply);
                }
                _ => error(&mut datagram, sequence, libc::ENODEV),
            }
        }
        _ => error(&mut datagram, sequence, libc::EOPNOTSUPP),
    }
    datagram
}

fn described(device: &Device) -> Vec<u8> {
    let mut reply = Vec::new();
    push(&mut reply, ATTR_DEV_INDEX, &device.index.to_ne_bytes());
    push_text(&mut reply, ATTR_DEV_NAME, &device.name);
    push(&mut reply, ATTR_PORT_INDEX, &device.ports.to_ne_bytes());
    // A number of its own that is not 0.
    let guid = 0x000D_3AFF_FE00_0000 + u64::from(device.index) + 1;
    push(&mut reply, ATTR_NODE_GUID, &guid.to_ne_bytes());
    push(&mut reply, ATTR_NODE_TYPE, &[NODE_TYPE_CA]);
    reply
}

fn message(to: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, body: &[u8]) {
    to.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(flags.to_ne_bytes());
    to.extend(sequence.to_ne_bytes());
    // The kernel fills in the port of the socket, which is the process's id.
    to.extend((sys::process() as u32).to_ne_bytes());
    to.extend(body);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn error(to: &mut Vec<u8>, sequence: u32, errno: c_int) {
    let mut body = (-errno).to_ne_bytes().to_vec();
    // The header of the request follows; libnl reads the number only.
    body.extend([0; HEADER]);
    message(to, KIND_ERROR, 0, sequence, &body);
}

fn push(to: &mut Vec<u8>, id: u16, value: &[u8]) {
    to.extend(((ATTR_HEADER + value.len()) as u16).to_ne_bytes());
    to.extend(id.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn push_text(to: &mut Vec<u8>, id: u16, text: &str) {
    push(to, id, &[text.as_bytes(), b"\0"].concat());
}

fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = body;
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let id = u16_at(rest, 2)? & TYPE_MASK;
        let value = rest.get(ATTR_HEADER..length)?;
        if id == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

fn number(body: &[u8], wanted: u16) -> Option<u32> {
    u32_at(attribute(body, wanted)?, 0)
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    let bytes = bytes.get(offset..offset + 2)?;
    Some(u16::from_ne_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// `socket` of the program, for NETLINK_RDMA.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Option<c_int> {
    if domain != libc::AF_NETLINK || protocol != NETLINK_RDMA || !state::wanted() {
        return None;
    }
    let flags = kind & (libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    Some(inside(|held| {
        // The model is built here already, so that what is wrong with it is told early.
        state::state(held);
        let mut pair = [0; 2];
        // SAFETY: the array takes two descriptors.
        let made = unsafe {
            libc::socketpair(
                libc::AF_UNIX,
                libc::SOCK_DGRAM | flags,
                0,
                pair.as_mut_ptr(),
            )
        };
        if made != 0 {
            return -1;
        }
        let [ours, theirs] = pair;
        // SAFETY: the descriptor was made right here and nobody else has it.
        let ours = unsafe { OwnedFd::from_raw_fd(ours) };
        // SAFETY: F_SETFD takes an integer.
        unsafe { libc::fcntl(ours.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        if state::enter(held, theirs, Open::Netlink(ours)).is_err() {
            // SAFETY: the descriptor was made right here.
            unsafe { libc::syscall(libc::SYS_close, theirs) };
            return sys::fail(libc::EMFILE);
        }
        theirs
    }))
}

/// Whether the descriptor is such a socket.
pub(crate) fn is_socket(fd: c_int) -> bool {
    state::is_ours(fd) && inside(|held| matches!(state::find(held, fd), Some(Open::Netlink(_))))
}

/// What the program sends, in pieces.
///
/// # Safety
///
/// Each piece is readable.
pub(crate) unsafe fn send(fd: c_int, pieces: &[libc::iovec]) -> Option<isize> {
    if !state::is_ours(fd) {
        return None;
    }
    inside(|held| {
        let Some(Open::Netlink(other)) = state::find(held, fd) else {
            return None;
        };
        let mut sent = Vec::new();
        for piece in pieces.iter().filter(|piece| piece.iov_len > 0) {
            // SAFETY: the caller's promise.
            sent.extend(unsafe {
                std::slice::from_raw_parts(piece.iov_base.cast::<u8>(), piece.iov_len)
            });
        }
        for datagram in answers(&sent, &devices(&state::state(held).model)) {
            // SAFETY: the datagram is valid for reads of its length.
            let written = unsafe {
                libc::syscall(
                    libc::SYS_sendto,
                    other.as_raw_fd(),
                    datagram.as_ptr(),
                    datagram.len(),
                    libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
                    std::ptr::null::<c_void>(),
                    0,
                )
            };
            if written < 0 {
                sys::set_errno(libc::ENOBUFS);
                return Some(-1);
            }
        }
        Some(sent.len() as isize)
    })
}

/// Fills in a netlink address: `port` is 0 for the kernel.
///
/// # Safety
///
/// `address` takes `*length` bytes; both may be null.
pub(crate) unsafe fn fill_address(address: *mut c_void, length: *mut libc::socklen_t, port: u32) {
    if address.is_null() || length.is_null() {
        return;
    }
    // SAFETY: a netlink address is plain numbers, for which zero bytes are a value.
    let mut full: libc::sockaddr_nl = unsafe { mem::zeroed() };
    full.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    full.nl_pid = port;
    let size = mem::size_of::<libc::sockaddr_nl>();
    // SAFETY: copies no more than the caller's room and the structure have.
    unsafe {
        let room = (*length as usize).min(size);
        std::ptr::copy_nonoverlapping((&raw const full).cast::<u8>(), address.cast(), room);
        *length = size as libc::socklen_t;
    }
}

/// Whether an option is one of netlink's own, which are taken without a word.
pub(crate) fn takes_option(fd: c_int, level: c_int) -> bool {
    level == SOL_NETLINK && is_socket(fd)
}

#[cfg(all(test, target_endian = "little"))]
mod tests;
