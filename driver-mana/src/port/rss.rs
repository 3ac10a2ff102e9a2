//! The RSS of a port: its key and its indirection table.

use crate::config::DEFAULT_RSS_KEY;
use crate::{Error, Port};

/// Entries of the hardware's indirection table (reference/mana-hardware.md §3.8).
const TABLE: usize = 64;

impl Port {
    /// The Toeplitz key: what the running port hashes with, or what the next start would take.
    #[must_use]
    pub fn rss_key(&self) -> [u8; 40] {
        let configured = self.config.as_ref().and_then(|config| config.rss_key);
        configured.unwrap_or(DEFAULT_RSS_KEY)
    }

    /// Sets the Toeplitz key of the next start. The kernel takes a key only when it makes the
    /// receive queues, so a running port must be stopped and started again; meanwhile packets are
    /// lost.
    ///
    /// # Errors
    ///
    /// [`Error::NotConfigured`], [`Error::Started`], or [`Error::RssKey`] for another length than 40
    /// bytes.
    pub fn set_rss_key(&mut self, key: &[u8]) -> Result<(), Error> {
        let given = key.len();
        let key = key.try_into().map_err(|_| Error::RssKey { given })?;
        if self.started.is_some() {
            return Err(Error::Started);
        }
        let config = self.config.as_mut().ok_or(Error::NotConfigured)?;
        config.rss_key = Some(key);
        Ok(())
    }

    /// The hardware's indirection table: the receive queue of each of its 64 entries, of which a
    /// packet takes the one that the lowest 6 bits of its hash name. It can't be chosen: the kernel
    /// repeats the queues in their order (reference/mana-hardware.md §4.6). `None` without a
    /// configuration.
    #[must_use]
    pub fn rss_table(&self) -> Option<[u16; TABLE]> {
        let queues = self.config.as_ref()?.rx.len().max(1);
        Some(std::array::from_fn(|entry| (entry % queues) as u16))
    }
}
