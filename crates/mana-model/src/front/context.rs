//! What the kernel keeps of one open uverbs context.

use std::sync::Arc;

use uverbs_abi::ids::{EVENT_DEVICE_FATAL, EVENT_PORT_ACTIVE, EVENT_PORT_ERR, attr};
use uverbs_abi::{DoorbellKind, Errno, wire};
use zerocopy::IntoBytes;

use super::attributes::Attributes;
use super::doorbells::Cells;
use super::events::EventFile;
use super::handles::Handles;
use super::machine::KernelPort;
use super::methods::Method;
use super::objects::{Cq, Object, Qp};
use super::rules::{IbKind, Rules};
use crate::core::Device;
use crate::model::ObjectCounts;

/// One open uverbs context.
pub(crate) struct Context {
    /// Its number in the machine.
    pub(crate) id: u32,
    /// The kind of ib device it was opened on.
    pub(crate) kind: &'static IbKind,
    pub(crate) rules: &'static Rules,
    /// After GET_CONTEXT; before it nothing else works.
    pub(crate) ready: bool,
    /// Its device went away: every call is answered by `EIO`, for ever.
    pub(crate) gone: bool,
    /// Objects that there were when the device went away. The kernel has destroyed them, and lets the
    /// program do so once more, as if they were there.
    left: Vec<Left>,
    pub(crate) objects: Handles<Object>,
    /// Completion channels that the program or a CQ still holds.
    pub(crate) channels: Vec<Arc<EventFile>>,
    pub(crate) async_files: Vec<EventFile>,
    pub(crate) cells: Cells,
}

/// An object whose device went away.
struct Left {
    handle: u32,
    /// What destroys it.
    by: Method,
    /// It, if it is a CQ: the program waits for as many acknowledgements as its destruction says that
    /// it has read events, now as before.
    cq: Option<Cq>,
}

impl Context {
    pub(crate) fn new(id: u32, kind: &'static IbKind, rules: &'static Rules) -> Self {
        Self {
            id,
            kind,
            rules,
            ready: false,
            gone: false,
            left: Vec::new(),
            objects: Handles::default(),
            channels: Vec::new(),
            async_files: Vec::new(),
            cells: Cells::default(),
        }
    }

    /// Adds this context and its objects.
    pub(crate) fn count(&self, counts: &mut ObjectCounts) {
        counts.contexts += 1;
        for (_, object) in self.objects.iter() {
            *match object {
                Object::Pd(_) => &mut counts.pds,
                Object::Mr(_) => &mut counts.mrs,
                Object::Cq(_) => &mut counts.cqs,
                Object::Qp(_) => &mut counts.qps,
                Object::Wq(_) => &mut counts.wqs,
                Object::Table(_) => &mut counts.tables,
            } += 1;
        }
    }

    /// Forgets event files that nobody can read any more.
    pub(crate) fn drop_abandoned_files(&mut self) {
        self.async_files.retain(|file| !file.abandoned());
        self.channels
            .retain(|file| Arc::strong_count(file) > 1 || !file.abandoned());
    }

    /// The armed CQ fired: a record into its channel, if it is of this context and has one
    /// (reference/mana-hardware.md §4.9).
    pub(crate) fn completion_event(&mut self, cq_id: u32) {
        if !self.rules.cq_events {
            return;
        }
        for object in self.objects.iter_mut() {
            if let Object::Cq(cq) = object
                && cq.id == Some(cq_id)
                && let Some(channel) = &cq.channel
                && channel.post(&cq.user_handle.to_ne_bytes())
            {
                cq.events += 1;
            }
        }
    }

    /// The device is gone, and every object with it.
    pub(crate) fn disassociate(&mut self, device: &mut Device, ports: &mut [KernelPort]) {
        self.gone = true;
        let left = self.objects.iter().map(|(handle, object)| Left {
            handle,
            by: object.destroyed_by(),
            cq: match object {
                Object::Cq(cq) => Some(cq.clone()),
                _ => None,
            },
        });
        self.left = left.collect();
        self.destroy_all(device, ports);
    }

    /// A call after that: what destroys works once for each object, all else is `EIO`.
    pub(crate) fn destroy_left(
        &mut self,
        method: Method,
        call: &mut Attributes<'_, '_>,
    ) -> Result<(), Errno> {
        if !method.destroys() {
            return Err(Errno::EIO);
        }
        let handle = call.object(attr::DESTROY_HANDLE)?;
        let place = self.left.iter().position(|left| left.handle == handle);
        let place = place.ok_or(Errno::ENOENT)?;
        if self.left[place].by != method {
            return Err(Errno::EINVAL);
        }
        match self.left.swap_remove(place).cq {
            Some(cq) => call.put(attr::DESTROY_RESP, &cq.reported()),
            None => call.put(attr::DESTROY_RESP, &0_u32),
        }
        Ok(())
    }

    /// DEVICE_FATAL into every asynchronous event file.
    pub(crate) fn device_fatal(&self) {
        for file in &self.async_files {
            post(file, 0, EVENT_DEVICE_FATAL);
        }
    }

    /// The netdev of `port`, counted from 0, changed its state: a record into the first
    /// asynchronous event file, which is the context's default one.
    pub(crate) fn port_event(&self, port: usize, up: bool) {
        if let Some(file) = self.async_files.first() {
            let event = if up {
                EVENT_PORT_ACTIVE
            } else {
                EVENT_PORT_ERR
            };
            post(file, port as u64 + 1, event);
        }
    }

    /// Destroys every object, users before what they use. When this returns, the device touches
    /// nothing of this context any more.
    pub(crate) fn destroy_all(&mut self, device: &mut Device, ports: &mut [KernelPort]) {
        for order in 0..=Object::LAST_DESTROYED {
            let handles: Vec<u32> = self
                .objects
                .iter()
                .filter(|(_, object)| object.destroy_order() == order)
                .map(|(handle, _)| handle)
                .collect();
            for handle in handles {
                self.destroy(handle, device, ports);
            }
        }
    }

    /// Takes out one object and what the device has of it. Callers made sure that it is not used.
    pub(crate) fn destroy(&mut self, handle: u32, device: &mut Device, ports: &mut [KernelPort]) {
        match self.objects.remove(handle) {
            None | Some(Object::Table(_)) => {}
            Some(Object::Pd(pd)) => {
                device.destroy_pd(pd.id);
                for port in ports.iter_mut() {
                    port.configured = port.configured.filter(|domain| *domain != pd.id);
                }
            }
            Some(Object::Mr(mr)) => device.destroy_mr(mr.id),
            Some(Object::Cq(cq)) => device_drops(device, cq.region),
            Some(Object::Wq(wq)) => device_drops(device, wq.region),
            Some(Object::Qp(Qp::Raw(qp))) => {
                device.destroy_send_queue(qp.sq_id);
                self.cells.retire(DoorbellKind::Send, qp.sq_id);
                self.cq_unused(qp.cq);
                self.release_vport(qp.pd, device, ports);
            }
            Some(Object::Qp(Qp::Rss(qp))) => {
                // Steering first, so that nothing arrives at a queue that is half gone (§3.11).
                if self.rules.rss_destroy_disables {
                    device.configure_vport_rx(qp.port, None);
                }
                for queue in &qp.queues {
                    device.destroy_receive_queue(queue.rq_id);
                    self.cells.retire(DoorbellKind::Receive, queue.rq_id);
                    self.cq_unused(queue.cq);
                }
                if qp.holds_vport {
                    self.release_vport(qp.pd, device, ports);
                }
            }
        }
    }

    /// The queue of this CQ is gone, and with it the device's part of the CQ.
    pub(crate) fn cq_unused(&mut self, handle: u32) {
        if let Ok(Object::Cq(cq)) = self.objects.get_mut(handle)
            && let Some(id) = cq.id.take()
        {
            self.cells.retire(DoorbellKind::Completion, id);
        }
    }

    /// One user less of the vPort that the PD configured; the last one gives it back.
    pub(crate) fn release_vport(&mut self, pd: u32, device: &mut Device, ports: &mut [KernelPort]) {
        if let Ok(Object::Pd(pd)) = self.objects.get_mut(pd)
            && let Some(vport) = &mut pd.vport
        {
            vport.users -= 1;
            if vport.users == 0 {
                device.release_vport_tx(vport.port);
                ports[vport.port].vport_owner = None;
                pd.vport = None;
            }
        }
    }

    /// The completion channel of which `fd` is the program's end; `EBADF` where it is none.
    pub(crate) fn channel(&self, fd: i32) -> Result<Arc<EventFile>, Errno> {
        let found = self.channels.iter().find(|file| file.is(fd));
        found.cloned().ok_or(Errno::EBADF)
    }

    /// Checks the asynchronous event file that a call names, if it names one.
    pub(crate) fn check_async_file(&self, fd: Option<i32>) -> Result<(), Errno> {
        match fd {
            Some(fd) if !self.async_files.iter().any(|file| file.is(fd)) => Err(Errno::EBADF),
            _ => Ok(()),
        }
    }
}

fn device_drops(device: &mut Device, region: Option<crate::core::RegionId>) {
    if let Some(region) = region {
        device.destroy_dma_region(region);
    }
}

fn post(file: &EventFile, element: u64, event_type: u32) {
    let record = wire::AsyncEvent {
        element,
        event_type,
        reserved: 0,
    };
    file.post(record.as_bytes());
}
