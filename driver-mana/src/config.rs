//! What a port shall run with, and the rules it must keep.

use dma_memory::RegionOptions;
use pmd_api::{ExternalMemory, Pool, PoolId};

use crate::limits::{Limits, MIN_DEPTH};
use crate::mtu::room;
use crate::rss_table::{RSS_TABLE, order};
use crate::{Error, Oversize};

/// The key of Microsoft's RSS verification suite, which most drivers and capture tools take.
pub const DEFAULT_RSS_KEY: [u8; 40] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// Buffers that [`buffers_needed`] counts for the burst in the application's hands.
const BURST: u32 = 64;

/// Bytes of the smallest Ethernet frame without FCS.
const MIN_FRAME: u32 = 60;

/// What a port shall run with.
///
/// The pools in it stay registered with the device from start to stop.
#[derive(Debug, Clone, Default)]
pub struct PortConfig {
    /// Receive queues: a power of two of them, from 1 to [`crate::PortInfo::max_rx_queues`]. RSS
    /// spreads flows over them.
    pub rx: Vec<RxQueueConfig>,
    /// Transmit queues: any number from 1 to [`crate::PortInfo::max_tx_queues`].
    pub tx: Vec<TxQueueConfig>,
    /// Pools sent from besides those of the receive queues. A packet of any other pool is rejected
    /// by every transmit queue.
    pub tx_pools: Vec<Pool>,
    /// Whether receive queues can wake their owners ([`crate::RxInterrupt`]). Polling is the same
    /// either way; each queue takes a file descriptor. Not on kernels before 6.8, see
    /// [`Error::NoInterrupts`].
    pub rx_interrupts: bool,
    /// Memory of the application's that packets are sent from. Packets of any other memory are
    /// rejected.
    pub tx_memory: Vec<ExternalMemory>,
    /// Toeplitz key of RSS; [`DEFAULT_RSS_KEY`] if it is not given.
    pub rss_key: Option<[u8; 40]>,
    /// The receive queue of each entry of the indirection table, of which a packet takes the one that
    /// the lowest 6 bits of its hash name; without one, all queues in turn. See
    /// [`crate::Port::set_rss_table`] for which tables the kernel can make.
    pub rss_table: Option<[u16; RSS_TABLE]>,
    /// Bytes that packets may have behind their Ethernet header, from [`crate::MIN_MTU`] to
    /// [`crate::PortInfo::max_mtu`]; without one, what [`crate::Port::set_mtu`] said or the MTU that
    /// the netdev had when the port was opened. Nothing is asked of the device: the MTU says what the
    /// receive buffers must hold.
    pub mtu: Option<u32>,
    /// What becomes of packets larger than a receive buffer.
    pub oversize: Oversize,
    /// Whether VLAN tags stay in received packets. The device strips them always, so each is put back
    /// in software, with priority and drop-eligible bit 0, which the device does not deliver.
    pub keep_vlan_tags: bool,
    /// Pages and NUMA node of the rings. Without a node here they go to the device's node, where
    /// that can be had.
    pub memory: RegionOptions,
}

/// What a receive queue shall be.
#[derive(Debug, Clone)]
pub struct RxQueueConfig {
    /// Packets that the ring has buffers for, 64 to [`crate::PortInfo::max_depth`], rounded up to a
    /// power of two.
    pub depth: u32,
    /// Where buffers come from. They hold what the MTU allows, or [`PortConfig::oversize`] says what
    /// becomes of larger packets.
    pub pool: Pool,
}

/// What a transmit queue shall be.
#[derive(Debug, Clone)]
pub struct TxQueueConfig {
    /// Packets in flight at most, 64 to [`crate::PortInfo::max_depth`], rounded up to a power of
    /// two.
    pub depth: u32,
}

/// Buffers that a pool must have so that it can't run dry for good: those in the rings of the given
/// receive and transmit queues, 1.5 caches of `cache` entries for each of these queues (what the
/// caches of the threads that serve them hold before they flush), and a burst of 64 in the
/// application's hands.
///
/// The receive queues are those that take buffers from the pool. The transmit queues are all of a
/// port, if the port may send from the pool: it may send from its `tx_pools` and from the pools of
/// its own receive queues. Depths are those after rounding to powers of two. With
/// [`crate::Oversize::Scatter`] a receive queue holds, for each packet of its depth, the buffers that
/// the largest packet fills: multiply its depth by their number.
#[must_use]
pub fn buffers_needed(rx_depths: &[u32], tx_depths: &[u32], cache: u32) -> u64 {
    let queues = (rx_depths.len() + tx_depths.len()) as u64;
    sum(rx_depths) + sum(tx_depths) + (3 * u64::from(cache) * queues).div_ceil(2) + u64::from(BURST)
}

fn sum(depths: &[u32]) -> u64 {
    depths.iter().copied().map(u64::from).sum()
}

impl PortConfig {
    /// The different pools: those of the receive queues in their order, then the others.
    pub(crate) fn pools(&self) -> Vec<&Pool> {
        let mut pools: Vec<&Pool> = Vec::new();
        for pool in self
            .rx
            .iter()
            .map(|queue| &queue.pool)
            .chain(&self.tx_pools)
        {
            if !pools.iter().any(|known| known.id() == pool.id()) {
                pools.push(pool);
            }
        }
        pools
    }

    /// Checks everything against the limits of the port `name` and rounds the depths up. `mtu` is
    /// for a configuration without one.
    pub(crate) fn checked(mut self, name: &str, limits: &Limits, mtu: u32) -> Result<Self, Error> {
        let (rx, tx) = (self.rx.len(), self.tx.len());
        if !rx.is_power_of_two() || rx > limits.rx_queues.into() {
            return Err(Error::RxQueues {
                given: rx,
                max: limits.rx_queues,
            });
        }
        if tx == 0 || tx > limits.tx_queues.into() {
            return Err(Error::TxQueues {
                given: tx,
                max: limits.tx_queues,
            });
        }
        if (rx + tx) as u64 > limits.queues.into() {
            return Err(Error::CompletionQueues {
                given: rx + tx,
                max: limits.queues,
            });
        }
        if let Some(table) = &self.rss_table {
            order(table, rx)?;
        }
        if self.rx_interrupts && limits.silent {
            return Err(Error::NoInterrupts);
        }
        let mut rounded = Vec::new();
        let rx_depths = self.rx.iter_mut().map(|queue| &mut queue.depth).enumerate();
        let tx_depths = self.tx.iter_mut().map(|queue| &mut queue.depth).enumerate();
        let rx_depths = rx_depths.map(|(i, depth)| (format!("rx {i}"), depth));
        let tx_depths = tx_depths.map(|(i, depth)| (format!("tx {i}"), depth));
        for (queue, depth) in rx_depths.chain(tx_depths) {
            let given = *depth;
            if !(MIN_DEPTH..=limits.depth).contains(&given) {
                return Err(Error::Depth {
                    queue,
                    given,
                    min: MIN_DEPTH,
                    max: limits.depth,
                    old_library: limits.old_library,
                });
            }
            *depth = given.next_power_of_two();
            if *depth != given {
                rounded.push(format!("{queue}: {given} to {depth}"));
            }
        }
        self.mtu = self.mtu.or(Some(mtu));
        self.check_pools(limits)?;
        self.check_buffers(name, limits)?;
        if !rounded.is_empty() {
            tracing::info!(
                "{name}: depths rounded up to powers of two: {}",
                rounded.join(", ")
            );
        }
        Ok(self)
    }

    fn check_pools(&self, limits: &Limits) -> Result<(), Error> {
        let pools = self.pools();
        let given = pools.len() + self.memory().len();
        if given as u64 > limits.pools.into() {
            return Err(Error::Pools {
                given,
                max: limits.pools,
            });
        }
        for memory in self.memory() {
            let bytes = memory.region().len() as u64;
            if bytes > limits.pool_bytes {
                return Err(Error::PoolTooLarge {
                    pool: memory.name().to_owned(),
                    bytes,
                    max: limits.pool_bytes,
                });
            }
        }
        let tx_depths: Vec<u32> = self.tx.iter().map(|queue| queue.depth).collect();
        for pool in pools {
            let rx_depths = self.rx_depths_of(pool.id());
            let room = room(pool);
            if !rx_depths.is_empty() && room < MIN_FRAME {
                let pool = pool.name().to_owned();
                return Err(Error::BufferTooSmall {
                    pool,
                    room,
                    min: MIN_FRAME,
                });
            }
            let bytes = pool.region().len() as u64;
            if bytes > limits.pool_bytes {
                let pool = pool.name().to_owned();
                return Err(Error::PoolTooLarge {
                    pool,
                    bytes,
                    max: limits.pool_bytes,
                });
            }
            let needed = buffers_needed(&rx_depths, &tx_depths, pool.cache());
            if u64::from(pool.capacity()) < needed {
                return Err(Error::PoolTooSmall {
                    pool: pool.name().to_owned(),
                    capacity: pool.capacity(),
                    needed,
                    rx: sum(&rx_depths),
                    tx: sum(&tx_depths),
                    cache: pool.cache(),
                    queues: rx_depths.len() + tx_depths.len(),
                    burst: BURST,
                });
            }
        }
        Ok(())
    }

    /// The receive queues that get packets, in the order in which the kernel repeats them in the
    /// indirection table. The configuration was checked.
    pub(crate) fn rss_order(&self) -> Vec<u16> {
        let queues = self.rx.len();
        let chosen = self.rss_table.as_ref();
        let chosen = chosen.and_then(|table| order(table, queues).ok());
        chosen.unwrap_or_else(|| (0..queues as u16).collect())
    }

    /// The different external memories.
    pub(crate) fn memory(&self) -> Vec<&ExternalMemory> {
        let mut all: Vec<&ExternalMemory> = Vec::new();
        for memory in &self.tx_memory {
            if !all.iter().any(|known| known.id() == memory.id()) {
                all.push(memory);
            }
        }
        all
    }

    /// Buffers of `pool` that each of its receive queues posts.
    fn rx_depths_of(&self, pool: PoolId) -> Vec<u32> {
        let naming = self.rx.iter().filter(|queue| queue.pool.id() == pool);
        let buffers = |queue: &RxQueueConfig| {
            let segments = self.rx_segments(&queue.pool);
            queue.depth.saturating_mul(segments)
        };
        naming.map(buffers).collect()
    }
}

#[cfg(test)]
mod tests {
    use dma_memory::HugePages;
    use pmd_api::PoolConfig;

    use super::*;
    use crate::limits::tests::attributes;

    fn pool_of(buffers: u32, data_room: u32, cache: u32) -> Pool {
        let memory = RegionOptions {
            huge: HugePages::Never,
            numa_node: None,
        };
        let name = "p".into();
        Pool::new(PoolConfig {
            name,
            buffers,
            data_room,
            cache,
            memory,
            ..PoolConfig::default()
        })
        .unwrap()
    }

    fn config(rx: usize, rxd: u32, tx: usize, txd: u32, pool: &Pool) -> PortConfig {
        PortConfig {
            rx: vec![
                RxQueueConfig {
                    depth: rxd,
                    pool: pool.clone()
                };
                rx
            ],
            tx: vec![TxQueueConfig { depth: txd }; tx],
            ..PortConfig::default()
        }
    }

    fn limits() -> Limits {
        Limits::of(&attributes(), None, 16).unwrap()
    }

    fn refused(config: PortConfig) -> String {
        config
            .checked("port", &limits(), 1500)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn receive_queues_are_a_power_of_two_up_to_64_and_the_reason_is_told() {
        let pool = pool_of(16 << 10, 256, 0);
        for good in [1, 2, 4, 8, 16, 32, 64] {
            assert!(
                config(good, 64, 1, 64, &pool)
                    .checked("port", &limits(), 100)
                    .is_ok()
            );
        }
        for bad in [0, 3, 6, 63, 65, 128] {
            let error = refused(config(bad, 64, 1, 64, &pool));
            assert!(
                error.contains("indirection table") && error.contains("1 to 64"),
                "{error}"
            );
        }
    }

    #[test]
    fn transmit_queues_are_any_number_up_to_the_devices_limit() {
        let pool = pool_of(80 << 10, 256, 0);
        for good in [1, 3, 7, 998] {
            assert!(
                config(1, 64, good, 64, &pool)
                    .checked("port", &limits(), 100)
                    .is_ok()
            );
        }
        assert!(refused(config(1, 64, 0, 64, &pool)).contains("from 1 to 1000"));
        assert!(refused(config(1, 64, 1001, 64, &pool)).contains("from 1 to 1000"));
        let error = refused(config(1, 64, 1000, 64, &pool));
        assert!(
            error.contains("1001 queues") && error.contains("has 1000"),
            "{error}"
        );
    }

    #[test]
    fn depths_from_64_to_the_limit_are_rounded_up_to_powers_of_two() {
        let pool = pool_of(8 << 10, 256, 0);
        for (given, rounded) in [(64, 64), (65, 128), (1025, 2048), (2048, 2048)] {
            let checked = config(1, given, 1, given, &pool).checked("port", &limits(), 100);
            let checked = checked.unwrap();
            assert_eq!(
                (checked.rx[0].depth, checked.tx[0].depth),
                (rounded, rounded)
            );
        }
        for bad in [0, 63, 2049, u32::MAX] {
            let error = refused(config(1, 64, 1, bad, &pool));
            assert!(
                error.contains("tx 0") && error.contains("64 to 2048"),
                "{error}"
            );
            let error = refused(config(2, bad, 1, 64, &pool));
            assert!(
                error.contains("rx 0") && error.contains("64 to 2048"),
                "{error}"
            );
        }
    }

    /// rxd + txd of the queues naming it + 1.5 x cache x those queues + one burst of 64.
    #[test]
    fn a_pool_one_buffer_short_is_refused_with_the_number_needed() {
        let needed = 128 + 256 + 2 * 375 + 64;
        assert_eq!(buffers_needed(&[128], &[256], 250), u64::from(needed));
        let enough = pool_of(needed, 256, 250);
        assert!(
            config(1, 128, 1, 256, &enough)
                .checked("port", &limits(), 100)
                .is_ok()
        );
        let short = pool_of(needed - 1, 256, 250);
        let error = refused(config(1, 128, 1, 256, &short));
        assert!(error.contains("has 1197 buffers and needs 1198"), "{error}");
    }

    #[test]
    fn the_pool_rule_counts_rounded_depths_and_odd_caches() {
        assert_eq!(buffers_needed(&[64, 64], &[64], 1), 64 * 3 + 5 + 64);
        let pool = pool_of(255, 256, 0);
        let error = refused(config(1, 65, 1, 64, &pool));
        assert!(error.contains("needs 256"), "{error}");
    }

    #[test]
    fn a_pool_that_is_only_sent_from_counts_the_transmit_queues_alone() {
        let rx = pool_of(1024, 256, 0);
        let with_tx_pool = |buffers| PortConfig {
            tx_pools: vec![pool_of(buffers, 256, 0), rx.clone()],
            ..config(4, 64, 2, 64, &rx)
        };
        assert_eq!(with_tx_pool(192).pools().len(), 2);
        assert!(with_tx_pool(192).checked("port", &limits(), 100).is_ok());
        assert!(refused(with_tx_pool(191)).contains("needs 192"));
    }

    #[test]
    fn a_receive_buffer_holds_the_smallest_packet() {
        let lossy = |pool: &Pool| PortConfig {
            oversize: Oversize::Drop,
            ..config(1, 64, 1, 64, pool)
        };
        assert!(refused(lossy(&pool_of(1024, 187, 0))).contains("at least 188"));
        let pool = pool_of(1024, 188, 0);
        assert!(lossy(&pool).checked("port", &limits(), 100).is_ok());
        let sends = PortConfig {
            tx_pools: vec![pool_of(1024, 140, 0)],
            ..lossy(&pool)
        };
        assert!(sends.checked("port", &limits(), 100).is_ok());
    }

    #[test]
    fn pools_keep_the_devices_limits_of_memory_regions() {
        let pool = pool_of(1024, 256, 0);
        let two = PortConfig {
            tx_pools: vec![pool_of(1024, 256, 0)],
            ..config(1, 64, 1, 64, &pool)
        };
        let one_region = Limits {
            pools: 1,
            ..limits()
        };
        let error = two
            .checked("port", &one_region, 100)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("2 pools") && error.contains("has 1"),
            "{error}"
        );
        let small_regions = Limits {
            pool_bytes: 4096,
            ..limits()
        };
        let one = config(1, 64, 1, 64, &pool);
        let error = one
            .checked("port", &small_regions, 100)
            .unwrap_err()
            .to_string();
        assert!(error.contains("at most 4096"), "{error}");
    }

    #[test]
    fn buffers_smaller_than_the_mtu_are_refused_unless_it_is_said_what_then() {
        let pool = pool_of(8192, 2048 + 128, 0);
        let with = |mtu, oversize| PortConfig {
            mtu: Some(mtu),
            oversize,
            ..config(1, 64, 1, 64, &pool)
        };
        let checked = |mtu, oversize| with(mtu, oversize).checked("port", &limits(), 100);
        for oversize in [Oversize::Refuse, Oversize::Scatter, Oversize::Drop] {
            let checked = checked(2034, oversize).unwrap();
            assert_eq!(checked.rx_segments(&pool), 1, "{oversize:?}");
            assert_eq!(checked.largest_packet(), 2048);
        }
        let error = refused(with(2035, Oversize::Refuse));
        for part in ["2048 bytes", "MTU of 2035", "2177", "Oversize::Scatter"] {
            assert!(error.contains(part), "{error}");
        }
        let scattered = checked(9000, Oversize::Scatter).unwrap();
        assert_eq!(scattered.rx_segments(&pool), 5);
        assert!(scattered.holds(10_226) && !scattered.holds(10_227));
        let lossy = checked(9000, Oversize::Drop).unwrap();
        assert_eq!((lossy.rx_segments(&pool), lossy.holds(9000)), (1, true));
    }

    #[test]
    fn a_packet_in_more_buffers_than_a_wqe_names_is_refused() {
        let pool = pool_of(8192, 128 + 500, 0);
        let with = |mtu| PortConfig {
            mtu: Some(mtu),
            oversize: Oversize::Scatter,
            ..config(1, 64, 1, 64, &pool)
        };
        assert!(with(7486).checked("port", &limits(), 100).is_ok());
        let error = refused(with(7487));
        assert!(error.contains("15 buffers"), "{error}");
    }

    #[test]
    fn scattered_packets_count_all_their_buffers_against_the_pool() {
        let with = |buffers| PortConfig {
            mtu: Some(9000),
            oversize: Oversize::Scatter,
            ..config(1, 64, 1, 64, &pool_of(buffers, 2048 + 128, 0))
        };
        assert!(
            with(64 * 5 + 64 + 64)
                .checked("port", &limits(), 100)
                .is_ok()
        );
        let error = refused(with(64 * 5 + 64 + 63));
        assert!(
            error.contains("needs 448") && error.contains("320 of receive"),
            "{error}"
        );
    }
}
