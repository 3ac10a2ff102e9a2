//! As DTS "mtu": the MTU says what receive buffers must hold, and nothing else.

use super::{Needs, Suite, capture};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};
use mana_pmd::{Error, MIN_MTU, Oversize, PortConfig, RxQueueConfig, TxQueueConfig};

pub(super) const SUITE: Suite = Suite {
    name: "mtu",
    proves: "an MTU is set from 68 to the adapter's limit; one that the buffers don't hold is refused \
             with what mends it, before a start and on a running port, unless packets may be \
             scattered or lost, and then they are",
    needs: Needs::Model,
    prepare: capture,
    run,
};

fn run(rig: &Rig) {
    let plan = Plan::default();
    let pool = plan.pool("received");
    let config = |mtu, oversize| PortConfig {
        rx: vec![RxQueueConfig {
            depth: 64,
            pool: pool.clone(),
        }],
        tx: vec![TxQueueConfig { depth: 64 }],
        mtu,
        oversize,
        ..PortConfig::default()
    };
    let mut port = rig.open();
    // A preloaded model's netdev is none of the kernel's, which so can't tell the adapter's limit.
    let told = rig.has_netdevs().then_some(9000);
    assert_eq!((port.mtu(), port.info().max_mtu), (1500, told));
    let most = told.unwrap_or(u16::MAX.into());
    for bad in [0, MIN_MTU - 1, most + 1, u32::MAX] {
        let error = port.set_mtu(bad).expect_err("out of range");
        assert!(matches!(error, Error::Mtu { given, max, .. } if (given, max) == (bad, most)));
        let error = port.configure(config(Some(bad), Oversize::Drop));
        assert!(matches!(error, Err(Error::Mtu { .. })));
    }
    assert_eq!(port.mtu(), 1500);
    // Before a configuration, which is then measured with it.
    port.set_mtu(9000).expect("the adapter's limit");
    let error = port.configure(config(None, Oversize::Refuse));
    let Err(Error::BufferBelowMtu {
        room: 2048,
        frame: 9014,
        ..
    }) = error
    else {
        panic!("{error:?}");
    };
    port.configure(config(Some(2034), Oversize::Refuse))
        .expect("it fits");
    assert_eq!(port.mtu(), 2034);
    assert!(port.set_mtu(2035).is_err());
    assert_eq!(port.mtu(), 2034, "a refusal changes nothing");

    let queues = port.start().expect("it starts");
    port.set_mtu(68).expect("less is held, too");
    port.set_mtu(2034).expect("as much as the buffers hold");
    let error = port.set_mtu(2035).expect_err("more than they hold");
    assert!(matches!(
        error,
        Error::MtuRunning {
            given: 2035,
            largest: 2048
        }
    ));
    port.stop(queues).expect("it stops");
    port.close().expect("it closes");
    assert_eq!(pool.in_use(), 0);

    lossy(rig);
}

/// Who accepts it loses what does not fit, counted.
fn lossy(rig: &Rig) {
    let plan = Plan {
        mtu: Some(9000),
        oversize: Oversize::Drop,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    for size in [2048, 2049, 1000, 9014, 60] {
        running
            .rig
            .device()
            .deliver(&frame(Kind::UdpV4, 1, 1, size));
    }
    let sizes: Vec<usize> = running
        .receive(3)
        .iter()
        .map(|one| one.mbuf.packet_len())
        .collect();
    assert_eq!(sizes, [2048, 1000, 60]);
    assert_eq!(running.port.stats().rx_errors, 2);
    running.port.set_mtu(1500).expect("lossy all the same");
    running.finish();
}
