//! What a port can do, from what its device claims.

use gdma::wqe::{MAX_RX_SGES, MAX_TX_SGES};
use mana_verbs::DeviceAttributes;

/// Smallest depth of a queue: a CQ of 4096 bytes, the smallest that the hardware takes
/// (reference/mana-hardware.md §2.1, §4.3).
pub const MIN_DEPTH: u32 = 64;

/// Largest depth of a queue that this driver makes, whatever the device claims: 4 times the largest
/// ring of the kernel's own driver (reference/mana-hardware.md §3.9).
pub const MAX_DEPTH: u32 = 65_536;

/// Receive queues of a port at most: entries of the indirection table that the kernel makes
/// (reference/mana-hardware.md §4.6).
pub const MAX_RX_QUEUES: u16 = 64;

/// The limits of one port, each at least as small as what the device reports and never absurd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// A power of two.
    pub(crate) rx_queues: u16,
    pub(crate) tx_queues: u16,
    /// Queues of both directions together, one CQ each.
    pub(crate) queues: u32,
    /// A power of two of at least [`MIN_DEPTH`].
    pub(crate) depth: u32,
    /// Whether the depth is less than the device's because of an old libmana.
    pub(crate) old_library: bool,
    /// Pools of a port, one MR each.
    pub(crate) pools: u32,
    /// Bytes of a pool.
    pub(crate) pool_bytes: u64,
    pub(crate) tx_segments: u32,
    /// Buffers of a received packet.
    pub(crate) rx_segments: u32,
    /// Whether the kernel sends no completion events.
    pub(crate) silent: bool,
}

impl Limits {
    /// The limits of a device's ports, where the provider makes rings of `ring_limit` entries at
    /// most and the kernel has `vectors` completion vectors.
    ///
    /// The error names the attribute with which no port can run.
    pub(crate) fn of(
        device: &DeviceAttributes,
        ring_limit: Option<u32>,
        vectors: u32,
    ) -> Result<Self, String> {
        let at_least = |name: &str, value: u32, needed: u32| {
            (value >= needed)
                .then_some(value)
                .ok_or_else(|| format!("the device reports {name} {value}, a port needs {needed}"))
        };
        let qps = at_least("max_qp", device.max_qp, 1)?;
        let wrs = at_least("max_qp_wr", device.max_qp_wr, MIN_DEPTH)?;
        let cqes = at_least("max_cqe", device.max_cqe, MIN_DEPTH)?;
        // mana_ib before 6.8 tells neither (reference/mana-hardware.md §4.10).
        let untold = |value: u32| if value == 0 { u32::MAX } else { value };
        let queues = at_least("max_cq", untold(device.max_cq), 2)?;
        let pools = at_least("max_mr", device.max_mr, 1)?;
        let sges = at_least("max_sge", device.max_sge, 1)?;
        let depth = prev_power_of_two(wrs.min(cqes).min(MAX_DEPTH));
        let made = ring_limit.unwrap_or(u32::MAX);
        Ok(Self {
            rx_queues: prev_power_of_two(qps.min(MAX_RX_QUEUES.into())) as u16,
            tx_queues: qps.min(u16::MAX.into()) as u16,
            queues,
            depth: depth.min(prev_power_of_two(made)),
            old_library: made < depth,
            pools,
            pool_bytes: device.max_mr_size,
            // Not max_sge: that is the smaller of send and receive, while the kernel takes 30 for
            // sending whatever it reports (reference/mana-hardware.md §4.5, §4.7).
            tx_segments: MAX_TX_SGES as u32,
            // The smaller of send and receive, so never too many.
            rx_segments: sges.min(MAX_RX_SGES as u32),
            silent: is_first_mana_ib(device, vectors),
        })
    }
}

/// Whether the kernel's mana_ib is of the first form (Linux 6.2 to 6.7, and backports of it such as
/// Azure's 5.15), which creates every CQ without an event queue (reference/mana-hardware.md §4.10).
///
/// The kernel's release would not tell, because distributions backport. What tells is that this form
/// answers with constants where later ones pass on what the adapter says (`mana_ib_query_device`:
/// MANA_MAX_NUM_QUEUES, MAX_SEND_BUFFERS_PER_QUEUE, MANA_IB_MAX_MR, no number of CQs) and has one
/// completion vector (`mana_ib_probe`): the commit before the one that brought events replaced the
/// constants (2c20e20b22d9, c15d7802a424, one series). One vector alone tells nothing: 6.8 still has
/// it, with events, and so has a VM of one CPU. Where it can't be told, interrupts are allowed.
fn is_first_mana_ib(device: &DeviceAttributes, vectors: u32) -> bool {
    let told = (device.max_qp, device.max_qp_wr, device.max_cqe);
    vectors == 1 && told == (64, 256, 256) && device.max_cq == 0 && device.max_mr >= 0xFF_FFFF
}

/// The largest power of two that is not above `n`, which is not 0.
fn prev_power_of_two(n: u32) -> u32 {
    1 << n.ilog2()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What 7.3 reports, reference/mana-hardware.md §4.7.
    pub(crate) fn attributes() -> DeviceAttributes {
        DeviceAttributes {
            fw_ver: 0,
            vendor_id: 0x1414,
            vendor_part_id: 2,
            phys_port_cnt: 1,
            max_qp: 1000,
            max_qp_wr: 2048,
            max_sge: 15,
            max_cq: 1000,
            max_cqe: 2048,
            max_mr: 1000,
            max_pd: 0x6000,
            max_mr_size: u64::MAX,
            page_size_cap: 0x3f_f000,
            raw_packet_caps: 4,
        }
    }

    #[test]
    fn usual_devices_give_64_receive_queues_and_2048_descriptors() {
        let limits = Limits::of(&attributes(), None, 16).unwrap();
        assert_eq!(limits.rx_queues, 64);
        assert_eq!(limits.tx_queues, 1000);
        assert_eq!(limits.depth, 2048);
        assert_eq!(limits.tx_segments, 30);
    }

    #[test]
    fn numbers_that_old_kernels_do_not_tell_are_no_limits() {
        let untold = DeviceAttributes {
            max_cq: 0,
            max_pd: 0,
            ..attributes()
        };
        let limits = Limits::of(&untold, None, 16).unwrap();
        assert_eq!((limits.queues, limits.rx_queues), (u32::MAX, 64));
    }

    #[test]
    fn only_the_constants_of_the_first_mana_ib_with_one_vector_mean_no_events() {
        let first = DeviceAttributes {
            max_qp: 64,
            max_qp_wr: 256,
            max_cqe: 256,
            max_cq: 0,
            max_mr: 0xFF_FFFF,
            max_pd: 0,
            ..attributes()
        };
        let silent =
            |device: &DeviceAttributes, vectors| Limits::of(device, None, vectors).unwrap().silent;
        assert!(silent(&first, 1));
        // As reviewed, before it was merged.
        let max_mr = i32::MAX as u32;
        assert!(silent(&DeviceAttributes { max_mr, ..first }, 1));
        assert!(!silent(&first, 2), "a vector a CPU came later than events");
        // A VM of one CPU, or 6.8: numbers are the adapter's.
        assert!(!silent(&attributes(), 1));
        let max_cq = 1024;
        assert!(!silent(&DeviceAttributes { max_cq, ..first }, 1));
    }

    #[test]
    fn odd_limits_are_rounded_down_to_powers_of_two() {
        let odd = DeviceAttributes {
            max_qp: 31,
            max_qp_wr: 2047,
            max_cqe: 1500,
            ..attributes()
        };
        let limits = Limits::of(&odd, None, 16).unwrap();
        assert_eq!(
            (limits.rx_queues, limits.tx_queues, limits.depth),
            (16, 31, 1024)
        );
    }

    #[test]
    fn an_old_library_makes_smaller_rings_than_the_device_has() {
        let limits = Limits::of(&attributes(), Some(256), 16).unwrap();
        assert_eq!((limits.depth, limits.old_library), (256, true));
        let small = DeviceAttributes {
            max_cqe: 128,
            ..attributes()
        };
        let limits = Limits::of(&small, Some(256), 16).unwrap();
        assert_eq!((limits.depth, limits.old_library), (128, false));
    }

    #[test]
    fn limits_of_u32_max_are_cut_to_what_the_driver_makes() {
        let absurd = DeviceAttributes {
            max_qp: u32::MAX,
            max_qp_wr: u32::MAX,
            max_sge: u32::MAX,
            max_cq: u32::MAX,
            max_cqe: u32::MAX,
            max_mr: u32::MAX,
            max_pd: u32::MAX,
            ..attributes()
        };
        let limits = Limits::of(&absurd, None, 16).unwrap();
        assert_eq!((limits.rx_queues, limits.tx_queues), (64, 65_535));
        assert_eq!((limits.depth, limits.tx_segments), (65_536, 30));
        assert_eq!(limits.rx_segments, 15);
    }

    #[test]
    fn a_limit_with_which_no_port_can_run_is_named() {
        let with = |change: fn(&mut DeviceAttributes)| {
            let mut attributes = attributes();
            change(&mut attributes);
            Limits::of(&attributes, None, 16).unwrap_err()
        };
        assert_eq!(
            with(|a| a.max_qp = 0),
            "the device reports max_qp 0, a port needs 1"
        );
        assert_eq!(
            with(|a| a.max_qp_wr = 63),
            "the device reports max_qp_wr 63, a port needs 64"
        );
        assert_eq!(
            with(|a| a.max_cqe = 0),
            "the device reports max_cqe 0, a port needs 64"
        );
        assert_eq!(
            with(|a| a.max_cq = 1),
            "the device reports max_cq 1, a port needs 2"
        );
        assert_eq!(
            with(|a| a.max_mr = 0),
            "the device reports max_mr 0, a port needs 1"
        );
        assert_eq!(
            with(|a| a.max_sge = 0),
            "the device reports max_sge 0, a port needs 1"
        );
    }
}
