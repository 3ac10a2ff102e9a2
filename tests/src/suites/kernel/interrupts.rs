//! A thread that sleeps until a packet comes, by the kernel's completion channels.

use std::time::Duration;

use mana_pmd::Error;
use pmd_api::{RxInterrupt, Wake};

use super::{has_interrupts, suite};
use crate::packets::{Kind, frame, seed_of};
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = suite(
    "kernel_interrupts",
    "a queue's owner sleeps until a packet comes, a hundred times on each queue, and is woken by \
     nothing else; kernels that send no event are refused",
    run,
);

const SHORT: Option<Duration> = Some(Duration::from_millis(50));
const LONG: Option<Duration> = Some(Duration::from_secs(20));

fn run(rig: &Rig) {
    let plan = |queues| Plan {
        rx_interrupts: true,
        ..Plan::queues(queues, 1)
    };
    if !has_interrupts(rig) {
        let plan = plan(1);
        let mut port = rig.open();
        let (rx_pool, tx_pool) = (plan.pool("received"), plan.pool("sent"));
        let refused = port.configure(plan.config(&rx_pool, &tx_pool));
        assert!(matches!(refused, Err(Error::NoInterrupts)), "{refused:?}");
        return;
    }
    for queues in [1, 4] {
        let mut running = Running::start(rig, &plan(queues));
        let mut woken = vec![0; queues];
        let mut flow = 0;
        while woken.iter().any(|times| *times < 100) {
            wake(&mut running, flow, &mut woken);
            flow += 1;
            assert!(flow < 2000, "{woken:?}");
        }
        // Events that nobody reads keep no queue from being destroyed.
        running.send_frames(0, &super::flows(16, 100));
        drop(running.receive(16));
        running.finish();
    }
}

/// One packet wakes the queue on which it arrives, and no other is awake.
fn wake(running: &mut Running<'_>, flow: u32, woken: &mut [u32]) {
    let bytes = frame(Kind::UdpV4, flow, flow, 90);
    let queue = crate::toeplitz::queue(&crate::toeplitz::VECTOR_KEY, &bytes, woken.len());
    if flow.is_multiple_of(50) {
        let waited = running.queues.rx[queue].wait(SHORT).expect("it may sleep");
        assert_eq!(waited, Wake::Timeout, "nothing was sent");
    }
    running.reclaim();
    let mbuf = running.packet(&bytes);
    running.send(0, vec![mbuf]);
    // A device that is stepped works between two calls only.
    running.rig.advance();
    let waited = running.queues.rx[queue].wait(LONG).expect("it may sleep");
    assert_eq!(waited, Wake::Packets, "flow {flow}");
    let received = running.receive(1);
    assert_eq!(received[0].queue, queue);
    assert_eq!(seed_of(&received[0].mbuf.to_vec()), flow);
    woken[queue] += 1;
}
