//! The text behind `--vdev=`: one device.

mod link;

use std::path::PathBuf;
use std::str::FromStr;

use uverbs_abi::{Mac, PciAddress};

use self::link::link;
use super::{DeviceConfig, GenConfig, Kernel, LinkConfig, PortConfig};
use crate::ModelError;

const OPTIONS: &[&str] = &[
    "mac",
    "ports",
    "link",
    "capture",
    "pps",
    "kernel",
    "netdev",
    "driver-id",
    "netlink",
    "pci",
];
const KERNELS: &[&str] = &["6.12", "7.3", "5.15-azure"];
const NETDEV: &[&str] = &["up", "down"];
const SWITCH: &[&str] = &["on", "off"];

/// What [`parse_device`] reads, for the help texts of programs: one option a line.
pub const DEVICE_HELP: &str = "\
  modelN[,OPTION]...      a device model; N tells several apart
    mac=MAC               MAC of the next port; repeats
    ports=N               number of ports (default: as many as there are mac=, link= or capture=)
    link=LINK             what is behind every port, or, repeated, behind the next one:
      loop                  what the port sends comes back (default)
      pair                  the next port that says pair, of any device
      sink[:keep]           nothing: what the port sends is dropped, or kept for `mana model
                            control`
      gen[:pps=N][:count=N][:size=BYTES][:flows=N]
                            a generator of UDP packets
      pcap[:rx=FILE][:tx=FILE][:pps=N]
                            one file is replayed, the other written
      tap:NAME[:queues=N][:mtu=N][:csum=on][:netns=NAMESPACE]
                            an interface of this machine, made if missing (as root)
    pps=N                 frames a second of gen or pcap (default: as buffers are posted)
    capture=FILE          all frames of the port, both ways, as pcap; repeats
    kernel=6.12|7.3|5.15-azure
                          whose rules the driver meets (default 6.12)
    netdev=up|down        state of the kernel's interfaces (default down)
    driver-id=N           the kernel's driver id (default 20, of 5.15-azure 19)
    netlink=on|off        whether the kernel tells it (default on)
    pci=DDDD:BB:DD.F      address on the bus (default 7870:00:00.0 and following)
";

/// Reads a device as `--vdev=` describes it: `modelN` and options, separated by commas.
///
/// | option | meaning | without it |
/// |---|---|---|
/// | `mac=aa:bb:cc:dd:ee:ff` | MAC of the next port; repeats | 00:0d:3a:00:DD:PP |
/// | `ports=N` | number of ports | how often `mac=`, `link=` or `capture=` is given, at least 1 |
/// | `link=loop` `pair` `sink` | what is behind every port; repeated: behind the next port | `loop` |
/// | `link=sink:keep` | nothing; sent frames are kept for [`crate::PortView::take_tx_frames`] | |
/// | `link=pcap:rx=FILE:tx=FILE:pps=N` | replay and capture, each part optional | |
/// | `link=gen:pps=N:count=N:size=BYTES:flows=N` | generator, each part optional | |
/// | `link=tap:NAME:queues=N:mtu=N:csum=on:netns=NS` | an interface of the kernel, made if missing; parts after the name optional | |
/// | `pps=N` | rate of `pcap` or `gen` where there is one link, frames a second | as buffers are posted |
/// | `capture=FILE` | pcap file with all frames of the port, both ways; repeats, one for each port | none |
/// | `kernel=6.12` `7.3` `5.15-azure` | whose rules | 6.12 |
/// | `netdev=up` `down` | state of the netdevs | down |
/// | `driver-id=N` | the kernel's driver id | 20, of 5.15-azure 19 |
/// | `netlink=on` `off` | whether the system tells the driver id | on |
/// | `pci=dddd:bb:dd.f` | address on the bus | 7870:00:00.0 for the first device, and so on |
///
/// A file name may hold `:` unless `rx=`, `tx=` or `pps=` follows it; it can't hold a comma.
///
/// # Errors
///
/// Names the part that is wrong and what is valid there. Rules between ports and devices (MACs,
/// pairs, files) are checked by [`crate::Model::new`].
pub fn parse_device(text: &str) -> Result<DeviceConfig, ModelError> {
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let number = name.strip_prefix("model").unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(ModelError::Name {
            given: name.to_owned(),
        });
    }
    let mut given = Given::default();
    for part in parts {
        given.take(part)?;
    }
    given.into_device(name)
}

/// What the text said, each option at most once but those with a list.
#[derive(Default)]
struct Given {
    macs: Vec<Mac>,
    ports: Option<usize>,
    links: Vec<LinkConfig>,
    captures: Vec<PathBuf>,
    pps: Option<u64>,
    kernel: Option<Kernel>,
    netdev_up: Option<bool>,
    driver_id: Option<u32>,
    netlink: Option<bool>,
    pci: Option<PciAddress>,
}

impl Given {
    fn take(&mut self, part: &str) -> Result<(), ModelError> {
        let (option, value) = part.split_once('=').unwrap_or((part, ""));
        match option {
            "mac" => {
                self.macs.push(number(option, value, "aa:bb:cc:dd:ee:ff")?);
                Ok(())
            }
            "ports" => once(&mut self.ports, option, number(option, value, "1 to 16")?),
            "link" => {
                self.links.push(link(value)?);
                Ok(())
            }
            "capture" => {
                self.captures.push(file(option, value)?);
                Ok(())
            }
            "pps" => once(&mut self.pps, option, rate(option, value)?),
            "kernel" => once(
                &mut self.kernel,
                option,
                (Kernel::ALL
                    .into_iter()
                    .find(|kernel| kernel.name() == value))
                .ok_or_else(|| ModelError::unknown("kernel", value, KERNELS))?,
            ),
            "netdev" => once(
                &mut self.netdev_up,
                option,
                choice("netdev", value, NETDEV)?,
            ),
            "driver-id" => once(
                &mut self.driver_id,
                option,
                number(option, value, "a number such as 20 or 19")?,
            ),
            "netlink" => once(&mut self.netlink, option, choice("netlink", value, SWITCH)?),
            "pci" => once(
                &mut self.pci,
                option,
                number(option, value, "dddd:bb:dd.f")?,
            ),
            _ => Err(ModelError::unknown("option", option, OPTIONS)),
        }
    }

    fn into_device(self, name: &str) -> Result<DeviceConfig, ModelError> {
        let named = [self.macs.len(), self.links.len(), self.captures.len(), 1];
        let ports = (self.ports).unwrap_or(named.into_iter().max().unwrap_or(1));
        if self.macs.len() > ports && ports > 0 {
            return Err(ModelError::MoreMacsThanPorts {
                macs: self.macs.len(),
                ports,
            });
        }
        if ports > super::MAX_PORTS {
            return Err(super::ports_out_of_range(name, ports));
        }
        let links = self.links(ports)?;
        if ![0, ports].contains(&self.captures.len()) {
            return Err(ModelError::Repeats {
                option: "capture",
                given: self.captures.len(),
                ports,
                fix: "repeat it, a file for each port",
            });
        }
        let port = |index: usize| PortConfig {
            mac: self.macs.get(index).copied(),
            netdev_up: self.netdev_up.unwrap_or(false),
            link: links[index % links.len()].clone(),
            capture: self.captures.get(index).cloned(),
            ..PortConfig::default()
        };
        let mut device = DeviceConfig::new(self.kernel.unwrap_or_default());
        device.name = name.to_owned();
        device.ports = (0..ports).map(port).collect();
        device.driver_id = self.driver_id.unwrap_or(device.driver_id);
        device.netlink = self.netlink.unwrap_or(device.netlink);
        device.pci = self.pci;
        Ok(device)
    }
}

impl Given {
    /// One link for all ports, or one for each, with the rate that stands beside it.
    fn links(&self, ports: usize) -> Result<Vec<LinkConfig>, ModelError> {
        let mut links = match self.links.as_slice() {
            [] => vec![LinkConfig::Loop],
            [_] => self.links.clone(),
            links if links.len() == ports => self.links.clone(),
            links => {
                return Err(ModelError::Repeats {
                    option: "link",
                    given: links.len(),
                    ports,
                    fix: "give one for all of them or one for each",
                });
            }
        };
        let Some(rate) = self.pps else {
            return Ok(links);
        };
        if let [LinkConfig::Pcap { pps, .. } | LinkConfig::Gen(GenConfig { pps, .. })] = &mut *links
        {
            once(pps, "pps", rate)?;
            return Ok(links);
        }
        let expected = match links.as_slice() {
            [_] => "link=gen or link=pcap beside it: other links have no rate",
            _ => "a single link: write the rate into its link, as in link=gen:pps=7",
        };
        Err(ModelError::Value {
            option: "pps".to_owned(),
            given: rate.to_string(),
            expected,
        })
    }
}

fn once<T>(slot: &mut Option<T>, option: &str, value: T) -> Result<(), ModelError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(ModelError::Twice {
            option: option.to_owned(),
        }),
    }
}

fn number<T: FromStr>(option: &str, value: &str, expected: &'static str) -> Result<T, ModelError> {
    value.parse().map_err(|_| ModelError::Value {
        option: option.to_owned(),
        given: value.to_owned(),
        expected,
    })
}

fn rate(option: &str, value: &str) -> Result<u64, ModelError> {
    let expected = "frames a second, from 1";
    match number(option, value, expected)? {
        0 => Err(ModelError::Value {
            option: option.to_owned(),
            given: value.to_owned(),
            expected,
        }),
        rate => Ok(rate),
    }
}

fn file(option: &str, value: &str) -> Result<PathBuf, ModelError> {
    if value.is_empty() {
        return Err(ModelError::Value {
            option: option.to_owned(),
            given: String::new(),
            expected: "a file name",
        });
    }
    Ok(PathBuf::from(value))
}

/// Whether the first of two names was given.
fn choice(
    option: &'static str,
    value: &str,
    names: &'static [&'static str],
) -> Result<bool, ModelError> {
    match names.iter().position(|name| *name == value) {
        Some(position) => Ok(position == 0),
        None => Err(ModelError::unknown(option, value, names)),
    }
}

#[cfg(test)]
mod tests {
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
        let device =
            parse_device("model0,kernel=7.3,netdev=up,driver-id=19,netlink=off,ports=2,link=pair,pci=c0de:01:1f.7")
                .unwrap();
        assert_eq!((device.kernel, device.driver_id), (Kernel::V7_3, 19));
        assert_eq!(device.limits.max_qp_wr, 2048);
        assert!(!device.netlink);
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
            netns: Some("/run/netns/blue".into()),
        };
        let text = "model0,link=tap:mana.tap-0:queues=4:mtu=9000:csum=on:netns=blue";
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
}
