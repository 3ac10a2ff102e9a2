//! The host's side of a tap, for tests: namespaces, raw sockets, and what `ip link` does.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

/// Ethertype for local experiments: nothing but tests sends it.
pub(crate) const TYPE: [u8; 2] = [0x88, 0xB5];
/// Longest wait for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a thread in a network namespace that ends with it. Where that can't be done the
/// test `name` is skipped and says so.
pub(crate) fn in_own_namespace(name: &str, test: impl FnOnce() + Send) {
    let result = thread::scope(|scope| {
        let run = || unshare().map(|()| test());
        match scope.spawn(run).join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    });
    if let Err(error) = result {
        skip(
            name,
            &format!("needs root and {}: {error}", super::error::TUN),
        );
    }
}

fn skip(name: &str, reason: &str) {
    let Some(path) = env::var_os("MANA_SKIPPED_FILE") else {
        println!("skipped: {name}: {reason}");
        return;
    };
    let file = fs::OpenOptions::new().create(true).append(true).open(path);
    writeln!(file.unwrap(), "{name}\t{reason}").unwrap();
}

/// A namespace for this thread, if it may make taps there.
fn unshare() -> io::Result<()> {
    File::options()
        .read(true)
        .write(true)
        .open(super::error::TUN)?;
    // SAFETY: the call touches no memory.
    match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A network namespace that lives as long as this and what is in it.
pub(crate) fn other_namespace() -> File {
    let make = || {
        unshare().unwrap();
        File::open("/proc/thread-self/ns/net").unwrap()
    };
    thread::scope(|scope| scope.spawn(make).join()).unwrap()
}

/// The path by which an open namespace is named.
pub(crate) fn path_of(namespace: &File) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(namespace.as_raw_fd().to_string())
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never came to pass");
        thread::sleep(Duration::from_millis(1));
    }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> File {
    // SAFETY: the call touches no memory; a descriptor that it makes is nobody else's.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        assert!(fd >= 0, "{}", io::Error::last_os_error());
        File::from_raw_fd(fd)
    }
}

/// Number of an interface of this thread's namespace; 0 where there is none.
pub(crate) fn index(name: &str) -> u32 {
    let name = std::ffi::CString::new(name).unwrap();
    // SAFETY: the text ends with a zero and outlives the call.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// A raw socket at an interface for frames of [`TYPE`].
pub(crate) struct Raw(File);

impl Raw {
    pub(crate) fn on(name: &str) -> Self {
        Self::of_type(name, TYPE)
    }

    /// For frames of another type, which the kernel must know to tell flows apart.
    pub(crate) fn of_type(name: &str, ethertype: [u8; 2]) -> Self {
        let protocol = u16::from_ne_bytes(ethertype);
        let raw = socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK, 0);
        // SAFETY: all zero is a valid address.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index(name) as i32;
        assert!(address.sll_ifindex > 0, "there is no {name}");
        let len = size_of_val(&address) as libc::socklen_t;
        // SAFETY: the address is as long as is said and outlives the call.
        let result = unsafe { libc::bind(raw.as_raw_fd(), (&raw const address).cast(), len) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        Self(raw)
    }

    /// Sends a frame out of the interface.
    pub(crate) fn send(&self, frame: &[u8]) {
        assert_eq!((&self.0).write(frame).unwrap(), frame.len());
    }

    /// The next frame that came in through the interface.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut frame = vec![0; 65_536];
        let bytes = (&self.0).read(&mut frame).ok()?;
        frame.truncate(bytes);
        Some(frame)
    }
}

/// A frame of [`TYPE`] to everybody with a number and this length.
pub(crate) fn frame(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend([2, 0, 0, 0, 0, 9]);
    frame.extend(TYPE);
    frame.extend(number.to_be_bytes());
    frame.extend((frame.len()..len).map(|at| at as u8));
    frame
}

/// Whether a frame is one of [`frame`]: the kernel also sends its own.
pub(crate) fn is_ours(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&TYPE)
}

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const IFNAME: u16 = 3;
const MTU: u16 = 4;
const NET_NS_FD: u16 = 28;

/// `ip link set NAME up` or `down`.
pub(crate) fn set_up(name: &str, up: bool) {
    link(NEWLINK, name, Some(up), &[]);
}

pub(crate) fn set_mtu(name: &str, mtu: u32) {
    link(NEWLINK, name, None, &[(MTU, &mtu.to_ne_bytes())]);
}

pub(crate) fn rename(name: &str, to: &str) {
    link(
        NEWLINK,
        name,
        None,
        &[(IFNAME, &[to.as_bytes(), &[0]].concat())],
    );
}

pub(crate) fn delete(name: &str) {
    link(DELLINK, name, None, &[]);
}

/// `ip link set NAME netns …`.
pub(crate) fn shift(name: &str, namespace: &File) {
    let fd = namespace.as_raw_fd().to_ne_bytes();
    link(NEWLINK, name, None, &[(NET_NS_FD, &fd)]);
}

/// `ip addr add A.B.C.D/24 broadcast + dev NAME`.
pub(crate) fn set_address(name: &str, address: [u8; 4]) {
    let mut body = vec![libc::AF_INET as u8, 24, 0, 0];
    body.extend(index(name).to_ne_bytes());
    let [a, b, c, _] = address;
    // IFA_LOCAL, IFA_ADDRESS, IFA_BROADCAST.
    for (kind, value) in [(2, address), (1, address), (4, [a, b, c, 255])] {
        attribute(&mut body, kind, &value);
    }
    // NLM_F_CREATE beside NLM_F_REQUEST and NLM_F_ACK.
    request(NEWADDR, 0x405, &body);
}

/// One rtnetlink request for an interface.
fn link(kind: u16, name: &str, up: Option<bool>, attributes: &[(u16, &[u8])]) {
    let mut body = vec![0; 4];
    body.extend(index(name).to_ne_bytes());
    body.extend(u32::from(up == Some(true)).to_ne_bytes());
    body.extend(u32::from(up.is_some()).to_ne_bytes());
    for (kind, value) in attributes {
        attribute(&mut body, *kind, value);
    }
    request(kind, 5, &body);
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

#[track_caller]
fn request(kind: u16, flags: u16, body: &[u8]) {
    let mut socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE);
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);
    socket.write_all(&message).unwrap();
    let mut answer = [0; 4096];
    let bytes = socket.read(&mut answer).unwrap();
    let errno = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
    assert!(
        bytes >= 20 && errno == 0,
        "request {kind}: errno {}",
        -errno
    );
}

/// Makes a tap, or a tun, that stays when its maker closes it.
pub(crate) fn make_persistent(name: &str, flags: libc::c_int) {
    let tun = File::options()
        .read(true)
        .write(true)
        .open(super::error::TUN);
    let tun = tun.unwrap();
    super::sys::attach(&tun, name, flags | libc::IFF_NO_PI).unwrap();
    // SAFETY: the call takes its argument by value.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETPERSIST, 1_u64) };
    assert_eq!(result, 0);
}
