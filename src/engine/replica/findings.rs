//! What readers found becomes numbered messages, or waits again.

use std::collections::VecDeque;

use super::{Looks, NEVER_SETTLING_MAX, Reading, Renaming, Replica, Sent, Stream, Subject, Work};
use crate::engine::footprint::Footprint;
use crate::engine::ledger::{Failure, Side};
use crate::engine::queue::{Waiting, Want};
use crate::engine::source::Action;
use crate::engine::walk::{Rescan, Step};
use crate::engine::work::{Finding, Listed, Seen};
use crate::engine::{Now, Stamp, Ticket};
use crate::tree::{Body, Digest, Entry, Kind, Name, NameRange, RelPath, State};
use crate::wire::message::{Change, Lane, Page};

/// Pages up to this many entries are sent without asking by digest first.
const SMALL_PAGE: usize = 4;

impl Replica {
    /// Takes the result of a reading.
    pub fn found(&mut self, now: Now, ticket: Ticket, finding: Finding, out: &mut Vec<Action>) {
        let Some(reading) = self.readings.get_mut(&ticket) else {
            return close_streams(&finding, out);
        };
        let needs_barrier = match &finding {
            Finding::Looked(seen) => seen.iter().any(Seen::needs_barrier),
            Finding::Renamed { .. } => true,
            _ => false,
        };
        if needs_barrier && !matches!(reading.work, Work::Void) && reading.behind_barrier.is_none()
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
    fn last_number(&self) -> u64 {
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

    fn take(&mut self, now: Now, ticket: Ticket, finding: Finding, out: &mut Vec<Action>) {
        let Some(Reading { work, lane, .. }) = self.end_reading(ticket) else {
            return;
        };
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
                self.listed(now, lane, visit, listed, out)
            }
            (Work::Chunk { stream }, Finding::Chunk(data)) => self.chunk(now, stream, data, out),
            (Work::StreamEnd { stream }, Finding::StreamEnded { whole }) => {
                self.stream_ended(now, stream, whole, out);
            }
            (Work::Void, finding) => close_streams(&finding, out),
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
                let failure = Failure {
                    side,
                    operation,
                    errno,
                    halted: false,
                    number: self.last_number(),
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
        let Looks { dir, names, visit } = looks;
        let dir = &dir;
        let mut entries = Vec::with_capacity(names.len());
        let mut sent = Vec::with_capacity(names.len());
        let mut stamp: Option<Stamp> = None;
        let mut unread = VecDeque::new();
        let is_listed = self.is_listed(lane, visit);
        for ((name, wish), seen) in names.into_iter().zip(seen) {
            let path = dir.join(&name);
            let is_retry = wish.stamp.pos == u64::MAX;
            match self.shown(&name, seen, is_listed || is_retry) {
                Seen::Is {
                    state: State::Present(_, Body::Unchanged),
                    ..
                } if self.state_waits(&path) => {
                    // The content has changed as well: the whole state is looked at.
                    let wish = Waiting {
                        want: Want::State,
                        ..wish
                    };
                    self.queue(lane).put(now.ms, path, wish);
                }
                Seen::Is { state, while_open } => {
                    let flags = self.flags(lane, visit, &name, &wish, &state);
                    if !flags.is_dir {
                        self.note_sent(now, lane, &path, while_open);
                    }
                    stamp = Some(stamp.map_or(wish.stamp, |s| s.earliest(wish.stamp)));
                    sent.push((name.clone(), flags));
                    entries.push(Entry { name, state });
                }
                Seen::Large {
                    stream,
                    meta,
                    while_open,
                } => {
                    self.streams.insert(
                        stream,
                        Stream {
                            path,
                            meta,
                            wish,
                            lane,
                            while_open,
                            offset: 0,
                            busy: false,
                        },
                    );
                }
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
                Seen::Failed { operation, errno } => {
                    self.ledger.failed(
                        now,
                        path,
                        Failure {
                            side: Side::Source,
                            operation,
                            errno,
                            halted: false,
                            number: self.last_number(),
                        },
                    );
                }
                Seen::Unread if visit.is_some() => unread.push_back(name),
                Seen::Unread => self.queue(lane).put_now(now.ms, path, wish),
            }
        }
        if let Some(visit) = visit.and_then(|id| self.walker(lane).visits.get_mut(&id)) {
            unread.append(&mut visit.looks);
            visit.looks = unread;
        } else {
            for name in unread {
                let wish = Waiting::appeared(stamp.unwrap_or_else(|| self.fresh_stamp(now)));
                self.queue(lane).put(now.ms, dir.join(&name), wish);
            }
        }
        let Some(stamp) = stamp else { return };
        self.void_below(now, dir, &entries, out);
        // A directory that appeared is sent, watched, listed, in this order.
        for (name, _) in sent
            .iter()
            .filter(|(_, flags)| flags.is_dir && flags.appeared)
        {
            self.walker(lane)
                .owe(dir.join(name), Rescan::compare(stamp));
        }
        let subject = Subject::Entries {
            dir: dir.clone(),
            names: sent,
        };
        self.number(
            now,
            lane,
            stamp,
            Change::Entries {
                dir: dir.clone(),
                entries,
            },
            subject,
            out,
        );
        self.parent_meta(now, lane, dir, stamp);
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
                visit.subdirs.push((name.clone(), true));
            }
            walked = visit
                .subdirs
                .iter()
                .find(|(dir, _)| dir == name)
                .map(|(_, fresh)| *fresh);
        }
        Sent {
            is_dir,
            appeared: wish.appeared || (visit.is_some() && walked.is_none()),
            walked,
            made: false,
        }
    }

    fn state_waits(&self, path: &RelPath) -> bool {
        [&self.live, &self.backlog]
            .iter()
            .any(|queue| queue.get(path).is_some_and(|wish| wish.want == Want::State))
    }

    fn note_sent(&mut self, now: Now, lane: Lane, path: &RelPath, while_open: bool) {
        if lane == Lane::Live {
            self.live.sent(now.ms, path);
        }
        if while_open {
            self.read_while_open += 1;
            if self.never_settling.len() < NEVER_SETTLING_MAX
                || self.never_settling.contains_key(path)
            {
                *self.never_settling.entry(path.clone()).or_default() += 1;
            }
        }
    }

    /// Where something else than a directory was seen, nothing that was read below it counts
    /// (rules 3 and 10).
    fn void_below(&mut self, now: Now, dir: &RelPath, entries: &[Entry], out: &mut Vec<Action>) {
        if self.readings.is_empty() && self.streams.is_empty() {
            return;
        }
        let gone: Vec<Name> = entries
            .iter()
            .filter(
                |entry| !matches!(&entry.state, State::Present(meta, _) if meta.kind == Kind::Dir),
            )
            .map(|entry| entry.name.clone())
            .collect();
        let replaced = Footprint::Entries(vec![(dir.clone(), gone)]);
        let below = |path: &RelPath| path.parent().is_some_and(|parent| replaced.covers(&parent));
        self.void_readings(now, out, |footprint| match footprint {
            Footprint::Listing(dir, _) | Footprint::DirMeta(dir) => replaced.covers(dir),
            _ => footprint.groups().any(|(dir, _)| replaced.covers(dir)),
        });
        self.end_streams(now, out, |stream| below(&stream.path));
    }

    // ---- renames -------------------------------------------------------------------------------

    fn send_rename(&mut self, now: Now, renaming: Renaming, change: Change, out: &mut Vec<Action>) {
        let Renaming {
            stamp,
            from,
            to,
            is_dir,
        } = renaming;
        let subject = Subject::Rename {
            from: from.clone(),
            to: to.clone(),
            is_dir,
        };
        self.number(now, Lane::Live, stamp, change, subject, out);
        for path in [&from, &to] {
            self.live
                .put_now(now.ms, path.clone(), Waiting::new(stamp, Want::State));
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
        visit.subdirs = dirs.map(|entry| (entry.name.clone(), false)).collect();
        visit.looks = listed.suspects.into();
        if rescan.fresh {
            visit.subdirs.clear();
            visit.looks = listed
                .entries
                .iter()
                .map(|entry| entry.name.clone())
                .collect();
            visit.step = Step::Look;
            self.listing_is_an_event(now, &dir, &range, rescan.stamp);
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

    fn chunk(&mut self, now: Now, id: u64, data: bytes::Bytes, out: &mut Vec<Action>) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        stream.busy = false;
        let wanted = self
            .limits
            .chunk_bytes
            .min(stream.meta.size - stream.offset);
        if data.len() as u64 != wanted {
            return self.abandon(now, id, out);
        }
        let (lane, stamp, offset) = (stream.lane, stream.wish.stamp, stream.offset);
        stream.offset += wanted;
        self.number(
            now,
            lane,
            stamp,
            Change::Chunk {
                stream: id,
                offset,
                data,
            },
            Subject::Stage,
            out,
        );
    }

    fn stream_ended(&mut self, now: Now, id: u64, whole: bool, out: &mut Vec<Action>) {
        if !whole {
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
            ..
        } = stream;
        self.note_sent(now, lane, &path, while_open);
        if let Some((dir, name)) = path.split() {
            let entry = Entry {
                name,
                state: State::Present(meta.clone(), Body::Unchanged),
            };
            self.void_below(now, &dir, std::slice::from_ref(&entry), out);
            let change = Change::Publish {
                stream: id,
                path: path.clone(),
                meta,
            };
            self.number(now, lane, wish.stamp, change, Subject::Publish(path), out);
            self.parent_meta(now, lane, &dir, wish.stamp);
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
        let stamp = match &work {
            Work::Looks(looks) => looks
                .names
                .iter()
                .map(|(_, wish)| wish.stamp)
                .reduce(Stamp::earliest),
            Work::DirMeta { wish, .. } => Some(wish.stamp),
            Work::Rename(renaming) => Some(renaming.stamp),
            Work::List { visit } => self
                .walker(lane)
                .visits
                .get(visit)
                .map(|visit| visit.rescan.stamp),
            Work::Chunk { stream } | Work::StreamEnd { stream } => {
                self.streams.get(stream).map(|stream| stream.wish.stamp)
            }
            Work::Void => None,
        };
        let Some(stamp) = stamp else { return };
        // Problems below a name that is no directory any more are over with it.
        self.ledger.clear_below(highest);
        self.queue(lane)
            .put_now(now.ms, highest.clone(), Waiting::appeared(stamp));
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
            Work::DirMeta { .. } | Work::Void => {}
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
        self.ledger.clear_below(&path);
        self.ledger.failed(now, path, failure);
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
