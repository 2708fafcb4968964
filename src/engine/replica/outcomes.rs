//! The sink's answers and marks: what is done leaves memory, what is not done waits again.

use super::{InFlight, Link, Replica, Rule, Sent, Stream, Subject, Work};
use crate::channel::Peer;
use crate::engine::ledger::{Failure, Side};
use crate::engine::queue::{Waiting, Want};
use crate::engine::source::Action;
use crate::engine::walk::{Rescan, Step};
use crate::engine::{Now, Since, Stamp};
use crate::report::Shortage;
use crate::tree::{Name, RelPath};
use crate::wire::message::{Answer, Credit, Lane, Outcome, Refusal, ResumePoint};

/// How long content is held back after the sink said that it is full, in milliseconds.
pub(super) const FULL_HOLD_MS: u64 = 2_000;

impl Replica {
    /// Takes outcomes, marks and credit. False if they cannot be true, which ends the session.
    pub fn acknowledged(
        &mut self,
        now: Now,
        outcomes: Vec<(u64, Outcome)>,
        applied: u64,
        durable: u64,
        credit: Credit,
    ) -> bool {
        let Some(link) = &self.link else { return true };
        let sane = applied <= link.sent
            && durable <= applied
            && outcomes
                .iter()
                .all(|(number, _)| (link.applied + 1..=link.sent).contains(number));
        if !sane {
            return false;
        }
        // Outcomes count before the marks that cover them (rule 15), and once each: what they leave behind
        // would grow without bounds otherwise.
        for (number, outcome) in outcomes {
            let message = self.in_flight.get_mut(&number);
            if message.is_some_and(|message| std::mem::replace(&mut message.answered, true)) {
                return false;
            }
            self.outcome(now, number, outcome);
        }
        self.mark_applied(now, applied);
        self.mark_durable(durable);
        if let Some(link) = &mut self.link {
            link.credit.bytes = link.credit.bytes.max(credit.bytes);
            link.credit.messages = link.credit.messages.max(credit.messages);
        }
        self.note_whole(now);
        true
    }

    /// A whole walk has ended when nothing of it is left on the way.
    pub(super) fn note_whole(&mut self, now: Now) {
        let Some(pos) = self.whole_walk.filter(|&pos| self.reached(pos)) else {
            return;
        };
        if !std::mem::replace(&mut self.walk_searched, true) && self.links.any_incomplete() {
            let since_ms = now.ms;
            let made = Since::Ms(since_ms);
            self.owe_search(Stamp {
                pos,
                since_ms,
                made,
            });
        } else {
            self.whole_walk = None;
        }
    }

    fn mark_applied(&mut self, now: Now, applied: u64) {
        let Some(link) = &mut self.link else { return };
        let before = link.applied;
        link.applied = applied.max(before);
        if applied <= before {
            return;
        }
        let mut done = Vec::new();
        let mut not_new = Vec::new();
        let mut replaced = Vec::new();
        for (&number, message) in self.in_flight.range(before + 1..=applied) {
            self.applied_meter
                .add(now.ms, message.subject.entries() as u64, message.bytes);
            if !self.ledger.is_empty() {
                done.extend(message.done_paths().into_iter().map(|path| (path, number)));
            }
            not_new.extend(
                message
                    .subject
                    .taken_for_new()
                    .map(|path| (path, message.stamp)),
            );
            replaced.extend(message.replaced());
        }
        for (path, number) in done {
            if let Some(problem) = self.ledger.clear(&path, number) {
                // Nothing below a directory with a problem was sent, nor were its events kept. Now that no
                // problem stands for it, every flush waits for it.
                let stamp = Stamp {
                    pos: 0,
                    since_ms: problem.open_ms(),
                    made: problem.open_since,
                };
                if let Some(dir) = path.parent() {
                    // Metadata alone may have made a directory good, and tells nothing of the one above.
                    self.parent_meta(now, Lane::Backlog, &dir, stamp);
                }
                if problem.touched {
                    self.look_at_others(now, &path, stamp);
                }
                let rescan = self.of_forgotten(&path, stamp);
                self.compare(Lane::Backlog, path, rescan);
            }
        }
        for (path, stamp) in not_new {
            self.backlog_walk.owe(path, Rescan::compare(stamp));
        }
        for (path, stamp) in replaced {
            let rescan = self.of_replaced(&path, stamp);
            self.backlog_walk.owe(path, rescan);
        }
    }

    fn mark_durable(&mut self, durable: u64) {
        let Some(link) = &mut self.link else { return };
        link.durable = durable.max(link.durable);
        while let Some((&number, _)) = self.in_flight.first_key_value()
            && number <= durable
        {
            let (_, message) = self.in_flight.pop_first().expect("it has a first element");
            self.forget(&message);
        }
    }

    fn forget(&mut self, message: &InFlight) {
        self.in_flight_entries[message.lane as usize] -= message.subject.entries();
        self.in_flight_bytes[message.lane as usize] -= message.bytes;
        self.in_flight_path_bytes -= message.subject.path_bytes();
    }

    // ---- outcomes --------------------------------------------------------------------------------

    fn outcome(&mut self, now: Now, number: u64, outcome: Outcome) {
        let Some(message) = self.in_flight.get(&number) else {
            return;
        };
        let (lane, stamp) = (message.lane, message.stamp);
        for (at, refusal) in outcome.refused {
            if refusal == Refusal::Kept {
                // All is done that may be done: nothing waits for what is excluded.
                self.kept_dirs += 1;
                continue;
            }
            let Some(message) = self.in_flight.get_mut(&number) else {
                return;
            };
            message.refused.push(at);
            if let Subject::Base { stream } | Subject::Stage { stream } = message.subject {
                self.piece_refused(now, number, stream, refusal);
                continue;
            }
            let Some((path, sent)) = message.subject.at(at) else {
                continue;
            };
            let whole = match &message.subject {
                Subject::Rename { to, is_dir, .. } => Some((to.clone(), *is_dir)),
                _ => None,
            };
            let wish = sent.wish_again(stamp);
            // Whatever it was built on, the whole cannot be wrong.
            let without_base =
                refusal == Refusal::Mismatch && matches!(message.subject, Subject::Publish { .. });
            let wish = Waiting {
                without_base,
                ..wish
            };
            if let Some(path) = self.moved_since(number, &path) {
                // The sink has moved, or will move, what it was to have by then.
                let wish = wish.with_content(self.last_pos);
                self.queue(lane).put_now(now.ms, path, wish);
            }
            self.refused(now, number, lane, path, wish, refusal);
            if let Some((to, is_dir)) = whole {
                let wish = self.arrival(stamp, is_dir);
                self.queue(lane).put_now(now.ms, to, wish);
            }
        }
        self.made(stamp, number, &outcome.made);
        if let Some(answer) = outcome.answer
            && let Some(message) = self.in_flight.get(&number)
        {
            match message.subject {
                Subject::Listing { visit } => self.answered(now, lane, visit, answer),
                Subject::Base { stream } => self.base_told(stream, answer),
                _ => {}
            }
        }
    }

    /// Where renames that come behind a message take what it has told of this path.
    fn moved_since(&self, number: u64, path: &RelPath) -> Option<RelPath> {
        let sent = self.in_flight.range(number + 1..);
        let sent = sent.filter_map(|(_, message)| message.subject.as_rename());
        let looked_at = self
            .readings
            .values()
            .filter_map(|reading| match &reading.work {
                Work::Rename(renaming) => Some(renaming),
                _ => None,
            });
        let coming = looked_at.chain(&self.renames);
        let coming = coming.map(|renaming| (&renaming.from, &renaming.to, renaming.is_dir));
        moved_by(path, sent.chain(coming))
    }

    fn refused(
        &mut self,
        now: Now,
        number: u64,
        lane: Lane,
        path: RelPath,
        wish: Waiting,
        why: Refusal,
    ) {
        self.retries += 1;
        self.links.unlinked(&path);
        if why == Refusal::Mismatch {
            self.links.refused(&path, number);
        }
        if !self.limits.keeps(Rule::RefusedWaits) {
            return;
        }
        // What the sink holds instead is not known: only what is read from now on will do.
        let wish = wish.with_content(self.last_pos);
        match why {
            Refusal::ParentMissing => self.look_from_top(now, lane, path, wish),
            Refusal::Mismatch => self.queue(lane).put_now(now.ms, path, wish),
            Refusal::Full(shortage) => {
                self.hold_content(now, shortage);
                let wish = Waiting {
                    not_before_ms: self.content_after_ms,
                    ..wish
                };
                self.queue(lane).put(now.ms, path, wish);
            }
            // Counted by whoever asks: it is as good as done.
            Refusal::Kept => {}
            Refusal::Halted => {
                let failure = Failure {
                    side: Side::Sink,
                    operation: "remove",
                    errno: 0,
                    halted: true,
                    number,
                    made: wish.stamp.made,
                };
                self.ledger.failed(now, path, failure);
            }
            Refusal::Problem { operation, errno } => {
                let operation = operation.as_str();
                self.ledger.failed_with_all_below(
                    now,
                    path.clone(),
                    Failure {
                        side: Side::Sink,
                        operation,
                        errno,
                        halted: false,
                        number,
                        made: wish.stamp.made,
                    },
                );
                if wish.touched {
                    self.ledger.touch(&path);
                }
            }
        }
    }

    fn hold_content(&mut self, now: Now, shortage: Shortage) {
        self.shortage = Some(shortage);
        self.content_after_ms = now.ms + FULL_HOLD_MS;
    }

    /// A stream of which the sink has refused a piece leads nowhere: nothing more of it is read.
    fn piece_refused(&mut self, now: Now, number: u64, stream: u64, why: Refusal) {
        if let Refusal::Full(shortage) = why {
            self.hold_content(now, shortage);
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.refused.get_or_insert((number, why));
        }
    }

    /// Ends the streams that the sink has refused, as if it had refused the whole files.
    pub(super) fn end_refused_streams(&mut self, now: Now, out: &mut Vec<Action>) {
        let refused = |(&id, stream): (&u64, &Stream)| Some((id, stream.refused.clone()?));
        let ended: Vec<_> = self.streams.iter().filter_map(refused).collect();
        for (id, (number, why)) in ended {
            if let Some(stream) = self.close_stream(now, id, out) {
                let without_base = stream.wish.without_base || why == Refusal::Mismatch;
                let wish = Waiting {
                    without_base,
                    ..stream.wish
                };
                self.refused(now, number, stream.lane, stream.path, wish, why);
            }
        }
    }

    /// The sink lacks a directory above: each is looked at from the top, then the path (rule 9).
    fn look_from_top(&mut self, now: Now, lane: Lane, path: RelPath, wish: Waiting) {
        let mut above = path.parent();
        while let Some(dir) = above.filter(|dir| !dir.is_root()) {
            self.queue(lane)
                .put_now(now.ms, dir.clone(), Waiting::new(wish.stamp, Want::State));
            above = dir.parent();
        }
        self.queue(lane).put_now(now.ms, path, wish);
    }

    /// Everything in a directory that the sink had to make is sent (rule 4b), unless a walk or the
    /// comparison of a directory that appeared does so anyway.
    fn made(&mut self, stamp: Stamp, number: u64, made: &[u32]) {
        let Some(message) = self.in_flight.get_mut(&number) else {
            return;
        };
        let Subject::Entries { dir, names } = &mut message.subject else {
            return;
        };
        for &at in made {
            let Some((name, sent)) = names.get_mut(at as usize) else {
                continue;
            };
            sent.made = true;
            if sent.walked.is_none() && !sent.appeared {
                let rescan = Rescan {
                    fresh: true,
                    ..Rescan::compare(stamp)
                };
                self.backlog_walk.owe(dir.join(name), rescan);
            }
        }
    }

    /// How many of these names no event has told of: nothing of them waits or is under way.
    fn untold(&self, dir: &RelPath, names: &[Name]) -> u64 {
        let is_read = |name: &Name| {
            let mut groups = self
                .readings
                .values()
                .flat_map(|reading| reading.footprint.groups());
            groups.any(|(read_in, read)| read_in == dir && read.contains(name))
        };
        let told = |name: &Name| {
            let path = dir.join(name);
            let waits = [&self.live, &self.backlog]
                .iter()
                .any(|queue| queue.get(&path).is_some());
            let mut messages = self.in_flight.values();
            waits || self.ledger.holds(&path) || messages.any(|message| message.tells(dir, name))
        };
        let untold = |name: &&Name| !told(name) && !is_read(name);
        names.iter().filter(untold).count() as u64
    }

    fn answered(&mut self, now: Now, lane: Lane, id: u64, answer: Answer) {
        let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
            return;
        };
        let Step::Answer { full } = visit.step else {
            return;
        };
        match answer {
            Answer::Equal => {
                visit.step = Step::Look;
                self.look_at_linked(lane, id);
            }
            Answer::Different if !full => visit.step = Step::List { full: true },
            Answer::Different | Answer::Blocks(_) => visit.step = Step::List { full: false },
            Answer::Names {
                lacks,
                differs,
                excess,
                more,
            } => {
                for found in &mut visit.subdirs {
                    found.fresh |= lacks.binary_search(&found.name).is_ok();
                }
                visit.lacks = lacks.clone();
                let mut names: Vec<Name> = lacks.into_iter().chain(differs).chain(excess).collect();
                if visit.rescan.audit {
                    let dir = visit.dir.clone();
                    self.audit_found += self.untold(&dir, &names);
                }
                let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
                    return;
                };
                names.extend(visit.looks.drain(..));
                names.sort();
                names.dedup();
                visit.looks = names.into();
                visit.again = more;
                visit.step = Step::Look;
                self.look_at_linked(lane, id);
            }
            Answer::Missing => {
                let visit = self
                    .walker(lane)
                    .drop_visit(id)
                    .expect("the visit was just seen");
                let stamp = visit.rescan.stamp;
                self.look_from_top(now, lane, visit.dir, Waiting::appeared(stamp));
                return;
            }
            Answer::Failed(errno) => {
                let visit = self
                    .walker(lane)
                    .drop_visit(id)
                    .expect("the visit was just seen");
                let failure = Failure {
                    side: Side::Sink,
                    operation: "list",
                    errno,
                    halted: false,
                    number: 0,
                    made: visit.rescan.stamp.made,
                };
                self.ledger.failed(now, visit.dir, failure);
                return;
            }
        }
        self.walker(lane).finish_if_done(id);
    }

    // ---- sessions --------------------------------------------------------------------------------

    /// A session begins. What the resume point proves durable is not sent again; without one that
    /// fits, a whole walk is owed.
    pub fn attach(
        &mut self,
        now: Now,
        stamp: Stamp,
        epoch: u64,
        peers: Vec<Peer>,
        credit: Credit,
        resume: Option<&ResumePoint>,
    ) {
        self.last_pos = stamp.pos;
        let resume = resume.filter(|point| point.epoch != 0);
        let of_last = resume.filter(|point| point.epoch == self.last_epoch);
        if let Some(point) = of_last {
            self.settle_up_to(point);
        }
        self.put_back_in_flight(now);
        // A session that the sink never heard to have begun has changed nothing there.
        let of_one_before = resume.filter(|point| point.epoch == self.resumed_epoch);
        let goes_on = of_last
            .or(of_one_before)
            .filter(|point| point.continuous)
            .map(|point| point.epoch);
        if goes_on.is_none() {
            self.links.unlink_all();
            self.owe(RelPath::root(), Rescan::compare(stamp));
        }
        self.resumed_epoch = goes_on.unwrap_or_default();
        self.last_epoch = epoch;
        self.sessions += 1;
        self.content_after_ms = 0;
        self.shortage = None;
        self.link = Some(Link {
            epoch,
            peers,
            next_peer: 0,
            sent: 0,
            applied: 0,
            durable: 0,
            credit,
            spent: Credit::default(),
            reserved: Credit::default(),
            live_share: Credit {
                bytes: credit.bytes / 4,
                messages: credit.messages / 4,
            },
        });
    }

    /// What was durable when the connection was lost, though nobody could say so.
    fn settle_up_to(&mut self, point: &ResumePoint) {
        let durable: Vec<u64> = self
            .in_flight
            .range(point.known_from + 1..=point.durable.max(point.known_from + 1))
            .map(|(&number, _)| number)
            .filter(|number| {
                *number <= point.durable && point.exceptions.binary_search(number).is_err()
            })
            .collect();
        for number in durable {
            let Some(message) = self.in_flight.get(&number) else {
                continue;
            };
            // A comparison is its answer; without one it was not made.
            if !matches!(message.subject, Subject::Listing { .. }) {
                let message = self.in_flight.remove(&number).expect("it was just seen");
                self.forget(&message);
            }
        }
    }

    /// The session is over. What was not durable is settled when the sink is back.
    pub fn detach(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.link.take().is_none() {
            return;
        }
        self.void_readings(now, out, |_| true);
        self.end_streams(now, out, |_| true);
        while let Some(renaming) = self.renames.pop_front() {
            self.rename_as_looks(now, &renaming);
        }
        self.live_walk.restart();
        self.backlog_walk.restart();
        self.ledger.renumber();
        self.links.renumber();
        for reading in self.readings.values_mut() {
            reading.reserved = None;
        }
    }

    /// Everything in flight is looked at again under new numbers (rules 8, 13).
    fn put_back_in_flight(&mut self, now: Now) {
        let in_flight = std::mem::take(&mut self.in_flight);
        let renames = in_flight
            .iter()
            .filter_map(|(number, message)| Some((*number, message.subject.as_rename()?)));
        let renames: Vec<_> = renames
            .map(|(number, (from, to, is_dir))| (number, from.clone(), to.clone(), is_dir))
            .collect();
        for (number, message) in in_flight {
            let InFlight {
                lane,
                stamp,
                subject,
                ..
            } = message;
            if !self.limits.keeps(Rule::PutBack) {
                continue;
            }
            match subject {
                Subject::Entries { dir, names } => {
                    for (name, sent) in names {
                        let path = dir.join(&name);
                        self.links.unlinked(&path);
                        let wish = sent.wish_again(stamp);
                        let later = renames.iter().filter(|(moved, ..)| *moved > number);
                        let later = later.map(|(_, from, to, is_dir)| (from, to, *is_dir));
                        if let Some(path) = moved_by(&path, later) {
                            self.queue(lane).put_now(now.ms, path, wish);
                        }
                        self.queue(lane).put_now(now.ms, path, wish);
                    }
                }
                Subject::DirMeta(dir) => {
                    self.queue(lane)
                        .put_now(now.ms, dir, Waiting::new(stamp, Want::DirMeta));
                }
                Subject::Rename { from, to, is_dir } => {
                    self.rename_as_looks(
                        now,
                        &super::Renaming {
                            stamp,
                            from,
                            to,
                            is_dir,
                            after: 0,
                        },
                    );
                }
                Subject::Publish { path, touched } => {
                    self.links.unlinked(&path);
                    let wish = Waiting::new(stamp, Want::State);
                    let wish = Waiting { touched, ..wish };
                    self.queue(lane).put_now(now.ms, path, wish);
                }
                // The visit itself was set back to its listing; a stage was freed with the session.
                Subject::Listing { .. } | Subject::Base { .. } | Subject::Stage { .. } => {}
            }
            self.shed();
        }
        self.in_flight_entries = [0; 2];
        self.in_flight_bytes = [0; 2];
        self.in_flight_path_bytes = 0;
    }
}

/// Where these renames, one after the other, take a path; `None` if nowhere else.
fn moved_by<'a>(
    path: &RelPath,
    renames: impl Iterator<Item = (&'a RelPath, &'a RelPath, bool)>,
) -> Option<RelPath> {
    let mut moved = None;
    for (from, to, is_dir) in renames {
        let here = moved.as_ref().unwrap_or(path);
        if is_dir || from == here {
            moved = here.moved(from, to).or(moved);
        }
    }
    moved
}

impl Subject {
    /// Both names of a rename, and whether it is one of a directory.
    fn as_rename(&self) -> Option<(&RelPath, &RelPath, bool)> {
        match self {
            Self::Rename { from, to, is_dir } => Some((from, to, *is_dir)),
            _ => None,
        }
    }

    /// The entry at this place of the message.
    fn at(&self, at: u32) -> Option<(RelPath, Sent)> {
        match self {
            Self::Entries { dir, names } => names
                .get(at as usize)
                .map(|(name, sent)| (dir.join(name), *sent)),
            Self::DirMeta(path) => Some((
                path.clone(),
                Sent {
                    is_dir: true,
                    ..Sent::default()
                },
            )),
            Self::Rename { from, is_dir, .. } => Some((
                from.clone(),
                Sent {
                    is_dir: *is_dir,
                    appeared: *is_dir,
                    ..Sent::default()
                },
            )),
            Self::Publish { path, touched } => Some((
                path.clone(),
                Sent {
                    touched: *touched,
                    ..Sent::default()
                },
            )),
            Self::Listing { .. } | Self::Base { .. } | Self::Stage { .. } => None,
        }
    }

    /// Directories that a walk took for new on the sink and that were there already: there may be
    /// something in them that the source does not have.
    fn taken_for_new(&self) -> impl Iterator<Item = RelPath> {
        let (dir, names) = match self {
            Self::Entries { dir, names } => (Some(dir), names.as_slice()),
            _ => (None, &[][..]),
        };
        let not_new = names
            .iter()
            .filter(|(_, sent)| sent.walked == Some(true) && !sent.made);
        not_new.filter_map(move |(name, _)| dir.map(|dir| dir.join(name)))
    }
}

impl Sent {
    /// What is wanted of the entry after it was refused or lost on the way.
    fn wish_again(&self, stamp: Stamp) -> Waiting {
        let wish = match self {
            Self {
                replaced: true,
                made: false,
                ..
            } => Waiting::replaced(stamp),
            Self { is_dir: true, .. } | Self { appeared: true, .. } => Waiting::appeared(stamp),
            _ => Waiting::new(stamp, Want::State),
        };
        Waiting {
            open_below: self.open_below,
            touched: self.touched,
            ..wish
        }
    }
}

impl InFlight {
    /// True if it tells of this name.
    pub(super) fn tells(&self, dir: &RelPath, name: &Name) -> bool {
        match &self.subject {
            Subject::Publish { path, .. } => *path == dir.join(name),
            Subject::Entries {
                dir: told_in,
                names,
            } => told_in == dir && names.iter().any(|(told, _)| told == name),
            Subject::Rename { to, .. } => *to == dir.join(name),
            _ => false,
        }
    }

    /// Directories that took a name under which the sink, as far as it is known, has another one.
    pub(super) fn replaced(&self) -> impl Iterator<Item = (RelPath, Stamp)> {
        let (dir, names) = match &self.subject {
            Subject::Entries { dir, names } => (Some(dir), names.as_slice()),
            _ => (None, &[][..]),
        };
        let stamp = self.stamp;
        names
            .iter()
            .zip(0..)
            .filter(|((_, sent), at)| sent.replaced && !sent.made && !self.refused.contains(at))
            .filter_map(move |((name, _), _)| Some((dir?.join(name), stamp)))
    }

    /// The paths that the sink has done, now that the message has its outcome.
    fn done_paths(&self) -> Vec<RelPath> {
        match &self.subject {
            Subject::Entries { dir, names } => names
                .iter()
                .enumerate()
                .filter(|(at, _)| !self.refused.contains(&(*at as u32)))
                .map(|(_, (name, _))| dir.join(name))
                .collect(),
            _ if !self.refused.is_empty() => Vec::new(),
            Subject::DirMeta(path) | Subject::Publish { path, .. } => vec![path.clone()],
            Subject::Rename { from, to, .. } => vec![from.clone(), to.clone()],
            Subject::Listing { .. } | Subject::Base { .. } | Subject::Stage { .. } => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::engine::replica::Limits;
    use crate::engine::wall::WallClock;
    use crate::engine::work::{Inode, Links};
    use crate::tree::{Entry, State};
    use crate::wire::message::Change;

    /// A replica with a session in which two names were sent, each in a message of its own.
    fn with_two_sent() -> Replica {
        let now = Now::default();
        let stamp = Stamp {
            pos: 1,
            since_ms: 0,
            made: Since::Ms(0),
        };
        let mut replica = Replica::new(1, Limits::default(), WallClock::new(now));
        let credit = Credit {
            bytes: 1 << 20,
            messages: 16,
        };
        replica.attach(now, stamp, 7, vec![Peer(1)], credit, None);
        for name in ["one", "two"] {
            let name = Name::new(name.as_bytes()).unwrap();
            let subject = Subject::Entries {
                dir: RelPath::root(),
                names: vec![(name.clone(), Sent::default())],
            };
            let change = Change::Entries {
                dir: RelPath::root(),
                entries: vec![Entry {
                    name,
                    state: State::Absent,
                }],
            };
            replica.number(now, Lane::Live, stamp, change, subject, &mut Vec::new());
        }
        replica
    }

    /// Whether an acknowledgement with outcomes of these numbers can be true.
    fn sane(replica: &mut Replica, numbers: &[u64], applied: u64) -> bool {
        let outcome = Outcome {
            refused: vec![(0, Refusal::Mismatch)],
            ..Outcome::default()
        };
        let outcomes = numbers.iter().map(|&n| (n, outcome.clone())).collect();
        replica.acknowledged(Now::default(), outcomes, applied, 0, Credit::default())
    }

    /// A retry belongs to no flush, and so does what it tells to the other names of the inode (seed 56286699743398).
    #[test]
    fn every_flush_waits_for_the_other_names_of_what_had_a_problem() {
        let path = |name: &str| RelPath::new(name.as_bytes()).unwrap();
        for touched in [false, true] {
            let mut replica = with_two_sent();
            let inode = Inode { dev: 1, ino: 1 };
            let (count, changed) = (2, None);
            for name in ["one", "other"] {
                let links = Links {
                    inode,
                    count,
                    changed,
                };
                assert!(replica.links.note(&path(name), links));
            }
            let failure = Failure {
                side: Side::Source,
                operation: "read",
                errno: libc::EIO,
                halted: false,
                number: 0,
                made: Since::Ms(0),
            };
            let now = Now::default();
            replica.ledger.failed(now, path("one"), failure);
            if touched {
                replica.ledger.touch(&path("one"));
            }
            assert!(sane(&mut replica, &[], 1));
            let look = replica.live.get(&path("other"));
            assert_eq!(look.map(|look| look.stamp.pos), touched.then_some(0));
        }
    }

    #[test]
    fn a_number_has_one_outcome_before_its_mark() {
        assert!(sane(&mut with_two_sent(), &[2, 1], 2));
        for numbers in [&[1, 1][..], &[3], &[u64::MAX]] {
            assert!(!sane(&mut with_two_sent(), numbers, 0), "{numbers:?}");
        }
        let mut replica = with_two_sent();
        assert!(sane(&mut replica, &[2], 0));
        assert!(!sane(&mut replica, &[2], 0), "a second time");
        let mut replica = with_two_sent();
        assert!(sane(&mut replica, &[], 1));
        assert!(!sane(&mut replica, &[1], 1), "behind its mark");
    }
}
