//! The model that `mana model exec` has preloaded into this very process, by the functions of
//! `mana_model.h`.

use std::ffi::{CString, c_char, c_long};

use uverbs_abi::Errno;

use super::error::ControlError;

type Step = unsafe extern "C" fn() -> c_long;
type Control = unsafe extern "C" fn(*const c_char, *mut c_char, usize) -> c_long;

/// What `mana_model_control` answers of most commands, in bytes; what is longer is cut.
const ANSWER: usize = 4096;

/// The preloaded model.
#[derive(Debug, Clone, Copy)]
pub struct Preloaded {
    step: Step,
    control: Control,
}

impl Preloaded {
    /// The functions, if the library is in this process. A program that is linked statically has
    /// none.
    #[must_use]
    pub fn find() -> Option<Self> {
        #[cfg(target_feature = "crt-static")]
        return None;
        #[cfg(not(target_feature = "crt-static"))]
        {
            // SAFETY: the name is a string that ends with a zero.
            let symbol =
                |name: &std::ffi::CStr| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            let (step, control) = (symbol(c"mana_model_step"), symbol(c"mana_model_control"));
            if step.is_null() || control.is_null() {
                return None;
            }
            // SAFETY: the names are those of `mana_model.h`, which states these types.
            Some(unsafe {
                Self {
                    step: std::mem::transmute::<*mut libc::c_void, Step>(step),
                    control: std::mem::transmute::<*mut libc::c_void, Control>(control),
                }
            })
        }
    }

    /// [`crate::Model::step`].
    ///
    /// # Errors
    ///
    /// `ENODEV`: there is no model behind the library.
    #[inline]
    pub fn step(&self) -> Result<usize, Errno> {
        // SAFETY: the function takes nothing and may be called from any thread.
        let moved = unsafe { (self.step)() };
        usize::try_from(moved).map_err(|_| Errno::ENODEV)
    }

    /// Runs a command; see [`super::Command`].
    ///
    /// # Errors
    ///
    /// As [`super::run`].
    pub fn run(&self, command: &str) -> Result<String, ControlError> {
        let line = CString::new(command).map_err(|_| ControlError {
            errno: Errno::EINVAL,
            why: "the command has a zero in it".to_owned(),
        })?;
        let mut answer = vec![0_u8; ANSWER];
        // SAFETY: the command is a string that ends with a zero, the answer takes that many bytes.
        let length =
            unsafe { (self.control)(line.as_ptr(), answer.as_mut_ptr().cast(), answer.len()) };
        let error = std::io::Error::last_os_error();
        let end = answer.iter().position(|byte| *byte == 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&answer[..end]).into_owned();
        if length >= 0 {
            return Ok(text);
        }
        Err(ControlError {
            errno: Errno(error.raw_os_error().unwrap_or(libc::ENODEV)),
            why: text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_the_library_has_no_preloaded_model() {
        assert!(Preloaded::find().is_none());
    }
}
