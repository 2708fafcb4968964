//! The change queue of one lane of one sink: paths that wait to be looked at.
//!
//! A path waits at most once. What is merged keeps the earliest stamp, and nothing cancels out. A hot
//! path is held off for a growing time after each time it was sent. At its limit the queue gives up its
//! fullest directory for a rescan.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::Stamp;
use super::replica::Limits;
use crate::tree::{Name, RelPath};

/// Files that wait for a stream in a lane before its walk waits too.
const PARKED_MAX: usize = 1024;

/// How long a directory's metadata waits for more changes of its children, in milliseconds.
pub const META_DELAY_MS: u64 = 10;

/// A path that was sent again within this many milliseconds is getting hot.
const WARM_MS: u64 = 1000;

/// What is wanted of a path; the greater includes the lesser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Want {
    /// Metadata of a directory, behind its children.
    DirMeta,
    /// Metadata of a file; content only if the sink holds another.
    Attributes,
    /// The whole state.
    State,
}

/// One waiting path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// What it inherited or when its event was read.
    pub stamp: Stamp,
    /// Not to be looked at before this time.
    pub not_before_ms: u64,
    /// What to look at.
    pub want: Want,
    /// A directory that is new here: its subtree is compared once it was sent.
    pub appeared: bool,
    /// A directory that took this name: what the sink has under it may be another one, whose files
    /// prove nothing by size and time.
    pub replaced: bool,
    /// A directory below which something that waited was dropped: what changed there since the stamp was made
    /// has been forgotten.
    pub open_below: bool,
    /// Looks in a row that found it changing or open for writing.
    pub unsettled: u32,
    /// Position of the last cause that may have changed the content; 0 if only the name or metadata
    /// did. What was read since holds that content, under whichever name.
    pub content_pos: u64,
    /// Something happened to what the name means, not to the name alone.
    pub touched: bool,
    /// Content is sent without asking for a base: the sink has none, or one that led to nothing.
    pub without_base: bool,
    /// Names of its inode are missing, and were when it was put here: they are searched for if they
    /// still are.
    pub rechecks: bool,
}

impl Waiting {
    /// A plain wish.
    #[must_use]
    pub fn new(stamp: Stamp, want: Want) -> Self {
        Self {
            stamp,
            not_before_ms: 0,
            want,
            appeared: false,
            replaced: false,
            open_below: false,
            unsettled: 0,
            content_pos: 0,
            touched: false,
            without_base: false,
            rechecks: false,
        }
    }

    /// The same for a directory that appeared.
    #[must_use]
    pub fn appeared(stamp: Stamp) -> Self {
        Self {
            appeared: true,
            ..Self::new(stamp, Want::State)
        }
    }

    /// The same for a directory that took this name, by mkdir or by a move.
    #[must_use]
    pub fn replaced(stamp: Stamp) -> Self {
        Self {
            replaced: true,
            ..Self::appeared(stamp)
        }
    }

    /// Takes in another wish for the same path: the earliest stamp, and all that either asks for.
    pub fn merge(&mut self, other: Self) {
        self.stamp = self.stamp.earliest(other.stamp);
        self.not_before_ms = self.not_before_ms.min(other.not_before_ms);
        self.want = self.want.max(other.want);
        self.appeared |= other.appeared;
        self.replaced |= other.replaced;
        self.open_below |= other.open_below;
        self.unsettled = self.unsettled.max(other.unsettled);
        self.content_pos = self.content_pos.max(other.content_pos);
        self.touched |= other.touched;
        self.without_base |= other.without_base;
        self.rechecks |= other.rechecks;
    }

    /// The same, for a cause at `pos` that may have changed the content.
    #[must_use]
    pub fn with_content(self, pos: u64) -> Self {
        Self {
            content_pos: self.content_pos.max(pos),
            ..self
        }
    }
}

/// How often and when a path was sent lately.
#[derive(Debug, Clone, Copy)]
struct Heat {
    sent_ms: u64,
    level: u32,
    sent: u64,
}

/// Hold-off of hot paths: none for the first change, then from `min_ms` doubling up to `max_ms`.
#[derive(Debug, Clone, Copy)]
pub struct HoldOff {
    /// First hold-off in milliseconds.
    pub min_ms: u64,
    /// Longest hold-off in milliseconds.
    pub max_ms: u64,
}

impl HoldOff {
    /// The hold-off of a level: 0, min, 2 min, 4 min, ... max.
    #[must_use]
    pub fn at(&self, level: u32) -> u64 {
        match level {
            0 => 0,
            _ => self
                .min_ms
                .saturating_mul(1 << (level - 1).min(20))
                .min(self.max_ms),
        }
    }
}

/// The queue.
#[derive(Debug)]
pub struct Queue {
    entries: BTreeMap<RelPath, Waiting>,
    ready: BTreeSet<(u64, RelPath)>,
    held: BTreeSet<(u64, RelPath)>,
    /// Files that wait for a stream, by position.
    parked: BTreeSet<(u64, RelPath)>,
    /// A count of the stamps that wait, to know the earliest without a search.
    stamps: BTreeMap<u64, (u32, Stamp)>,
    heat: BTreeMap<RelPath, Heat>,
    hold_off: HoldOff,
    /// Wishes up to this position are part of a flush.
    hurried_pos: u64,
    entries_max: usize,
    /// Bytes of the paths that wait.
    path_bytes: usize,
    path_bytes_max: usize,
    /// Files whose heat is remembered; above it the coldest are forgotten.
    hot_max: usize,
}

impl Queue {
    /// An empty queue within the limits of a lane.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self {
            entries: BTreeMap::new(),
            ready: BTreeSet::new(),
            held: BTreeSet::new(),
            parked: BTreeSet::new(),
            stamps: BTreeMap::new(),
            heat: BTreeMap::new(),
            hold_off: limits.hold_off,
            hurried_pos: 0,
            entries_max: limits.queue_entries_max,
            path_bytes: 0,
            path_bytes_max: limits.path_bytes_max,
            hot_max: limits.hot_files_max,
        }
    }

    /// Paths waiting.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What waits for this path.
    #[must_use]
    pub fn get(&self, path: &RelPath) -> Option<&Waiting> {
        self.entries.get(path)
    }

    /// Adds a wish, or merges it with the one that waits.
    pub fn put(&mut self, now_ms: u64, path: RelPath, mut wish: Waiting) {
        if let Some(waiting) = self.remove(&path) {
            wish.merge(waiting);
        }
        // What a flush waits for is not held off again.
        let hurried = wish.stamp.pos <= self.hurried_pos;
        if let Some(heat) = self.heat.get(&path).filter(|_| !hurried) {
            wish.not_before_ms = wish
                .not_before_ms
                .max(heat.sent_ms + self.hold_off.at(heat.level));
        }
        self.insert(now_ms, path, wish);
    }

    /// Adds a wish that no hold-off of a hot path delays.
    pub fn put_now(&mut self, now_ms: u64, path: RelPath, mut wish: Waiting) {
        if let Some(waiting) = self.remove(&path) {
            wish.merge(waiting);
        }
        wish.not_before_ms = 0;
        self.insert(now_ms, path, wish);
    }

    fn insert(&mut self, now_ms: u64, path: RelPath, wish: Waiting) {
        if wish.not_before_ms > now_ms {
            self.held.insert((wish.not_before_ms, path.clone()));
        } else {
            self.ready.insert((wish.stamp.pos, path.clone()));
        }
        self.enter(path, wish);
    }

    /// Adds a wish for a file that has to wait for a stream. A wish that came meanwhile does not wait:
    /// it may be no such file any more.
    pub fn park(&mut self, now_ms: u64, path: RelPath, wish: Waiting) {
        if self.entries.contains_key(&path) {
            return self.put(now_ms, path, wish);
        }
        self.parked.insert((wish.stamp.pos, path.clone()));
        self.enter(path, wish);
    }

    /// True unless what a walk finds would only wait behind files that wait for a stream already. Those take
    /// half of the queue at most, so that they do not make it collapse, to be found and to wait again.
    #[must_use]
    pub fn may_park(&self) -> bool {
        self.parked.is_empty() || (self.parked.len() < PARKED_MAX && self.is_within(1, 2))
    }

    /// Makes so many files ready that wait for a stream, the earliest first.
    pub fn unpark(&mut self, count: usize) {
        for _ in 0..count {
            let Some(first) = self.parked.pop_first() else {
                return;
            };
            self.ready.insert(first);
        }
    }

    fn enter(&mut self, path: RelPath, wish: Waiting) {
        let count = self.stamps.entry(wish.stamp.pos).or_insert((0, wish.stamp));
        count.0 += 1;
        count.1 = count.1.earliest(wish.stamp);
        self.path_bytes += path.len();
        self.entries.insert(path, wish);
    }

    /// Takes the wish for a path away.
    pub fn remove(&mut self, path: &RelPath) -> Option<Waiting> {
        let wish = self.entries.remove(path)?;
        self.path_bytes -= path.len();
        let place = (wish.stamp.pos, path.clone());
        if !self.ready.remove(&place) && !self.parked.remove(&place) {
            self.held.remove(&(wish.not_before_ms, path.clone()));
        }
        if let Some(count) = self.stamps.get_mut(&wish.stamp.pos) {
            count.0 -= 1;
            if count.0 == 0 {
                self.stamps.remove(&wish.stamp.pos);
            }
        }
        Some(wish)
    }

    /// The earliest stamp that waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Stamp> {
        self.stamps.first_key_value().map(|(_, &(_, stamp))| stamp)
    }

    /// Makes held paths ready whose time has come.
    pub fn wake(&mut self, now_ms: u64) {
        while let Some((time, _)) = self.held.first()
            && *time <= now_ms
        {
            let (_, path) = self.held.pop_first().expect("the set has a first element");
            let pos = self.entries[&path].stamp.pos;
            self.ready.insert((pos, path));
        }
    }

    /// Cuts every hold-off short, once, for wishes up to this position.
    pub fn hurry(&mut self, pos: u64) {
        self.hurried_pos = self.hurried_pos.max(pos);
        let held: Vec<_> = self.held.iter().map(|(_, path)| path.clone()).collect();
        for path in held {
            if self.entries[&path].stamp.pos <= pos {
                let wish = self.remove(&path).expect("a held path waits");
                self.insert(
                    0,
                    path,
                    Waiting {
                        not_before_ms: 0,
                        ..wish
                    },
                );
            }
        }
    }

    /// When the next held path becomes ready.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.held.first().map(|(time, _)| *time)
    }

    /// Ready paths, the earliest first.
    pub fn ready(&self) -> impl Iterator<Item = &RelPath> {
        self.ready.iter().map(|(_, path)| path)
    }

    /// True if the path waits and its time has come.
    #[must_use]
    pub fn is_ready(&self, path: &RelPath) -> bool {
        self.entries
            .get(path)
            .is_some_and(|wish| self.ready.contains(&(wish.stamp.pos, path.clone())))
    }

    /// Ready names directly in `dir` that want more than its metadata, from `first` on, in order.
    #[must_use]
    pub fn ready_in(&self, dir: &RelPath, first: &Name, most: usize) -> Vec<Name> {
        self.entries
            .range((Bound::Included(dir.join(first)), Bound::Unbounded))
            .take_while(|(path, _)| dir.is_above(path))
            .take(BATCH_SEARCH_MAX)
            .filter_map(|(path, wish)| {
                let (parent, name) = path.split()?;
                let wanted = parent == *dir && wish.want > Want::DirMeta;
                (wanted && self.ready.contains(&(wish.stamp.pos, path.clone()))).then_some(name)
            })
            .take(most)
            .collect()
    }

    /// Takes every wish at or below a path away.
    pub fn take_subtree(&mut self, top: &RelPath) -> Vec<(RelPath, Waiting)> {
        let paths: Vec<RelPath> = self
            .entries
            .range(top.clone()..)
            .take_while(|(path, _)| top.covers(path))
            .map(|(path, _)| path.clone())
            .collect();
        paths
            .into_iter()
            .map(|path| {
                (
                    path.clone(),
                    self.remove(&path).expect("it was just listed"),
                )
            })
            .collect()
    }

    /// Remembers that a file was sent, for its heat. Directories have none: what is below a directory
    /// waits for it, and its metadata has a delay of its own.
    pub fn sent(&mut self, now_ms: u64, path: &RelPath) {
        if let Some(heat) = self.heat.get_mut(path) {
            let quiet = (4 * self.hold_off.at(heat.level)).max(WARM_MS);
            let again = now_ms.saturating_sub(heat.sent_ms) < quiet;
            heat.level = if again { heat.level + 1 } else { 0 };
            heat.sent = if again { heat.sent + 1 } else { 1 };
            heat.sent_ms = now_ms;
            return;
        }
        if self.heat.len() >= self.hot_max {
            self.cool(now_ms);
        }
        if self.heat.len() < self.hot_max {
            self.heat.insert(
                path.clone(),
                Heat {
                    sent_ms: now_ms,
                    level: 0,
                    sent: 1,
                },
            );
        }
    }

    fn cool(&mut self, now_ms: u64) {
        let hold_off = self.hold_off;
        self.heat.retain(|_, heat| {
            now_ms.saturating_sub(heat.sent_ms) < (4 * hold_off.at(heat.level)).max(WARM_MS)
        });
    }

    /// The files sent most often lately, the hottest first.
    #[must_use]
    pub fn hottest(&self, now_ms: u64, count: usize) -> Vec<(RelPath, u64)> {
        let mut hot: Vec<_> = self
            .heat
            .iter()
            .filter(|(_, heat)| heat.sent > 1 && now_ms.saturating_sub(heat.sent_ms) < 60_000)
            .map(|(path, heat)| (path.clone(), heat.sent))
            .collect();
        hot.sort_by_key(|(_, sent)| std::cmp::Reverse(*sent));
        hot.truncate(count);
        hot
    }

    /// True if no more than these shares of the limits are in use: so many of `of` parts.
    fn is_within(&self, parts: usize, of: usize) -> bool {
        self.entries.len() <= self.entries_max / of * parts
            && self.path_bytes <= self.path_bytes_max / of * parts
    }

    /// If the queue is above a limit: gives up directories, the fullest first, until three quarters
    /// are left. Their wishes become one rescan each, with the earliest stamp.
    pub fn collapse(&mut self) -> Vec<(RelPath, Stamp)> {
        if self.is_within(1, 1) {
            return Vec::new();
        }
        let too_many = self.entries.len() > self.entries_max;
        let weigh = |path: &RelPath| if too_many { 1 } else { path.len() };
        let mut weights: BTreeMap<RelPath, usize> = BTreeMap::new();
        for path in self.entries.keys() {
            if let Some(dir) = path.parent() {
                *weights.entry(dir).or_default() += weigh(path);
            }
        }
        let mut fullest: Vec<_> = weights.into_iter().collect();
        fullest.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
        let mut given_up = Vec::new();
        for (dir, _) in fullest {
            if self.is_within(3, 4) {
                break;
            }
            let own = self.entries.get(&dir).copied();
            let mut below = self.take_subtree(&dir);
            if let Some(own) = own {
                below.retain(|(path, _)| *path != dir);
                self.put_now(0, dir.clone(), own);
            }
            if let Some(stamp) = below
                .iter()
                .map(|(_, wish)| wish.stamp)
                .reduce(Stamp::earliest)
            {
                given_up.push((dir, stamp));
            }
        }
        given_up
    }
}

/// Most neighbours that are searched for one batch.
const BATCH_SEARCH_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Since;

    fn stamp(pos: u64) -> Stamp {
        Stamp {
            pos,
            since_ms: 0,
            made: Since::Ms(0),
        }
    }

    fn file(number: usize) -> RelPath {
        RelPath::new(number.to_string().as_bytes()).expect("a path")
    }

    #[test]
    fn hold_off_doubles_from_the_shortest_to_the_longest() {
        let hold_off = HoldOff {
            min_ms: 200,
            max_ms: 1_000,
        };
        let held = [0, 1, 2, 3, 4, u32::MAX].map(|level| hold_off.at(level));
        assert_eq!(held, [0, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn walks_add_nothing_behind_many_files_that_wait_for_a_stream() {
        let limits = Limits::default();
        assert!(limits.queue_entries_max > 2 * PARKED_MAX);
        let mut queue = Queue::new(&limits);
        for number in 0..PARKED_MAX {
            assert!(queue.may_park(), "{number}");
            let wish = Waiting::new(stamp(number as u64), Want::State);
            queue.park(0, file(number), wish);
        }
        assert!(!queue.may_park());
        queue.unpark(1);
        assert!(queue.may_park());
    }
}
