//! The source endpoint: FileEvents (`watch`), readers, DataService and FlowControl.

pub mod daemon;
mod emptied;
mod memory;
mod mounts;
pub mod reader;
mod reading;
mod scratch;
mod unheard;
pub mod watch;
