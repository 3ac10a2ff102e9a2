//! Why a model can't be built.

use std::fmt;
use std::path::PathBuf;

use uverbs_abi::Mac;

use crate::links::TapError;

/// Why a model can't be built; each variant says what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The text does not begin with `modelN`.
    #[error("`{given}` names no model (expected modelN, for example model0)")]
    Name {
        /// What stands there.
        given: String,
    },
    /// An option, or the value of an option with a fixed set of values, that does not exist.
    #[error("unknown {what} `{given}`{}; valid: {}", DidYouMean(.nearest), .valid.join(", "))]
    Unknown {
        /// `option`, `link`, `kernel` …
        what: &'static str,
        /// What was given.
        given: String,
        /// The valid name that is most like it, if one is.
        nearest: Option<&'static str>,
        /// All valid names.
        valid: &'static [&'static str],
    },
    /// A value that is none for its option.
    #[error("{option}={given}: expected {expected}")]
    Value {
        /// The option.
        option: String,
        /// Its value.
        given: String,
        /// What it takes.
        expected: &'static str,
    },
    /// An option that may be given once was given twice.
    #[error(
        "{option}= is given twice (only mac=, link=, capture=, netdev= and adapter-mtu= may repeat)"
    )]
    Twice {
        /// The option.
        option: String,
    },
    /// A device that no text describes.
    #[error(
        "{device}: no device text says what it is, `{text}` is read differently (names are modelN, \
         file names have no comma, and MACs and captures are given to ports in order)"
    )]
    NoText {
        /// Name of the device.
        device: String,
        /// The text that comes nearest.
        text: String,
    },
    /// More MACs than ports.
    #[error(
        "{macs} MACs for {ports} ports (raise ports=, or leave it out: it defaults to the number of MACs)"
    )]
    MoreMacsThanPorts {
        /// Number of MACs.
        macs: usize,
        /// Number of ports.
        ports: usize,
    },
    /// As many links or captures as fit neither all ports nor each.
    #[error("{given} {option}= for {ports} ports ({fix})")]
    Repeats {
        /// The option.
        option: &'static str,
        /// How often it is given.
        given: usize,
        /// Number of ports.
        ports: usize,
        /// What would be right.
        fix: &'static str,
    },
    /// A number outside its range.
    #[error("{device}: {what} is {given}, must be {range}")]
    Range {
        /// Name of the device.
        device: String,
        /// What it is the number of.
        what: &'static str,
        /// The number.
        given: u64,
        /// The range.
        range: &'static str,
    },
    /// A multicast address, or none.
    #[error(
        "{device}: {mac} can be no port's MAC (it is a multicast address or zero; the first byte must be even)"
    )]
    NoStationMac {
        /// Name of the device.
        device: String,
        /// The address.
        mac: Mac,
    },
    /// Two ports with one MAC.
    #[error("{device}: MAC {mac} belongs to another port already (give each port its own)")]
    DuplicateMac {
        /// Name of the second device.
        device: String,
        /// The address.
        mac: Mac,
    },
    /// Two devices with one name or PCI address.
    #[error("two devices are called {name} (number them: model0, model1 …; each pci= once)")]
    DuplicateDevice {
        /// Name or PCI address.
        name: String,
    },
    /// A port that says `pair` and has no partner.
    #[error(
        "{device}: port {port} says link=pair but has no partner (ports are wired 0-1, 2-3 … over all models that say pair: add a port or another model)"
    )]
    OddPair {
        /// Name of the device.
        device: String,
        /// Its port, from 0.
        port: usize,
    },
    /// One file for two captures.
    #[error("{}: would be written for two ports, or twice for one (give each its own tx= or capture=)", .path.display())]
    SharedCapture {
        /// The file.
        path: PathBuf,
    },
    /// Two ports with one tap.
    #[error("tap {name}: two ports would have it (give each port its own link=tap:NAME)")]
    SharedTap {
        /// Its name.
        name: String,
    },
    /// A tap that can't be had.
    #[error("tap {name}: {cause}")]
    Tap {
        /// Its name.
        name: String,
        /// What is wrong, and what helps.
        #[source]
        cause: TapError,
    },
    /// A capture that can't be read or written.
    #[error("{}: {cause}", .path.display())]
    Capture {
        /// The file.
        path: PathBuf,
        /// What is wrong, and with it.
        cause: String,
    },
}

struct DidYouMean<'a>(&'a Option<&'static str>);

impl fmt::Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .map_or(Ok(()), |name| write!(f, " (did you mean `{name}`?)"))
    }
}

impl ModelError {
    /// The error for a name that is not one of `valid`; finds the nearest.
    pub(crate) fn unknown(what: &'static str, given: &str, valid: &'static [&'static str]) -> Self {
        let nearest = valid
            .iter()
            .map(|name| (strsim::damerau_levenshtein(given, name), *name))
            .filter(|(distance, name)| *distance <= name.len().div_ceil(2))
            .min_by_key(|(distance, _)| *distance)
            .map(|(_, name)| name);
        Self::Unknown {
            what,
            given: given.to_owned(),
            nearest,
            valid,
        }
    }
}
