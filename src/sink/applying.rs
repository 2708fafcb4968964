//! Threads that apply changes.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::applier::Applier;
use crate::error::Error;
use crate::fs::real::RealFs;
use crate::lanes::{Work, lanes};
use crate::priority::give_way;
use crate::wire::message::{Change, Lane, Outcome};

/// Outcomes that wait for the loop; appliers wait when there are more.
const OUTCOMES_MAX: usize = 1024;

/// The threads. Dropping it ends them after what they are doing.
pub(super) struct Appliers {
    changes: Work<(u64, Lane, Change)>,
    outcomes: mpsc::Receiver<(u64, Outcome)>,
}

impl Appliers {
    /// Starts so many threads, which are `nice` if they give way to whatever else the host has to do.
    pub(super) fn start(
        applier: &Arc<Applier<RealFs>>,
        threads: usize,
        nice: bool,
    ) -> Result<Self, Error> {
        // Live changes must not wait for all of the backlog that has come before (I5).
        let (changes, to_do) = lanes();
        let (results, outcomes) = mpsc::channel(OUTCOMES_MAX);
        for number in 0..threads {
            let (applier, results) = (Arc::clone(applier), results.clone());
            let to_do = to_do.another();
            std::thread::Builder::new()
                .name(format!("applier-{number}"))
                .spawn(move || {
                    if nice {
                        give_way();
                    }
                    for (number, lane, change) in to_do {
                        if results
                            .blocking_send((number, applier.apply(lane, change)))
                            .is_err()
                        {
                            return;
                        }
                    }
                })
                .map_err(|error| Error::Unexpected(format!("cannot start an applier: {error}")))?;
        }
        Ok(Self { changes, outcomes })
    }

    /// Hands out a change, never waiting.
    pub(super) fn apply(&self, number: u64, lane: Lane, change: Change) {
        self.changes.put(lane, (number, lane, change));
    }

    /// The next outcome; `None` if all appliers broke down. Safe to cancel.
    pub(super) async fn applied(&mut self) -> Option<(u64, Outcome)> {
        self.outcomes.recv().await
    }

    /// An outcome that is there already.
    pub(super) fn try_applied(&mut self) -> Option<(u64, Outcome)> {
        self.outcomes.try_recv().ok()
    }
}
