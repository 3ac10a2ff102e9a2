//! Every suite over the model, on each kernel, stepped: deterministic, on one thread.

#![forbid(unsafe_code)]

use conformance::{Rig, suites};
use mana_model::{DeviceConfig, DoorbellMode, Kernel};

fn run(name: &str, device: DeviceConfig) {
    let suite = suites::find(name).unwrap_or_else(|| panic!("there is no suite {name}"));
    println!("{name} on {}: {}", device.to_text().unwrap(), suite.proves);
    (suite.run)(&Rig::machine(suite.machine(device), DoorbellMode::Stepped));
}

fn on(name: &str, kernel: Kernel) {
    run(name, DeviceConfig::new(kernel));
}

/// As on a kernel that negotiates what no mana_ib does yet.
fn with_completions_of_8(name: &str) {
    let device = DeviceConfig {
        coalescing: 8,
        ..DeviceConfig::new(Kernel::V7_3)
    };
    run(name, device);
}

/// One test a suite and kernel, and one that no suite is forgotten here.
macro_rules! suites {
    ($($name:ident)*) => {
        mod linux_6_12 {
            $(#[test] fn $name() { super::on(stringify!($name), mana_model::Kernel::V6_12) })*
        }
        mod linux_7_3 {
            $(#[test] fn $name() { super::on(stringify!($name), mana_model::Kernel::V7_3) })*
        }
        mod linux_5_15_azure {
            $(#[test] fn $name() { super::on(stringify!($name), mana_model::Kernel::V5_15Azure) })*
        }
        #[test]
        fn every_suite_runs_here() {
            let names = suites::ALL.iter().map(|suite| suite.name);
            // In a program of its own, because it counts what the whole process has.
            let names: Vec<_> = names.filter(|name| *name != "soak").collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

suites! {
    smoke
    send_only
    loopback
    ring_laps
    tx_multi_segment
    clones
    external_memory
    checksum_offload
    tx_prepare
    tso
    vlan
    rss
    rss_update
    rx_burst_boundary
    tx_error_cqes
    rx_truncated
    buffer_scatter
    mtu
    pool_exhaustion
    full_ring
    rejects
    port_stats
    ethtool_stats
    restart
    two_ports
    errno_at_every_operation
    garbage_cqe
    vport_offset
    queue_ids
    queue_status
    rx_interrupt
    rx_wakeup
    device_fatal
    device_reset
    recovery_traffic
    recovery_workers
    recovery_comes_by_itself
    recovery_tx_stuck
    recovery_silent_owner
    recovery_sleeper
    recovery_sleeper_learns
    recovery_dropped_handles
    recovery_forgotten_handle
    recovery_restart
    recovery_in_a_row
    recovery_errno
    recovery_removed_again
    recovery_stays_away
    recovery_both_ports
    recovery_vport_taken
    kernel_forwarding
    kernel_interrupts
    kernel_missed
    kernel_netdev_up
    kernel_unload
    kernel_reset_request
}

/// Suites that receive enough for it.
mod linux_7_3_with_completions_of_8_packets {
    macro_rules! suites {
        ($($name:ident)*) => {
            $(#[test] fn $name() { super::with_completions_of_8(stringify!($name)) })*
        };
    }
    suites! {
        loopback
        ring_laps
        clones
        checksum_offload
        tso
        vlan
        rx_burst_boundary
        rx_truncated
        buffer_scatter
        mtu
        pool_exhaustion
        full_ring
        port_stats
        ethtool_stats
        garbage_cqe
        queue_status
        rx_interrupt
        rx_wakeup
        recovery_traffic
    }
}
