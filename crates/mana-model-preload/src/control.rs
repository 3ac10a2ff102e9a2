//! The model of this process, steered by a socket from outside and by the program itself
//! (`mana_model.h`).
//!
//! The socket is served by a thread of this library. It starts with the gate held, so all signals
//! but faults stay blocked in it and its allocations are safe; what it does with the model it does
//! with the gate held, as everybody does.

use std::ffi::{CStr, c_char, c_long};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mana_model::control::{self, ControlError, Server, ServerFiles, SocketFile};
use uverbs_abi::Errno;

use crate::files::inside;
use crate::gate::Held;
use crate::{report, state, sys};

/// The socket by which this process's model is steered.
pub(crate) struct Control {
    file: SocketFile,
    open: Arc<ServerFiles>,
}

/// Serves the socket at `path`. The caller holds the gate.
pub(crate) fn serve(path: &Path) -> Result<Control, String> {
    let server = Server::bind(path).map_err(|error| format!("--control: {error}"))?;
    let control = Control {
        file: server.file(),
        open: server.files(),
    };
    let thread = thread::Builder::new().name("mana-control".to_owned());
    let run = move || server.run(None, |line| inside(|held| run(held, line)));
    match thread.spawn(run) {
        Ok(_) => Ok(control),
        Err(error) => {
            control.remove();
            Err(format!("--control: no thread can be started: {error}"))
        }
    }
}

/// Runs a line over this process's model, and lets its sysfs follow.
fn run(held: &Held, line: &str) -> Result<String, ControlError> {
    let state = state::state(held);
    if line.trim() == "step" {
        state.before_step(held);
    }
    let answer = control::run(&state.model, line);
    // Asked first: a device that comes back while sysfs is written is not seen in it.
    let next_return = state.model.next_return();
    state.follow();
    if let Some(time) = next_return {
        follow_after(time);
    }
    if line.trim() == "take-findings" {
        report::write(held);
    }
    answer
}

/// Nothing of the program may look at the model at that time, but at its sysfs. The thread starts
/// with the gate held, as the socket's does.
fn follow_after(time: Duration) {
    let thread = thread::Builder::new().name("mana-return".to_owned());
    let started = thread.spawn(move || {
        let mut next = Some(time);
        while let Some(time) = next {
            thread::sleep(time);
            next = inside(|held| {
                let state = state::existing(held)?;
                let next = state.model.next_return();
                state.follow();
                next
            });
        }
    });
    if let Err(error) = started {
        sys::say(format_args!(
            "mana model: the device comes back with the next command only: no thread can be started: \
             {error}\n"
        ));
    }
}

impl Control {
    /// Removes the socket's file.
    pub(crate) fn remove(&self) {
        self.file.remove();
    }

    /// In a forked child, which has no thread to serve them: closes the descriptors of the parent's
    /// socket, so that it ends with the parent. Allocates nothing.
    pub(crate) fn forget(&self) {
        for fd in self.open.iter() {
            // SAFETY: close takes an integer; nobody in the child uses the descriptor.
            unsafe { libc::syscall(libc::SYS_close, fd) };
        }
    }
}

/// What the last command of the program answered, for who had no room for it.
static LAST: Mutex<String> = Mutex::new(String::new());

/// `mana_model_control`: see `mana_model.h`.
///
/// # Safety
///
/// `command` is null or a string that ends with a zero; `answer` is null or takes `size` bytes.
pub(crate) unsafe fn command(command: *const c_char, answer: *mut c_char, size: usize) -> c_long {
    if !state::wanted() {
        sys::set_errno(libc::ENODEV);
        return -1;
    }
    // SAFETY: the caller's promise.
    let line = (!command.is_null()).then(|| unsafe { CStr::from_ptr(command) });
    let (result, errno) = inside(|held| {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let mut errno = None;
        if let Some(line) = line {
            let line = line.to_str().map_err(|_| ControlError {
                errno: Errno::EINVAL,
                why: "the command is no UTF-8".to_owned(),
            });
            *last = line
                .and_then(|line| run(held, line))
                .unwrap_or_else(|error| {
                    errno = Some(error.errno);
                    error.why
                });
        }
        if !answer.is_null() && size > 0 {
            let count = last.len().min(size - 1);
            // SAFETY: the caller's buffer takes `size` bytes, one more than `count` at least.
            unsafe {
                std::ptr::copy_nonoverlapping(last.as_ptr(), answer.cast(), count);
                answer.add(count).write(0);
            }
        }
        (last.len() as c_long, errno)
    });
    match errno {
        None => result,
        Some(errno) => {
            sys::set_errno(errno.0);
            -1
        }
    }
}

/// `mana_model_step`: see `mana_model.h`.
pub(crate) fn step() -> c_long {
    if !state::wanted() {
        sys::set_errno(libc::ENODEV);
        return -1;
    }
    inside(|held| {
        let state = state::state(held);
        state.before_step(held);
        let moved = state.model.step() as c_long;
        // A device may have come back in it.
        state.follow();
        moved
    })
}
