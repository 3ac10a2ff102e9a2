//! The stacks that are compared.

/// A testpmd and what it stands on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// DPDK's testpmd with the driver in C, over rdma-core 56.
    DpdkRdmaCore56,
    /// `mana testpmd` on the kernel's own ABI.
    OursUverbs,
    /// `mana testpmd` over rdma-core 56.
    OursRdmaCore56,
    /// `mana testpmd` over rdma-core 44.
    OursRdmaCore44,
}

impl Column {
    /// Its head in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DpdkRdmaCore56 => "C, rdma-core 56",
            Self::OursUverbs => "ours, uverbs",
            Self::OursRdmaCore56 => "ours, rdma-core 56",
            Self::OursRdmaCore44 => "ours, rdma-core 44",
        }
    }

    /// Whether it is `mana testpmd`.
    #[must_use]
    pub fn is_ours(self) -> bool {
        self != Self::DpdkRdmaCore56
    }

    /// The device argument that makes it so; empty for DPDK's.
    #[must_use]
    pub fn provider(self) -> &'static str {
        match self {
            Self::DpdkRdmaCore56 => "",
            Self::OursUverbs => ",provider=uverbs",
            Self::OursRdmaCore56 | Self::OursRdmaCore44 => ",provider=rdma-core",
        }
    }

    /// What ours prints of the provider; nothing for DPDK's.
    #[must_use]
    pub fn announced(self) -> Option<&'static str> {
        match self {
            Self::DpdkRdmaCore56 => None,
            Self::OursUverbs => Some("provider: uverbs"),
            Self::OursRdmaCore56 => Some("provider: rdma-core (libibverbs 56."),
            Self::OursRdmaCore44 => Some("provider: rdma-core (libibverbs 44."),
        }
    }

    /// The libraries that must be mapped, by the beginning of their names.
    #[must_use]
    pub fn libraries(self) -> &'static [&'static str] {
        match self {
            Self::DpdkRdmaCore56 => &[
                "librte_net_mana.so.25",
                "libmana.so.1.0.56",
                "libibverbs.so.1.14.56",
            ],
            Self::OursUverbs => &[],
            Self::OursRdmaCore56 => &["libmana.so.1.0.56", "libibverbs.so.1.14.56"],
            Self::OursRdmaCore44 => &["libmana.so.1.0.44", "libibverbs.so.1.14.44"],
        }
    }
}
