//! Numbers on which the front and the function behind it must agree.

/// MSI-X vectors of the function.
pub(crate) const VECTORS: u16 = 64;
/// Doorbell pages of BAR0. Page 0 is the hardware channel's.
pub(crate) const DOORBELL_PAGES: u32 = 1008;
/// Bytes of a doorbell page.
pub(crate) const DOORBELL_PAGE: u32 = 4096;
/// What the driver sizes its table of completion queues by: ids of all of them are below.
pub(crate) const MAX_CQS: u32 = mana_model::hardware::MAX_CQ_IDS;

/// What belongs to the hardware channel. Queues of the function have other ids.
pub(crate) mod channel {
    pub(crate) const EQ: u32 = 0;
    pub(crate) const CQ: u32 = 0;
    pub(crate) const RQ: u32 = 0;
    pub(crate) const SQ: u32 = 0;
    pub(crate) const PD: u32 = 0;
    pub(crate) const DOORBELL_PAGE: u32 = 0;
    /// By which requests and answers name addresses of the bus.
    pub(crate) const KEY: u32 = 1;
}
