//! PCI and Ethernet addresses as users write them.

use std::fmt;
use std::str::FromStr;

/// A text that is no address of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no {kind} (expected {expected})")]
pub struct ParseAddressError {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

/// A PCI address, `dddd:bb:dd.f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    /// Domain (segment), 16 bits on every bus that Linux knows, up to 32 behind a VMD.
    pub domain: u32,
    /// Bus number.
    pub bus: u8,
    /// Device number, 0-31.
    pub device: u8,
    /// Function number, 0-7.
    pub function: u8,
}

impl FromStr for PciAddress {
    type Err = ParseAddressError;

    /// Accepts `dddd:bb:dd.f` and, as DPDK does, `bb:dd.f` for domain 0.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (head, function) = text.rsplit_once('.')?;
            let mut parts = head.rsplit(':');
            let device = hex(parts.next()?, 2)?;
            let bus = hex(parts.next()?, 2)?;
            let domain = parts.next().map_or(Some(0), |domain| hex(domain, 8))?;
            let function = hex(function, 1)?;
            (parts.next().is_none() && device < 32 && function < 8).then_some(PciAddress {
                domain,
                bus: bus as u8,
                device: device as u8,
                function: function as u8,
            })
        };
        parse().ok_or_else(|| ParseAddressError {
            text: text.to_owned(),
            kind: "PCI address",
            expected: "dddd:bb:dd.f",
        })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            domain,
            bus,
            device,
            function,
        } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function:x}")
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Whether the group bit is set; such an address can be no port's own.
    #[must_use]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl FromStr for Mac {
    type Err = ParseAddressError;

    /// Accepts six hexadecimal bytes separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut bytes = [0; 6];
            let mut parts = text.split([':', '-']);
            for byte in &mut bytes {
                *byte = hex(parts.next()?, 2)? as u8;
            }
            parts.next().is_none().then_some(Mac(bytes))
        };
        parse().ok_or_else(|| ParseAddressError {
            text: text.to_owned(),
            kind: "MAC address",
            expected: "aa:bb:cc:dd:ee:ff",
        })
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A hexadecimal number of 1 to `digits` digits, nothing else (no sign, no spaces).
fn hex(text: &str, digits: usize) -> Option<u32> {
    let plain = text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u32::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_back_as_they_are_written() {
        for text in ["7870:00:00.0", "0000:ff:1f.7"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
        }
        assert_eq!(
            "01:02.3".parse::<PciAddress>().unwrap().to_string(),
            "0000:01:02.3"
        );
        let mac = "00:0D:3a:76:3b:d0".parse::<Mac>().unwrap();
        assert_eq!(mac.to_string(), "00:0d:3a:76:3b:d0");
        assert!(!mac.is_multicast());
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "7870:00:00",
            "7870:00:20.0",
            "7870:00:00.8",
            "x:0:0.0",
            "+1:00:00.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text}");
        }
        for text in [
            "",
            "00:11:22:33:44",
            "00:11:22:33:44:55:66",
            "00:11:22:33:44:5g",
            "001:1:1:1:1:1",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
    }
}
