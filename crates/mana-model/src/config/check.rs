//! The rules between the ports and devices of one machine.

use std::collections::HashSet;

use uverbs_abi::{Mac, PciAddress};

use super::{DeviceConfig, LinkConfig, MAX_PORTS, ModelConfig, ports_out_of_range};
use crate::ModelError;

/// Address of the `index`-th device where its configuration names none.
pub(crate) fn default_pci(index: usize) -> PciAddress {
    PciAddress {
        domain: 0x7870,
        bus: (index >> 5) as u8,
        device: (index & 31) as u8,
        function: 0,
    }
}

/// MAC of a port where its configuration names none: Microsoft's prefix, device and port.
pub(crate) fn default_mac(device: usize, port: usize) -> Mac {
    Mac([0x00, 0x0d, 0x3a, 0x00, device as u8, port as u8])
}

/// Checks everything that does not need files; returns the pairs, as indices of ports counted over
/// all devices.
pub(crate) fn check(config: &ModelConfig) -> Result<Vec<(usize, usize)>, ModelError> {
    let mut names = HashSet::new();
    let mut macs = HashSet::new();
    let mut captures = HashSet::new();
    let mut taps = HashSet::new();
    let mut pairs = Vec::new();
    let mut waiting: Option<(usize, String, usize)> = None;
    let mut index = 0;
    for (number, device) in config.devices.iter().enumerate() {
        let pci = device.pci.unwrap_or_else(|| default_pci(number));
        for name in [device.name.clone(), pci.to_string()] {
            if !names.insert(name.clone()) {
                return Err(ModelError::DuplicateDevice { name });
            }
        }
        ranges(device)?;
        for (port, settings) in device.ports.iter().enumerate() {
            let device = device.name.clone();
            let mac = settings.mac.unwrap_or_else(|| default_mac(number, port));
            if mac.is_multicast() || mac == Mac::default() {
                return Err(ModelError::NoStationMac { device, mac });
            }
            if !macs.insert(mac) {
                return Err(ModelError::DuplicateMac { device, mac });
            }
            for path in settings.written() {
                if !captures.insert(path) {
                    let path = path.to_owned();
                    return Err(ModelError::SharedCapture { path });
                }
            }
            match &settings.link {
                LinkConfig::Pair => match waiting.take() {
                    None => waiting = Some((index, device, port)),
                    Some((first, ..)) => pairs.push((first, index)),
                },
                LinkConfig::Tap(tap) if !taps.insert((tap.netns.clone(), tap.name.clone())) => {
                    return Err(ModelError::SharedTap {
                        name: tap.name.clone(),
                    });
                }
                _ => {}
            }
            index += 1;
        }
    }
    match waiting {
        None => Ok(pairs),
        Some((_, device, port)) => Err(ModelError::OddPair { device, port }),
    }
}

/// The kernel's rules for names of interfaces; `%` would ask it to number them.
pub(super) fn tap_name(name: &str) -> Result<(), ModelError> {
    let refused = |byte: u8| matches!(byte, b'/' | b'%' | b':') || byte <= b' ' || byte == 0x7F;
    if (1..=15).contains(&name.len()) && ![".", ".."].contains(&name) && !name.bytes().any(refused)
    {
        return Ok(());
    }
    Err(ModelError::Value {
        option: "link".to_owned(),
        given: format!("tap:{name}"),
        expected: "a name of 1 to 15 bytes without `/`, `%`, `:` and white space, such as tap:t0",
    })
}

fn ranges(device: &DeviceConfig) -> Result<(), ModelError> {
    if !(1..=MAX_PORTS).contains(&device.ports.len()) {
        return Err(ports_out_of_range(&device.name, device.ports.len()));
    }
    let in_range = |what, given: u32, valid: std::ops::RangeInclusive<u32>, range| {
        if valid.contains(&given) {
            return Ok(());
        }
        Err(ModelError::Range {
            device: device.name.clone(),
            what,
            given: u64::from(given),
            range,
        })
    };
    in_range("coalescing", u32::from(device.coalescing), 1..=8, "1 to 8")?;
    let last_offset = 0xFFF - (device.ports.len() as u32 - 1);
    in_range(
        "vport_offset",
        device.vport_offset,
        0..=last_offset,
        "so that every port's fits 12 bits",
    )?;
    // Room for queues that come and go: ids are not reused at once.
    let ids = 1..=0x00F0_0000;
    let id_range = "1 to 0xf00000";
    in_range(
        "first_queue_id",
        device.first_queue_id,
        ids.clone(),
        id_range,
    )?;
    in_range("first_cq_id", device.first_cq_id, ids, id_range)?;
    for port in &device.ports {
        in_range("adapter_mtu", port.adapter_mtu, 82..=65535, "82 to 65535")?;
        if let LinkConfig::Gen(generator) = &port.link {
            in_range("size of gen", generator.size, 60..=9014, "60 to 9014")?;
            in_range("flows of gen", generator.flows, 1..=u32::MAX, "at least 1")?;
        }
        if let LinkConfig::Tap(tap) = &port.link {
            tap_name(&tap.name)?;
            in_range("queues of tap", tap.queues.into(), 1..=256, "1 to 256")?;
            let largest = port.adapter_mtu - 14;
            let mtu = tap.mtu.unwrap_or(largest);
            let range = "68 to 14 less than adapter_mtu (9000)";
            in_range("mtu of tap", mtu, 68..=largest, range)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{DoorbellMode, GenConfig, TapConfig, parse_device};

    fn machine(texts: &[&str]) -> Result<Vec<(usize, usize)>, String> {
        check(&ModelConfig {
            devices: texts
                .iter()
                .map(|text| parse_device(text).expect("a valid text"))
                .collect(),
            doorbells: DoorbellMode::Stepped,
        })
        .map_err(|error| error.to_string())
    }

    #[test]
    fn pairs_are_counted_over_all_devices_that_say_pair() {
        assert_eq!(
            machine(&[
                "model0,ports=2,link=pair",
                "model1,ports=2",
                "model2,link=pair",
                "model3,link=pair",
            ]),
            Ok(vec![(0, 1), (4, 5)])
        );
        assert_eq!(
            machine(&["model0,link=pair", "model1", "model2,link=pair"]),
            Ok(vec![(0, 2)])
        );
        let odd = machine(&["model0,ports=2,link=pair", "model1,link=pair"]).unwrap_err();
        assert!(odd.contains("model1: port 0"), "{odd}");
    }

    #[test]
    fn macs_must_be_station_addresses_and_differ() {
        for (texts, part) in [
            (
                &["model0,mac=01:00:5e:00:00:01"][..],
                "01:00:5e:00:00:01 can be no",
            ),
            (&["model0,mac=00:00:00:00:00:00"], "can be no"),
            (
                &[
                    "model0,mac=02:00:00:00:00:01",
                    "model1,mac=02:00:00:00:00:01",
                ],
                "model1: MAC 02:00:00:00:00:01 belongs to another",
            ),
            // The default of port 1 of device 0.
            (
                &["model0,ports=2,mac=00:0d:3a:00:00:01"],
                "belongs to another",
            ),
        ] {
            let error = machine(texts).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn devices_and_captures_are_not_shared() {
        for (texts, part) in [
            (&["model0", "model0"][..], "two devices are called model0"),
            (&["model0,ports=2,link=pcap:tx=f"], "f: would be written"),
            (&["model0,link=pcap:tx=f,capture=f"], "f: would be written"),
            (
                &["model0,capture=f", "model1,capture=f"],
                "f: would be written",
            ),
            (&["model0,ports=2,link=tap:t0"], "tap t0: two ports"),
            (
                &[
                    "model0,link=tap:t0:netns=a",
                    "model1,link=tap:t0:netns=/run/netns/a",
                ],
                "tap t0: two ports",
            ),
        ] {
            let error = machine(texts).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let with = |change: fn(&mut DeviceConfig)| {
            let mut device = DeviceConfig::default();
            change(&mut device);
            check(&ModelConfig {
                devices: vec![device],
                doorbells: DoorbellMode::Stepped,
            })
            .unwrap_err()
            .to_string()
        };
        assert!(with(|device| device.ports.clear()).contains("number of ports is 0"));
        assert!(with(|device| device.coalescing = 9).contains("coalescing is 9"));
        assert!(with(|device| device.vport_offset = 4096).contains("12 bits"));
        assert!(with(|device| device.first_queue_id = 1 << 24).contains("first_queue_id"));
        assert!(with(|device| device.first_cq_id = 0).contains("first_cq_id"));
        assert!(with(|device| device.ports[0].adapter_mtu = 81).contains("adapter_mtu"));
        let generator = |size, flows| {
            LinkConfig::Gen(GenConfig {
                size,
                flows,
                ..GenConfig::default()
            })
        };
        let tap = |queues, mtu| {
            LinkConfig::Tap(TapConfig {
                queues,
                mtu: Some(mtu),
                ..TapConfig::new("t0")
            })
        };
        let mut device = DeviceConfig::default();
        for (link, part) in [
            (generator(59, 1), "size"),
            (generator(60, 0), "flows"),
            (tap(0, 1500), "queues of tap is 0"),
            (tap(257, 1500), "queues of tap is 257"),
            (tap(1, 67), "mtu of tap is 67"),
            (tap(1, 9001), "mtu of tap is 9001"),
            (LinkConfig::Tap(TapConfig::new("")), "tap:"),
        ] {
            device.ports[0].link = link;
            assert!(ranges(&device).unwrap_err().to_string().contains(part));
        }
    }
}
