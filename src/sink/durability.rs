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
    pub(super) fn close(self) -> Result<(), Error> {
        drop(self.jobs);
        let mut recorder = self
            .thread
            .join()
            .map_err(|_| Error::Unexpected("the durability thread broke down".into()))?;
        recorder.state.clean = true;
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
            Ok(()) => true,
            Err(error) => {
                tracing::error!("what was applied cannot be made durable: {error}");
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
        let last_sync_started = wall();
        fs.sync()?;
        let state = SinkState {
            standing: job.standing,
            last_sync_started,
            clean: false,
            ..self.state.clone()
        };
        self.dir.save(&state)?;
        self.state = state;
        Ok(())
    }
}
