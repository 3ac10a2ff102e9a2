//! Doorbells: the values (§2.7), and the register with its barriers.

#[cfg(not(mana_loom))]
use core::ptr::NonNull;
#[cfg(not(mana_loom))]
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering;

use bitfield_struct::bitfield;
#[cfg(mana_loom)]
use loom::sync::atomic::AtomicU64;

/// Value for a send queue.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct SendValue {
    /// Queue id.
    #[bits(24)]
    pub id: u32,
    /// Zero.
    pub reserved: u8,
    /// Producer cursor in bytes, free-running, not masked by the ring's size.
    pub tail: u32,
}

impl SendValue {
    /// The send queue `id` has work before byte `tail`. Of the id 24 bits are taken.
    #[inline]
    #[must_use]
    pub const fn at(id: u32, tail: u32) -> Self {
        Self::new().with_id(id & 0xFF_FFFF).with_tail(tail)
    }
}

/// Value for a receive queue.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct ReceiveValue {
    /// Queue id.
    #[bits(24)]
    pub id: u32,
    /// Must be zero for Ethernet.
    pub wqe_cnt: u8,
    /// Producer cursor in bytes, free-running, not masked by the ring's size.
    pub tail: u32,
}

impl ReceiveValue {
    /// The receive queue `id` has buffers before byte `tail`. Of the id 24 bits are taken, and
    /// `wqe_cnt` is zero.
    #[inline]
    #[must_use]
    pub const fn at(id: u32, tail: u32) -> Self {
        Self::new().with_id(id & 0xFF_FFFF).with_tail(tail)
    }
}

/// Value for a completion queue.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct CompletionValue {
    /// Queue id.
    #[bits(24)]
    pub id: u32,
    /// Zero.
    pub reserved: u8,
    /// Consumer cursor in entries, modulo 8 laps.
    #[bits(31)]
    pub tail: u32,
    /// Ask for an event when the next entry arrives.
    pub arm: bool,
}

impl CompletionValue {
    /// The consumer of the completion queue `id` is at entry `tail`, and does not ask for an event.
    /// Of the id 24 bits are taken, of the position 31.
    #[inline]
    #[must_use]
    pub const fn at(id: u32, tail: u32) -> Self {
        Self::new()
            .with_id(id & 0xFF_FFFF)
            .with_tail(tail & 0x7FFF_FFFF)
    }
}

/// Value for an event queue.
#[bitfield(u64)]
#[derive(PartialEq, Eq)]
pub struct EventValue {
    /// Queue id.
    pub id: u16,
    /// Zero.
    pub reserved: u16,
    /// Consumer cursor in entries, modulo 8 laps.
    #[bits(31)]
    pub tail: u32,
    /// Ask for an interrupt when the next entry arrives.
    pub arm: bool,
}

const _: () = assert!(
    size_of::<SendValue>() == 8
        && size_of::<ReceiveValue>() == 8
        && size_of::<CompletionValue>() == 8
        && size_of::<EventValue>() == 8
);

/// One doorbell register.
///
/// On hardware it is a cell of a write-combining page that all queues of a context share, which
/// decides the form of [`Doorbell::ring`]:
///
/// * a fence before the store: all ring words must have left the store buffer before the device
///   learns of them. An ordinary release store says so to the compiler and to other cores, but not
///   to a write-combining buffer, whose stores are not ordered with ordinary ones;
/// * one 64-bit store: the device takes the value whole;
/// * a fence after it: the store must leave the write-combining buffer now, and must not be merged
///   there with the next ring of another queue that uses the same cell.
///
/// In process, against a device model in another thread, the store is an atomic release: the thread
/// that takes the value with acquire sees every ring word written before.
#[derive(Debug)]
pub struct Doorbell {
    #[cfg(not(mana_loom))]
    cell: NonNull<AtomicU64>,
    #[cfg(mana_loom)]
    cell: std::sync::Arc<AtomicU64>,
}

// SAFETY: the cell is only ever stored to atomically, which any thread may do; `Doorbell::new`
// requires that it stays valid for as long as the value exists, whichever thread holds it.
#[cfg(not(mana_loom))]
unsafe impl Send for Doorbell {}

impl Doorbell {
    /// A doorbell over one register.
    ///
    /// # Safety
    ///
    /// `cell` is 8-byte aligned and valid for 64-bit atomic stores until the value is dropped, and
    /// nothing in this program reaches it but through 64-bit atomics. What the device does when it
    /// is told a value is harmless: whoever rings has written what that value makes it read.
    #[cfg(not(mana_loom))]
    #[must_use]
    pub const unsafe fn new(cell: NonNull<u64>) -> Self {
        Self { cell: cell.cast() }
    }

    /// A doorbell over one of loom's atomics.
    #[cfg(mana_loom)]
    #[must_use]
    pub const fn from_cell(cell: std::sync::Arc<AtomicU64>) -> Self {
        Self { cell }
    }

    /// Tells the device: fence, one store, fence.
    #[inline]
    pub fn ring(&self, value: u64) {
        fence_before();
        self.cell().store(value, Ordering::Release);
        fence_after();
    }

    #[cfg(not(mana_loom))]
    #[inline]
    const fn cell(&self) -> &AtomicU64 {
        // SAFETY: `new` requires that the cell is aligned and valid for atomic stores while `self`
        // exists; other threads reach it only by atomic accesses, so there is no data race.
        unsafe { self.cell.as_ref() }
    }

    #[cfg(mana_loom)]
    fn cell(&self) -> &AtomicU64 {
        &self.cell
    }
}

/// Ring words before the doorbell.
#[cfg(target_arch = "x86_64")]
#[inline]
fn fence_before() {
    store_fence();
}

/// The doorbell before whatever is stored next, and out of the write-combining buffer now.
#[cfg(target_arch = "x86_64")]
#[inline]
fn fence_after() {
    store_fence();
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn store_fence() {
    // SAFETY: SSE is part of x86-64, and the instruction only orders stores.
    #[allow(unused_unsafe, reason = "safe in newer toolchains")]
    unsafe {
        core::arch::x86_64::_mm_sfence();
    }
}

/// Ring words before the doorbell, for observers in the outer shareable domain: devices.
#[cfg(target_arch = "aarch64")]
#[inline]
fn fence_before() {
    // SAFETY: the barrier only orders stores. It is not marked `nomem`, so that the compiler keeps
    // the accesses around it in place, too.
    unsafe { core::arch::asm!("dmb oshst", options(nostack, preserves_flags)) }
}

/// Waits until the doorbell's store has been performed, so that nothing is gathered with it.
#[cfg(target_arch = "aarch64")]
#[inline]
fn fence_after() {
    // SAFETY: as above.
    unsafe { core::arch::asm!("dsb st", options(nostack, preserves_flags)) }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("gdma knows the doorbell's barriers on x86-64 and aarch64 only");

#[cfg(test)]
mod tests {
    use super::*;

    /// §2.7: SQ id[0:23] tail[32:63].
    #[test]
    fn send_value_is_id_and_bytes() {
        let value = SendValue::new()
            .with_id(0x0A_BCDE)
            .with_tail(0xFFFF_FFE0)
            .into_bits();
        assert_eq!(
            value.to_le_bytes(),
            [0xDE, 0xBC, 0x0A, 0, 0xE0, 0xFF, 0xFF, 0xFF]
        );
    }

    /// §2.7: RQ id[0:23] wqe_cnt[24:31] tail[32:63].
    #[test]
    fn receive_value_has_a_count_that_stays_zero() {
        let value = ReceiveValue::new()
            .with_id(0x123)
            .with_tail(32 * 128)
            .into_bits();
        assert_eq!(value.to_le_bytes(), [0x23, 0x01, 0, 0, 0, 0x10, 0, 0]);
        assert_eq!(ReceiveValue::new().with_wqe_cnt(1).into_bits(), 1 << 24);
    }

    /// §2.7: CQ id[0:23] tail[32:62] arm[63].
    #[test]
    fn completion_value_is_id_entries_and_arm() {
        let value = CompletionValue::new()
            .with_id(7)
            .with_tail(0x7FFF_FFFF)
            .into_bits();
        assert_eq!(value.to_le_bytes(), [7, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F]);
        let armed = CompletionValue::new()
            .with_id(7)
            .with_tail(257)
            .with_arm(true)
            .into_bits();
        assert_eq!(armed.to_le_bytes(), [7, 0, 0, 0, 1, 1, 0, 0x80]);
    }

    /// §2.7: EQ id[0:15] tail[32:62] arm[63].
    #[test]
    fn event_value_has_a_short_id() {
        let value = EventValue::new()
            .with_id(0x1234)
            .with_tail(2)
            .with_arm(true)
            .into_bits();
        assert_eq!(value.to_le_bytes(), [0x34, 0x12, 0, 0, 2, 0, 0, 0x80]);
    }

    /// §2.7: the same bytes as above, from numbers of any size. Neighbouring fields stay clear.
    #[test]
    fn numbers_too_large_for_their_fields_touch_no_other_field() {
        let send = SendValue::at(0xFF0A_BCDE, 0xFFFF_FFE0).into_bits();
        assert_eq!(
            send.to_le_bytes(),
            [0xDE, 0xBC, 0x0A, 0, 0xE0, 0xFF, 0xFF, 0xFF]
        );
        let receive = ReceiveValue::at(0xFF00_0123, 32 * 128).into_bits();
        assert_eq!(receive.to_le_bytes(), [0x23, 0x01, 0, 0, 0, 0x10, 0, 0]);
        let completion = CompletionValue::at(0x0100_0007, 0xFFFF_FFFF).into_bits();
        assert_eq!(
            completion.to_le_bytes(),
            [7, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0x7F]
        );
    }

    #[cfg(not(mana_loom))]
    #[test]
    fn ringing_stores_the_value() {
        let cell = AtomicU64::new(0);
        // SAFETY: `cell` is aligned, atomic and outlives the doorbell.
        let doorbell = unsafe { Doorbell::new(NonNull::from(&cell).cast()) };
        doorbell.ring(0x1234_5678_9ABC_DEF0);
        assert_eq!(cell.load(Ordering::Relaxed), 0x1234_5678_9ABC_DEF0);
    }
}
