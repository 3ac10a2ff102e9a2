//! What goes wrong between a model and who steers it.

use std::io;
use std::path::PathBuf;

use uverbs_abi::Errno;

/// Why a command was not run; nothing of it was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct ControlError {
    /// The kernel's number for it: `EINVAL` for a line that is no command, `ENODEV` where the model
    /// has no such port or device, else what the model answered.
    pub errno: Errno,
    /// The reason, and what would be right.
    pub why: String,
}

impl ControlError {
    /// What is asked for can't be done now (`EAGAIN`), but later.
    #[must_use]
    pub fn not_now(why: impl Into<String>) -> Self {
        Self {
            errno: Errno::EAGAIN,
            why: why.into(),
        }
    }

    /// The line is no command, or none here.
    #[must_use]
    pub fn invalid(why: impl Into<String>) -> Self {
        Self {
            errno: Errno::EINVAL,
            why: why.into(),
        }
    }
}

/// Why the socket of a model can't be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another model listens there.
    #[error(
        "{}: another model listens on this socket: name a free path, or end that program", .path.display()
    )]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has this name.
    #[error("{}: exists and is no socket: name a free path, or remove it", .path.display())]
    NoSocket {
        /// The file.
        path: PathBuf,
    },
    /// Longer than a socket's address.
    #[error(
        "{}: {length} bytes are too long for a socket, which takes 107: name a shorter path", .path.display()
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        length: usize,
    },
    /// The system refused.
    #[error("{}: {cause}: name a path in a folder in which this user can write", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
}

/// Why a client has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "{}: {cause}: no model is steered by this socket (a program on the model makes it when it \
         first looks for devices)", .path.display()
    )]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// The connection broke, as it does when the program ends.
    #[error("the model's control socket: {0}")]
    Io(#[from] io::Error),
    /// The model did not run the command.
    #[error(transparent)]
    Refused(#[from] ControlError),
    /// An answer that is none to this command: the model is of another version.
    #[error("the model answered `{command}` by `{answer}`: client and model differ in version")]
    Answer {
        /// What was asked.
        command: String,
        /// The line.
        answer: String,
    },
}

impl ClientError {
    /// What the model answered, if it did not run the command.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused(refused) => Some(refused.errno),
            _ => None,
        }
    }
}
