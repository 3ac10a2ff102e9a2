//! The kernel has the port, because its netdev is UP.

use mana_pmd::Error;

use super::{assert_moves, suite};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "kernel_netdev_up",
    "a port whose netdev is UP is refused with the kernel's errno and the command that mends it, as \
     often as it is tried, and starts when the netdev is DOWN",
    run,
);

fn run(rig: &Rig) {
    for _ in 0..3 {
        let plan = Plan::queues(2, 2);
        let (rx_pool, tx_pool) = (plan.pool("received"), plan.pool("sent"));
        let mut port = rig.open();
        let config = plan.config(&rx_pool, &tx_pool);
        port.configure(config).expect("it can be configured");
        rig.device().set_netdev_up(0, true);
        let error = port.start().expect_err("the kernel has the vPort");
        assert!(matches!(error, Error::NetdevUp { .. }), "{error:?}");
        let text = error.to_string();
        let netdev = port.info().netdev.clone().expect("a netdev");
        for part in ["is UP", &format!("ip link set {netdev} down")] {
            assert!(text.contains(part), "{text}");
        }
        assert!(text.contains("ENODEV") || text.contains("EBUSY"), "{text}");
        rig.device().set_netdev_up(0, false);
        port.close().expect("it closes");
        rig.assert_clean(&[&rx_pool, &tx_pool]);
    }
    let mut running = Running::start(rig, &Plan::queues(2, 2));
    assert_moves(&mut running);
    running.finish();
}
