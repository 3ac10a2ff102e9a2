//! The socket's file: only its owner may connect, and it goes with its model.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::error::BindError;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// The file of a model's socket: by which it is steered, or served to a virtual machine.
#[derive(Debug, Clone)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Removes the file, unless another has its place by now.
    pub fn remove(&self) {
        let same = fs::symlink_metadata(&self.path)
            .is_ok_and(|now| self.identity == (now.dev(), now.ino()));
        if same {
            // Where it can't be removed it is found to be left by the next that binds.
            let _left = fs::remove_file(&self.path);
        }
    }

    /// Binds a listening socket of mode 0600 at `path`. One that a model has left there when it was
    /// killed is replaced.
    ///
    /// # Errors
    ///
    /// Says what is in the way, and what to do.
    pub fn bind(path: &Path) -> Result<(UnixListener, Self), BindError> {
        Self::prepare(path)?;
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::AddrInUse => BindError::InUse {
                path: path.to_owned(),
            },
            _ => BindError::Io {
                path: path.to_owned(),
                cause,
            },
        };
        let listener = listen(path).map_err(failed)?;
        let metadata = fs::symlink_metadata(path).map_err(failed)?;
        let file = Self {
            path: path.to_owned(),
            identity: (metadata.dev(), metadata.ino()),
        };
        Ok((listener, file))
    }

    /// Says whether a socket can be bound at `path`, and removes one that a model has left there
    /// when it was killed.
    ///
    /// # Errors
    ///
    /// Those of [`SocketFile::bind`].
    pub fn prepare(path: &Path) -> Result<(), BindError> {
        let length = path.as_os_str().len();
        // `sun_path` has 108 bytes with the zero at its end (unix(7)).
        if length > 107 {
            return Err(BindError::TooLong {
                path: path.to_owned(),
                length,
            });
        }
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        let path = path.to_owned();
        if !metadata.file_type().is_socket() {
            return Err(BindError::NoSocket { path });
        }
        match UnixStream::connect(&path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(&path).map_err(|cause| BindError::Io { path, cause })
            }
            Err(cause) if cause.kind() == io::ErrorKind::PermissionDenied => {
                Err(BindError::Io { path, cause })
            }
            _ => Err(BindError::InUse { path }),
        }
    }
}

fn listen(path: &Path) -> io::Result<UnixListener> {
    let check = |result: i32| match result {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    };
    // SAFETY: socket takes integers.
    let fd =
        check(unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the descriptor was made right here and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    // The file gets the socket's mode, less the umask: so it is private from its first moment, and
    // the umask, which is the whole process's, is left alone.
    // SAFETY: fchmod takes integers.
    check(unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) })?;
    // SAFETY: an address is plain numbers, for which zero bytes are a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The path was checked to leave room for a zero.
    for (to, from) in address.sun_path.iter_mut().zip(path.as_os_str().as_bytes()) {
        *to = *from as libc::c_char;
    }
    // SAFETY: the address is a live local of the stated length.
    check(unsafe {
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_un>() as libc::socklen_t,
        )
    })?;
    // SAFETY: listen takes integers.
    check(unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) })?;
    Ok(UnixListener::from(socket))
}
