//! Memory inside the device, of which memory regions can be made (reference/mana-hardware.md §6.5, ALLOC_DM).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mana_model::hardware::{BusMemory, BusPages};

use super::gdma::in_use;
use super::message::{Answer, Request};
use super::objects::Object;
use super::{Done, Failure, Function, status};

/// Bytes that there are in all.
const SIZE: u64 = 1 << 20;
const PAGE: u64 = 4096;

/// A piece of it, by offsets from its start.
#[derive(Debug)]
pub(super) struct DeviceMemory {
    words: Box<[AtomicU64]>,
    /// Bytes that were asked for; as many pages are there as hold them.
    length: u64,
}

impl DeviceMemory {
    fn new(length: u64) -> Self {
        let words = length.next_multiple_of(PAGE) / 8;
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        Self { words, length }
    }

    fn word(&self, address: u64) -> Option<&AtomicU64> {
        let aligned = address.is_multiple_of(8);
        self.words
            .get(usize::try_from(address / 8).ok()?)
            .filter(|_| aligned)
    }
}

impl BusMemory for DeviceMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        for (byte, at) in bytes.iter_mut().zip(address..) {
            *byte = self.load(at & !7)?.to_le_bytes()[(at & 7) as usize];
        }
        Some(())
    }

    fn write(&self, address: u64, bytes: &[u8]) -> Option<()> {
        for (byte, at) in bytes.iter().zip(address..) {
            let word = self.word(at & !7)?;
            let mut whole = word.load(Ordering::Relaxed).to_le_bytes();
            whole[(at & 7) as usize] = *byte;
            word.store(u64::from_le_bytes(whole), Ordering::Relaxed);
        }
        Some(())
    }

    fn load(&self, address: u64) -> Option<u64> {
        Some(self.word(address)?.load(Ordering::Relaxed))
    }

    fn store_entry(&self, address: u64, words: &[u64]) -> Option<()> {
        for (index, word) in words.iter().enumerate() {
            self.word(address + 8 * index as u64)?
                .store(*word, Ordering::Release);
        }
        Some(())
    }
}

impl Function {
    pub(super) fn allocate_device_memory(
        &mut self,
        request: &Request<'_>,
        answer: &mut Answer<'_>,
    ) -> Done {
        let length = request.u64(40);
        let taken: u64 = self
            .objects
            .iter()
            .map(|(_, object)| match object {
                Object::DeviceMemory(memory) => memory.length.next_multiple_of(PAGE),
                _ => 0,
            })
            .sum();
        if length == 0 {
            return Err(Failure::invalid("no bytes"));
        }
        if length > SIZE - taken {
            return Err(Failure {
                status: status::LIMIT,
                why: format!("{length} bytes of {SIZE}, {taken} are taken"),
            });
        }
        let memory = Object::DeviceMemory(Arc::new(DeviceMemory::new(length)));
        answer.u64(32, self.objects.insert(memory));
        Ok(status::OK)
    }

    pub(super) fn free_device_memory(&mut self, handle: u64) -> Done {
        self.device_memory(handle)?;
        let user = self.objects.iter().find(
            |(_, object)| matches!(object, Object::MemoryRegion { device: Some(it), .. } if *it == handle),
        );
        if let Some((user, _)) = user {
            return Err(in_use(handle, user));
        }
        self.objects.remove(handle);
        Ok(status::OK)
    }

    /// Registers a part of it, which segments name from address 0 on; returns the key.
    pub(super) fn register_device_memory(
        &mut self,
        request: &Request<'_>,
        domain: u32,
    ) -> Result<u32, Failure> {
        let (handle, offset, length) = (request.u64(56), request.u64(64), request.u64(80));
        let memory = Arc::clone(self.device_memory(handle)?);
        let end = offset.checked_add(length);
        let inside = length > 0 && end.is_some_and(|end| end <= memory.length);
        let pages = inside.then(|| {
            let pages = (offset / PAGE..(offset + length).div_ceil(PAGE)).map(|page| page * PAGE);
            BusPages::new(memory, pages.collect(), 12, offset % PAGE, length)
        });
        let Some(Some(pages)) = pages else {
            let why = format!("{length} bytes at {offset:#x} of device memory {handle:#x}");
            return Err(Failure::invalid(why));
        };
        Ok(self.hardware.register(domain, 0, request.u32(72), pages)?)
    }

    fn device_memory(&self, handle: u64) -> Result<&Arc<DeviceMemory>, Failure> {
        match self.objects.get(handle) {
            Some(Object::DeviceMemory(memory)) => Ok(memory),
            _ => Err(Failure::missing(format!("no device memory {handle:#x}"))),
        }
    }
}
