//! One method call, of which a situation changes what it is about.

use std::os::fd::{OwnedFd, RawFd};

use uverbs_abi::{Attribute, Call, Errno, Value};

/// What is written into the bytes of an answer beforehand, so that those the kernel left alone show.
pub(super) const UNTOUCHED: u8 = 0xA5;

/// Bytes behind the room of an answer, in which it shows that the kernel went beyond.
const BEYOND: usize = 1024;

/// What an attribute of a request carries.
#[derive(Debug, Clone)]
pub(super) enum Argument {
    In(Vec<u8>),
    /// Room for so many bytes.
    Out(usize),
    Const(u64),
    Handle(u32),
    NewHandle,
    Fd(RawFd),
    NewFd,
}

/// A call.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) call: Call,
    /// Id, whether the kernel must know it, and content.
    attributes: Vec<(u16, bool, Argument)>,
}

impl Request {
    pub(super) fn new(driver_id: u32, object: u16, method: u16) -> Self {
        Self {
            call: Call {
                driver_id,
                object,
                method,
            },
            attributes: Vec::new(),
        }
    }

    /// The same call with this attribute, in the place of the one that has its id.
    pub(super) fn with(mut self, id: u16, argument: Argument) -> Self {
        match self.attributes.iter_mut().find(|(has, ..)| *has == id) {
            Some((_, _, content)) => *content = argument,
            None => self.attributes.push((id, true, argument)),
        }
        self
    }

    /// The same call with one more attribute, which the kernel need not know.
    pub(super) fn with_optional(mut self, id: u16, argument: Argument) -> Self {
        self.attributes.push((id, false, argument));
        self
    }

    /// The same call with the attribute of this id twice.
    pub(super) fn twice(mut self, id: u16) -> Self {
        let found = self.attributes.iter().find(|(has, ..)| *has == id);
        let again = found.cloned();
        self.attributes.extend(again);
        self
    }

    /// The same call without the attribute of this id.
    pub(super) fn without(mut self, id: u16) -> Self {
        self.attributes.retain(|(has, ..)| *has != id);
        self
    }

    /// Runs it by `invoke`, which gets the attributes as a transport takes them.
    pub(super) fn run(
        &self,
        invoke: impl FnOnce(Call, &mut [Attribute<'_>]) -> Result<(), Errno>,
    ) -> Result<Answer, Errno> {
        let mut rooms: Vec<Vec<u8>> = self
            .attributes
            .iter()
            .map(|(_, _, argument)| match argument {
                Argument::Out(bytes) => vec![UNTOUCHED; *bytes + BEYOND],
                _ => Vec::new(),
            })
            .collect();
        let mut attributes: Vec<Attribute<'_>> = self
            .attributes
            .iter()
            .zip(&mut rooms)
            .map(|((id, mandatory, argument), room)| Attribute {
                id: *id,
                mandatory: *mandatory,
                value: match argument {
                    Argument::In(bytes) => Value::In(bytes),
                    Argument::Out(bytes) => Value::Out(&mut room[..*bytes]),
                    Argument::Const(value) => Value::Const(*value),
                    Argument::Handle(handle) => Value::Handle(*handle),
                    Argument::NewHandle => Value::NewHandle(u32::MAX),
                    Argument::Fd(fd) => Value::Fd(*fd),
                    Argument::NewFd => Value::NewFd(None),
                },
            })
            .collect();
        invoke(self.call, &mut attributes)?;
        let mut answer = Answer::default();
        for attribute in attributes {
            match attribute.value {
                Value::NewHandle(handle) => answer.handle = handle,
                Value::NewFd(fd) => answer.fd = fd,
                Value::Out(bytes) => answer.out.push((attribute.id, bytes.to_vec())),
                _ => {}
            }
        }
        for ((_, _, argument), room) in self.attributes.iter().zip(&rooms) {
            if let Argument::Out(bytes) = argument {
                let beyond = room[*bytes..].iter();
                answer.beyond += beyond.filter(|byte| **byte != UNTOUCHED).count();
            }
        }
        Ok(answer)
    }
}

/// What a call answered.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The new object.
    pub(super) handle: u32,
    /// The new file.
    pub(super) fd: Option<OwnedFd>,
    /// Bytes written beyond the room of answers, which some kernels do not look at.
    pub(super) beyond: usize,
    /// Bytes, by attribute.
    out: Vec<(u16, Vec<u8>)>,
}

impl Answer {
    /// The bytes of an attribute; none where the call had no room for them.
    pub(super) fn bytes(&self, id: u16) -> &[u8] {
        let found = self.out.iter().find(|(has, _)| *has == id);
        found.map_or(&[], |(_, bytes)| bytes)
    }

    /// The number of four bytes at `at` of an attribute's answer.
    pub(super) fn number(&self, id: u16, at: usize) -> Option<u32> {
        let bytes = self.bytes(id).get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    }
}

/// Why a situation did not come to `ok`.
#[derive(Debug)]
pub(super) enum Refused {
    /// The operation was refused.
    Here(Errno),
    /// It was not, and so many bytes were written beyond the room of its answer.
    Beyond(usize),
    /// Something that had to work before it, by name.
    Before(&'static str, Errno),
}

impl From<Errno> for Refused {
    fn from(errno: Errno) -> Self {
        Self::Here(errno)
    }
}
