//! Two namespaces with a tap each.

use super::{Counters, Host, Namespace};

/// The name of the tap in either namespace.
const TAP: &str = "tap0";

/// The two ends of a wire that the driver is part of: `near` with the addresses of
/// [`Namespace::configure`] that end in 1, `far` with those in 2.
pub struct Link {
    /// Where clients run.
    pub near: Namespace,
    /// Where servers run.
    pub far: Namespace,
}

impl Link {
    /// The MACs of both taps once they are configured, `near` first.
    pub const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

    /// Two empty namespaces.
    ///
    /// # Panics
    ///
    /// If they can't be made.
    #[must_use]
    pub fn new(host: &Host) -> Self {
        Self {
            near: host.namespace(),
            far: host.namespace(),
        }
    }

    /// The links of a device's two ports, as device arguments: taps with these options.
    #[must_use]
    pub fn taps(&self, options: &str) -> String {
        let tap = |end: &Namespace| format!("link=tap:{TAP}:{options}:netns={}", end.name());
        format!("{},{}", tap(&self.near), tap(&self.far))
    }

    /// Gives both taps MTU and addresses.
    ///
    /// # Panics
    ///
    /// If there is no such tap.
    #[track_caller]
    pub fn configure(&self, mtu: u32) {
        self.near.configure(TAP, 1, mtu);
        self.far.configure(TAP, 2, mtu);
    }

    /// The counters of both ends.
    #[must_use]
    #[track_caller]
    pub fn counters(&self) -> [Counters; 2] {
        [self.near.counters(), self.far.counters()]
    }

    /// Asserts that neither kernel dropped a packet as wrong.
    ///
    /// # Panics
    ///
    /// With the counters that say otherwise.
    #[track_caller]
    pub fn assert_no_errors(&self) {
        for counters in self.counters() {
            counters.assert_no_errors();
        }
    }
}
