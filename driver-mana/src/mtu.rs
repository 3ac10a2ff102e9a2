//! What the MTU asks of receive buffers (reference/mana-hardware.md §3.10): nothing of the device, but
//! that a packet fits the buffers that are posted for it.

use pmd_api::{HEADROOM, Pool};

use crate::limits::Limits;
use crate::{Error, PortConfig};

/// Smallest MTU: that of IPv4, and the smallest that the kernel's driver takes
/// (reference/mana-hardware.md §3.10).
pub const MIN_MTU: u32 = 68;

/// Bytes of an Ethernet header. A VLAN tag does not count: the device strips it.
const ETHERNET: u32 = 14;

/// What becomes of packets that are larger than one receive buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Oversize {
    /// A port whose MTU allows such packets is not configured.
    #[default]
    Refuse,
    /// Each goes into as many buffers as it fills and arrives as a chain. Where one buffer holds
    /// whatever the MTU allows, this makes no difference; otherwise a queue needs as many buffers as
    /// the largest packet fills, for each of its descriptors.
    Scatter,
    /// The device drops them; they are counted as errors.
    Drop,
}

/// Whether an MTU can be had; `max` is the adapter's limit, where it is known.
pub(crate) fn check(mtu: u32, max: Option<u32>) -> Result<(), Error> {
    let most = max.unwrap_or(u16::MAX.into());
    match (MIN_MTU..=most).contains(&mtu) {
        true => Ok(()),
        false => Err(Error::Mtu {
            given: mtu,
            min: MIN_MTU,
            max: most,
        }),
    }
}

/// Bytes for a packet in a buffer of the pool.
pub(crate) fn room(pool: &Pool) -> u32 {
    pool.data_room().saturating_sub(HEADROOM as u32)
}

/// Bytes of the largest packet of an MTU.
fn frame(mtu: u32) -> u32 {
    mtu.saturating_add(ETHERNET)
}

impl PortConfig {
    /// Buffers of `pool` that a packet may need, in a configuration that was checked.
    pub(crate) fn rx_segments(&self, pool: &Pool) -> u32 {
        match (self.oversize, self.mtu) {
            (Oversize::Scatter, Some(mtu)) => frame(mtu).div_ceil(room(pool).max(1)).max(1),
            _ => 1,
        }
    }

    /// Bytes of the largest packet that queues of this configuration receive.
    pub(crate) fn largest_packet(&self) -> u32 {
        let limits = self.rx.iter().map(|queue| {
            let pool = &queue.pool;
            room(pool).saturating_mul(self.rx_segments(pool))
        });
        limits.min().unwrap_or(0)
    }

    /// Whether the queues of a running port receive whatever this MTU allows, or may lose it.
    pub(crate) fn holds(&self, mtu: u32) -> bool {
        self.oversize == Oversize::Drop || frame(mtu) <= self.largest_packet()
    }

    /// Compares the receive pools with the MTU, which is set.
    pub(crate) fn check_buffers(&self, name: &str, limits: &Limits) -> Result<(), Error> {
        let mtu = self.mtu.unwrap_or(0);
        let frame = frame(mtu);
        for pool in self.pools() {
            let receives = self.rx.iter().any(|queue| queue.pool.id() == pool.id());
            let room = room(pool);
            if !receives || room >= frame {
                continue;
            }
            let segments = self.rx_segments(pool);
            match self.oversize {
                Oversize::Scatter if segments <= limits.rx_segments => {}
                Oversize::Drop => tracing::warn!(
                    "{name}: buffers of pool `{}` hold packets of {room} bytes, the MTU of {mtu} \
                     allows {frame}: larger ones will be lost, as was asked for",
                    pool.name(),
                ),
                Oversize::Refuse | Oversize::Scatter => {
                    return Err(Error::BufferBelowMtu {
                        pool: pool.name().to_owned(),
                        room,
                        mtu,
                        frame,
                        scatter: self.oversize == Oversize::Scatter,
                        max_segments: limits.rx_segments,
                    });
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_mtu_is_at_least_ipv4s_and_at_most_the_adapters() {
        for (mtu, max, good) in [
            (67, None, false),
            (68, None, true),
            (65_535, None, true),
            (65_536, None, false),
            (9000, Some(1500), false),
            (1500, Some(1500), true),
        ] {
            assert_eq!(check(mtu, max).is_ok(), good, "{mtu} {max:?}");
        }
        let error = check(9000, Some(4000)).unwrap_err().to_string();
        assert!(error.contains("68 to 4000"), "{error}");
    }
}
