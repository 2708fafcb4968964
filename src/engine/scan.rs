//! A walk of the source alone, which tells the sink nothing: to bind watches, or to find the other
//! names of an inode.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::replica::Limits;
use super::walk::{Rescan, Step, Subdir, Walker};
use super::work::{Detail, Finding, Listed, Order};
use super::{Stamp, Ticket};
use crate::tree::{Kind, RelPath};

/// The scan.
#[derive(Debug)]
pub struct Scan {
    walker: Walker,
    tickets: BTreeMap<Ticket, u64>,
    detail: Detail,
    page_names: usize,
}

/// A page that is to be listed.
#[derive(Debug)]
pub struct ScanPage {
    visit: u64,
    /// The directory.
    pub dir: RelPath,
    /// It is the directory's first page.
    pub first: bool,
    /// What a reader is to do.
    pub order: Order,
}

impl Scan {
    /// A scan with at most `pages_max` pages under way, otherwise within the limits of a walk.
    #[must_use]
    pub fn new(pages_max: usize, detail: Detail, limits: &Limits) -> Self {
        Self {
            walker: Walker::new(&Limits {
                visits_max: pages_max,
                ..*limits
            }),
            tickets: BTreeMap::new(),
            detail,
            page_names: limits.page_names,
        }
    }

    /// Owes a scan of a subtree.
    pub fn owe(&mut self, path: RelPath, stamp: Stamp) {
        let rescan = Rescan {
            fresh: true,
            ..Rescan::compare(stamp)
        };
        self.walker.owe(path, rescan);
    }

    /// True if nothing is owed or under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.walker.is_idle()
    }

    /// True if nothing is left to be listed. Begins the next page if there is one.
    pub fn is_over(&mut self) -> bool {
        self.walker.advance();
        self.is_idle()
    }

    /// The earliest stamp of anything owed or under way.
    #[must_use]
    pub fn oldest(&self) -> Option<Stamp> {
        self.walker.oldest()
    }

    /// The pages that can be listed now; each goes to a reader under a ticket ([`Scan::began`]).
    pub fn pages(&mut self) -> Vec<ScanPage> {
        self.walker.advance();
        let (detail, names_max) = (self.detail, self.page_names);
        let waiting = self
            .walker
            .visits
            .iter_mut()
            .filter(|(_, visit)| matches!(visit.step, Step::List { .. }));
        let pages = waiting.map(|(&id, visit)| {
            visit.step = Step::Listing { full: false };
            ScanPage {
                visit: id,
                dir: visit.dir.clone(),
                first: !std::mem::replace(&mut visit.bound, true),
                order: Order::List {
                    dir: visit.dir.clone(),
                    after: visit.after.clone(),
                    names_max,
                    detail,
                    suspicion: None,
                    view: Arc::default(),
                },
            }
        });
        pages.collect()
    }

    /// A reader lists the page.
    pub fn began(&mut self, page: &ScanPage, ticket: Ticket) {
        self.tickets.insert(ticket, page.visit);
    }

    /// Takes what a reader found. `None` if it could not list the page, which the walks of the sinks
    /// say, or if the page is not of this scan.
    pub fn found(&mut self, ticket: Ticket, finding: Finding) -> Option<(RelPath, Listed)> {
        let id = self.tickets.remove(&ticket)?;
        let Finding::Listed(listed) = finding else {
            self.walker.drop_visit(id);
            return None;
        };
        let visit = self.walker.visits.get_mut(&id)?;
        visit.next_after = listed.upto.clone();
        let dirs = listed
            .entries
            .iter()
            .filter(|entry| entry.kind == Kind::Dir);
        let subdirs = dirs.map(|entry| Subdir {
            name: entry.name.clone(),
            fresh: true,
            compared: None,
        });
        visit.subdirs = subdirs.collect();
        visit.step = Step::Look;
        let dir = visit.dir.clone();
        self.walker.finish_if_done(id);
        Some((dir, *listed))
    }

    /// True if the ticket is one of this scan.
    #[must_use]
    pub fn holds(&self, ticket: Ticket) -> bool {
        self.tickets.contains_key(&ticket)
    }
}
