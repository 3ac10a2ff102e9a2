//! Recovery: what becomes of a port when its device goes away and comes back
//! (reference/mana-hardware.md §4.9, §6.8).
//!
//! Nothing here waits: [`Port::drive`] does what can be done now. The queues are asked for at their
//! gates; when all have been given up, what the old device had is taken apart, frames in flight are
//! counted lost, and buffers go home with the old context. The device is looked for meanwhile. When
//! it is there and no queue is missing, everything is made anew and the gates open again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::adapter::Hold;
use super::{Device, Port};
use crate::start::Start;
use crate::started::{Failure, Running};
use crate::{Error, LostFrames, PortConfig, PortEvent, PortInfo, QueueError};

/// How often a port that recovers wants to be driven, and looks for its device.
const TICK: Duration = Duration::from_millis(10);

/// How a port deals with its device's going away, see [`Port::set_recovery`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryConfig {
    /// How long the device may stay away, or its vPort in other hands, before recovery fails. 5
    /// minutes by default: the kernel alone takes 10 to 20 seconds for a reset, and servicing of a
    /// host is longer. 0 gives up at once.
    pub deadline: Duration,
    /// How long owners of queues may take before [`PortEvent::WaitingForQueue`] names them, and how
    /// long other ports of the same device may take to give its memory back before the port goes
    /// on without. 100 ms by default.
    pub grace: Duration,
    /// How long the oldest packet in flight may take before [`PortEvent::TxStuck`]; `None` looks for
    /// no such thing. 5 s by default.
    pub tx_timeout: Option<Duration>,
}

impl Default for RecoveryConfig {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(300),
            grace: Duration::from_millis(100),
            tx_timeout: Some(Duration::from_secs(5)),
        }
    }
}

/// A recovery under way.
#[derive(Debug)]
pub(super) struct Recovery {
    /// Since when queues are asked for, and since when the device is away.
    asked: Instant,
    away: Instant,
    /// Before this the device is not looked for again.
    next_look: Instant,
    /// All queues are in the port's hands and the old device's things are taken apart.
    collected: bool,
    /// What [`PortEvent::WaitingForQueue`] said last.
    told: Vec<String>,
    lost: LostFrames,
    /// Until this port has let go of the old context.
    hold: Option<Hold>,
}

impl Recovery {
    /// These were on their way, too.
    pub(super) fn add(&mut self, lost: LostFrames) {
        self.lost += lost;
    }
}

impl Port {
    /// Sets how the port deals with its device's going away. It holds from now on, also for a
    /// recovery under way.
    pub fn set_recovery(&mut self, config: RecoveryConfig) {
        self.recovery_config = config;
        self.set_timer();
    }

    /// Makes all queues anew on the device as it is, or waits for it, as after a reset: where
    /// [`PortEvent::TxStuck`] or [`PortEvent::RecoveryFailed`] was told, or a queue has failed. The
    /// events tell how it goes on. Frames in flight are lost.
    pub fn recover(&mut self) {
        self.begin_recovery(Instant::now());
        self.drive_recovery(Instant::now());
        self.set_timer();
        self.remind();
    }

    /// The device is gone.
    pub(super) fn lose_device(&mut self, now: Instant) {
        tracing::warn!("{}: its device is gone; waiting for it", self.name());
        self.told.push_back(PortEvent::DeviceRemoved);
        self.begin_recovery(now);
        let hold = self.detach();
        if let Some(recovery) = &mut self.recovery {
            (recovery.away, recovery.next_look) = (now, now);
            recovery.hold = hold;
        }
    }

    fn begin_recovery(&mut self, now: Instant) {
        self.recovery.get_or_insert_with(|| Recovery {
            asked: now,
            away: now,
            next_look: now,
            collected: false,
            told: Vec::new(),
            lost: LostFrames::default(),
            hold: None,
        });
        // All that is made anew is made as it was to become.
        self.adopt_rss();
        if let Some(started) = &self.started {
            started.want();
        }
    }

    /// Does what can be done now.
    pub(super) fn drive_recovery(&mut self, now: Instant) {
        let Some(mut recovery) = self.recovery.take() else {
            return;
        };
        match self.recover_now(&mut recovery, now) {
            Ok(true) => {
                self.recovery = Some(recovery);
                self.end_recovery();
            }
            Ok(false) => self.recovery = Some(recovery),
            Err(error) => {
                let reason = error.to_string();
                tracing::error!("{}: not recovered: {reason}", self.name());
                if let Some(started) = &self.started {
                    started.fail(Failure::Device);
                }
                self.told.push_back(PortEvent::RecoveryFailed { reason });
            }
        }
    }

    /// The port is as it was.
    pub(super) fn end_recovery(&mut self) {
        if let Some(Recovery { lost, .. }) = self.recovery.take() {
            tracing::info!("{}: recovered; lost {lost:?}", self.name());
            self.told.push_back(PortEvent::Recovered { lost });
        }
    }

    /// True if that was the last of it.
    fn recover_now(&mut self, recovery: &mut Recovery, now: Instant) -> Result<bool, Error> {
        if !recovery.collected {
            self.collect(recovery, now);
        }
        let late = now.duration_since(recovery.away) >= self.recovery_config.deadline;
        if self.device.is_none() {
            if now < recovery.next_look && !late {
                return Ok(false);
            }
            recovery.next_look = now + TICK;
            match self.attach() {
                Ok(()) => {
                    tracing::info!(
                        "{}: its device is back as {}",
                        self.name(),
                        self.info.ib_device
                    );
                    self.told.push_back(PortEvent::Recovering);
                }
                Err(error) if late => {
                    return Err(Error::DeviceStaysAway {
                        deadline: self.recovery_config.deadline,
                        error: Box::new(error),
                    });
                }
                Err(error) => {
                    tracing::debug!("{}: not back yet: {error}", self.name());
                    return Ok(false);
                }
            }
        }
        if !recovery.collected {
            return Ok(false);
        }
        // The buffers that the old device had are needed again; they come home when the last port has
        // let go of its context.
        let others = recovery.hold.as_ref().map_or(0, Arc::strong_count) > 1;
        if others && now.duration_since(recovery.asked) < self.recovery_config.grace {
            return Ok(false);
        }
        recovery.hold = None;
        match self.rebuild() {
            Ok(()) => Ok(true),
            // Gone again, which an event will tell, or somebody else has the vPort for the moment.
            Err(
                error @ (Error::NetdevUp { .. }
                | Error::VportInUse { .. }
                | Error::DeviceRemoved { .. }),
            ) if !late => {
                tracing::debug!("{}: not yet: {error}", self.name());
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes apart what the old device had, if all queues are given up.
    fn collect(&mut self, recovery: &mut Recovery, now: Instant) {
        let running = match self.started.as_ref().map(|started| started.end()) {
            None => None,
            Some(Ok(running)) => running,
            Some(Err(queues)) => {
                let grace = now.duration_since(recovery.asked) >= self.recovery_config.grace;
                if grace && queues != recovery.told {
                    recovery.told.clone_from(&queues);
                    self.told.push_back(PortEvent::WaitingForQueue { queues });
                }
                return;
            }
        };
        recovery.collected = true;
        if let Some(mut running) = running {
            recovery.lost += running.lose();
            // What could not be destroyed is kept and named in the log; the rest goes on.
            if let Err(error) = running.tear_down() {
                tracing::error!("{}: {error}", self.name());
            }
        }
    }

    fn rebuild(&mut self) -> Result<(), Error> {
        let Some(started) = self.started.clone() else {
            return Ok(());
        };
        started.reopen(self.make()?.1)?;
        self.watchdog.reset();
        Ok(())
    }

    /// Makes everything a started port needs, by the configuration that comes with it.
    pub(super) fn make(&self) -> Result<(PortConfig, Running), Error> {
        let config = self.config.as_ref().ok_or(Error::NotConfigured)?;
        let device = self.device.as_ref().ok_or_else(|| self.removed())?;
        // Of a device that came back, the limits may be others.
        let config = config
            .clone()
            .checked(&self.name(), &self.limits, self.info.mtu)?;
        let running = Start {
            system: self.system.as_ref(),
            usable: &device.usable,
            info: &self.info,
            config: &config,
            id: self.id,
            rx_counters: self.rx.running(),
            tx_counters: self.tx.running(),
        }
        .run()
        .map_err(|error| match is_gone(&error) {
            true => self.removed(),
            false => error,
        })?;
        Ok((config, running))
    }

    /// Finds the device and listens to its events.
    pub(super) fn attach(&mut self) -> Result<(), Error> {
        let (usable, hold) = self.adapter.find(self.system.as_ref(), &self.info)?;
        let events = usable.context.listen()?;
        self.signals.add(events.fd())?;
        self.info = PortInfo::of(&usable);
        self.limits = usable.limits;
        self.device = Some(Device {
            usable,
            events,
            hold,
        });
        Ok(())
    }

    /// Lets go of the device; what queues still need of it stays with them.
    fn detach(&mut self) -> Option<Hold> {
        let device = self.device.take()?;
        self.signals.remove(device.events.fd());
        self.adapter.forget(&device.usable.context);
        Some(device.hold)
    }

    /// Lets [`Port::event_fd`] become readable when there is something to do next.
    pub(super) fn set_timer(&mut self) {
        let waits = self.recovery.is_some() || self.rss_change.is_some();
        let interval = match (&self.started, self.recovery_config.tx_timeout) {
            _ if waits => TICK,
            (Some(_), Some(timeout)) => (timeout / 4).max(TICK),
            _ => Duration::ZERO,
        };
        self.signals.tick(interval);
    }
}

/// Whether something failed because the device is gone.
pub(super) fn is_gone(error: &Error) -> bool {
    matches!(
        error,
        Error::Verbs(error) | Error::Queue(QueueError::Verbs(error)) if error.is_disassociated()
    )
}
