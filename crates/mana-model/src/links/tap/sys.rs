//! The system calls behind taps. All unsafe code of the links is here.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Bytes of an interface's name with its zero.
const NAME: usize = libc::IFNAMSIZ;
/// Bytes of the texts in `ethtool_drvinfo`.
const INFO_TEXT: usize = 32;

/// `struct ifreq` (linux/if.h): a name and a union of 24 bytes, here as plain bytes.
#[repr(C, align(8))]
struct Request {
    name: [u8; NAME],
    value: [u8; 24],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

impl Request {
    /// The name was checked: it is cut here only where the kernel would refuse it.
    fn new(name: &str) -> Self {
        let mut request = Self {
            name: [0; NAME],
            value: [0; 24],
        };
        let len = name.len().min(NAME - 1);
        request.name[..len].copy_from_slice(&name.as_bytes()[..len]);
        request
    }

    fn put(&mut self, bytes: &[u8]) {
        self.value[..bytes.len()].copy_from_slice(bytes);
    }

    fn u16(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }

    fn u32(&self) -> u32 {
        let [a, b, c, d, ..] = self.value;
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// `struct ethtool_drvinfo` (linux/ethtool.h).
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; INFO_TEXT],
    version: [u8; INFO_TEXT],
    firmware: [u8; INFO_TEXT],
    bus: [u8; INFO_TEXT],
    rest: [u8; 64],
}

const _: () = assert!(size_of::<DriverInfo>() == 196);

/// `ETHTOOL_GDRVINFO`.
const GET_DRIVER_INFO: u32 = 3;

/// A text in a field that a zero ends.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned()
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// One of the calls that read and write a `struct ifreq`, by its number.
struct Call(libc::Ioctl);

const SET_IFF: Call = Call(libc::TUNSETIFF);
const GET_IFF: Call = Call(libc::TUNGETIFF);
const GET_FLAGS: Call = Call(libc::SIOCGIFFLAGS as libc::Ioctl);
const SET_FLAGS: Call = Call(libc::SIOCSIFFLAGS as libc::Ioctl);
const GET_MTU: Call = Call(libc::SIOCGIFMTU as libc::Ioctl);
const SET_MTU: Call = Call(libc::SIOCSIFMTU as libc::Ioctl);

fn call(fd: BorrowedFd<'_>, call: &Call, request: &mut Request) -> io::Result<()> {
    // SAFETY: every `Call` takes a pointer to a `struct ifreq`, which `request` is byte by byte, and
    // keeps it no longer than the call; none of those above stores a pointer in it.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), call.0, request) }).map(drop)
}

/// Binds an open tun file to the tap `name`, which is created if there is none (`TUNSETIFF`).
pub(super) fn attach(tun: &File, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = Request::new(name);
    // The field has 16 bits.
    request.put(&(flags as u16).to_ne_bytes());
    call(tun.as_fd(), &SET_IFF, &mut request)
}

/// The present name of the tap of a bound tun file, wherever it lies (`TUNGETIFF`).
pub(super) fn name(tun: &File) -> io::Result<String> {
    let mut request = Request::new("");
    call(tun.as_fd(), &GET_IFF, &mut request)?;
    Ok(text(&request.name))
}

/// Which offloads the reader of the tap takes over (`TUNSETOFFLOAD`, bits `TUN_F_*`).
pub(super) fn set_offload(tun: &File, bits: libc::c_uint) -> io::Result<()> {
    let bits = libc::c_ulong::from(bits);
    // SAFETY: this call takes its argument by value.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, bits) }).map(drop)
}

/// Bytes of the header before each frame (`TUNSETVNETHDRSZ`).
pub(super) fn set_header(tun: &File, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: this call reads one int through the pointer.
    checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const bytes) })
        .map(drop)
}

/// The network namespace in which the tap lies now (`TUNGETDEVNETNS`). The namespace lives as long
/// as the descriptor, so it must not be kept.
pub(super) fn namespace(tun: &File) -> io::Result<OwnedFd> {
    // SAFETY: this call has no argument and returns a new descriptor or an error.
    let fd = checked(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETDEVNETNS) })?;
    // SAFETY: the descriptor was just made for this call, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Moves the calling thread, and no other, into a network namespace.
pub(super) fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the call touches no memory of this process.
    checked(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// A socket by which interfaces of the namespace are asked in which it was made.
pub(super) struct Interfaces(UnixDatagram);

impl Interfaces {
    pub(super) fn here() -> io::Result<Self> {
        UnixDatagram::unbound().map(Self)
    }

    /// `IFF_UP`, `IFF_RUNNING` …; `ENODEV` where there is no such interface.
    pub(super) fn flags(&self, name: &str) -> io::Result<libc::c_int> {
        let mut request = Request::new(name);
        call(self.0.as_fd(), &GET_FLAGS, &mut request)?;
        Ok(libc::c_int::from(request.u16()))
    }

    pub(super) fn set_up(&self, name: &str) -> io::Result<()> {
        let flags = self.flags(name)? | libc::IFF_UP;
        let mut request = Request::new(name);
        request.put(&(flags as u16).to_ne_bytes());
        call(self.0.as_fd(), &SET_FLAGS, &mut request)
    }

    pub(super) fn mtu(&self, name: &str) -> io::Result<u32> {
        let mut request = Request::new(name);
        call(self.0.as_fd(), &GET_MTU, &mut request)?;
        Ok(request.u32())
    }

    pub(super) fn set_mtu(&self, name: &str, mtu: u32) -> io::Result<()> {
        let mut request = Request::new(name);
        request.put(&mtu.to_ne_bytes());
        call(self.0.as_fd(), &SET_MTU, &mut request)
    }

    /// Driver and bus of an interface: of a tap `tun` and `tap`, of a tun `tun` and `tun`.
    pub(super) fn driver(&self, name: &str) -> io::Result<(String, String)> {
        let mut info = DriverInfo {
            command: GET_DRIVER_INFO,
            driver: [0; INFO_TEXT],
            version: [0; INFO_TEXT],
            firmware: [0; INFO_TEXT],
            bus: [0; INFO_TEXT],
            rest: [0; 64],
        };
        let mut request = Request::new(name);
        request.put(&(&raw mut info).expose_provenance().to_ne_bytes());
        let number = libc::SIOCETHTOOL as libc::Ioctl;
        // SAFETY: the call reads the request, whose value is the address of `info`, and writes a
        // `struct ethtool_drvinfo` there, as large as `info` is; both outlive the call.
        checked(unsafe { libc::ioctl(self.0.as_raw_fd(), number, &raw mut request) })?;
        Ok((text(&info.driver), text(&info.bus)))
    }
}

/// Descriptors that are waited for together.
pub(super) struct Waiting(Vec<libc::pollfd>);

impl Waiting {
    /// The descriptors must stay open as long as this is used; of a closed one the kernel would only
    /// say that it is none.
    pub(super) fn new(fds: impl Iterator<Item = RawFd>) -> Self {
        let entry = |fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        Self(fds.map(entry).collect())
    }

    /// Waits until one can be read, at most so long; whether one can. Those that are dead are never
    /// waited for again.
    pub(super) fn wait(&mut self, most: Duration) -> bool {
        let timeout = libc::timespec {
            tv_sec: most.as_secs() as libc::time_t,
            tv_nsec: most.subsec_nanos().into(),
        };
        let (entries, count) = (self.0.as_mut_ptr(), self.0.len() as libc::nfds_t);
        // SAFETY: `entries` are `count` pollfds, which the call writes before it returns.
        let ready = unsafe { libc::ppoll(entries, count, &raw const timeout, std::ptr::null()) };
        if ready <= 0 {
            return false;
        }
        let mut readable = false;
        for entry in &mut self.0 {
            if entry.revents & libc::POLLIN != 0 {
                readable = true;
            } else if entry.revents != 0 {
                // The kernel passes over negative ones.
                entry.fd = -1;
            }
        }
        readable
    }
}
