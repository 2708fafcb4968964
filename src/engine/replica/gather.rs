//! Finding the names of an inode that nobody has told: by a scan of the source, and, where there are
//! more than memory may hold, through a file that is sorted by inode (rule 27).

use super::Replica;
use crate::engine::queue::{Waiting, Want};
use crate::engine::scan::Scan;
use crate::engine::source::Action;
use crate::engine::walk::Rescan;
use crate::engine::work::{Detail, Finding, Links, Spilled};
use crate::engine::{Now, Stamp, Ticket};
use crate::tree::RelPath;

/// Pages of a search that are under way at once; few, as looks wait behind them.
const PAGES_MAX: usize = 2;

/// A search begins at the earliest so many times its own duration after the last one ended.
const REST: u64 = 4;

/// Spilled names asked back at once.
const GATHER_NAMES_MAX: usize = 512;

/// How long after the loss of the file the tree is walked again, in milliseconds.
const LOST_REST_MS: u64 = 60_000;

/// Names spilled in one action.
const SPILL_NAMES_MAX: usize = 512;

/// The search for names, and what found no room.
#[derive(Debug)]
pub(super) struct Gather {
    scan: Scan,
    /// A search is wanted since then.
    owed: Option<Stamp>,
    began_ms: u64,
    not_before_ms: u64,
    /// Names that go to the file with the next dispatch.
    spilling: Vec<Spilled>,
    /// The earliest cause of anything in the file.
    spilled: Option<Stamp>,
    /// Names are being taken back.
    taking: bool,
    /// Some have been asked for.
    asked: bool,
    /// The file was lost: the tree is walked again at this time.
    walk_after_ms: Option<u64>,
}

impl Default for Gather {
    fn default() -> Self {
        Self {
            scan: Scan::new(PAGES_MAX, Detail::Links),
            owed: None,
            began_ms: 0,
            not_before_ms: 0,
            spilling: Vec::new(),
            spilled: None,
            taking: false,
            asked: false,
            walk_after_ms: None,
        }
    }
}

impl Gather {
    /// The earliest stamp of anything that is not found or not told yet.
    pub(super) fn oldest(&self) -> Option<Stamp> {
        [self.owed, self.scan.oldest(), self.spilled]
            .into_iter()
            .flatten()
            .reduce(Stamp::earliest)
    }

    /// Lets a search that is owed for a position up to this one begin at once.
    pub(super) fn hurry(&mut self, pos: u64) {
        if self.owed.is_some_and(|stamp| stamp.pos <= pos) {
            self.not_before_ms = 0;
        }
    }

    /// When a search that is owed may begin.
    pub(super) fn deadline(&self) -> Option<u64> {
        let search = (self.owed.is_some() && self.scan.is_idle()).then_some(self.not_before_ms);
        [search, self.walk_after_ms].into_iter().flatten().min()
    }
}

fn earliest(a: Option<Stamp>, b: Stamp) -> Option<Stamp> {
    Some(a.map_or(b, |a| a.earliest(b)))
}

impl Replica {
    /// Owes a search of the whole tree for the other names of what the table does not know whole.
    pub(super) fn owe_search(&mut self, stamp: Stamp) {
        self.gather.owed = earliest(self.gather.owed, stamp);
    }

    /// Keeps a name outside of memory; it is looked at when its inode's turn comes.
    pub(super) fn spill(&mut self, name: Spilled, stamp: Stamp) {
        self.gather.spilled = earliest(self.gather.spilled, stamp);
        self.gather.spilling.push(name);
    }

    pub(super) fn dispatch_gather(&mut self, now: Now, out: &mut Vec<Action>) {
        self.spill_out(out);
        if self.whole_walk_under_way() {
            return;
        }
        if self.gather.walk_after_ms.is_some() {
            return self.walk_for_lost(now);
        }
        self.dispatch_search(now, out);
        let quiet = self.gather.oldest() == self.gather.spilled && self.backlog.is_empty();
        if quiet && let Some(stamp) = self.gather.spilled {
            self.ask_for_spilled(stamp, out);
        }
    }

    fn ask_for_spilled(&mut self, stamp: Stamp, out: &mut Vec<Action>) {
        if !std::mem::replace(&mut self.gather.taking, true) {
            // What memory holds in part comes together with the rest.
            for name in self.links.take_incomplete() {
                self.spill(name, stamp);
            }
            self.spill_out(out);
        }
        if !std::mem::replace(&mut self.gather.asked, true) {
            out.push(Action::Gather {
                key: self.key,
                names_max: GATHER_NAMES_MAX,
            });
        }
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

    fn walk_for_lost(&mut self, now: Now) {
        if self.gather.walk_after_ms.is_some_and(|after| now.ms >= after) {
            self.gather.walk_after_ms = None;
            if let Some(stamp) = self.gather.spilled.take() {
                self.owe(RelPath::root(), Rescan::compare(stamp));
            }
        }
    }

    /// True while the walk that finds most names itself goes on.
    fn whole_walk_under_way(&self) -> bool {
        self.whole_walk.is_some() && !self.backlog_walk.is_idle()
    }

    fn dispatch_search(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.gather.scan.is_idle()
            && now.ms >= self.gather.not_before_ms
            && let Some(stamp) = self.gather.owed.take()
        {
            self.gather.began_ms = now.ms;
            self.links.search_begins();
            self.gather.scan.owe(RelPath::root(), stamp);
        }
        for page in self.gather.scan.pages() {
            let ticket = self.ticket();
            self.gather.scan.began(&page, ticket);
            out.push(Action::Read {
                ticket,
                order: page.order,
            });
        }
    }

    /// Takes a page of the search. False if the ticket is not one of its.
    pub(super) fn searched(&mut self, now: Now, ticket: Ticket, finding: &Finding) -> bool {
        if !self.gather.scan.holds(ticket) {
            return false;
        }
        let stamp = self.gather.scan.oldest();
        let found = self.gather.scan.found(ticket, finding.clone());
        if let (Some((dir, listed)), Some(stamp)) = (found, stamp) {
            for (name, links) in listed.linked {
                if self.links.knows(links.inode) {
                    self.found_name(now, dir.join(&name), links, stamp);
                }
            }
        }
        if self.gather.scan.is_idle() {
            self.links.search_ended();
            let took = now.ms.saturating_sub(self.gather.began_ms);
            self.gather.not_before_ms = now.ms + REST * took;
        }
        true
    }

    fn found_name(&mut self, now: Now, path: RelPath, links: Links, stamp: Stamp) {
        if self.links.inode(&path) != Some(links.inode) {
            let name = Spilled {
                links,
                path,
                held: false,
            };
            let noted = self.links.note(&name.path, name.links);
            self.take_name(now, name, stamp, noted);
        }
    }

    /// Spilled names come back, all of one inode together.
    pub fn gathered(&mut self, now: Now, names: Option<Vec<Spilled>>) {
        self.gather.asked = false;
        let Some(stamp) = self.gather.spilled else {
            return;
        };
        let Some(names) = names else {
            // Only the walk knows them; it begins anew after a while.
            self.gather.walk_after_ms = Some(now.ms + LOST_REST_MS);
            return;
        };
        if names.is_empty() {
            self.gather.taking = false;
            self.gather.spilled = self.gather.spilled.filter(|_| !self.gather.spilling.is_empty());
        }
        for name in names {
            let noted = self.links.note_with_others(&name.path, name.links);
            self.take_name(now, name, stamp, noted);
        }
    }

    /// A name that was found is looked at, unless there was no room for it.
    fn take_name(&mut self, now: Now, name: Spilled, stamp: Stamp, noted: bool) {
        if !noted {
            return self.spill(name, stamp);
        }
        if name.held && self.held_as_anchor(&name.path) {
            return;
        }
        let wish = Waiting::new(stamp, Want::State);
        self.backlog.put(now.ms, name.path, wish);
    }
}
