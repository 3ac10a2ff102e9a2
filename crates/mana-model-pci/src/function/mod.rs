//! A MANA function behind its hardware channel: each request becomes operations of the device, and
//! its answer (reference/mana-hardware.md §6.4-§6.10).
//!
//! A request of unknown kind is answered with CMD_UNSUPPORTED; one of wrong size, or with values that
//! can't be, with another status; either leaves a line in the log, and nothing changed. A request that
//! is longer than its version has fields of a later version, which are skipped.

mod device_memory;
mod gdma;
mod kinds;
mod mana;
mod message;
mod objects;
mod pages;
mod regions;
mod rnic;
mod statistics;

use std::sync::Arc;

use mana_model::hardware::{BusMemory, Ears, Hardware, Refusal};
use mana_model::{DeviceConfig, ModelError};

use self::kinds::Kind;
use self::message::{Answer, Request};
use self::objects::Objects;
use self::pages::Pages;
use self::regions::Regions;
use crate::limits::DOORBELL_PAGES;

/// What an answer's status says. Linux knows the first three; of all others it only writes the number
/// into its log, so those are this device's own.
mod status {
    pub(super) const OK: u32 = 0;
    pub(super) const MORE_ENTRIES: u32 = 0x105;
    pub(super) const UNSUPPORTED: u32 = u32::MAX;
    /// The message is too short, or a value in it can't be.
    pub(super) const INVALID: u32 = 1;
    /// It names something that is not there.
    pub(super) const MISSING: u32 = 2;
    /// There are as many as there can be.
    pub(super) const LIMIT: u32 = 3;
    /// Something else still needs it.
    pub(super) const IN_USE: u32 = 4;
}

/// Why a request is not done: its status, and what the log says.
#[derive(Debug)]
struct Failure {
    status: u32,
    why: String,
}

impl Failure {
    fn invalid(why: impl Into<String>) -> Self {
        Self {
            status: status::INVALID,
            why: why.into(),
        }
    }

    fn missing(why: impl Into<String>) -> Self {
        Self {
            status: status::MISSING,
            why: why.into(),
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal {
            Refusal::Port | Refusal::Domain | Refusal::EventQueue | Refusal::WorkQueue => {
                status::MISSING
            }
            Refusal::DomainInUse => status::IN_USE,
            Refusal::Ring | Refusal::NotConfigured => status::INVALID,
            Refusal::Limit => status::LIMIT,
        };
        Self {
            status,
            why: refusal.to_string(),
        }
    }
}

/// Status of a request that was done.
type Done = Result<u32, Failure>;

/// A MANA function behind its hardware channel.
pub struct Function {
    hardware: Hardware,
    objects: Objects,
    regions: Regions,
    pages: Pages,
    /// Whether the RNIC is among the function's devices.
    rnic: bool,
    /// Requests that failed since the last reset.
    failures: u64,
}

/// The name of a request, as in recorded traces.
pub(crate) fn name(number: u32) -> &'static str {
    Kind::find(number).map_or("UNKNOWN", |kind| kind.name)
}

/// Failures that are told one by one; later ones at every power of two, so that a driver that sends
/// nonsense does not fill the disk.
const TOLD: u64 = 100;

impl Function {
    /// The function that `config` describes, whose memory is `memory`.
    ///
    /// # Errors
    ///
    /// As [`mana_model::Model::new`].
    pub fn new(config: DeviceConfig, memory: Arc<dyn BusMemory>) -> Result<Self, ModelError> {
        let hardware = Hardware::new(config, memory)?;
        let ports = hardware.config().ports.len();
        Ok(Self {
            hardware,
            objects: Objects::new(ports),
            regions: Regions::default(),
            pages: Pages::new(DOORBELL_PAGES),
            rnic: true,
            failures: 0,
        })
    }

    /// Whether the driver finds an RNIC beside the Ethernet device. It does at first: Linux 6.12's
    /// mana_ib needs one.
    pub fn set_rnic(&mut self, listed: bool) {
        self.rnic = listed;
    }

    /// Takes a request and writes its answer in place of what `answer` held. What is no request at all
    /// gets an answer with a header only. The hardware channel's own queues are not known here.
    pub fn request(&mut self, request: &[u8], answer: &mut Vec<u8>) {
        let Some(request) = Request::parse(request) else {
            self.complain(format_args!(
                "no request, or a cut one, in {} bytes",
                request.len()
            ));
            answer.clear();
            answer.resize(message::ANSWER_HEADER, 0);
            let size = message::ANSWER_HEADER as u32;
            answer[12..16].copy_from_slice(&size.to_le_bytes());
            answer[24..28].copy_from_slice(&status::INVALID.to_le_bytes());
            return;
        };
        let kind = Kind::find(request.kind);
        let mut writer = Answer::new(answer, &request, kind.map_or(1, |kind| kind.answers));
        let result = match kind {
            None => Err(Failure {
                status: status::UNSUPPORTED,
                why: "no such request".to_owned(),
            }),
            Some(kind) if request.size() < kind.size(request.version) => {
                Err(Failure::invalid(format!(
                    "{} bytes, version {} has {}",
                    request.size(),
                    request.version,
                    kind.size(request.version)
                )))
            }
            Some(_) => self.answer(&request, &mut writer),
        };
        let status = match result {
            Ok(status) => status,
            Err(Failure { status, why }) => {
                writer.clear();
                let number = request.kind;
                let name = name(number);
                self.complain(format_args!(
                    "{number:#x} {name}: status {status:#x}: {why}"
                ));
                status
            }
        };
        writer.status(status);
    }

    #[cold]
    fn complain(&mut self, what: std::fmt::Arguments<'_>) {
        self.failures += 1;
        match self.failures {
            ..=TOLD => tracing::warn!("HWC {what}"),
            count if count.is_power_of_two() => tracing::warn!("HWC {what} ({count} failures)"),
            _ => tracing::debug!("HWC {what}"),
        }
    }

    fn answer(&mut self, request: &Request<'_>, answer: &mut Answer<'_>) -> Done {
        match request.kind >> 16 {
            0 => self.gdma(request, answer),
            2 => self.mana(request, answer),
            _ => self.rnic(request, answer),
        }
    }

    /// Takes a store to a doorbell page, other than that of the hardware channel.
    pub fn doorbell(&mut self, page: u32, offset: u32, value: u64) {
        self.hardware.doorbell(page, offset, value);
    }

    /// Moves packets once around; returns how many moved.
    pub fn step(&mut self) -> usize {
        self.hardware.step()
    }

    /// The MSI-X vectors that fired since the last call.
    pub fn take_interrupts(&mut self) -> Vec<u16> {
        self.hardware.take_interrupts()
    }

    /// Everything that requests created is gone: nothing touches memory after it.
    pub fn reset(&mut self) {
        self.hardware.reset();
        self.objects = Objects::new(self.hardware.config().ports.len());
        self.regions = Regions::default();
        self.pages = Pages::new(DOORBELL_PAGES);
        self.failures = 0;
    }

    /// What an idle thread may wait on for frames; see [`Hardware::ears`].
    #[must_use]
    pub fn ears(&self) -> Option<Ears> {
        self.hardware.ears()
    }

    /// Whether [`Function::step`] is to be called now and then even if nothing moves.
    #[must_use]
    pub fn is_timed(&self) -> bool {
        self.hardware.is_timed()
    }

    /// The device behind it: links, counters, findings.
    #[must_use]
    pub fn hardware(&self) -> &Hardware {
        &self.hardware
    }

    /// The device behind it, for links and failures; what requests create is theirs.
    pub fn hardware_mut(&mut self) -> &mut Hardware {
        &mut self.hardware
    }

    /// Whether nothing exists that requests created.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.hardware.live() == mana_model::hardware::Live::default()
            && self.objects.is_empty()
            && self.regions.is_empty()
            && self.pages.is_empty()
    }
}

#[cfg(test)]
mod tests;
