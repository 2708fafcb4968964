//! The source endpoint: FileEvents (`watch`), readers, DataService and FlowControl.

pub mod reader;
pub mod watch;
