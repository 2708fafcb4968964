//! Which files of the target a power cut may have emptied (rule 22).
//!
//! A file that was written and not synced keeps its size and times when power fails, and not its content.
//! Only its change time tells when it was written, by a clock that may have been set. So two moments are
//! remembered: when the last sync began, and the latest that the clock ever showed. Where they contradict
//! the clock of the next start, more is distrusted rather than less.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::engine::walk::Suspicion;
use crate::fs::Stat;
use crate::tree::{Kind, Time};

/// Files that this process wrote and that look distrusted all the same are remembered by inode, so many
/// of them. Further ones cost content where a link or metadata alone would do.
pub const WRITTEN_MAX: usize = 65_536;

/// How far the time of a change and the moment of a sync may lie apart, in seconds.
const MARGIN_SECS: i64 = 2;

/// How the last process ended, and what its clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastEnd {
    /// It ended in order, with everything durable.
    pub clean: bool,
    /// When the last sync that succeeded was started, or osync came to know the target.
    pub last_sync_started: Time,
    /// The latest time that the clock showed at a sync.
    #[serde(default)]
    pub clock_max: Time,
}

impl LastEnd {
    /// Of a target that osync has just come to know: nothing in it was written by osync.
    #[must_use]
    pub fn unknown(now: Time) -> Self {
        Self {
            clean: true,
            last_sync_started: now,
            clock_max: now,
        }
    }

    /// A process starts: what it has to distrust. Until its end in order, it leaves a target to be
    /// distrusted itself.
    pub fn start(&mut self, now: Time) -> Option<Suspicion> {
        if self.clean {
            *self = Self::unknown(now);
            self.clean = false;
            return None;
        }
        self.clock_max = self.clock_max.max(now);
        let window = between(self.last_sync_started, now, self.clock_max);
        self.last_sync_started = self.last_sync_started.min(now);
        Some(window)
    }

    /// A sync that began then has succeeded.
    pub fn synced(&mut self, started: Time) {
        self.last_sync_started = started;
        self.clock_max = self.clock_max.max(started);
    }
}

/// Suspicion of what changed after a sync and before the start of this process. If the clock stands before
/// the sync, nobody knows how early a change may seem to be; and none is later than the clock ever was.
fn between(sync: Time, start: Time, clock_max: Time) -> Suspicion {
    let within = Suspicion {
        since: sync.minus_secs(MARGIN_SECS),
        until: clock_max.max(start).minus_secs(-MARGIN_SECS),
    };
    match start < within.since {
        true => Suspicion::of_everything(),
        false => within,
    }
}

/// What a process distrusts.
#[derive(Debug)]
pub struct Distrust {
    window: Suspicion,
    written: Mutex<Written>,
}

/// Inodes that this process wrote, the oldest first.
#[derive(Debug, Default)]
struct Written {
    known: HashSet<(u64, u64)>,
    order: VecDeque<(u64, u64)>,
}

impl Distrust {
    /// Distrusts what changed within this time.
    #[must_use]
    pub fn new(window: Suspicion) -> Self {
        Self {
            window,
            written: Mutex::default(),
        }
    }

    /// True if a power cut may have taken the content.
    #[must_use]
    pub fn holds(&self, stat: &Stat) -> bool {
        self.window.holds(stat.ctime) && !self.lock().known.contains(&(stat.dev, stat.ino))
    }

    /// Tells that this process has brought an entry to its state. Its change time looks distrusted only if
    /// the clock was set back.
    pub fn wrote(&self, stat: &Stat) {
        if stat.kind == Kind::Dir || !self.window.holds(stat.ctime) {
            return;
        }
        let inode = (stat.dev, stat.ino);
        let mut written = self.lock();
        if written.known.insert(inode) {
            written.order.push_back(inode);
        }
        if written.order.len() > WRITTEN_MAX
            && let Some(oldest) = written.order.pop_front()
        {
            written.known.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        // A panic between its two statements forgets an inode, which costs content.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Time {
        Time { secs, nanos: 0 }
    }

    /// A process that began at 900, synced at `synced` and died.
    fn died(synced: i64, clock_max: i64) -> LastEnd {
        let mut end = LastEnd::unknown(at(900));
        assert_eq!(end.start(at(900)), None);
        end.synced(at(clock_max));
        end.synced(at(synced));
        end
    }

    #[test]
    fn what_changed_after_the_last_sync_is_distrusted() {
        let window = died(1000, 1000).start(at(1100)).unwrap();
        for changed in [999, 1000, 1050, 1100] {
            assert!(window.holds(at(changed)), "{changed}");
        }
        assert!(!window.holds(at(990)) && !window.holds(at(1110)));
    }

    #[test]
    fn a_clock_before_the_last_sync_distrusts_everything() {
        let window = died(1000, 1000).start(at(500)).unwrap();
        for changed in [10, 500, 1000, 2000] {
            assert!(window.holds(at(changed)), "{changed}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_once_distrusts_what_changed_then() {
        let window = died(1000, 5000).start(at(1100)).unwrap();
        assert!(window.holds(at(5000)) && window.holds(at(3000)));
        assert!(!window.holds(at(990)));
    }

    #[test]
    fn a_second_crash_before_any_sync_forgets_nothing() {
        let mut end = died(1000, 1000);
        end.start(at(1100)).unwrap();
        let window = end.start(at(1200)).unwrap();
        assert!(window.holds(at(1001)) && window.holds(at(1150)));
    }

    #[test]
    fn an_end_in_order_leaves_nothing_to_distrust() {
        let mut end = died(1000, 5000);
        end.clean = true;
        assert_eq!(end.start(at(1100)), None);
        let window = end.start(at(1200)).unwrap();
        assert!(window.holds(at(1150)) && !window.holds(at(1050)) && !window.holds(at(4000)));
    }

    fn file(ino: u64, ctime: i64) -> Stat {
        let fs = crate::fs::memory::MemoryFs::default();
        let disk = fs.disk();
        let root = disk.stat(disk.root()).unwrap();
        Stat {
            ino,
            kind: Kind::File,
            ctime: at(ctime),
            ..root
        }
    }

    #[test]
    fn what_this_process_wrote_is_trusted_up_to_the_limit() {
        let distrust = Distrust::new(Suspicion::new(at(1000), at(1100)));
        assert!(distrust.holds(&file(1, 1050)) && !distrust.holds(&file(1, 2000)));
        distrust.wrote(&file(1, 1050));
        assert!(!distrust.holds(&file(1, 1050)) && distrust.holds(&file(2, 1050)));
        for ino in 2..=WRITTEN_MAX as u64 + 1 {
            distrust.wrote(&file(ino, 1050));
        }
        assert!(distrust.holds(&file(1, 1050)), "the oldest is forgotten");
        assert!(!distrust.holds(&file(2, 1050)));
        let written = distrust.lock();
        assert_eq!(written.known.len(), WRITTEN_MAX);
        assert_eq!(written.order.len(), WRITTEN_MAX);
    }
}
