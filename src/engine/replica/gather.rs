//! Finding the names of an inode that nobody has told (rule 27).
//!
//! Where names of a few inodes are missing, a *search* scans the source for them. Where there are more
//! names than memory may hold, those beyond it are *spilled* to a file, a scan adds every name that is
//! one of several, and all come back sorted by inode, a batch at a time.

use std::collections::VecDeque;

use super::{Limits, Replica};
use crate::engine::ledger::{Failure, Side};
use crate::engine::queue::{Waiting, Want};
use crate::engine::scan::Scan;
use crate::engine::source::Action;
use crate::engine::throttle::Cost;
use crate::engine::walk::Rescan;
use crate::engine::work::{Detail, Finding, Spilled};
use crate::engine::{Now, Since, Stamp, Ticket};
use crate::tree::RelPath;
use crate::wire::message::Lane;

/// Pages of a scan that are under way at once; few, as looks wait behind them.
const PAGES_MAX: usize = 2;

/// A search begins at the earliest so many times its own duration after the last one ended.
const REST: u64 = 4;

/// Spilled names asked back at once.
const GATHER_NAMES_MAX: usize = 512;

/// Names spilled in one action.
const SPILL_NAMES_MAX: usize = 512;

/// How long after the loss of the file the tree is walked again, in milliseconds.
const LOST_REST_MS: u64 = 60_000;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// Names of inodes in the table are searched for.
    Searching,
    /// Every name that is one of several goes to the file.
    Spilling,
    /// They come back.
    Taking,
    /// The file was lost: the tree is walked again at this time.
    Lost(u64),
}

/// The search for names, and what found no room.
#[derive(Debug)]
pub(super) struct Gather {
    phase: Phase,
    scan: Scan,
    /// A search is wanted since then.
    search: Option<Stamp>,
    began_ms: u64,
    search_after_ms: u64,
    /// Names that go to the file with the next dispatch.
    spilling: Vec<Spilled>,
    /// The earliest cause of anything in the file.
    spilled: Option<Stamp>,
    /// The same of what comes after all that is being taken back.
    spilled_since: Option<Stamp>,
    asked: bool,
    /// Names that came back and have not been noted yet.
    back: VecDeque<Spilled>,
}

impl Gather {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            phase: Phase::Idle,
            scan: Scan::new(PAGES_MAX, Detail::Links, limits),
            search: None,
            began_ms: 0,
            search_after_ms: 0,
            spilling: Vec::new(),
            spilled: None,
            spilled_since: None,
            asked: false,
            back: VecDeque::new(),
        }
    }

    /// The earliest stamp of anything that is not found or not told yet.
    pub(super) fn oldest(&self) -> Option<Stamp> {
        [
            self.search,
            self.scan.oldest(),
            self.spilled,
            self.spilled_since,
        ]
        .into_iter()
        .flatten()
        .reduce(Stamp::earliest)
    }

    /// Lets a search that is owed for a position up to this one begin at once.
    pub(super) fn hurry(&mut self, pos: u64) {
        if self.search.is_some_and(|stamp| stamp.pos <= pos) {
            self.search_after_ms = 0;
        }
    }

    /// When the next step may be taken without an event.
    pub(super) fn deadline(&self) -> Option<u64> {
        match self.phase {
            Phase::Idle => self.search.map(|_| self.search_after_ms),
            Phase::Lost(until) => Some(until),
            Phase::Searching | Phase::Spilling | Phase::Taking => None,
        }
    }

    fn spill(&mut self, name: Spilled, stamp: Stamp) {
        let since = match self.phase {
            Phase::Taking => &mut self.spilled_since,
            _ => &mut self.spilled,
        };
        *since = Some(since.map_or(stamp, |since| since.earliest(stamp)));
        self.spilling.push(name);
    }
}

impl Replica {
    /// Owes a search of the whole tree for the other names of what the table does not know whole.
    pub(super) fn owe_search(&mut self, stamp: Stamp) {
        let search = &mut self.gather.search;
        *search = Some(search.map_or(stamp, |search| search.earliest(stamp)));
    }

    /// Keeps a name outside of memory; it is looked at when its inode's turn comes.
    pub(super) fn spill(&mut self, name: Spilled, stamp: Stamp) {
        // Where each name is a file of its own, none has to be told by another.
        if !self.holds_names_apart() {
            self.gather.spill(name, stamp);
        }
    }

    pub(super) fn dispatch_gather(&mut self, now: Now, out: &mut Vec<Action>) {
        self.links.set_now(now.ms);
        for path in self.links.take_uncertain() {
            let stamp = Stamp {
                pos: self.last_pos,
                since_ms: now.ms,
                made: Since::Ms(now.ms),
            };
            self.recheck(now, path, stamp);
        }
        // The walk finds most names itself, and goes first.
        let walking = self.whole_walk.is_some() && !self.backlog_walk.is_idle();
        match self.gather.phase {
            Phase::Idle if !walking => self.begin_to_gather(now),
            Phase::Taking => self.take_back(now, out),
            Phase::Lost(until) if now.ms >= until => {
                self.gather.phase = Phase::Idle;
                if let Some(stamp) = self.gather.spilled.take() {
                    self.owe(RelPath::root(), Rescan::compare(stamp));
                }
            }
            Phase::Idle | Phase::Searching | Phase::Spilling | Phase::Lost(_) => {}
        }
        self.spill_out(out);
        let pages = match self.account.is_free() {
            true => self.gather.scan.pages(),
            false => Vec::new(),
        };
        for page in pages {
            let ticket = self.ticket();
            self.gather.scan.began(&page, ticket);
            out.push(Action::Read {
                ticket,
                lane: Lane::Backlog,
                order: page.order,
            });
        }
        let scanning = matches!(self.gather.phase, Phase::Searching | Phase::Spilling);
        if scanning && self.gather.scan.is_idle() {
            self.scan_ended(now, out);
        }
    }

    fn begin_to_gather(&mut self, now: Now) {
        let (phase, stamp) = if let Some(stamp) = self.gather.spilled {
            (Phase::Spilling, stamp)
        } else if now.ms >= self.gather.search_after_ms
            && let Some(stamp) = self.gather.search.take()
        {
            (Phase::Searching, stamp)
        } else {
            return;
        };
        self.links.search_begins();
        self.gather.phase = phase;
        self.gather.began_ms = now.ms;
        self.gather.scan.owe(RelPath::root(), stamp);
    }

    fn spill_out(&mut self, out: &mut Vec<Action>) {
        while !self.gather.spilling.is_empty() {
            let count = self.gather.spilling.len().min(SPILL_NAMES_MAX);
            out.push(Action::Spill {
                key: self.key,
                names: self.gather.spilling.drain(..count).collect(),
            });
        }
    }

    /// Goes on with what has come back, or asks for more, once all so far has been looked at.
    fn take_back(&mut self, now: Now, out: &mut Vec<Action>) {
        let mut readings = self.readings.values();
        let quiet = self.backlog.is_empty() && !readings.any(|r| r.lane == Lane::Backlog);
        if !quiet {
            return;
        }
        let stamp = self.gather.spilled.unwrap_or(self.fresh_stamp(now));
        // All groups so far are whole on the sink by now, or have names that cannot be told: the first
        // name may push such a group out, or else waits for the next round.
        let mut force = true;
        while let Some(name) = self.gather.back.pop_front() {
            if self.ledger.stands_for(&name.path) {
                // A walk finds it when the problem above it is over; till then it would only take room.
                continue;
            }
            if self.links.note_one_of_all(&name.path, name.links, force) {
                self.take_name(now, name.path, stamp);
            } else if force {
                self.spill(name, stamp);
            } else {
                self.gather.back.push_front(name);
                break;
            }
            force = false;
        }
        if self.gather.back.is_empty() && !std::mem::replace(&mut self.gather.asked, true) {
            out.push(Action::Gather {
                key: self.key,
                names_max: GATHER_NAMES_MAX,
            });
        }
    }

    /// Takes a page of a scan. False if the ticket is not one of its.
    pub(super) fn scanned(
        &mut self,
        now: Now,
        ticket: Ticket,
        finding: &Finding,
        out: &mut Vec<Action>,
    ) -> bool {
        if !self.gather.scan.holds(ticket) {
            return false;
        }
        let operations = Cost::operations(finding.operations(u64::MAX));
        self.account.charge(Lane::Backlog, operations);
        let stamp = self.gather.scan.oldest();
        if let Finding::Failed {
            path,
            operation,
            errno,
        } = finding
        {
            // What lies there was not searched. When the problem is over, a walk finds its names.
            let failure = Failure {
                side: Side::Source,
                operation,
                errno: *errno,
                halted: false,
                number: self.last_number(),
                made: stamp.map_or(Since::Ms(now.ms), |stamp| stamp.made),
            };
            self.ledger
                .failed_with_all_below(now, path.clone(), failure);
        }
        let found = self.gather.scan.found(ticket, finding.clone());
        if let (Some((dir, listed)), Some(stamp)) = (found, stamp) {
            for (name, links) in listed.linked {
                let path = dir.join(&name);
                self.found_name(now, Spilled { links, path }, stamp);
            }
            // What could not be looked at may be a name of any inode: it is looked at by itself.
            for name in listed.suspects {
                let look = Waiting::new(stamp, Want::State);
                self.backlog.put(now.ms, dir.join(&name), look);
            }
        }
        self.spill_out(out);
        true
    }

    fn found_name(&mut self, now: Now, name: Spilled, stamp: Stamp) {
        if self.gather.phase == Phase::Spilling {
            return self.spill(name, stamp);
        }
        self.links.search_met(name.links);
        let inode = name.links.inode;
        let is_news = self.links.inode(&name.path) != Some(inode);
        if self.links.knows(inode) && is_news {
            match self.links.note(&name.path, name.links) {
                true => self.take_name(now, name.path, stamp),
                false => self.spill(name, stamp),
            }
        }
    }

    fn scan_ended(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.gather.phase == Phase::Spilling {
            // What memory holds in part comes with the rest.
            let stamp = self.gather.spilled.unwrap_or(self.fresh_stamp(now));
            for name in self.links.take_incomplete() {
                self.spill(name, stamp);
            }
            self.spill_out(out);
            self.gather.phase = Phase::Taking;
            return self.take_back(now, out);
        }
        self.links.search_ended();
        let took = now.ms.saturating_sub(self.gather.began_ms);
        self.gather.search_after_ms = now.ms + REST * took;
        self.gather.phase = Phase::Idle;
    }

    /// Spilled names come back, sorted by inode; `None` if they were lost.
    pub fn gathered(&mut self, now: Now, names: Option<Vec<Spilled>>) {
        self.gather.asked = false;
        let Some(names) = names else {
            // Only a walk knows them.
            self.gather.phase = Phase::Lost(now.ms + LOST_REST_MS);
            return;
        };
        if names.is_empty() {
            self.gather.phase = Phase::Idle;
            self.gather.spilled = self.gather.spilled_since.take();
            return;
        }
        self.gather.back.extend(names);
    }

    /// A name that was found is looked at, unless the sink has it. Where nothing is known of the sink,
    /// the first name asks whether it holds the content.
    fn take_name(&mut self, now: Now, path: RelPath, stamp: Stamp) {
        let is_apart = self.holds_names_apart();
        let Some(group) = self.links.of_mut(&path) else {
            return;
        };
        if group.has_linked(&path) {
            return;
        }
        let mut want = Want::State;
        if !is_apart && group.anchor.is_none() && group.pending.is_none() {
            group.pending = Some(path.clone());
            want = Want::Attributes;
        }
        self.backlog.put(now.ms, path, Waiting::new(stamp, want));
    }
}
