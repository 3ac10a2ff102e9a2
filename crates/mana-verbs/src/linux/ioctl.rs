//! Calls as the kernel's one uverbs ioctl takes them (reference/mana-hardware.md §5.1).

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use uverbs_abi::ids::ATTR_F_MANDATORY;
use uverbs_abi::{Attribute, Call, Errno, Value};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `ib_uverbs_ioctl_hdr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Attr {
    id: u16,
    len: u16,
    flags: u16,
    attr_data: u16,
    data: u64,
}

const _: () = assert!(size_of::<Header>() == 24 && size_of::<Attr>() == 16);

/// The kernel takes a page at most.
const MAX_ATTRIBUTES: usize = (4096 - size_of::<Header>()) / size_of::<Attr>();

/// A call as the kernel reads it, valid as long as the attributes it was made of are borrowed.
/// In 64-bit words, because the kernel's structures are aligned to them.
#[derive(Debug)]
pub(super) struct Command {
    words: Vec<u64>,
}

impl Command {
    /// Lowers a call. Inputs of up to 8 bytes, constants, handles and descriptors travel inside
    /// the attribute, everything else as an address.
    ///
    /// # Errors
    ///
    /// `E2BIG` for more attributes or bytes than the format can name.
    pub(super) fn lower(call: Call, attributes: &mut [Attribute<'_>]) -> Result<Self, Errno> {
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(Errno::E2BIG);
        }
        let header = Header {
            length: (size_of::<Header>() + size_of::<Attr>() * attributes.len()) as u16,
            object: call.object,
            method: call.method,
            num_attrs: attributes.len() as u16,
            reserved1: 0,
            driver_id: call.driver_id,
            reserved2: 0,
        };
        let mut words = vec![0; usize::from(header.length) / size_of::<u64>()];
        let bytes = words.as_mut_bytes();
        bytes[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        let slots = bytes[size_of::<Header>()..].chunks_exact_mut(size_of::<Attr>());
        for (slot, attribute) in slots.zip(attributes) {
            slot.copy_from_slice(lower_attribute(attribute)?.as_bytes());
        }
        Ok(Self { words })
    }

    /// What the ioctl's argument points to; the kernel writes into it.
    pub(super) fn as_mut_ptr(&mut self) -> *mut u64 {
        self.words.as_mut_ptr()
    }

    /// Copies handles and descriptors that the kernel wrote into the command back to the
    /// attributes it was made of. Bytes it has written through their addresses.
    ///
    /// # Safety
    ///
    /// The kernel has carried the command out successfully, and this is called once: descriptors
    /// are taken over.
    pub(super) unsafe fn write_back(&self, attributes: &mut [Attribute<'_>]) {
        let slots = self.words.as_bytes()[size_of::<Header>()..].chunks_exact(size_of::<Attr>());
        for (slot, attribute) in slots.zip(attributes) {
            let Ok(slot) = Attr::read_from_bytes(slot) else {
                unreachable!("chunks have the size of an attribute");
            };
            match &mut attribute.value {
                Value::NewHandle(handle) => *handle = slot.data as u32,
                // SAFETY: the kernel has just made this descriptor for the command, close-on-exec,
                // and this is the only place that takes it over.
                Value::NewFd(fd) => *fd = Some(unsafe { OwnedFd::from_raw_fd(slot.data as RawFd) }),
                Value::In(_)
                | Value::Out(_)
                | Value::Const(_)
                | Value::Handle(_)
                | Value::Fd(_) => {}
            }
        }
    }

    #[cfg(test)]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.words.as_bytes()
    }
}

fn lower_attribute(attribute: &mut Attribute<'_>) -> Result<Attr, Errno> {
    let (len, data) = match &mut attribute.value {
        Value::In(bytes) if bytes.len() <= size_of::<u64>() => {
            let mut inline = [0; size_of::<u64>()];
            inline[..bytes.len()].copy_from_slice(bytes);
            (bytes.len(), u64::from_ne_bytes(inline))
        }
        Value::In(bytes) => (bytes.len(), bytes.as_ptr().expose_provenance() as u64),
        Value::Out(bytes) => (bytes.len(), bytes.as_mut_ptr().expose_provenance() as u64),
        Value::Const(value) => (size_of::<u64>(), *value),
        Value::Handle(handle) => (0, u64::from(*handle)),
        // As libibverbs does it: the kernel looks at the lower 32 bits.
        Value::Fd(fd) => (0, *fd as u64),
        Value::NewHandle(_) | Value::NewFd(_) => (0, 0),
    };
    Ok(Attr {
        id: attribute.id,
        len: u16::try_from(len).map_err(|_| Errno::E2BIG)?,
        flags: if attribute.mandatory {
            ATTR_F_MANDATORY
        } else {
            0
        },
        attr_data: 0,
        data,
    })
}
