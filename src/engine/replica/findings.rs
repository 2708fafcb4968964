//! What readers found becomes numbered messages, or waits again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::base::Piece;
use super::{Looks, Reading, Renaming, Replica, Rule, Sent, Stream, Subject, Work};
use crate::engine::footprint::Footprint;
use crate::engine::ledger::{Failure, Side};
use crate::engine::queue::{Waiting, Want};
use crate::engine::source::Action;
use crate::engine::throttle::Cost;
use crate::engine::walk::{Rescan, Step, Subdir};
use crate::engine::work::{Finding, Links, Listed, Seen};
use crate::engine::{Now, Since, Stamp, Ticket};
use crate::tree::{BlockHash, Body, Digest, Entry, Kind, Name, NameRange, RelPath, State};
use crate::wire::message::{Change, Lane, Page};

/// Pages up to this many entries are sent without asking by digest first.
const SMALL_PAGE: usize = 4;

/// What a look has to tell, before it is sent.
#[derive(Default)]
struct Told {
    entries: Vec<Entry>,
    sent: Vec<(Name, Sent)>,
    /// The earliest cause of any of it.
    stamp: Option<Stamp>,
    /// Entries with several names.
    linked: Vec<(RelPath, Waiting, How)>,
}

impl Told {
    fn push(&mut self, name: Name, stamp: Stamp, flags: Sent, state: State) {
        self.stamp = Some(self.stamp.map_or(stamp, |s| s.earliest(stamp)));
        self.sent.push((name.clone(), flags));
        self.entries.push(Entry { name, state });
    }
}

/// How an entry with several names is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Whole,
    Metadata,
    Link,
}

impl How {
    fn of(state: &State) -> Self {
        match state {
            State::Present(_, Body::Unchanged { .. }) => Self::Metadata,
            State::Present(_, Body::Link { .. }) => Self::Link,
            State::Present(..) | State::Absent => Self::Whole,
        }
    }
}

impl Replica {
    /// Takes the result of a reading.
    pub fn found(&mut self, now: Now, ticket: Ticket, finding: Finding, out: &mut Vec<Action>) {
        if self.scanned(now, ticket, &finding, out) {
            return;
        }
        let Some(reading) = self.readings.get_mut(&ticket) else {
            return close_streams(&finding, out);
        };
        let needs_barrier = match &finding {
            Finding::Looked(seen) => seen.iter().any(Seen::needs_barrier),
            Finding::Renamed { .. } => true,
            _ => false,
        };
        if needs_barrier
            && !matches!(reading.work, Work::Void { .. })
            && reading.behind_barrier.is_none()
        {
            // Whether it is absent or was renamed, and whether metadata goes with the content that
            // the sink has, is known only when all events up to the look have been read (rules 12
            // and 29).
            reading.behind_barrier = Some(finding);
            out.push(Action::Barrier { ticket });
            return;
        }
        self.take(now, ticket, finding, out);
    }

    /// A failure to read is over when something sent after it was done.
    pub(super) fn last_number(&self) -> u64 {
        self.link.as_ref().map_or(0, |link| link.sent)
    }

    /// All events up to a look have been read.
    pub fn barrier_passed(&mut self, now: Now, ticket: Ticket, out: &mut Vec<Action>) {
        if let Some(reading) = self.readings.get_mut(&ticket)
            && let Some(finding) = reading.behind_barrier.take()
        {
            self.take(now, ticket, finding, out);
        }
    }

    /// Ends a replica that has no session: what its looks have opened is closed.
    pub fn close(self, out: &mut Vec<Action>) {
        let untold = self
            .readings
            .values()
            .filter_map(|reading| reading.behind_barrier.as_ref());
        untold.for_each(|finding| close_streams(finding, out));
    }

    fn take(&mut self, now: Now, ticket: Ticket, finding: Finding, out: &mut Vec<Action>) {
        let Some(Reading {
            work, lane, held, ..
        }) = self.end_reading(ticket)
        else {
            return;
        };
        let operations = finding.operations(held.operations.unsigned_abs());
        self.account.charge(lane, Cost::operations(operations));
        if self.link.is_none() {
            close_streams(&finding, out);
            return self.put_back(now, lane, work, out);
        }
        match (work, finding) {
            (Work::Looks(looks), Finding::Looked(seen)) => {
                let (visit, count) = (looks.visit, looks.names.len() as u32);
                self.looked(now, lane, looks, seen, out);
                self.looked_for_visit(lane, visit, count);
            }
            (Work::DirMeta { dir, wish }, Finding::Dir(meta)) => {
                let meta = self.shown_dir(&dir, meta);
                let change = Change::DirMeta {
                    dir: dir.clone(),
                    meta,
                };
                self.number(now, lane, wish.stamp, change, Subject::DirMeta(dir), out);
            }
            (Work::Rename(renaming), Finding::Renamed { kind, size, mtime }) => {
                let right_kind = (kind == Kind::Dir) == renaming.is_dir;
                let mtime = self.view.time(mtime);
                if right_kind {
                    let Renaming { from, to, .. } = renaming.clone();
                    self.send_rename(
                        now,
                        renaming,
                        Change::Rename {
                            from,
                            to,
                            kind,
                            size,
                            mtime,
                        },
                        out,
                    );
                } else {
                    self.rename_as_looks(now, &renaming);
                }
            }
            (Work::List { visit }, Finding::Listed(listed)) => {
                self.listed(now, lane, visit, *listed, out)
            }
            (Work::Chunk { stream }, Finding::Chunk { offset, data, hash }) => {
                self.chunk(now, stream, (offset, data, hash), out);
            }
            (Work::StreamEnd { stream }, Finding::StreamEnded { whole }) => {
                self.stream_ended(now, stream, whole, out);
            }
            (
                Work::Chunk { stream } | Work::StreamEnd { stream },
                Finding::StreamFailed { operation, errno },
            ) => {
                if let Some(Stream {
                    lane, path, wish, ..
                }) = self.close_stream(now, stream, out)
                {
                    self.not_told(now, lane, path, wish, Seen::Failed { operation, errno });
                }
            }
            (Work::Void { .. }, finding) => close_streams(&finding, out),
            (work, Finding::Excluded) => self.say_nothing(now, lane, work, out),
            (work, Finding::Broken(highest)) => self.broken(now, lane, work, &highest, out),
            (
                work,
                Finding::Failed {
                    path,
                    operation,
                    errno,
                },
            ) => {
                let side = Side::Source;
                let cause = self.cause_of(lane, &work);
                let failure = Failure {
                    side,
                    operation,
                    errno,
                    halted: false,
                    number: self.last_number(),
                    made: cause.map_or(Since::Ms(now.ms), |stamp| stamp.made),
                };
                self.failed(now, lane, work, path, failure, out);
            }
            (work, _) => self.put_back(now, lane, work, out),
        }
    }

    // ---- looks ---------------------------------------------------------------------------------

    fn looked(
        &mut self,
        now: Now,
        lane: Lane,
        looks: Looks,
        seen: Vec<Seen>,
        out: &mut Vec<Action>,
    ) {
        let Looks {
            ref dir,
            visit,
            read_pos,
            ..
        } = looks;
        let mut told = Told::default();
        let mut unread = VecDeque::new();
        let is_listed = self.is_listed(lane, visit);
        for ((name, wish), seen) in looks.names.iter().zip(seen) {
            let (name, path) = (name.clone(), dir.join(name));
            // Whoever has asked for the look: what could not be told is told now.
            let problem = self.ledger.get(&path);
            let touched = wish.touched || problem.is_some_and(|problem| problem.touched);
            let wish = Waiting { touched, ..*wish };
            if let Seen::Is { state, links, .. } = &seen
                && !self.still_holds(&path, &wish, state, *links, &looks)
            {
                // It has changed since, or its anchor has: the whole state is looked at.
                let wish = Waiting {
                    want: Want::State,
                    ..wish
                };
                self.queue(lane).put(now.ms, path, wish);
                continue;
            }
            let is_retry = wish.stamp.pos == u64::MAX;
            match self.shown(&name, seen, is_listed || is_retry) {
                Seen::Is {
                    state,
                    while_open,
                    links,
                } => {
                    let flags = self.flags(lane, visit, &name, &wish, &state);
                    if !flags.is_dir {
                        self.note_sent(now, lane, &path, while_open);
                    }
                    let state = self.note_links(&path, links, visit.is_some(), &wish, state);
                    if links.is_some() {
                        told.linked.push((path, wish, How::of(&state)));
                    }
                    told.push(name, wish.stamp, flags, state);
                }
                Seen::Large {
                    stream,
                    meta,
                    while_open,
                    links,
                } => {
                    if links.is_some() {
                        // Until it is told, no name may become one of an older content.
                        self.note_inode(&path, links, &wish);
                    }
                    let begun = Stream {
                        path,
                        meta,
                        wish,
                        lane,
                        while_open,
                        links,
                        read_pos,
                        offset: 0,
                        busy: false,
                        base: None,
                        refused: None,
                    };
                    self.begin_stream(stream, begun);
                }
                Seen::Unread if visit.is_some() => unread.push_back(name),
                other => {
                    // It is looked at again outside of the visit, which would compare its subtree.
                    let appeared = wish.appeared || visit.is_some();
                    self.not_told(now, lane, path, Waiting { appeared, ..wish }, other);
                }
            }
        }
        if let Some(visit) = visit.and_then(|id| self.walker(lane).visits.get_mut(&id)) {
            // Other looks of the visit may have given theirs back before.
            visit.looks.append(&mut unread);
            visit.looks.make_contiguous().sort_unstable();
        } else {
            for name in unread {
                let stamp = told.stamp.unwrap_or_else(|| self.fresh_stamp(now));
                let wish = Waiting::appeared(stamp).with_content(self.last_pos);
                self.queue(lane).put(now.ms, dir.join(&name), wish);
            }
        }
        self.tell(now, lane, looks.dir, told, read_pos, out);
    }

    /// What a look of metadata alone, or of a further name, builds on must still be what the sink has; and content
    /// must not take the place of what another name of the inode has told since it was read.
    fn still_holds(
        &self,
        path: &RelPath,
        wish: &Waiting,
        state: &State,
        links: Option<Links>,
        looks: &Looks,
    ) -> bool {
        match state {
            State::Present(_, Body::Content(_)) => {
                links.is_none_or(|links| !self.links.told_since(links.inode, looks.read_pos))
            }
            State::Present(_, Body::Unchanged { .. }) => {
                // Nothing may have been written through a name that nobody knows or watches.
                let knows_all = links
                    .is_none_or(|links| self.watches_all && !self.links.misses_names(path, links));
                knows_all && !self.state_waits(path, looks)
            }
            State::Present(_, Body::Link { to, .. }) => self.may_link(path, wish, to),
            _ => true,
        }
    }

    /// Sends what a look has seen.
    fn tell(
        &mut self,
        now: Now,
        lane: Lane,
        dir: RelPath,
        told: Told,
        read_pos: u64,
        out: &mut Vec<Action>,
    ) {
        let Told {
            entries,
            sent,
            stamp: Some(stamp),
            linked,
        } = told
        else {
            return;
        };
        self.void_below(now, &dir, &entries, out);
        // A directory that appeared is sent, watched, listed, in this order.
        for (name, flags) in sent
            .iter()
            .filter(|(_, flags)| flags.is_dir && flags.appeared)
        {
            let path = dir.join(name);
            let rescan = match flags.open_below {
                true => self.of_forgotten(&path, stamp),
                false => Rescan::compare(stamp),
            };
            self.walker(lane).owe(path, rescan);
        }
        let subject = Subject::Entries {
            dir: dir.clone(),
            names: sent,
        };
        let change = Change::Entries {
            dir: dir.clone(),
            entries,
        };
        self.number(now, lane, stamp, change, subject, out);
        self.parent_meta(now, lane, &dir, stamp);
        for (path, wish, how) in linked {
            match how {
                How::Whole => self.anchored(now, lane, &path, &wish, read_pos),
                How::Metadata => self.asserted(now, lane, &path, &wish),
                How::Link => {}
            }
            self.look_for_others(now, &path, &wish);
        }
    }

    /// A name about which a look has nothing to tell waits again, or is a problem.
    fn not_told(&mut self, now: Now, lane: Lane, path: RelPath, wish: Waiting, seen: Seen) {
        match seen {
            Seen::Unsettled => {
                self.retries += 1;
                let hold = self.limits.hold_off.at(wish.unsettled + 1);
                let wish = Waiting {
                    unsettled: wish.unsettled + 1,
                    not_before_ms: now.ms + hold,
                    ..wish
                };
                self.queue(lane).put(now.ms, path, wish);
            }
            Seen::Withheld => {
                let wish = Waiting {
                    not_before_ms: self.content_after_ms.max(now.ms + 1),
                    ..wish
                };
                self.queue(lane).put(now.ms, path, wish);
            }
            Seen::NoStream => self.queue(lane).park(now.ms, path, wish),
            Seen::Excluded => {
                self.ledger.forget(&path);
                self.look_elsewhere(&path, &wish);
                self.leave(&path);
            }
            Seen::Linked(links) => self.seen_linked(now, lane, path, wish, links),
            Seen::Failed { operation, errno } => {
                self.links.unread(&path, wish.content_pos);
                let failure = Failure {
                    side: Side::Source,
                    operation,
                    errno,
                    halted: false,
                    number: self.last_number(),
                    made: wish.stamp.made,
                };
                self.ledger.failed(now, path.clone(), failure);
                if wish.touched {
                    self.ledger.touch(&path);
                }
            }
            Seen::Unread | Seen::Is { .. } | Seen::Large { .. } => {
                self.queue(lane).put_now(now.ms, path, wish);
            }
        }
    }

    /// True if the names of a visit were compared before they are looked at.
    fn is_listed(&mut self, lane: Lane, visit: Option<u64>) -> bool {
        let visit = visit.and_then(|id| self.walker(lane).visits.get(&id));
        visit.is_some_and(|visit| !visit.rescan.fresh)
    }

    fn flags(
        &mut self,
        lane: Lane,
        visit: Option<u64>,
        name: &Name,
        wish: &Waiting,
        state: &State,
    ) -> Sent {
        let is_dir = matches!(state, State::Present(meta, _) if meta.kind == Kind::Dir);
        let mut walked = None;
        if is_dir && let Some(visit) = visit.and_then(|id| self.walker(lane).visits.get_mut(&id)) {
            if visit.rescan.fresh {
                visit.subdirs.push(Subdir {
                    name: name.clone(),
                    fresh: true,
                    compared: None,
                });
            }
            walked = visit
                .subdirs
                .iter()
                .find(|found| found.name == *name)
                .map(|found| found.fresh);
        }
        Sent {
            is_dir,
            replaced: is_dir && wish.replaced,
            open_below: is_dir && wish.open_below,
            touched: wish.touched,
            appeared: wish.appeared || (visit.is_some() && walked.is_none()),
            walked,
            made: false,
        }
    }

    /// True if the content may have changed, as far as is known or has been forgotten, or is being read under
    /// another name of the inode, perhaps by these looks.
    fn state_waits(&self, path: &RelPath, looks: &Looks) -> bool {
        let waits = |path: &RelPath| {
            let queues = [&self.live, &self.backlog].into_iter();
            let mut wishes = queues.filter_map(|queue| queue.get(path));
            wishes.any(|wish| wish.want == Want::State)
                || self.ledger.holds(path)
                || self.ledger.stands_for(path)
        };
        let suspected = |path: &RelPath| self.walks().any(|walk| walk.suspects(path));
        let unanswered = |path: &RelPath| !self.holds_names_apart() && self.is_unanswered(path);
        let is_read = |path: &RelPath| {
            let mut others = self.readings.values().map(|reading| &reading.work);
            looks.want_state_of(path) || others.any(|work| work.wants_state_of(path))
        };
        let waits_elsewhere = |path: &RelPath| {
            waits(path)
                || unanswered(path)
                || suspected(path)
                || self.is_streamed(path)
                || is_read(path)
        };
        let elsewhere = || {
            let group = self.links.of(path);
            group.is_some_and(|group| group.others(path).any(waits_elsewhere))
        };
        waits(path) || self.is_unanswered(path) || suspected(path) || elsewhere()
    }

    fn note_sent(&mut self, now: Now, lane: Lane, path: &RelPath, while_open: bool) {
        if lane == Lane::Live {
            self.live.sent(now.ms, path);
        }
        if while_open {
            self.read_while_open += 1;
            if self.never_settling.len() < self.limits.never_settling_max
                || self.never_settling.contains_key(path)
            {
                *self.never_settling.entry(path.clone()).or_default() += 1;
            }
        }
    }

    /// Where something else than a directory was seen, nothing that was read below it counts
    /// (rules 3 and 10), nor what is known of names there.
    fn void_below(&mut self, now: Now, dir: &RelPath, entries: &[Entry], out: &mut Vec<Action>) {
        let is_dir = |entry: &&Entry| matches!(&entry.state, State::Present(meta, _) if meta.kind == Kind::Dir);
        if !(self.readings.is_empty() && self.streams.is_empty()) {
            let gone = entries.iter().filter(|entry| !is_dir(entry));
            let gone = gone.map(|entry| entry.name.clone()).collect();
            let replaced = Footprint::Entries(vec![(dir.clone(), gone)]);
            let below =
                |path: &RelPath| path.parent().is_some_and(|parent| replaced.covers(&parent));
            self.void_readings(now, out, |footprint| match footprint {
                Footprint::Listing(dir, _) | Footprint::DirMeta(dir) => replaced.covers(dir),
                _ => footprint.groups().any(|(dir, _)| replaced.covers(dir)),
            });
            self.end_streams(now, out, |stream| below(&stream.path));
        }
        if self.links.is_empty() {
            return;
        }
        for entry in entries.iter().filter(|entry| !is_dir(entry)) {
            let path = dir.join(&entry.name);
            match entry.state {
                State::Absent => self.leave(&path),
                State::Present(..) => self.leave_below(&path),
            }
        }
    }

    // ---- renames -------------------------------------------------------------------------------

    fn send_rename(&mut self, now: Now, renaming: Renaming, change: Change, out: &mut Vec<Action>) {
        let Renaming {
            stamp,
            from,
            to,
            is_dir,
            ..
        } = renaming;
        let subject = Subject::Rename {
            from: from.clone(),
            to: to.clone(),
            is_dir,
        };
        self.number(now, Lane::Live, stamp, change, subject, out);
        // A file that moved has the content that the sink moved, unless more was said of it.
        let moved = if is_dir {
            Want::State
        } else {
            Want::Attributes
        };
        for (path, want) in [(&from, Want::State), (&to, moved)] {
            self.live
                .put_now(now.ms, path.clone(), Waiting::new(stamp, want));
            if is_dir {
                self.backlog_walk.owe(path.clone(), Rescan::compare(stamp));
            }
            if let Some(dir) = path.parent() {
                self.parent_meta(now, Lane::Live, &dir, stamp);
            }
        }
    }

    // ---- listings ------------------------------------------------------------------------------

    fn listed(&mut self, now: Now, lane: Lane, id: u64, listed: Listed, out: &mut Vec<Action>) {
        let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
            return;
        };
        let Step::Listing { full } = visit.step else {
            return;
        };
        if !full {
            self.losses.listed(&listed.met);
        }
        let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
            return;
        };
        let upto = listed.upto;
        let range = NameRange {
            after: visit.after.clone(),
            upto: upto.clone(),
        };
        visit.next_after = upto;
        let (dir, rescan) = (visit.dir.clone(), visit.rescan);
        let dirs = listed
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Dir);
        let subdirs = dirs.map(|entry| Subdir {
            name: entry.name.clone(),
            fresh: false,
            compared: Some(entry.mtime),
        });
        visit.subdirs = subdirs.collect();
        let others = listed
            .entries
            .iter()
            .filter(|entry| entry.kind != Kind::File);
        visit.not_files = others.map(|entry| entry.name.clone()).collect();
        let has_changed = visit.after.is_none()
            && visit
                .compared
                .is_some_and(|compared| compared != listed.mtime);
        visit.looks = listed.suspects.iter().cloned().collect();
        visit.suspects = listed.suspects;
        // Which names are one inode is compared by whole walks: it takes all of them.
        visit.linked = listed.linked;
        if rescan.audit {
            visit.linked.clear();
        }
        if rescan.fresh {
            visit.subdirs.clear();
            visit.looks = listed
                .entries
                .iter()
                .map(|entry| entry.name.clone())
                .collect();
            visit.step = Step::Look;
            self.listing_is_an_event(now, &dir, &range, rescan.stamp);
            if listed.entries.is_empty() {
                // No child is told, behind which its times would be set; names may have come and gone since it
                // was looked at, before it was watched.
                self.parent_meta(now, lane, &dir, rescan.stamp);
            }
            return self.walker(lane).finish_if_done(id);
        }
        let ask_first = !full && listed.entries.len() > SMALL_PAGE;
        visit.step = Step::Answer { full: !ask_first };
        self.listing_is_an_event(now, &dir, &range, rescan.stamp);
        let page = if ask_first {
            Page::Digest(Digest::of(&listed.entries), listed.entries.len() as u32)
        } else {
            Page::Entries(listed.entries)
        };
        if has_changed {
            // Names came and went before it was watched; nobody else tells its time.
            self.parent_meta(now, lane, &dir, rescan.stamp);
        }
        let change = Change::Listing { dir, range, page };
        self.number(
            now,
            lane,
            rescan.stamp,
            change,
            Subject::Listing { visit: id },
            out,
        );
    }

    /// A listing counts as an event for each of its names that is being read (rule 4c).
    fn listing_is_an_event(&mut self, now: Now, dir: &RelPath, range: &NameRange, stamp: Stamp) {
        let mut again = Vec::new();
        for reading in self.readings.values() {
            for (at, names) in reading.footprint.groups().filter(|(at, _)| *at == dir) {
                let touched = names.iter().filter(|name| range.contains(name.as_bytes()));
                again.extend(touched.map(|name| at.join(name)));
            }
        }
        for path in again {
            self.backlog.put(now.ms, path, Waiting::appeared(stamp));
        }
    }

    // ---- streams -------------------------------------------------------------------------------

    fn chunk(
        &mut self,
        now: Now,
        id: u64,
        (offset, data, hash): (u64, Bytes, Option<BlockHash>),
        out: &mut Vec<Action>,
    ) {
        let trusts = !self.limits.keeps(Rule::SameHash);
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.busy = false;
        let (end, size) = (offset + data.len() as u64, stream.meta.size);
        // A piece that leads nowhere would be asked for again and again.
        if offset < stream.offset || end <= stream.offset || end > size {
            return self.abandon(now, id, out);
        }
        let (lane, stamp) = (stream.lane, stream.wish.stamp);
        let before = std::mem::replace(&mut stream.offset, end);
        let found = Piece {
            offset: before,
            kept: 0,
            hole: offset - before,
            data,
        };
        let told = match &mut stream.base {
            Some(base) => base.without_same(found, hash, trusts),
            None => Some(found),
        };
        let Some(piece) = told else { return };
        let change = piece.into_chunk(id, size);
        self.number(now, lane, stamp, change, Subject::Stage { stream: id }, out);
    }

    fn stream_ended(&mut self, now: Now, id: u64, whole: bool, out: &mut Vec<Action>) {
        let outdated = self.streams.get(&id).is_some_and(|stream| {
            let inode = stream.links.map(|links| links.inode);
            inode.is_some_and(|inode| self.links.told_since(inode, stream.read_pos))
        });
        if !whole || outdated {
            return self.abandon(now, id, out);
        }
        let Some(stream) = self.streams.remove(&id) else {
            return;
        };
        out.push(Action::CloseStream { stream: id });
        let Stream {
            path,
            meta,
            wish,
            lane,
            while_open,
            links,
            read_pos,
            base,
            ..
        } = stream;
        self.note_sent(now, lane, &path, while_open);
        if let Some((dir, name)) = path.split() {
            let entry = Entry {
                name,
                state: State::Present(meta.clone(), Body::Empty),
            };
            self.void_below(now, &dir, std::slice::from_ref(&entry), out);
            let noted = self.note_inode(&path, links, &wish);
            let change = Change::Publish {
                stream: id,
                path: path.clone(),
                meta,
                hash: base.map(|base| base.hash()),
            };
            let subject = Subject::Publish {
                path: path.clone(),
                touched: wish.touched,
            };
            self.number(now, lane, wish.stamp, change, subject, out);
            self.parent_meta(now, lane, &dir, wish.stamp);
            if noted {
                self.anchored(now, lane, &path, &wish, read_pos);
                self.look_for_others(now, &path, &wish);
            }
        }
    }

    // ---- what could not be read ------------------------------------------------------------------

    /// A directory on the way is gone: the highest missing name is looked at first (rule 12).
    fn broken(
        &mut self,
        now: Now,
        lane: Lane,
        work: Work,
        highest: &RelPath,
        out: &mut Vec<Action>,
    ) {
        let Some(stamp) = self.cause_of(lane, &work) else {
            return;
        };
        if let Work::Looks(Looks { dir, names, .. }) = &work {
            for (name, wish) in names {
                self.look_elsewhere(&dir.join(name), wish);
            }
        }
        self.leave_below(highest);
        // Problems below a name that is no directory any more are over with it.
        let cleared = self.ledger.clear_below(highest);
        let open = cleared.into_iter().chain(self.forgotten_with(lane, &work));
        let mut wish = Waiting::appeared(stamp);
        if let Some(made) = open.min() {
            wish.open_below = true;
            wish.stamp.made = made.min(stamp.made);
        }
        self.queue(lane).put_now(now.ms, highest.clone(), wish);
        match work {
            // What waits below an absent name has nothing to say of its own: if the name is there
            // again, it is new, and its subtree is compared.
            Work::Looks(looks) => {
                self.looked_for_visit(lane, looks.visit, looks.names.len() as u32);
            }

            Work::List { visit } => {
                self.walker(lane).drop_visit(visit);
            }
            Work::Rename(renaming) => self.rename_as_looks(now, &renaming),
            work @ (Work::Chunk { .. } | Work::StreamEnd { .. }) => {
                self.put_back(now, lane, work, out)
            }
            Work::DirMeta { .. } | Work::Void { .. } => {}
        }
    }

    /// The earliest stamp of what is being read.
    fn cause_of(&mut self, lane: Lane, work: &Work) -> Option<Stamp> {
        match work {
            Work::Looks(looks) => {
                let stamps = looks.names.iter().map(|(_, wish)| wish.stamp);
                stamps.reduce(Stamp::earliest)
            }
            Work::DirMeta { wish, .. } => Some(wish.stamp),
            Work::Rename(renaming) => Some(renaming.stamp),
            Work::List { visit } => {
                let visit = self.walker(lane).visits.get(visit);
                visit.map(|visit| visit.rescan.stamp)
            }
            Work::Chunk { stream } | Work::StreamEnd { stream } => {
                self.streams.get(stream).map(|stream| stream.wish.stamp)
            }
            Work::Void { .. } => None,
        }
    }

    /// Since when changes are forgotten if this reading is dropped. A comparison that trusts what it finds,
    /// or a look that it has asked for, is as good at any later time.
    fn forgotten_with(&mut self, lane: Lane, work: &Work) -> Option<Since> {
        match work {
            Work::Looks(looks) => {
                let wishes = looks.names.iter().map(|(_, wish)| wish);
                let content = wishes.filter(|wish| wish.content_pos > 0);
                content.map(|wish| wish.stamp.made).min()
            }
            Work::List { visit } => {
                let visit = self.walker(lane).visits.get(visit)?;
                let suspicion = visit.rescan.suspicion;
                suspicion.map(|_| visit.rescan.stamp.made)
            }
            _ => None,
        }
    }

    /// The directory is excluded: nothing is said of it or of what is below (rule 35).
    fn say_nothing(&mut self, now: Now, lane: Lane, work: Work, out: &mut Vec<Action>) {
        match work {
            Work::Looks(looks) => {
                self.looked_for_visit(lane, looks.visit, looks.names.len() as u32);
            }
            Work::List { visit } => {
                self.walker(lane).drop_visit(visit);
            }
            Work::DirMeta { dir, .. } => self.ledger.forget(&dir),
            work => self.put_back(now, lane, work, out),
        }
    }

    fn failed(
        &mut self,
        now: Now,
        lane: Lane,
        work: Work,
        path: RelPath,
        failure: Failure<'_>,
        out: &mut Vec<Action>,
    ) {
        match work {
            Work::List { visit } => {
                self.walker(lane).drop_visit(visit);
            }
            // The problem stands for it and is tried again in its place.
            Work::DirMeta { .. } => {}
            work => self.put_back(now, lane, work, out),
        }
        self.ledger.failed_with_all_below(now, path, failure);
    }
}

/// Files that a look opened are closed if its result is not wanted.
pub(crate) fn close_streams(finding: &Finding, out: &mut Vec<Action>) {
    if let Finding::Looked(seen) = finding {
        for seen in seen {
            if let Seen::Large { stream, .. } = seen {
                out.push(Action::CloseStream { stream: *stream });
            }
        }
    }
}
