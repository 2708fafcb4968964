//! The sink endpoint: DataClient and RemoteFlowControl, appliers, reconciler, durability.

pub mod applier;
mod applying;
mod basis;
pub mod brake;
mod connecting;
pub mod daemon;
pub mod distrust;
mod durability;
mod exact;
mod exclusion;
pub mod reconciler;
pub mod removal;
