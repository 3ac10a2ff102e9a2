//! The kernel's own judgement: protocol counters as `nstat` prints them.

use std::collections::BTreeMap;

/// Counters of one namespace at one time, by the names of `nstat`.
#[derive(Debug, Clone, Default)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Packets that the kernel dropped because something in them was wrong.
    pub const ERRORS: [&str; 6] = [
        "IpInHdrErrors",
        "Ip6InHdrErrors",
        "TcpInErrs",
        "TcpInCsumErrors",
        "UdpInCsumErrors",
        "Udp6InCsumErrors",
    ];

    /// Reads what `nstat --json` prints: one object of numbers in an object.
    ///
    /// # Panics
    ///
    /// If it is not that.
    #[must_use]
    pub fn parse(json: &str) -> Self {
        let all: BTreeMap<String, BTreeMap<String, u64>> = serde_json::from_str(json)
            .unwrap_or_else(|error| panic!("{error} in what nstat printed: {json}"));
        let counters = all.into_values().next().unwrap_or_default();
        assert!(counters.contains_key("IpInReceives"), "{json}");
        Self(counters)
    }

    /// How often the kernel counted `name`.
    ///
    /// # Panics
    ///
    /// If there is no such counter.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("nstat knows no {name}"))
    }

    /// Asserts that no packet was dropped as wrong.
    ///
    /// # Panics
    ///
    /// With the counters that say otherwise.
    #[track_caller]
    pub fn assert_no_errors(&self) {
        let wrong: Vec<_> = Self::ERRORS
            .iter()
            .map(|name| (*name, self.get(name)))
            .filter(|(_, count)| *count > 0)
            .collect();
        assert!(wrong.is_empty(), "the kernel dropped packets: {wrong:?}");
    }
}
