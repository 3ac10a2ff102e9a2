//! Which provider opens a device.

use std::fmt;
use std::str::FromStr;

use uverbs_abi::{IbDevice, System};

use super::Provider;
use super::uverbs::UverbsProvider;
use crate::{DeviceAttributes, RdmaCoreError, VerbsError};

/// Who talks to the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// rdma-core where its libraries can be loaded and its driver id is the kernel's, else uverbs.
    #[default]
    Auto,
    /// libibverbs and libmana.
    RdmaCore,
    /// The kernel's ABI, without any library.
    Uverbs,
}

/// The text names no provider.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no provider `{0}`; there are auto, rdma-core and uverbs")]
pub struct ParseProviderError(String);

impl FromStr for ProviderChoice {
    type Err = ParseProviderError;

    fn from_str(text: &str) -> Result<Self, ParseProviderError> {
        match text {
            "auto" => Ok(Self::Auto),
            "rdma-core" => Ok(Self::RdmaCore),
            "uverbs" => Ok(Self::Uverbs),
            _ => Err(ParseProviderError(text.to_owned())),
        }
    }
}

impl fmt::Display for ProviderChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::RdmaCore => "rdma-core",
            Self::Uverbs => "uverbs",
        })
    }
}

/// An open context.
pub(crate) struct Opened {
    pub(crate) provider: Box<dyn Provider>,
    pub(crate) attributes: DeviceAttributes,
    /// What is to be told of the provider: its libraries, or why it was taken.
    pub(crate) note: String,
}

impl Opened {
    fn new(provider: impl Provider + 'static, note: String) -> Result<Self, VerbsError> {
        Ok(Self {
            attributes: provider.query_device()?,
            provider: Box::new(provider),
            note,
        })
    }

    /// The same, taken by [`ProviderChoice::Auto`] for a reason.
    fn taken(mut self, because: &str) -> Self {
        self.note = format!("{}; auto: {because}", self.note);
        self
    }
}

/// Opens the device through the provider of the choice.
pub(crate) fn open(
    system: &dyn System,
    device: &IbDevice,
    choice: ProviderChoice,
) -> Result<Opened, VerbsError> {
    match choice {
        // What the program lacks first: no other device would make a difference.
        ProviderChoice::RdmaCore if system.is_this_machine() || !cfg!(feature = "rdma-core") => {
            through_libraries(device)
        }
        ProviderChoice::RdmaCore => Err(RdmaCoreError::OutOfReach {
            device: device.name.clone(),
        }
        .into()),
        ProviderChoice::Uverbs => through_kernel(system, device, None),
        // A device that no library can find.
        ProviderChoice::Auto if !system.is_this_machine() => through_kernel(system, device, None)
            .map(|opened| opened.taken("libibverbs finds devices of the running kernel only")),
        ProviderChoice::Auto => {
            check_driver_id(device)
                .map_err(VerbsError::from)
                .and_then(|()| through_libraries(device))
                .map(|opened| opened.taken("both load and open the device"))
                // What hinders both is told by the second, which asks the kernel itself.
                .or_else(|error| through_kernel(system, device, Some(&error)))
        }
    }
}

fn through_kernel(
    system: &dyn System,
    device: &IbDevice,
    instead: Option<&VerbsError>,
) -> Result<Opened, VerbsError> {
    let provider = UverbsProvider::open(system.open(device)?, device)?;
    let note = match instead {
        Some(error) => format!("because rdma-core can't be used: {error}"),
        None => provider.note(),
    };
    Opened::new(provider, note)
}

#[cfg(feature = "rdma-core")]
fn through_libraries(device: &IbDevice) -> Result<Opened, VerbsError> {
    let provider = super::rdma::RdmaProvider::open(device)?;
    let note = provider.note();
    Opened::new(provider, note)
}

#[cfg(feature = "rdma-core")]
fn check_driver_id(device: &IbDevice) -> Result<(), RdmaCoreError> {
    super::rdma::RdmaProvider::check_driver_id(device)
}

#[cfg(not(feature = "rdma-core"))]
fn through_libraries(_device: &IbDevice) -> Result<Opened, VerbsError> {
    Err(RdmaCoreError::NotBuilt.into())
}

#[cfg(not(feature = "rdma-core"))]
fn check_driver_id(_device: &IbDevice) -> Result<(), RdmaCoreError> {
    Ok(())
}
