//! Walks: streaming comparison of subtrees, one page of one directory at a time.
//!
//! A *visit* is one page on its way: listed, compared (digest first), and the names that came back
//! looked at. Many visits are under way at once, so that round trips overlap. The directories that a
//! finished visit found wait on a stack, the deepest on top: that bounds what is remembered by depth
//! and width of the walk, never by the number of files.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::Stamp;
use super::replica::Limits;
use super::work::Links;
use crate::tree::{Name, RelPath, Time};

/// Names in one page.
pub const PAGE_NAMES_MAX: usize = 512;

/// Files changed between two moments count as different whatever they look like: their change may
/// have been forgotten (rule 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspicion {
    /// Start.
    pub since: Time,
    /// End.
    pub until: Time,
}

/// Clocks of file systems tick coarsely; suspicion reaches this much further both ways, in seconds.
const MARGIN_SECS: i64 = 2;

impl Suspicion {
    /// Suspicion of what changed between two moments, and a little around them.
    #[must_use]
    pub fn new(since: Time, until: Time) -> Self {
        Self {
            since: since.minus_secs(MARGIN_SECS),
            until: until.minus_secs(-MARGIN_SECS),
        }
    }

    /// Suspicion of what has changed since a moment. No change is too late for it: whatever happens to a file
    /// later, of which its content says nothing, moves its time on.
    #[must_use]
    pub fn since(since: Time) -> Self {
        Self {
            until: Self::of_everything().until,
            ..Self::new(since, since)
        }
    }

    /// Suspicion of what has changed since a moment that an earlier process knew. If the clock stood before that
    /// at the start of this one, nobody knows how early a change may seem to be.
    #[must_use]
    pub fn across_processes(since: Time, started: Time) -> Self {
        if since > started.minus_secs(-MARGIN_SECS) {
            return Self::of_everything();
        }
        Self::since(since)
    }

    /// Suspicion of every file, however old.
    #[must_use]
    pub fn of_everything() -> Self {
        let at = |secs| Time { secs, nanos: 0 };
        Self {
            since: at(i64::MIN),
            until: at(i64::MAX),
        }
    }

    /// Suspicion of what either holds, and of what lies between.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            since: self.since.min(other.since),
            until: self.until.max(other.until),
        }
    }

    fn includes(&self, other: &Self) -> bool {
        self.since <= other.since && other.until <= self.until
    }

    /// True if a change time falls into it.
    #[must_use]
    pub fn holds(&self, ctime: Time) -> bool {
        self.since <= ctime && ctime <= self.until
    }

    fn widest(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.and(b)),
            (one, other) => one.or(other),
        }
    }
}

/// How a subtree is to be walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rescan {
    /// Inherited by everything that is found.
    pub stamp: Stamp,
    /// Files not to be trusted by size and time.
    pub suspicion: Option<Suspicion>,
    /// Position at which the suspicion arose: what was read since is above it. 0 without suspicion.
    pub suspected_pos: u64,
    /// The sink has just made this directory: everything in it is sent without asking.
    pub fresh: bool,
    /// The directory alone, without those below it, for an audit: what differs was told by nobody.
    pub audit: bool,
}

impl Rescan {
    /// A plain comparison.
    #[must_use]
    pub fn compare(stamp: Stamp) -> Self {
        Self {
            stamp,
            suspicion: None,
            suspected_pos: 0,
            fresh: false,
            audit: false,
        }
    }

    /// A comparison of one directory that finds what nobody has told.
    #[must_use]
    pub fn audit(stamp: Stamp) -> Self {
        Self {
            audit: true,
            ..Self::compare(stamp)
        }
    }

    /// A comparison that trusts nothing that changed within the suspicion, which arose at `pos`.
    #[must_use]
    pub fn suspect(stamp: Stamp, suspicion: Suspicion, pos: u64) -> Self {
        Self {
            suspicion: Some(suspicion),
            suspected_pos: pos,
            ..Self::compare(stamp)
        }
    }

    /// True if whoever walks like this distrusts all that `other` does.
    fn distrusts_like(&self, other: &Self) -> bool {
        other
            .suspicion
            .is_none_or(|theirs| self.suspicion.is_some_and(|mine| mine.includes(&theirs)))
    }

    /// One rescan in the place of two.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            stamp: self.stamp.earliest(other.stamp),
            suspicion: Suspicion::widest(self.suspicion, other.suspicion),
            suspected_pos: self.suspected_pos.max(other.suspected_pos),
            fresh: self.fresh && other.fresh,
            audit: self.audit && other.audit,
        }
    }
}

/// Where a visit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// To be listed; `full` if the sink has asked for the entries.
    List {
        /// Send entries, not the digest.
        full: bool,
    },
    /// The listing is being made.
    Listing {
        /// As in `List`.
        full: bool,
    },
    /// Sent; the answer is awaited.
    Answer {
        /// As in `List`.
        full: bool,
    },
    /// The names in `looks` are being looked at.
    Look,
}

/// One page of one directory on its way.
#[derive(Debug)]
pub struct Visit {
    /// The directory.
    pub dir: RelPath,
    /// What it belongs to.
    pub rescan: Rescan,
    /// Its own modification time when it was compared; `None` if it was not.
    pub compared: Option<Time>,
    /// The page begins after this name.
    pub after: Option<Name>,
    /// The directory's watch is bound with its first page.
    pub bound: bool,
    /// Where it stands.
    pub step: Step,
    /// Last name of the page, if others follow.
    pub next_after: Option<Name>,
    /// Directories of the page.
    pub subdirs: Vec<Subdir>,
    /// Names of the page that are no regular files, sorted.
    pub not_files: Vec<Name>,
    /// Names to look at.
    pub looks: VecDeque<Name>,
    /// Names of the page that are not to be trusted by size and time, sorted.
    pub suspects: Vec<Name>,
    /// Names of the page that the sink has not, sorted.
    pub lacks: Vec<Name>,
    /// Names of the page that are one of several.
    pub linked: Vec<(Name, Links)>,
    /// Looks under way.
    pub looking: u32,
    /// The sink could not name everything in excess: the page is compared again.
    pub again: bool,
}

/// A directory that a page holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subdir {
    /// Its name.
    pub name: Name,
    /// The sink lacked it.
    pub fresh: bool,
    /// Its modification time when it was compared; `None` if it was not.
    pub compared: Option<Time>,
}

/// Directories found and not yet visited, in one directory.
#[derive(Debug)]
struct Found {
    dir: RelPath,
    names: VecDeque<Subdir>,
    rescan: Rescan,
    next_after: Option<Name>,
}

/// The walks of one lane of one sink.
#[derive(Debug)]
pub struct Walker {
    owed: BTreeMap<RelPath, Rescan>,
    found: Vec<Found>,
    /// Visits under way, by a number of their own.
    pub visits: BTreeMap<u64, Visit>,
    next_visit: u64,
    visits_max: usize,
    owed_max: usize,
    /// Names in `found`.
    found_names: usize,
    found_names_max: usize,
    /// Pages compared or sent since the start whose directory is done.
    pub dirs_done: u64,
}

impl Walker {
    /// A walker within the limits of a lane.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            owed: BTreeMap::new(),
            found: Vec::new(),
            visits: BTreeMap::new(),
            next_visit: 0,
            visits_max: limits.visits_max,
            owed_max: limits.rescans_max,
            found_names: 0,
            found_names_max: limits.walk_dirs_max,
            dirs_done: 0,
        }
    }

    /// True if nothing is owed or under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.owed.is_empty() && self.found.is_empty() && self.visits.is_empty()
    }

    /// Owes a rescan. One that waits above it already covers it, unless it would have to distrust files
    /// that nobody suspects.
    pub fn owe(&mut self, path: RelPath, rescan: Rescan) {
        let mut above = Some(path.clone());
        while let Some(dir) = above {
            if let Some(owed) = self.owed.get_mut(&dir)
                && (dir == path || (!owed.audit && owed.distrusts_like(&rescan)))
            {
                *owed = owed.merge(rescan);
                return;
            }
            above = dir.parent();
        }
        self.owed.insert(path, rescan);
        if self.owed.len() > self.owed_max {
            let all = std::mem::take(&mut self.owed);
            let merged = all
                .into_values()
                .reduce(Rescan::merge)
                .expect("the map was not empty");
            self.owed.insert(
                RelPath::root(),
                Rescan {
                    fresh: false,
                    ..merged
                },
            );
        }
    }

    /// The earliest stamp of anything owed or under way.
    #[must_use]
    pub fn oldest(&self) -> Option<Stamp> {
        let owed = self.owed.values().map(|rescan| rescan.stamp);
        let found = self.found.iter().map(|found| found.rescan.stamp);
        let visits = self.visits.values().map(|visit| visit.rescan.stamp);
        owed.chain(found).chain(visits).reduce(Stamp::earliest)
    }

    /// True if a rescan that is owed or under way does not trust what it finds at this path: a change of
    /// its content may have been forgotten.
    #[must_use]
    pub fn suspects(&self, path: &RelPath) -> bool {
        self.suspecting(path).is_some()
    }

    /// The rescans of which that is true, as one.
    #[must_use]
    pub fn suspecting(&self, path: &RelPath) -> Option<Rescan> {
        self.rescans()
            .filter(|(top, rescan)| rescan.suspicion.is_some() && top.covers(path))
            .map(|(_, rescan)| *rescan)
            .reduce(Rescan::merge)
    }

    /// True if a rescan that is owed or under way does not trust at this path what one like this would.
    #[must_use]
    pub fn distrusts_more(&self, path: &RelPath, rescan: &Rescan) -> bool {
        self.rescans()
            .any(|(top, other)| top.covers(path) && !rescan.distrusts_like(other))
    }

    /// All that is owed or under way, with the directory at the top.
    fn rescans(&self) -> impl Iterator<Item = (&RelPath, &Rescan)> {
        let owed = self.owed.iter();
        let found = self.found.iter().map(|found| (&found.dir, &found.rescan));
        let visits = self
            .visits
            .values()
            .map(|visit| (&visit.dir, &visit.rescan));
        owed.chain(found).chain(visits)
    }

    /// Rescans owed and not begun.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    /// Directories known to wait or being visited.
    #[must_use]
    pub fn dirs_pending(&self) -> usize {
        self.owed.len() + self.found_names + self.visits.len()
    }

    /// Names that answers have brought back and that wait to be looked at.
    #[must_use]
    pub fn names_waiting(&self) -> usize {
        self.visits.values().map(|visit| visit.looks.len()).sum()
    }

    /// Begins as many visits as there is room for. A rescan owed goes before the walk under way: it is
    /// usually small, and nobody else looks at it.
    pub fn advance(&mut self) {
        while self.visits.len() < self.visits_max {
            if let Some((path, rescan)) = self.take_owed() {
                self.absorb(&path, rescan);
            } else if !self.descend() {
                break;
            }
        }
    }

    fn take_owed(&mut self) -> Option<(RelPath, Rescan)> {
        let path = self
            .owed
            .iter()
            .min_by_key(|(_, rescan)| rescan.stamp)
            .map(|(path, _)| path.clone())?;
        let rescan = self.owed.remove(&path)?;
        Some((path, rescan))
    }

    /// A rescan takes over what waits below it.
    fn absorb(&mut self, path: &RelPath, mut rescan: Rescan) {
        if !rescan.fresh && !rescan.audit {
            for other in self.forget_found(path) {
                rescan = rescan.merge(Rescan {
                    fresh: false,
                    ..other
                });
            }
        }
        self.visit(path.clone(), rescan, None, None);
    }

    fn descend(&mut self) -> bool {
        loop {
            let Some(top) = self.found.last_mut() else {
                return false;
            };
            if let Some(found) = top.names.pop_front() {
                self.found_names -= 1;
                let dir = top.dir.join(&found.name);
                let rescan = Rescan {
                    fresh: found.fresh,
                    ..top.rescan
                };
                self.visit(dir, rescan, found.compared, None);
                return true;
            }
            let done = self.found.pop().expect("the stack has a top");
            if let Some(after) = done.next_after {
                self.visit(done.dir, done.rescan, None, Some(after));
                return true;
            }
            self.dirs_done += 1;
        }
    }

    /// Begins to visit a directory, or goes on behind a name.
    fn visit(&mut self, dir: RelPath, rescan: Rescan, compared: Option<Time>, after: Option<Name>) {
        self.next_visit += 1;
        self.visits.insert(
            self.next_visit,
            Visit {
                dir,
                rescan,
                compared,
                bound: after.is_some(),
                after,
                step: Step::List { full: false },
                next_after: None,
                subdirs: Vec::new(),
                not_files: Vec::new(),
                looks: VecDeque::new(),
                suspects: Vec::new(),
                lacks: Vec::new(),
                linked: Vec::new(),
                looking: 0,
                again: false,
            },
        );
    }

    /// Ends a visit whose names have all been looked at and keeps the directories that it found.
    pub fn finish_if_done(&mut self, id: u64) {
        let Some(visit) = self.visits.get_mut(&id) else {
            return;
        };
        if visit.step != Step::Look || visit.looking > 0 || !visit.looks.is_empty() {
            return;
        }
        if std::mem::take(&mut visit.again) {
            visit.step = Step::List { full: false };
            return;
        }
        let mut visit = self.visits.remove(&id).expect("the visit was just seen");
        // An audit comes to the others itself.
        visit
            .subdirs
            .retain(|found| found.fresh || !visit.rescan.audit);
        // Looks end in any order.
        visit.subdirs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.keep_to_limit(&mut visit);
        self.found_names += visit.subdirs.len();
        self.found.push(Found {
            dir: visit.dir,
            names: visit.subdirs.into(),
            rescan: visit.rescan,
            next_after: visit.next_after,
        });
    }

    /// Directories that find no room are found again: the next page begins behind those that do, of which
    /// there is always one, so that the walk goes on.
    fn keep_to_limit(&self, visit: &mut Visit) {
        let room = self.found_names_max.saturating_sub(self.found_names).max(1);
        if visit.subdirs.len() > room {
            visit.subdirs.truncate(room);
            // What the page has told is not told again without asking.
            visit.rescan.fresh = false;
            visit.next_after = visit.subdirs.last().map(|found| found.name.clone());
        }
    }

    /// Forgets directories found at or below a path. Returns what they belonged to.
    fn forget_found(&mut self, top: &RelPath) -> Vec<Rescan> {
        let inside = self.found.extract_if(.., |found| top.covers(&found.dir));
        let forgotten: Vec<_> = inside
            .map(|found| (found.rescan, found.names.len()))
            .collect();
        self.found_names -= forgotten.iter().map(|(_, names)| names).sum::<usize>();
        forgotten.into_iter().map(|(rescan, _)| rescan).collect()
    }

    /// Ends a visit that cannot go on.
    pub fn drop_visit(&mut self, id: u64) -> Option<Visit> {
        self.dirs_done += 1;
        self.visits.remove(&id)
    }

    /// Cancels everything at or below a path, which is about to be walked as a whole again. Returns
    /// what must be inherited.
    pub fn cancel_below(&mut self, top: &RelPath) -> Option<Rescan> {
        let mut cancelled = self.forget_found(top);
        self.owed.retain(|path, rescan| {
            let inside = top.covers(path);
            if inside {
                cancelled.push(*rescan);
            }
            !inside
        });
        self.visits.retain(|_, visit| {
            let inside = top.covers(&visit.dir);
            if inside {
                cancelled.push(visit.rescan);
            }
            !inside
        });
        cancelled.into_iter().reduce(Rescan::merge)
    }

    /// After a cut: what was asked gets no answer, so every page on its way is listed again.
    pub fn restart(&mut self) {
        for visit in self.visits.values_mut() {
            if matches!(visit.step, Step::Listing { .. } | Step::Answer { .. }) {
                visit.step = Step::List { full: false };
            }
        }
    }
}
