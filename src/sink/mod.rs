//! The sink endpoint: DataClient and RemoteFlowControl, appliers, reconciler, durability.

pub mod applier;
mod applying;
pub mod brake;
mod connecting;
pub mod daemon;
mod durability;
mod exact;
pub mod reconciler;
