//! Counters, as plain values.

use std::ops::{Add, AddAssign, Sub};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: u64,)*
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self { $($field: self.$field.wrapping_add(other.$field),)* }
            }
        }

        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        /// What was counted between two readings.
        impl Sub for $name {
            type Output = Self;
            fn sub(self, earlier: Self) -> Self {
                Self { $($field: self.$field.wrapping_sub(earlier.$field),)* }
            }
        }
    };
}

counters! {
    /// Counters of one queue, since it was made.
    QueueStats {
        /// Packets received, or sent.
        packets,
        /// Their bytes, without the frame check sequence.
        bytes,
        /// Packets that the device reported as failed.
        errors,
        /// Bytes of those packets, where the device tells.
        error_bytes,
        /// Completions that contradict the driver's own state.
        bad_completions,
        /// Receive: buffers that could not be posted because the pool had none.
        nombuf,
        /// Transmit: packets that were refused because they can never be sent.
        rejected,
    }
}

counters! {
    /// Counters of one port: those of DPDK's `rte_eth_stats`.
    PortStats {
        /// Packets received.
        rx_packets,
        /// Packets sent.
        tx_packets,
        /// Bytes received, without the frame check sequence.
        rx_bytes,
        /// Bytes sent, without the frame check sequence.
        tx_bytes,
        /// Packets received with errors.
        rx_errors,
        /// Packets that could not be sent.
        tx_errors,
        /// Packets that the device dropped because no buffer was posted.
        rx_missed,
        /// Buffers that could not be posted because a pool had none.
        rx_nombuf,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_add_up_and_their_difference_survives_a_wrap() {
        let a = QueueStats {
            packets: 1,
            bytes: 60,
            ..QueueStats::default()
        };
        let mut sum = a;
        sum += a;
        assert_eq!(
            sum,
            QueueStats {
                packets: 2,
                bytes: 120,
                ..QueueStats::default()
            }
        );
        let before = PortStats {
            rx_packets: u64::MAX,
            ..PortStats::default()
        };
        let after = PortStats {
            rx_packets: 4,
            ..PortStats::default()
        };
        assert_eq!((after - before).rx_packets, 5);
    }
}
