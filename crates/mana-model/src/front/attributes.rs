//! Attributes of one call: checked against the method's table as ib_uverbs does, then read and
//! written by id (reference/mana-hardware.md §5.1).

use std::os::fd::{OwnedFd, RawFd};

use uverbs_abi::ids::attr::{UHW_IN, UHW_OUT};
use uverbs_abi::{Attribute, Errno, Value};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What a method takes as one attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Exactly so many bytes in.
    In(usize),
    /// Flags, 4 or 8 bytes in.
    Flags,
    /// Bytes in whose size the command judges.
    Data,
    /// Exactly so many bytes out.
    Out(usize),
    /// At least so many bytes out.
    Room(usize),
    /// 8 bytes inline.
    Const,
    /// An object.
    Handle,
    /// A new object.
    NewHandle,
    /// A file.
    Fd,
    /// A new file.
    NewFd,
}

/// One line of a method's table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spec {
    pub(crate) id: u16,
    pub(crate) kind: Kind,
    mandatory: bool,
}

/// An attribute without which the method does not run.
pub(crate) const fn needs(id: u16, kind: Kind) -> Spec {
    Spec {
        id,
        kind,
        mandatory: true,
    }
}

/// An attribute that may be left out.
pub(crate) const fn takes(id: u16, kind: Kind) -> Spec {
    Spec {
        id,
        kind,
        mandatory: false,
    }
}

/// The attributes of one call, known to fit the method's table.
pub(crate) struct Attributes<'c, 'a> {
    list: &'c mut [Attribute<'a>],
}

impl<'c, 'a> Attributes<'c, 'a> {
    /// Checks `list` against the table: an unknown attribute is `EPROTONOSUPPORT` where the caller
    /// marked it mandatory and ignored elsewhere; a missing, doubled or misshapen one is `EINVAL`.
    pub(crate) fn check(list: &'c mut [Attribute<'a>], specs: &[Spec]) -> Result<Self, Errno> {
        for (position, attribute) in list.iter().enumerate() {
            let Some(spec) = specs.iter().find(|spec| spec.id == attribute.id) else {
                if attribute.mandatory {
                    return Err(Errno::EPROTONOSUPPORT);
                }
                continue;
            };
            let doubled = list[..position].iter().any(|other| other.id == spec.id);
            if doubled || !fits(spec.kind, &attribute.value) {
                return Err(Errno::EINVAL);
            }
        }
        let complete = specs
            .iter()
            .all(|spec| !spec.mandatory || list.iter().any(|attribute| attribute.id == spec.id));
        if !complete {
            return Err(Errno::EINVAL);
        }
        Ok(Self { list })
    }

    fn value(&self, id: u16) -> Option<&Value<'a>> {
        let found = self.list.iter().find(|attribute| attribute.id == id)?;
        Some(&found.value)
    }

    /// Bytes in; empty where the attribute is absent.
    pub(crate) fn bytes(&self, id: u16) -> &[u8] {
        match self.value(id) {
            Some(Value::In(bytes)) => bytes,
            _ => &[],
        }
    }

    /// A fixed structure in; `EINVAL` where it is absent or short.
    pub(crate) fn read<T: FromBytes>(&self, id: u16) -> Result<T, Errno> {
        T::read_from_prefix(self.bytes(id))
            .map(|(value, _)| value)
            .map_err(|_| Errno::EINVAL)
    }

    /// The driver data in. Below `least` bytes it is `EINVAL`; what it lacks beyond is zero. Where
    /// `strict`, anything but zero behind the structure is `EOPNOTSUPP`
    /// (reference/mana-hardware.md §4.10, kernel 7.3).
    pub(crate) fn driver_in<T: FromBytes + IntoBytes>(
        &self,
        least: usize,
        strict: bool,
    ) -> Result<T, Errno> {
        let bytes = self.bytes(UHW_IN);
        if bytes.len() < least {
            return Err(Errno::EINVAL);
        }
        let (known, beyond) = bytes.split_at(bytes.len().min(size_of::<T>()));
        if strict && beyond.iter().any(|&byte| byte != 0) {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut value = T::new_zeroed();
        value.as_mut_bytes()[..known.len()].copy_from_slice(known);
        Ok(value)
    }

    /// A constant.
    pub(crate) fn constant(&self, id: u16) -> Result<u64, Errno> {
        match self.value(id) {
            Some(Value::Const(value)) => Ok(*value),
            _ => self.read(id),
        }
    }

    /// An object's handle; `ENOENT` where the attribute is absent.
    pub(crate) fn object(&self, id: u16) -> Result<u32, Errno> {
        self.handle(id).ok_or(Errno::ENOENT)
    }

    /// Flags, of which only those in `known` may be set; none where the attribute is absent.
    pub(crate) fn flags(&self, id: u16, known: u64) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        let given = self.bytes(id);
        bytes[..given.len().min(8)].copy_from_slice(&given[..given.len().min(8)]);
        let flags = u64::from_ne_bytes(bytes);
        (flags & !known == 0).then_some(flags).ok_or(Errno::EINVAL)
    }

    /// An object's handle; `None` where the attribute is absent.
    pub(crate) fn handle(&self, id: u16) -> Option<u32> {
        match self.value(id) {
            Some(Value::Handle(handle)) => Some(*handle),
            _ => None,
        }
    }

    /// A file; `None` where the attribute is absent.
    pub(crate) fn fd(&self, id: u16) -> Option<RawFd> {
        match self.value(id) {
            Some(Value::Fd(fd)) => Some(*fd),
            _ => None,
        }
    }

    /// Room for an answer in bytes, 0 where the attribute is absent.
    pub(crate) fn room(&self, id: u16) -> usize {
        match self.value(id) {
            Some(Value::Out(room)) => room.len(),
            _ => 0,
        }
    }

    /// Answers a new object's handle.
    pub(crate) fn put_handle(&mut self, id: u16, handle: u32) {
        for attribute in self.list.iter_mut().filter(|found| found.id == id) {
            if let Value::NewHandle(slot) = &mut attribute.value {
                *slot = handle;
            }
        }
    }

    /// Answers a new file.
    pub(crate) fn put_fd(&mut self, id: u16, fd: OwnedFd) {
        let mut fd = Some(fd);
        for attribute in self.list.iter_mut().filter(|found| found.id == id) {
            if let Value::NewFd(slot) = &mut attribute.value {
                *slot = fd.take();
            }
        }
    }

    /// Answers bytes, as many as fit; the rest of the room is zeroed.
    pub(crate) fn put<T: IntoBytes + Immutable>(&mut self, id: u16, answer: &T) {
        let answer = answer.as_bytes();
        for attribute in self.list.iter_mut().filter(|found| found.id == id) {
            if let Value::Out(room) = &mut attribute.value {
                let fitting = answer.len().min(room.len());
                room[..fitting].copy_from_slice(&answer[..fitting]);
                room[fitting..].fill(0);
            }
        }
    }

    /// Answers driver data.
    pub(crate) fn put_driver<T: IntoBytes + Immutable>(&mut self, answer: &T) {
        self.put(UHW_OUT, answer);
    }
}

fn fits(kind: Kind, value: &Value<'_>) -> bool {
    match (kind, value) {
        (Kind::In(size), Value::In(bytes)) => bytes.len() == size,
        (Kind::Flags, Value::In(bytes)) => matches!(bytes.len(), 4 | 8),
        (Kind::Const, Value::In(bytes)) => bytes.len() == 8,
        (Kind::Out(size), Value::Out(room)) => room.len() == size,
        (Kind::Room(size), Value::Out(room)) => room.len() >= size,
        (Kind::Data, Value::In(_))
        | (Kind::Const, Value::Const(_))
        | (Kind::Handle, Value::Handle(_))
        | (Kind::NewHandle, Value::NewHandle(_))
        | (Kind::Fd, Value::Fd(_))
        | (Kind::NewFd, Value::NewFd(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPECS: &[Spec] = &[
        needs(1, Kind::In(4)),
        takes(2, Kind::Room(4)),
        takes(3, Kind::Const),
    ];

    fn check(list: &mut [Attribute<'_>]) -> Result<(), Errno> {
        Attributes::check(list, SPECS).map(|_| ())
    }

    #[test]
    fn an_unknown_attribute_is_refused_only_where_it_is_mandatory() {
        let one = || Attribute::new(1, Value::In(&[0; 4]));
        assert_eq!(check(&mut [one()]), Ok(()));
        assert_eq!(
            check(&mut [one(), Attribute::optional(9, Value::Const(0))]),
            Ok(())
        );
        assert_eq!(
            check(&mut [one(), Attribute::new(9, Value::Const(0))]),
            Err(Errno::EPROTONOSUPPORT)
        );
    }

    #[test]
    fn missing_doubled_and_misshapen_attributes_are_einval() {
        let one = || Attribute::new(1, Value::In(&[0; 4]));
        assert_eq!(check(&mut []), Err(Errno::EINVAL));
        assert_eq!(check(&mut [one(), one()]), Err(Errno::EINVAL));
        assert_eq!(
            check(&mut [Attribute::new(1, Value::In(&[0; 5]))]),
            Err(Errno::EINVAL)
        );
        assert_eq!(
            check(&mut [Attribute::new(1, Value::Handle(1))]),
            Err(Errno::EINVAL)
        );
        let mut room = [0; 3];
        assert_eq!(
            check(&mut [one(), Attribute::new(2, Value::Out(&mut room))]),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn answers_fill_the_room_with_zeros() {
        let mut room = [0xFF; 6];
        let mut list = [
            Attribute::new(1, Value::In(&[0; 4])),
            Attribute::new(2, Value::Out(&mut room)),
        ];
        Attributes::check(&mut list, SPECS)
            .unwrap()
            .put(2, &0x0403_0201_u32);
        assert_eq!(room, [1, 2, 3, 4, 0, 0]);
    }

    #[test]
    fn driver_data_may_be_short_or_long_within_the_kernels_rule() {
        let specs = &[takes(UHW_IN, Kind::Data)];
        let read = |bytes: &[u8], strict| {
            let mut list = [Attribute::new(UHW_IN, Value::In(bytes))];
            let attributes = Attributes::check(&mut list, specs).unwrap();
            attributes.driver_in::<u64>(4, strict)
        };
        assert_eq!(read(&[1, 0, 0], false), Err(Errno::EINVAL));
        assert_eq!(read(&[1, 0, 0, 0], false), Ok(1));
        assert_eq!(read(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0], true), Ok(1));
        assert_eq!(read(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 9], false), Ok(1));
        assert_eq!(
            read(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 9], true),
            Err(Errno::EOPNOTSUPP)
        );
    }
}
