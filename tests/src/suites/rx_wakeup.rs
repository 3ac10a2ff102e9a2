//! What `rx_interrupt` proves, as far as it shows without looking into the device.

use std::time::Duration;

use mana_pmd::RxInterrupt;
use pmd_api::{Armed, Support, Wake};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Needs, Suite};
use crate::packets::{Kind, frame};
use crate::{Plan, Rig, Running};

pub(super) const SUITE: Suite = Suite {
    name: "rx_wakeup",
    proves: "a packet that comes back wakes the thread that sleeps on its queue, again and again, \
             and ports whose events nobody read stop and start again; a kernel without completion \
             events refuses with the reason",
    needs: Needs::Loop,
    prepare: |_| (),
    run,
};

const PATIENCE: Duration = Duration::from_secs(20);

fn run(rig: &Rig) {
    let port = rig.open();
    let support = port.capabilities().rx_interrupt;
    port.close().expect("a port that was only opened");
    if support == Support::NotByKernel {
        super::rx_interrupt::refused(rig);
        return;
    }
    let plan = Plan {
        rx_interrupts: true,
        ..Plan::default()
    };
    let mut running = Running::start(rig, &plan);
    for round in 0..50 {
        let frame = frame(Kind::UdpV4, 1, round, 80);
        assert_eq!(running.queues.rx[0].arm().unwrap(), Armed::Sleep);
        running.send_frames(0, &[frame]);
        rig.advance();
        let fd = running.queues.rx[0].interrupt_fd().expect("interrupts");
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let limit = Timespec {
            tv_sec: 20,
            tv_nsec: 0,
        };
        assert_eq!(poll(&mut fds, Some(&limit)).expect("poll"), 1, "{round}");
        if round % 10 != 9 {
            let wake = running.queues.rx[0].wait(Some(PATIENCE)).unwrap();
            assert_eq!(wake, Wake::Packets);
        }
        assert_eq!(running.receive(1).len(), 1);
        if round % 10 == 9 {
            running.restart();
        }
    }
    running.settle();
    running.finish();
}
