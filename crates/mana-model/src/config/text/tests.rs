//! What device texts mean, what is refused, and that what is written is read back.

use proptest::prelude::*;

use super::*;
use crate::config::TapConfig;

fn message(text: &str) -> String {
    parse_device(text).expect_err(text).to_string()
}

#[test]
fn a_bare_model_is_one_looping_port_behind_6_12() {
    let device = parse_device("model3").unwrap();
    assert_eq!(device.name, "model3");
    assert_eq!(device.ports, [PortConfig::default()]);
    assert_eq!(device.ports[0].link, LinkConfig::Loop);
    assert_eq!((device.kernel, device.driver_id), (Kernel::V6_12, 20));
    assert!(device.netlink && !device.ports[0].netdev_up);
}

#[test]
fn macs_are_given_to_ports_in_order_and_count_them() {
    let text = "model0,mac=00:0d:3a:76:3b:d0,mac=00:0d:3a:76:3b:d1";
    let macs: Vec<_> = parse_device(text)
        .unwrap()
        .ports
        .iter()
        .map(|port| port.mac.unwrap().to_string())
        .collect();
    assert_eq!(macs, ["00:0d:3a:76:3b:d0", "00:0d:3a:76:3b:d1"]);
    let device = parse_device("model0,ports=3,mac=00:0d:3a:76:3b:d0").unwrap();
    assert_eq!(device.ports.len(), 3);
    assert_eq!(device.ports[1].mac, None);
    assert!(message("model0,ports=1,mac=0:0:0:0:0:2,mac=0:0:0:0:0:4").contains("2 MACs for 1"));
}

#[test]
fn every_option_reaches_its_field() {
    let device = parse_device(
        "model0,kernel=7.3,netdev=up,driver-id=19,netlink=off,ports=2,link=pair,pf=on,pci=c0de:01:1f.7",
    )
    .unwrap();
    assert_eq!((device.kernel, device.driver_id), (Kernel::V7_3, 19));
    assert_eq!(device.limits.max_qp_wr, 2048);
    assert!(!device.netlink && device.physical);
    assert!(!parse_device("model0,pf=off").unwrap().physical);
    assert_eq!(device.pci.unwrap().to_string(), "c0de:01:1f.7");
    for port in &device.ports {
        assert!(port.netdev_up);
        assert_eq!(port.link, LinkConfig::Pair);
    }
}

#[test]
fn a_tap_has_a_name_and_options() {
    let tap = |text: &str| match &parse_device(text).unwrap().ports[0].link {
        LinkConfig::Tap(tap) => tap.clone(),
        link => panic!("{link:?}"),
    };
    assert_eq!(tap("model0,link=tap:t0"), TapConfig::new("t0"));
    let expected = TapConfig {
        name: "mana.tap-0".to_owned(),
        queues: 4,
        mtu: Some(9000),
        csum: true,
        tso: true,
        netns: Some("/run/netns/blue".into()),
    };
    let text = "model0,link=tap:mana.tap-0:queues=4:mtu=9000:csum=on:tso=on:netns=blue";
    assert_eq!(tap(text), expected);
    let path = tap("model0,link=tap:t0:csum=off:netns=/proc/1/ns/net").netns;
    assert_eq!(path, Some("/proc/1/ns/net".into()));
}

#[test]
fn links_and_captures_are_given_to_ports_in_order_and_count_them() {
    let device = parse_device("model0,link=tap:a,link=gen:pps=7,capture=f,capture=g").unwrap();
    let [first, second] = &device.ports[..] else {
        panic!("{device:?}");
    };
    assert_eq!(first.link, LinkConfig::Tap(TapConfig::new("a")));
    assert!(matches!(second.link, LinkConfig::Gen(_)));
    assert_eq!(
        [&first.capture, &second.capture],
        [&Some("f".into()), &Some("g".into())]
    );
    let device = parse_device("model0,ports=3,link=sink").unwrap();
    let sink = LinkConfig::Sink { capture: false };
    assert!(device.ports.iter().all(|port| port.link == sink));
    let device = parse_device("model0,link=sink:keep").unwrap();
    assert_eq!(device.ports[0].link, LinkConfig::Sink { capture: true });
    assert_eq!(device.ports[0].capture, None);
    for (text, part) in [
        ("model0,ports=3,link=sink,link=loop", "2 link= for 3 ports"),
        ("model0,ports=1,link=sink,link=loop", "2 link= for 1 ports"),
        (
            "model0,ports=2,capture=f",
            "1 capture= for 2 ports (repeat it",
        ),
        (
            "model0,mac=0:0:0:0:0:2,capture=f,capture=g,ports=1",
            "2 capture= for 1",
        ),
        ("model0,link=gen,link=gen,pps=7", "link=gen:pps=7"),
        ("model0,capture=", "a file name"),
    ] {
        assert!(message(text).contains(part), "{text}: {}", message(text));
    }
}

#[test]
fn a_file_name_may_hold_a_colon() {
    let device = parse_device("model0,link=pcap:rx=/a:b/c.pcap:tx=d:pps=5").unwrap();
    let expected = LinkConfig::Pcap {
        rx: Some("/a:b/c.pcap".into()),
        tx: Some("d".into()),
        pps: Some(5),
    };
    assert_eq!(device.ports[0].link, expected);
}

#[test]
fn a_rate_goes_with_gen_and_pcap_in_both_spellings() {
    for text in ["model0,link=gen:pps=7", "model0,pps=7,link=gen"] {
        let LinkConfig::Gen(generator) = &parse_device(text).unwrap().ports[0].link else {
            panic!("{text}");
        };
        assert_eq!(generator.pps, Some(7));
    }
    assert!(message("model0,pps=7").contains("link=gen or link=pcap"));
    assert!(message("model0,pps=7,link=gen:pps=7").contains("twice"));
    assert!(message("model0,link=gen,pps=0").contains("from 1"));
}

#[test]
fn the_help_text_names_everything_there_is() {
    assert!(NUMBERS.iter().all(|number| OPTIONS.contains(&number.name)));
    let all = OPTIONS.iter().chain(KERNELS).chain(NETDEV).chain(SWITCH);
    for name in all.chain(super::link::NAMES.iter().copied().flatten()) {
        let at = |end| DEVICE_HELP.contains(&format!("{name}{end}"));
        assert!(
            [" ", "=", "|", "[", "]", ":", "\n"].into_iter().any(at),
            "{name}"
        );
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_valid_ones_and_the_nearest() {
    for (text, nearest, valid) in [
        ("model0,kernl=7.3", "`kernel`", "driver-id"),
        ("model0,link=lop", "`loop`", "sink"),
        ("model0,link=sink:kep", "`keep`", "keep"),
        ("model0,link=pcap:rxx=f", "`rx`", "tx"),
        ("model0,link=gen:sise=3", "`size`", "flows"),
        ("model0,link=tap:t0:mtus=3", "`mtu`", "netns"),
        ("model0,link=tap:t0:csum=onn", "`on`", "off"),
        ("model0,kernel=6.2", "`6.12`", "7.3"),
        ("model0,netdev=upp", "`up`", "down"),
        ("model0,netlink=onn", "`on`", "off"),
        ("model0,pf=onn", "`on`", "off"),
        ("model0,pci=1:2", "1:2", "dddd:bb:dd.f"),
    ] {
        let message = message(text);
        assert!(message.contains(nearest), "{message}");
        assert!(message.contains(valid), "{message}");
    }
    assert!(!message("model0,link=zzzzzzzz").contains("did you mean"));
}

#[test]
fn bad_values_name_option_value_and_what_is_expected() {
    for (text, parts) in [
        ("modelx", ["modelx", "modelN"]),
        ("7870:00:00.0", ["7870:00:00.0", "modelN"]),
        ("model0,mac=1", ["mac=1", "aa:bb"]),
        ("model0,ports=17", ["17", "1 to 16"]),
        ("model0,ports=x", ["ports=x", "1 to 16"]),
        ("model0,ports=2,ports=2", ["ports", "twice"]),
        ("model0,driver-id=-1", ["driver-id=-1", "number"]),
        ("model0,link=pcap", ["pcap", "rx=FILE"]),
        ("model0,link=pcap:rx=", ["rx=", "file name"]),
        ("model0,link=loop:pps=3", ["link=loop", "no options"]),
        ("model0,link=tap", ["tap:", "1 to 15 bytes"]),
        ("model0,link=tap::mtu=1500", ["tap:", "1 to 15 bytes"]),
        (
            "model0,link=tap:0123456789abcdef",
            ["0123456789abcdef", "1 to 15"],
        ),
        ("model0,link=tap:a b", ["a b", "white space"]),
        ("model0,link=tap:a/b", ["a/b", "white space"]),
        ("model0,link=tap:t%d", ["t%d", "`%`"]),
        ("model0,link=tap:..", ["tap:..", "1 to 15"]),
        ("model0,link=tap:t0:queues=x", ["queues=x", "1 to 256"]),
        ("model0,link=tap:t0:mtu=big", ["mtu=big", "bytes"]),
        ("model0,link=tap:t0:mtu=1:mtu=2", ["mtu", "twice"]),
        ("model0,link=tap:t0:netns=", ["netns=", "ip netns list"]),
        ("model0,", ["option", "kernel"]),
    ] {
        let message = message(text);
        for part in parts {
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}

/// Options of a device that are the same for all its ports, or nobody's.
fn whole_device() -> impl Strategy<Value = String> {
    let kernel = proptest::sample::select(Kernel::ALL.map(Kernel::name).to_vec());
    let names: Vec<&str> = NUMBERS.iter().map(|number| number.name).collect();
    let numbers = proptest::sample::subsequence(names, 0..=NUMBERS.len());
    let values = (0_u8..=255, any::<bool>(), 0_u32..50, 0_u8..32);
    (kernel, numbers, values).prop_map(|(kernel, numbers, (value, netlink, id, pci))| {
        let mut text = format!("model7,kernel={kernel},driver-id={id},pci=7870:00:{pci:02x}.1");
        for name in numbers {
            text += &format!(",{name}={value}");
        }
        text + if netlink { "" } else { ",netlink=off" }
    })
}

fn any_link() -> impl Strategy<Value = LinkConfig> {
    let path = || proptest::option::of("[a-z/:. =]{1,12}".prop_map(PathBuf::from));
    let rate = || proptest::option::of(1_u64..);
    let tap = ("[a-z]{1,15}", 1_u16.., proptest::option::of(any::<u32>()))
        .prop_flat_map(move |tap| (Just(tap), any::<[bool; 2]>(), path()))
        .prop_map(|((name, queues, mtu), [csum, tso], netns)| TapConfig {
            queues,
            mtu,
            csum,
            tso,
            netns,
            ..TapConfig::new(&name)
        });
    let generator = (rate(), proptest::option::of(any::<u64>()), any::<u32>());
    let generator = (generator, any::<u32>()).prop_map(|((pps, count, size), flows)| {
        LinkConfig::Gen(GenConfig {
            pps,
            count,
            size,
            flows,
        })
    });
    let pcap = (path(), path(), rate());
    prop_oneof![
        Just(LinkConfig::Loop),
        Just(LinkConfig::Pair),
        any::<bool>().prop_map(|capture| LinkConfig::Sink { capture }),
        generator,
        tap.prop_map(LinkConfig::Tap),
        pcap.prop_map(|(rx, tx, pps)| LinkConfig::Pcap { rx, tx, pps }),
    ]
}

fn any_port() -> impl Strategy<Value = PortConfig> {
    let mac = proptest::option::of(any::<[u8; 6]>().prop_map(Mac));
    let capture = proptest::option::of("[a-z/:.=]{1,12}".prop_map(PathBuf::from));
    (mac, any::<bool>(), any_link(), capture, any::<u32>()).prop_map(
        |(mac, netdev_up, link, capture, adapter_mtu)| PortConfig {
            mac,
            netdev_up,
            link,
            capture,
            adapter_mtu,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        text in whole_device(),
        ports in proptest::collection::vec(any_port(), 1..5),
    ) {
        let mut device = parse_device(&text).unwrap();
        device.ports = ports;
        // What texts can't say, see `to_text`.
        let (macs, captures) = (device.ports[0].mac, device.ports[0].capture.clone());
        for (index, port) in device.ports.iter_mut().enumerate() {
            port.mac = macs.map(|mac| port.mac.unwrap_or(Mac([index as u8; 6]).max(mac)));
            port.capture = captures.is_some().then(|| format!("file{index}").into());
            if let LinkConfig::Pcap { rx: rx @ None, tx: None, .. } = &mut port.link {
                *rx = Some("some".into());
            }
            named_as_they_are_read(&mut port.link);
        }
        let text = device.to_text();
        prop_assert_eq!(text.as_deref().map(parse_device).unwrap().unwrap(), device);
    }
}

/// Files that begin an option of their own, and namespaces that are names, are read differently.
fn named_as_they_are_read(link: &mut LinkConfig) {
    let plain = |path: &mut PathBuf, prefix: &str| {
        let text = path.to_string_lossy().replace([':', '='], "_");
        *path = format!("{prefix}{text}").into();
    };
    match link {
        LinkConfig::Pcap { rx, tx, .. } => {
            [rx, tx]
                .into_iter()
                .flatten()
                .for_each(|path| plain(path, ""));
        }
        LinkConfig::Tap(tap) => tap.netns.iter_mut().for_each(|path| plain(path, "/")),
        _ => {}
    }
}

#[test]
fn every_field_has_its_option() {
    let mut device = DeviceConfig::new(Kernel::V7_3);
    device.name = "model3".to_owned();
    device.pci = "0001:02:03.4".parse().ok();
    device.numa_node = Some(1);
    device.coalescing = 2;
    device.vport_offset = 0x8FE;
    device.first_queue_id = 0x3FE;
    device.first_cq_id = 0x7_FFFE;
    device.limits.max_mr_size = 1 << 40;
    device.ports.push(PortConfig {
        netdev_up: true,
        link: LinkConfig::Sink { capture: true },
        adapter_mtu: 1514,
        ..PortConfig::default()
    });
    let text = device.to_text().unwrap();
    for option in [
        "model3,kernel=7.3,pci=0001:02:03.4",
        "vport-offset=2302,first-queue-id=1022,first-cq-id=524286",
        "max-mr-size=1099511627776,numa-node=1,ports=2",
        "link=loop,link=sink:keep,netdev=down,netdev=up,adapter-mtu=9014,adapter-mtu=1514",
    ] {
        assert!(text.contains(option), "{text}");
    }
    assert_eq!(parse_device(&text).unwrap(), device);
}

#[test]
fn a_device_without_a_text_is_refused() {
    let named = DeviceConfig {
        name: "mine".to_owned(),
        ..DeviceConfig::default()
    };
    let mut comma = DeviceConfig::default();
    comma.ports[0].capture = Some("a,b".into());
    let mut second = DeviceConfig::default();
    second.ports.push(PortConfig {
        mac: Some(Mac([0, 0x0d, 0x3a, 0, 0, 9])),
        ..PortConfig::default()
    });
    for device in [named, comma, second] {
        let error = device.to_text().unwrap_err().to_string();
        assert!(error.contains("no device text"), "{error}");
    }
}

#[test]
fn numbers_that_do_not_fit_are_refused() {
    for (text, part) in [
        ("model0,coalescing=256", "coalescing=256"),
        ("model0,max-qp=4294967296", "max-qp=4294967296"),
        ("model0,max-qp=1,max-qp=2", "twice"),
        ("model0,numa-node=x", "a number"),
        ("model0,pci=x", "dddd:bb:dd.f"),
        ("model0,ports=3,netdev=up,netdev=down", "2 netdev= for 3"),
        ("model0,link=sink:kept", "keep"),
    ] {
        assert!(message(text).contains(part), "{text}: {}", message(text));
    }
}
