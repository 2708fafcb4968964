//! Which files of the target a power cut may have emptied (rule 22).
//!
//! A file that was written and not synced keeps its size and times when power fails, and not its content.
//! The same goes for a sync that fails: the kernel takes for written what it has failed to write, and says so
//! once. Only its change time tells when a file was written, by a clock that may have been set. So two moments
//! are remembered: when the last sync began, and the latest that the clock ever showed. Where they contradict
//! the clock of the next start, more is distrusted rather than less.

use std::collections::{HashSet, VecDeque};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::{Deserialize, Serialize};

use crate::engine::walk::Suspicion;
use crate::fs::Stat;
use crate::tree::{Kind, Time};

/// Files that this process wrote and that look distrusted all the same are remembered by inode, so many
/// of them. Further ones cost content where a link or metadata alone would do.
pub const WRITTEN_MAX: usize = 65_536;

/// Times in which content may have been lost that are remembered. Of further ones those that are nearest to each
/// other become one, which costs, once, what was written in between.
pub const TIMES_MAX: usize = 16;

/// How far the time of a change and the moment of a sync may lie apart, in seconds.
const MARGIN_SECS: i64 = 2;

/// How the last process ended, and what its clock showed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LastEnd {
    /// It ended in order, with everything durable.
    pub clean: bool,
    /// When the last sync that succeeded was started, or osync came to know the target.
    pub last_sync_started: Time,
    /// The latest time that the clock showed at a sync.
    #[serde(default)]
    pub clock_max: Time,
    /// When what changed may have lost its content, sorted. Nobody tells when all of that has been compared; what
    /// has is not from then any more.
    #[serde(default)]
    pub distrusted: Vec<Suspicion>,
    /// The last sync has failed, in this process.
    #[serde(skip)]
    pub sync_failed: bool,
}

impl LastEnd {
    /// Of a target that osync has just come to know: nothing in it was written by osync.
    #[must_use]
    pub fn unknown(now: Time) -> Self {
        Self {
            clean: true,
            last_sync_started: now,
            clock_max: now,
            distrusted: Vec::new(),
            sync_failed: false,
        }
    }

    /// A process starts: what it has to distrust. Until its end in order, it leaves a target to be
    /// distrusted itself.
    pub fn start(&mut self, now: Time) -> Vec<Suspicion> {
        if self.clean {
            // Whether all of it was compared before the end, nobody has told. What may have changed at any time
            // is not compared by its content at each start, though.
            let mut distrusted = std::mem::take(&mut self.distrusted);
            distrusted.retain(|times| *times != Suspicion::of_everything());
            *self = Self {
                clean: false,
                distrusted,
                ..Self::unknown(now)
            };
            return self.distrusted.clone();
        }
        self.sync_failed = false;
        self.distrust_up_to(now);
        self.last_sync_started = self.last_sync_started.min(now);
        self.distrusted.clone()
    }

    /// A sync that began then has succeeded. If the one before had failed, it tells what is to be distrusted from
    /// now on: what that one was to make durable is perhaps not what it was, though now it is durable.
    pub fn synced(&mut self, started: Time) -> Option<Vec<Suspicion>> {
        let failed = std::mem::take(&mut self.sync_failed);
        if failed {
            self.distrust_up_to(started);
        }
        self.last_sync_started = started;
        self.clock_max = self.clock_max.max(started);
        failed.then(|| self.distrusted.clone())
    }

    /// Distrusts what changed since the last sync that succeeded.
    fn distrust_up_to(&mut self, now: Time) {
        self.clock_max = self.clock_max.max(now);
        self.distrusted
            .push(between(self.last_sync_started, now, self.clock_max));
        self.distrusted.sort_unstable_by_key(|time| time.since);
        self.unite_nearest();
    }

    /// Makes one of times that overlap, and of those that lie nearest to each other while there are too many.
    fn unite_nearest(&mut self) {
        let gap = |pair: &[Suspicion]| pair[1].since.secs.saturating_sub(pair[0].until.secs);
        loop {
            let gaps = self.distrusted.windows(2).map(gap).enumerate();
            let Some((at, nearest)) = gaps.min_by_key(|(_, gap)| *gap) else {
                return;
            };
            if nearest > 0 && self.distrusted.len() <= TIMES_MAX {
                return;
            }
            let later = self.distrusted.remove(at + 1);
            self.distrusted[at] = self.distrusted[at].and(later);
        }
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
#[derive(Debug, Default)]
pub struct Distrust {
    doubts: RwLock<Doubts>,
}

#[derive(Debug, Default)]
struct Doubts {
    times: Vec<Suspicion>,
    /// Inodes that this process wrote, and trusts.
    known: HashSet<(u64, u64)>,
    /// The same, the oldest first.
    order: VecDeque<(u64, u64)>,
}

impl Doubts {
    fn suspect(&self, stat: &Stat) -> bool {
        self.times.iter().any(|time| time.holds(stat.ctime))
    }
}

impl Distrust {
    /// Distrusts what changed within these times.
    #[must_use]
    pub fn new(times: impl IntoIterator<Item = Suspicion>) -> Self {
        let distrust = Self::default();
        distrust.set(times);
        distrust
    }

    /// Distrusts what changed within these times from now on, also if this process wrote it.
    pub fn set(&self, times: impl IntoIterator<Item = Suspicion>) {
        *self.write() = Doubts {
            times: times.into_iter().collect(),
            ..Doubts::default()
        };
    }

    /// True if a power cut or a sync that failed may have taken the content.
    #[must_use]
    pub fn holds(&self, stat: &Stat) -> bool {
        let doubts = self.read();
        doubts.suspect(stat) && !doubts.known.contains(&(stat.dev, stat.ino))
    }

    /// Tells that this process has brought an entry to its state. Its change time looks distrusted only if
    /// the clock was set back, or shortly after the distrusted time.
    pub fn wrote(&self, stat: &Stat) {
        if stat.kind == Kind::Dir || !self.read().suspect(stat) {
            return;
        }
        let inode = (stat.dev, stat.ino);
        let mut doubts = self.write();
        if doubts.known.insert(inode) {
            doubts.order.push_back(inode);
        }
        if doubts.order.len() > WRITTEN_MAX
            && let Some(oldest) = doubts.order.pop_front()
        {
            doubts.known.remove(&oldest);
        }
    }

    /// True if nothing is distrusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().times.is_empty()
    }

    // A panic between two statements forgets an inode, which costs content.

    fn read(&self) -> RwLockReadGuard<'_, Doubts> {
        self.doubts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Doubts> {
        self.doubts.write().unwrap_or_else(PoisonError::into_inner)
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
        assert_eq!(end.start(at(900)), []);
        end.synced(at(clock_max));
        end.synced(at(synced));
        end
    }

    #[test]
    fn what_changed_after_the_last_sync_is_distrusted() {
        let window = Distrust::new(died(1000, 1000).start(at(1100)));
        for changed in [999, 1000, 1050, 1100] {
            assert!(window.holds(&file(1, changed)), "{changed}");
        }
        assert!(!window.holds(&file(1, 990)) && !window.holds(&file(1, 1110)));
    }

    #[test]
    fn a_clock_before_the_last_sync_distrusts_everything() {
        let window = Distrust::new(died(1000, 1000).start(at(500)));
        for changed in [10, 500, 1000, 2000] {
            assert!(window.holds(&file(1, changed)), "{changed}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_once_distrusts_what_changed_then() {
        let window = Distrust::new(died(1000, 5000).start(at(1100)));
        assert!(window.holds(&file(1, 5000)) && window.holds(&file(1, 3000)));
        assert!(!window.holds(&file(1, 990)));
    }

    #[test]
    fn a_second_crash_before_any_sync_forgets_nothing() {
        let mut end = died(1000, 1000);
        end.start(at(1100));
        let window = Distrust::new(end.start(at(1200)));
        assert!(window.holds(&file(1, 1001)) && window.holds(&file(1, 1150)));
    }

    #[test]
    fn an_end_in_order_leaves_nothing_to_distrust() {
        let mut end = died(1000, 5000);
        end.clean = true;
        assert_eq!(end.start(at(1100)), []);
        let window = Distrust::new(end.start(at(1200)));
        assert!(
            window.holds(&file(1, 1150))
                && !window.holds(&file(1, 1050))
                && !window.holds(&file(1, 4000))
        );
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
        let distrust = Distrust::new([Suspicion::new(at(1000), at(1100))]);
        assert!(distrust.holds(&file(1, 1050)) && !distrust.holds(&file(1, 2000)));
        distrust.wrote(&file(1, 1050));
        assert!(!distrust.holds(&file(1, 1050)) && distrust.holds(&file(2, 1050)));
        for ino in 2..=WRITTEN_MAX as u64 + 1 {
            distrust.wrote(&file(ino, 1050));
        }
        assert!(distrust.holds(&file(1, 1050)), "the oldest is forgotten");
        assert!(!distrust.holds(&file(2, 1050)));
        let written = distrust.read();
        assert_eq!(written.known.len(), WRITTEN_MAX);
        assert_eq!(written.order.len(), WRITTEN_MAX);
    }

    #[test]
    fn what_a_failed_sync_was_to_make_durable_is_distrusted() {
        let mut end = LastEnd::unknown(at(900));
        end.start(at(900));
        assert_eq!(end.synced(at(1000)), None);
        end.sync_failed = true;
        let window = Distrust::new(end.synced(at(1100)).unwrap());
        assert!(window.holds(&file(1, 1000)) && window.holds(&file(1, 1100)));
        assert!(!window.holds(&file(1, 990)) && !window.holds(&file(1, 1110)));
        assert_eq!(end.synced(at(1200)), None, "told once");
        let window = Distrust::new(end.start(at(1300)));
        assert!(window.holds(&file(1, 1050)) && window.holds(&file(1, 1250)));
        assert!(!window.holds(&file(1, 1150)), "made durable by the next");
    }

    #[test]
    fn what_was_written_before_a_failed_sync_is_not_trusted() {
        let distrust = Distrust::default();
        distrust.wrote(&file(1, 1050));
        distrust.set([Suspicion::new(at(1000), at(1100))]);
        assert!(distrust.holds(&file(1, 1050)));
    }

    #[test]
    fn the_times_of_many_crashes_are_few() {
        let mut end = LastEnd::unknown(at(0));
        end.start(at(0));
        for day in 0..100 {
            end.synced(at(day * 86_400));
            end.start(at(day * 86_400 + 60));
        }
        assert_eq!(end.distrusted.len(), TIMES_MAX);
        let window = Distrust::new(end.distrusted);
        assert!((0..100).all(|day| window.holds(&file(1, day * 86_400 + 30))));
        assert!(
            !window.holds(&file(1, 99 * 86_400 - 3600)),
            "between the last two"
        );
    }
}
