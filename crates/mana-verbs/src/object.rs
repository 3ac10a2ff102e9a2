//! A kernel object with what it stands on, and the rules of teardown: an object goes before what it
//! stands on, and memory is freed only when the device can't reach it any more.

use std::fmt;
use std::mem;
use std::sync::Arc;

use dma_memory::{Region, Segment};

use crate::provider::{Handle, ObjectKind};
use crate::{Context, VerbsError};

/// Memory that the device reads or writes through an object.
pub(crate) enum Memory {
    Ring(Segment),
    Region(Arc<Region>),
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (base, len) = match self {
            Self::Ring(ring) => (ring.base(), ring.len()),
            Self::Region(region) => (region.base(), region.len()),
        };
        write!(f, "{len} bytes at {base:p}")
    }
}

/// An object of the kernel, destroyed on drop, and the objects below it right after it.
pub(crate) struct Object {
    context: Context,
    kind: ObjectKind,
    handle: Handle,
    memory: Option<Memory>,
    /// Objects that this one uses: the kernel refuses to destroy them before it.
    below: Vec<Object>,
    finished: bool,
}

impl Object {
    pub(crate) fn new(
        context: &Context,
        kind: ObjectKind,
        handle: Handle,
        memory: Option<Memory>,
    ) -> Self {
        Self {
            context: context.clone(),
            kind,
            handle,
            memory,
            below: Vec::new(),
            finished: false,
        }
    }

    /// Takes over the objects that this one uses.
    pub(crate) fn above(mut self, below: impl IntoIterator<Item = Object>) -> Self {
        self.below.extend(below);
        self
    }

    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    pub(crate) fn handle(&self) -> Handle {
        self.handle
    }

    /// Destroys the object and all below it now and says how that went; drop does the same and only
    /// logs. What happens to the memory is the same in both cases.
    pub(crate) fn destroy(mut self) -> Result<(), VerbsError> {
        self.finish()
    }

    /// The first error is returned, all are logged.
    fn finish(&mut self) -> Result<(), VerbsError> {
        if mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        let memory = self.memory.take();
        if self.context.in_child() {
            // The objects below see it for themselves.
            mem::forget(memory);
            return Ok(());
        }
        let mut result = self.context.raw().destroy(self.kind, self.handle);
        match &result {
            Ok(()) => drop(memory),
            Err(error) if error.is_disassociated() => {
                tracing::debug!(%error, "left to the kernel, which destroys it with the context");
                if let Some(memory) = memory {
                    self.context.drop_after_close(memory);
                }
            }
            Err(error) => {
                tracing::error!(%error, handle = self.handle, "the object is left to the kernel");
                self.memory = memory;
                self.keep();
                return result;
            }
        }
        for mut object in self.below.drain(..) {
            result = result.and(object.finish());
        }
        result
    }

    /// Leaves this object and all below it alone for the life of the process, memory included: it,
    /// or one that uses it, could not be destroyed.
    fn keep(&mut self) {
        self.finished = true;
        if let Some(memory) = self.memory.take() {
            tracing::error!(
                "{}: {memory} stay allocated for the life of the process: the device may still use \
                 them through the {:?} {}",
                self.context.device_name(),
                self.kind,
                self.handle,
            );
            mem::forget(memory);
        }
        for mut object in self.below.drain(..) {
            object.keep();
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // The failure is in the log and the memory is safe: nothing is left to do here.
        let _ = self.finish();
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Object")
            .field("device", &self.context.device_name())
            .field("kind", &self.kind)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}
