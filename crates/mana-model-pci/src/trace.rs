//! What passes through the hardware channel, a line a message, in the form of the recorded traces
//! (reference/kernel-in-a-vm.md §6), so that traces can be compared.

use std::fmt::{self, Write as _};

use crate::Lines;
use crate::function::name;

/// Where lines go.
pub(crate) struct Trace(Option<Lines>);

impl Trace {
    pub(crate) fn new(to: Option<Lines>) -> Self {
        Self(to)
    }

    /// A line of its own.
    pub(crate) fn note(&self, line: impl fmt::Display) {
        if let Some(lines) = &self.0 {
            lines.push(line.to_string());
        }
    }

    /// The line of a request and its answer.
    pub(crate) fn exchange(&self, request: &[u8], answer: &[u8]) {
        if self.0.is_some() {
            self.note(line(request, answer));
        }
    }
}

/// Bytes of the header of a request, and of an answer (reference/mana-hardware.md §6.4).
const REQUEST: usize = 40;
const ANSWER: usize = 32;

const GENERATE_TEST_EQE: u32 = 0xA;

/// A message; what lies behind its end reads as zero.
#[derive(Clone, Copy)]
struct Message<'m>(&'m [u8]);

impl Message<'_> {
    fn u8(self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes([self.u8(at), self.u8(at + 1)])
    }

    fn u32(self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    fn u64(self, at: usize) -> u64 {
        u64::from(self.u32(at)) | u64::from(self.u32(at + 4)) << 32
    }
}

/// The type of the event that is asked for, if `request` is for a test event on queue `eq`
/// (§6.5 no. 10).
pub(crate) fn test_event(request: &[u8], eq: u32) -> Option<u8> {
    let message = Message(request);
    let asked = request.len() >= REQUEST + 4 && message.u32(4) == GENERATE_TEST_EQE;
    (asked && message.u32(REQUEST) == eq).then_some(gdma::eqe::event::TEST)
}

/// An answer without fields and with status 0 (§6.4): type, version and ids as the request wants them.
pub(crate) fn plain_answer(request: &[u8], answer: &mut Vec<u8>) {
    let message = Message(request);
    answer.clear();
    answer.extend(message.u32(16).to_le_bytes());
    answer.extend(message.u32(4).to_le_bytes());
    answer.extend(message.u16(24).max(1).to_le_bytes());
    answer.extend(message.u16(10).to_le_bytes());
    answer.extend((ANSWER as u32).to_le_bytes());
    answer.extend(message.u32(32).to_le_bytes());
    answer.extend(message.u32(36).to_le_bytes());
    answer.extend([0; 8]);
}

/// The line of a request and its answer.
fn line(request: &[u8], answer: &[u8]) -> String {
    let (asked, told) = (Message(request), Message(answer));
    let kind = asked.u32(4);
    let mut line = format!(
        "HWC {kind:#x} {} v{}/r{} req {} resp {} dev {:#x}",
        name(kind),
        asked.u16(8),
        asked.u16(24),
        asked.u32(12),
        asked.u32(28),
        asked.u16(32),
    );
    // Writing to a String does not fail.
    let _always = details(&mut line, kind, asked, told);
    let status = told.u32(24);
    if status != 0 {
        let _always = write!(line, " status {status:#x}");
    }
    line
}

/// The fields that tell what happened (reference/mana-hardware.md §6.5-§6.7).
fn details(to: &mut String, kind: u32, asked: Message<'_>, told: Message<'_>) -> fmt::Result {
    match kind {
        0x1 => {
            write!(to, " proto {}..{} drv_caps", asked.u64(40), asked.u64(48))?;
            for at in [56, 64, 72, 80] {
                write!(to, " {:#x}", asked.u64(at))?;
            }
            let version = [104, 108, 112].map(|at| asked.u32(at));
            write!(to, " os {}.{}.{}", version[0], version[1], version[2])
        }
        0x4 => {
            let [pd, key, page] = [32, 36, 40].map(|at| told.u32(at));
            write!(to, " dev {:#x}", asked.u16(32))?;
            write!(to, " -> pdid {pd} mkey {key} db {page}")
        }
        0xA => write!(to, " eq {}", asked.u32(40)),
        0xC => {
            let [kind, pd, page, size, vector] = [40, 48, 52, 68, 76].map(|at| asked.u32(at));
            let region = asked.u64(56);
            write!(to, " type {kind} pdid {pd} db {page} region {region}")?;
            write!(to, " size {size} msix {vector} -> eq {}", told.u32(32))
        }
        0xD => write!(to, " eq {}", asked.u32(44)),
        0x16 => {
            let [kind, number, alignment] = [40, 44, 48].map(|at| asked.u32(at));
            write!(to, " type {kind} num {number} align {alignment}")?;
            write!(to, " -> {}", told.u32(32))
        }
        0x19 => {
            let [offset, page, count, list] = [48, 52, 56, 60].map(|at| asked.u32(at));
            write!(to, " len {:#x} off {offset:#x}", asked.u64(40))?;
            write!(to, " page_type {page} count {count} list {list}")?;
            write!(to, " first {:#x} -> {}", asked.u64(64), told.u64(32))
        }
        0x1A => write!(to, " region {} +{}", asked.u64(40), asked.u32(48)),
        0x1F => {
            // Of a zero-based region the access bits stand where others have the address.
            let (address, access) = match asked.u32(48) {
                4 => (0, asked.u32(64)),
                _ => (asked.u64(64), asked.u32(72)),
            };
            write!(to, " pd {:#x} type {}", asked.u64(40), asked.u32(48))?;
            write!(to, " region {} va {address:#x}", asked.u64(56))?;
            write!(to, " acc {access:#x} -> lkey {:#x}", told.u32(40))
        }
        0x2_0001 => {
            let [major, minor, micro] = [72, 76, 80].map(|at| asked.u32(at));
            write!(to, " proto {major}.{minor}.{micro}")
        }
        0x2_0003 => {
            let [pd, page] = [48, 52].map(|at| asked.u32(at));
            write!(to, " vport {:#x} pdid {pd} db {page}", asked.u64(40))
        }
        0x2_0004 => {
            let [kind, wq_size, cq_size, eq] = [48, 72, 76, 84].map(|at| asked.u32(at));
            let [wq, cq] = [56, 64].map(|at| asked.u64(at));
            write!(to, " type {kind} wq_region {wq} ({wq_size})")?;
            write!(to, " cq_region {cq} ({cq_size}) eq {eq}")?;
            let [wq, cq] = [32, 36].map(|at| told.u32(at));
            write!(to, " -> wq {wq} cq {cq} obj {:#x}", told.u64(40))
        }
        0x2_0007 => {
            let [entries, offset] = [48, 50].map(|at| asked.u16(at));
            let [receive, hash] = [52, 56].map(|at| asked.u32(at));
            let [default, key, table] = [60, 61, 62].map(|at| asked.u8(at));
            write!(to, " vport {:#x} n_indir {entries}", asked.u64(40))?;
            write!(to, " off {offset} rx_en {receive} rss_en {hash}")?;
            write!(to, " upd_def {default} upd_key {key} upd_tab {table}")?;
            write!(to, " def {:#x}", asked.u64(64))
        }
        0x2_0008 => write!(to, " vport_index {}", asked.u32(40)),
        0x3_0002 => {
            let flags = asked.u64(48);
            write!(to, " notify_eq {} flags {flags:#x}", asked.u32(40))
        }
        0x3_0008 => {
            let [eq, page] = [56, 60].map(|at| asked.u32(at));
            write!(to, " region {} eq {eq} db {page}", asked.u64(48))?;
            write!(to, " -> cq {}", told.u32(40))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message whose fields are 4 bytes at these offsets.
    fn message(len: usize, fields: &[(usize, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for (at, value) in fields {
            bytes[*at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// reference/kernel-in-a-vm.md §6, recorded lines.
    #[test]
    fn lines_are_those_of_the_recorded_traces() {
        let request = message(
            96,
            &[
                (4, 0xC),
                (8, 1),
                (12, 96),
                (24, 1),
                (28, 36),
                (32, 2),
                (40, 4),
                (48, 1),
                (52, 1),
                (56, 1),
                (68, 32768),
                (76, 1),
            ],
        );
        assert_eq!(
            line(&request, &message(36, &[(32, 10)])),
            "HWC 0xc CREATE_QUEUE v1/r1 req 96 resp 36 dev 0x2 type 4 pdid 1 db 1 region 1 \
             size 32768 msix 1 -> eq 10"
        );
        let request = message(
            4096,
            &[
                (4, 0x1A),
                (8, 1),
                (12, 4096),
                (24, 1),
                (28, 32),
                (40, 7),
                (48, 505),
            ],
        );
        assert_eq!(
            line(&request, &message(32, &[(24, 0x105)])),
            "HWC 0x1a DMA_REGION_ADD_PAGES v1/r1 req 4096 resp 32 dev 0x0 region 7 +505 \
             status 0x105"
        );
    }

    #[test]
    fn a_message_of_any_length_has_a_line() {
        for len in [0, 1, 15, 39, 40, 43] {
            for kind in [0x1, 0xC, 0x2_0004, 0xFFFF] {
                let mut bytes = vec![0xFF; len];
                if let Some(field) = bytes.get_mut(4..8) {
                    field.copy_from_slice(&u32::to_le_bytes(kind));
                }
                assert!(line(&bytes, &bytes).starts_with("HWC 0x"));
            }
        }
    }

    /// §6.4: the answer's header; the driver wants the request's own number back.
    #[test]
    fn a_plain_answer_has_the_requests_ids() {
        let mut request = message(44, &[(4, 10), (12, 44), (20, 10), (28, 32), (32, 1)]);
        request[8..12].copy_from_slice(&[1, 0, 7, 0]);
        request[24..26].copy_from_slice(&[1, 0]);
        request[36..40].copy_from_slice(&[0xA, 0xB, 0xC, 0xD]);
        assert_eq!(test_event(&request, 0), Some(64));
        assert_eq!(test_event(&request, 1), None);
        assert_eq!(test_event(&request[..43], 0), None);
        let mut answer = Vec::new();
        plain_answer(&request, &mut answer);
        #[rustfmt::skip]
        assert_eq!(answer, [
            0, 0, 0, 0, 10, 0, 0, 0, 1, 0, 7, 0, 32, 0, 0, 0,
            1, 0, 0, 0, 0xA, 0xB, 0xC, 0xD, 0, 0, 0, 0, 0, 0, 0, 0,
        ]);
    }
}
