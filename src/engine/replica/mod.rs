//! One sink as the source sees it: what waits for it, what is being read for it, what was sent.
//!
//! The rules of order (`docs/ARCHITECTURE.md` names each) are kept here:
//!
//! - [`Replica::event`] takes what happened into the queues.
//! - `dispatch` hands out looks, each with its claim and with credit reserved beforehand, so that a
//!   result gets its number at once.
//! - `findings` turns what was read into numbered messages.
//! - `losses` counts what the target cannot hold.
//! - `outcomes` takes the sink's answers and marks, and puts back what was not done.
//! - `base` compares large files with what the sink holds of them.
//! - `further` tells entries with several names, `gather` finds the names that nobody told.

mod base;
mod dispatch;
mod findings;
mod further;
mod gather;
mod limits;
mod losses;
mod outcomes;
mod standing;

use base::Base;
pub(crate) use findings::close_streams;
pub use limits::{Limits, Rule};
use losses::Losses;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bindings::{PathEvent, Touch};
use super::carryover::Carryover;
use super::footprint::Footprint;
use super::ledger::Ledger;
use super::links::LinkTable;
use super::meter::Meter;
use super::queue::{META_DELAY_MS, Queue, Waiting, Want};
use super::source::Action;
use super::throttle::{Account, Cost};
use super::walk::{Rescan, Walker};
use super::wall::WallClock;
use super::work::{Finding, Links};
use super::{Now, Since, Stamp, Ticket};
use crate::channel::Peer;
use crate::report::Shortage;
use crate::tree::{Metadata, Name, RelPath, View};
use crate::wire::message::{Change, Credit, Lane, Refusal, ToSink};
use gather::Gather;

/// How long a name whose other names are not known waits to be looked at again, in milliseconds.
const RECHECK_MS: u64 = 1_000;

/// Looks that found a file changing or open before it is taken as it is.
const UNSETTLED_TRIES: u32 = 4;

/// The session with the sink while there is one.
#[derive(Debug)]
pub(crate) struct Link {
    pub epoch: u64,
    /// The data connections, used in turn.
    pub peers: Vec<Peer>,
    next_peer: usize,
    pub sent: u64,
    pub applied: u64,
    pub durable: u64,
    credit: Credit,
    spent: Credit,
    reserved: Credit,
    /// Share of the credit that backlog leaves to live.
    live_share: Credit,
}

/// One piece of reading under way, with its claim.
#[derive(Debug)]
struct Reading {
    work: Work,
    footprint: Footprint,
    lane: Lane,
    /// Credit kept for what it may bring back; `None` if it was begun in a session that is over.
    reserved: Option<u64>,
    /// What of the throttle is set aside for it.
    held: Cost,
    /// Found, and waiting until all events up to the look have been read (rule 12).
    behind_barrier: Option<Finding>,
}

#[derive(Debug)]
enum Work {
    Looks(Looks),
    DirMeta {
        dir: RelPath,
        wish: Waiting,
    },
    Rename(Renaming),
    List {
        visit: u64,
    },
    Chunk {
        stream: u64,
    },
    StreamEnd {
        stream: u64,
    },
    /// The result is not wanted any more; the work itself cannot be called back.
    Void {
        /// Streams that it may still open before it ends.
        streams: usize,
    },
}

impl Work {
    /// Streams that it may open before it ends.
    fn streams(&self) -> usize {
        match self {
            Self::Looks(Looks { streams, .. }) | Self::Void { streams } => *streams,
            _ => 0,
        }
    }

    /// True if it reads the whole state of this path.
    fn wants_state_of(&self, path: &RelPath) -> bool {
        match self {
            Self::Looks(looks) => looks.want_state_of(path),
            _ => false,
        }
    }
}

/// Names of one directory that are being looked at, for a visit or because they waited.
#[derive(Debug)]
struct Looks {
    dir: RelPath,
    names: Vec<(Name, Waiting)>,
    visit: Option<u64>,
    /// Every change up to this position of the source was there to be seen.
    read_pos: u64,
    /// Streams that it may open.
    streams: usize,
}

impl Looks {
    /// True if the whole state of this path is among what they read.
    fn want_state_of(&self, path: &RelPath) -> bool {
        let is_it = |(name, wish): &(Name, Waiting)| {
            wish.want == Want::State && self.dir.join(name) == *path
        };
        self.dir.is_above(path) && self.names.iter().any(is_it)
    }
}

/// A rename that waits to be sent.
#[derive(Debug, Clone)]
struct Renaming {
    stamp: Stamp,
    from: RelPath,
    to: RelPath,
    is_dir: bool,
    /// The last message that told of the file under its old name. If the sink refuses it, it holds an older
    /// content there, which may look the same and never had the new name (rule 7).
    after: u64,
}

/// A large file, or one with holes, on its way.
#[derive(Debug)]
struct Stream {
    path: RelPath,
    meta: Metadata,
    wish: Waiting,
    lane: Lane,
    while_open: bool,
    links: Option<Links>,
    /// As of the look that opened it.
    read_pos: u64,
    /// Where the last piece numbered has ended.
    offset: u64,
    /// A piece is being read, or its end looked at.
    busy: bool,
    /// What the sink holds of it already; `None` if it is sent as it is.
    base: Option<Base>,
    /// The sink has refused a piece of it, with this number.
    refused: Option<(u64, Refusal)>,
}

/// A message that is not durable yet.
#[derive(Debug)]
struct InFlight {
    lane: Lane,
    stamp: Stamp,
    bytes: u64,
    subject: Subject,
    /// Its outcome, if that is more than "done", has come.
    answered: bool,
    /// Places of the entries that the sink refused.
    refused: Vec<u32>,
}

#[derive(Debug)]
enum Subject {
    Entries {
        dir: RelPath,
        names: Vec<(Name, Sent)>,
    },
    DirMeta(RelPath),
    Rename {
        from: RelPath,
        to: RelPath,
        is_dir: bool,
    },
    Listing {
        visit: u64,
    },
    Publish {
        path: RelPath,
        touched: bool,
    },
    /// The question what the sink holds of a streamed file.
    Base {
        stream: u64,
    },
    /// A piece of a stream, or its end without a file.
    Stage {
        stream: u64,
    },
}

impl Subject {
    fn entries(&self) -> usize {
        match self {
            Self::Entries { names, .. } => names.len(),
            Self::Base { .. } | Self::Stage { .. } => 0,
            _ => 1,
        }
    }

    /// Bytes of the paths that are remembered.
    fn path_bytes(&self) -> usize {
        match self {
            Self::Entries { dir, names } => {
                let names = names.iter().map(|(name, _)| name.as_bytes().len());
                dir.len() + names.sum::<usize>()
            }
            Self::DirMeta(path) | Self::Publish { path, .. } => path.len(),
            Self::Rename { from, to, .. } => from.len() + to.len(),
            Self::Listing { .. } | Self::Base { .. } | Self::Stage { .. } => 0,
        }
    }
}

/// What must be known of an entry when its outcome comes.
#[derive(Debug, Clone, Copy, Default)]
struct Sent {
    is_dir: bool,
    /// Its subtree is compared once it is there.
    appeared: bool,
    /// What the sink has there may be another directory.
    replaced: bool,
    /// What changed below it has been forgotten.
    open_below: bool,
    /// It tells what happened to the inode, not to the name alone.
    touched: bool,
    /// A walk visits it anyway, taking it for new (`Some(true)`) or not.
    walked: Option<bool>,
    /// The sink had to make it.
    made: bool,
}

/// One sink as the source sees it.
#[derive(Debug)]
pub struct Replica {
    key: u64,
    limits: Limits,
    live: Queue,
    backlog: Queue,
    live_walk: Walker,
    backlog_walk: Walker,
    renames: VecDeque<Renaming>,
    readings: BTreeMap<Ticket, Reading>,
    next_ticket: u64,
    streams: BTreeMap<u64, Stream>,
    in_flight: BTreeMap<u64, InFlight>,
    in_flight_entries: [usize; 2],
    in_flight_bytes: [u64; 2],
    /// Bytes of the paths in flight.
    in_flight_path_bytes: usize,
    pub(crate) ledger: Ledger,
    links: LinkTable,
    gather: Gather,
    wall: WallClock,
    /// Position of the last cause that the source has told of.
    last_pos: u64,
    /// Every directory has a watch, so that nothing happens to an inode untold.
    watches_all: bool,
    pub(crate) link: Option<Link>,
    /// What an earlier process has left, and when it was taken up.
    resumed: Option<(u64, Carryover)>,
    /// How entries look on the target of the last session.
    pub(crate) view: Arc<View>,
    losses: Losses,
    /// What it has used of the throttle.
    pub(crate) account: Account,
    last_epoch: u64,
    /// The session that the last one went on from, which the sink still tells of if it never heard that the
    /// last one had begun; 0 if a whole comparison began with the last one.
    resumed_epoch: u64,
    content_after_ms: u64,
    /// Why, when that was last so.
    shortage: Option<Shortage>,
    shortage_told: Option<Shortage>,
    /// Position of the last whole walk that was owed; "equal" is said only after it.
    whole_walk: Option<u64>,
    /// The names that the whole walk has left unknown have been searched for.
    walk_searched: bool,
    pub(crate) sent_meter: Meter,
    pub(crate) applied_meter: Meter,
    pub(crate) retries: u64,
    pub(crate) read_while_open: u64,
    pub(crate) kept_dirs: u64,
    /// Entries that an audit found to differ although nobody had told.
    pub(crate) audit_found: u64,
    pub(crate) sessions: u64,
    never_settling: BTreeMap<RelPath, u64>,
    /// Nothing more is handed out: the sink is leaving.
    pub(crate) quiet: bool,
}

impl Replica {
    /// A sink that has just been met: everything is to be compared. Its causes may be as old as `wall`.
    #[must_use]
    pub fn new(key: u64, limits: Limits, wall: WallClock) -> Self {
        Self {
            key,
            limits,
            live: Queue::new(&limits),
            backlog: Queue::new(&limits),
            live_walk: Walker::new(&limits),
            backlog_walk: Walker::new(&limits),
            renames: VecDeque::new(),
            readings: BTreeMap::new(),
            next_ticket: 0,
            streams: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            in_flight_entries: [0; 2],
            in_flight_bytes: [0; 2],
            in_flight_path_bytes: 0,
            ledger: Ledger::new(limits.problems_max, limits.path_bytes_max),
            links: LinkTable::new(limits.links_max),
            gather: Gather::new(&limits),
            wall,
            last_pos: 0,
            watches_all: true,
            link: None,
            view: Arc::default(),
            losses: Losses::default(),
            account: Account::default(),
            last_epoch: 0,
            resumed_epoch: 0,
            content_after_ms: 0,
            shortage: None,
            shortage_told: None,
            whole_walk: None,
            resumed: None,
            walk_searched: false,
            sent_meter: Meter::default(),
            applied_meter: Meter::default(),
            retries: 0,
            read_while_open: 0,
            kept_dirs: 0,
            audit_found: 0,
            sessions: 0,
            never_settling: BTreeMap::new(),
            quiet: false,
        }
    }

    fn queue(&mut self, lane: Lane) -> &mut Queue {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }

    fn walker(&mut self, lane: Lane) -> &mut Walker {
        match lane {
            Lane::Live => &mut self.live_walk,
            Lane::Backlog => &mut self.backlog_walk,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.key << 40 | self.next_ticket)
    }

    /// The sink that a ticket belongs to.
    #[must_use]
    pub fn key_of(ticket: Ticket) -> u64 {
        ticket.0 >> 40
    }

    // ---- what happened -------------------------------------------------------------------------

    /// Takes one event of the file system into the queues.
    pub fn event(&mut self, now: Now, stamp: Stamp, event: &PathEvent, out: &mut Vec<Action>) {
        self.last_pos = stamp.pos;
        match event {
            PathEvent::Touched {
                path,
                touch,
                is_dir,
            } => {
                let wish = match (touch, is_dir) {
                    (Touch::Attributes, true) => Waiting::new(stamp, Want::DirMeta),
                    (Touch::Attributes, false) => Waiting::new(stamp, Want::Attributes),
                    (Touch::Name, _) => Waiting {
                        without_base: true,
                        ..Waiting::new(stamp, Want::State)
                    },
                    (Touch::Arrived, _) => self.arrival(stamp, *is_dir),
                    (Touch::Content | Touch::Closed, _) => {
                        Waiting::new(stamp, Want::State).with_content(stamp.pos)
                    }
                };
                let wish = Waiting {
                    touched: wish.touched || !matches!(touch, Touch::Name | Touch::Arrived),
                    ..wish
                };
                self.touched(now, path, wish, *touch == Touch::Closed, out);
            }
            PathEvent::DirAppeared(path) => {
                self.touched(now, path, Waiting::replaced(stamp), false, out);
            }
            PathEvent::DirVanished(path) => {
                self.touched(now, path, Waiting::new(stamp, Want::State), false, out);
                self.compare(Lane::Live, path.clone(), Rescan::compare(stamp));
            }
            PathEvent::Renamed { from, to, is_dir } => {
                self.renamed(
                    now,
                    Renaming {
                        stamp,
                        from: from.clone(),
                        to: to.clone(),
                        is_dir: *is_dir,
                        after: 0,
                    },
                    out,
                );
            }
            PathEvent::Suspect(path) => {
                self.compare(Lane::Backlog, path.clone(), Rescan::compare(stamp));
            }
            PathEvent::NamesChanged(dir) if self.ledger.stands_for(dir) => {}
            PathEvent::NamesChanged(dir) => self.parent_meta(now, Lane::Live, dir, stamp),
            PathEvent::Overflow | PathEvent::Unmounted => {}
        }
        self.shed();
    }

    fn touched(
        &mut self,
        now: Now,
        path: &RelPath,
        wish: Waiting,
        closed: bool,
        out: &mut Vec<Action>,
    ) {
        self.links.content_changed(path, wish.content_pos);
        if self.ledger.stands_for(path) {
            return self.leave_to_above(path, &wish);
        }
        let being_read = self
            .readings
            .values()
            .any(|reading| reading.footprint.covers(path));
        if being_read && !self.limits.keeps(Rule::EventDuringRead) {
            return;
        }
        if wish.want == Want::State {
            self.end_streams(now, out, |stream| {
                stream.path == *path && !stream.while_open
            });
        }
        let settled = closed
            && self
                .live
                .get(path)
                .is_some_and(|waiting| waiting.unsettled > 0);
        if settled {
            self.live.put_now(now.ms, path.clone(), wish);
        } else {
            self.live.put(now.ms, path.clone(), wish);
        }
    }

    /// The problem of a directory above stands for what is wanted of this path. Should that be a name of
    /// several, and go meanwhile, another one tells what happened; and none is told by its content.
    fn leave_to_above(&mut self, path: &RelPath, wish: &Waiting) {
        self.look_elsewhere(path, wish);
        self.ledger.leave_to_above(path, wish.stamp.made);
        self.links.unread(path, wish.content_pos);
    }

    /// A rename takes the waiting entries of both names behind itself (rules 4, 4a, 10).
    fn renamed(&mut self, now: Now, renaming: Renaming, out: &mut Vec<Action>) {
        let Renaming {
            from, to, is_dir, ..
        } = renaming.clone();
        self.void_readings(now, out, |footprint| {
            footprint.groups().any(|(dir, names)| {
                names.iter().any(|name| {
                    let path = dir.join(name);
                    from.covers(&path) || to.covers(&path)
                })
            }) || matches!(footprint, Footprint::DirMeta(dir) | Footprint::Listing(dir, _)
                if from.covers(dir) || to.covers(dir))
        });
        self.end_streams(now, out, |stream| {
            from.covers(&stream.path) || to.covers(&stream.path)
        });
        self.leave(&to);
        self.links.renamed(&from, &to, is_dir);
        for lane in [Lane::Live, Lane::Backlog] {
            let moved = if is_dir {
                self.queue(lane).take_subtree(&from)
            } else {
                self.queue(lane)
                    .remove(&from)
                    .map(|wish| (from.clone(), wish))
                    .into_iter()
                    .collect()
            };
            for (path, wish) in moved {
                if let Some(path) = path.moved(&from, &to) {
                    // Under the new name the sink may have what a new file is to replace.
                    let without_base = wish.without_base && is_dir;
                    let wish = Waiting {
                        without_base,
                        ..wish
                    };
                    self.queue(lane).put(now.ms, path, wish);
                }
            }
        }
        let above = self.ledger.open_above(&from);
        let open = self.ledger.open_at_or_below(&from);
        for (path, made) in open
            .into_iter()
            .chain(above.map(|made| (from.clone(), made)))
        {
            if let Some(path) = path.moved(&from, &to) {
                // What could not be told under the old name is told under the new one, behind the rename.
                let made = made.min(renaming.stamp.made);
                let wish = Waiting {
                    open_below: true,
                    touched: true,
                    ..Waiting::appeared(Stamp {
                        made,
                        ..renaming.stamp
                    })
                };
                let wish = wish.with_content(self.last_pos);
                self.live.put(now.ms, path, wish);
            }
        }
        // Where a walk has been already, it does not find what comes from where it has yet to distrust.
        let suspecting = self.walks().filter_map(|walk| walk.suspecting(&from));
        let suspecting = suspecting.reduce(Rescan::merge);
        if let Some(rescan) = suspecting {
            self.move_suspicion(now, &renaming, rescan);
        }
        if is_dir {
            // Both names are compared again after the rename; what walks had under way there is part
            // of that.
            let cancelled = [
                self.live_walk.cancel_below(&from),
                self.live_walk.cancel_below(&to),
                self.backlog_walk.cancel_below(&from),
                self.backlog_walk.cancel_below(&to),
            ];
            for rescan in cancelled.into_iter().flatten() {
                let owed = Rescan {
                    fresh: false,
                    ..rescan
                };
                self.backlog_walk.owe(from.clone(), owed);
                self.backlog_walk.owe(to.clone(), owed);
            }
            // Whether the sink had another directory under such a name will be told under that name.
            for (path, stamp) in self.replaced_on_the_way(&from, &to) {
                let rescan = self.of_replaced(&path, stamp);
                self.backlog_walk.owe(path, rescan);
            }
        }
        // The sink may hold an older content that looks the same, which never had the new name (rule 7).
        let is_open =
            !is_dir && (above.is_some() || suspecting.is_some() || self.ledger.holds(&from));
        if self.link.is_none() || self.renames.len() >= self.limits.renames_max || is_open {
            return self.rename_as_looks(now, &renaming);
        }
        let after = match is_dir {
            true => 0,
            false => self.last_told(&from),
        };
        self.renames.push_back(Renaming { after, ..renaming });
    }

    /// What a walk was to distrust under the old name is distrusted under the new one.
    fn move_suspicion(&mut self, now: Now, renaming: &Renaming, rescan: Rescan) {
        let to = renaming.to.clone();
        if renaming.is_dir {
            let fresh = false;
            return self.backlog_walk.owe(to, Rescan { fresh, ..rescan });
        }
        let stamp = rescan.stamp.earliest(renaming.stamp);
        let wish = Waiting {
            touched: true,
            ..Waiting::new(stamp, Want::State)
        };
        let wish = wish.with_content(self.last_pos);
        self.live.put(now.ms, to, wish);
    }

    /// Compares one directory for an audit.
    pub fn audit(&mut self, dir: RelPath, stamp: Stamp) {
        self.backlog_walk.owe(dir, Rescan::audit(stamp));
    }

    /// True if no walk is owed or under way, so that an audit holds nothing up.
    #[must_use]
    pub fn has_time_for_audit(&self) -> bool {
        self.link.is_some() && self.whole_walk.is_none() && self.backlog_walk.is_idle()
    }

    /// Messages whose outcome is still to come.
    fn on_the_way(&self) -> impl Iterator<Item = &InFlight> {
        self.unanswered().map(|(_, message)| message)
    }

    /// The same with their numbers.
    fn unanswered(&self) -> impl DoubleEndedIterator<Item = (u64, &InFlight)> {
        let applied = self.link.as_ref().map_or(0, |link| link.applied);
        let messages = self.in_flight.range(applied + 1..);
        messages.map(|(number, message)| (*number, message))
    }

    /// The last message that has told of this name and whose outcome is still to come; 0 if there is none.
    fn last_told(&self, path: &RelPath) -> u64 {
        let Some((dir, name)) = path.split() else {
            return 0;
        };
        let mut told = self.unanswered().rev();
        told.find(|(_, message)| message.tells(&dir, &name))
            .map_or(0, |(number, _)| number)
    }

    /// Directories at or below `from` that were sent, but whose outcome is still to come, that may have
    /// met another one at the sink, with their paths after the rename.
    fn replaced_on_the_way(&self, from: &RelPath, to: &RelPath) -> Vec<(RelPath, Stamp)> {
        self.on_the_way()
            .flat_map(InFlight::replaced)
            .filter_map(|(path, stamp)| Some((path.moved(from, to)?, stamp)))
            .collect()
    }

    /// Looks at both names; of directories both subtrees are compared (rules 4, 5).
    fn rename_as_looks(&mut self, now: Now, renaming: &Renaming) {
        let Renaming {
            stamp,
            from,
            to,
            is_dir,
            ..
        } = renaming;
        self.live
            .put_now(now.ms, from.clone(), Waiting::new(*stamp, Want::State));
        self.live
            .put_now(now.ms, to.clone(), self.arrival(*stamp, *is_dir));
        if *is_dir {
            self.backlog_walk.owe(from.clone(), Rescan::compare(*stamp));
            self.backlog_walk.owe(to.clone(), Rescan::compare(*stamp));
        }
    }

    /// What is wanted of the new name of a rename that is told as looks. What happened under the old one may
    /// have been looked for when nothing was there any more, before anybody knew of which inode it was a name.
    fn arrival(&self, stamp: Stamp, is_dir: bool) -> Waiting {
        match is_dir {
            true => Waiting::replaced(stamp),
            false => Waiting {
                touched: self.holds_names_apart(),
                ..Waiting::new(stamp, Want::State)
            },
        }
    }

    /// Puts work back whose result is not wanted any more (rule 10).
    fn void_readings(
        &mut self,
        now: Now,
        out: &mut Vec<Action>,
        void: impl Fn(&Footprint) -> bool,
    ) {
        let tickets: Vec<Ticket> = self
            .readings
            .iter()
            .filter(|(_, r)| void(&r.footprint))
            .map(|(&ticket, _)| ticket)
            .collect();
        for ticket in tickets {
            let reading = self
                .readings
                .get_mut(&ticket)
                .expect("the ticket was just listed");
            let streams = reading.work.streams();
            let work = std::mem::replace(&mut reading.work, Work::Void { streams });
            let lane = reading.lane;
            reading.footprint = Footprint::Entries(Vec::new());
            self.retries += 1;
            self.put_back(now, lane, work, out);
        }
    }

    fn put_back(&mut self, now: Now, lane: Lane, work: Work, out: &mut Vec<Action>) {
        match work {
            Work::Looks(Looks {
                dir, names, visit, ..
            }) => {
                let count = names.len() as u32;
                for (name, wish) in names {
                    // Nobody may have told yet that it is a directory, whose subtree the visit would compare.
                    let appeared = wish.appeared || visit.is_some();
                    let wish = Waiting { appeared, ..wish };
                    self.queue(lane).put(now.ms, dir.join(&name), wish);
                }
                self.looked_for_visit(lane, visit, count);
            }
            Work::DirMeta { dir, wish } => self.queue(lane).put(now.ms, dir, wish),
            Work::Rename(renaming) => self.rename_as_looks(now, &renaming),
            Work::List { visit } => {
                if let Some(visit) = self.walker(lane).visits.get_mut(&visit) {
                    visit.step = super::walk::Step::List { full: false };
                }
            }
            Work::Chunk { stream } | Work::StreamEnd { stream } => {
                self.abandon(now, stream, out);
            }
            Work::Void { .. } => {}
        }
    }

    fn looked_for_visit(&mut self, lane: Lane, visit: Option<u64>, count: u32) {
        let Some(id) = visit else { return };
        let walker = self.walker(lane);
        if let Some(visit) = walker.visits.get_mut(&id) {
            visit.looking = visit.looking.saturating_sub(count);
            walker.finish_if_done(id);
        }
    }

    /// Ends streams; their paths wait again.
    fn end_streams(&mut self, now: Now, out: &mut Vec<Action>, which: impl Fn(&Stream) -> bool) {
        if self.streams.is_empty() {
            return;
        }
        let ended: Vec<u64> = self
            .streams
            .iter()
            .filter(|(_, s)| which(s))
            .map(|(&id, _)| id)
            .collect();
        for id in ended {
            self.abandon(now, id, out);
        }
    }

    fn abandon(&mut self, now: Now, id: u64, out: &mut Vec<Action>) {
        let Some(stream) = self.close_stream(now, id, out) else {
            return;
        };
        self.retries += 1;
        let wish = Waiting {
            unsettled: stream.wish.unsettled + 1,
            ..stream.wish
        };
        let hold = self.limits.hold_off.at(wish.unsettled);
        let wish = Waiting {
            not_before_ms: now.ms + hold,
            ..wish
        };
        self.queue(stream.lane).put(now.ms, stream.path, wish);
    }

    fn close_stream(&mut self, now: Now, id: u64, out: &mut Vec<Action>) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        out.push(Action::CloseStream { stream: id });
        if stream.has_stage() && self.link.is_some() {
            self.number(
                now,
                stream.lane,
                stream.wish.stamp,
                Change::Abandon { stream: id },
                Subject::Stage { stream: id },
                out,
            );
        }
        Some(stream)
    }

    /// At the limit of a queue its fullest directories become rescans.
    fn shed(&mut self) {
        for lane in [Lane::Live, Lane::Backlog] {
            for (dir, stamp) in self.queue(lane).collapse() {
                // Looks send without comparing; what replaces them must not trust size and time.
                let rescan = self.of_forgotten(&dir, stamp);
                self.compare(Lane::Backlog, dir, rescan);
            }
        }
    }

    /// Takes down what time it is, before anything that happens then.
    pub fn saw(&mut self, now: Now) {
        self.wall.saw(now);
    }

    /// Takes up what an earlier process has left: nothing that changed since is trusted.
    pub fn resume(&mut self, now: Now, stamp: Stamp, left: Carryover) {
        for problem in left.problems.clone() {
            self.ledger.restore(now, problem);
        }
        let made = Since::Earlier(left.durable_until);
        self.owe_suspect(RelPath::root(), Stamp { made, ..stamp });
        self.resumed = Some((now.ms, left));
    }

    /// What the sink has for good. A stale value is older and only costs time: what changed since then is
    /// sent again by the next process. `read_ms` is when the event queue was last known to be empty.
    #[must_use]
    pub fn carryover(&self, now: Now, read_ms: u64) -> Carryover {
        let open_ms = self.oldest().map_or(now.ms, |stamp| stamp.since_ms);
        let open = Since::Ms(open_ms.min(read_ms));
        let mut carryover = Carryover::new(open, &self.ledger, &self.wall);
        // While the comparison that it asked for goes on, what an earlier process left open is still open.
        if let Some((_, left)) = self.resumed.as_ref().filter(|(ms, _)| open_ms <= *ms) {
            carryover.keep(left);
        }
        carryover
    }

    /// A comparison of a subtree that stands for what may have been forgotten: it does not trust what may
    /// have changed since the cause was made (rule 21). Until something was read or compared again, no name
    /// there stands for the content of others.
    fn of_forgotten(&mut self, top: &RelPath, stamp: Stamp) -> Rescan {
        if !self.limits.keeps(Rule::Suspicion) {
            return Rescan::compare(stamp);
        }
        self.links.doubt(top, self.last_pos);
        Rescan::suspect(stamp, self.wall.suspicion(stamp.made), self.last_pos)
    }

    /// The same for a directory that may have taken the place of another on the sink, whose files prove
    /// nothing however old they are.
    fn of_replaced(&mut self, top: &RelPath, stamp: Stamp) -> Rescan {
        let made = Since::Ever;
        self.of_forgotten(top, Stamp { made, ..stamp })
    }

    /// True if the file at a path is on its way in pieces.
    fn is_streamed(&self, path: &RelPath) -> bool {
        self.streams.values().any(|stream| stream.path == *path)
    }

    /// Tells whether every directory has a watch.
    pub fn set_watches_all(&mut self, watches_all: bool) {
        self.watches_all = watches_all;
        self.links.set_hears_all(watches_all);
    }

    /// Owes a rescan of a subtree, which does not trust what has changed since the cause was made.
    pub fn owe_suspect(&mut self, path: RelPath, stamp: Stamp) {
        self.last_pos = stamp.pos;
        let rescan = self.of_forgotten(&path, stamp);
        self.owe(path, rescan);
    }

    /// Owes a rescan of a subtree.
    pub fn owe(&mut self, path: RelPath, rescan: Rescan) {
        if path.is_root() {
            self.walk_searched = false;
            // The walk counts them again.
            self.losses = Losses::default();
            self.whole_walk = Some(
                self.whole_walk
                    .map_or(rescan.stamp.pos, |pos| pos.max(rescan.stamp.pos)),
            );
        }
        self.compare(Lane::Backlog, path, rescan);
    }

    /// Owes the comparison of a directory with all below, itself included: its listing tells nothing
    /// of its own metadata.
    fn compare(&mut self, lane: Lane, path: RelPath, rescan: Rescan) {
        let wish = Waiting::new(rescan.stamp, Want::DirMeta);
        self.queue(lane).put(0, path.clone(), wish);
        self.walker(lane).owe(path, rescan);
    }

    /// Puts a path of the operator's at the front of the backlog.
    pub fn enqueue(&mut self, now: Now, stamp: Stamp, path: RelPath) {
        self.backlog.put(now.ms, path, Waiting::appeared(stamp));
        self.shed();
    }

    // ---- numbers -------------------------------------------------------------------------------

    /// Gives a message its number and sends it; a claim on its paths ends here.
    fn number(
        &mut self,
        now: Now,
        lane: Lane,
        stamp: Stamp,
        change: Change,
        subject: Subject,
        out: &mut Vec<Action>,
    ) {
        let Some(link) = &mut self.link else { return };
        let bytes = change.cost();
        link.sent += 1;
        link.spent.bytes += bytes;
        link.spent.messages += 1;
        let peer = link.peers[link.next_peer % link.peers.len()];
        link.next_peer += 1;
        self.in_flight_entries[lane as usize] += subject.entries();
        self.in_flight_bytes[lane as usize] += bytes;
        self.in_flight_path_bytes += subject.path_bytes();
        self.account.charge(lane, Cost::bytes(bytes));
        self.sent_meter.add(now.ms, subject.entries() as u64, bytes);
        self.in_flight.insert(
            link.sent,
            InFlight {
                lane,
                stamp,
                bytes,
                subject,
                answered: false,
                refused: Vec::new(),
            },
        );
        out.push(Action::SendData {
            peer,
            message: ToSink::Change {
                epoch: link.epoch,
                number: link.sent,
                lane,
                change,
            },
        });
    }

    /// A child was sent: its directory's times are set behind it (rule 28).
    fn parent_meta(&mut self, now: Now, lane: Lane, dir: &RelPath, stamp: Stamp) {
        let wish = Waiting {
            not_before_ms: now.ms + META_DELAY_MS,
            ..Waiting::new(stamp, Want::DirMeta)
        };
        if !self.limits.keeps(Rule::ParentMetadata) {
            return;
        }
        self.queue(lane).put(now.ms, dir.clone(), wish);
    }
}
