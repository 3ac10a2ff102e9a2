//! Calls of a transport on behalf of one device, with errors that name both.

use uverbs_abi::ids::{attr, method, object};
use uverbs_abi::{Attribute, Call, Transport, Value};

use crate::VerbsError;

/// Who calls, and in which words errors are told.
pub(super) struct Caller {
    pub(super) transport: Box<dyn Transport>,
    pub(super) device: String,
    pub(super) driver_id: u32,
}

impl Caller {
    /// One call.
    ///
    /// # Safety
    ///
    /// As for [`Transport::invoke`].
    pub(super) unsafe fn invoke(
        &self,
        operation: &'static str,
        (object, method): (u16, u16),
        attributes: &mut [Attribute<'_>],
    ) -> Result<(), VerbsError> {
        let call = Call {
            driver_id: self.driver_id,
            object,
            method,
        };
        // SAFETY: what is asked for is what the caller promises.
        unsafe { self.transport.invoke(call, attributes) }
            .map_err(|errno| VerbsError::kernel(&self.device, operation, errno))
    }

    /// One write command, through INVOKE_WRITE.
    ///
    /// # Safety
    ///
    /// As for [`Transport::invoke`], for the addresses inside `request`.
    pub(super) unsafe fn write_command(
        &self,
        operation: &'static str,
        command: u32,
        request: &[u8],
        answer: &mut [u8],
    ) -> Result<(), VerbsError> {
        let mut attributes = [
            Attribute::new(attr::WRITE_CMD, Value::Const(u64::from(command))),
            Attribute::new(attr::CORE_IN, Value::In(request)),
            Attribute::new(attr::CORE_OUT, Value::Out(answer)),
        ];
        let method = (object::DEVICE, method::DEVICE_INVOKE_WRITE);
        // SAFETY: the addresses inside `request` are the caller's promise; `request` and `answer`
        // themselves are used during the call only, for which they are borrowed.
        unsafe { self.invoke(operation, method, &mut attributes) }
    }

    pub(super) fn bad_answer(
        &self,
        operation: &'static str,
        problem: impl Into<String>,
    ) -> VerbsError {
        VerbsError::Answer {
            device: self.device.clone(),
            operation,
            problem: problem.into(),
        }
    }
}
