//! Getting hold of a tap: made if there is none, attached to if there is.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread;

use super::error::{TUN, TapError};
use super::sys::{self, Interfaces};
use crate::config::TapConfig;

/// Bytes of `struct virtio_net_hdr` (linux/virtio_net.h) without the number of buffers.
pub(super) const HEADER: usize = 10;

/// Opens the tap, one file a queue, and brings it UP if it is new. A tap that exists keeps its
/// state.
pub(super) fn open(config: &TapConfig) -> Result<Vec<File>, TapError> {
    let Some(path) = &config.netns else {
        return open_here(config);
    };
    let failed = |cause| TapError::Namespace {
        path: path.clone(),
        cause,
    };
    let namespace = File::open(path).map_err(failed)?;
    inside(namespace.as_fd(), || open_here(config)).map_err(failed)?
}

/// Does something in another network namespace: a thread of its own goes there and ends.
pub(super) fn inside<T: Send>(
    namespace: BorrowedFd<'_>,
    act: impl FnOnce() -> T + Send,
) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| sys::enter(namespace).map(|()| act()));
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn open_here(config: &TapConfig) -> Result<Vec<File>, TapError> {
    let name = &*config.name;
    let interfaces = Interfaces::here().map_err(other("making a socket"))?;
    let exists = interfaces.flags(name).is_ok();
    let files = (0..config.queues)
        .map(|_| queue(config, &interfaces))
        .collect::<Result<Vec<_>, _>>()?;
    let Some(first) = files.first() else {
        return Ok(files);
    };
    sys::set_offload(first, offloads(config)).map_err(other("setting offloads"))?;
    if has_header(config) {
        // A tap that exists may have another size from its last user.
        sys::set_header(first, HEADER as libc::c_int)
            .map_err(other("setting the virtio-net header"))?;
    }
    if let Some(mtu) = config.mtu {
        let set = interfaces.set_mtu(name, mtu);
        set.map_err(|cause| TapError::Mtu { mtu, cause })?;
    }
    if !exists {
        interfaces.set_up(name).map_err(other("bringing it UP"))?;
    }
    Ok(files)
}

/// What the kernel leaves to us (linux/if_tun.h).
fn offloads(config: &TapConfig) -> libc::c_uint {
    match (config.tso, config.csum) {
        (true, _) => libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6,
        (false, true) => libc::TUN_F_CSUM,
        (false, false) => 0,
    }
}

/// Whether frames have a virtio-net header before them.
pub(super) fn has_header(config: &TapConfig) -> bool {
    offloads(config) != 0
}

/// A file for one queue. Without offloads there is no virtio-net header: it would be zero in
/// both directions.
fn queue(config: &TapConfig, interfaces: &Interfaces) -> Result<File, TapError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN)
        .map_err(|cause| match cause.raw_os_error() {
            // ENODEV and ENXIO: there is the node and no driver behind it.
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoTun,
            _ => TapError::NoAccess(cause),
        })?;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI;
    if has_header(config) {
        flags |= libc::IFF_VNET_HDR;
    }
    if config.queues > 1 {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    match sys::attach(&file, &config.name, flags) {
        Ok(()) => Ok(file),
        Err(cause) => Err(refused(config, interfaces, cause)),
    }
}

/// What stands behind an errno of `TUNSETIFF`.
fn refused(config: &TapConfig, interfaces: &Interfaces, cause: io::Error) -> TapError {
    match cause.raw_os_error() {
        Some(libc::EPERM) => TapError::NotPermitted {
            name: config.name.clone(),
        },
        Some(libc::EBUSY) => TapError::Busy,
        Some(libc::E2BIG) => TapError::TooManyQueues {
            queues: config.queues,
        },
        Some(libc::EINVAL | libc::EEXIST) => match interfaces.driver(&config.name) {
            Ok((driver, bus)) if driver == "tun" && bus == "tap" => TapError::MultiQueue {
                multi: config.queues > 1,
            },
            Ok((driver, bus)) if driver == "tun" && bus == "tun" => TapError::NotATap {
                kind: "a tun (packets without Ethernet headers)".to_owned(),
            },
            Ok((driver, _)) => TapError::NotATap {
                kind: format!("an interface of driver {driver}"),
            },
            // The loopback has no driver to ask.
            Err(_) if interfaces.flags(&config.name).is_ok() => TapError::NotATap {
                kind: "an interface of another kind".to_owned(),
            },
            Err(_) => other("TUNSETIFF")(cause),
        },
        _ => other("TUNSETIFF")(cause),
    }
}

fn other(action: &'static str) -> impl Fn(io::Error) -> TapError {
    move |cause| TapError::Other { action, cause }
}
