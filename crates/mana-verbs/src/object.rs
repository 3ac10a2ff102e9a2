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

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use uverbs_abi::Errno;

    use super::*;
    use crate::scripted::{Machine, region};
    use crate::{Access, MemoryRegion, ProtectionDomain, RssQueuePair, SendQueue, SendQueueSpec};

    /// A port's objects, and a look at the memory under each: registered memory, the send queue
    /// and its completion queue, the work queue and its completion queue.
    struct Port {
        mr: MemoryRegion,
        send_queue: SendQueue,
        rss: RssQueuePair,
        memory: [Weak<Region>; 5],
    }

    impl Port {
        fn new(pd: &ProtectionDomain) -> Self {
            let regions = [(); 5].map(|()| region());
            let memory = regions.each_ref().map(Arc::downgrade);
            let [buffers, rings @ ..] = regions;
            let [sq, sq_cq, rq, rq_cq] =
                rings.map(|region| Segment::new(&region, 0, 4096).unwrap());
            let cq = pd.create_cq(sq_cq, 64, 0, None).unwrap();
            let spec = SendQueueSpec {
                port: 1,
                ring: sq,
                max_wr: 64,
                max_sge: 1,
            };
            let send_queue = pd.create_send_queue(spec, cq).unwrap();
            let cq = pd.create_cq(rq_cq, 64, 0, None).unwrap();
            let queue = pd.create_work_queue(rq, 64, cq).unwrap();
            Self {
                mr: pd.register(&buffers, Access::LocalWrite).unwrap(),
                send_queue,
                rss: pd.create_rss(1, vec![queue], &[1; 40]).unwrap(),
                memory,
            }
        }

        /// Which of the memory is still mapped.
        fn alive(memory: &[Weak<Region>]) -> Vec<bool> {
            (memory.iter())
                .map(|region| region.strong_count() > 0)
                .collect()
        }
    }

    #[test]
    fn memory_is_freed_when_its_object_is_destroyed() {
        let machine = Machine::new();
        let pd = machine.pd();
        let Port {
            mr,
            send_queue,
            rss,
            memory,
        } = Port::new(&pd);
        assert_eq!(Port::alive(&memory), [true; 5]);
        drop(send_queue);
        assert_eq!(Port::alive(&memory), [true, false, false, true, true]);
        drop(rss);
        drop(mr);
        assert_eq!(Port::alive(&memory), [false; 5]);
        assert_eq!(machine.live(), 1);
    }

    #[test]
    fn memory_stays_for_good_when_its_object_cannot_be_destroyed() {
        // Which destroy fails, and what must stay: what stands below it is in use, and stays too.
        for (step, kept) in [
            ("destroy mr", [true, false, false, false, false]),
            ("destroy qp", [false, true, true, true, true]),
            ("destroy table", [false, false, false, true, true]),
            ("destroy wq", [false, false, false, true, true]),
            ("destroy cq", [false, false, true, false, true]),
        ] {
            let machine = Machine::new();
            let port = Port::new(&machine.pd());
            machine.script().fail.insert(step, Errno::ETIMEDOUT);
            let memory = port.memory.clone();
            machine.log();
            drop(port);
            assert_eq!(Port::alive(&memory), kept, "{step}");
            // The context is closed all the same, and nothing below a failure was tried.
            let log = machine.log();
            assert_eq!(log.last().unwrap(), "close");
            if step == "destroy qp" {
                let expected = [
                    "destroy mr",
                    "destroy qp",
                    "destroy qp",
                    "destroy pd",
                    "close",
                ];
                assert_eq!(log, expected);
            }
        }
    }

    #[test]
    fn destroying_by_hand_tells_the_first_error() {
        let machine = Machine::new();
        let port = Port::new(&machine.pd());
        machine.script().fail.insert("destroy wq", Errno::EINVAL);
        let error = port.rss.destroy().unwrap_err();
        assert_eq!(error.operation(), Some("destroy work queue"));
        assert_eq!(error.errno(), Some(Errno::EINVAL));
        assert!(!error.is_disassociated());
    }

    #[test]
    fn memory_of_a_device_that_is_gone_is_freed_after_the_context_is_closed() {
        let machine = Machine::new();
        let Port {
            mr,
            send_queue,
            rss,
            memory,
        } = Port::new(&machine.pd());
        for step in ["qp", "cq", "table", "wq", "mr", "pd"] {
            let step = format!("destroy {step}").leak();
            machine.script().fail.insert(step, Errno::EIO);
        }
        machine.script().watched = memory.to_vec();
        assert!(send_queue.destroy().unwrap_err().is_disassociated());
        drop(rss);
        assert_eq!(Port::alive(&memory), [true; 5]);
        drop(mr);
        assert_eq!(machine.log().last().unwrap(), "close");
        assert_eq!(machine.script().alive_at_close, 5);
        assert_eq!(Port::alive(&memory), [false; 5]);
    }

    #[test]
    fn what_is_handed_over_is_dropped_after_the_context_is_closed() {
        let machine = Machine::new();
        let context = machine.context();
        let region = region();
        machine.script().watched = vec![Arc::downgrade(&region)];
        context.drop_after_close(region);
        drop(context);
        let script = machine.script();
        assert_eq!(script.alive_at_close, 1);
        assert_eq!(script.watched[0].strong_count(), 0);
    }

    #[test]
    fn a_forgotten_handle_keeps_memory_and_context() {
        let machine = Machine::new();
        let port = Port::new(&machine.pd());
        let memory = port.memory.clone();
        mem::forget(port.send_queue);
        drop((port.rss, port.mr));
        assert_eq!(Port::alive(&memory), [false, true, true, false, false]);
        assert!(!machine.log().contains(&"close".to_owned()));
    }

    #[test]
    fn handles_dropped_in_a_forked_child_do_nothing() {
        let machine = Machine::new();
        let port = Port::new(&machine.pd());
        let memory = port.memory.clone();
        machine.log();
        // SAFETY: the child only drops, looks and exits, without returning into the test harness;
        // malloc is made usable after fork by the C library.
        let child = unsafe { libc::fork() };
        if child == 0 {
            drop(port);
            let asleep = machine.log().is_empty() && Port::alive(&memory) == [true; 5];
            // SAFETY: ends the child at once, without running anything of the parent's.
            unsafe { libc::_exit(i32::from(!asleep)) };
        }
        let mut status = -1;
        // SAFETY: `status` is valid for writes.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child did something");
        assert_eq!(machine.log(), [""; 0]);
        drop(port);
        assert_eq!(Port::alive(&memory), [false; 5]);
    }
}
