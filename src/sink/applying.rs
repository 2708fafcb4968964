//! Threads that apply changes.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};
use tokio::sync::mpsc;

use super::applier::Applier;
use crate::error::Error;
use crate::fs::real::RealFs;
use crate::priority::give_way;
use crate::wire::message::{Change, Lane, Outcome};

/// Outcomes that wait for the loop; appliers wait when there are more.
const OUTCOMES_MAX: usize = 1024;

/// A change, with its number.
type Work = (u64, Lane, Change);

/// The threads. Dropping it ends them after what they are doing.
pub(super) struct Appliers {
    live: Sender<Work>,
    backlog: Sender<Work>,
    outcomes: mpsc::Receiver<(u64, Outcome)>,
}

impl Appliers {
    /// Starts so many threads, which are `nice` if they give way to whatever else the host has to do.
    pub(super) fn start(
        applier: &Arc<Applier<RealFs>>,
        threads: usize,
        nice: bool,
    ) -> Result<Self, Error> {
        // The engine bounds what is under way, so this never grows beyond that.
        let (live, live_to_do) = unbounded();
        let (backlog, backlog_to_do) = unbounded();
        let (results, outcomes) = mpsc::channel(OUTCOMES_MAX);
        for number in 0..threads {
            let (applier, results) = (Arc::clone(applier), results.clone());
            // Live changes must not wait for all of the backlog that has come before (I5), nor the backlog
            // for live changes without end; one applier alone prefers what is live.
            let (first, second) = match number % 2 {
                0 => (live_to_do.clone(), backlog_to_do.clone()),
                _ => (backlog_to_do.clone(), live_to_do.clone()),
            };
            std::thread::Builder::new()
                .name(format!("applier-{number}"))
                .spawn(move || {
                    if nice {
                        give_way();
                    }
                    while let Some((number, lane, change)) = next(&first, &second) {
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
        Ok(Self {
            live,
            backlog,
            outcomes,
        })
    }

    /// Hands out a change, never waiting.
    pub(super) fn apply(&self, number: u64, lane: Lane, change: Change) {
        let changes = match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        };
        // Without appliers nothing is ever applied, which the loop notices.
        let _ = changes.send((number, lane, change));
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

/// Waits for a change, and takes that of the first queue if there are several; `None` when they have ended.
fn next(first: &Receiver<Work>, second: &Receiver<Work>) -> Option<Work> {
    select_biased! {
        recv(first) -> work => work.ok(),
        recv(second) -> work => work.ok(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_goes_first_if_its_queue_does() {
        let (live, live_to_do) = unbounded();
        let (backlog, backlog_to_do) = unbounded();
        let change = || Change::Abandon { stream: 1 };
        backlog.send((1, Lane::Backlog, change())).unwrap();
        backlog.send((2, Lane::Backlog, change())).unwrap();
        live.send((3, Lane::Live, change())).unwrap();
        let number = |first, second| next(first, second).map(|(number, ..)| number);
        assert_eq!(number(&backlog_to_do, &live_to_do), Some(1));
        assert_eq!(number(&live_to_do, &backlog_to_do), Some(3));
        assert_eq!(number(&live_to_do, &backlog_to_do), Some(2));
        drop((live, backlog));
        assert_eq!(number(&live_to_do, &backlog_to_do), None);
    }
}
