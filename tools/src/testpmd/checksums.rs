//! What the device does in csum mode: the choice of `--csum`, `--tx-offloads` and `--tso`.

use pmd_api::TxFlags;

/// Offload bits of DPDK (`RTE_ETH_TX_OFFLOAD_*`) that choose the device for a checksum.
const BY_OFFLOAD: [(u64, TxFlags); 3] = [
    (1 << 1, TxFlags::IPV4_CHECKSUM),
    (1 << 2, TxFlags::UDP_CHECKSUM),
    (1 << 3, TxFlags::TCP_CHECKSUM),
];
/// TCP segmentation; the bit says that it may be used, `--tso` that it is.
const TSO: u64 = 1 << 5;
/// VLAN insertion, TCP segmentation, several segments, fast release of buffers: always there, so the
/// bits change nothing.
const ALWAYS: u64 = 1 | TSO | 1 << 15 | 1 << 16;

/// Protocols with the names of testpmd's `csum set`, in the order in which it shows them.
const PROTOCOLS: [(&str, TxFlags); 3] = [
    ("ip", TxFlags::IPV4_CHECKSUM),
    ("udp", TxFlags::UDP_CHECKSUM),
    ("tcp", TxFlags::TCP_CHECKSUM),
];

/// Which checksums the device computes, the others software does; and whether it cuts TCP packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ByDevice {
    checksums: TxFlags,
    mss: Option<u16>,
}

impl ByDevice {
    /// The checksums, as flags of a packet.
    pub fn flags(self) -> TxFlags {
        self.checksums
    }

    /// Payload bytes into which the device cuts TCP packets that have more.
    pub fn mss(self) -> Option<u16> {
        self.mss
    }

    /// Takes the value of `--tso`: the payload bytes of a packet, 0 for no segmentation.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn take_mss(&mut self, text: &str) -> Result<(), String> {
        let mss = text.trim().parse().ok().filter(|mss| *mss <= 16383);
        let mss: u16 = mss.ok_or("expected bytes of payload a packet, 1 to 16383, or 0 for off")?;
        self.mss = (mss > 0).then_some(mss);
        Ok(())
    }

    /// Takes the value of `--tx-offloads`: a mask of DPDK's offload bits in hexadecimal. Returns
    /// the bits in it that ask for something that is not there.
    ///
    /// # Errors
    ///
    /// What was expected, if it is no mask.
    pub fn take_offloads(&mut self, text: &str) -> Result<u64, String> {
        let digits = text.trim().trim_start_matches("0x");
        let mask = u64::from_str_radix(digits, 16)
            .map_err(|_| "expected a hexadecimal mask, such as 0xe".to_owned())?;
        self.checksums = TxFlags::empty();
        for (bit, flag) in BY_OFFLOAD {
            self.checksums.set(flag, mask & bit != 0);
        }
        let known: u64 = BY_OFFLOAD.iter().map(|(bit, _)| bit).sum();
        Ok(mask & !(ALWAYS | known))
    }

    /// Takes the value of `--csum`: `hw` or `sw` for all protocols, or PROTOCOL=hw|sw for some.
    ///
    /// # Errors
    ///
    /// What was expected.
    pub fn take_choice(&mut self, text: &str) -> Result<(), String> {
        let mut chosen = self.checksums;
        for part in text.split(',') {
            let (protocols, by) = match part.split_once('=') {
                Some((name, by)) => (protocol(name.trim())?, by),
                None => (PROTOCOLS.iter().map(|(_, flag)| *flag).collect(), part),
            };
            match by.trim() {
                "hw" => chosen.insert(protocols),
                "sw" => chosen.remove(protocols),
                _ => return Err("expected hw, sw, or a list like ip=hw,udp=sw,tcp=hw".to_owned()),
            }
        }
        self.checksums = chosen;
        Ok(())
    }

    /// The choice as a mask of DPDK's offload bits.
    pub fn offloads(self) -> u64 {
        let chosen = BY_OFFLOAD
            .iter()
            .filter(|(_, flag)| self.checksums.contains(*flag));
        chosen.map(|(bit, _)| bit).sum::<u64>() | self.mss.map_or(0, |_| TSO)
    }

    /// What testpmd's `csum show` and, where packets are cut, `tso show` say of it.
    pub fn describe(self) -> String {
        let line = |(name, flag): &(&str, TxFlags)| {
            let by = if self.checksums.contains(*flag) {
                "hw"
            } else {
                "sw"
            };
            format!("{} checksum offload is {by}\n", name.to_uppercase())
        };
        let tso = self
            .mss
            .map(|mss| format!("TSO segment size for non-tunneled packets is {mss}\n"));
        PROTOCOLS.iter().map(line).chain(tso).collect()
    }
}

fn protocol(name: &str) -> Result<TxFlags, String> {
    let found = PROTOCOLS.iter().find(|(known, _)| *known == name);
    found.map(|(_, flag)| *flag).ok_or_else(|| match name {
        "sctp" | "outer-ip" | "outer-udp" => format!("`{name}`: MANA computes ip, udp and tcp"),
        _ => format!("`{name}`: expected ip, udp or tcp"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_dpdks_bits() {
        let mut by = ByDevice::default();
        assert_eq!(by.take_offloads("0x2"), Ok(0));
        assert_eq!(by.flags(), TxFlags::IPV4_CHECKSUM);
        assert_eq!(by.take_offloads("4"), Ok(0));
        assert_eq!(by.flags(), TxFlags::UDP_CHECKSUM);
        assert_eq!(by.take_offloads("0x8"), Ok(0));
        assert_eq!(by.flags(), TxFlags::TCP_CHECKSUM);
        // SCTP is not there; TSO, tags, segments and fast release always are.
        assert_eq!(by.take_offloads("0x1803f"), Ok(0x10));
        assert_eq!(by.offloads(), 0xE);
        assert!(by.take_offloads("hw").is_err());
        assert!(by.take_offloads("").is_err());
    }

    #[test]
    fn segments_have_a_size_or_there_are_none() {
        let mut by = ByDevice::default();
        by.take_mss("1448").unwrap();
        assert_eq!((by.mss(), by.offloads()), (Some(1448), 0x20));
        let told = "TSO segment size for non-tunneled packets is 1448\n";
        assert!(by.describe().ends_with(told));
        for text in ["", "16384", "-1", "1448,0", "on"] {
            assert!(by.take_mss(text).is_err(), "{text}");
            assert_eq!(by.mss(), Some(1448));
        }
        by.take_mss("0").unwrap();
        assert_eq!(by, ByDevice::default());
    }

    #[test]
    fn protocols_are_chosen_one_by_one_or_all_at_once() {
        let mut by = ByDevice::default();
        by.take_choice("hw").unwrap();
        assert_eq!(by.offloads(), 0xE);
        by.take_choice("udp=sw").unwrap();
        assert_eq!(by.offloads(), 0xA);
        by.take_choice("sw,udp=hw").unwrap();
        assert_eq!(
            by.describe(),
            "IP checksum offload is sw\nUDP checksum offload is hw\nTCP checksum offload is sw\n"
        );
        for text in ["", "soft", "ip", "ip=1", "sctp=hw", "icmp=hw", "ip=hw,"] {
            let before = by;
            assert!(by.take_choice(text).is_err(), "{text}");
            assert_eq!(by, before);
        }
    }
}
