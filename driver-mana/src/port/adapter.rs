//! The device under the ports of one PCI function: they share a context, and after a reset the first
//! that finds the device again opens the context for all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mana_verbs::{Context, ProviderChoice};
use uverbs_abi::System;

use crate::discover::{Usable, mana_devices};
use crate::error::with_mac;
use crate::limits::Limits;
use crate::{Candidate, Error, PortInfo};

/// Held by everybody who still has objects of a context.
pub(super) type Hold = Arc<()>;

/// What the ports that were opened together share.
pub(super) struct Adapter {
    provider: ProviderChoice,
    /// `None` while the device is away.
    current: Mutex<Option<(Context, Hold)>>,
}

impl Adapter {
    /// That of a context, which a port is about to hold.
    pub(super) fn new(context: &Context, provider: ProviderChoice) -> (Arc<Self>, Hold) {
        let hold = Hold::default();
        let adapter = Self {
            provider,
            current: Mutex::new(Some((context.clone(), Arc::clone(&hold)))),
        };
        (Arc::new(adapter), hold)
    }

    /// The hold on the context, if it is the one the ports have now.
    pub(super) fn hold(&self, context: &Context) -> Option<Hold> {
        let current = self.lock();
        let (known, hold) = current.as_ref()?;
        known.is_same(context).then(|| Arc::clone(hold))
    }

    /// Lets go of a context whose device is gone.
    pub(super) fn forget(&self, context: &Context) {
        let mut current = self.lock();
        if current
            .as_ref()
            .is_some_and(|(known, _)| known.is_same(context))
        {
            *current = None;
        }
    }

    /// Looks for the port that `info` describes: by PCI address and MAC, because a reset may change
    /// everything else (reference/mana-hardware.md §6.8).
    ///
    /// # Errors
    ///
    /// Why it can't be used, or not yet.
    pub(super) fn find(
        &self,
        system: &dyn System,
        info: &PortInfo,
    ) -> Result<(Usable, Hold), Error> {
        let mut current = self.lock();
        let known = current.as_ref().filter(|(known, _)| !known.is_removed());
        let (context, hold) = match known {
            Some(known) => known.clone(),
            None => {
                let opened = (self.open(system, info)?, Hold::default());
                current.insert(opened).clone()
            }
        };
        drop(current);
        Ok((usable(system, context, info)?, hold))
    }

    fn open(&self, system: &dyn System, info: &PortInfo) -> Result<Context, Error> {
        for device in mana_devices(system)? {
            let is_it = device.pci == info.pci
                && system
                    .netdevs(&device)?
                    .iter()
                    .any(|netdev| netdev.mac == info.mac);
            if !is_it {
                continue;
            }
            let context = Context::open_through(system, &device, self.provider)?;
            if context.attributes().carries_ethernet() {
                return Ok(context);
            }
        }
        Err(absent(info))
    }

    /// A panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, Option<(Context, Hold)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The port with the MAC among those of the context.
fn usable(system: &dyn System, context: Context, info: &PortInfo) -> Result<Usable, Error> {
    let attributes = context.attributes();
    let netdevs = system.netdevs(context.device())?;
    let netdev = netdevs.into_iter().find(|netdev| netdev.mac == info.mac);
    let netdev = netdev.ok_or_else(|| absent(info))?;
    let port = u8::try_from(netdev.dev_port + 1).ok();
    let port = port.filter(|port| *port <= attributes.phys_port_cnt);
    let port = port.ok_or_else(|| absent(info))?;
    match Limits::of(attributes, context.ring_limit(), context.comp_vectors()) {
        Ok(limits) => Ok(Usable {
            context,
            limits,
            netdev,
            port,
        }),
        Err(lack) => Err(Error::Unusable {
            candidate: Box::new(Candidate {
                ib_device: context.device().name.clone(),
                pci: info.pci,
                port,
                netdev: Some(netdev),
                lacks: vec![lack],
            }),
        }),
    }
}

fn absent(info: &PortInfo) -> Error {
    Error::NoSuchPort {
        wanted: format!("{} of {}", with_mac(info.mac), info.pci),
        candidates: Vec::new(),
    }
}
