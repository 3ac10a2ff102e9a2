//! Failures of the data path that were ordered for a port.

use crate::faults::Fault;

/// Ordered failures, each spent once.
#[derive(Debug, Default)]
pub(super) struct PortFaults {
    tx: Vec<(Option<u32>, u8, u64)>,
    rx: Vec<u64>,
    cqe: Vec<u64>,
    lost: Vec<u64>,
}

impl PortFaults {
    pub(super) fn order(&mut self, fault: &Fault) {
        match *fault {
            Fault::TxError {
                sq, cqe_type, nth, ..
            } => self.tx.push((sq, cqe_type, nth)),
            Fault::RxTruncated { nth, .. } => self.rx.push(nth),
            Fault::GarbageCqe { nth, .. } => self.cqe.push(nth),
            Fault::LostCqe { nth, .. } => self.lost.push(nth),
            Fault::FailOperation { .. } | Fault::RemoveAt { .. } | Fault::DeviceFatal { .. } => {}
        }
    }

    /// One more packet is sent: the error that shall end it.
    #[inline]
    pub(super) fn tx_error(&mut self, queue: u32) -> Option<u8> {
        if self.tx.is_empty() {
            return None;
        }
        for (sq, _, nth) in &mut self.tx {
            if sq.is_none_or(|sq| sq == queue) {
                *nth = nth.saturating_sub(1);
            }
        }
        let due = self.tx.iter().position(|(_, _, nth)| *nth == 0)?;
        Some(self.tx.swap_remove(due).1)
    }

    /// One more packet is received: whether it shall be truncated.
    #[inline]
    pub(super) fn rx_truncated(&mut self) -> bool {
        count_down(&mut self.rx)
    }

    /// One more CQE is posted: as it is, with a client part of nonsense, or not at all.
    #[inline]
    pub(super) fn completion(&mut self, words: [u64; 8]) -> Option<[u64; 8]> {
        if count_down(&mut self.lost) {
            return None;
        }
        if !count_down(&mut self.cqe) {
            return Some(words);
        }
        let nonsense = |index: usize| 0xA5A5_5A5A_C3C3_3C3C_u64.rotate_left(index as u32 * 7);
        Some(std::array::from_fn(nonsense))
    }
}

fn count_down(orders: &mut Vec<u64>) -> bool {
    for nth in orders.iter_mut() {
        *nth = nth.saturating_sub(1);
    }
    let due = orders.iter().position(|nth| *nth == 0);
    due.is_some_and(|due| {
        orders.swap_remove(due);
        true
    })
}
