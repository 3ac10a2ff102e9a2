//! Calls as unmodified programs make them: the one ioctl of a uverbs node, read back into typed
//! attributes (reference/mana-hardware.md §5.1, reference/uverbs-boundary.md §2 "General form").

use std::os::fd::IntoRawFd;
use std::slice;

use uverbs_abi::ids::{ATTR_F_MANDATORY, ATTR_F_VALID_OUTPUT, RDMA_VERBS_IOCTL};
use uverbs_abi::{Attribute, Call, Errno, Value};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::attributes::{Kind, Spec};
use super::methods::Method;

/// `ib_uverbs_ioctl_hdr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    /// Of header and attributes, in bytes.
    length: u16,
    object: u16,
    method: u16,
    num_attrs: u16,
    reserved1: u64,
    driver_id: u32,
    reserved2: u32,
}

/// `ib_uverbs_attr`.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Slot {
    id: u16,
    len: u16,
    flags: u16,
    attr_data: u16,
    data: u64,
}

const _: () = assert!(size_of::<Header>() == 24 && size_of::<Slot>() == 16);

/// The kernel takes a page at most.
const MAX_BYTES: usize = 4096;

/// A command of the program, copied out of its memory.
pub(crate) struct Command {
    header: Header,
    slots: Vec<Slot>,
    /// Where the attributes stand in the program's memory.
    origin: *mut Slot,
}

impl Command {
    /// Copies the command behind an ioctl's argument.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for another ioctl; `EFAULT` without an argument; `EINVAL` where length and number
    /// of attributes disagree or reserved words are not zero.
    ///
    /// # Safety
    ///
    /// Where `request` is `RDMA_VERBS_IOCTL`, `argument` must be null or point to a header with the
    /// attributes that it announces, which nobody else touches during the call.
    pub(crate) unsafe fn copy(request: u32, argument: *mut u8) -> Result<Self, Errno> {
        if request != RDMA_VERBS_IOCTL {
            return Err(Errno::ENOTTY);
        }
        if argument.is_null() {
            return Err(Errno::EFAULT);
        }
        // SAFETY: not null, so the caller promises a header there.
        let header = unsafe { argument.cast::<Header>().read_unaligned() };
        let count = usize::from(header.num_attrs);
        let length = size_of::<Header>() + count * size_of::<Slot>();
        if length > MAX_BYTES || usize::from(header.length) != length {
            return Err(Errno::EINVAL);
        }
        if header.reserved1 != 0 || header.reserved2 != 0 {
            return Err(Errno::EPROTONOSUPPORT);
        }
        // SAFETY: the attributes stand behind the header, as the caller promises.
        let origin = unsafe { argument.add(size_of::<Header>()) }.cast::<Slot>();
        let slots = (0..count)
            // SAFETY: the header announces `count` attributes.
            .map(|index| unsafe { origin.add(index).read_unaligned() })
            .collect();
        Ok(Self {
            header,
            slots,
            origin,
        })
    }

    pub(crate) fn call(&self) -> Call {
        Call {
            driver_id: self.header.driver_id,
            object: self.header.object,
            method: self.header.method,
        }
    }

    /// Runs `invoke` on the typed attributes and writes handles, descriptors and the mark of
    /// outputs back to the program.
    ///
    /// # Errors
    ///
    /// What `invoke` answers; `EFAULT` for bytes without an address, `EINVAL` for a
    /// constant of other than 8 bytes.
    ///
    /// # Safety
    ///
    /// As [`Command::copy`], and the addresses in the attributes are memory of the lengths beside
    /// them, readable for inputs and writable for outputs, left alone by others during the call.
    pub(crate) unsafe fn run(
        &self,
        invoke: impl FnOnce(Call, &mut [Attribute<'_>]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let call = self.call();
        let specs = Method::of(call).map_or(&[][..], Method::attributes);
        let mut attributes = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let spec = specs.iter().find(|spec| spec.id == slot.id);
            attributes.push(Attribute {
                id: slot.id,
                mandatory: slot.flags & ATTR_F_MANDATORY != 0,
                // SAFETY: the caller's promise about this attribute's address.
                value: unsafe { lift(slot, spec) }?,
            });
        }
        invoke(call, &mut attributes)?;
        for (index, attribute) in attributes.into_iter().enumerate() {
            let data = match attribute.value {
                Value::NewHandle(handle) => Some(u64::from(handle)),
                Value::NewFd(Some(fd)) => Some(fd.into_raw_fd() as u64),
                Value::Out(_) => None,
                _ => continue,
            };
            // SAFETY: the program's attribute `index`, which the caller promises to be there and
            // which nobody else touches.
            let origin = unsafe { self.origin.add(index) };
            let mut slot = self.slots[index];
            slot.flags |= ATTR_F_VALID_OUTPUT;
            slot.data = data.unwrap_or(slot.data);
            // SAFETY: as above.
            unsafe { origin.write_unaligned(slot) };
        }
        Ok(())
    }
}

/// One attribute in the shape that the method's table gives it. One that the method does not know
/// becomes a constant: it is refused or passed over by its number alone.
///
/// # Safety
///
/// As [`Command::run`], of this attribute.
unsafe fn lift<'a>(slot: &'a Slot, spec: Option<&Spec>) -> Result<Value<'a>, Errno> {
    let len = usize::from(slot.len);
    let address = std::ptr::with_exposed_provenance_mut::<u8>(slot.data as usize);
    Ok(match spec.map(|spec| spec.kind) {
        Some(Kind::In(_) | Kind::Flags | Kind::Data) if len <= size_of::<u64>() => {
            Value::In(&slot.data.as_bytes()[..len])
        }
        Some(Kind::In(_) | Kind::Flags | Kind::Data) => {
            if address.is_null() {
                return Err(Errno::EFAULT);
            }
            // SAFETY: the caller promises `len` readable bytes at the address.
            Value::In(unsafe { slice::from_raw_parts(address, len) })
        }
        Some(Kind::Out(_) | Kind::Room(_)) if len == 0 => Value::Out(&mut []),
        Some(Kind::Out(_) | Kind::Room(_)) => {
            if address.is_null() {
                return Err(Errno::EFAULT);
            }
            // SAFETY: the caller promises `len` writable bytes at the address.
            Value::Out(unsafe { slice::from_raw_parts_mut(address, len) })
        }
        Some(Kind::Const) if len != size_of::<u64>() => return Err(Errno::EINVAL),
        Some(Kind::Handle) => Value::Handle(slot.data as u32),
        Some(Kind::NewHandle) => Value::NewHandle(0),
        Some(Kind::Fd) => Value::Fd(slot.data as i32),
        Some(Kind::NewFd) => Value::NewFd(None),
        Some(Kind::Const) | None => Value::Const(slot.data),
    })
}
