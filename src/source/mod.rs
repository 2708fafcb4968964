//! The source endpoint: FileEvents (`watch`), readers, DataService and FlowControl.

pub mod ahead;
mod compressing;
pub mod daemon;
mod emptied;
mod link_speed;
mod memory;
mod mounts;
pub mod reader;
mod reading;
mod scratch;
mod unheard;
pub mod watch;
