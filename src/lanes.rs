//! Work that comes in two lanes. What is live goes first, and never for long while there is a backlog, too.

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};

use crate::wire::message::Lane;

/// Pieces of live work that are taken in a row while others wait: the backlog may hold what live work waits for.
const LIVE_RUN_MAX: u32 = 16;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Turn {
    live_run: u32,
}

impl Turn {
    /// The lanes, in the order in which they are to be asked for work.
    #[must_use]
    pub fn lanes(self) -> [Lane; 2] {
        match self.live_run < LIVE_RUN_MAX {
            true => [Lane::Live, Lane::Backlog],
            false => [Lane::Backlog, Lane::Live],
        }
    }

    /// Work of this lane was taken.
    pub fn took(&mut self, lane: Lane) {
        self.live_run = match lane {
            Lane::Live => self.live_run.saturating_add(1),
            Lane::Backlog => 0,
        };
    }
}

/// Where work is put. When it is dropped, workers end after what waits.
#[derive(Debug)]
pub struct Work<T> {
    live: Sender<T>,
    backlog: Sender<T>,
}

/// Takes the work of both lanes.
#[derive(Debug)]
pub struct Worker<T> {
    live: Receiver<T>,
    backlog: Receiver<T>,
    turn: Turn,
}

/// Two empty lanes, and who takes from them. They have no limit of their own: the engines bound what is under way.
#[must_use]
pub fn lanes<T>() -> (Work<T>, Worker<T>) {
    let (live, live_work) = unbounded();
    let (backlog, backlog_work) = unbounded();
    let worker = Worker {
        live: live_work,
        backlog: backlog_work,
        turn: Turn::default(),
    };
    (Work { live, backlog }, worker)
}

impl<T> Work<T> {
    /// Adds work, never waiting. Without workers it is dropped, which whoever waits for results notices.
    pub fn put(&self, lane: Lane, work: T) {
        let sender = match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        };
        let _ = sender.send(work);
    }
}

impl<T> Worker<T> {
    /// Another worker for the same lanes.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            live: self.live.clone(),
            backlog: self.backlog.clone(),
            turn: Turn::default(),
        }
    }

    /// True if no work waits.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.live.is_empty() && self.backlog.is_empty()
    }
}

/// Waits for work, and takes that of the lane whose turn it is if there is some in both; ends with all work.
impl<T> Iterator for Worker<T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        let lanes = self.turn.lanes();
        let [first, second] = lanes.map(|lane| match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        });
        let (work, lane) = select_biased! {
            recv(first) -> work => (work.or_else(|_| second.recv()), lanes[0]),
            recv(second) -> work => (work.or_else(|_| first.recv()), lanes[1]),
        };
        self.turn.took(lane);
        work.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_work_goes_first_but_not_without_end() {
        let (work, mut worker) = lanes();
        for lane in [Lane::Backlog, Lane::Live] {
            (0..2 * LIVE_RUN_MAX).for_each(|number| work.put(lane, (lane, number)));
        }
        let mut taken = |count: u32| -> Vec<_> { worker.by_ref().take(count as usize).collect() };
        let all = |lane, numbers: std::ops::Range<u32>| -> Vec<_> {
            numbers.map(|number| (lane, number)).collect()
        };
        assert_eq!(taken(LIVE_RUN_MAX), all(Lane::Live, 0..LIVE_RUN_MAX));
        assert_eq!(taken(1), all(Lane::Backlog, 0..1));
        let rest = LIVE_RUN_MAX..2 * LIVE_RUN_MAX;
        assert_eq!(taken(LIVE_RUN_MAX), all(Lane::Live, rest));
        let rest = 1..2 * LIVE_RUN_MAX;
        assert_eq!(taken(2 * LIVE_RUN_MAX - 1), all(Lane::Backlog, rest));
    }

    #[test]
    fn what_waits_is_taken_before_the_end() {
        let (work, mut worker) = lanes();
        work.put(Lane::Backlog, 1);
        work.put(Lane::Live, 2);
        drop(work);
        assert_eq!(worker.by_ref().collect::<Vec<_>>(), [2, 1]);
        assert_eq!(worker.next(), None);
    }
}
