//! The ledger of problems: paths that cannot be replicated now, tried again with growing delay.
//!
//! A problem on a directory stands for everything below it. At its limits the ledger keeps the problems
//! it has and counts the rest, which are found again by a rescan.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::carryover::OldProblem;
use super::{Now, Since};
use crate::tree::RelPath;

/// First delay before a problem is tried again, in milliseconds; it doubles from there.
pub const RETRY_MIN_MS: u64 = 1_000;
/// Longest delay before a problem is tried again, in milliseconds.
pub const RETRY_MAX_MS: u64 = 60_000;

/// On which side an operation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Side {
    /// Reading.
    Source,
    /// Applying.
    Sink,
}

impl Side {
    /// The word used in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Sink => "sink",
        }
    }
}

/// One path that cannot be replicated now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it failed.
    pub side: Side,
    /// What was tried.
    pub operation: String,
    /// Error number of Linux.
    pub errno: i32,
    /// When it first failed.
    pub since_ms: u64,
    /// Since when changes at or below the path may have been forgotten.
    pub open_since: Since,
    /// Something happened to what the name means, and could not be told.
    pub touched: bool,
    /// How often it was tried.
    pub tries: u32,
    /// When it is tried again.
    pub retry_ms: u64,
    /// The brake holds it back: only the operator brings it on.
    pub halted: bool,
    /// The message that was refused, or the last one sent when reading failed; only a later one
    /// clears the problem.
    pub number: u64,
}

impl Problem {
    /// When something at or below the path was first left open, by [`Now::ms`].
    #[must_use]
    pub fn open_ms(&self) -> u64 {
        match self.open_since {
            Since::Ms(ms) => ms.min(self.since_ms),
            Since::Ever | Since::Earlier(_) => self.since_ms,
        }
    }
}

/// How an operation failed.
#[derive(Debug, Clone, Copy)]
pub struct Failure<'a> {
    /// On which side.
    pub side: Side,
    /// What was tried.
    pub operation: &'a str,
    /// Error number of Linux.
    pub errno: i32,
    /// Held back by the brake.
    pub halted: bool,
    /// The message that was refused, or the last one sent when reading failed.
    pub number: u64,
    /// Since when that which could not be told may have happened.
    pub made: Since,
}

/// All problems of one sink.
#[derive(Debug)]
pub struct Ledger {
    problems: BTreeMap<RelPath, Problem>,
    problems_max: usize,
    /// Bytes of their paths.
    path_bytes: usize,
    path_bytes_max: usize,
    /// Problems that found no room: a rescan is owed for the root while there are any.
    unlisted: u64,
    /// Since when changes may have been forgotten for lack of room.
    unlisted_since: Since,
}

impl Ledger {
    /// An empty ledger for at most `problems_max` problems with at most so many bytes of paths.
    #[must_use]
    pub fn new(problems_max: usize, path_bytes_max: usize) -> Self {
        Self {
            problems: BTreeMap::new(),
            problems_max,
            path_bytes: 0,
            path_bytes_max,
            unlisted: 0,
            unlisted_since: Since::Ever,
        }
    }

    /// How many problems there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.problems.len() as u64 + self.unlisted
    }

    /// True if there is no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The problem of this very path.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Problem> {
        self.problems.get(path)
    }

    /// True if this very path has a problem.
    #[must_use]
    pub fn holds(&self, path: &RelPath) -> bool {
        self.problems.contains_key(path)
    }

    /// Removals that the brake holds back.
    #[must_use]
    pub fn halted(&self) -> u64 {
        self.problems
            .values()
            .filter(|problem| problem.halted)
            .count() as u64
    }

    /// Records that an operation failed.
    pub fn failed(&mut self, now: Now, path: RelPath, failure: Failure<'_>) {
        let Failure {
            side,
            operation,
            errno,
            halted,
            number,
            made,
        } = failure;
        let operation = operation.to_owned();
        let made = made.min(Since::Ms(now.ms));
        let touched = self.problems.get(&path).is_some_and(|known| known.touched);
        let (since_ms, open_since, tries) = match self.problems.get(&path) {
            Some(known) => {
                let tries = known.tries.saturating_add(1);
                (known.since_ms, known.open_since.min(made), tries)
            }
            None if self.is_full() => return self.leave_open(made),
            None => {
                self.path_bytes += path.len();
                (now.ms, made, 1)
            }
        };
        let retry_ms = now.ms + (RETRY_MIN_MS << (tries - 1).min(16)).min(RETRY_MAX_MS);
        let problem = Problem {
            side,
            operation,
            errno,
            since_ms,
            open_since,
            touched,
            tries,
            retry_ms,
            halted,
            number,
        };
        self.problems.insert(path, problem);
    }

    /// Takes over a problem of an earlier process. It is tried again at once.
    pub fn restore(&mut self, now: Now, old: OldProblem) {
        let failure = Failure {
            side: old.side,
            operation: &old.operation,
            errno: old.errno,
            halted: false,
            number: 0,
            made: Since::Earlier(old.until),
        };
        self.failed(now, old.path.clone(), failure);
        if let Some(problem) = self.problems.get_mut(&old.path) {
            problem.retry_ms = now.ms;
        }
    }

    /// The same for a path whose problem stands for those below it from now on.
    pub fn failed_with_all_below(&mut self, now: Now, path: RelPath, failure: Failure<'_>) {
        let made = match self.clear_below(&path) {
            Some(open_since) => open_since.min(failure.made),
            None => failure.made,
        };
        self.failed(now, path, Failure { made, ..failure });
    }

    /// What could not be told of a path with a problem has happened to what the name means.
    pub fn touch(&mut self, path: &RelPath) {
        if let Some(problem) = self.problems.get_mut(path) {
            problem.touched = true;
        }
    }

    fn is_full(&self) -> bool {
        self.problems.len() >= self.problems_max || self.path_bytes >= self.path_bytes_max
    }

    fn remove(&mut self, path: &RelPath) -> Option<Problem> {
        let problem = self.problems.remove(path)?;
        self.path_bytes -= path.len();
        Some(problem)
    }

    /// A problem finds no room.
    fn leave_open(&mut self, since: Since) {
        self.unlisted_since = match self.unlisted {
            0 => since,
            _ => self.unlisted_since.min(since),
        };
        self.unlisted += 1;
    }

    /// Something that may have happened since then is not told, as the problem of a directory above stands
    /// for it.
    pub fn leave_to_above(&mut self, path: &RelPath, since: Since) {
        let mut above = path.parent();
        while let Some(dir) = above {
            if let Some(problem) = self.problems.get_mut(&dir) {
                problem.open_since = problem.open_since.min(since);
            }
            above = dir.parent();
        }
    }

    /// A message with this number was done for the path. Returns the problem if that ended one: changes at
    /// or below the path may have been forgotten.
    pub fn clear(&mut self, path: &RelPath, number: u64) -> Option<Problem> {
        let problem = self.problems.get(path)?;
        if problem.number >= number {
            return None;
        }
        self.remove(path)
    }

    /// The problems at a path and below it, and since when changes there may have been forgotten.
    #[must_use]
    pub fn open_at_or_below(&self, top: &RelPath) -> Vec<(RelPath, Since)> {
        let problems = self.problems.range(top.clone()..);
        problems
            .take_while(|(path, _)| top.covers(path))
            .map(|(path, problem)| (path.clone(), problem.open_since))
            .collect()
    }

    /// Since when changes at this path may have been forgotten, as a directory above has a problem.
    #[must_use]
    pub fn open_above(&self, path: &RelPath) -> Option<Since> {
        let mut open: Option<Since> = None;
        let mut above = path.parent();
        while let Some(dir) = above {
            let since = self.problems.get(&dir).map(|problem| problem.open_since);
            open = open.into_iter().chain(since).min();
            above = dir.parent();
        }
        open
    }

    /// A path takes no part any more, so that nothing will ever be done for it.
    pub fn forget(&mut self, path: &RelPath) {
        self.remove(path);
    }

    /// Numbers begin anew with each session.
    pub fn renumber(&mut self) {
        for problem in self.problems.values_mut() {
            problem.number = 0;
        }
    }

    /// Problems below a path end with the path itself. Tells since when changes there may have been
    /// forgotten, if there were any.
    pub fn clear_below(&mut self, path: &RelPath) -> Option<Since> {
        let below = self.problems.extract_if(.., |at, _| path.is_above(at));
        let cleared = below.map(|(at, problem)| {
            self.path_bytes -= at.len();
            problem.open_since
        });
        cleared.min()
    }

    /// True if a directory above `path` has a problem, which stands for the path.
    #[must_use]
    pub fn stands_for(&self, path: &RelPath) -> bool {
        if self.problems.is_empty() {
            return false;
        }
        let mut above = path.parent();
        while let Some(dir) = above {
            if self.problems.contains_key(&dir) {
                return true;
            }
            above = dir.parent();
        }
        false
    }

    /// The problems whose time has come; they stay listed until they are cleared.
    pub fn due(&mut self, now: Now) -> Vec<RelPath> {
        let due = self
            .problems
            .iter_mut()
            .filter(|(_, problem)| problem.retry_ms <= now.ms && !problem.halted);
        due.map(|(path, problem)| {
            problem.retry_ms = now.ms + RETRY_MAX_MS;
            path.clone()
        })
        .collect()
    }

    /// Everything the brake held back is tried again.
    pub fn release(&mut self, now: Now) {
        for problem in self.problems.values_mut().filter(|problem| problem.halted) {
            problem.halted = false;
            problem.retry_ms = now.ms;
        }
    }

    /// Takes the count of problems that found no room: whoever asks owes a rescan for them. It tells
    /// since when changes may have been forgotten.
    pub fn take_unlisted(&mut self) -> Option<Since> {
        if self.unlisted == 0 || self.is_full() {
            return None;
        }
        self.unlisted = 0;
        Some(self.unlisted_since)
    }

    /// Since when changes may have been forgotten by problems that found no room.
    #[must_use]
    pub fn unlisted_since(&self) -> Option<Since> {
        (self.unlisted > 0).then_some(self.unlisted_since)
    }

    /// When the next problem must be tried again.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.problems
            .values()
            .filter(|problem| !problem.halted)
            .map(|problem| problem.retry_ms)
            .min()
    }

    /// The problems, by path.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Problem)> {
        self.problems.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: crate::tree::Time = crate::tree::Time { secs: 1, nanos: 0 };

    const FAILURE: Failure<'static> = Failure {
        side: Side::Sink,
        operation: "write",
        errno: 5,
        halted: false,
        number: 1,
        made: Since::Ms(u64::MAX),
    };

    fn at(ms: u64) -> Now {
        Now {
            ms,
            ..Now::default()
        }
    }

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a path")
    }

    #[test]
    fn retries_come_with_growing_delay() {
        let mut ledger = Ledger::new(10, usize::MAX);
        let mut now = 500;
        let mut delays = Vec::new();
        for _ in 0..8 {
            ledger.failed(at(now), path("a"), FAILURE);
            let due = ledger.deadline().expect("a problem is tried again");
            assert!(ledger.due(at(due - 1)).is_empty());
            assert_eq!(ledger.due(at(due)), [path("a")]);
            delays.push(due - now);
            now = due;
        }
        assert_eq!(
            delays,
            [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]
        );
        let (_, problem) = ledger.iter().next().expect("a problem");
        assert_eq!((problem.since_ms, problem.tries), (500, 8));
    }

    #[test]
    fn a_problem_above_remembers_since_when_those_below_are_open() {
        let mut ledger = Ledger::new(10, usize::MAX);
        ledger.failed(at(1), path("d/f"), FAILURE);
        ledger.failed(at(2), path("e"), FAILURE);
        ledger.failed_with_all_below(at(3), path("d"), FAILURE);
        assert_eq!(ledger.len(), 2);
        let clear = |ledger: &mut Ledger, at| {
            let problem = ledger.clear(&path(at), 2);
            problem.map(|problem| problem.open_since)
        };
        assert_eq!(ledger.clear(&path("d"), 1), None);
        ledger.leave_to_above(&path("e/g"), Since::Earlier(EARLIER));
        assert_eq!(clear(&mut ledger, "d"), Some(Since::Ms(1)));
        assert_eq!(clear(&mut ledger, "e"), Some(Since::Earlier(EARLIER)));
    }

    #[test]
    fn problems_without_room_are_told_when_there_is_room() {
        let mut ledger = Ledger::new(1, usize::MAX);
        ledger.failed(at(1), path("a"), FAILURE);
        ledger.failed(at(2), path("b"), FAILURE);
        let made = Since::Ms(1);
        ledger.failed(at(3), path("c"), Failure { made, ..FAILURE });
        assert_eq!((ledger.len(), ledger.take_unlisted()), (3, None));
        ledger.clear(&path("a"), 2);
        assert_eq!(ledger.take_unlisted(), Some(made), "the oldest change");
        assert_eq!(ledger.take_unlisted(), None);
    }

    #[test]
    fn long_paths_fill_it_sooner() {
        let mut ledger = Ledger::new(100, 10);
        for name in ["d/123456", "d/1234567", "e", "f"] {
            ledger.failed(at(1), path(name), FAILURE);
        }
        assert_eq!((ledger.iter().count(), ledger.len()), (2, 4));
        assert!(ledger.take_unlisted().is_none());
        // However problems end, their room is free again.
        ledger.clear_below(&path("d"));
        assert!(ledger.take_unlisted().is_some());
        ledger.failed(at(2), path("e"), FAILURE);
        ledger.failed(at(2), path("g"), FAILURE);
        ledger.clear(&path("e"), 2);
        ledger.forget(&path("g"));
        ledger.failed(at(3), path("1234567890"), FAILURE);
        assert_eq!((ledger.iter().count(), ledger.len()), (1, 1));
        ledger.failed(at(3), path("h"), FAILURE);
        assert_eq!((ledger.iter().count(), ledger.len()), (1, 2));
    }
}
