//! The RSS of a port: its key and its indirection table.
//!
//! The kernel takes both only when it makes the RSS queue pair, and with that go its work queues
//! (reference/mana-hardware.md §4.2, §4.6). So a running port makes its receiving side anew, behind the
//! gates that recovery uses: the new work queues are made beside the old ones, which receive
//! meanwhile; the receive queues are asked for; when all are given up, the old RSS queue pair goes, the
//! new one comes, and the gates open over it. Transmit queues go on all the time.

use std::time::Instant;

use super::Port;
use super::recovery::is_gone;
use crate::config::DEFAULT_RSS_KEY;
use crate::receive::{Basis, Prepared, Receive, Recipe};
use crate::rss_table::{RSS_TABLE, table};
use crate::started::{Failure, Started};
use crate::{Error, LostFrames, PortConfig, PortEvent};

/// What the receiving side of a running port is to become.
#[derive(Debug)]
pub(super) struct RssChange {
    config: PortConfig,
    prepared: Prepared,
    /// Since when queues are asked for.
    asked: Instant,
    /// What [`PortEvent::WaitingForQueue`] said last.
    told: Vec<String>,
}

impl Port {
    /// The Toeplitz key: what the running port hashes with, or what the next start would take.
    #[must_use]
    pub fn rss_key(&self) -> [u8; 40] {
        let configured = self.config.as_ref().and_then(|config| config.rss_key);
        configured.unwrap_or(DEFAULT_RSS_KEY)
    }

    /// Sets the Toeplitz key. On a running port it takes effect as [`Port::set_rss_table`] says.
    ///
    /// # Errors
    ///
    /// [`Error::RssKey`] for another length than 40 bytes; otherwise as [`Port::set_rss_table`].
    pub fn set_rss_key(&mut self, key: &[u8]) -> Result<(), Error> {
        let given = key.len();
        let key = key.try_into().map_err(|_| Error::RssKey { given })?;
        self.set_rss(|config| config.rss_key = Some(key))
    }

    /// The hardware's indirection table: the receive queue of each of its 64 entries, of which a
    /// packet takes the one that the lowest 6 bits of its hash name. That of the running port, or what
    /// the next start would make; `None` without a configuration.
    ///
    /// Packets without a hash, as ARP, arrive on the last queue that the kernel was given, which is that of
    /// the last entry (reference/mana-hardware.md §3.8).
    #[must_use]
    pub fn rss_table(&self) -> Option<[u16; RSS_TABLE]> {
        Some(table(&self.config.as_ref()?.rss_order()))
    }

    /// Sets the indirection table, of 64 entries.
    ///
    /// The kernel fills the table itself: it takes a power of two of queues, each once, in any order,
    /// and repeats them (reference/mana-hardware.md §4.6). So queues can change places, and a part
    /// of them, down to one, can get all packets; the others then receive nothing, and their handles
    /// stay valid. Over one queue packets are not hashed. A queue can't be given a larger share.
    ///
    /// On a running port the receiving side is made anew under the same handles, as soon as each owner has
    /// called its receive queue once, or dropped it; [`PortEvent::WaitingForQueue`] names those who
    /// don't. That happens while the port is driven ([`Port::next_event`], [`Port::drive`]), or in
    /// this call if all were dropped, and is told by [`PortEvent::RssChanged`] or
    /// [`PortEvent::RssChangeFailed`]. Until then the port receives as before, and so it does if the
    /// new queues can't be had. In between lies a gap, told with the event, in which the device drops what
    /// arrives, without counting it here; frames that had arrived and were not taken by a burst are
    /// lost and counted. Sending goes on. If the device goes away meanwhile, or the port is stopped,
    /// what was set comes with the recovery or the next start, and no event of its own tells.
    ///
    /// # Errors
    ///
    /// [`Error::RssTableLength`], [`Error::RssTableQueue`] and [`Error::RssTable`] for tables that can't be
    /// had, [`Error::NotConfigured`]; on a running port also [`Error::Memory`] and what the kernel
    /// says to new queues. Nothing has changed then.
    pub fn set_rss_table(&mut self, table: &[u16]) -> Result<(), Error> {
        let given = table.len();
        let table = <[u16; RSS_TABLE]>::try_from(table);
        let table = table.map_err(|_| Error::RssTableLength { given })?;
        self.set_rss(|config| config.rss_table = Some(table))
    }

    /// Whether a key or table was set on the running port and has not taken effect yet.
    #[must_use]
    pub fn is_rss_changing(&self) -> bool {
        self.rss_change.is_some()
    }

    fn set_rss(&mut self, set: impl FnOnce(&mut PortConfig)) -> Result<(), Error> {
        let pending = self.rss_change.as_ref().map(|change| &change.config);
        let config = pending.or(self.config.as_ref());
        let mut config = config.ok_or(Error::NotConfigured)?.clone();
        set(&mut config);
        let config = self.checked(config)?;
        let started = self.started.as_ref();
        let basis = started.and_then(|started| started.basis());
        let (Some(started), Some(basis), None) = (started, basis, &self.recovery) else {
            // Nothing runs, or all is about to be made anew.
            self.config = Some(config);
            return Ok(());
        };
        let now = Instant::now();
        let prepared = self.recipe(&config)?.prepare_apart(&basis)?;
        started.want_rx();
        let (asked, told) = match self.rss_change.take() {
            Some(before) => (before.asked, before.told),
            None => (now, Vec::new()),
        };
        self.rss_change = Some(RssChange {
            config,
            prepared,
            asked,
            told,
        });
        self.drive_rss(now);
        self.set_timer();
        self.remind();
        Ok(())
    }

    /// What was to be becomes the configuration, for who makes everything anew.
    pub(super) fn adopt_rss(&mut self) {
        if let Some(change) = self.rss_change.take() {
            self.config = Some(change.config);
        }
    }

    /// Makes the receiving side anew, if that was asked for and all its queues are given up.
    pub(super) fn drive_rss(&mut self, now: Instant) {
        let Some(mut change) = self.rss_change.take() else {
            return;
        };
        let Some(started) = self.started.clone() else {
            self.config = Some(change.config);
            return;
        };
        match started.take_receive() {
            Ok(Some(old)) => self.change_rss(&started, change, old),
            Ok(None) => self.config = Some(change.config),
            Err(queues) => {
                let grace = now.duration_since(change.asked) >= self.recovery_config.grace;
                if grace && queues != change.told {
                    change.told.clone_from(&queues);
                    self.told.push_back(PortEvent::WaitingForQueue { queues });
                }
                self.rss_change = Some(change);
            }
        }
    }

    fn change_rss(&mut self, started: &Started, change: RssChange, mut old: Receive) {
        let RssChange {
            config, prepared, ..
        } = change;
        let begun = Instant::now();
        let (lost, destroyed) = old.end();
        let made = destroyed.map_err(Error::Verbs).and_then(|()| {
            let basis = started.basis().ok_or_else(|| self.removed())?;
            self.receive(started, &basis, &config, Some(prepared))?;
            Ok(basis)
        });
        match made {
            Ok(_) => {
                let gap = begun.elapsed();
                tracing::info!(
                    "{}: RSS set anew; nothing was received for {gap:?}",
                    self.name()
                );
                self.config = Some(config);
                self.told.push_back(PortEvent::RssChanged { gap, lost });
            }
            Err(error) if is_gone(&error) => {
                self.config = Some(config);
                self.lose_device(Instant::now());
                if let Some(recovery) = &mut self.recovery {
                    recovery.add(LostFrames { tx: 0, rx: lost });
                }
            }
            Err(error) => {
                let mut reason = error.to_string();
                let again = self.as_before(started);
                if let Err(error) = &again {
                    started.fail(Failure::Receive);
                    reason = format!("{reason}; nor as it was: {error}");
                }
                tracing::error!("{}: RSS not set anew: {reason}", self.name());
                self.told.push_back(PortEvent::RssChangeFailed {
                    reason,
                    receives: again.is_ok(),
                    lost,
                });
            }
        }
    }

    /// Makes the receiving side as it is configured.
    fn as_before(&self, started: &Started) -> Result<(), Error> {
        let config = self.config.as_ref().ok_or(Error::NotConfigured)?;
        let basis = started.basis().ok_or_else(|| self.removed())?;
        self.receive(started, &basis, config, None)
    }

    /// Makes the receiving side, and opens its queues.
    fn receive(
        &self,
        started: &Started,
        basis: &Basis,
        config: &PortConfig,
        prepared: Option<Prepared>,
    ) -> Result<(), Error> {
        let recipe = self.recipe(config)?;
        let prepared = match prepared {
            Some(prepared) => prepared,
            None => recipe.prepare_apart(basis)?,
        };
        started.put_receive(recipe.begin(basis, prepared)?)?;
        Ok(())
    }

    fn recipe<'a>(&'a self, config: &'a PortConfig) -> Result<Recipe<'a>, Error> {
        let device = self.device.as_ref().ok_or_else(|| self.removed())?;
        Ok(Recipe {
            name: self.name(),
            context: &device.usable.context,
            info: &self.info,
            config,
            id: self.id,
            counters: self.rx.running(),
        })
    }
}
