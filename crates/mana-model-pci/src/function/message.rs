//! Requests and answers of the hardware channel as they stand in memory (reference/mana-hardware.md
//! §6.4): little-endian fields at offsets from the message's start.

/// Bytes of a request's header.
pub(super) const REQUEST_HEADER: usize = 40;
/// Bytes of an answer's header.
pub(super) const ANSWER_HEADER: usize = 32;
/// Bytes of the longest message, in either direction.
pub(super) const LONGEST: usize = 4096;

/// A request whose header is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'m> {
    bytes: &'m [u8],
    /// What is asked for.
    pub(super) kind: u32,
    /// Version of the request.
    pub(super) version: u16,
    id: u16,
    /// Version of the answer that the driver would like, never 0.
    pub(super) answer_version: u16,
    /// Bytes of the answer that the driver has room for.
    answer_size: u32,
    /// Device that it is for: type and instance.
    pub(super) device: u32,
    activity: u32,
}

impl<'m> Request<'m> {
    /// The request in `bytes`; `None` if they are too few, or fewer than the message says.
    pub(super) fn parse(bytes: &'m [u8]) -> Option<Self> {
        let whole = Self {
            bytes,
            kind: 0,
            version: 0,
            id: 0,
            answer_version: 0,
            answer_size: 0,
            device: 0,
            activity: 0,
        };
        let size = whole.u32(12) as usize;
        if bytes.len() < REQUEST_HEADER || !(REQUEST_HEADER..=bytes.len()).contains(&size) {
            return None;
        }
        Some(Self {
            bytes: &bytes[..size],
            kind: whole.u32(4),
            version: whole.u16(8),
            id: whole.u16(10),
            answer_version: whole.u16(24).max(1),
            answer_size: whole.u32(28),
            device: whole.u32(32),
            activity: whole.u32(36),
        })
    }

    /// Bytes of the message.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    fn array<const N: usize>(&self, offset: usize) -> [u8; N] {
        let found = self.bytes.get(offset..).and_then(<[u8]>::first_chunk);
        found.copied().unwrap_or([0; N])
    }

    /// The byte at `offset`; 0 behind the end, as all fields of older messages are.
    pub(super) fn u8(&self, offset: usize) -> u8 {
        u8::from_le_bytes(self.array(offset))
    }

    /// Two bytes, likewise.
    pub(super) fn u16(&self, offset: usize) -> u16 {
        u16::from_le_bytes(self.array(offset))
    }

    /// Four bytes, likewise.
    pub(super) fn u32(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.array(offset))
    }

    /// Eight bytes, likewise.
    pub(super) fn u64(&self, offset: usize) -> u64 {
        u64::from_le_bytes(self.array(offset))
    }

    /// The 40 bytes of an RSS key at `offset`, likewise.
    pub(super) fn key(&self, offset: usize) -> [u8; 40] {
        self.array(offset)
    }

    /// `count` words of 8 bytes from `offset` on; `None` if they are not all there.
    pub(super) fn words(&self, offset: usize, count: usize) -> Option<Vec<u64>> {
        let end = count.checked_mul(8)?.checked_add(offset)?;
        let (words, _) = self.bytes.get(offset..end)?.as_chunks();
        Some(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }
}

/// An answer that is being written. It is as long as the driver has room for: what it knows and this
/// device does not is zero, and the version says so; what it has no room for is left out.
pub(super) struct Answer<'a>(&'a mut Vec<u8>);

impl<'a> Answer<'a> {
    /// The answer to `request` in place of what `bytes` held: the header, without a status, in at most
    /// the version that this device knows.
    pub(super) fn new(bytes: &'a mut Vec<u8>, request: &Request<'_>, known: u16) -> Self {
        let size = (request.answer_size as usize).clamp(ANSWER_HEADER, LONGEST);
        bytes.clear();
        bytes.resize(size, 0);
        let mut answer = Self(bytes);
        answer.u32(4, request.kind);
        answer.u16(8, request.answer_version.min(known));
        answer.u16(10, request.id);
        answer.u32(12, size as u32);
        answer.u32(16, request.device);
        answer.u32(20, request.activity);
        answer
    }

    /// Says how it went.
    pub(super) fn status(&mut self, status: u32) {
        self.u32(24, status);
    }

    /// Bytes that have room are written.
    pub(super) fn bytes(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(room) = self.0.get_mut(offset..offset + bytes.len()) {
            room.copy_from_slice(bytes);
        }
    }

    pub(super) fn u8(&mut self, offset: usize, value: u8) {
        self.bytes(offset, &[value]);
    }

    pub(super) fn u16(&mut self, offset: usize, value: u16) {
        self.bytes(offset, &value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, offset: usize, value: u32) {
        self.bytes(offset, &value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, offset: usize, value: u64) {
        self.bytes(offset, &value.to_le_bytes());
    }

    pub(super) fn u32s<const N: usize>(&mut self, offset: usize, values: [u32; N]) {
        for (index, value) in values.into_iter().enumerate() {
            self.u32(offset + 4 * index, value);
        }
    }

    /// The version that it is in.
    pub(super) fn version(&self) -> u16 {
        self.0[8..10]
            .iter()
            .rev()
            .fold(0, |value, byte| value << 8 | u16::from(*byte))
    }

    /// Takes back all but the header.
    pub(super) fn clear(&mut self) {
        self.0[ANSWER_HEADER..].fill(0);
    }
}
