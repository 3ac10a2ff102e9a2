//! What the machine lists and opens.

use uverbs_abi::{Errno, Mac};

use super::{in_each_kernel, machine, model, system};
use crate::config::{Kernel, parse_device};
use crate::faults::Fault;

#[test]
fn kernel_6_12_has_one_ib_device_a_function_and_7_3_has_two() {
    let devices = ["model0", "model1,kernel=7.3", "model2"];
    let model = machine(
        devices
            .iter()
            .map(|text| parse_device(text).unwrap())
            .collect(),
    );
    let list = system(&model).ib_devices().unwrap();
    let list: Vec<_> = list
        .iter()
        .map(|device| (device.pci.to_string(), &device.name[..], &device.node[..]))
        .collect();
    let expected = [
        ("7870:00:00.0".to_owned(), "mana_0", "uverbs0"),
        ("7870:00:01.0".to_owned(), "mana_1", "uverbs1"),
        ("7870:00:01.0".to_owned(), "manae_0", "uverbs2"),
        ("7870:00:02.0".to_owned(), "mana_2", "uverbs3"),
    ];
    assert_eq!(list, expected);
}

#[test]
fn the_driver_id_is_told_only_with_netlink() {
    in_each_kernel(",driver-id=19", |_, model| {
        let list = system(model).ib_devices().unwrap();
        assert!(list.iter().all(|device| device.driver_id == Some(19)));
    });
    in_each_kernel(",driver-id=19,netlink=off", |_, model| {
        let list = system(model).ib_devices().unwrap();
        assert!(list.iter().all(|device| device.driver_id.is_none()));
    });
}

#[test]
fn a_physical_function_has_its_own_pci_id_and_is_served_as_a_virtual_one() {
    for (option, id) in [("", 0x00BA), (",pf=off", 0x00BA), (",pf=on", 0x00B9)] {
        in_each_kernel(option, |_, model| {
            let list = system(model).ib_devices().unwrap();
            assert!(!list.is_empty());
            for device in list {
                assert_eq!((device.vendor_id, device.device_id), (0x1414, id));
                assert!(system(model).open(&device).is_ok());
            }
        });
    }
}

#[test]
fn every_port_has_a_netdev_with_a_name_of_its_own() {
    let texts = [
        "model0,mac=00:0d:3a:76:3b:d0,ports=2,netdev=up",
        "model1,kernel=7.3",
    ];
    let model = machine(
        texts
            .iter()
            .map(|text| parse_device(text).unwrap())
            .collect(),
    );
    let system = system(&model);
    let mut all = Vec::new();
    for device in system.ib_devices().unwrap() {
        for netdev in system.netdevs(&device).unwrap() {
            all.push((device.name.clone(), netdev));
        }
    }
    let rows: Vec<_> = all
        .iter()
        .map(|(ib, netdev)| (&ib[..], &netdev.name[..], netdev.dev_port, netdev.up))
        .collect();
    let expected = [
        ("mana_0", "enP30832s1", 0, true),
        ("mana_0", "enP30832s1d1", 1, true),
        ("mana_1", "enP30832s2", 0, false),
        ("manae_0", "enP30832s2", 0, false),
    ];
    assert_eq!(rows, expected);
    assert_eq!(all[0].1.mac, "00:0d:3a:76:3b:d0".parse::<Mac>().unwrap());
    assert_eq!(all[2].1.mac, Mac([0, 0x0d, 0x3a, 0, 1, 0]));
    assert_eq!((all[0].1.mtu, all[0].1.master.as_deref()), (1500, None));
}

#[test]
fn a_device_that_is_gone_is_not_listed_and_can_not_be_opened() {
    let model = model(Kernel::V7_3, "");
    let system = system(&model);
    let list = system.ib_devices().unwrap();
    model.inject(Fault::DeviceFatal { device: 0 });
    assert_eq!(system.ib_devices().unwrap(), []);
    assert_eq!(system.netdevs(&list[0]).unwrap(), []);
    let error = system.open(&list[0]).err().expect("no such node");
    assert_eq!(error.errno, Errno::ENOENT);
    assert_eq!(error.path.to_str(), Some("/dev/infiniband/uverbs0"));
}
