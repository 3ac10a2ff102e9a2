//! Why the libraries of rdma-core can't serve, with the way out of it.

use std::fmt;

/// Why the provider `rdma-core` can't be used for a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RdmaCoreError {
    /// The program was built without it.
    #[error(
        "this program was built without the feature `rdma-core`: build it with the feature, or \
         choose provider=uverbs"
    )]
    NotBuilt,
    /// The device is a model inside this process, or of a machine mounted elsewhere than at `/`.
    #[error(
        "{device}: libibverbs finds devices of the running kernel only, and this is none: choose \
         provider=uverbs"
    )]
    OutOfReach {
        /// Name of the ib device.
        device: String,
    },
    /// A library can't be loaded.
    #[error("{library} can't be loaded ({reason}): {}", Install)]
    Missing {
        /// Name of the library, `libmana.so.1`.
        library: String,
        /// What the dynamic loader said.
        reason: String,
    },
    /// A library is older than what this provider needs.
    #[error(
        "{library}: no {symbol}, which rdma-core has since its release 44; {}",
        Install
    )]
    TooOld {
        /// The library, or both with their releases.
        library: String,
        /// What it lacks.
        symbol: String,
    },
    /// The two libraries come from different releases of rdma-core, between which their private
    /// interface may differ.
    #[error(
        "libibverbs is of rdma-core {ibverbs} ({ibverbs_file}) and libmana of {mana} ({mana_file}): \
         install both from one release, look for a second copy in LD_LIBRARY_PATH and /usr/local, \
         or choose provider=uverbs"
    )]
    MixedVersions {
        /// Release of libibverbs.
        ibverbs: String,
        /// Its file.
        ibverbs_file: String,
        /// Release of libmana.
        mana: String,
        /// Its file.
        mana_file: String,
    },
    /// The kernel numbers MANA's driver otherwise than libmana does.
    #[error(
        "{device}: the kernel's driver id is {kernel}, libmana's is {library}, and libibverbs finds a \
         device's library by this id: update the kernel (Azure's 5.15 has 19), or choose \
         provider=uverbs, which takes any id"
    )]
    DriverId {
        /// Name of the ib device.
        device: String,
        /// The kernel's number.
        kernel: u32,
        /// The number that rdma-core gives to MANA.
        library: u32,
    },
    /// libibverbs does not list the device.
    #[error(
        "{device}: libibverbs does not list it ({}): update the kernel if the numbers differ, run \
         `IBV_SHOW_WARNINGS=1 ibv_devices` to see why if they don't, or choose provider=uverbs, \
         which takes any id",
        DriverIds { kernel: *.kernel, library: *.library }
    )]
    NotListed {
        /// Name of the ib device.
        device: String,
        /// The kernel's driver id, where netlink told it.
        kernel: Option<u32>,
        /// The number that rdma-core gives to MANA.
        library: u32,
    },
    /// libibverbs opened the device with another driver's library: its memory is not libmana's, and
    /// libmana must not be let near it.
    #[error(
        "{device}: libibverbs opened it with {opened_by}, not with libmana ({}): update kernel or \
         rdma-core so that both numbers agree, or choose provider=uverbs, which takes any id",
        DriverIds { kernel: *.kernel, library: *.library }
    )]
    ForeignContext {
        /// Name of the ib device.
        device: String,
        /// File of the library whose operations the context has.
        opened_by: String,
        /// The kernel's driver id, where netlink told it.
        kernel: Option<u32>,
        /// The number that rdma-core gives to MANA.
        library: u32,
    },
}

/// How the libraries are installed.
struct Install;

impl fmt::Display for Install {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "install rdma-core 44 or later (Debian, Ubuntu: `sudo apt install libibverbs1 \
             ibverbs-providers`; Azure Linux, Fedora, RHEL: `sudo dnf install libibverbs`), or \
             choose provider=uverbs, which needs no library",
        )
    }
}

struct DriverIds {
    kernel: Option<u32>,
    library: u32,
}

impl fmt::Display for DriverIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kernel {
            Some(kernel) => write!(f, "the kernel's driver id is {kernel}")?,
            None => write!(f, "netlink does not tell the kernel's driver id")?,
        }
        write!(f, ", libmana's is {}", self.library)
    }
}
