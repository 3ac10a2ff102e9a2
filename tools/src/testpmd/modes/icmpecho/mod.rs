//! icmpecho: requests are answered through the queue pair on which they came: ARP requests for any
//! address, ICMP echo requests and, which testpmd does not, neighbour solicitations for any address
//! and ICMPv6 echo requests. Everything else is dropped.
//!
//! An answer is its request rewritten in place, VLAN tags included; it goes to the MAC that asked and
//! comes from the port's own. (testpmd takes the address that was asked, which is no source where
//! that is a group's, and which a MANA port may not use where it is another's.)

mod arp;
mod ipv4;
mod ipv6;

use pmd_api::Mbuf;
use uverbs_abi::Mac;

use super::ForwardMode;
use crate::testpmd::headers::{IPV4, IPV6, behind_tags};
use crate::testpmd::lane::Lane;

const ARP: u16 = 0x0806;

/// The answering machine of one port.
pub struct IcmpEcho {
    mac: [u8; 6],
}

impl IcmpEcho {
    /// Answers will come from `mac`.
    pub fn new(mac: Mac) -> Self {
        IcmpEcho { mac: mac.0 }
    }

    /// Makes the request its answer; `None` if it is none that is answered, and then part of it may
    /// be rewritten.
    fn answer(&self, mbuf: &mut Mbuf) -> Option<()> {
        if mbuf.segments() != 1 {
            return None;
        }
        let frame = mbuf.data_mut()?;
        let tagged = behind_tags(frame)?;
        let start = tagged.start;
        let asker: [u8; 6] = *frame[6..].first_chunk()?;
        // What claims to come from a group must not be answered to all of its members.
        if is_group(&asker) {
            return None;
        }
        let asks_group = is_group(frame);
        let packet = frame.get_mut(start..)?;
        match tagged.kind {
            ARP => arp::answer(packet, self.mac)?,
            IPV4 => ipv4::echo(packet, asks_group)?,
            IPV6 if ipv6::solicits(packet) => {
                resize(mbuf, start + ipv6::ADVERTISEMENT)?;
                ipv6::advertise(mbuf.data_mut()?.get_mut(start..)?, self.mac)?;
            }
            IPV6 => ipv6::echo(packet, self.mac)?,
            _ => return None,
        }
        let addresses = mbuf.data_mut()?.first_chunk_mut::<12>()?;
        addresses[..6].copy_from_slice(&asker);
        addresses[6..].copy_from_slice(&self.mac);
        Some(())
    }
}

impl ForwardMode for IcmpEcho {
    fn forward(&mut self, lane: &mut Lane<'_>) -> usize {
        let received = lane.receive();
        if received == 0 {
            return 0;
        }
        lane.batch.retain_mut(|mbuf| self.answer(mbuf).is_some());
        if !lane.batch.is_empty() {
            lane.restore_tags();
            lane.transmit_all();
        }
        received
    }
}

/// Whether a MAC, or the destination of a frame, is that of a group.
fn is_group(address: &[u8]) -> bool {
    address[0] & 1 != 0
}

/// Makes a packet of one segment `length` bytes long; `None` if its buffer has no room for that.
fn resize(mbuf: &mut Mbuf, length: usize) -> Option<()> {
    let now = mbuf.data_len();
    if now < length {
        mbuf.append(length - now).ok()?;
    } else {
        mbuf.trim(now - length).ok()?;
    }
    Some(())
}

#[cfg(test)]
mod tests;
