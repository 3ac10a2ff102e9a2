//! Two ports on one device.

use std::time::Instant;

use mana_pmd::PortEvent;

use super::{Needs, assert_moves, close, poll_all};
use crate::events::{PATIENCE, is_recovered, next_event};
use crate::packets::mixture;
use crate::suites::two_ports;
use crate::{Plan, Rig, Running, Suite};

pub(in super::super) const SUITE: Suite = Suite {
    name: "recovery_both_ports",
    proves: "both ports of a function recover, on one context as before",
    needs: Needs::Neighbour,
    prepare: two_ports,
    run,
};

fn run(rig: &Rig) {
    let plan = Plan::queues(2, 2);
    let ports = rig.open_all();
    let started = ports
        .into_iter()
        .map(|port| Running::start_port(rig, &plan, port));
    let mut both: Vec<Running<'_>> = started.collect();
    assert_eq!((both.len(), rig.objects().contexts), (2, 1));
    for _ in 0..3 {
        for running in &mut both {
            running.send_frames(1, &mixture(8, 600));
        }
        rig.take_away();
        rig.bring_back();
        let start = Instant::now();
        let mut recovered = [false; 2];
        while recovered != [true; 2] {
            for (running, recovered) in both.iter_mut().zip(&mut recovered) {
                poll_all(&mut running.queues);
                rig.advance();
                let event: Option<PortEvent> = next_event(&mut running.port);
                *recovered |= event.as_ref().is_some_and(is_recovered);
            }
            assert!(start.elapsed() < PATIENCE, "{recovered:?}");
        }
        assert_eq!(rig.objects().contexts, 1);
        for running in &mut both {
            assert_eq!(running.rx_pool.in_use(), 2 * 64);
            assert_eq!(running.tx_pool.in_use(), 0);
            assert_moves(running);
        }
    }
    both.into_iter().for_each(close);
    rig.assert_clean(&[]);
}
