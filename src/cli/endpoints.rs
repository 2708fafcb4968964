//! The way from the command line into the endpoints.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::config::{Address, Settings};
use crate::error::Error;

/// Where a source listens, with the ports that it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listening {
    /// Command channel.
    pub command: Address,
    /// Data channel.
    pub data: Address,
}

/// What a source endpoint is told.
pub struct SourceOptions {
    /// The directory to replicate.
    pub root: PathBuf,
    /// Every setting.
    pub settings: Settings,
    /// Called once, when both channels listen and the root is open.
    pub on_listening: Box<dyn FnOnce(Listening) + Send>,
    /// Turns true when the endpoint must terminate in order.
    pub stop: watch::Receiver<bool>,
}

/// What a sink endpoint is told.
pub struct SinkOptions {
    /// The directory to replicate to.
    pub root: PathBuf,
    /// True if a target that osync does not know may hold entries already.
    pub adopt: bool,
    /// Every setting.
    pub settings: Settings,
    /// Turns true when the endpoint must terminate in order.
    pub stop: watch::Receiver<bool>,
}

/// Runs a source endpoint until it is told to stop or cannot go on.
pub(super) async fn run_source(_options: SourceOptions) -> Result<(), Error> {
    Err(Error::Unexpected(
        "the source endpoint is not connected yet".into(),
    ))
}

/// Runs a sink endpoint until it is told to stop, its source has terminated, or it cannot go on.
pub(super) async fn run_sink(_options: SinkOptions) -> Result<(), Error> {
    Err(Error::Unexpected(
        "the sink endpoint is not connected yet".into(),
    ))
}
