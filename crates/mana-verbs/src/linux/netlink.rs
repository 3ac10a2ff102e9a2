//! Driver ids by NETLINK_RDMA. All of it is optional: where the kernel does not answer, the id is
//! probed when the device is opened.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::{Duration, Instant};

use uverbs_abi::Errno;
use uverbs_abi::ids::nldev::NETLINK_RDMA;

use super::nldev::{Answer, answers, get_chardev, get_devices};
use crate::fd::last_errno;

/// The kernel answers at once; this bounds the case that it does not.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The kernel fills datagrams of at most 16 KiB unless it is given more room.
const DATAGRAM_BYTES: usize = 32 << 10;

/// Driver ids by name of ib device, as far as the kernel tells them.
pub(super) fn driver_ids() -> HashMap<String, u32> {
    Socket::open(NETLINK_RDMA)
        .and_then(|socket| socket.driver_ids(TIMEOUT))
        .unwrap_or_else(|errno| {
            tracing::debug!(%errno, "no driver ids by netlink; they are probed");
            HashMap::new()
        })
}

pub(super) struct Socket {
    fd: OwnedFd,
}

impl Socket {
    pub(super) fn open(protocol: i32) -> Result<Self, Errno> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: the call takes integers only.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, protocol) };
        if fd < 0 {
            return Err(last_errno());
        }
        Ok(Self {
            // SAFETY: the descriptor was opened right here and nobody else has it.
            fd: unsafe { OwnedFd::from_raw_fd(fd) },
        })
    }

    /// Asks for all devices, then for the driver id of each. One without an answer of its own is
    /// left out.
    fn driver_ids(&self, timeout: Duration) -> Result<HashMap<String, u32>, Errno> {
        self.set_timeout(timeout)?;
        let deadline = Instant::now() + timeout;
        let mut devices = Vec::new();
        self.ask(&get_devices(1), 1, deadline, |answer| match answer {
            Answer::Device {
                index: Some(index),
                name: Some(name),
                ..
            } => {
                devices.push((index, name.to_owned()));
                Progress::More
            }
            Answer::Device { .. } => Progress::More,
            Answer::Done | Answer::Error => Progress::Done,
        })?;
        let mut driver_ids = HashMap::new();
        for (sequence, (index, name)) in (2..).zip(devices) {
            self.ask(
                &get_chardev(sequence, index),
                sequence,
                deadline,
                |answer| {
                    if let Answer::Device {
                        driver_id: Some(id),
                        ..
                    } = answer
                    {
                        driver_ids.insert(name.clone(), id);
                    }
                    Progress::Done
                },
            )?;
        }
        Ok(driver_ids)
    }

    /// Sends a request and hands its answers to `take` until that has enough.
    fn ask(
        &self,
        request: &[u8],
        sequence: u32,
        deadline: Instant,
        mut take: impl FnMut(Answer<'_>) -> Progress,
    ) -> Result<(), Errno> {
        self.send(request)?;
        let mut datagram = vec![0u8; DATAGRAM_BYTES];
        while Instant::now() < deadline {
            let Some(got) = self.receive(&mut datagram)? else {
                break;
            };
            for answer in answers(&datagram[..got], sequence) {
                if let Progress::Done = take(answer) {
                    return Ok(());
                }
            }
        }
        Err(Errno::ETIMEDOUT)
    }

    /// Sends a request whose answer is one datagram and returns that.
    pub(super) fn exchange(&self, request: &[u8]) -> Result<Vec<u8>, Errno> {
        self.set_timeout(TIMEOUT)?;
        self.send(request)?;
        let mut datagram = vec![0u8; DATAGRAM_BYTES];
        let got = self.receive(&mut datagram)?.ok_or(Errno::ETIMEDOUT)?;
        datagram.truncate(got);
        Ok(datagram)
    }

    fn send(&self, request: &[u8]) -> Result<(), Errno> {
        // SAFETY: `request` is valid for reads of its length during the call.
        let sent = unsafe {
            libc::send(
                self.fd.as_raw_fd(),
                request.as_ptr().cast(),
                request.len(),
                libc::MSG_NOSIGNAL,
            )
        };
        if sent < 0 { Err(last_errno()) } else { Ok(()) }
    }

    /// The length of the next datagram; `None` if none came in time.
    fn receive(&self, datagram: &mut [u8]) -> Result<Option<usize>, Errno> {
        loop {
            // SAFETY: `datagram` is exclusively borrowed and valid for writes of its length.
            let got = unsafe {
                libc::recv(
                    self.fd.as_raw_fd(),
                    datagram.as_mut_ptr().cast(),
                    datagram.len(),
                    0,
                )
            };
            match usize::try_from(got) {
                Ok(got) => return Ok(Some(got)),
                Err(_) => match last_errno() {
                    Errno::EINTR => {}
                    Errno::EAGAIN => return Ok(None),
                    errno => return Err(errno),
                },
            }
        }
    }

    fn set_timeout(&self, timeout: Duration) -> Result<(), Errno> {
        let timeout = libc::timeval {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_usec: timeout.subsec_micros() as libc::suseconds_t,
        };
        // SAFETY: the option takes a timeval, which lives during the call.
        let result = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_RCVTIMEO,
                ptr::from_ref(&timeout).cast(),
                size_of_val(&timeout) as libc::socklen_t,
            )
        };
        if result < 0 {
            Err(last_errno())
        } else {
            Ok(())
        }
    }
}

enum Progress {
    More,
    Done,
}

/// A pair of local datagram sockets, one end played by hand, stands for the kernel.
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::thread;

    use super::super::nldev::tests::{CHARDEV, DEVICES};
    use super::*;

    fn pair() -> (Socket, UnixDatagram) {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        (Socket { fd: ours.into() }, kernel)
    }

    /// A recorded message as the answer to another sequence number.
    fn renumbered<const N: usize>(mut message: [u8; N], at: &[usize], sequence: u8) -> [u8; N] {
        for start in at {
            message[start + 8] = sequence;
        }
        message
    }

    #[test]
    fn the_driver_id_comes_with_the_name_of_its_device() {
        let (socket, kernel) = pair();
        let player = thread::spawn(move || {
            let mut request = [0; 64];
            assert_eq!(kernel.recv(&mut request).unwrap(), 16);
            let devices = renumbered(DEVICES, &[0, 72], 1);
            // The kernel sends the end of a dump in a datagram of its own.
            kernel.send(&devices[..72]).unwrap();
            kernel.send(&devices[72..]).unwrap();
            assert_eq!(kernel.recv(&mut request).unwrap(), 36);
            assert_eq!(request[20], 3, "the index that the dump told");
            kernel.send(&renumbered(CHARDEV, &[0], 2)).unwrap();
        });
        let ids = socket.driver_ids(Duration::from_secs(60)).unwrap();
        player.join().unwrap();
        assert_eq!(ids, HashMap::from([("mana_0".to_owned(), 20)]));
    }

    #[test]
    fn a_device_whose_node_is_refused_is_left_out() {
        let (socket, kernel) = pair();
        let player = thread::spawn(move || {
            let mut request = [0; 64];
            kernel.recv(&mut request).unwrap();
            kernel.send(&renumbered(DEVICES, &[0, 72], 1)).unwrap();
            kernel.recv(&mut request).unwrap();
            // NLMSG_ERROR, -ENODEV.
            #[rustfmt::skip]
            let refusal = [20, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xff, 0xff, 0xff];
            kernel.send(&refusal).unwrap();
        });
        let ids = socket.driver_ids(Duration::from_secs(60)).unwrap();
        player.join().unwrap();
        assert_eq!(ids, HashMap::new());
    }

    #[test]
    fn silence_and_foreign_answers_end_with_the_timeout() {
        let (socket, kernel) = pair();
        kernel.send(&DEVICES).unwrap();
        let start = Instant::now();
        let result = socket.driver_ids(Duration::from_millis(50));
        assert_eq!(result, Err(Errno::ETIMEDOUT));
        assert!(start.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_kernel_without_the_protocol_tells_no_ids() {
        if let Err(errno) = Socket::open(NETLINK_RDMA) {
            assert_eq!(errno, Errno::EPROTONOSUPPORT);
            assert_eq!(driver_ids(), HashMap::new());
        }
    }
}
