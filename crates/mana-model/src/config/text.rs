//! The text behind `--vdev=`: one device, read and written.

mod link;
mod numbers;
mod write;

use std::path::PathBuf;
use std::str::FromStr;

use uverbs_abi::{Mac, PciAddress};

use self::link::link;
use self::numbers::{NUMBERS, Number};
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
    "pf",
    "pci",
    "adapter-mtu",
    "numa-node",
    "coalescing",
    "vport-offset",
    "first-queue-id",
    "first-cq-id",
    "max-qp",
    "max-qp-wr",
    "max-cqe",
    "max-sge",
    "max-cq",
    "max-mr",
    "max-pd",
    "max-mr-size",
    "comp-vectors",
];
const KERNELS: &[&str] = &["6.12", "7.3", "5.15-azure"];
const NETDEV: &[&str] = &["up", "down"];
const SWITCH: &[&str] = &["on", "off"];
const ONE_OR_EACH: &str = "give one for all of them or one for each";

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
      tap:NAME[:queues=N][:mtu=N][:csum=on][:tso=on][:netns=NAMESPACE]
                            an interface of this machine, made if missing (as root)
    pps=N                 frames a second of gen or pcap (default: as buffers are posted)
    capture=FILE          all frames of the port, both ways, as pcap; repeats
    kernel=6.12|7.3|5.15-azure
                          whose rules the driver meets (default 6.12)
    netdev=up|down        state of the kernel's interfaces, or, repeated, of the next (default down)
    driver-id=N           the kernel's driver id (default 20, of 5.15-azure 19)
    netlink=on|off        whether the kernel tells it (default on)
    pf=on|off             whether it is a physical function, 1414:00b9 (default off: 1414:00ba)
    pci=DDDD:BB:DD.F      address on the bus (default 7870:00:00.0 and following)
    adapter-mtu=BYTES     largest frame of every port, or, repeated, of the next (default 9014)
    numa-node=N coalescing=1..8 vport-offset=N first-queue-id=N first-cq-id=N
                          the function's node, packets of a receive completion, where ids begin
    max-qp=N max-qp-wr=N max-cqe=N max-sge=N max-cq=N max-mr=N max-pd=N max-mr-size=BYTES
    comp-vectors=N        what the ib device reports (default: what its kernel does)
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
/// | `link=tap:NAME:queues=N:mtu=N:csum=on:tso=on:netns=NS` | an interface of the kernel, made if missing; parts after the name optional | |
/// | `pps=N` | rate of `pcap` or `gen` where there is one link, frames a second | as buffers are posted |
/// | `capture=FILE` | pcap file with all frames of the port, both ways; repeats, one for each port | none |
/// | `kernel=6.12` `7.3` `5.15-azure` | whose rules | 6.12 |
/// | `netdev=up` `down` | state of every netdev; repeated: of the next | down |
/// | `driver-id=N` | the kernel's driver id | 20, of 5.15-azure 19 |
/// | `netlink=on` `off` | whether the system tells the driver id | on |
/// | `pf=on` `off` | whether it is a physical function ([`DeviceConfig::physical`]) | off |
/// | `pci=dddd:bb:dd.f` | address on the bus | 7870:00:00.0 for the first device, and so on |
/// | `adapter-mtu=BYTES` | [`PortConfig::adapter_mtu`] of every port; repeated: of the next | 9014 |
/// | `numa-node=N` | [`DeviceConfig::numa_node`] | none |
/// | `coalescing=N`, `vport-offset=N`, `first-queue-id=N`, `first-cq-id=N` | the fields of these names | as [`DeviceConfig::new`] |
/// | `max-qp=N`, `max-qp-wr=N`, `max-cqe=N`, `max-sge=N`, `max-cq=N`, `max-mr=N`, `max-pd=N`, `max-mr-size=N`, `comp-vectors=N` | [`super::Limits`] | as the kernel |
///
/// [`DeviceConfig::to_text`] is the other way.
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
    netdevs: Vec<bool>,
    driver_id: Option<u32>,
    netlink: Option<bool>,
    physical: Option<bool>,
    pci: Option<PciAddress>,
    adapter_mtus: Vec<u32>,
    numbers: Vec<(&'static Number, u64)>,
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
            "netdev" => {
                self.netdevs.push(choice("netdev", value, NETDEV)?);
                Ok(())
            }
            "driver-id" => once(
                &mut self.driver_id,
                option,
                number(option, value, "a number such as 20 or 19")?,
            ),
            "netlink" => once(&mut self.netlink, option, choice("netlink", value, SWITCH)?),
            "pf" => once(&mut self.physical, option, choice("pf", value, SWITCH)?),
            "pci" => once(
                &mut self.pci,
                option,
                number(option, value, "dddd:bb:dd.f")?,
            ),
            "adapter-mtu" => {
                self.adapter_mtus.push(number(option, value, "bytes")?);
                Ok(())
            }
            _ => self.take_number(option, value),
        }
    }

    fn take_number(&mut self, option: &str, value: &str) -> Result<(), ModelError> {
        let Some(known) = NUMBERS.iter().find(|number| number.name == option) else {
            return Err(ModelError::unknown("option", option, OPTIONS));
        };
        if self.numbers.iter().any(|(given, _)| given.name == option) {
            return Err(ModelError::Twice {
                option: option.to_owned(),
            });
        }
        self.numbers
            .push((known, number(option, value, "a number")?));
        Ok(())
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
        let usual = PortConfig::default();
        let netdevs = each("netdev", &self.netdevs, usual.netdev_up, ports)?;
        let mtus = each("adapter-mtu", &self.adapter_mtus, usual.adapter_mtu, ports)?;
        let port = |index: usize| PortConfig {
            mac: self.macs.get(index).copied(),
            netdev_up: netdevs[index],
            link: links[index % links.len()].clone(),
            capture: self.captures.get(index).cloned(),
            adapter_mtu: mtus[index],
        };
        let mut device = DeviceConfig::new(self.kernel.unwrap_or_default());
        device.name = name.to_owned();
        device.ports = (0..ports).map(port).collect();
        device.driver_id = self.driver_id.unwrap_or(device.driver_id);
        device.netlink = self.netlink.unwrap_or(device.netlink);
        device.physical = self.physical.unwrap_or(device.physical);
        device.pci = self.pci;
        for (number, value) in self.numbers {
            if !(number.set)(&mut device, value) {
                return Err(ModelError::Value {
                    option: number.name.to_owned(),
                    given: value.to_string(),
                    expected: "a number of 32 bits, for coalescing one of 8",
                });
            }
        }
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
                    fix: ONE_OR_EACH,
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

/// One value for all ports, or one for each.
fn each<T: Copy>(
    option: &'static str,
    given: &[T],
    usual: T,
    ports: usize,
) -> Result<Vec<T>, ModelError> {
    match given {
        [] => Ok(vec![usual; ports]),
        [all] => Ok(vec![*all; ports]),
        given if given.len() == ports => Ok(given.to_vec()),
        given => Err(ModelError::Repeats {
            option,
            given: given.len(),
            ports,
            fix: ONE_OR_EACH,
        }),
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
mod tests;
