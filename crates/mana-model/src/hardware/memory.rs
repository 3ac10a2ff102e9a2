//! Domains, registered memory, and what ports are configured for.

use std::sync::Arc;

use super::{Hardware, MAX_DOMAINS, MAX_MEMORY_REGIONS, Refusal, below};
use crate::core::{BusPages, DmaSpace, MrId, PdId, Steering, WholeBus};

impl Hardware {
    /// Makes a protection domain; returns its number.
    ///
    /// # Errors
    ///
    /// [`Refusal::Limit`].
    pub fn create_domain(&mut self) -> Result<u32, Refusal> {
        below(self.live().domains, MAX_DOMAINS)?;
        Ok(self.device.create_pd().0)
    }

    /// Destroys a domain. A port that was configured for it is so no more.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::DomainInUse`].
    pub fn destroy_domain(&mut self, domain: u32) -> Result<(), Refusal> {
        let pd = self.domain(domain)?;
        if self.device.uses_pd(pd) {
            return Err(Refusal::DomainInUse);
        }
        for port in 0..self.config.ports.len() {
            if self
                .device
                .vport_owner(port)
                .is_some_and(|(owner, _)| owner == pd)
            {
                self.device.release_vport_tx(port);
            }
        }
        self.device.destroy_pd(pd);
        Ok(())
    }

    fn domain(&self, domain: u32) -> Result<PdId, Refusal> {
        let pd = PdId(domain);
        self.device.has_pd(pd).then_some(pd).ok_or(Refusal::Domain)
    }

    /// Registers pages, which segments name from `address` on, with access bits as in
    /// reference/mana-hardware.md §6.5; returns the key.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::Limit`].
    pub fn register(
        &mut self,
        domain: u32,
        address: u64,
        access: u32,
        pages: BusPages,
    ) -> Result<u32, Refusal> {
        self.add_memory(domain, address, access, DmaSpace::Pages(pages))
    }

    /// Registers all of the bus, which segments name by its addresses; returns the key.
    ///
    /// # Errors
    ///
    /// [`Refusal::Domain`], [`Refusal::Limit`].
    pub fn register_all(&mut self, domain: u32) -> Result<u32, Refusal> {
        let bus = DmaSpace::Bus(WholeBus(Arc::clone(&self.memory)));
        self.add_memory(domain, 0, u32::MAX, bus)
    }

    fn add_memory(
        &mut self,
        domain: u32,
        address: u64,
        access: u32,
        space: DmaSpace,
    ) -> Result<u32, Refusal> {
        below(self.live().memory_regions, MAX_MEMORY_REGIONS)?;
        let pd = self.domain(domain)?;
        Ok(self.device.add_mr(pd, address, access, space).0)
    }

    /// Forgets registered memory; nothing happens without such a key.
    pub fn deregister(&mut self, key: u32) {
        self.device.destroy_mr(MrId(key));
    }

    /// Gives the queues of a port a domain and a doorbell page; returns the port's offset for OOBs.
    /// Queues that the port has keep what they have, and send nothing any more where it is another.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`], [`Refusal::Domain`].
    pub fn configure_sending(
        &mut self,
        port: usize,
        domain: u32,
        page: u32,
    ) -> Result<u32, Refusal> {
        self.port(port)?;
        let pd = self.domain(domain)?;
        Ok(self.device.configure_vport_tx(port, pd, page))
    }

    /// The domain that a port is configured for.
    #[must_use]
    pub fn sending_domain(&self, port: usize) -> Option<u32> {
        self.port(port).ok()?;
        Some(self.device.vport_owner(port)?.0.0)
    }

    /// Turns reception of a port on or off, or steers it elsewhere. Ids of queues that are none lead
    /// nowhere.
    ///
    /// # Errors
    ///
    /// [`Refusal::Port`].
    pub fn steer(&mut self, port: usize, steering: Option<Steering>) -> Result<(), Refusal> {
        self.port(port)?;
        self.device.configure_vport_rx(port, steering);
        Ok(())
    }

    /// The doorbell page is nobody's any more: ports that were configured for it are so no more.
    pub fn release_page(&mut self, page: u32) {
        for port in 0..self.config.ports.len() {
            if self
                .device
                .vport_owner(port)
                .is_some_and(|(_, owner)| owner == page)
            {
                self.device.release_vport_tx(port);
            }
        }
    }
}
