//! A uverbs node as an unmodified program has it open: ioctls instead of typed calls, and one
//! doorbell page whose stores are seen one by one.

use std::sync::Arc;

use uverbs_abi::{DoorbellKind, Errno};

use super::context::Context;
use super::doorbells::PlainPage;
use super::lift::Command;
use crate::Model;
use crate::findings::FindingKind;
use crate::model::Shared;

/// An open uverbs context for a program that knows nothing of the model
/// ([`crate::DoorbellMode::Trapped`]). Dropping it closes the context: every object that is left
/// is destroyed.
pub struct Node {
    shared: Arc<Shared>,
    function: usize,
    context: u32,
}

impl Model {
    /// Opens the uverbs node `name` (`uverbs0`).
    ///
    /// # Errors
    ///
    /// `ENOENT` where the machine has no such node, or its device is gone.
    pub fn open_node(&self, name: &str) -> Result<Node, Errno> {
        let mut machine = self.shared.lock();
        let found = machine
            .functions
            .iter()
            .enumerate()
            .find_map(|(index, function)| {
                let ib = function.ib_devices.iter().find(|ib| ib.node == name)?;
                Some((index, ib.kind))
            });
        let (function, kind) = found.ok_or(Errno::ENOENT)?;
        let context = machine.open(function, kind);
        drop(machine);
        Ok(Node {
            shared: Arc::clone(&self.shared),
            function,
            context,
        })
    }
}

impl Node {
    /// An ioctl of the program; the model's answer is written into the program's memory as the
    /// kernel does it.
    ///
    /// # Errors
    ///
    /// The kernel's error number; nothing was created then.
    ///
    /// # Safety
    ///
    /// Where `request` is `RDMA_VERBS_IOCTL`, `argument` must be null or point to an
    /// `ib_uverbs_ioctl_hdr` with the attributes that it announces; the addresses in them must be
    /// memory of the stated lengths, readable or writable as the attribute's direction asks, and
    /// nobody else may touch any of it during the call. For memory that the attributes hand to the
    /// device, [`uverbs_abi::Transport::invoke`]'s contract holds.
    pub unsafe fn ioctl(&self, request: u32, argument: *mut u8) -> Result<(), Errno> {
        // SAFETY: the caller's promise.
        let command = unsafe { Command::copy(request, argument) }?;
        let mut machine = self.shared.lock();
        machine.count_operation()?;
        let function = &mut machine.functions[self.function];
        // SAFETY: the caller's promise, for the command's memory and for the device's.
        unsafe { command.run(|call, attributes| function.invoke(self.context, call, attributes)) }
    }

    /// Whether the program may map the doorbell page now.
    ///
    /// # Errors
    ///
    /// `EIO` once the device is gone, `EINVAL` before GET_CONTEXT.
    pub fn map_doorbells(&self) -> Result<(), Errno> {
        let mut machine = self.shared.lock();
        machine.count_operation()?;
        let function = &machine.functions[self.function];
        let context = function.contexts.get(&self.context).ok_or(Errno::EIO)?;
        if context.gone {
            return Err(Errno::EIO);
        }
        if context.ready {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The program has stored `value` at `offset` of the context's doorbell page: the device takes
    /// it, and everything that follows from it happens before this returns. Once the device is
    /// gone, stores go nowhere.
    pub fn store(&self, offset: usize, value: u64) {
        let mut machine = self.shared.lock();
        let function = &mut machine.functions[self.function];
        let gone = |context: &Context| context.gone;
        if function.contexts.get(&self.context).is_none_or(gone) {
            return;
        }
        match kind_at(offset) {
            Some(kind) => {
                let queue = (value & QUEUE_ID) as u32;
                function.device.doorbell(self.context, kind, queue, value);
            }
            None => function.device.found(
                FindingKind::DoorbellRegister,
                None,
                format_args!("{value:#018x} stored at offset {offset:#05x}"),
            ),
        }
        machine.settle(true);
    }

    /// Lets the device read the registers of a plain page at every [`Model::step`], instead of
    /// seeing each store ([`Node::store`]): values that are overwritten before are lost.
    ///
    /// # Safety
    ///
    /// `page` must be the first byte of 4096, 8-byte aligned, readable and writable, reached by
    /// nobody but through whole 64-bit stores, and so until [`Node::forget_page`] or the drop.
    pub unsafe fn watch_page(&self, page: *mut u8) {
        // SAFETY: the caller's promise.
        let page = unsafe { PlainPage::new(page.cast()) };
        let mut machine = self.shared.lock();
        let contexts = &mut machine.functions[self.function].contexts;
        if let Some(context) = contexts.get_mut(&self.context) {
            context.cells.watch(page);
        }
    }

    /// Stops [`Node::watch_page`]: the page may go.
    pub fn forget_page(&self) {
        let mut machine = self.shared.lock();
        let contexts = &mut machine.functions[self.function].contexts;
        if let Some(context) = contexts.get_mut(&self.context) {
            context.cells.forget_page();
        }
    }
}

/// Bits of a doorbell that name its queue (reference/mana-hardware.md §2.7).
const QUEUE_ID: u64 = 0xFF_FFFF;

/// The register at `offset`.
fn kind_at(offset: usize) -> Option<DoorbellKind> {
    [
        DoorbellKind::Send,
        DoorbellKind::Receive,
        DoorbellKind::Completion,
    ]
    .into_iter()
    .find(|kind| kind.offset() == offset)
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.lock().close(self.function, self.context);
    }
}
