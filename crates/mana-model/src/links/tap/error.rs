//! Why a tap can't be had.

use std::io;
use std::path::PathBuf;

/// The file by which taps are made.
pub(super) const TUN: &str = "/dev/net/tun";

/// Why a tap can't be had; each variant says what would help.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// The kernel has no tun device here.
    #[error("{TUN} is missing (load the module: `modprobe tun`; in a container: `--device {TUN}`)")]
    NoTun,
    /// The tun device may not be opened.
    #[error(
        "{TUN} can't be opened: {0} (run as root, or give this user access to the file, and \
         CAP_NET_ADMIN unless root has made the tap for this user)"
    )]
    NoAccess(io::Error),
    /// The right to make or to take the tap is missing.
    #[error(
        "not permitted: this needs CAP_NET_ADMIN (run as root, or let root make the tap for you: \
         `ip tuntap add dev {name} mode tap user $USER`)"
    )]
    NotPermitted {
        /// The tap.
        name: String,
    },
    /// Somebody has the tap already.
    #[error("in use by another process (`fuser {TUN}` names those that have taps)")]
    Busy,
    /// There is an interface of this name that is no tap.
    #[error("is {kind}, not a tap (choose a free name, or `ip link del` it)")]
    NotATap {
        /// What it is.
        kind: String,
    },
    /// The tap exists, with another choice of multi_queue.
    #[error(
        "{}",
        if *.multi {
            "exists without multi_queue, so it has one queue \
             (leave queues= out, or make it anew: `ip tuntap add … mode tap multi_queue`)"
        } else {
            "exists with multi_queue, so it takes no single queue \
             (say queues=2 or more, or make it anew without multi_queue)"
        }
    )]
    MultiQueue {
        /// Whether several queues were asked for.
        multi: bool,
    },
    /// The tap has no room for as many queues.
    #[error("has no room for {queues} queues (256 with those of other processes)")]
    TooManyQueues {
        /// How many were asked for.
        queues: u16,
    },
    /// The network namespace can't be entered.
    #[error("namespace {}: {cause}{}", .path.display(), namespace_fix(.cause))]
    Namespace {
        /// Its file.
        path: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
    /// The interface does not take this MTU.
    #[error("mtu={mtu}: {cause}{}", mtu_fix(.cause))]
    Mtu {
        /// The MTU in bytes.
        mtu: u32,
        /// What the kernel says.
        cause: io::Error,
    },
    /// Anything else.
    #[error("{action}: {cause}")]
    Other {
        /// What was tried.
        action: &'static str,
        /// What the kernel says.
        cause: io::Error,
    },
}

fn mtu_fix(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::EPERM) => " (this needs CAP_NET_ADMIN; leave mtu= out to keep the tap's own)",
        _ => "",
    }
}

fn namespace_fix(cause: &io::Error) -> &'static str {
    match cause.raw_os_error() {
        Some(libc::ENOENT) => {
            " (make it with `ip netns add`, `ip netns list` shows those there are)"
        }
        Some(libc::EPERM) => " (entering a namespace needs CAP_SYS_ADMIN: run as root)",
        Some(libc::EINVAL) => " (it is no file of a network namespace)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_not_open_the_tun_device_is_told_the_capability_too() {
        let text = TapError::NoAccess(io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(
            text.contains(TUN) && text.contains("CAP_NET_ADMIN"),
            "{text}"
        );
    }
}
