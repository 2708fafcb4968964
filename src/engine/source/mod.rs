//! The source machine: events in, actions out.
//!
//! It owns what all sinks share (which directory a watch means, the order of causes, the operator's
//! requests) and one [`Replica`] for each sink.

mod audit;
mod filtering;
mod operator;
mod registration;

use std::collections::BTreeMap;

use super::bindings::{Bindings, PathEvent};
use super::carryover::Carryover;
use super::replica::{Limits, Replica};
use super::scan::Scan;
use super::session::{Heartbeat, Sessions};
use super::throttle::{Account, Cost, Throttle};
use super::walk::Rescan;
use super::wall::WallClock;
use super::work::{Detail, Finding, Order, Spilled};
use super::{Now, Since, Stamp, Ticket};
use crate::channel::Peer;
use crate::report::{Limit, MountsNotEntered, Phase, RateLimits};
use crate::source::watch::{RawEvent, Wd, What};
use crate::tree::{Filter, OwnerTables, RelPath};
use crate::wire::message::{Command, Lane, ToSink, ToSource};

use audit::Audit;
pub use audit::Pace;
use operator::Flush;
pub(crate) use operator::{REPORT_PATHS_MAX, few};

/// Settings of the source machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The root, for display.
    pub root: String,
    /// Identity of the root, told to sinks.
    pub root_identity: String,
    /// Random per state directory.
    pub source_id: String,
    /// Random per process; epochs are drawn from it.
    pub instance: u64,
    /// How much is remembered.
    pub limits: Limits,
    /// Heartbeat of all connections.
    pub heartbeat: Heartbeat,
    /// Share of the kernel's queue at which the operator is warned.
    pub warning: f64,
    /// Share at which the critical action is taken.
    pub critical: f64,
    /// At the critical threshold: terminate in order instead of going on.
    pub terminate_on_critical: bool,
    /// How an operator gives the event queue more room, as the end of a sentence.
    pub events_remedy: String,
    /// What an earlier process has left, by sink id.
    pub carryover: BTreeMap<String, Carryover>,
    /// Which entries take part.
    pub filter: Filter,
    /// What the source cannot read.
    pub limits_of_source: Vec<Limit>,
    /// The users and groups of this host, or why they are not known.
    pub owners: Result<OwnerTables, String>,
    /// How often and how fast the tree is audited.
    pub audit: Pace,
    /// What the backlog may use at first.
    pub rate_limits: RateLimits,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The watcher read this.
    Raw(RawEvent),
    /// All events that waited when [`Action::Barrier`] was carried out have been given to the engine.
    BarrierPassed(Ticket),
    /// Answer to [`Action::Bind`]: the descriptor or the errno.
    Bound(RelPath, Result<Wd, i32>),
    /// A reader has ended.
    Found(Ticket, Finding),
    /// Answer to [`Action::Gather`], for the sink with this key: names that were spilled; none at the
    /// end of those that were there when the taking began. `None` if they could not be kept.
    Gathered(u64, Option<Vec<Spilled>>),
    /// A message on the command channel.
    Command(Peer, Command),
    /// A message on the data channel.
    Data(Peer, ToSource),
    /// Bytes on the command channel that are no message: why.
    CommandMalformed(Peer, String),
    /// Bytes on the data channel that are no message: why.
    DataMalformed(Peer, String),
    /// A command connection is lost.
    CommandGone(Peer),
    /// A data connection is lost.
    DataGone(Peer),
    /// The kernel's event queue: bytes waiting and the share of its limit.
    Fill(u64, f64),
    /// The root is not what it was: why. Nothing may be read or said any more.
    RootLost(String),
    /// What is mounted below the root and not entered, from now on.
    MountsNotEntered(MountsNotEntered),
    /// A signal asks for the end.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Watch this directory; answer with [`Event::Bound`] before anything else.
    Bind {
        /// The directory.
        path: RelPath,
    },
    /// End this watch.
    Unbind {
        /// Its descriptor.
        wd: Wd,
    },
    /// Read all events that wait now, then answer with [`Event::BarrierPassed`].
    Barrier {
        /// Returned in the answer.
        ticket: Ticket,
    },
    /// Give this to a reader; answer with [`Event::Found`].
    Read {
        /// Returned in the answer.
        ticket: Ticket,
        /// Readers take what is live first.
        lane: Lane,
        /// What to read.
        order: Order,
    },
    /// An operator wants to go on although the root was not what it was: answer, and begin anew with the
    /// root as it is if that is as it was, or if it is accepted.
    Reopen {
        /// Who is to be answered.
        peer: Peer,
        /// The request.
        id: u64,
        /// Whatever is at the root's path now is the root.
        accept: bool,
    },
    /// Close a file that a look has opened.
    CloseStream {
        /// Its stream.
        stream: u64,
    },
    /// Keep these names outside of memory, for the sink with this key.
    Spill {
        /// The sink's key.
        key: u64,
        /// The names.
        names: Vec<Spilled>,
    },
    /// Give spilled names back, sorted by inode; answer with [`Event::Gathered`]. What is spilled after
    /// the first of these comes after all that was spilled before.
    Gather {
        /// The sink's key.
        key: u64,
        /// At most how many.
        names_max: usize,
    },
    /// The sink with this key is gone for good, and what was spilled for it with it.
    DropSpilled {
        /// The sink's key.
        key: u64,
    },
    /// Send on the command channel.
    SendCommand {
        /// To whom.
        peer: Peer,
        /// What.
        message: Command,
    },
    /// Send on the data channel.
    SendData {
        /// To whom.
        peer: Peer,
        /// What.
        message: ToSink,
    },
    /// End a command connection.
    DropCommand {
        /// Whose.
        peer: Peer,
    },
    /// End a data connection.
    DropData {
        /// Whose.
        peer: Peer,
    },
    /// Tell the operator, once for each occasion.
    Log {
        /// A human must act (or something is degraded and handled).
        urgent: bool,
        /// What happened.
        text: String,
    },
    /// The service has ended in agreement with every sink.
    Exit,
}

/// What an operator can do about a halt.
pub const HOW_TO_GO_ON: &str = "restore it and 'osync resume', or agree to what is there now with \
    'osync resume --accept'";

/// How often directories without a watch are compared again, in milliseconds.
const REWALK_MS: u64 = 30_000;

/// How long further overflows are only counted after one was told, in milliseconds.
const OVERFLOW_TOLD_MS: u64 = 60_000;

/// How long the end of the service waits for what was sent to be durable, and then for its sinks to agree,
/// in milliseconds.
pub const TERMINATION_MS: u64 = 30_000;

/// Pages that the scan which binds watches has under way.
const ARMING_PAGES_MAX: usize = 16;

/// Key of the walk that binds watches before any sink asks; sinks have keys from 1.
const ARMING: u64 = 0;

/// The source machine.
#[derive(Debug)]
pub struct Source {
    settings: Settings,
    bindings: Bindings,
    replicas: BTreeMap<u64, (String, Replica)>,
    next_key: u64,
    sessions: Sessions,
    epochs: u64,
    pos: u64,
    arming: Scan,
    audit: Audit,
    throttle: Throttle,
    /// What walks that belong to no sink have used of it.
    account: Account,
    /// Whose backlog has taken the last that was allowed, by the key of the sink or of these walks.
    served: Option<u64>,
    next_ticket: u64,
    /// Directories without a watch, and since when nobody has compared what changed there, by
    /// [`Now::ms`].
    unwatched: BTreeMap<RelPath, u64>,
    unwatched_more: u64,
    unwatched_more_since_ms: u64,
    rewalk_ms: u64,
    /// When the event queue was last known to be empty, by [`Now::ms`], and all that it had held taken.
    queue_empty_ms: u64,
    /// Something was heard after the end had begun, and not taken.
    missed: bool,
    wall: WallClock,
    fill: (u64, f64),
    warned: bool,
    /// Until when further overflows are only counted.
    overflow_told_until_ms: u64,
    overflows: u64,
    paused: bool,
    halted: Option<String>,
    mounts_not_entered: MountsNotEntered,
    phase: Phase,
    started_ms: u64,
    terminate_by_ms: u64,
    stopping: Vec<(Peer, u64)>,
    flushes: Vec<Flush>,
    /// Sinks that have left in order, and since when what happened was not told to them.
    left: BTreeMap<String, Since>,
}

impl Source {
    /// A source that has just started; the first action is to bind the root.
    pub fn new(settings: Settings, now: Now, out: &mut Vec<Action>) -> Self {
        let limits = settings.limits;
        let audit = Audit::new(settings.audit, &limits, now.ms);
        let throttle = Throttle::new(now.ms, settings.rate_limits);
        let mut source = Self {
            settings,
            bindings: Bindings::new(limits.renames_max),
            replicas: BTreeMap::new(),
            next_key: ARMING,
            sessions: Sessions::default(),
            epochs: 0,
            pos: 0,
            arming: Scan::new(ARMING_PAGES_MAX, Detail::Dirs, &limits),
            audit,
            throttle,
            account: Account::default(),
            served: None,
            next_ticket: 0,
            unwatched: BTreeMap::new(),
            unwatched_more: 0,
            unwatched_more_since_ms: now.ms,
            rewalk_ms: now.ms + REWALK_MS,
            queue_empty_ms: now.ms,
            missed: false,
            wall: WallClock::new(now),
            fill: (0, 0.0),
            warned: false,
            overflow_told_until_ms: 0,
            overflows: 0,
            paused: false,
            halted: None,
            mounts_not_entered: MountsNotEntered::default(),
            phase: Phase::Transfer,
            started_ms: now.ms,
            terminate_by_ms: 0,
            stopping: Vec::new(),
            flushes: Vec::new(),
            left: BTreeMap::new(),
        };
        let stamp = source.stamp(now);
        source.arming.owe(RelPath::root(), stamp);
        source.arm(out);
        source
    }

    /// Takes one event and adds what is to be done.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        self.wall.saw(now);
        for (_, replica) in self.replicas.values_mut() {
            replica.saw(now);
        }
        match event {
            Event::Raw(raw) => self.raw(now, &raw, out),
            Event::BarrierPassed(ticket) => self.barrier_passed(now, ticket, out),
            Event::Bound(path, result) => self.bound(now, path, result),
            Event::Found(ticket, finding) => self.found(now, ticket, finding, out),
            Event::Gathered(key, names) => {
                if let Some((_, replica)) = self.replicas.get_mut(&key) {
                    replica.gathered(now, names);
                }
            }
            Event::Command(peer, message) => self.command(now, peer, message, out),
            Event::Data(peer, message) => self.data(now, peer, message, out),
            Event::CommandMalformed(peer, why) => self.malformed_command(now, peer, why, out),
            Event::DataMalformed(peer, why) => self.malformed_data(now, peer, &why, out),
            Event::CommandGone(peer) => self.command_gone(now, peer, out),
            Event::DataGone(peer) => self.data_gone(now, peer, out),
            Event::Fill(bytes, fill) => self.filled(now, bytes, fill, out),
            Event::RootLost(why) => self.halt(why, out),
            Event::MountsNotEntered(mounts) => self.mounts_not_entered = mounts,
            Event::Stop => self.stop(now, None, out),
            Event::Tick => self.tick(now, out),
        }
    }

    /// Hands out work and answers whoever waits, after a batch of events was handled.
    pub fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        self.throttle.fill(now.ms);
        if self.halted.is_none() {
            self.dispatch(now, out);
        }
        self.answer_flushes(now, out);
        self.terminate(now, out);
    }

    /// Hands out work for the walks of the source alone, and for each sink. While there is not enough for all
    /// backlogs, they take turns.
    fn dispatch(&mut self, now: Now, out: &mut Vec<Action>) {
        let sinks = self.replicas.keys().copied().filter(|_| !self.paused);
        let keys: Vec<u64> = std::iter::once(ARMING).chain(sinks).collect();
        let next = self
            .served
            .map_or(0, |served| keys.partition_point(|&key| key <= served));
        for &key in keys[next..].iter().chain(&keys[..next]) {
            if self.serve(now, key, out) {
                self.served = Some(key);
            }
        }
    }

    /// Hands out work for one of them. True if it took the last that its backlog was allowed.
    fn serve(&mut self, now: Now, key: u64, out: &mut Vec<Action>) -> bool {
        let ending = self.phase == Phase::Termination;
        let Some((_, replica)) = self.replicas.get_mut(&key) else {
            self.throttle.settle(&mut self.account);
            let was_free = self.account.is_free();
            self.arm(out);
            self.advance_audit(now, out);
            let is_free = self.account.is_free();
            self.throttle.settle(&mut self.account);
            return was_free && !is_free;
        };
        self.throttle.settle(&mut replica.account);
        let was_free = replica.account.is_free();
        replica.dispatch(now, ending, out);
        let is_free = replica.account.is_free();
        self.throttle.settle(&mut replica.account);
        was_free && !is_free
    }

    /// When [`Event::Tick`] is needed at the latest.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        // What is not handed out now needs nobody to wake up for it; before the end nothing is held off.
        let is_ending = self.phase == Phase::Termination;
        let flows = !self.paused && self.halted.is_none() && !is_ending;
        let replicas = self.replicas.values().map(|(_, replica)| replica);
        let replicas = replicas
            .filter(|replica| flows && !replica.quiet)
            .filter_map(Replica::deadline);
        let flushes = self.flushes.iter().map(|flush| flush.deadline_ms);
        let own = [
            self.bindings.deadline(),
            self.sessions.deadline(self.settings.heartbeat),
            Some(self.rewalk_ms),
            self.audit.deadline().filter(|_| self.halted.is_none()),
            self.throttle.deadline(),
        ];
        let ending = is_ending.then(|| self.next_of_termination());
        replicas
            .chain(flushes)
            .chain(own.into_iter().flatten())
            .chain(ending)
            .min()
            .unwrap_or(u64::MAX)
    }

    fn stamp(&mut self, now: Now) -> Stamp {
        self.pos += 1;
        self.last_stamp(now)
    }

    /// The stamp of a cause that needs no place of its own. An event may have waited since the event queue
    /// was empty.
    fn last_stamp(&self, now: Now) -> Stamp {
        Stamp {
            pos: self.pos,
            since_ms: now.ms,
            made: Since::Ms(self.queue_empty_ms),
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let mut given_up = Vec::new();
        self.bindings.expire(now, &mut given_up);
        for event in given_up {
            self.path_event(now, event, out);
        }
        if now.ms >= self.rewalk_ms {
            self.rewalk_ms = now.ms + REWALK_MS;
            self.rewalk_unwatched(now, out);
        }
        self.tick_sessions(now, out);
    }

    // ---- events of the file system -----------------------------------------------------------------

    fn raw(&mut self, now: Now, raw: &RawEvent, out: &mut Vec<Action>) {
        let mut events = Vec::with_capacity(1);
        self.bindings.translate(now, raw, &mut events);
        let names_stay = matches!(raw.what, What::Modified | What::Closed | What::Attributes);
        for event in events {
            if !(names_stay && self.is_excluded(&event)) {
                self.path_event(now, event, out);
            }
        }
    }

    fn path_event(&mut self, now: Now, event: PathEvent, out: &mut Vec<Action>) {
        if self.phase == Phase::Termination {
            // No new changes are taken; a later start compares.
            self.missed = true;
            return;
        }
        if self.settings.filter.is_empty() {
            return self.included_event(now, &event, out);
        }
        for event in self.included(event, out) {
            self.included_event(now, &event, out);
        }
    }

    fn included_event(&mut self, now: Now, event: &PathEvent, out: &mut Vec<Action>) {
        match event {
            PathEvent::Overflow => return self.overflowed(now, out),
            PathEvent::Unmounted => {
                let why =
                    "the file system of the root, or one below that was entered, was unmounted";
                return self.halt(why.to_owned(), out);
            }
            PathEvent::DirVanished(path) => {
                // What left the tree is not ours to watch; what was removed has no watch any more.
                for wd in self.bindings.below(path) {
                    out.push(Action::Unbind { wd });
                }
            }
            PathEvent::DirAppeared(path)
            | PathEvent::Renamed {
                to: path,
                is_dir: true,
                ..
            } => {
                // Watched before it is looked at, or nobody would tell what came into it in between.
                out.push(Action::Bind { path: path.clone() });
                let stamp = self.last_stamp(now);
                self.arming.owe(path.clone(), stamp);
            }
            PathEvent::Suspect(_)
            | PathEvent::NamesChanged(_)
            | PathEvent::Touched { .. }
            | PathEvent::Renamed { .. } => {}
        }
        let stamp = self.stamp(now);
        for (_, replica) in self.replicas.values_mut() {
            replica.event(now, stamp, event, out);
        }
    }

    /// Events were lost: everything may have changed since the queue was last empty (rule 21).
    fn overflowed(&mut self, now: Now, out: &mut Vec<Action>) {
        self.overflows += 1;
        if now.ms >= self.overflow_told_until_ms {
            self.overflow_told_until_ms = now.ms + OVERFLOW_TOLD_MS;
            let remedy = &self.settings.events_remedy;
            let text = format!(
                "the kernel's event queue was full and lost events, {} times since the start: everything \
                 is compared again in the background; to avoid that, {remedy}",
                self.overflows
            );
            out.push(Action::Log { urgent: true, text });
        }
        self.critical(now, "the kernel's event queue was full", out);
        let stamp = self.stamp(now);
        for (_, replica) in self.replicas.values_mut() {
            replica.owe_suspect(RelPath::root(), stamp);
        }
        self.arming.owe(RelPath::root(), stamp);
    }

    fn filled(&mut self, now: Now, bytes: u64, fill: f64, out: &mut Vec<Action>) {
        self.fill = (bytes, fill);
        if bytes == 0 && !self.missed {
            self.queue_empty_ms = now.ms;
        }
        let state = format!("the kernel's event queue is {:.0} % full", fill * 100.0);
        if fill >= self.settings.critical {
            self.critical(now, &state, out);
        }
        if fill >= self.settings.warning {
            self.warn(&state, out);
        } else if fill < self.settings.warning / 2.0 {
            self.warned = false;
        }
    }

    fn critical(&mut self, now: Now, state: &str, out: &mut Vec<Action>) {
        if self.settings.terminate_on_critical && self.phase != Phase::Termination {
            let text = format!("{state}: terminating as configured");
            out.push(Action::Log { urgent: true, text });
            self.stop(now, None, out);
        }
    }

    /// Tells the operator once per crossing of the threshold.
    fn warn(&mut self, state: &str, out: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.warned, true) {
            let remedy = &self.settings.events_remedy;
            let text = format!("{state}: slow the changes down, or {remedy}");
            out.push(Action::Log { urgent: true, text });
        }
    }

    fn halt(&mut self, why: String, out: &mut Vec<Action>) {
        if self.halted.is_none() {
            let text = format!("{why}: nothing is sent or removed any more; {HOW_TO_GO_ON}");
            out.push(Action::Log { urgent: true, text });
            self.halted = Some(why);
        }
    }

    // ---- watches -------------------------------------------------------------------------------

    fn bound(&mut self, now: Now, path: RelPath, result: Result<Wd, i32>) {
        let bound = result.is_ok_and(|wd| match self.bindings.bind(&path, wd) {
            Ok(None) => true,
            Ok(Some(before)) => {
                // The directory is not where the map had it: what is there now was never told.
                let stamp = self.stamp(now);
                for (_, replica) in self.replicas.values_mut() {
                    replica.owe(before.clone(), Rescan::compare(stamp));
                }
                true
            }
            Err(_) => false,
        });
        // Beyond a mount that is not entered there is nothing to watch, nor below what is excluded.
        let gone = matches!(result, Err(libc::ENOENT | libc::ENOTDIR | libc::EXDEV))
            || self.settings.filter.excludes(&path, true);
        if bound || gone {
            if let Some(since_ms) = self.unwatched.remove(&path)
                && bound
            {
                self.compare_untold(now, path, since_ms);
            }
        } else if !self.unwatched.contains_key(&path) {
            if self.unwatched.len() < self.settings.limits.unwatched_max {
                self.unwatched.insert(path, now.ms);
            } else {
                if self.unwatched_more == 0 {
                    self.unwatched_more_since_ms = now.ms;
                }
                self.unwatched_more += 1;
            }
        }
        let watches_all = self.watches_all();
        for (_, replica) in self.replicas.values_mut() {
            replica.set_watches_all(watches_all);
        }
    }

    fn watches_all(&self) -> bool {
        self.unwatched.is_empty() && self.unwatched_more == 0
    }

    /// Directories without a watch are compared instead; those below one are covered by it. Each is asked for
    /// its watch again as well: no walk does that for one that has gone or has become something else.
    fn rewalk_unwatched(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.watches_all() {
            return;
        }
        let mut tops: Vec<(RelPath, u64)> = Vec::new();
        if std::mem::take(&mut self.unwatched_more) > 0 {
            tops.push((RelPath::root(), self.unwatched_more_since_ms));
        }
        for (path, since_ms) in &mut self.unwatched {
            out.push(Action::Bind { path: path.clone() });
            let since_ms = std::mem::replace(since_ms, now.ms);
            match tops.last_mut() {
                Some((top, since)) if top.covers(path) => *since = since_ms.min(*since),
                _ => tops.push((path.clone(), since_ms)),
            }
        }
        for (path, since_ms) in tops {
            self.compare_untold(now, path, since_ms);
        }
    }

    /// What changed in a directory while it had no watch was told by nobody, so that its files are not
    /// trusted by size and time (rule 21).
    fn compare_untold(&mut self, now: Now, path: RelPath, since_ms: u64) {
        let mut stamp = self.stamp(now);
        stamp.made = stamp.made.min(Since::Ms(since_ms));
        for (_, replica) in self.replicas.values_mut() {
            replica.owe_suspect(path.clone(), stamp);
        }
    }

    /// Binds watches ahead of any sink, so that a change is seen before the backlog comes by (I5).
    fn arm(&mut self, out: &mut Vec<Action>) {
        if !self.account.is_free() {
            return;
        }
        for page in self.arming.pages() {
            if page.first {
                out.push(Action::Bind {
                    path: page.dir.clone(),
                });
            }
            self.next_ticket += 1;
            let ticket = Ticket(ARMING << 40 | self.next_ticket);
            self.arming.began(&page, ticket);
            let operations = Cost::operations(page.order.operations_max());
            self.account.charge(Lane::Backlog, operations);
            out.push(Action::Read {
                ticket,
                lane: Lane::Backlog,
                order: page.order,
            });
        }
    }

    /// Lists the next directory of the audit, and has it compared with every sink.
    fn advance_audit(&mut self, now: Now, out: &mut Vec<Action>) {
        let mut replicas = self.replicas.values();
        let has_time = !self.paused
            && !self.replicas.is_empty()
            && self.account.is_free()
            && replicas.all(|(_, replica)| replica.has_time_for_audit());
        let Some(page) = self.audit.page(now.ms, has_time) else {
            return;
        };
        self.next_ticket += 1;
        let ticket = Ticket(ARMING << 40 | self.next_ticket);
        self.audit.began(&page, ticket);
        let operations = Cost::operations(page.order.operations_max());
        self.account.charge(Lane::Backlog, operations);
        if page.first {
            let stamp = Stamp {
                pos: u64::MAX,
                since_ms: now.ms,
                made: Since::Ms(now.ms),
            };
            for (_, replica) in self.replicas.values_mut() {
                replica.audit(page.dir.clone(), stamp);
            }
        }
        out.push(Action::Read {
            ticket,
            lane: Lane::Backlog,
            order: page.order,
        });
    }

    // ---- readers -------------------------------------------------------------------------------

    fn found(&mut self, now: Now, ticket: Ticket, finding: Finding, out: &mut Vec<Action>) {
        if self.audit.holds(ticket) {
            return self.audit.found(now.ms, ticket, finding);
        }
        if Replica::key_of(ticket) == ARMING {
            // Only the directories on the way count, which the scan itself descends into.
            let _ = self.arming.found(ticket, finding);
            return;
        }
        match self.replicas.get_mut(&Replica::key_of(ticket)) {
            Some((_, replica)) => replica.found(now, ticket, finding, out),
            None => super::replica::close_streams(&finding, out),
        }
    }

    fn barrier_passed(&mut self, now: Now, ticket: Ticket, out: &mut Vec<Action>) {
        if Replica::key_of(ticket) == ARMING {
            return self.flush_barrier_passed(now, ticket, out);
        }
        if let Some((_, replica)) = self.replicas.get_mut(&Replica::key_of(ticket)) {
            replica.barrier_passed(now, ticket, out);
        }
    }
}
