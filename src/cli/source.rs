//! `osync source`: the endpoint on the host that is being left.

use std::path::PathBuf;

use super::args::{DaemonArgs, SourceArgs};
use super::console::Console;
use super::endpoints::{Listening, SourceOptions, run_source};
use super::signals::Stop;
use crate::config::Settings;
use crate::error::Error;
use crate::supervisor::Supervisor;

const EXAMPLE: &str = "\
Example:
  osync source /srv/pool
  ssh -N -R 7440:127.0.0.1:7440 -R 7441:127.0.0.1:7441 newhost   # the way for the sink there";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The directory to replicate
    root: PathBuf,
    #[command(flatten)]
    pub(super) daemon: DaemonArgs,
    #[command(flatten)]
    watching: SourceArgs,
}

impl Args {
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        self.watching.settings(&self.daemon, Vec::new())
    }
}

pub(super) fn run(args: Args, settings: Settings, console: &mut Console) -> Result<(), Error> {
    settings.check_listening()?;
    settings
        .warnings()
        .for_each(|warning| tracing::warn!("{warning}"));
    let stop = Stop::on_signals()?;
    let (listening, mut heard) = tokio::sync::oneshot::channel();
    let options = SourceOptions {
        root: args.root,
        settings,
        on_listening: Box::new(move |at| {
            // The receiver goes only when the endpoint has ended.
            let _ = listening.send(at);
        }),
        stop: stop.subscribe(),
        supervisor: Supervisor::of_environment(),
    };
    super::block_on(async {
        let mut endpoint = std::pin::pin!(run_source(options));
        tokio::select! {
            ended = &mut endpoint => return ended,
            Ok(at) = &mut heard => console.print(&announcement(&at))?,
        }
        endpoint.await
    })
}

/// The lines that say how to reach a source, each a word and an address.
pub(super) fn announcement(Listening { command, data }: &Listening) -> String {
    format!("command {command}\ndata {data}\n")
}
