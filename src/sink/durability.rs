//! The thread that makes durable what was applied, and records it.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use tokio::sync::mpsc;

use super::applier::Applier;
use crate::clock::wall;
use crate::engine::sink::Standing;
use crate::error::Error;
use crate::fs::Fs;
use crate::fs::real::RealFs;
use crate::state::{SinkState, StateDir};
use crate::tree::Escaped;

/// How a sync ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Synced {
    /// Everything applied before it is durable, and recorded.
    pub(super) ok: bool,
    /// How long it took.
    pub(super) took_ms: u64,
}

struct Job {
    standing: Standing,
    tidy: bool,
}

/// The thread.
pub(super) struct Durability {
    jobs: crossbeam_channel::Sender<Job>,
    results: mpsc::UnboundedReceiver<Synced>,
    thread: JoinHandle<Recorder>,
}

/// What syncs and records.
struct Recorder {
    applier: Arc<Applier<RealFs>>,
    dir: StateDir,
    state: SinkState,
    /// The last sync has failed, and was told.
    is_failing: bool,
}

impl Durability {
    /// Starts with what is recorded now.
    pub(super) fn start(
        applier: Arc<Applier<RealFs>>,
        dir: StateDir,
        state: SinkState,
    ) -> Result<Self, Error> {
        let (jobs, to_do) = crossbeam_channel::unbounded::<Job>();
        // The engine asks for one sync at a time.
        let (done, results) = mpsc::unbounded_channel();
        let mut recorder = Recorder {
            applier,
            dir,
            state,
            is_failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("durability".into())
            .spawn(move || {
                for job in to_do {
                    if done.send(recorder.sync(job)).is_err() {
                        break;
                    }
                }
                recorder
            })
            .map_err(|error| Error::Unexpected(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            jobs,
            results,
            thread,
        })
    }

    /// Begins a sync, never waiting.
    pub(super) fn sync(&self, standing: Standing, tidy: bool) {
        // Without its thread no sync ever ends, which the loop notices.
        let _ = self.jobs.send(Job { standing, tidy });
    }

    /// How a sync ended; `None` if the thread broke down. Safe to cancel.
    pub(super) async fn synced(&mut self) -> Option<Synced> {
        self.results.recv().await
    }

    /// Records an end in order: everything is durable, and nothing is to be distrusted.
    ///
    /// # Errors
    /// If not everything is settled, so not durable, or the state cannot be written: the next start then
    /// distrusts what was written last.
    pub(super) fn close(self, is_settled: bool) -> Result<(), Error> {
        drop(self.jobs);
        let mut recorder = self
            .thread
            .join()
            .map_err(|_| Error::Unexpected("the durability thread broke down".into()))?;
        if !is_settled {
            return Err(Error::Unexpected(
                "ended before all that was applied was durable: the next start compares what was \
                 written last by its content"
                    .into(),
            ));
        }
        recorder.state.end.clean = true;
        recorder
            .dir
            .save(&recorder.state)
            .map_err(|error| Error::io("write the state in", recorder.dir.path(), error))
    }
}

impl Recorder {
    fn sync(&mut self, job: Job) -> Synced {
        let started = Instant::now();
        let ok = match self.make_durable(job) {
            Ok(()) => {
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("what was applied can be made durable again");
                }
                true
            }
            Err(error) => {
                self.state.end.sync_failed = true;
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::error!(
                        "what was applied cannot be made durable: {error}; it is tried again and again, \
                         without a session meanwhile"
                    );
                }
                false
            }
        };
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Synced { ok, took_ms }
    }

    fn make_durable(&mut self, job: Job) -> std::io::Result<()> {
        let fs = self.applier.fs();
        if job.tidy
            && let Err(error) = fs.tidy()
        {
            // It is put away another time; what matters does not lie in it.
            tracing::debug!("the stage stays for now: {error}");
        }
        let started = wall();
        let of = |what: &str, error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("{what}: {error}"))
        };
        fs.sync().map_err(|error| of("sync of the target", error))?;
        let mut state = SinkState {
            standing: job.standing,
            ..self.state.clone()
        };
        let distrusted = state.end.synced(started);
        let place = Escaped::path(self.dir.path());
        self.dir
            .save(&state)
            .map_err(|error| of(&format!("writing the state in '{place}'"), error))?;
        self.state = state;
        if let Some(times) = distrusted {
            self.applier.set_distrust(times);
        }
        Ok(())
    }
}
