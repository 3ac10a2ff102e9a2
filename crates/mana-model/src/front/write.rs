//! Write commands tunnelled through INVOKE_WRITE: PD, MR, completion channel, indirection table
//! and the device query (reference/mana-hardware.md §5.3).

use std::os::fd::IntoRawFd;
use std::sync::Arc;

use uverbs_abi::ids::{WRITE_CMD_EXTENDED, attr, write_cmd};
use uverbs_abi::{Errno, wire};
use zerocopy::FromBytes;

use super::attributes::Attributes;
use super::call::Kernel;
use super::events::EventFile;
use super::objects::{Mr, Object, Pd, Table};
use super::pages;

/// Largest logarithm of a table that the core takes (`IB_USER_VERBS_MAX_LOG_IND_TBL_SIZE`).
const MAX_LOG_TABLE: u32 = 13;
/// `IB_USER_VERBS_CMD_COMMAND_MASK`.
const COMMAND: u32 = 0xFF;
/// `IB_ACCESS_SUPPORTED`: ten bits and the optional ones.
const KNOWN_ACCESS: u32 = 0x3FF0_03FF;
/// `IB_ACCESS_ON_DEMAND`, `_FLUSH_GLOBAL`, `_FLUSH_PERSISTENT`: for devices that say that they can.
const WITH_CAPABILITY: u32 = 0x340;
/// The bits for which the kernel wants the memory to be writable (`ib_access_writable`).
const WRITING: u32 = 1 | 2 | 8 | 16;
/// `IB_ACCESS_LOCAL_WRITE`, `_REMOTE_WRITE`, `_REMOTE_ATOMIC`.
const LOCAL_WRITE: u32 = 1;
const REMOTE_WRITE_OR_ATOMIC: u32 = 2 | 8;

impl Kernel<'_> {
    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`].
    pub(crate) unsafe fn invoke_write(
        &mut self,
        call: &mut Attributes<'_, '_>,
    ) -> Result<(), Errno> {
        let command = call.constant(attr::WRITE_CMD)?;
        let command = u32::try_from(command).map_err(|_| Errno::EINVAL)?;
        if command & !(WRITE_CMD_EXTENDED | COMMAND) != 0 {
            return Err(Errno::EINVAL);
        }
        let (request, response) = sizes(command).ok_or(Errno::EOPNOTSUPP)?;
        // Before anything else: this is what makes probing the driver id possible (§5.4).
        if call.bytes(attr::CORE_IN).len() < request || call.room(attr::CORE_OUT) < response {
            return Err(Errno::ENOSPC);
        }
        if !self.context.ready {
            return Err(Errno::EINVAL);
        }
        match command {
            write_cmd::QUERY_DEVICE => {
                call.put(attr::CORE_OUT, &self.device_attributes());
                Ok(())
            }
            write_cmd::EX_QUERY_DEVICE => self.ex_query_device(call),
            write_cmd::ALLOC_PD => self.alloc_pd(call),
            // SAFETY: the caller's promise, passed on.
            write_cmd::REG_MR => unsafe { self.reg_mr(call) },
            write_cmd::CREATE_COMP_CHANNEL => self.create_comp_channel(call),
            _ => self.create_table(call),
        }
    }

    fn alloc_pd(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let id = self.device.create_pd();
        let pd_handle = self
            .context
            .objects
            .insert(Object::Pd(Pd { id, vport: None }));
        call.put(attr::CORE_OUT, &wire::AllocPdResp { pd_handle });
        Ok(())
    }

    /// # Safety
    ///
    /// That of [`uverbs_abi::Transport::invoke`]: the memory of the request stays mapped and free
    /// of references until the MR is destroyed.
    unsafe fn reg_mr(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        let request: wire::RegMr = call.read(attr::CORE_IN)?;
        let end = request.start.checked_add(request.length);
        let same_offset = (request.start ^ request.hca_va) & (super::PAGE - 1) == 0;
        if request.length == 0 || end.is_none() || !same_offset {
            return Err(Errno::EINVAL);
        }
        let access = request.access_flags;
        let remote_without_local =
            access & REMOTE_WRITE_OR_ATOMIC != 0 && access & LOCAL_WRITE == 0;
        if access & !KNOWN_ACCESS != 0 || remote_without_local {
            return Err(Errno::EINVAL);
        }
        let pd = self.context.objects.pd(request.pd_handle)?.id;
        if access & WITH_CAPABILITY != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let access = access & !self.rules.access_optional;
        if access & !self.rules.access != 0 {
            return Err(Errno::EINVAL);
        }
        pages::populate(request.start, request.length, access & WRITING != 0)?;
        // SAFETY: the caller promises that the memory stays mapped and unreferenced until the MR is
        // destroyed. `Context::destroy` removes it from the device under the lock of every step, so
        // no access happens after the destroy returned.
        let (id, lkey) = unsafe {
            self.device
                .create_mr(pd, request.start, request.length, request.hca_va, access)
        };
        let mr_handle = self.context.objects.insert(Object::Mr(Mr {
            id,
            pd: request.pd_handle,
        }));
        let answer = wire::RegMrResp {
            mr_handle,
            lkey,
            rkey: lkey,
        };
        call.put(attr::CORE_OUT, &answer);
        Ok(())
    }

    fn create_comp_channel(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        self.context.drop_abandoned_files();
        let (fd, file) = EventFile::create()?;
        self.context.channels.push(Arc::new(file));
        // The answer is a number: whoever reads it owns the file.
        let fd = fd.into_raw_fd() as u32;
        call.put(attr::CORE_OUT, &wire::CreateCompChannelResp { fd });
        Ok(())
    }

    /// The table is a kernel object only. That it has at most 64 entries, and each WQ once, is
    /// found out by the RSS QP (§4.6).
    fn create_table(&mut self, call: &mut Attributes<'_, '_>) -> Result<(), Errno> {
        if !self.context.kind.ethernet {
            return Err(Errno::EOPNOTSUPP);
        }
        let request: wire::CreateRwqIndTbl = call.read(attr::CORE_IN)?;
        if request.comp_mask != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        if request.log_ind_tbl_size > MAX_LOG_TABLE {
            return Err(Errno::EINVAL);
        }
        let bytes = &call.bytes(attr::CORE_IN)[size_of::<wire::CreateRwqIndTbl>()..];
        let wqs = <[u32]>::ref_from_prefix_with_elems(bytes, 1 << request.log_ind_tbl_size);
        let (wqs, beyond) = wqs.map_err(|_| Errno::ENOSPC)?;
        if beyond.iter().any(|&byte| byte != 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let wqs = wqs.to_vec();
        for &wq in &wqs {
            self.context.objects.wq(wq)?;
        }
        let ind_tbl_handle = self.context.objects.insert(Object::Table(Table { wqs }));
        let answer = wire::CreateRwqIndTblResp {
            comp_mask: 0,
            response_length: size_of::<wire::CreateRwqIndTblResp>() as u32,
            ind_tbl_handle,
            ind_tbl_num: 0,
        };
        call.put(attr::CORE_OUT, &answer);
        Ok(())
    }
}

/// Least bytes of request and response of the commands that exist here.
fn sizes(command: u32) -> Option<(usize, usize)> {
    Some(match command {
        write_cmd::QUERY_DEVICE => (
            size_of::<wire::ResponseSlot>(),
            size_of::<wire::QueryDeviceResp>(),
        ),
        // What it is not given is zero, and it tells what there is room for.
        write_cmd::EX_QUERY_DEVICE => (0, 0),
        write_cmd::ALLOC_PD => (
            size_of::<wire::ResponseSlot>(),
            size_of::<wire::AllocPdResp>(),
        ),
        write_cmd::REG_MR => (size_of::<wire::RegMr>(), size_of::<wire::RegMrResp>()),
        write_cmd::CREATE_COMP_CHANNEL => (
            size_of::<wire::ResponseSlot>(),
            size_of::<wire::CreateCompChannelResp>(),
        ),
        write_cmd::EX_CREATE_RWQ_IND_TBL => (
            size_of::<wire::CreateRwqIndTbl>(),
            size_of::<wire::CreateRwqIndTblResp>(),
        ),
        _ => return None,
    })
}
