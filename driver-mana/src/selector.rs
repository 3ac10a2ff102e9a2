//! Which ports to open, as users write it.

use std::fmt;
use std::str::FromStr;

use mana_verbs::ProviderChoice;
use uverbs_abi::{Mac, PciAddress};

use crate::Error;

/// Chooses ports, and through which provider they are opened. Everything that is given must hold;
/// what is left out does not matter, so the default value chooses every port.
///
/// As text the parts are separated by commas: a PCI address, `mac=` (repeatable), `netdev=`,
/// `ibdev=` and `provider=` (`auto`, `rdma-core` or `uverbs`).
///
/// ```
/// use mana_pmd::Selector;
///
/// let one: Selector = "7870:00:00.0,mac=00:0d:3a:76:3b:d0".parse()?;
/// assert_eq!(one.macs.len(), 1);
/// assert!("7870:00:00.0,speed=9".parse::<Selector>().is_err());
/// # Ok::<(), mana_pmd::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// Ports of this PCI function.
    pub pci: Option<PciAddress>,
    /// Ports with these MAC addresses, in this order. Each must be found.
    pub macs: Vec<Mac>,
    /// The port of this network interface.
    pub netdev: Option<String>,
    /// Ports of this ib device.
    pub ib_device: Option<String>,
    /// Who talks to the kernel for these ports.
    pub provider: ProviderChoice,
}

impl Selector {
    /// Whether every port is chosen.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        let Self {
            pci,
            macs,
            netdev,
            ib_device,
            provider: _,
        } = self;
        pci.is_none() && macs.is_empty() && netdev.is_none() && ib_device.is_none()
    }

    /// Refuses what no port can satisfy.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |reason| {
            Err(Error::Selector {
                text: self.to_string(),
                reason,
            })
        };
        for (i, mac) in self.macs.iter().enumerate() {
            if mac.is_multicast() {
                return refuse(format!("{mac} is a group address, which no port has"));
            }
            if self.macs[..i].contains(mac) {
                return refuse(format!("{mac} is given twice; name each port once"));
            }
        }
        Ok(())
    }
}

impl FromStr for Selector {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::Selector {
            text: text.to_owned(),
            reason,
        };
        let mut selector = Self::default();
        let mut provider = None;
        for part in text.split(',') {
            match part.split_once('=') {
                None => {
                    let pci = part.parse().map_err(|error| refuse(format!("{error}")))?;
                    set(&mut selector.pci, pci, "the PCI address").map_err(refuse)?;
                }
                Some(("mac", mac)) => {
                    let mac = mac.parse().map_err(|error| refuse(format!("{error}")))?;
                    selector.macs.push(mac);
                }
                Some((key @ ("netdev" | "ibdev"), "")) => {
                    return Err(refuse(format!("`{key}=` needs a name")));
                }
                Some(("netdev", name)) => {
                    set(&mut selector.netdev, name.to_owned(), "netdev=").map_err(refuse)?;
                }
                Some(("ibdev", name)) => {
                    set(&mut selector.ib_device, name.to_owned(), "ibdev=").map_err(refuse)?;
                }
                Some(("provider", name)) => {
                    let choice = name.parse().map_err(|error| refuse(format!("{error}")))?;
                    set(&mut provider, choice, "provider=").map_err(refuse)?;
                }
                Some((key, _)) => {
                    return Err(refuse(format!(
                        "unknown key `{key}`; known are mac=, netdev=, ibdev= and provider="
                    )));
                }
            }
        }
        selector.provider = provider.unwrap_or_default();
        selector.check()?;
        Ok(selector)
    }
}

fn set<T>(slot: &mut Option<T>, value: T, what: &str) -> Result<(), String> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{what} is given twice")),
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.pci.map(|pci| pci.to_string()));
        parts.extend(self.macs.iter().map(|mac| format!("mac={mac}")));
        parts.extend(self.netdev.iter().map(|name| format!("netdev={name}")));
        parts.extend(self.ib_device.iter().map(|name| format!("ibdev={name}")));
        if parts.is_empty() {
            parts.push("every port".to_owned());
        }
        if self.provider != ProviderChoice::Auto {
            parts.push(format!("provider={}", self.provider));
        }
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azures_line_chooses_by_pci_address_and_macs_in_order() {
        let text = "7870:00:00.0,mac=00:0d:3a:76:3b:d0,mac=00:0d:3a:76:3b:cf";
        let selector: Selector = text.parse().unwrap();
        assert_eq!(selector.pci.unwrap().to_string(), "7870:00:00.0");
        assert_eq!(selector.macs[0], Mac([0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xd0]));
        assert_eq!(selector.macs[1], Mac([0x00, 0x0d, 0x3a, 0x76, 0x3b, 0xcf]));
        assert_eq!(selector.to_string(), text);
        assert!(!selector.is_everything());
    }

    #[test]
    fn each_key_stands_alone() {
        let netdev: Selector = "netdev=eth1".parse().unwrap();
        assert_eq!(
            netdev,
            Selector {
                netdev: Some("eth1".into()),
                ..Selector::default()
            }
        );
        let ibdev: Selector = "ibdev=manae_0".parse().unwrap();
        assert_eq!(
            ibdev,
            Selector {
                ib_device: Some("manae_0".into()),
                ..Selector::default()
            }
        );
        let mac: Selector = "mac=00-0d-3a-00-00-01".parse().unwrap();
        assert_eq!(mac.macs, [Mac([0, 0x0d, 0x3a, 0, 0, 1])]);
    }

    #[test]
    fn a_provider_chooses_no_port() {
        for (text, provider) in [
            ("provider=rdma-core", ProviderChoice::RdmaCore),
            ("provider=uverbs", ProviderChoice::Uverbs),
            ("provider=auto", ProviderChoice::Auto),
        ] {
            let selector: Selector = text.parse().unwrap();
            assert_eq!(selector.provider, provider);
            assert!(selector.is_everything());
            let text = format!("7870:00:00.0,{text}");
            let one: Selector = text.parse().unwrap();
            assert!(!one.is_everything());
            assert_eq!(one.to_string().parse::<Selector>().unwrap(), one);
        }
    }

    #[test]
    fn what_chooses_nothing_is_refused_with_its_reason() {
        for (text, reason) in [
            ("", "PCI address"),
            ("mac=01:00:5e:00:00:01", "group address"),
            ("mac=00:0d:3a:00:00:01,mac=00:0D:3A:00:00:01", "given twice"),
            ("mac=00:0d:3a", "MAC address"),
            ("7870:00:00.0,7870:00:00.0", "given twice"),
            ("netdev=", "needs a name"),
            ("netdev=a,netdev=b", "given twice"),
            ("ibdev=", "needs a name"),
            ("provider=mlx5", "there are auto, rdma-core and uverbs"),
            ("provider=auto,provider=uverbs", "given twice"),
            (
                "7870:00:00.0,port=1",
                "known are mac=, netdev=, ibdev= and provider=",
            ),
        ] {
            let error = text.parse::<Selector>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
