//! Numbers on which the front and the function behind it must agree.

/// MSI-X vectors of the function.
pub(crate) const VECTORS: u16 = 64;
/// Doorbell pages of BAR0. Page 0 is the hardware channel's.
pub(crate) const DOORBELL_PAGES: u32 = 1008;
/// What the driver sizes its table of completion queues by: ids of all of them are below.
pub(crate) const MAX_CQS: u32 = mana_model::hardware::MAX_CQ_IDS;
