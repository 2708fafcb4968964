//! Work for threads that comes in two lanes: who takes it prefers one of them.

use crossbeam_channel::{Receiver, Sender, select_biased, unbounded};

use crate::wire::message::Lane;

/// Where work is put. Clones share it; when the last one is dropped, workers end after what waits.
#[derive(Debug, Clone)]
pub struct Work<T> {
    live: Sender<T>,
    backlog: Sender<T>,
}

/// Takes the work of both lanes.
#[derive(Debug)]
pub struct Worker<T> {
    first: Receiver<T>,
    second: Receiver<T>,
}

/// Two empty lanes, and who takes from the live one first. They have no limit of their own: the engines
/// bound what is under way.
#[must_use]
pub fn lanes<T>() -> (Work<T>, Worker<T>) {
    let (live, first) = unbounded();
    let (backlog, second) = unbounded();
    (Work { live, backlog }, Worker { first, second })
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
    /// Another worker, with the same preference.
    #[must_use]
    pub fn another(&self) -> Self {
        Self {
            first: self.first.clone(),
            second: self.second.clone(),
        }
    }

    /// The same with the other preference.
    #[must_use]
    pub fn other_first(self) -> Self {
        Self {
            first: self.second,
            second: self.first,
        }
    }

    /// Waits for work, and takes that of the preferred lane if there is some in both; `None` when it has ended.
    pub fn next(&self) -> Option<T> {
        select_biased! {
            recv(self.first) -> work => work.ok().or_else(|| self.second.recv().ok()),
            recv(self.second) -> work => work.ok().or_else(|| self.first.recv().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_last_goes_first_if_its_lane_does() {
        let (work, live_first) = lanes();
        let backlog_first = live_first.another().other_first();
        for (lane, number) in [(Lane::Backlog, 1), (Lane::Backlog, 2), (Lane::Live, 3)] {
            work.put(lane, number);
        }
        assert_eq!(backlog_first.next(), Some(1));
        assert_eq!(live_first.next(), Some(3));
        assert_eq!(live_first.next(), Some(2));
    }

    #[test]
    fn what_waits_is_taken_before_the_end() {
        let (work, worker) = lanes();
        work.put(Lane::Backlog, 1);
        work.put(Lane::Live, 2);
        drop(work);
        assert_eq!([worker.next(), worker.next()], [Some(2), Some(1)]);
        assert_eq!(worker.next(), None);
    }
}
