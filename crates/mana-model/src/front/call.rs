//! One method call: who may call what, then the method itself.

use uverbs_abi::ids::attr;
use uverbs_abi::{Attribute, Call, Errno};

use super::attributes::Attributes;
use super::context::Context;
use super::events::EventFile;
use super::machine::{Function, KernelPort};
use super::methods::Method;
use super::objects::Object;
use super::rules::Rules;
use crate::config::Limits;
use crate::core::Device;

/// Everything that a method may look at and change.
pub(crate) struct Kernel<'m> {
    pub(crate) rules: &'static Rules,
    pub(crate) limits: &'m Limits,
    pub(crate) ports: &'m mut [KernelPort],
    pub(crate) device: &'m mut Device,
    pub(crate) context: &'m mut Context,
}

impl Function {
    /// Runs one method.
    ///
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`], whose arguments these are.
    pub(crate) unsafe fn invoke(
        &mut self,
        context: u32,
        call: Call,
        list: &mut [Attribute<'_>],
    ) -> Result<(), Errno> {
        let context = self.contexts.get_mut(&context).ok_or(Errno::EIO)?;
        if call.driver_id != self.driver_id {
            return Err(Errno::EINVAL);
        }
        let method = Method::of(call)?;
        let mut attributes = Attributes::check(list, method.attributes())?;
        if context.gone {
            return context.destroy_left(method, &mut attributes);
        }
        let kernel = Kernel {
            rules: self.rules,
            limits: &self.limits,
            ports: &mut self.ports,
            device: &mut self.device,
            context,
        };
        // SAFETY: the caller's promise, passed on.
        unsafe { kernel.run(method, attributes) }
    }
}

impl Kernel<'_> {
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`].
    unsafe fn run(mut self, method: Method, mut call: Attributes<'_, '_>) -> Result<(), Errno> {
        let call = &mut call;
        let without = matches!(method, Method::GetContext | Method::InvokeWrite);
        // A context that was not asked for has no objects, and that is found out first.
        if !self.context.ready && !without && !method.destroys() {
            return Err(Errno::EINVAL);
        }
        match method {
            // SAFETY: the caller's promise, passed on.
            Method::InvokeWrite => unsafe { self.invoke_write(call) },
            Method::QueryPort => self.query_port(call),
            Method::GetContext => self.get_context(call),
            Method::AllocAsyncEvent => self.alloc_async_event(call),
            // SAFETY: the caller's promise, passed on.
            Method::CreateCq => unsafe { self.create_cq(call) },
            // SAFETY: the caller's promise, passed on.
            Method::CreateQp => unsafe { self.create_qp(call) },
            // SAFETY: the caller's promise, passed on.
            Method::CreateWq => unsafe { self.create_wq(call) },
            Method::DestroyPd => self.destroy(call, |object| matches!(object, Object::Pd(_))),
            Method::DestroyMr => self.destroy(call, |object| matches!(object, Object::Mr(_))),
            Method::DestroyTable => self.destroy(call, |object| matches!(object, Object::Table(_))),
            Method::DestroyQp => self.destroy(call, |object| matches!(object, Object::Qp(_))),
            Method::DestroyWq => self.destroy(call, |object| matches!(object, Object::Wq(_))),
            Method::DestroyCq => self.destroy_cq(call),
        }
    }

    fn get_context(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        if self.context.ready {
            return Err(Errno::EINVAL);
        }
        self.context.ready = true;
        call.put(attr::CONTEXT_NUM_COMP_VECTORS, &self.limits.comp_vectors);
        // Neither core features nor driver features are announced.
        call.put(attr::CONTEXT_CORE_SUPPORT, &0_u64);
        call.put_driver(&0_u64);
        Ok(())
    }

    fn alloc_async_event(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        self.context.drop_abandoned_files();
        let (fd, file) = EventFile::create()?;
        self.context.async_files.push(file);
        call.put_fd(attr::ASYNC_FD, fd);
        Ok(())
    }

    /// Every destroy but that of a CQ: the object must exist, be of the kind and be unused.
    fn destroy(
        &mut self,
        call: &mut Attributes<'_, '_>,
        is_kind: impl Fn(&Object) -> bool,
    ) -> Result<(), Errno> {
        let handle = call.handle(attr::DESTROY_HANDLE).ok_or(Errno::EINVAL)?;
        if !is_kind(self.context.objects.get(handle)?) {
            return Err(Errno::EINVAL);
        }
        self.context.objects.check_unused(handle)?;
        self.context.destroy(handle, self.device, self.ports);
        call.put(attr::DESTROY_RESP, &0_u32);
        Ok(())
    }

    fn destroy_cq(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let handle = call.handle(attr::DESTROY_HANDLE).ok_or(Errno::EINVAL)?;
        self.context.objects.cq(handle)?;
        self.context.objects.check_unused(handle)?;
        let answer = self.context.objects.cq(handle)?.reported();
        self.context.destroy(handle, self.device, self.ports);
        self.context.drop_abandoned_files();
        call.put(attr::DESTROY_RESP, &answer);
        Ok(())
    }

    /// The index of a port that the program counts from 1; `EINVAL` where it has none.
    pub(crate) fn port_index(&self, port: u64) -> Result<usize, Errno> {
        let index = port.checked_sub(1).ok_or(Errno::EINVAL)?;
        let index = usize::try_from(index).map_err(|_| Errno::EINVAL)?;
        match index < self.ports.len() {
            true => Ok(index),
            false => Err(Errno::EINVAL),
        }
    }
}
