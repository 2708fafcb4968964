//! `osync sink`: the endpoint on the new host.

use std::path::PathBuf;

use super::args::{DaemonArgs, SinkArgs};
use super::console::Console;
use super::endpoints::{SinkOptions, run_sink};
use super::signals::Stop;
use crate::config::Settings;
use crate::error::Error;
use crate::supervisor::Supervisor;

const EXAMPLE: &str = "\
Example:
  osync sink /srv/pool
  osync sink /srv/pool --adopt   # it was filled by another tool before";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The directory to replicate to
    root: PathBuf,
    #[command(flatten)]
    target: SinkArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
}

impl Args {
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        self.daemon.settings_with(self.target.flags())
    }
}

pub(super) fn run(args: Args, settings: Settings, _console: &mut Console) -> Result<(), Error> {
    settings.check_connecting()?;
    settings
        .warnings()
        .for_each(|warning| tracing::warn!("{warning}"));
    let stop = Stop::on_signals()?;
    super::block_on(run_sink(SinkOptions {
        root: args.root,
        adopt: args.target.adopt,
        settings,
        stop: stop.subscribe(),
        supervisor: Supervisor::of_environment(),
    }))
}
