//! The link of a port, from what the kernel knows.

use crate::Port;

/// State of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    /// The netdev has a carrier.
    Up,
    /// The netdev has none.
    Down,
    /// The kernel tells it of a netdev that is UP only, which that of a running port can't be: to be
    /// taken as up.
    Unknown,
}

impl Link {
    /// Whether it counts as up: what is not known does.
    #[must_use]
    pub fn is_up(self) -> bool {
        self != Self::Down
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown, assumed up",
        })
    }
}

impl Port {
    /// The link, asked of the kernel now.
    #[must_use]
    pub fn link(&self) -> Link {
        let Some(device) = &self.device else {
            return Link::Down;
        };
        let netdevs = self.system.netdevs(device.usable.context.device());
        let port = u32::from(self.info.port) - 1;
        let mut netdevs = netdevs.unwrap_or_default().into_iter();
        match netdevs.find(|netdev| netdev.dev_port == port) {
            Some(netdev) => match netdev.carrier {
                Some(true) => Link::Up,
                Some(false) => Link::Down,
                None => Link::Unknown,
            },
            None => Link::Unknown,
        }
    }
}
