//! What was left out because the target cannot hold it.

use super::Replica;
use crate::engine::work::Seen;
use crate::report::Limit;
use crate::tree::{LimitCounts, LimitKind, LimitSet, Metadata, Name, RelPath, State};

/// The limits that entries have met since a whole walk was owed. Nothing is remembered of the entries
/// themselves, so one that is sent twice counts twice.
#[derive(Debug, Default)]
pub(super) struct Losses {
    counts: LimitCounts,
    /// All limits met by anything that was said, also by what is not counted because it was or will
    /// be counted elsewhere.
    met: LimitSet,
    /// Those of the root, which no listing names.
    root: LimitSet,
}

impl Losses {
    /// Entries that were listed.
    pub(super) fn listed(&mut self, counts: &LimitCounts) {
        self.counts.merge(counts);
    }

    fn entries(&self, kind: LimitKind) -> u64 {
        let counted = self.counts.get(kind) + u64::from(self.root.contains(kind));
        counted.max(u64::from(self.met.contains(kind)))
    }

    /// True if nothing was left out.
    pub(super) fn is_empty(&self) -> bool {
        LimitKind::ALL.iter().all(|&kind| self.entries(kind) == 0)
    }
}

impl Replica {
    /// What a look saw, as it looks on the target. It is counted unless a listing has counted it.
    pub(super) fn shown(&mut self, name: &Name, mut seen: Seen, is_counted: bool) -> Seen {
        let (meta, links) = match &mut seen {
            Seen::Is {
                state: State::Present(meta, _),
                links,
                ..
            }
            | Seen::Large { meta, links, .. } => (meta, links),
            _ => return seen,
        };
        let met = self.view.show_name(Some(name), meta, links.is_some());
        self.losses.met.merge(met);
        if !is_counted {
            self.losses.counts.add(met);
        }
        seen
    }

    /// The metadata of a directory, as it looks on the target.
    pub(super) fn shown_dir(&mut self, dir: &RelPath, mut meta: Metadata) -> Metadata {
        let name = dir.split().map(|(_, name)| name);
        let met = self.view.show(name.as_ref(), &mut meta);
        self.losses.met.merge(met);
        if dir.is_root() {
            self.losses.root = met;
        }
        meta
    }

    /// What the target cannot hold, with how much of that the source has.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let limits = self.view.limits();
        let kinds = LimitKind::ALL.into_iter();
        let known = kinds.filter(|&kind| limits.has(kind) || self.losses.entries(kind) > 0);
        known
            .map(|kind| Limit {
                kind,
                consequence: limits.consequence(kind),
                entries: kind.is_countable().then(|| self.losses.entries(kind)),
            })
            .collect()
    }
}
