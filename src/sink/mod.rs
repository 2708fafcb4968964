//! The sink endpoint: DataClient and RemoteFlowControl, appliers, reconciler, durability.

pub mod applier;
pub mod brake;
pub mod reconciler;
