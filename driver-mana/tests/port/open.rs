//! Finding, choosing and opening ports, over both kernel flavours of the model.

use crate::support::{Altered, device, device_up, machine, open};
use mana_model::config::{DeviceConfig, Kernel, Limits};
use mana_pmd::{Error, Port, Selector, discover};
use uverbs_abi::{Errno, Mac, SystemError};

/// The model's default MAC of a port: 00:0d:3a:00:DD:PP.
fn mac(device: u8, port: u8) -> Mac {
    Mac([0x00, 0x0d, 0x3a, 0x00, device, port])
}

#[test]
fn every_selector_opens_its_port_on_every_kernel() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 2), device(kernel, 1)]);
        let system = model.system();
        let netdev = model.port(1).netdev();
        let all = open(&system, "7870:00:00.0").unwrap();
        let ib_device = all[0].info().ib_device.clone();
        assert_eq!(ib_device.starts_with("manae_"), kernel == Kernel::V7_3);

        let both: Vec<_> = all
            .iter()
            .map(|port| (port.info().port, port.info().mac))
            .collect();
        assert_eq!(both, [(1, mac(0, 0)), (2, mac(0, 1))]);
        for (text, expected) in [
            (format!("mac={}", mac(1, 0)), vec![mac(1, 0)]),
            (
                format!("mac={},mac={}", mac(1, 0), mac(0, 1)),
                vec![mac(1, 0), mac(0, 1)],
            ),
            (format!("7870:00:00.0,mac={}", mac(0, 1)), vec![mac(0, 1)]),
            ("7870:00:01.0".to_owned(), vec![mac(1, 0)]),
            (format!("netdev={netdev}"), vec![mac(0, 1)]),
            (format!("ibdev={ib_device}"), vec![mac(0, 0), mac(0, 1)]),
        ] {
            let macs: Vec<_> = open(&system, &text)
                .unwrap()
                .iter()
                .map(|port| port.info().mac)
                .collect();
            assert_eq!(macs, expected, "{text}");
        }
    }
}

#[test]
fn without_a_selector_every_port_is_opened_through_one_context_a_function() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 2), device(kernel, 1)]);
        let ports = Port::open(&model.system(), &Selector::default()).unwrap();
        let macs: Vec<_> = ports.iter().map(|port| port.info().mac).collect();
        assert_eq!(macs, [mac(0, 0), mac(0, 1), mac(1, 0)]);
        assert_eq!(model.objects().contexts, 2);
        drop(ports);
        assert_eq!(model.objects().contexts, 0);
    }
}

#[test]
fn the_driver_id_is_found_whether_netlink_tells_it_or_not() {
    for (driver_id, netlink) in [(19, true), (19, false), (20, true), (20, false)] {
        let device = DeviceConfig {
            driver_id,
            netlink,
            ..device(Kernel::V6_12, 1)
        };
        let model = machine(vec![device]);
        assert_eq!(crate::support::open_one(&model).info().driver_id, driver_id);
    }
}

#[test]
fn ports_whose_netdev_is_up_are_left_alone_unless_they_are_selected() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device_up(kernel), device(kernel, 1)]);
        let ports = Port::open(&model.system(), &Selector::default()).unwrap();
        let macs: Vec<_> = ports.iter().map(|port| port.info().mac).collect();
        assert_eq!(macs, [mac(1, 0)]);
        let selected = open(&model.system(), &format!("mac={}", mac(0, 0))).unwrap();
        assert_eq!(selected[0].info().mac, mac(0, 0));
    }
}

#[test]
fn if_every_netdev_is_up_each_is_named_with_the_mending_command() {
    let model = machine(vec![device_up(Kernel::V6_12), device_up(Kernel::V6_12)]);
    let system = Altered {
        netdevs: |device, netdevs| {
            if device.pci.device == 1 {
                netdevs[0].master = Some("eth0".to_owned());
            }
        },
        ..Altered::new(&model)
    };
    let error = Port::open(&system.share(), &Selector::default()).unwrap_err();
    assert!(matches!(&error, Error::NoUsablePort { candidates } if candidates.len() == 2));
    let text = error.to_string();
    let (first, second) = (model.port(0).netdev(), model.port(1).netdev());
    assert!(text.contains(&format!(
        "netdev {first} is UP: `sudo ip link set {first} down`"
    )));
    let both = format!("`sudo ip link set eth0 down && sudo ip link set {second} down`");
    assert!(text.contains(&both), "{text}");
}

#[test]
fn a_mac_that_no_port_has_is_answered_with_the_candidates_and_what_each_lacks() {
    let model = machine(vec![device(Kernel::V7_3, 1), device_up(Kernel::V7_3)]);
    let error = open(&model.system(), "mac=00:0d:3a:99:99:99").unwrap_err();
    let Error::NoSuchPort { wanted, candidates } = &error else {
        panic!("{error}")
    };
    assert!(wanted.contains("00:0d:3a:99:99:99"));
    assert_eq!(
        candidates.len(),
        2,
        "the RNIC's ib devices are no candidates"
    );
    assert!(candidates[0].lacks.is_empty());
    assert!(candidates[1].lacks[0].contains("is UP"));
    let text = error.to_string();
    assert!(
        text.contains(&mac(0, 0).to_string()) && text.contains(": ready"),
        "{text}"
    );
}

#[test]
fn all_macs_must_be_found_and_on_the_given_function() {
    let model = machine(vec![device(Kernel::V6_12, 1), device(Kernel::V6_12, 1)]);
    for text in [
        format!("mac={},mac=00:0d:3a:99:99:99", mac(0, 0)),
        format!("7870:00:00.0,mac={}", mac(1, 0)),
        "7870:00:05.0".to_owned(),
        "netdev=nosuch".to_owned(),
        "ibdev=nosuch".to_owned(),
    ] {
        let error = open(&model.system(), &text).unwrap_err();
        assert!(
            matches!(&error, Error::NoSuchPort { candidates, .. } if candidates.len() == 2),
            "{text}: {error}"
        );
    }
    assert_eq!(model.objects().contexts, 0);
}

#[test]
fn a_mac_that_two_devices_have_is_ambiguous_until_the_function_is_named() {
    let model = machine(vec![device(Kernel::V6_12, 1), device(Kernel::V6_12, 1)]);
    let system = Altered {
        netdevs: |_, netdevs| netdevs[0].mac = mac(7, 7),
        ..Altered::new(&model)
    };
    let system = system.share();
    let text = format!("mac={}", mac(7, 7));
    let error = open(&system, &text).unwrap_err();
    assert!(
        matches!(&error, Error::Ambiguous { candidates, .. } if candidates.len() == 2),
        "{error}"
    );
    let one = open(&system, &format!("7870:00:01.0,{text}")).unwrap();
    assert_eq!(one[0].info().pci.to_string(), "7870:00:01.0");
}

#[test]
fn an_interface_name_of_two_devices_is_ambiguous() {
    let model = machine(vec![device(Kernel::V6_12, 1), device(Kernel::V6_12, 1)]);
    let system = Altered {
        netdevs: |_, netdevs| netdevs[0].name = "eth1".into(),
        ..Altered::new(&model)
    };
    let error = open(&system.share(), "netdev=eth1").unwrap_err();
    assert!(matches!(error, Error::Ambiguous { .. }), "{error}");
}

#[test]
fn the_same_mac_twice_in_a_selector_is_refused() {
    let model = machine(vec![device(Kernel::V6_12, 1)]);
    let selector = Selector {
        macs: vec![mac(0, 0); 2],
        ..Selector::default()
    };
    let error = Port::open(&model.system(), &selector).unwrap_err();
    assert!(matches!(error, Error::Selector { .. }), "{error}");
}

#[test]
fn the_rnic_of_a_new_kernel_is_skipped_and_refused_by_name() {
    let model = machine(vec![device(Kernel::V7_3, 1)]);
    let names: Vec<_> = discover(&model.system())
        .unwrap()
        .into_iter()
        .map(|port| port.ib_device)
        .collect();
    assert_eq!(names, ["manae_0"]);
    let error = open(&model.system(), "ibdev=mana_0").unwrap_err();
    assert!(matches!(&error, Error::NotEthernet { .. }), "{error}");
    assert!(error.to_string().contains("7870:00:00.0"), "{error}");
}

#[test]
fn other_vendors_devices_are_no_candidates_and_without_mana_there_is_no_device() {
    let model = machine(vec![device(Kernel::V6_12, 1), device(Kernel::V6_12, 1)]);
    let system = Altered {
        devices: |devices| devices[0].vendor_id = 0x15b3,
        ..Altered::new(&model)
    };
    let candidates = discover(&system.share()).unwrap();
    assert_eq!(candidates.len(), 1);
    assert_eq!(candidates[0].pci.to_string(), "7870:00:01.0");

    let system = Altered {
        devices: Vec::clear,
        ..Altered::new(&model)
    };
    let error = Port::open(&system.share(), &Selector::default()).unwrap_err();
    assert!(matches!(error, Error::NoDevice), "{error}");
    assert!(error.to_string().contains("modprobe mana_ib"), "{error}");
}

#[test]
fn the_physical_function_is_a_mana_device_too() {
    for kernel in Kernel::ALL {
        let config = DeviceConfig {
            physical: true,
            ..device(kernel, 2)
        };
        let model = machine(vec![config, device(kernel, 1)]);
        let ports = Port::open(&model.system(), &Selector::default()).unwrap();
        let ids: Vec<_> = ports.iter().map(|port| port.info().pci_ids).collect();
        assert_eq!(ids, [(0x1414, 0x00b9), (0x1414, 0x00b9), (0x1414, 0x00ba)]);
        for port in ports {
            port.close().unwrap();
        }
    }
}

fn no_node(_: &uverbs_abi::IbDevice) -> Option<SystemError> {
    Some(SystemError {
        path: "/dev/infiniband/uverbs0".into(),
        errno: Errno::ENOENT,
        fix: Some("sudo modprobe ib_uverbs".to_owned()),
    })
}

#[test]
fn a_missing_uverbs_node_is_told_with_its_path_errno_and_fix() {
    for kernel in Kernel::ALL {
        let model = machine(vec![device(kernel, 2)]);
        let system = Altered {
            refusal: no_node,
            ..Altered::new(&model)
        }
        .share();
        let selected = open(&system, &format!("mac={}", mac(0, 0))).unwrap_err();
        assert!(matches!(&selected, Error::Verbs(error) if error.errno() == Some(Errno::ENOENT)));
        let anything = Port::open(&system, &Selector::default()).unwrap_err();
        let Error::NoUsablePort { candidates } = &anything else {
            panic!("{anything}")
        };
        assert_eq!(candidates.len(), 2, "one line a port, not one an ib device");
        for text in [selected.to_string(), anything.to_string()] {
            assert!(text.contains("/dev/infiniband/uverbs0"), "{text}");
            assert!(
                text.contains("ENOENT") && text.contains("modprobe ib_uverbs"),
                "{text}"
            );
        }
    }
}

#[test]
fn a_rnic_that_cannot_be_opened_does_not_matter() {
    let model = machine(vec![device(Kernel::V7_3, 1)]);
    let refusal = |device: &uverbs_abi::IbDevice| {
        if device.name == "mana_0" {
            no_node(device)
        } else {
            None
        }
    };
    let system = Altered {
        refusal,
        ..Altered::new(&model)
    }
    .share();
    let candidates = discover(&system).unwrap();
    assert_eq!(candidates.len(), 1);
    assert!(candidates[0].lacks.is_empty());
}

#[test]
fn a_port_whose_netdev_is_elsewhere_lacks_its_mac() {
    let model = machine(vec![device(Kernel::V6_12, 2)]);
    let system = Altered {
        netdevs: |_, netdevs| drop(netdevs.pop()),
        ..Altered::new(&model)
    };
    let system = system.share();
    let candidates = discover(&system).unwrap();
    assert!(candidates[0].lacks.is_empty());
    assert!(
        candidates[1].lacks[0].contains("network namespace"),
        "{}",
        candidates[1]
    );
    assert_eq!(Port::open(&system, &Selector::default()).unwrap().len(), 1);
    let error = open(&system, "7870:00:00.0").unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
}

#[test]
fn absurd_limits_are_cut_or_named() {
    let with = |limits| {
        machine(vec![DeviceConfig {
            limits,
            ..device(Kernel::V6_12, 1)
        }])
    };
    let most = Limits {
        max_qp: u32::MAX,
        max_qp_wr: u32::MAX,
        max_cqe: u32::MAX,
        max_sge: u32::MAX,
        max_cq: u32::MAX,
        max_mr: u32::MAX,
        max_pd: u32::MAX,
        max_mr_size: u64::MAX,
        comp_vectors: u32::MAX,
    };
    let model = with(most);
    let port = crate::support::open_one(&model);
    let info = port.info();
    assert_eq!((info.max_rx_queues, info.max_tx_queues), (64, 65_535));
    assert_eq!((info.max_depth, info.max_tx_segments), (65_536, 30));

    let model = with(Limits {
        max_qp_wr: 0,
        ..Limits::default()
    });
    let error = open(&model.system(), "7870:00:00.0").unwrap_err();
    assert!(matches!(error, Error::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("max_qp_wr 0"), "{error}");
    let error = Port::open(&model.system(), &Selector::default()).unwrap_err();
    assert!(matches!(error, Error::NoUsablePort { .. }), "{error}");
}
