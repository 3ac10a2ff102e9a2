//! One open uverbs context of the model.

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use uverbs_abi::{Attribute, Call, DoorbellKind, Errno, Transport};

use super::doorbells::Cell;
use crate::model::Shared;

/// An open context. Dropping it closes the context.
pub(crate) struct ModelTransport {
    shared: Arc<Shared>,
    function: usize,
    context: u32,
    /// Every cell that was handed out, so that it stays valid whatever the machine does.
    cells: Mutex<Vec<Arc<Cell>>>,
}

impl ModelTransport {
    pub(crate) fn new(shared: Arc<Shared>, function: usize, context: u32) -> Self {
        Self {
            shared,
            function,
            context,
            cells: Mutex::default(),
        }
    }
}

// SAFETY:
// * A doorbell cell is a `Cell` aligned to 128 bytes around one AtomicU64, which device and driver
//   reach only by atomic operations. `cells` holds a strong count of every one that was handed out
//   and is never shortened, so each is valid until this value is dropped, whatever happens to
//   device, queue or machine.
// * Memory of the process enters the device in `Function::invoke` alone, which `invoke` calls
//   under its own contract; every step runs under the same lock as every destroy and the close
//   below, so the device reaches it neither before nor after.
unsafe impl Transport for ModelTransport {
    unsafe fn invoke(&self, call: Call, attributes: &mut [Attribute<'_>]) -> Result<(), Errno> {
        let mut machine = self.shared.lock();
        machine.count_operation()?;
        // SAFETY: the caller's promise about the memory that the attributes name, passed on.
        unsafe { machine.functions[self.function].invoke(self.context, call, attributes) }
    }

    fn doorbell(&self, kind: DoorbellKind, queue_id: u32) -> Result<NonNull<u64>, Errno> {
        let mut machine = self.shared.lock();
        machine.count_operation()?;
        let function = &mut machine.functions[self.function];
        let context = function.contexts.get_mut(&self.context).ok_or(Errno::EIO)?;
        if context.gone {
            return Err(Errno::EIO);
        }
        if !context.ready {
            return Err(Errno::EINVAL);
        }
        let cell = context.cells.map(kind, queue_id);
        let register = cell.register();
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        if !cells.iter().any(|held| Arc::ptr_eq(held, &cell)) {
            cells.push(cell);
        }
        Ok(register)
    }
}

impl Drop for ModelTransport {
    fn drop(&mut self) {
        self.shared.lock().close(self.function, self.context);
    }
}
