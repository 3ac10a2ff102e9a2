//! The text behind `--vdev=`: one device.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use uverbs_abi::Mac;

use super::{DeviceConfig, GenConfig, Kernel, LinkConfig, PortConfig, TapConfig};
use crate::ModelError;

const OPTIONS: &[&str] = &[
    "mac",
    "ports",
    "link",
    "pps",
    "kernel",
    "netdev",
    "driver-id",
    "netlink",
];
const LINKS: &[&str] = &["loop", "pair", "tap", "pcap", "gen", "sink"];
const TAP_OPTIONS: &[&str] = &["queues", "mtu", "csum", "netns"];
const PCAP_OPTIONS: &[&str] = &["rx", "tx", "pps"];
const GEN_OPTIONS: &[&str] = &["pps", "count", "size", "flows"];
const KERNELS: &[&str] = &["6.12", "7.3"];
const NETDEV: &[&str] = &["up", "down"];
const SWITCH: &[&str] = &["on", "off"];

/// Reads a device as `--vdev=` describes it: `modelN` and options, separated by commas.
///
/// | option | meaning | without it |
/// |---|---|---|
/// | `mac=aa:bb:cc:dd:ee:ff` | MAC of the next port; repeats | 00:0d:3a:00:DD:PP |
/// | `ports=N` | number of ports | number of MACs, at least 1 |
/// | `link=loop` `pair` `sink` | what is behind every port | `loop` |
/// | `link=pcap:rx=FILE:tx=FILE:pps=N` | replay and capture, each part optional | |
/// | `link=gen:pps=N:count=N:size=BYTES:flows=N` | generator, each part optional | |
/// | `link=tap:NAME:queues=N:mtu=N:csum=on:netns=NS` | an interface of the kernel, made if missing; parts after the name optional | |
/// | `pps=N` | rate of `pcap` or `gen`, frames a second | as buffers are posted |
/// | `kernel=6.12` `7.3` | whose rules | 6.12 |
/// | `netdev=up` `down` | state of the netdevs | down |
/// | `driver-id=N` | the kernel's driver id | 20 |
/// | `netlink=on` `off` | whether the system tells the driver id | on |
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

/// What the text said, each option at most once but `mac`.
#[derive(Default)]
struct Given {
    macs: Vec<Mac>,
    ports: Option<usize>,
    link: Option<LinkConfig>,
    pps: Option<u64>,
    kernel: Option<Kernel>,
    netdev_up: Option<bool>,
    driver_id: Option<u32>,
    netlink: Option<bool>,
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
            "link" => once(&mut self.link, option, link(value)?),
            "pps" => once(&mut self.pps, option, rate(option, value)?),
            "kernel" => once(
                &mut self.kernel,
                option,
                match value {
                    "6.12" => Kernel::V6_12,
                    "7.3" => Kernel::V7_3,
                    _ => return Err(ModelError::unknown("kernel", value, KERNELS)),
                },
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
            _ => Err(ModelError::unknown("option", option, OPTIONS)),
        }
    }

    fn into_device(self, name: &str) -> Result<DeviceConfig, ModelError> {
        let ports = self.ports.unwrap_or(self.macs.len().max(1));
        if self.macs.len() > ports && ports > 0 {
            return Err(ModelError::MoreMacsThanPorts {
                macs: self.macs.len(),
                ports,
            });
        }
        let mut link = self.link.unwrap_or(LinkConfig::Loop);
        if let Some(rate) = self.pps {
            let (LinkConfig::Pcap { pps, .. } | LinkConfig::Gen(GenConfig { pps, .. })) = &mut link
            else {
                return Err(ModelError::Value {
                    option: "pps".to_owned(),
                    given: rate.to_string(),
                    expected: "link=gen or link=pcap beside it: other links have no rate",
                });
            };
            once(pps, "pps", rate)?;
        }
        let port = |mac| PortConfig {
            mac,
            netdev_up: self.netdev_up.unwrap_or(false),
            link: link.clone(),
            ..PortConfig::default()
        };
        if ports > super::MAX_PORTS {
            return Err(super::ports_out_of_range(name, ports));
        }
        let mut device = DeviceConfig::new(self.kernel.unwrap_or_default());
        device.name = name.to_owned();
        device.ports = (0..ports)
            .map(|index| port(self.macs.get(index).copied()))
            .collect();
        device.driver_id = self.driver_id.unwrap_or(device.driver_id);
        device.netlink = self.netlink.unwrap_or(device.netlink);
        Ok(device)
    }
}

/// `loop`, `pcap:rx=FILE:tx=FILE`, …
fn link(text: &str) -> Result<LinkConfig, ModelError> {
    let (kind, rest) = text
        .split_once(':')
        .map_or((text, None), |(kind, rest)| (kind, Some(rest)));
    let without_options = |link| match rest {
        None => Ok(link),
        Some(rest) => Err(ModelError::Value {
            option: format!("link={kind}"),
            given: rest.to_owned(),
            expected: "nothing: this link has no options",
        }),
    };
    match kind {
        "loop" => without_options(LinkConfig::Loop),
        "pair" => without_options(LinkConfig::Pair),
        "sink" => without_options(LinkConfig::Sink { capture: false }),
        "tap" => tap(rest),
        "pcap" => pcap(rest),
        "gen" => generator(rest),
        _ => Err(ModelError::unknown("link", kind, LINKS)),
    }
}

fn tap(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let text = text.unwrap_or_default();
    let (name, options) = text
        .split_once(':')
        .map_or((text, None), |(name, options)| (name, Some(options)));
    let (mut queues, mut mtu, mut csum, mut netns) = (None, None, None, None);
    for (option, value) in link_options(options, TAP_OPTIONS)? {
        match option {
            "queues" => once(&mut queues, option, number(option, value, "1 to 256")?)?,
            "mtu" => once(
                &mut mtu,
                option,
                number(option, value, "bytes, 68 to 9000")?,
            )?,
            "csum" => once(&mut csum, option, choice("csum", value, SWITCH)?)?,
            _ => once(&mut netns, option, namespace(option, value)?)?,
        }
    }
    let usual = TapConfig::new(name);
    let tap = TapConfig {
        queues: queues.unwrap_or(usual.queues),
        csum: csum.unwrap_or(usual.csum),
        mtu,
        netns,
        ..usual
    };
    super::check::tap_name(&tap.name)?;
    Ok(LinkConfig::Tap(tap))
}

/// A file, or a name as `ip netns` gives them.
fn namespace(option: &str, value: &str) -> Result<PathBuf, ModelError> {
    match value {
        "" | "." | ".." => Err(ModelError::Value {
            option: option.to_owned(),
            given: value.to_owned(),
            expected: "a network namespace: a name of `ip netns list`, or its file",
        }),
        path if path.contains('/') => Ok(PathBuf::from(path)),
        name => Ok(Path::new("/run/netns").join(name)),
    }
}

fn pcap(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let (mut rx, mut tx, mut pps) = (None, None, None);
    for (option, value) in link_options(text, PCAP_OPTIONS)? {
        match option {
            "rx" => once(&mut rx, option, file(option, value)?)?,
            "tx" => once(&mut tx, option, file(option, value)?)?,
            _ => once(&mut pps, option, rate(option, value)?)?,
        }
    }
    if rx.is_none() && tx.is_none() {
        return Err(ModelError::Value {
            option: "link".to_owned(),
            given: "pcap".to_owned(),
            expected: "pcap:rx=FILE, pcap:tx=FILE or pcap:rx=FILE:tx=FILE",
        });
    }
    Ok(LinkConfig::Pcap { rx, tx, pps })
}

fn generator(text: Option<&str>) -> Result<LinkConfig, ModelError> {
    let (mut pps, mut count, mut size, mut flows) = (None, None, None, None);
    for (option, value) in link_options(text, GEN_OPTIONS)? {
        match option {
            "pps" => once(&mut pps, option, rate(option, value)?)?,
            "count" => once(&mut count, option, number(option, value, "frames")?)?,
            "size" => once(
                &mut size,
                option,
                number(option, value, "bytes, 60 to 9014")?,
            )?,
            _ => once(&mut flows, option, number(option, value, "flows, from 1")?)?,
        }
    }
    let usual = GenConfig::default();
    Ok(LinkConfig::Gen(GenConfig {
        pps,
        count,
        size: size.unwrap_or(usual.size),
        flows: flows.unwrap_or(usual.flows),
    }))
}

/// Splits `rx=a:b:tx=c` into (rx, a:b), (tx, c): a colon separates only where an option follows.
fn link_options<'a>(
    text: Option<&'a str>,
    valid: &'static [&'static str],
) -> Result<Vec<(&'a str, &'a str)>, ModelError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let begins_option = |part: &str| {
        part.split_once('=')
            .is_some_and(|(name, _)| valid.contains(&name))
    };
    let mut starts = vec![0];
    starts.extend(
        text.match_indices(':')
            .map(|(at, _)| at + 1)
            .filter(|&at| begins_option(&text[at..])),
    );
    let ends = starts[1..].iter().map(|&next| next - 1).chain([text.len()]);
    starts
        .iter()
        .zip(ends)
        .map(|(&start, end)| {
            let part = &text[start..end];
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            if valid.contains(&name) {
                Ok((name, value))
            } else {
                Err(ModelError::unknown("link option", name, valid))
            }
        })
        .collect()
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
            parse_device("model0,kernel=7.3,netdev=up,driver-id=19,netlink=off,ports=2,link=pair")
                .unwrap();
        assert_eq!((device.kernel, device.driver_id), (Kernel::V7_3, 19));
        assert_eq!(device.limits.max_qp_wr, 2048);
        assert!(!device.netlink);
        for port in &device.ports {
            assert!(port.netdev_up);
            assert_eq!(port.link, LinkConfig::Pair);
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
    fn an_unknown_name_is_answered_with_the_valid_ones_and_the_nearest() {
        for (text, nearest, valid) in [
            ("model0,kernl=7.3", "`kernel`", "driver-id"),
            ("model0,link=lop", "`loop`", "sink"),
            ("model0,link=pcap:rxx=f", "`rx`", "tx"),
            ("model0,link=gen:sise=3", "`size`", "flows"),
            ("model0,kernel=6.2", "`6.12`", "7.3"),
            ("model0,netdev=upp", "`up`", "down"),
            ("model0,netlink=onn", "`on`", "off"),
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
            ("model0,", ["option", "kernel"]),
        ] {
            let message = message(text);
            for part in parts {
                assert!(message.contains(part), "{text}: {message}");
            }
        }
    }
}
