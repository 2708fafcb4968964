//! The wall clock as it went against the clock that never goes back.
//!
//! Files bear times of the wall clock, causes those of the engine's own clock. The wall clock may be set
//! while the process runs, or leap over the time in which the host slept. So what may have changed since
//! a cause is not found by subtracting an age from the wall clock: this remembers each step of it.

use std::collections::VecDeque;

use super::walk::Suspicion;
use super::{Now, Since};
use crate::tree::Time;

/// The wall clock has been set if it differs by more from where it was expected, in milliseconds. It stays
/// well below the margin of a suspicion.
const STEP_MS: i64 = 500;

/// Steps remembered; the oldest become one.
const STEPS_MAX: usize = 64;

/// A time in which the wall clock was not set.
#[derive(Debug, Clone, Copy)]
struct Piece {
    /// When it began at the earliest, on the engine's clock in milliseconds.
    from_ms: i64,
    /// When it ended at the latest.
    to_ms: i64,
    /// How far the wall clock was ahead of the engine's at least, in milliseconds.
    ahead: i64,
}

/// The record of one process.
#[derive(Debug, Clone)]
pub struct WallClock {
    pieces: VecDeque<Piece>,
    started: Time,
}

fn ms(time: Time) -> i64 {
    time.secs
        .saturating_mul(1000)
        .saturating_add(i64::from(time.nanos / 1_000_000))
}

fn time(ms: i64) -> Time {
    Time {
        secs: ms.div_euclid(1000),
        nanos: ms.rem_euclid(1000) as u32 * 1_000_000,
    }
}

impl WallClock {
    /// A record that begins now.
    #[must_use]
    pub fn new(now: Now) -> Self {
        let mut clock = Self {
            pieces: VecDeque::new(),
            started: now.wall,
        };
        clock.pieces.push_back(piece(now, now.ms as i64));
        clock
    }

    /// Takes down what time it is.
    pub fn saw(&mut self, now: Now) {
        let at = now.ms as i64;
        let ahead = ms(now.wall).saturating_sub(at);
        let last = self.pieces.back_mut().expect("a piece is never missing");
        // It was set at some moment since it was seen last.
        let from_ms = last.to_ms;
        last.to_ms = at;
        if (ahead - last.ahead).abs() <= STEP_MS {
            return;
        }
        self.pieces.push_back(piece(now, from_ms));
        if self.pieces.len() > STEPS_MAX {
            let oldest = self.pieces.pop_front().expect("there are many");
            let next = self.pieces.front_mut().expect("there are many");
            next.from_ms = oldest.from_ms;
            next.ahead = next.ahead.min(oldest.ahead);
        }
    }

    /// What changed since then has no earlier change time than this.
    #[must_use]
    pub fn earliest(&self, since: Since) -> Time {
        let earliest = self.earliest_here(since);
        match since {
            Since::Earlier(earlier) => earlier.min(earliest),
            Since::Ever => time(i64::MIN),
            Since::Ms(_) => earliest,
        }
    }

    /// The same, of what changed while this process runs.
    fn earliest_here(&self, since: Since) -> Time {
        let since_ms = match since {
            Since::Ever | Since::Earlier(_) => i64::MIN,
            Since::Ms(ms) => ms as i64,
        };
        let last = self.pieces.back().expect("a piece is never missing");
        let pieces = self.pieces.iter().filter(|piece| piece.to_ms >= since_ms);
        let begins = pieces.map(|piece| piece.from_ms.max(since_ms) + piece.ahead);
        time(begins.fold(last.to_ms + last.ahead, i64::min))
    }

    /// The change times of what may have changed since then.
    #[must_use]
    pub fn suspicion(&self, since: Since) -> Suspicion {
        let here = Suspicion::since(self.earliest_here(since));
        match since {
            Since::Ever => Suspicion::of_everything(),
            Since::Earlier(earlier) => here.and(Suspicion::across_processes(earlier, self.started)),
            Since::Ms(_) => here,
        }
    }
}

fn piece(now: Now, from_ms: i64) -> Piece {
    let ahead = ms(now.wall).saturating_sub(now.ms as i64);
    Piece {
        from_ms,
        to_ms: now.ms as i64,
        ahead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, secs: i64) -> Now {
        Now {
            ms,
            wall: Time { secs, nanos: 0 },
        }
    }

    fn holds(clock: &WallClock, since: Since, secs: i64) -> bool {
        clock.suspicion(since).holds(Time { secs, nanos: 0 })
    }

    #[test]
    fn a_steady_clock_is_subtracted() {
        let mut clock = WallClock::new(at(0, 1_000));
        clock.saw(at(100_000, 1_100));
        let since = Since::Ms(90_000);
        assert!(holds(&clock, since, 1_090) && holds(&clock, since, 1_100));
        assert!(!holds(&clock, since, 1_080));
        // Whatever happens to a file later moves its time on.
        assert!(holds(&clock, since, 1_110));
    }

    #[test]
    fn what_changed_before_the_clock_was_set_is_suspected() {
        for (set, after) in [(5_000, 5_010), (10, 20)] {
            let mut clock = WallClock::new(at(0, 1_000));
            clock.saw(at(100_000, 1_100));
            clock.saw(at(101_000, set));
            clock.saw(at(111_000, after));
            let since = Since::Ms(99_000);
            for changed in [1_099, 1_101, set, after] {
                assert!(holds(&clock, since, changed), "{changed}, set to {set}");
            }
            // By a clock that was set back, what changed long ago may have changed since.
            assert_eq!(holds(&clock, Since::Ms(105_000), 1_099), set < 1_099);
            assert!(holds(&clock, Since::Ms(105_000), after));
        }
    }

    #[test]
    fn many_steps_stay_within_bounds_and_are_not_forgotten() {
        let mut clock = WallClock::new(at(0, 9_000));
        for step in 1..1_000 {
            clock.saw(at(step * 1_000, 10_000 + 10 * step as i64));
        }
        assert!(clock.pieces.len() <= STEPS_MAX);
        assert!(holds(&clock, Since::Ms(0), 9_000));
        assert!(!holds(&clock, Since::Ms(990_000), 9_000));
    }

    #[test]
    fn a_start_before_the_end_of_the_last_process_suspects_everything() {
        let earlier = Since::Earlier(Time {
            secs: 900,
            nanos: 0,
        });
        let clock = WallClock::new(at(0, 1_000));
        assert!(holds(&clock, earlier, 950));
        assert!(!holds(&clock, earlier, 850));
        let clock = WallClock::new(at(0, 800));
        for changed in [5, 850, 950] {
            assert!(holds(&clock, earlier, changed));
        }
    }
}
