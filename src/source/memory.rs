//! What the source writes into its state directory while it runs: until when each sink has everything.
//!
//! Whatever changed later may be unknown to the next process, which then compares content too.

use std::collections::BTreeMap;

use crate::engine::carryover::Carryover;
use crate::error::Error;
use crate::report::{SinkStatus, Status};
use crate::state::{SourceState, StateDir};

/// How far the time of a change and the moment at which it was heard of may lie apart, in seconds.
const MARGIN_SECS: i64 = 2;

/// Sinks remembered; those not heard of for longest are forgotten, which costs a comparison.
const SINKS_MAX: usize = 256;

/// The state of a source, and the thread that writes it: a disk under load must not hold up events.
pub(super) struct Memory {
    state: SourceState,
    saved: SourceState,
    writer: Writer,
}

impl Memory {
    /// Remembers `state` from now on.
    pub(super) fn new(dir: StateDir, state: SourceState) -> Result<Self, Error> {
        dir.save(&state)
            .map_err(|error| Error::io("write the state in", dir.path(), error))?;
        Ok(Self {
            saved: state.clone(),
            state,
            writer: Writer::start(dir)?,
        })
    }

    /// What the process before has left, by sink id.
    pub(super) fn carryover(state: &SourceState) -> BTreeMap<String, Carryover> {
        let sinks = state.carryover.iter();
        sinks
            .map(|(sink, left)| (sink.clone(), left.clone().minus_secs(MARGIN_SECS)))
            .collect()
    }

    /// Takes in where the sinks stand, and has it written if that is news. To be called about once a
    /// second, whenever a sink may have come, and at the end.
    pub(super) fn note(&mut self, status: &Status, carryover: BTreeMap<String, Carryover>) {
        self.state.carryover.extend(carryover);
        forget_oldest(&mut self.state.carryover);
        // What was told of late must not be told again, should this process be killed.
        let settled = |sink: &SinkStatus| sink.lag_ms.is_none() && sink.rate.entries == 0.0;
        let settled = status.sinks.iter().all(settled);
        // A quiet source need not write that it is still quiet.
        let news = self.state != self.saved && !(settled && self.quiet());
        if news && self.writer.write(&self.state) {
            self.saved = self.state.clone();
        }
    }

    /// True if what is saved says of each sink that everything was durable not long ago. A clock that was
    /// set back makes it later than what is known now, which would hide what changes from now on.
    fn quiet(&self) -> bool {
        const QUIET_SECS: i64 = 60;
        self.state.carryover.iter().all(|(sink, left)| {
            self.saved.carryover.get(sink).is_some_and(|saved| {
                left.durable_until.minus_secs(QUIET_SECS) < saved.durable_until
                    && saved.durable_until <= left.durable_until
                    && saved.problems == left.problems
            })
        })
    }

    /// Writes what is known at the end.
    pub(super) fn close(self) {
        self.writer.finish(self.state);
    }
}

/// Keeps to the number of sinks that are remembered.
fn forget_oldest(carryover: &mut BTreeMap<String, Carryover>) {
    while carryover.len() > SINKS_MAX {
        let oldest = carryover.iter().min_by_key(|(_, left)| left.durable_until);
        let Some(sink) = oldest.map(|(sink, _)| sink.clone()) else {
            break;
        };
        carryover.remove(&sink);
    }
}

/// The thread that writes.
struct Writer {
    states: crossbeam_channel::Sender<SourceState>,
    thread: std::thread::JoinHandle<()>,
}

impl Writer {
    fn start(dir: StateDir) -> Result<Self, Error> {
        let (states, to_write) = crossbeam_channel::bounded::<SourceState>(1);
        let thread = std::thread::Builder::new()
            .name("state".into())
            .spawn(move || {
                for state in to_write {
                    if let Err(error) = dir.save(&state) {
                        let path = crate::tree::Escaped::path(dir.path());
                        tracing::warn!("the state in '{path}' cannot be written: {error}");
                    }
                }
            })
            .map_err(|error| Error::Unexpected(format!("cannot start a thread: {error}")))?;
        Ok(Self { states, thread })
    }

    /// Has a state written, unless an older one is still being written.
    fn write(&self, state: &SourceState) -> bool {
        self.states.try_send(state.clone()).is_ok()
    }

    fn finish(self, state: SourceState) {
        // Both fail only if the thread broke down, which it has said itself.
        let _ = self.states.send(state);
        drop(self.states);
        let _ = self.thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Time;

    fn left(secs: i64) -> Carryover {
        Carryover {
            durable_until: Time { secs, nanos: 0 },
            problems: Vec::new(),
        }
    }

    #[test]
    fn forgets_the_sinks_that_were_not_heard_of_for_longest() {
        let most = SINKS_MAX as i64;
        let sinks = |range: std::ops::Range<i64>| -> BTreeMap<String, Carryover> {
            range
                .map(|number| (format!("sink {number:04}"), left(number)))
                .collect()
        };
        let mut known = sinks(0..most);
        forget_oldest(&mut known);
        assert_eq!(known, sinks(0..most));
        known.extend(sinks(most..most + 2));
        forget_oldest(&mut known);
        assert_eq!(known, sinks(2..most + 2));
    }
}
