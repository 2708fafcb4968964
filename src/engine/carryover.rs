//! What one process of the source hands to the next about a sink (rule 21).
//!
//! The next process learns from it what it must not trust: all that changed after a moment, and what lies
//! at and below the paths that had a problem then, which are tried again at once.

use serde::{Deserialize, Serialize};

use super::Since;
use super::ledger::{Ledger, Side};
use super::wall::WallClock;
use crate::tree::{RelPath, Time};

/// Problems remembered. Further ones are told by an earlier [`Carryover::durable_until`], which costs content.
pub const PROBLEMS_MAX: usize = 1024;
/// The same in bytes of their paths.
pub const PATH_BYTES_MAX: usize = 256 << 10;

/// What a sink has for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carryover {
    /// Every change before this time of the wall clock is durable, but for the problems.
    pub durable_until: Time,
    /// The problems, by path.
    #[serde(default)]
    pub problems: Vec<OldProblem>,
}

/// A path that could not be replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldProblem {
    /// The path.
    #[serde(with = "exact")]
    pub path: RelPath,
    /// Where it failed.
    pub side: Side,
    /// What was tried.
    pub operation: String,
    /// Error number of Linux.
    pub errno: i32,
    /// Changes at and below the path before this time are durable.
    pub until: Time,
}

impl Carryover {
    /// What a sink has been told of every change but those since `open`, and those in its ledger.
    #[must_use]
    pub fn new(open: Since, ledger: &Ledger, wall: &WallClock) -> Self {
        let mut open = ledger
            .unlisted_since()
            .map_or(open, |since| since.min(open));
        let mut problems = Vec::new();
        let mut path_bytes = 0;
        for (path, problem) in ledger.iter() {
            path_bytes += path.len();
            if problems.len() >= PROBLEMS_MAX || path_bytes > PATH_BYTES_MAX {
                open = open.min(problem.open_since);
                continue;
            }
            problems.push(OldProblem {
                path: path.clone(),
                side: problem.side,
                operation: problem.operation.clone(),
                errno: problem.errno,
                until: wall.earliest(problem.open_since),
            });
        }
        Self {
            durable_until: wall.earliest(open),
            problems,
        }
    }

    /// What an earlier process has left is to outlive this one too.
    pub fn keep(&mut self, left: &Self) {
        self.durable_until = self.durable_until.min(left.durable_until);
        for old in &left.problems {
            let known = self.problems.iter().position(|new| new.path == old.path);
            match known {
                Some(at) => self.problems[at].until = self.problems[at].until.min(old.until),
                None if self.problems.len() < PROBLEMS_MAX => self.problems.push(old.clone()),
                None => self.durable_until = self.durable_until.min(old.until),
            }
        }
    }

    /// The same with every time earlier by so many seconds.
    #[must_use]
    pub fn minus_secs(mut self, secs: i64) -> Self {
        self.durable_until = self.durable_until.minus_secs(secs);
        for problem in &mut self.problems {
            problem.until = problem.until.minus_secs(secs);
        }
        self
    }
}

/// A path in text formats: its bytes, as not every path is text.
mod exact {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::tree::RelPath;

    pub fn serialize<S: Serializer>(path: &RelPath, serializer: S) -> Result<S::Ok, S::Error> {
        path.as_bytes().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RelPath, D::Error> {
        let bytes = Vec::<u8>::deserialize(deserializer)?;
        RelPath::new(&bytes).map_err(Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::Now;
    use crate::engine::ledger::Failure;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    fn now(ms: u64) -> Now {
        Now {
            ms,
            wall: at(1_000 + ms as i64 / 1_000),
        }
    }

    fn ledger(problems: usize) -> Ledger {
        let mut ledger = Ledger::new(2 * PROBLEMS_MAX, usize::MAX);
        for number in 0..problems {
            let failure = Failure {
                side: Side::Sink,
                operation: "write",
                errno: 5,
                halted: false,
                number: 1,
                made: Since::Ms(10_000 + 1_000 * number as u64),
            };
            let path = RelPath::new(format!("{number:05}\n").as_bytes()).unwrap();
            ledger.failed(now(9_000_000), path, failure);
        }
        ledger
    }

    fn wall() -> WallClock {
        let mut wall = WallClock::new(now(0));
        wall.saw(now(9_000_000));
        wall
    }

    #[test]
    fn a_problem_is_open_since_longer_than_the_rest() {
        let left = Carryover::new(Since::Ms(60_000), &ledger(2), &wall());
        assert_eq!(left.durable_until, at(1_060));
        let until: Vec<_> = left.problems.iter().map(|problem| problem.until).collect();
        assert_eq!(until, [at(1_010), at(1_011)]);
        assert_eq!(left.minus_secs(10).problems[1].until, at(1_001));
    }

    #[test]
    fn problems_beyond_the_limit_make_everything_older() {
        let left = Carryover::new(Since::Ms(8_000_000), &ledger(PROBLEMS_MAX + 1), &wall());
        assert_eq!(left.problems.len(), PROBLEMS_MAX);
        assert_eq!(left.durable_until, at(1_010 + PROBLEMS_MAX as i64));
    }

    #[test]
    fn what_an_earlier_process_left_is_kept() {
        let mut left = Carryover::new(Since::Ms(60_000), &ledger(2), &wall());
        let mut earlier = Carryover::new(Since::Ms(40_000), &ledger(PROBLEMS_MAX), &wall());
        for problem in &mut earlier.problems {
            problem.until = at(5);
        }
        left.keep(&earlier);
        assert_eq!(left.durable_until, at(1_040));
        assert_eq!(left.problems, earlier.problems);
        left.problems[0].path = RelPath::new(b"other").unwrap();
        left.keep(&earlier);
        assert_eq!(
            (left.problems.len(), left.durable_until),
            (PROBLEMS_MAX, at(5))
        );
    }

    #[test]
    fn comes_back_from_text_as_it_was() {
        let left = Carryover::new(Since::Ms(60_000), &ledger(2), &wall());
        let text = serde_json::to_string(&left).unwrap();
        assert_eq!(serde_json::from_str::<Carryover>(&text).unwrap(), left);
    }
}
