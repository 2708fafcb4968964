//! `osync push`: both ends in one command.

use std::ffi::{OsStr, OsString};
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::args::{DaemonArgs, SinkArgs, SourceArgs};
use super::connect::connect;
use super::console::Console;
use super::endpoints::{Listening, SourceOptions, Target, run_sink_on, run_source};
use super::flush::verdict;
use super::render;
use super::signals::Stop;
use super::source::announcement;
use crate::config::{Address, Settings};
use crate::error::Error;
use crate::root::{self, Use};
use crate::supervisor::Supervisor;
use crate::tree::Escaped;
use crate::wire::message::{Reply, Request};

const EXAMPLE: &str = "\
Example:
  osync push /srv/pool /mnt/new            # stays live until interrupted
  osync push /srv/pool /mnt/new --once     # ends when both are equal";

/// How often progress is shown on a terminal.
const PROGRESS_TERMINAL: Duration = Duration::from_millis(500);

/// How often progress is shown elsewhere.
const PROGRESS_PLAIN: Duration = Duration::from_secs(5);

/// How long one question whether both ends are equal may take; it is asked again afterwards.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Least time between two such questions.
const FLUSH_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct Args {
    /// The directory to replicate
    src: PathBuf,
    /// The directory to replicate to, or [user@]host:path
    dst: OsString,
    /// End as soon as DST equals SRC
    #[arg(long)]
    once: bool,
    #[command(flatten)]
    target: SinkArgs,
    #[command(flatten)]
    daemon: DaemonArgs,
    #[command(flatten)]
    watching: SourceArgs,
}

impl Args {
    /// As for the endpoints, but on any free ports unless ports are given: several may run beside
    /// each other, and beside a source.
    pub(super) fn settings(&self) -> Result<Settings, Error> {
        let mut settings = self.watching.settings(&self.daemon, self.target.flags())?;
        let default = Settings::default();
        if self.daemon.command.is_none() && settings.command == default.command {
            settings.command = default.command.with_port(0);
        }
        if self.daemon.data.is_none() && settings.data == default.data {
            settings.data = default.data.with_port(0);
        }
        Ok(settings)
    }
}

pub(super) fn run(args: Args, settings: Settings, console: &mut Console) -> Result<(), Error> {
    let target = local_target(&args.dst)?;
    settings.check_listening()?;
    settings
        .warnings()
        .for_each(|warning| tracing::warn!("{warning}"));
    // Both ends are known to be usable before either does anything.
    root::check(&args.src, Use::Source, &settings.state_dir()?)?;
    root::apart(&args.src, &target)?;
    let target = Target::open(&target, args.target.adopt, &settings)?;
    let stop = Stop::on_signals()?;
    let (listening, heard) = oneshot::channel();
    let source = Endpoint::start(
        "source",
        run_source,
        SourceOptions {
            root: args.src,
            settings: settings.clone(),
            on_listening: Box::new(move |at| {
                // The receiver goes only when this command ends.
                let _ = listening.send(at);
            }),
            stop: stop.subscribe(),
            supervisor: Supervisor::none(),
        },
    )?;
    super::block_on(async {
        let Ok(listening) = heard.await else {
            return source.ended().await;
        };
        console.print(&announcement(&listening))?;
        let Listening { command, data } = listening;
        let settings = Settings {
            command: command.clone(),
            data,
            ..settings
        };
        // A signal ends the source, which ends the sink once that has everything.
        let (sink_stop, sink_stops) = watch::channel(false);
        let sink = Endpoint::start(
            "sink",
            |(target, settings, stop)| run_sink_on(target, settings, stop, Supervisor::none()),
            (target, settings, sink_stops),
        )?;
        let push = Push {
            command,
            once: args.once,
            stop,
            sink_stop,
        };
        push.attend(source, sink, console).await
    })
}

/// The target as a directory of this host.
fn local_target(dst: &OsStr) -> Result<PathBuf, Error> {
    let bytes = dst.as_bytes();
    let before_slash = bytes.split(|&byte| byte == b'/').next().unwrap_or_default();
    if before_slash.contains(&b':') {
        return Err(Error::Usage(format!(
            "'{}' names another host: over ssh comes later; run 'osync sink' there and forward its \
             two ports (a directory with a colon is written ./{})",
            Escaped(bytes),
            Escaped(bytes)
        )));
    }
    Ok(PathBuf::from(dst))
}

/// An endpoint on a thread of its own, so that both are busy at the same time.
struct Endpoint {
    name: &'static str,
    result: oneshot::Receiver<Result<(), Error>>,
}

impl Endpoint {
    fn start<O, F>(name: &'static str, run: fn(O) -> F, options: O) -> Result<Self, Error>
    where
        O: Send + 'static,
        F: Future<Output = Result<(), Error>> + 'static,
    {
        let (ended, result) = oneshot::channel();
        std::thread::Builder::new()
            .name(name.into())
            .spawn(move || {
                // The receiver goes only when this command ends.
                let _ = ended.send(super::block_on(run(options)));
            })
            .map_err(|error| Error::Unexpected(format!("cannot start the {name}: {error}")))?;
        Ok(Self { name, result })
    }

    async fn ended(self) -> Result<(), Error> {
        self.result
            .await
            .unwrap_or_else(|_| Err(Error::Unexpected(format!("the {} broke down", self.name))))
    }
}

/// Both ends while they run.
struct Push {
    command: Address,
    once: bool,
    /// Ends the source.
    stop: Stop,
    /// Ends the sink, if the source could not.
    sink_stop: watch::Sender<bool>,
}

impl Push {
    /// Shows progress until an end has come, then ends both.
    async fn attend(
        self,
        source: Endpoint,
        sink: Endpoint,
        console: &mut Console,
    ) -> Result<(), Error> {
        let mut source = std::pin::pin!(source.ended());
        let mut sink = std::pin::pin!(sink.ended());
        tokio::select! {
            ended = &mut source => {
                console.end_progress();
                self.sink_stop.send_replace(true);
                ended.and(sink.await)
            }
            ended = &mut sink => {
                console.end_progress();
                self.stop.tell();
                ended.and(source.await)
            }
            equal = self.until_equal(), if self.once => {
                console.end_progress();
                self.stop.tell();
                let ended = source.await;
                self.sink_stop.send_replace(true);
                equal.and(ended).and(sink.await)
            }
            never = self.show_progress(console) => match never {},
        }
    }

    /// Returns once the target equals the source.
    async fn until_equal(&self) -> Result<(), Error> {
        let mut operator = connect(&self.command).await?;
        loop {
            let result = operator.flush(FLUSH_TIMEOUT).await?;
            if result.complete {
                operator.close().await;
                return verdict(&result);
            }
            if let Reply::Status(status) = operator.ask(Request::Status).await?
                && let Some(why) = status.halted
            {
                // Nobody is there who could agree.
                return Err(Error::Unfinished {
                    waiting_for: format!("the source has halted, since {why}"),
                });
            }
            tokio::time::sleep(FLUSH_PAUSE).await;
        }
    }

    async fn show_progress(&self, console: &mut Console) -> std::convert::Infallible {
        let every = if console.is_terminal {
            PROGRESS_TERMINAL
        } else {
            PROGRESS_PLAIN
        };
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Nothing is known at the first tick, which comes at once.
        ticks.tick().await;
        loop {
            // What ends the endpoints is reported by them; progress only tries again.
            if let Ok(mut operator) = connect(&self.command).await {
                while let Ok(Reply::Status(status)) = operator.ask(Request::Status).await {
                    console.show_progress(&render::progress(&status));
                    ticks.tick().await;
                }
            }
            ticks.tick().await;
        }
    }
}

#[cfg(test)]
mod tests;
