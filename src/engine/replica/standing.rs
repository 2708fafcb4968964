//! Where a replica stands: what is left, since when, and what the reports say of it.

use super::outcomes::FULL_HOLD_MS;
use super::{Replica, Work};
use crate::engine::source::{REPORT_PATHS_MAX, few};
use crate::engine::walk::Walker;
use crate::engine::{Now, Stamp};
use crate::report::{HotFile, LaneQueue, Shortage};
use crate::tree::RelPath;
use crate::wire::message::Lane;

impl Replica {
    /// The earliest stamp of anything that is not durable on this sink.
    #[must_use]
    pub fn oldest(&self) -> Option<Stamp> {
        [Lane::Live, Lane::Backlog]
            .into_iter()
            .filter_map(|lane| self.oldest_in(lane))
            .reduce(Stamp::earliest)
    }

    fn oldest_in(&self, lane: Lane) -> Option<Stamp> {
        self.stamps(lane).reduce(Stamp::earliest)
    }

    /// The stamps of all that is not durable, of what waits only the earliest. Those that take least to tell
    /// come first.
    fn stamps(&self, lane: Lane) -> impl Iterator<Item = Stamp> {
        let (queue, walker) = match lane {
            Lane::Live => (&self.live, &self.live_walk),
            Lane::Backlog => (&self.backlog, &self.backlog_walk),
        };
        let renames = self
            .renames
            .iter()
            .filter(move |_| lane == Lane::Live)
            .map(|renaming| renaming.stamp);
        let readings = self
            .readings
            .values()
            .filter(move |r| r.lane == lane)
            .filter_map(|r| match &r.work {
                Work::Looks(looks) => looks
                    .names
                    .iter()
                    .map(|(_, wish)| wish.stamp)
                    .reduce(Stamp::earliest),
                Work::DirMeta { wish, .. } => Some(wish.stamp),
                Work::Rename(renaming) => Some(renaming.stamp),
                Work::List { .. }
                | Work::Chunk { .. }
                | Work::StreamEnd { .. }
                | Work::Void { .. } => None,
            });
        let streams = self
            .streams
            .values()
            .filter(move |s| s.lane == lane)
            .map(|s| s.wish.stamp);
        let in_flight = self
            .in_flight
            .values()
            .filter(move |m| m.lane == lane)
            .map(|m| m.stamp);
        let gather = self.gather.oldest().filter(|_| lane == Lane::Backlog);
        let waiting = walker.oldest().into_iter().chain(queue.oldest());
        let under_way = renames.chain(readings).chain(streams).chain(in_flight);
        waiting.chain(gather).chain(under_way)
    }

    /// Entries waiting or under way.
    #[must_use]
    pub fn pending(&self) -> u64 {
        let waiting =
            self.live.len() + self.backlog.len() + self.renames.len() + self.streams.len();
        let walks = self.live_walk.dirs_pending() + self.backlog_walk.dirs_pending();
        let in_flight = self.in_flight_entries[0] + self.in_flight_entries[1];
        (waiting + walks + in_flight + self.readings.len()) as u64
    }

    /// True if nothing waits, is under way, is a problem or was left out, and a whole walk has ended.
    #[must_use]
    pub fn converged(&self) -> bool {
        self.losses.is_empty() && self.holds_all_it_can()
    }

    /// As [`Replica::converged`], but for what the target cannot hold.
    #[must_use]
    pub fn holds_all_it_can(&self) -> bool {
        self.link.is_some() && self.whole_walk.is_none() && self.ledger.is_empty() && self.settled()
    }

    /// True if nothing is left to do now but problems.
    #[must_use]
    pub fn settled(&self) -> bool {
        self.link.is_some()
            && self.whole_walk.is_none()
            && self.in_flight.is_empty()
            && self.readings.is_empty()
            && self.oldest().is_none()
    }

    /// Everything up to this position is durable on the sink, and a whole walk has shown what came
    /// before it was known: what a flush waits for.
    #[must_use]
    pub fn flushed(&self, pos: u64) -> bool {
        self.whole_walk.is_none() && self.reached(pos)
    }

    /// Nothing up to this position is left on the way to this sink.
    #[must_use]
    pub fn reached(&self, pos: u64) -> bool {
        let mut left = [Lane::Backlog, Lane::Live]
            .into_iter()
            .flat_map(|lane| self.stamps(lane));
        self.link.is_some() && left.all(|stamp| stamp.pos > pos)
    }

    /// Cuts hold-offs short for wishes up to this position.
    pub fn hurry(&mut self, pos: u64) {
        self.live.hurry(pos);
        self.backlog.hurry(pos);
        self.gather.hurry(pos);
    }

    /// When something is to be done without an event.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.link.as_ref()?;
        [
            self.live.deadline(),
            self.backlog.deadline(),
            self.ledger.deadline(),
            self.gather.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// True if everything that the file system reported and everything that was sent is durable.
    #[must_use]
    pub fn drained(&self) -> bool {
        let live = self.live.is_empty() && self.renames.is_empty() && self.live_walk.is_idle();
        live && self.in_flight.is_empty() && self.readings.is_empty()
    }

    /// What the target lacks, if the sink said so lately. It would say so again when content is tried.
    #[must_use]
    pub fn shortage(&self, now: Now) -> Option<Shortage> {
        self.shortage
            .filter(|_| now.ms < self.content_after_ms + FULL_HOLD_MS)
    }

    /// What an operator is told when that begins and when it has ended.
    pub fn tell_shortage(&mut self, now: Now) -> Option<String> {
        let shortage = self.shortage(now);
        if shortage == self.shortage_told {
            return None;
        }
        self.shortage_told = shortage;
        Some(match shortage {
            Some(shortage) => format!(
                "its target takes no content: {}; content waits, and goes on by itself when that is over",
                shortage.words()
            ),
            None => "its target takes content again".to_owned(),
        })
    }

    /// Milliseconds until everything known to wait is applied, at the present rate.
    #[must_use]
    pub fn eta_ms(&self, now: Now) -> Option<u64> {
        // While a walk still finds more, nobody knows how much is left.
        let rate = self.applied_meter.rate(now.ms, 10).entries;
        let known = self.walks().all(|walk| walk.is_idle());
        (known && rate > 0.0).then(|| (self.pending() as f64 / rate * 1000.0) as u64)
    }

    pub(crate) fn walks(&self) -> impl Iterator<Item = &Walker> {
        [&self.live_walk, &self.backlog_walk].into_iter()
    }

    pub(crate) fn lanes(&self, now: Now) -> [LaneQueue; 2] {
        [
            (Lane::Live, &self.live, &self.live_walk),
            (Lane::Backlog, &self.backlog, &self.backlog_walk),
        ]
        .map(|(lane, queue, walk)| {
            let streams = self.streams.values().filter(|stream| stream.lane == lane);
            let unread: u64 = streams.map(|stream| stream.meta.size - stream.offset).sum();
            let renames = if lane == Lane::Live {
                self.renames.len()
            } else {
                0
            };
            LaneQueue {
                waiting_entries: (queue.len() + renames + walk.names_waiting()) as u64,
                in_flight_entries: self.in_flight_entries[lane as usize] as u64,
                in_flight_bytes: self.in_flight_bytes[lane as usize] + unread,
                oldest_ms: self
                    .oldest_in(lane)
                    .map(|stamp| now.ms.saturating_sub(stamp.since_ms)),
            }
        })
    }

    pub(crate) fn hottest(&self, now: Now) -> Vec<HotFile> {
        let hot = self.live.hottest(now.ms, REPORT_PATHS_MAX);
        hot.into_iter()
            .map(|(path, sent)| HotFile { path, sent })
            .collect()
    }

    pub(crate) fn never_settling(&self) -> Vec<HotFile> {
        let files = self.never_settling.iter().take(REPORT_PATHS_MAX);
        files
            .map(|(path, &sent)| HotFile {
                path: path.clone(),
                sent,
            })
            .collect()
    }

    pub(crate) fn in_flight_messages(&self) -> u64 {
        self.in_flight.len() as u64
    }

    pub(crate) fn stream_paths(&self) -> Vec<RelPath> {
        few(self.streams.values().map(|stream| stream.path.clone()))
    }
}
