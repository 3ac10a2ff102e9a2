//! The MTU of a port: what its receive buffers must hold.

use crate::mtu::check;
use crate::{Error, Port, PortConfig};

impl Port {
    /// A configuration with everything checked and filled in.
    pub(super) fn checked(&self, config: PortConfig) -> Result<PortConfig, Error> {
        let mtu = self.mtu.unwrap_or(self.info.mtu);
        config.checked(&self.name(), &self.limits, mtu)
    }

    /// Bytes that packets may have behind their Ethernet header.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        let configured = self.config.as_ref().and_then(|config| config.mtu);
        configured.or(self.mtu).unwrap_or(self.info.mtu)
    }

    /// Whether a packet of the MTU may arrive in several buffers, see [`crate::Oversize::Scatter`].
    #[must_use]
    pub fn scatters(&self) -> bool {
        self.config.as_ref().is_some_and(|config| {
            let mut pools = config.rx.iter().map(|queue| &queue.pool);
            pools.any(|pool| config.rx_segments(pool) > 1)
        })
    }

    /// Sets the MTU, see [`PortConfig::mtu`]; the netdev keeps its own. On a running port that works
    /// as far as the queues' buffers hold it.
    ///
    /// # Errors
    ///
    /// [`Error::Mtu`] beyond the adapter's limit; [`Error::MtuRunning`]; otherwise, in a port that
    /// does not run, what [`Port::configure`] says of its configuration with this MTU.
    pub fn set_mtu(&mut self, mtu: u32) -> Result<(), Error> {
        check(mtu, self.info.max_mtu)?;
        let Some(config) = &self.config else {
            self.mtu = Some(mtu);
            return Ok(());
        };
        if self.started.is_some() && !config.holds(mtu) {
            return Err(Error::MtuRunning {
                given: mtu,
                largest: config.largest_packet(),
            });
        }
        let config = PortConfig {
            mtu: Some(mtu),
            ..config.clone()
        };
        self.config = Some(self.checked(config)?);
        self.mtu = Some(mtu);
        Ok(())
    }
}
