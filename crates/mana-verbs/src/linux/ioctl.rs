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
pub(crate) struct Command {
    words: Vec<u64>,
}

impl Command {
    /// Lowers a call. Inputs of up to 8 bytes, constants, handles and descriptors travel inside
    /// the attribute, everything else as an address.
    ///
    /// # Errors
    ///
    /// `E2BIG` for more attributes or bytes than the format can name.
    pub(crate) fn lower(call: Call, attributes: &mut [Attribute<'_>]) -> Result<Self, Errno> {
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
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u64 {
        self.words.as_mut_ptr()
    }

    /// Copies handles and descriptors that the kernel wrote into the command back to the
    /// attributes it was made of. Bytes it has written through their addresses.
    ///
    /// # Safety
    ///
    /// The kernel has carried the command out successfully, and this is called once: descriptors
    /// are taken over.
    pub(crate) unsafe fn write_back(&self, attributes: &mut [Attribute<'_>]) {
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
    pub(crate) fn as_bytes(&self) -> &[u8] {
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

/// Golden bytes are built by hand from reference/mana-hardware.md §5.1 (little-endian).
#[cfg(all(test, target_endian = "little"))]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use uverbs_abi::ids::{attr, method, object, write_cmd};

    use super::*;

    const PROBE: Call = Call {
        driver_id: 20,
        object: object::DEVICE,
        method: method::DEVICE_INVOKE_WRITE,
    };

    #[test]
    fn the_probe_is_a_header_and_one_constant() {
        let command = Value::Const(u64::from(write_cmd::QUERY_DEVICE));
        let mut attributes = [Attribute::new(attr::WRITE_CMD, command)];
        let command = Command::lower(PROBE, &mut attributes).unwrap();
        #[rustfmt::skip]
        assert_eq!(command.as_bytes(), [
            40, 0, 0, 0, 0, 0, 1, 0,  0, 0, 0, 0, 0, 0, 0, 0,  20, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 8, 0, 1, 0, 0, 0,  1, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }

    #[test]
    fn inputs_are_inline_up_to_8_bytes_and_an_address_above() {
        let (three, eight, nine) = ([1, 2, 3], [1, 2, 3, 4, 5, 6, 7, 8], [0u8; 9]);
        let mut attributes = [
            Attribute::new(1, Value::In(&three)),
            Attribute::new(2, Value::In(&eight)),
            Attribute::new(3, Value::In(&nine)),
        ];
        let command = Command::lower(PROBE, &mut attributes).unwrap();
        let bytes = command.as_bytes();
        assert_eq!(
            bytes[24..40],
            [1, 0, 3, 0, 1, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0]
        );
        assert_eq!(
            bytes[40..56],
            [2, 0, 8, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]
        );
        assert_eq!(bytes[56..64], [3, 0, 9, 0, 1, 0, 0, 0]);
        assert_eq!(bytes[64..72], (nine.as_ptr() as u64).to_le_bytes());
    }

    #[test]
    fn outputs_are_addresses_whatever_their_length() {
        let mut four = [0u8; 4];
        let address = four.as_ptr() as u64;
        let mut attributes = [Attribute::new(6, Value::Out(&mut four))];
        let command = Command::lower(PROBE, &mut attributes).unwrap();
        assert_eq!(command.as_bytes()[24..32], [6, 0, 4, 0, 1, 0, 0, 0]);
        assert_eq!(command.as_bytes()[32..40], address.to_le_bytes());
    }

    #[test]
    fn handles_and_descriptors_have_no_length_and_optional_ones_no_flag() {
        let mut attributes = [
            Attribute::new(0, Value::NewHandle(9)),
            Attribute::new(2, Value::Handle(0x0102)),
            Attribute::optional(7, Value::Fd(5)),
            Attribute::new(8, Value::NewFd(None)),
        ];
        let command = Command::lower(PROBE, &mut attributes).unwrap();
        #[rustfmt::skip]
        assert_eq!(command.as_bytes()[24..], [
            0, 0, 0, 0, 1, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
            2, 0, 0, 0, 1, 0, 0, 0,  2, 1, 0, 0, 0, 0, 0, 0,
            7, 0, 0, 0, 0, 0, 0, 0,  5, 0, 0, 0, 0, 0, 0, 0,
            8, 0, 0, 0, 1, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }

    #[test]
    fn handles_and_descriptors_that_the_kernel_made_come_back() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let fd = reader.into_raw_fd();
        let mut attributes = [
            Attribute::new(0, Value::NewHandle(0)),
            Attribute::new(1, Value::NewFd(None)),
        ];
        let mut command = Command::lower(PROBE, &mut attributes).unwrap();
        command.words[4] = 0xFFFF_FFFF_0000_0007;
        command.words[6] = fd as u64;
        // SAFETY: the words are as the kernel leaves them, and the pipe's end has no other owner.
        unsafe { command.write_back(&mut attributes) };
        assert!(matches!(attributes[0].value, Value::NewHandle(7)));
        assert!(matches!(&attributes[1].value, Value::NewFd(Some(new)) if new.as_raw_fd() == fd));
    }

    #[test]
    fn what_the_format_cannot_name_is_refused() {
        let long = vec![0; 1 << 16];
        let mut attributes = [Attribute::new(0, Value::In(&long))];
        let result = Command::lower(PROBE, &mut attributes);
        assert_eq!(result.unwrap_err(), Errno::E2BIG);
        let mut attributes: Vec<_> = (0..255)
            .map(|id| Attribute::new(id, Value::Const(0)))
            .collect();
        let result = Command::lower(PROBE, &mut attributes);
        assert_eq!(result.unwrap_err(), Errno::E2BIG);
        attributes.pop();
        let command = Command::lower(PROBE, &mut attributes).unwrap();
        assert_eq!(command.as_bytes().len(), 24 + 16 * 254);
    }
}
