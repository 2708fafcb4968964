//! Entries with several names: which of them carries the content, and which are told as further names
//! of it (rule 27).

use std::collections::BTreeSet;

use super::{RECHECK_MS, Replica, Rule};
use crate::engine::links::Group;
use crate::engine::queue::{Waiting, Want};
use crate::engine::walk::Rescan;
use crate::engine::work::{Further, Links, Spilled};
use crate::engine::{Now, Stamp};
use crate::tree::{Body, LimitKind, Name, RelPath, State};
use crate::wire::message::Lane;

/// How long a name waits for the outcome of what it builds on before it looks again, in milliseconds.
const PROOF_WAIT_MS: u64 = 20;

impl Replica {
    /// True if each name becomes a file of its own on the target. Each is told whole then, and there are
    /// no anchors; the table tells to which other names a change is to be told.
    pub(super) fn holds_names_apart(&self) -> bool {
        !self.view.keeps(LimitKind::HardLinks)
    }

    /// How to look at a name, should it be one of several; `None` if it must wait for another of them, or
    /// for the outcome of what it builds on. `batch` are names that the same look takes already.
    pub(super) fn further(
        &mut self,
        path: &RelPath,
        wish: &Waiting,
        batch: &[(Name, Waiting)],
    ) -> Option<Further> {
        if wish.want == Want::Attributes && self.is_unanswered(path) {
            return None;
        }
        if !self.limits.keeps(Rule::Links) || self.holds_names_apart() {
            return Some(Further::Whole);
        }
        let Some(group) = self.links.of(path) else {
            // Its content changed: it is wanted whatever other names there are, and must not wait until
            // they are known.
            return Some(match wish.content_pos {
                0 => Further::Unknown,
                _ => Further::Whole,
            });
        };
        if wish.want == Want::Attributes {
            return Some(Further::Unknown);
        }
        let anchor = group
            .anchor
            .as_ref()
            .filter(|anchor| anchor.path != *path)
            .filter(|_| group.anchor_serves(wish.content_pos, wish.stamp.pos));
        let (before, further) = match (anchor, &group.pending) {
            (Some(anchor), _) => (Some(&anchor.path), Further::LinkTo(anchor.path.clone())),
            (None, Some(pending)) if pending != path => (Some(pending), Further::Whole),
            (None, _) => (None, Further::Whole),
        };
        // What lies below this name waits for it, if the table is wrong.
        let before = before.filter(|before| !path.is_above(before));
        let waits = before.is_some_and(|before| self.is_under_way(before, batch))
            || (further != Further::Whole && self.is_unproven(path));
        if let Some(group) = self.links.of_mut(path) {
            // Whoever waits for another is nobody to be waited for.
            if !waits && further == Further::Whole {
                group.pending = Some(path.clone());
            } else if group.pending.as_ref() == Some(path) {
                group.pending = None;
            }
        }
        (!waits).then_some(further)
    }

    /// True if the sink may still refuse the message that made the anchor: what it holds under that name
    /// would be an older content then, which a link must not spread.
    fn is_unproven(&self, path: &RelPath) -> bool {
        let applied = self.link.as_ref().map_or(0, |link| link.applied);
        let anchor = self.links.of(path).and_then(|group| group.anchor.as_ref());
        anchor.is_some_and(|anchor| anchor.number > applied)
    }

    /// True if the sink may still refuse what it was told of this name. Metadata alone might be put on an
    /// older content of the same size and time then.
    pub(super) fn is_unanswered(&self, path: &RelPath) -> bool {
        path.split()
            .is_some_and(|(dir, name)| self.on_the_way().any(|message| message.tells(&dir, &name)))
    }

    /// True if something is still to be told of this name.
    fn is_under_way(&self, path: &RelPath, batch: &[(Name, Waiting)]) -> bool {
        let in_batch = || {
            // The names of a batch are all in one directory; one of the same name elsewhere costs a
            // little waiting.
            path.split()
                .is_some_and(|(_, name)| batch.iter().any(|(other, _)| *other == name))
        };
        [&self.live, &self.backlog]
            .iter()
            .any(|queue| queue.get(path).is_some())
            || in_batch()
            || self.is_streamed(path)
            || self
                .readings
                .values()
                .any(|reading| reading.footprint.covers(path))
            || self.renames.iter().any(|renaming| renaming.touches(path))
    }

    /// Another name of the inode goes first, or an outcome: this one is looked at a little later.
    pub(super) fn look_later(&mut self, now: Now, lane: Lane, path: RelPath, wish: Waiting) {
        let hold_ms = match self.is_unproven(&path) || self.is_unanswered(&path) {
            true => PROOF_WAIT_MS,
            false => self.limits.hold_off.min_ms,
        };
        let wish = Waiting {
            not_before_ms: now.ms + hold_ms,
            ..wish
        };
        self.queue(lane).put(now.ms, path, wish);
    }

    /// True if what a look says of a further name still holds, now that all events up to the look have
    /// been read.
    pub(super) fn may_link(&self, path: &RelPath, wish: &Waiting, to: &RelPath) -> bool {
        let serves = self.links.of(path).is_some_and(|group| {
            let is_anchor = group.anchor.as_ref().is_some_and(|a| a.path == *to);
            is_anchor && group.anchor_serves(wish.content_pos, wish.stamp.pos)
        });
        serves && !self.is_under_way(to, &[])
    }

    /// A look found one name of several, and did not read it or found that it is not what was thought.
    pub(super) fn seen_linked(
        &mut self,
        now: Now,
        lane: Lane,
        path: RelPath,
        wish: Waiting,
        links: Links,
    ) {
        let wrong = self
            .links
            .of(&path)
            .filter(|_| self.links.inode(&path) == Some(links.inode))
            .and_then(|group| group.anchor.as_ref())
            .map(|anchor| anchor.path.clone());
        if let Some(other) = wrong.filter(|other| *other != path) {
            // The table was wrong: nobody told that the other name means something else by now.
            self.links.forget(&other);
            let look = Waiting::new(wish.stamp, Want::State).with_content(self.last_pos);
            self.queue(lane).put_now(now.ms, other, look);
        }
        if self.links.note(&path, links) {
            self.queue(lane).put_now(now.ms, path, wish);
        } else {
            self.spill(Spilled { links, path }, wish.stamp);
        }
    }

    /// Takes down what a name means. False if it has no other names.
    pub(super) fn note_inode(
        &mut self,
        path: &RelPath,
        links: Option<Links>,
        wish: &Waiting,
    ) -> bool {
        match links {
            None => {
                self.links.forget(path);
                false
            }
            Some(links) => {
                if !self.links.note(path, links) {
                    let path = path.clone();
                    self.spill(Spilled { links, path }, wish.stamp);
                }
                // It may not have been known for a name of the inode when this was heard.
                self.links.content_changed(path, wish.content_pos);
                true
            }
        }
    }

    /// Takes down what a look has seen, and completes what it says of other names. `compared` if a walk
    /// asked for it, which checks that the sink has no more names than there should be.
    pub(super) fn note_links(
        &mut self,
        path: &RelPath,
        links: Option<Links>,
        compared: bool,
        wish: &Waiting,
        state: State,
    ) -> State {
        if self.links.inode(path) != links.map(|links| links.inode) {
            self.look_elsewhere(path, wish);
        }
        if state == State::Absent {
            return state;
        }
        self.note_inode(path, links, wish);
        match state {
            State::Present(meta, Body::Unchanged { .. }) => {
                let group = self.links.of(path).filter(|group| group.is_linked());
                let links = group.map_or(1, |group| group.known());
                State::Present(meta, Body::Unchanged { links })
            }
            State::Present(meta, Body::Link { to, .. }) => {
                self.links.linked(path);
                let links = links.map(|links| links.count).filter(|_| compared);
                State::Present(meta, Body::Link { to, links })
            }
            whole => whole,
        }
    }

    /// The name means something else by now, or nothing. What happened to its inode before that is seen
    /// under another of its names; if others may exist of which none is known, by a walk.
    pub(super) fn look_elsewhere(&mut self, path: &RelPath, wish: &Waiting) {
        let mut wish = *wish;
        if let Some(untold) = self.untold_of(path) {
            wish.merge(untold);
        }
        let Some(group) = self.links.of(path) else {
            return;
        };
        if let Some(stamp) = group.untold() {
            wish = Waiting {
                touched: true,
                stamp: wish.stamp.earliest(stamp),
                ..wish.with_content(self.last_pos)
            };
        }
        if !wish.touched {
            return;
        }
        let is_incomplete = group.is_incomplete();
        if let Some(other) = self.other_told(group, path) {
            let want = match wish.content_pos {
                0 => Want::Attributes,
                _ => Want::State,
            };
            let look = Waiting {
                touched: true,
                ..Waiting::new(wish.stamp, want).with_content(wish.content_pos)
            };
            self.live.put(0, other, look);
        } else if is_incomplete && !self.ledger.stands_for(path) {
            let root = RelPath::root();
            let rescan = self.of_forgotten(&root, wish.stamp);
            self.owe(root, rescan);
        }
    }

    /// Another name of the group, below no directory with a problem; the anchor before any other.
    fn other_told(&self, group: &Group, path: &RelPath) -> Option<RelPath> {
        let anchor = group.anchor.as_ref().map(|anchor| &anchor.path);
        let mut others = anchor.into_iter().chain(group.others(path));
        let told = |other: &&RelPath| *other != path && !self.ledger.stands_for(other);
        others.find(told).cloned()
    }

    /// What has happened to the inode of a name that has a problem, and could not be told.
    fn untold_of(&self, path: &RelPath) -> Option<Waiting> {
        let problem = self.ledger.get(path).filter(|problem| problem.touched)?;
        let stamp = Stamp {
            pos: 0,
            since_ms: problem.since_ms,
            made: problem.open_since,
        };
        let untold = Waiting {
            touched: true,
            ..Waiting::new(stamp, Want::State)
        };
        Some(untold.with_content(self.last_pos))
    }

    /// The names at a path and below it mean something else by now, or nothing.
    pub(super) fn leave(&mut self, top: &RelPath) {
        for path in self.links.at_or_below(top) {
            self.leave_name(&path);
        }
    }

    /// The path is no directory: the names below it mean nothing any more.
    pub(super) fn leave_below(&mut self, top: &RelPath) {
        for path in self.links.at_or_below(top) {
            if path != *top {
                self.leave_name(&path);
            }
        }
    }

    /// What happened under the name and was not looked at yet is seen under others.
    fn leave_name(&mut self, path: &RelPath) {
        let waiting = [&self.live, &self.backlog].map(|queue| queue.get(path).copied());
        for wish in waiting.into_iter().chain([self.untold_of(path)]).flatten() {
            self.look_elsewhere(path, &wish);
        }
        self.links.forget(path);
    }

    /// The sink is told the content by this name: the other names that are known become further ones.
    pub(super) fn anchored(
        &mut self,
        now: Now,
        lane: Lane,
        path: &RelPath,
        wish: &Waiting,
        read_pos: u64,
    ) {
        if self.holds_names_apart() {
            return self.told_apart(now, lane, path, wish);
        }
        self.links.anchored(path, read_pos, self.last_number());
        for other in self.others(path) {
            self.queue(lane)
                .put_now(now.ms, other, Waiting::new(wish.stamp, Want::State));
        }
    }

    fn others(&self, path: &RelPath) -> Vec<RelPath> {
        let group = self.links.of(path);
        group.map_or_else(Vec::new, |group| group.others(path).cloned().collect())
    }

    /// The target holds the names apart. What happened to the inode was seen at one name alone; the
    /// others are told as well. So they are of what nobody heard, behind a walk that was there before.
    fn told_apart(&mut self, now: Now, lane: Lane, path: &RelPath, wish: &Waiting) {
        if !wish.touched && !self.links.moved_on(path) {
            return self.links.linked(path);
        }
        self.links.changed(path);
        let look = Waiting::new(wish.stamp, wish.want).with_content(wish.content_pos);
        for other in self.others(path) {
            self.queue(lane).put(now.ms, other, look);
        }
    }

    /// Takes down the names of a compared page that are one of several. Of those that the sink holds,
    /// the first of each inode will do as the one by which the others are told; these are looked at.
    pub(super) fn look_at_linked(&mut self, lane: Lane, id: u64) {
        let Some(visit) = self.walker(lane).visits.get_mut(&id) else {
            return;
        };
        let (dir, rescan) = (visit.dir.clone(), visit.rescan);
        let linked = std::mem::take(&mut visit.linked);
        let mut looks: BTreeSet<Name> = visit.looks.drain(..).collect();
        for (name, links) in linked {
            let path = dir.join(&name);
            let is_noted = self.links.note(&path, links);
            if self.holds_names_apart() {
                let group = self.links.of(&path);
                looks.extend(group.filter(|group| group.wants(&path)).map(|_| name));
            } else if !is_noted {
                looks.remove(&name);
                self.spill(Spilled { links, path }, rescan.stamp);
            } else if self.is_distrusted_elsewhere(&path, &rescan) || !self.held_as_anchor(&path) {
                looks.insert(name);
            }
        }
        if let Some(visit) = self.walker(lane).visits.get_mut(&id) {
            visit.looks = looks.into_iter().collect();
        }
    }

    /// True if another walk distrusts more than this one at any known name of the inode: that the sink holds the
    /// name proves nothing then.
    fn is_distrusted_elsewhere(&self, path: &RelPath, rescan: &Rescan) -> bool {
        let distrusts = |path: &RelPath| self.walks().any(|walk| walk.distrusts_more(path, rescan));
        let others = self.links.of(path).map(|group| group.others(path));
        distrusts(path) || others.is_some_and(|mut others| others.any(distrusts))
    }

    /// The sink was found to hold the content under this name. True if it is the name by which the
    /// others of its inode are told.
    pub(super) fn held_as_anchor(&mut self, path: &RelPath) -> bool {
        let Some(group) = self.links.of(path) else {
            return false;
        };
        match &group.anchor {
            Some(anchor) => anchor.path == *path,
            None => {
                self.links.anchored(path, 0, 0);
                true
            }
        }
    }

    /// The sink is told metadata alone by this name, which it refuses if it does not hold the content.
    /// If it is the first name of its inode, the others can be told by it; else it may be a file of its
    /// own there, and is told as a further name.
    pub(super) fn asserted(&mut self, now: Now, lane: Lane, path: &RelPath, wish: &Waiting) {
        if self.holds_names_apart() {
            return self.told_apart(now, lane, path, wish);
        }
        let Some(group) = self.links.of(path) else {
            return;
        };
        if group.anchor.is_none() {
            self.links.anchored(path, 0, self.last_number());
        } else if !group.has_linked(path) {
            let wish = Waiting::new(wish.stamp, Want::State);
            self.queue(lane).put(now.ms, path.clone(), wish);
        }
    }

    /// Where names may be missing, this one is looked at again a little later: most further names are
    /// gone by then. If not, they are searched for.
    pub(super) fn look_for_others(&mut self, now: Now, path: &RelPath, wish: &Waiting) {
        if wish.touched {
            self.links.heard(path, wish.stamp);
        }
        let incomplete = self
            .links
            .of(path)
            .is_some_and(|group| group.is_incomplete());
        // A whole walk finds most names itself, and searches for the others at its end.
        let walk_will = self.whole_walk.is_some() && !self.walk_searched;
        if !incomplete || walk_will {
            return;
        }
        if wish.rechecks {
            return self.owe_search(wish.stamp);
        }
        self.recheck(now, path.clone(), wish.stamp);
    }

    /// What happened under a name that had a problem is told to the others of its inode by the retry, which
    /// belongs to no flush (seed 56286699743398). Now that the problem is over, every flush waits for them.
    pub(super) fn look_at_others(&mut self, now: Now, path: &RelPath, stamp: Stamp) {
        let Some(group) = self.links.of(path) else {
            return;
        };
        let others: Vec<RelPath> = group.others(path).cloned().collect();
        for other in others {
            let look = Waiting::new(stamp, Want::State);
            self.live.put(now.ms, other, look);
        }
    }

    /// Looks at a name again a little later, to see how many names its inode has by then.
    pub(super) fn recheck(&mut self, now: Now, path: RelPath, stamp: Stamp) {
        let again = Waiting {
            not_before_ms: now.ms + RECHECK_MS,
            rechecks: true,
            ..Waiting::new(stamp, Want::Attributes)
        };
        self.live.put(now.ms, path, again);
    }
}
