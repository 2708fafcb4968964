//! The audit: a slow walk of the whole tree, again and again, that finds what no event reports. Such are
//! writes through a shared mapping, through a hard link outside the root, and by another host that has the
//! same file system mounted.
//!
//! It goes one directory at a time and no faster than it is allowed to. Each directory is compared by
//! itself, like any other rescan; what differs although nobody told is repaired and counted.

use crate::engine::replica::Limits;
use crate::engine::scan::{Scan, ScanPage};
use crate::engine::work::{Detail, Finding};
use crate::engine::{Since, Stamp, Ticket};
use crate::report::AuditStatus;
use crate::tree::RelPath;

/// What a directory costs, in entries: it is opened and compared however little it holds.
const DIR_ENTRIES: u64 = 8;

/// How soon an audit asks again whether the sinks have time for it, in milliseconds.
const BUSY_MS: u64 = 1_000;

/// How often and how fast the tree is audited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds from the beginning of one audit to that of the next; 0 for never. One that takes
    /// longer is followed by the next at once.
    pub interval_ms: u64,
    /// Entries in a second.
    pub entries_per_s: u64,
}

/// The audit of a source.
#[derive(Debug)]
pub(super) struct Audit {
    pace: Pace,
    scan: Scan,
    /// When the audit under way, or else the last, began.
    began_ms: u64,
    /// When the next step may be taken.
    next_ms: u64,
    completed: u64,
}

impl Audit {
    pub(super) fn new(pace: Pace, limits: &Limits, now_ms: u64) -> Self {
        Self {
            pace,
            scan: Scan::new(1, Detail::Kind, limits),
            began_ms: now_ms,
            next_ms: now_ms.saturating_add(pace.interval_ms),
            completed: 0,
        }
    }

    /// When there is something to do.
    pub(super) fn deadline(&self) -> Option<u64> {
        (self.pace.interval_ms > 0).then_some(self.next_ms)
    }

    /// The page that is to be listed now, if the time for one has come and the sinks have `time` for it.
    pub(super) fn page(&mut self, now_ms: u64, time: bool) -> Option<ScanPage> {
        if self.deadline().is_none_or(|next_ms| now_ms < next_ms) {
            return None;
        }
        if !time {
            self.next_ms = now_ms + BUSY_MS;
            return None;
        }
        if self.scan.is_idle() {
            self.began_ms = now_ms;
            let stamp = Stamp {
                pos: u64::MAX,
                since_ms: now_ms,
                made: Since::Ms(now_ms),
            };
            self.scan.owe(RelPath::root(), stamp);
        }
        self.scan.pages().pop()
    }

    /// A reader lists the page.
    pub(super) fn began(&mut self, page: &ScanPage, ticket: Ticket) {
        // Nothing more is done before its end.
        self.next_ms = u64::MAX;
        self.scan.began(page, ticket);
    }

    /// True if the ticket is one of the audit.
    pub(super) fn holds(&self, ticket: Ticket) -> bool {
        self.scan.holds(ticket)
    }

    /// Takes the page that a reader has listed.
    pub(super) fn found(&mut self, now_ms: u64, ticket: Ticket, finding: Finding) {
        let listed = self.scan.found(ticket, finding);
        let entries = listed.map_or(0, |(_, listed)| listed.entries.len() as u64);
        self.next_ms = now_ms + (entries + DIR_ENTRIES) * 1000 / self.pace.entries_per_s.max(1);
        if self.scan.is_over() {
            self.completed += 1;
            self.next_ms = self
                .next_ms
                .max(self.began_ms.saturating_add(self.pace.interval_ms));
        }
    }

    pub(super) fn status(&self, found: u64) -> AuditStatus {
        AuditStatus {
            interval_ms: self.pace.interval_ms,
            is_running: !self.scan.is_idle(),
            completed: self.completed,
            found,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::work::Listed;
    use crate::tree::{Kind, ListEntry, Name};

    fn file(number: u64) -> ListEntry {
        let name = Name::new(number.to_string().as_bytes()).expect("a name");
        ListEntry::bare(name, Kind::File)
    }

    #[test]
    fn goes_no_faster_than_it_may() {
        let pace = Pace {
            interval_ms: 1_000,
            entries_per_s: 10,
        };
        let mut audit = Audit::new(pace, &Limits::default(), 0);
        assert!(audit.page(999, true).is_none());
        let mut now_ms = 1_000;
        for round in 0..3 {
            let page = audit.page(now_ms, true).expect("it is due");
            audit.began(&page, Ticket(round));
            assert!(audit.page(now_ms, true).is_none(), "one at a time");
            let listed = Listed {
                entries: (0..42).map(file).collect(),
                ..Listed::default()
            };
            audit.found(now_ms, Ticket(round), Finding::Listed(Box::new(listed)));
            // 42 entries and the directory, at 10 a second.
            assert!(audit.page(now_ms + 4_999, true).is_none());
            now_ms += 5_000;
        }
        assert_eq!(audit.status(0).completed, 3);
    }
}
