//! Handing out work: renames first, then live looks, then what walks bring.
//!
//! Nothing is handed out without credit reserved for what it may bring back, so a result never waits
//! for credit while its claim holds others up.

use std::sync::Arc;

use super::{Link, Looks, Reading, Renaming, Replica, Rule, Work};
use crate::engine::footprint::Footprint;
use crate::engine::queue::{Waiting, Want};
use crate::engine::source::Action;
use crate::engine::throttle::Cost;
use crate::engine::walk::{PAGE_NAMES_MAX, Step};
use crate::engine::work::{
    Detail, Further, LOOK_BYTES_MAX, LOOK_HEADER_BYTES_MAX, LookName, Order, Span,
};
use crate::engine::{Now, Since, Stamp, Ticket};
use crate::tree::{NAME_BYTES_MAX, Name, NameRange, RelPath, XATTRS_BYTES_MAX};
use crate::wire::message::{ENTRY_COST, Lane};

/// Candidates searched for one that is not blocked.
const CANDIDATES_MAX: usize = 64;

/// What a look may cost at most: its content, its header, and the entry that crosses the limits.
const LOOK_COST: u64 =
    LOOK_BYTES_MAX + LOOK_HEADER_BYTES_MAX + XATTRS_BYTES_MAX as u64 + SMALL_COST;
/// What a message without entries may cost at most: two paths.
const SMALL_COST: u64 = 66 * 1024;
/// What a page of a listing may cost at most.
const PAGE_COST: u64 = (PAGE_NAMES_MAX * (NAME_BYTES_MAX + ENTRY_COST)) as u64 + SMALL_COST;

impl Link {
    /// True if a message of this cost may be reserved for the lane.
    fn room(&self, lane: Lane, bytes: u64) -> bool {
        let (share_bytes, share_messages) = match lane {
            Lane::Live => (0, 0),
            Lane::Backlog => (self.live_share.bytes, self.live_share.messages),
        };
        self.spent.bytes + self.reserved.bytes + bytes + share_bytes <= self.credit.bytes
            // Besides the message itself there must be room for one that gives up a stream.
            && self.spent.messages + self.reserved.messages + 2 + share_messages <= self.credit.messages
    }
}

impl Replica {
    /// Hands out as much work as credit and readers allow; before the end of the service only what
    /// the file system has reported, and not what walks would still find.
    pub fn dispatch(&mut self, now: Now, ending: bool, out: &mut Vec<Action>) {
        if self.link.is_none() || self.quiet {
            return;
        }
        self.live.wake(now.ms);
        self.backlog.wake(now.ms);
        if ending {
            self.hurry(u64::MAX);
        } else {
            self.retry_problems(now);
        }
        self.end_refused_streams(now, out);
        self.dispatch_renames(now, out);
        self.dispatch_gather(now, out);
        let lanes: &[Lane] = if ending {
            &[Lane::Live]
        } else {
            &[Lane::Live, Lane::Backlog]
        };
        for &lane in lanes {
            if self.free(lane, LOOK_COST) {
                let streams = self.streams_free(lane);
                self.queue(lane).unpark(streams);
            }
            while self.free(lane, LOOK_COST) && self.dispatch_look(now, lane, out) {}
            self.dispatch_walk(now, lane, out);
            self.dispatch_streams(now, lane, out);
        }
        self.note_whole(now);
    }

    fn retry_problems(&mut self, now: Now) {
        for path in self.ledger.due(now) {
            let wish = Waiting::appeared(self.fresh_stamp(now)).with_content(self.last_pos);
            self.backlog.put_now(now.ms, path, wish);
        }
        if let Some(made) = self.ledger.take_unlisted() {
            let stamp = self.fresh_stamp(now);
            let root = RelPath::root();
            let rescan = self.of_forgotten(&root, Stamp { made, ..stamp });
            self.owe(root, rescan);
        }
    }

    /// Retries belong to no flush: problems end a flush by themselves.
    pub(super) fn fresh_stamp(&self, now: Now) -> Stamp {
        Stamp {
            pos: u64::MAX,
            since_ms: now.ms,
            made: Since::Ms(now.ms),
        }
    }

    /// True if another reading for this lane may begin.
    fn free(&self, lane: Lane, bytes: u64) -> bool {
        let [live, backlog] = self.in_flight_entries;
        let share = |max: usize| match lane {
            Lane::Live => max,
            Lane::Backlog => max / 4 * 3,
        };
        let max = share(self.limits.in_flight_entries_max);
        let path_bytes_max = share(self.limits.path_bytes_max);
        let readings_max = share(self.limits.readings_max).max(1);
        let throttled = lane == Lane::Backlog && !self.account.is_free();
        !throttled
            && self.readings.len() < readings_max
            && live + backlog < max
            && self.in_flight.len() < max
            && self.in_flight_path_bytes < path_bytes_max
            && self
                .link
                .as_ref()
                .is_some_and(|link| link.room(lane, bytes))
    }

    fn begin(
        &mut self,
        lane: Lane,
        work: Work,
        footprint: Footprint,
        bytes: u64,
        order: Order,
        out: &mut Vec<Action>,
    ) {
        let ticket = self.ticket();
        if let Some(link) = &mut self.link {
            link.reserved.bytes += bytes;
            link.reserved.messages += 1;
        }
        let held = Cost::bytes(bytes) + Cost::operations(order.operations_max());
        self.account.hold(lane, held);
        self.readings.insert(
            ticket,
            Reading {
                work,
                footprint,
                lane,
                reserved: Some(bytes),
                held,
                behind_barrier: None,
            },
        );
        out.push(Action::Read {
            ticket,
            lane,
            order,
        });
    }

    /// Ends a reading and gives back what was reserved for it.
    pub(super) fn end_reading(&mut self, ticket: Ticket) -> Option<Reading> {
        let reading = self.readings.remove(&ticket)?;
        self.account.release(reading.lane, reading.held);
        if let (Some(link), Some(bytes)) = (&mut self.link, reading.reserved) {
            link.reserved.bytes -= bytes;
            link.reserved.messages -= 1;
        }
        Some(reading)
    }

    // ---- what holds work up --------------------------------------------------------------------

    /// A claim on the path or above it, or a rename that touches it, must end first. Who looks at the metadata
    /// of a directory says nothing of what lies in it.
    fn blocked(&self, path: &RelPath) -> bool {
        self.blocked_by(self.readings.values(), path)
    }

    fn blocked_by<'a>(
        &self,
        mut readings: impl Iterator<Item = &'a Reading>,
        path: &RelPath,
    ) -> bool {
        let claimed = readings.any(|reading| match &reading.work {
            Work::DirMeta { dir, .. } => dir == path,
            _ => reading.footprint.covers(path),
        });
        (claimed && self.limits.keeps(Rule::Claim))
            || self.renames.iter().any(|renaming| renaming.touches(path))
    }

    /// The readings that can block anything directly in a directory: few, so that not all are asked for each of
    /// its names.
    fn rivals_in(&self, dir: &RelPath) -> Vec<Ticket> {
        let is_rival = |reading: &Reading| match &reading.work {
            Work::DirMeta { dir: other, .. } => dir.is_above(other),
            _ => {
                let mut groups = reading.footprint.groups();
                reading.footprint.covers(dir) || groups.any(|(other, _)| other == dir)
            }
        };
        let rivals = self
            .readings
            .iter()
            .filter(|(_, reading)| is_rival(reading));
        rivals.map(|(&ticket, _)| ticket).collect()
    }

    /// The highest directory above the path that waits for a look itself: it goes first, so that the
    /// sink has it in time.
    fn waiting_ancestor(&self, lane: Lane, path: &RelPath) -> Option<RelPath> {
        let queue = match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        };
        let mut highest = None;
        let mut above = path.parent();
        while let Some(dir) = above {
            above = dir.parent();
            if queue.get(&dir).is_some_and(|wish| wish.want == Want::State) {
                highest = Some(dir);
            }
        }
        highest
    }

    // ---- renames -------------------------------------------------------------------------------

    fn dispatch_renames(&mut self, now: Now, out: &mut Vec<Action>) {
        let applied = self.link.as_ref().map_or(0, |link| link.applied);
        let mut at = 0;
        while at < self.renames.len() && self.free(Lane::Live, SMALL_COST) {
            let renaming = &self.renames[at];
            let earlier = self.renames.iter().take(at);
            let waits = renaming.after > applied
                || earlier
                    .clone()
                    .any(|r| r.touches(&renaming.from) || r.touches(&renaming.to))
                || self.readings.values().any(|reading| {
                    let fp = &reading.footprint;
                    let mine = Footprint::entry(&renaming.from);
                    let other = Footprint::entry(&renaming.to);
                    mine.waits_for(fp) || other.waits_for(fp)
                });
            if waits {
                at += 1;
                continue;
            }
            let renaming = self.renames.remove(at).expect("the place was just seen");
            // Its content is to be told anyway, and may be an older one at the sink.
            if !renaming.is_dir && self.content_waits(&renaming.to) {
                self.rename_as_looks(now, &renaming);
                continue;
            }
            let order = Order::CheckRename {
                from: renaming.from.clone(),
                to: renaming.to.clone(),
            };
            let groups = [&renaming.from, &renaming.to]
                .into_iter()
                .filter_map(|path| path.split());
            let footprint =
                Footprint::Entries(groups.map(|(dir, name)| (dir, vec![name])).collect());
            self.begin(
                Lane::Live,
                Work::Rename(renaming),
                footprint,
                SMALL_COST,
                order,
                out,
            );
        }
    }

    fn content_waits(&self, path: &RelPath) -> bool {
        let queues = [&self.live, &self.backlog].into_iter();
        let mut wishes = queues.filter_map(|queue| queue.get(path));
        wishes.any(|wish| wish.content_pos > 0)
    }

    // ---- looks ---------------------------------------------------------------------------------

    fn dispatch_look(&mut self, now: Now, lane: Lane, out: &mut Vec<Action>) -> bool {
        let candidates: Vec<RelPath> = self
            .queue(lane)
            .ready()
            .take(CANDIDATES_MAX)
            .cloned()
            .collect();
        for candidate in candidates {
            // What waits below a directory may be all that stands in front of it in the queue.
            let path = self.waiting_ancestor(lane, &candidate).unwrap_or(candidate);
            if self.ledger.stands_for(&path) {
                if let Some(wish) = self.queue(lane).remove(&path) {
                    self.leave_to_above(&path, &wish);
                }
                continue;
            }
            if self.streamed(lane, &path)
                || self.blocked(&path)
                || !self.queue(lane).is_ready(&path)
            {
                continue;
            }
            let wish = *self.queue(lane).get(&path).expect("a ready path waits");
            match path.split() {
                Some((dir, name)) if wish.want > Want::DirMeta => {
                    self.look_at_names(now, lane, dir, &name, out)
                }
                _ => self.look_at_dir(lane, path, out),
            }
            return true;
        }
        false
    }

    /// A file that is being streamed is on its way already, as long as no event has ended the stream;
    /// only its metadata may have changed since, and is told behind it.
    fn streamed(&mut self, lane: Lane, path: &RelPath) -> bool {
        let Some(stream) = self
            .streams
            .values_mut()
            .find(|stream| stream.path == *path)
        else {
            return false;
        };
        let queue = match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        };
        if !stream.while_open
            && queue.get(path).is_some_and(|wish| wish.want == Want::State)
            && let Some(wish) = queue.remove(path)
        {
            stream.wish.merge(wish);
        }
        true
    }

    fn look_at_dir(&mut self, lane: Lane, dir: RelPath, out: &mut Vec<Action>) {
        let wish = self.queue(lane).remove(&dir).expect("a ready path waits");
        let order = Order::LookDir { dir: dir.clone() };
        let footprint = Footprint::entry(&dir);
        self.begin(
            lane,
            Work::DirMeta { dir, wish },
            footprint,
            SMALL_COST + XATTRS_BYTES_MAX as u64,
            order,
            out,
        );
    }

    fn look_at_names(
        &mut self,
        now: Now,
        lane: Lane,
        dir: RelPath,
        first: &Name,
        out: &mut Vec<Action>,
    ) {
        let (mut names, mut further) = (Vec::new(), Vec::new());
        let names_max = self.look_names_max(lane);
        let rivals = self.rivals_in(&dir);
        for name in self.queue(lane).ready_in(&dir, first, names_max) {
            let path = dir.join(&name);
            let rivals = rivals.iter().map(|ticket| &self.readings[ticket]);
            let busy = self.blocked_by(rivals, &path) || self.is_streamed(&path);
            if name != *first && busy {
                continue;
            }
            let wish = self.queue(lane).remove(&path).expect("a ready path waits");
            match self.further(&path, &wish, &names) {
                Some(how) => {
                    further.push(how);
                    names.push((name, wish));
                }
                None => self.look_later(now, lane, path, wish),
            }
        }
        if !names.is_empty() {
            let looks = self.looks(lane, dir, names, None);
            self.look(now, lane, looks, further, out);
        }
    }

    /// Names in one look.
    fn look_names_max(&self, lane: Lane) -> usize {
        self.limits.look_names.min(self.account.names_max(lane))
    }

    fn looks(
        &self,
        lane: Lane,
        dir: RelPath,
        names: Vec<(Name, Waiting)>,
        visit: Option<u64>,
    ) -> Looks {
        Looks {
            streams: self.streams_free(lane).min(names.len()),
            dir,
            names,
            visit,
            read_pos: self.last_pos,
        }
    }

    fn look(
        &mut self,
        now: Now,
        lane: Lane,
        looks: Looks,
        further: Vec<Further>,
        out: &mut Vec<Action>,
    ) {
        let Looks { dir, names, .. } = &looks;
        let walk = match lane {
            Lane::Live => &self.live_walk,
            Lane::Backlog => &self.backlog_walk,
        };
        let visit = looks.visit.and_then(|id| walk.visits.get(&id));
        let was_file =
            |name| visit.is_some_and(|visit| visit.not_files.binary_search(name).is_err());
        let asked = names
            .iter()
            .zip(further)
            .map(|((name, wish), further)| LookName {
                name: name.clone(),
                attributes: wish.want == Want::Attributes,
                is_file: was_file(name),
                unsettled: wish.unsettled >= super::UNSETTLED_TRIES,
                further,
            });
        let order = Order::Look {
            dir: dir.clone(),
            names: asked.collect(),
            content: now.ms >= self.content_after_ms,
            streams: looks.streams,
        };
        let claimed = names.iter().map(|(name, _)| name.clone()).collect();
        let footprint = Footprint::Entries(vec![(dir.clone(), claimed)]);
        self.begin(lane, Work::Looks(looks), footprint, LOOK_COST, order, out);
    }

    // ---- walks ---------------------------------------------------------------------------------

    fn dispatch_walk(&mut self, now: Now, lane: Lane, out: &mut Vec<Action>) {
        self.walker(lane).advance();
        if !self.queue(lane).may_park() {
            return;
        }
        let visits: Vec<u64> = self.walker(lane).visits.keys().copied().collect();
        for id in visits {
            if !self.free(lane, LOOK_COST) {
                return;
            }
            match self.walker(lane).visits[&id].step {
                Step::List { full } => self.list(lane, id, full, out),
                Step::Look => {
                    while self.free(lane, LOOK_COST) && self.look_for_visit(now, lane, id, out) {}
                }
                Step::Listing { .. } | Step::Answer { .. } => {}
            }
        }
    }

    fn list(&mut self, lane: Lane, id: u64, full: bool, out: &mut Vec<Action>) {
        let dir = self.walker(lane).visits[&id].dir.clone();
        if self.ledger.stands_for(&dir) {
            let made = self.walker(lane).visits[&id].rescan.stamp.made;
            self.ledger.leave_to_above(&dir, made);
            self.walker(lane).drop_visit(id);
            return;
        }
        if self.blocked(&dir) || self.waiting_ancestor(lane, &dir).is_some() {
            return;
        }
        let page_names = self.limits.page_names.min(self.account.names_max(lane));
        let view = Arc::clone(&self.view);
        let visit = self
            .walker(lane)
            .visits
            .get_mut(&id)
            .expect("the visit is there");
        visit.step = Step::Listing { full };
        if !std::mem::replace(&mut visit.bound, true) {
            // Watched before it is listed: nothing falls between (rule 31).
            out.push(Action::Bind { path: dir.clone() });
        }
        let order = Order::List {
            dir: dir.clone(),
            after: visit.after.clone(),
            names_max: page_names,
            detail: match visit.rescan.fresh {
                true => Detail::Kind,
                false => Detail::Everything,
            },
            suspicion: visit.rescan.suspicion,
            view,
        };
        let range = NameRange {
            after: visit.after.clone(),
            upto: None,
        };
        let footprint = Footprint::Listing(dir, range);
        self.begin(
            lane,
            Work::List { visit: id },
            footprint,
            PAGE_COST,
            order,
            out,
        );
    }

    fn look_for_visit(&mut self, now: Now, lane: Lane, id: u64, out: &mut Vec<Action>) -> bool {
        let names_max = self.look_names_max(lane);
        let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
            return false;
        };
        let rescan = visit.rescan;
        let dir = visit.dir.clone();
        let count = visit.looks.len().min(names_max);
        let candidates: Vec<Name> = visit.looks.drain(..count).collect();
        let suspects = visit.suspects.clone();
        let lacks = visit.lacks.clone();
        // The listing may not have told that a name is a directory: what is distrusted here is so below it.
        let open_below = rescan.suspicion.is_some();
        // What stands for an event that was lost is told to all names, as that would be.
        let touched = open_below && self.holds_names_apart();
        let mut names = Vec::with_capacity(candidates.len());
        let mut further = Vec::with_capacity(candidates.len());
        let rivals = self.rivals_in(&dir);
        for name in candidates {
            let path = dir.join(&name);
            if let Some(stream) = self.streams.values_mut().find(|stream| stream.path == path) {
                // It is on its way already; who waits for this page waits for it.
                stream.wish.stamp = stream.wish.stamp.earliest(rescan.stamp);
                continue;
            }
            let pos = match suspects.binary_search(&name) {
                Ok(_) => rescan.suspected_pos,
                Err(_) => 0,
            };
            let rivals = rivals.iter().map(|ticket| &self.readings[ticket]);
            if self.blocked_by(rivals, &path) {
                // Somebody holds it: it waits in the queue, so that the page can go on.
                let wish = Waiting::appeared(rescan.stamp).with_content(pos);
                let wish = Waiting {
                    touched,
                    open_below,
                    ..wish
                };
                self.queue(lane).put(now.ms, path, wish);
                continue;
            }
            let wish = Waiting::new(rescan.stamp, Want::State).with_content(pos);
            let wish = Waiting {
                touched,
                open_below,
                without_base: rescan.fresh || lacks.binary_search(&name).is_ok(),
                ..wish
            };
            match self.further(&path, &wish, &names) {
                Some(how) => {
                    further.push(how);
                    names.push((name, wish));
                }
                None => self.look_later(now, lane, path, wish),
            }
        }
        if names.is_empty() {
            self.walker(lane).finish_if_done(id);
            return count > 0;
        }
        self.walker(lane)
            .visits
            .get_mut(&id)
            .expect("the visit is there")
            .looking += names.len() as u32;
        let looks = self.looks(lane, dir, names, Some(id));
        self.look(now, lane, looks, further, out);
        true
    }

    // ---- streams -------------------------------------------------------------------------------

    /// Streams that a look may open, besides those that others may.
    fn streams_free(&self, lane: Lane) -> usize {
        let open = self.streams.values().filter(|s| s.lane == lane).count();
        let readings = self.readings.values().filter(|r| r.lane == lane);
        let promised: usize = readings.map(|reading| reading.work.streams()).sum();
        self.limits.streams_max.saturating_sub(open + promised)
    }

    fn dispatch_streams(&mut self, now: Now, lane: Lane, out: &mut Vec<Action>) {
        let chunk = self.limits.chunk_bytes;
        let room = chunk.max(SMALL_COST) + ENTRY_COST as u64;
        let idle: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| s.lane == lane && !s.busy)
            .map(|(&id, _)| id)
            .collect();
        for id in idle {
            if !self.free(lane, room) {
                return;
            }
            if self.ask_for_base(now, id, out) && !self.free(lane, room) {
                return;
            }
            let stream = &self.streams[&id];
            if stream.awaits_base() {
                continue;
            }
            if stream.offset < stream.meta.size {
                let offset = stream.offset;
                let (bytes, hashed) = match &stream.base {
                    Some(_) => (self.limits.block_bytes, true),
                    None => (chunk.min(stream.meta.size - offset), false),
                };
                let span = Span {
                    offset,
                    bytes,
                    hashed,
                };
                let order = Order::ReadChunk { stream: id, span };
                self.mark_busy(id);
                self.begin(
                    lane,
                    Work::Chunk { stream: id },
                    Footprint::Stage(id),
                    bytes + ENTRY_COST as u64,
                    order,
                    out,
                );
            } else {
                let path = stream.path.clone();
                if self.blocked(&path) || !self.free(lane, LOOK_COST) {
                    continue;
                }
                let order = Order::EndStream {
                    stream: id,
                    path: path.clone(),
                    unsettled: stream.while_open,
                };
                self.mark_busy(id);
                let footprint = Footprint::entry(&path);
                self.begin(
                    lane,
                    Work::StreamEnd { stream: id },
                    footprint,
                    LOOK_COST,
                    order,
                    out,
                );
            }
        }
    }

    fn mark_busy(&mut self, id: u64) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.busy = true;
        }
    }
}

impl Renaming {
    /// True if the path is one of its names, above or below one.
    pub(super) fn touches(&self, path: &RelPath) -> bool {
        [&self.from, &self.to]
            .into_iter()
            .any(|name| name.covers(path) || path.covers(name))
    }
}
