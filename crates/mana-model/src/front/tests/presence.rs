//! Devices that go away and come back, links that lose their carrier.

use std::fs::File;
use std::io::Read;
use std::thread;
use std::time::Duration;

use uverbs_abi::{DoorbellKind, Errno, IbDevice, wire};
use zerocopy::FromBytes;

use super::program::Program;
use super::{in_each_kernel, machine, model, system};
use crate::config::{Kernel, parse_device};
use crate::model::{After, Model};

fn names(model: &Model) -> Vec<(String, String)> {
    let list = system(model).ib_devices().unwrap();
    let name = |device: IbDevice| (device.name, device.node);
    list.into_iter().map(name).collect()
}

/// The numbers of the events that `file` holds; the writing end is gone by now.
fn events(file: impl Into<std::os::fd::OwnedFd>) -> Vec<(u64, u32)> {
    let mut bytes = Vec::new();
    File::from(file.into()).read_to_end(&mut bytes).unwrap();
    let records = bytes.chunks(16).map(|record| {
        let record = wire::AsyncEvent::read_from_bytes(record).unwrap();
        (record.element, record.event_type)
    });
    records.collect()
}

#[test]
fn a_device_comes_back_with_other_nodes_while_old_contexts_answer_eio_for_ever() {
    in_each_kernel(",ports=2", |_, model| {
        let system = system(model);
        let (before, old) = (names(model), system.ib_devices().unwrap());
        let netdevs = system.netdevs(&old[0]).unwrap();
        let program = Program::start(model);
        let file = program.async_file().unwrap();
        program.sender();
        model.remove(0).unwrap();
        assert_eq!(model.remove(0), Err(Errno::ENODEV));
        assert_eq!(model.reset(0, After::Steps(0)), Err(Errno::ENODEV));
        assert_eq!(names(model), []);
        assert_eq!(system.netdevs(&old[0]).unwrap(), []);
        assert_eq!(program.alloc_pd(), Err(Errno::EIO));
        model.restore(0).unwrap();
        assert_eq!(model.restore(0), Err(Errno::EEXIST));

        let after = names(model);
        assert_eq!(after.len(), before.len());
        for ((name, node), (old_name, old_node)) in after.iter().zip(&before) {
            assert_eq!(name, old_name, "the lowest free number is the old one");
            assert_ne!(node, old_node);
            assert!(before.iter().all(|(_, other)| node != other));
        }
        let new = system.ib_devices().unwrap();
        assert_eq!(new[0].pci, old[0].pci);
        assert_eq!(system.netdevs(&new[0]).unwrap(), netdevs);
        let stale = system.open(&old[0]).err().unwrap();
        assert_eq!(stale.errno, Errno::ENOENT);

        let second = Program::start(model);
        second.sender();
        assert_eq!(program.alloc_pd(), Err(Errno::EIO));
        let doorbell = program.transport.doorbell(DoorbellKind::Send, 1);
        assert_eq!(doorbell, Err(Errno::EIO));
        // The second removal is no news to the context that learned of the first.
        model.reset(0, After::Steps(0)).unwrap();
        assert_eq!(second.alloc_pd(), Err(Errno::EIO));
        drop(program);
        assert_eq!(events(file), [(0, 8)]);
        assert_eq!(model.objects().qps, 0);
    });
}

#[test]
fn a_name_that_another_device_took_meanwhile_is_not_had_again() {
    let texts = ["model0,kernel=7.3", "model1,kernel=7.3", "model2"];
    let devices = texts.iter().map(|text| parse_device(text).unwrap());
    let model = machine(devices.collect());
    model.remove(0).unwrap();
    model.remove(1).unwrap();
    model.restore(1).unwrap();
    model.restore(0).unwrap();
    let names: Vec<_> = names(&model).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["mana_1", "manae_1", "mana_0", "manae_0", "mana_2"]);
}

#[test]
fn a_reset_ends_with_the_step_or_the_time_that_was_asked_for() {
    let model = model(Kernel::V7_3, "");
    model.reset(0, After::Steps(2)).unwrap();
    assert_eq!((names(&model).len(), model.next_return()), (0, None));
    model.step();
    assert_eq!(names(&model).len(), 0);
    model.step();
    assert_eq!(names(&model).len(), 2);

    model
        .reset(0, After::Time(Duration::from_secs(3600)))
        .unwrap();
    assert!(model.next_return().unwrap() > Duration::from_secs(3000));
    model.step();
    assert_eq!(names(&model).len(), 0);
    // Brought back by hand, it does not come a second time.
    model.restore(0).unwrap();
    assert_eq!((names(&model).len(), model.next_return()), (2, None));

    model
        .reset(0, After::Time(Duration::from_millis(5)))
        .unwrap();
    while let Some(left) = model.next_return() {
        thread::sleep(left);
    }
    assert_eq!(names(&model).len(), 2);
    model.reset(0, After::Time(Duration::MAX)).unwrap();
    assert_eq!((names(&model).len(), model.next_return()), (0, None));
}

#[test]
fn frames_are_lost_while_the_link_has_no_carrier_and_both_ends_of_a_pair_lose_it() {
    let texts = [
        "model0,link=pair",
        "model1,link=pair",
        "model2,link=sink:keep",
    ];
    let devices = texts.iter().map(|text| parse_device(text).unwrap());
    let model = machine(devices.collect());
    let counted = |port: usize| {
        let counters = model.port(port).counters();
        (counters.rx_disabled, counters.link_dropped)
    };
    model.port(0).set_link_up(false);
    assert!(!model.port(1).is_link_up() && model.port(2).is_link_up());
    for port in 0..3 {
        model.port(port).deliver(&[0x55; 60]);
    }
    model.step();
    assert_eq!([0, 1, 2].map(counted), [(0, 1), (0, 1), (1, 0)]);
    assert!(model.drained());
    model.port(1).set_link_up(true);
    assert!(model.port(0).is_link_up());
    model.port(0).deliver(&[0x55; 60]);
    model.step();
    assert_eq!(counted(0), (1, 1));
}

#[test]
fn a_source_with_a_rate_loses_its_frames_and_one_without_waits_for_the_carrier() {
    let texts = [
        "model0,link=gen:count=10",
        "model1,link=gen:count=10:pps=1000000",
    ];
    let devices = texts.iter().map(|text| parse_device(text).unwrap());
    let model = machine(devices.collect());
    for port in 0..2 {
        model.port(port).set_link_up(false);
    }
    while model.port(1).counters().link_dropped < 10 {
        model.step();
    }
    assert_eq!(model.port(0).counters().link_dropped, 0);
    assert!(!model.drained());
    // The other's are all still to come.
    model.port(0).set_link_up(true);
    model.step();
    assert!(!model.drained());
}

#[test]
fn a_carrier_is_told_of_a_netdev_that_is_up_and_by_7_3_as_an_event() {
    in_each_kernel("", |kernel, model| {
        let program = Program::start(model);
        let file = program.async_file().unwrap();
        let port = model.port(0);
        let carrier = || {
            let system = system(model);
            let device = system.ib_devices().unwrap().remove(0);
            system.netdevs(&device).unwrap()[0].carrier
        };
        port.set_link_up(false);
        assert_eq!(carrier(), None, "DOWN: nobody is told");
        port.set_netdev_up(true).unwrap();
        assert_eq!(carrier(), Some(false));
        port.set_link_up(true);
        assert_eq!(carrier(), Some(true));
        port.set_link_up(false);
        port.set_link_up(false);
        port.set_netdev_up(false).unwrap();
        port.set_link_up(true);
        drop(program);
        let told = if kernel == Kernel::V7_3 {
            vec![(1, 9), (1, 10)]
        } else {
            vec![]
        };
        assert_eq!(events(file), told, "{kernel:?}");
    });
}
