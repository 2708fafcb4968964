//! Which names of the source mean the same inode, as far as a bounded table remembers (rule 27).
//!
//! An event names one name of an inode only, and a write through one name is silent at the others. So
//! the names of an inode are kept as a *group*. One of them is its *anchor*: the name by which the sink
//! has learned the inode's content. The others are told as further names of the anchor. Whatever the
//! table says is checked by whoever uses it, the reader on the source and the applier on the sink; a
//! wrong entry costs a look, never a wrong link.
//!
//! At its limit the table gives up groups that are whole on the sink, those unused for longest first.
//! Where it would have to give up others it refuses the name, which is then gathered on disk
//! (`replica/gather.rs`).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::Stamp;
use super::work::{Inode, Links, Spilled};
use crate::tree::{RelPath, Time};

/// Groups that are looked at for one that can be given up.
const SEARCH_MAX: usize = 64;

/// How long a count of names may have been made before or after what events have told since, in
/// milliseconds.
const YOUNG_COUNT_MS: u64 = 5_000;

/// The name by which the sink knows the content of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// The name.
    pub path: RelPath,
    /// The content holds every change up to this position of the source; 0 if it was only compared.
    pub read_pos: u64,
    /// The message that told it; 0 if it was only compared, or told in an earlier session.
    pub number: u64,
}

/// The names of one inode.
#[derive(Debug, Default)]
pub struct Group {
    /// Each known name, and whether the sink has it as a name of the anchor's inode.
    names: BTreeMap<RelPath, bool>,
    /// How many names there were when one was last seen, less those that have gone since.
    count: u64,
    /// When that was, in milliseconds of the engine's clock.
    seen_ms: u64,
    /// The name by which the sink knows the content.
    pub anchor: Option<Anchor>,
    /// The name that is about to become the anchor.
    pub pending: Option<RelPath>,
    /// All names within the root are known if the count has not risen above this.
    searched: u64,
    /// The count when the search under way began.
    searching: u64,
    /// The lowest count that this search has met at any of the names; 0 if it has met none.
    met: u64,
    /// Names that the sink has were given up, to make room for others of the group.
    spared: bool,
    /// These have another content on the sink by now.
    stale: bool,
    /// On a target without hard links: something was told by one name that each of the others is to be
    /// told as well, whenever it becomes known. Those that were are marked in `names`.
    changed: bool,
    /// Position of the last change of the content that a known name was heard to tell; 0 if the sink has been
    /// told one that was read since.
    content_pos: u64,
    /// The newest position of which content was told, whatever became of it on the sink.
    told_pos: u64,
    /// When something happened that was told by a name while others may not have been known.
    heard: Option<Stamp>,
    /// Since it is known, there were directories without a watch: a name may have gone long before that is found.
    may_go_unheard: bool,
    /// When the inode had last changed when a name was seen.
    seen_changed: Option<Time>,
    /// It has changed between looks at two names, otherwise than by the number of its names.
    moved_on: bool,
    used: u64,
}

impl Group {
    /// True if there may be names within the root that are not known.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.misses(self.count)
    }

    /// True if not all of this many names are known.
    fn misses(&self, count: u64) -> bool {
        let is_searched = self.searched >= count && !self.stale;
        self.known() < count && !is_searched
    }

    /// What happened that names which are still to be found have not been told.
    #[must_use]
    pub fn untold(&self) -> Option<Stamp> {
        self.heard.filter(|_| self.is_incomplete())
    }

    fn is_whole(&self) -> bool {
        !self.is_incomplete() && self.is_linked() && self.pending.is_none()
    }

    /// True if the sink has every known name as one of the anchor's inode.
    #[must_use]
    pub fn is_linked(&self) -> bool {
        self.anchor.is_some() && self.names.values().all(|&linked| linked)
    }

    /// True if the anchor will do for a name of which content since a position is wanted, and which was heard of
    /// at another. While newer content is still to be told, the sink has an older one, which only names may get
    /// that were there when it was read.
    #[must_use]
    pub fn anchor_serves(&self, content_pos: u64, heard_pos: u64) -> bool {
        self.anchor.as_ref().is_some_and(|anchor| {
            let is_newest = self.content_pos <= anchor.read_pos;
            content_pos <= anchor.read_pos && (is_newest || heard_pos <= anchor.read_pos)
        })
    }

    /// True if the sink has this name as one of the anchor's inode.
    #[must_use]
    pub fn has_linked(&self, path: &RelPath) -> bool {
        self.anchor.is_some() && self.names.get(path) == Some(&true)
    }

    /// True if this name is still to be told what others of the group were.
    #[must_use]
    pub fn wants(&self, path: &RelPath) -> bool {
        self.changed && self.names.get(path) == Some(&false)
    }

    /// How many names are known.
    #[must_use]
    pub fn known(&self) -> u64 {
        self.names.len() as u64
    }

    /// Every known name but this one.
    pub fn others(&self, path: &RelPath) -> impl Iterator<Item = &RelPath> {
        self.names.keys().filter(move |name| *name != path)
    }

    fn remove(&mut self, path: &RelPath) {
        self.names.remove(path);
        self.pending.take_if(|pending| pending == path);
        self.unlink(path);
    }

    /// The sink does not have this name as one of the group. Another takes its place as the anchor.
    fn unlink(&mut self, path: &RelPath) {
        if let Some(linked) = self.names.get_mut(path) {
            *linked = false;
        }
        let Some(anchor) = self.anchor.as_mut().filter(|anchor| anchor.path == *path) else {
            return;
        };
        match self.names.iter().find(|(_, linked)| **linked) {
            Some((other, _)) => anchor.path = other.clone(),
            None => self.anchor = None,
        }
    }
}

/// The table.
#[derive(Debug)]
pub struct LinkTable {
    names: BTreeMap<RelPath, Inode>,
    groups: HashMap<Inode, Group>,
    by_use: BTreeMap<u64, Inode>,
    uses: u64,
    names_max: usize,
    now_ms: u64,
    /// Every directory has a watch.
    hears_all: bool,
    /// Names of inodes of which another name has gone, perhaps before they were counted.
    uncertain: BTreeSet<RelPath>,
}

impl LinkTable {
    /// A table of at most `names_max` names, about 200 bytes and its path each.
    #[must_use]
    pub fn new(names_max: usize) -> Self {
        Self {
            names: BTreeMap::new(),
            groups: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            names_max,
            now_ms: 0,
            hears_all: true,
            uncertain: BTreeSet::new(),
        }
    }

    /// Tells whether every directory has a watch.
    pub fn set_hears_all(&mut self, hears_all: bool) {
        if std::mem::replace(&mut self.hears_all, hears_all) && !hears_all {
            let groups = self.groups.values_mut();
            groups.for_each(|group| group.may_go_unheard = true);
        }
    }

    /// Tells the time, in milliseconds of the engine's clock.
    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Names known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True if no name is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The inode of a name.
    #[must_use]
    pub fn inode(&self, path: &RelPath) -> Option<Inode> {
        self.names.get(path).copied()
    }

    /// The group of a name.
    #[must_use]
    pub fn of(&self, path: &RelPath) -> Option<&Group> {
        self.groups.get(self.names.get(path)?)
    }

    /// The group of a name, to be changed.
    pub fn of_mut(&mut self, path: &RelPath) -> Option<&mut Group> {
        self.groups.get_mut(self.names.get(path)?)
    }

    /// True if an inode that was seen under this name may have others within the root that are not
    /// known.
    #[must_use]
    pub fn misses_names(&self, path: &RelPath, links: Links) -> bool {
        let group = self
            .of(path)
            .filter(|_| self.inode(path) == Some(links.inode));
        group.is_none_or(|group| group.misses(links.count))
    }

    /// True if names of this inode are known.
    #[must_use]
    pub fn knows(&self, inode: Inode) -> bool {
        self.groups.contains_key(&inode)
    }

    /// True if the sink has been told the content of this inode as it was read after this position.
    #[must_use]
    pub fn told_since(&self, inode: Inode, read_pos: u64) -> bool {
        let group = self.groups.get(&inode);
        group.is_some_and(|group| group.told_pos > read_pos)
    }

    /// Remembers that a name was seen to be one of these. False if there is no room for it.
    #[must_use]
    pub fn note(&mut self, path: &RelPath, links: Links) -> bool {
        self.enter(path, links, Group::is_whole)
    }

    /// The same for a name of an inode whose names within the root all come by and by. With `force`,
    /// groups that are not whole on the sink may be given up for it: their names that wait will be seen
    /// again.
    #[must_use]
    pub fn note_one_of_all(&mut self, path: &RelPath, links: Links, force: bool) -> bool {
        let spare = match force {
            true => |group: &Group| !group.is_incomplete(),
            false => Group::is_whole,
        };
        let entered = self.enter(path, links, spare);
        if let Some(group) = self.of_mut(path).filter(|_| entered) {
            group.searched = links.count;
        }
        entered
    }

    fn enter(&mut self, path: &RelPath, links: Links, spare: fn(&Group) -> bool) -> bool {
        if self.names.get(path) != Some(&links.inode) {
            self.forget(path);
            if self.names.len() >= self.names_max && !self.make_room(links.inode, spare) {
                return false;
            }
            self.names.insert(path.clone(), links.inode);
        }
        self.uses += 1;
        let group = self.groups.entry(links.inode).or_default();
        group.may_go_unheard |= !self.hears_all;
        self.by_use.remove(&group.used);
        self.by_use.insert(self.uses, links.inode);
        group.used = self.uses;
        group.moved_on |= group.seen_changed.is_some()
            && links.changed.is_some()
            && group.seen_changed != links.changed
            && group.count == links.count;
        group.seen_changed = links.changed.or(group.seen_changed);
        group.count = links.count;
        group.seen_ms = self.now_ms;
        group.names.entry(path.clone()).or_insert(false);
        true
    }

    /// Gives up a group that can be spared, else a name of the group that needs the room.
    fn make_room(&mut self, wanted: Inode, spare: fn(&Group) -> bool) -> bool {
        let candidates = self.by_use.values().take(SEARCH_MAX);
        let spared = candidates
            .copied()
            .find(|inode| *inode != wanted && spare(&self.groups[inode]));
        if let Some(inode) = spared {
            self.drop_group(inode);
            return true;
        }
        let Some(group) = self.groups.get_mut(&wanted) else {
            return false;
        };
        // Names that the target holds apart cannot be told by an anchor again.
        let Some(anchor) = group.anchor.as_ref().map(|anchor| &anchor.path) else {
            return false;
        };
        let spare = group
            .names
            .iter()
            .find(|(name, linked)| **linked && *name != anchor);
        let Some(spare) = spare.map(|(name, _)| name.clone()) else {
            return false;
        };
        group.spared = true;
        self.remove(&spare);
        true
    }

    fn drop_group(&mut self, inode: Inode) {
        if let Some(group) = self.groups.remove(&inode) {
            self.by_use.remove(&group.used);
            for name in group.names.keys() {
                self.names.remove(name);
            }
        }
    }

    /// The name means something else now, or nothing.
    pub fn forget(&mut self, path: &RelPath) {
        let Some(inode) = self.remove(path) else {
            return;
        };
        let Some(group) = self.groups.get_mut(&inode) else {
            return;
        };
        // As many names as before would be one that a search has not met.
        group.searched = group.searched.saturating_sub(1);
        group.searching = group.searching.saturating_sub(1);
        // The last count was made before the name went, or else a name has taken its place that nobody
        // knows. Both are possible if the count is young, or the name may have gone long ago.
        let is_old = self.now_ms.saturating_sub(group.seen_ms) > YOUNG_COUNT_MS;
        if is_old && !group.may_go_unheard {
            group.count = (group.count - 1).max(group.known());
        } else if group.is_incomplete() {
            self.uncertain.extend(group.names.keys().next().cloned());
        }
    }

    /// Takes one name of each inode of which it is not certain how many names there are.
    pub fn take_uncertain(&mut self) -> BTreeSet<RelPath> {
        std::mem::take(&mut self.uncertain)
    }

    fn remove(&mut self, path: &RelPath) -> Option<Inode> {
        let inode = self.names.remove(path)?;
        if let Some(group) = self.groups.get_mut(&inode) {
            group.remove(path);
            if group.names.is_empty() {
                self.drop_group(inode);
            }
        }
        Some(inode)
    }

    /// The name and everything below it mean nothing any more.
    pub fn forget_subtree(&mut self, top: &RelPath) {
        for path in self.at_or_below(top) {
            self.forget(&path);
        }
    }

    /// The known names at a path and below it.
    #[must_use]
    pub fn at_or_below(&self, top: &RelPath) -> Vec<RelPath> {
        self.names
            .range(top.clone()..)
            .take_while(|(path, _)| top.covers(path))
            .map(|(path, _)| path.clone())
            .collect()
    }

    /// An entry has another name now, with everything below it if it is a directory.
    pub fn renamed(&mut self, from: &RelPath, to: &RelPath, is_dir: bool) {
        self.forget_subtree(to);
        let moved = match is_dir {
            true => self.at_or_below(from),
            false => vec![from.clone()],
        };
        for old in moved {
            let (Some(new), Some(inode)) = (old.moved(from, to), self.names.remove(&old)) else {
                continue;
            };
            let Some(group) = self.groups.get_mut(&inode) else {
                continue;
            };
            let linked = group.names.remove(&old).unwrap_or_default();
            group.names.insert(new.clone(), linked);
            let anchor = group.anchor.as_mut().map(|anchor| &mut anchor.path);
            for name in anchor.into_iter().chain(group.pending.as_mut()) {
                if *name == old {
                    name.clone_from(&new);
                }
            }
            self.names.insert(new, inode);
        }
    }

    /// The sink is told the content of the group by this name, as read at a position. What it has
    /// under the other names is another inode from now on.
    pub fn anchored(&mut self, path: &RelPath, read_pos: u64, number: u64) {
        if let Some(group) = self.of_mut(path) {
            group.names.values_mut().for_each(|linked| *linked = false);
            group.names.insert(path.clone(), true);
            group.pending = None;
            group.told_pos = group.told_pos.max(read_pos);
            if group.content_pos <= read_pos {
                group.content_pos = 0;
            }
            group.stale |= std::mem::take(&mut group.spared);
            group.anchor = Some(Anchor {
                path: path.clone(),
                read_pos,
                number,
            });
        }
    }

    /// The content was heard to have changed at this position.
    pub fn content_changed(&mut self, path: &RelPath, pos: u64) {
        if let Some(group) = self.of_mut(path) {
            group.content_pos = group.content_pos.max(pos);
        }
    }

    /// Something that happened to the inode was told by this name.
    pub fn heard(&mut self, path: &RelPath, stamp: Stamp) {
        if let Some(group) = self.of_mut(path).filter(|group| group.is_incomplete()) {
            group.heard = Some(group.heard.map_or(stamp, |heard| heard.earliest(stamp)));
        }
    }

    /// The target holds the names apart, and was told by this one what each is to be told.
    pub fn changed(&mut self, path: &RelPath) {
        if let Some(group) = self.of_mut(path) {
            group.names.values_mut().for_each(|told| *told = false);
            group.names.insert(path.clone(), true);
            group.changed = true;
            group.moved_on = false;
        }
    }

    /// True if what this name tells may be news for names that were told before.
    #[must_use]
    pub fn moved_on(&self, path: &RelPath) -> bool {
        self.of(path).is_some_and(|group| group.moved_on)
    }

    /// The sink is told that this is a further name of the group.
    pub fn linked(&mut self, path: &RelPath) {
        if let Some(group) = self.of_mut(path) {
            group.names.insert(path.clone(), true);
        }
    }

    /// The sink does not have what it was told of this name.
    pub fn unlinked(&mut self, path: &RelPath) {
        if let Some(group) = self.of_mut(path) {
            group.unlink(path);
        }
    }

    /// The sink has refused the message of this number, since it does not hold what the message builds
    /// on: the anchor is not what it was thought to be, unless it was told later.
    pub fn refused(&mut self, path: &RelPath, number: u64) {
        if let Some(group) = self.of_mut(path)
            && group
                .anchor
                .as_ref()
                .is_some_and(|anchor| anchor.number < number)
        {
            group.anchor = None;
        }
    }

    /// The content changed at this position, and could not be read since: an anchor that was read before
    /// has an older one.
    pub fn unread(&mut self, path: &RelPath, content_pos: u64) {
        if let Some(group) = self.of_mut(path) {
            group.anchor.take_if(|anchor| anchor.read_pos < content_pos);
        }
    }

    /// The same for all that lies at a path or below it: what happened there may be forgotten.
    pub fn doubt(&mut self, top: &RelPath, pos: u64) {
        for path in self.at_or_below(top) {
            self.unread(&path, pos);
        }
    }

    /// A session is over; the numbers of the next begin anew.
    pub fn renumber(&mut self) {
        for group in self.groups.values_mut() {
            if let Some(anchor) = &mut group.anchor {
                anchor.number = 0;
            }
        }
    }

    /// Nothing is known of the sink any more. What happened to an inode and was not told by all of its names
    /// is still to be told: a comparison need not see it.
    pub fn unlink_all(&mut self) {
        for group in self.groups.values_mut() {
            group.changed &= group.untold().is_some() || group.names.values().any(|told| !told);
            group.names.values_mut().for_each(|linked| *linked = false);
            group.anchor = None;
            group.moved_on = false;
        }
    }

    /// Takes out every group of which names may be missing.
    pub fn take_incomplete(&mut self) -> Vec<Spilled> {
        let incomplete = self
            .groups
            .iter()
            .filter(|(_, group)| group.is_incomplete());
        let mut inodes: Vec<Inode> = incomplete.map(|(inode, _)| *inode).collect();
        inodes.sort_unstable();
        let mut taken = Vec::new();
        for inode in inodes {
            let group = &self.groups[&inode];
            let links = Links {
                inode,
                count: group.count,
                changed: None,
            };
            taken.extend(group.names.keys().map(|path| Spilled {
                links,
                path: path.clone(),
            }));
            self.drop_group(inode);
        }
        taken
    }

    /// True if some names within the root may not be known.
    #[must_use]
    pub fn any_incomplete(&self) -> bool {
        self.groups.values().any(Group::is_incomplete)
    }

    /// A search of the whole tree begins: names that were given up will be found.
    pub fn search_begins(&mut self) {
        for group in self.groups.values_mut() {
            group.searching = group.count;
            group.met = 0;
            group.stale = false;
        }
    }

    /// The search under way has met a name of this inode, with so many names then.
    pub fn search_met(&mut self, links: Links) {
        if let Some(group) = self.groups.get_mut(&links.inode) {
            group.met = match group.met {
                0 => links.count,
                met => met.min(links.count),
            };
        }
    }

    /// The search has ended: what it has not found lies outside the root. Of an inode that it has not met
    /// it says nothing: that had a single name meanwhile, and those it gets now are new.
    pub fn search_ended(&mut self) {
        for group in self.groups.values_mut() {
            let began = std::mem::take(&mut group.searching);
            if group.met > 0 {
                group.searched = began.min(group.met);
                group.heard = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn links(ino: u64, count: u64) -> Links {
        Links {
            inode: Inode { dev: 1, ino },
            count,
            changed: None,
        }
    }

    fn table(names_max: usize, names: &[(&str, u64, u64)]) -> LinkTable {
        let mut table = LinkTable::new(names_max);
        for (name, ino, count) in names {
            assert!(table.note(&path(name), links(*ino, *count)), "{name}");
        }
        table
    }

    fn anchor(table: &LinkTable, name: &str) -> Option<String> {
        let anchor = table.of(&path(name))?.anchor.as_ref()?;
        Some(anchor.path.to_string())
    }

    #[test]
    fn another_name_takes_the_place_of_an_anchor_that_goes() {
        let mut table = table(10, &[("a", 1, 3), ("b", 1, 3), ("c", 1, 3)]);
        table.anchored(&path("a"), 5, 1);
        table.linked(&path("c"));
        table.forget(&path("a"));
        assert_eq!(
            anchor(&table, "b").as_deref(),
            Some("c"),
            "the sink does not have b yet"
        );
        table.unlinked(&path("c"));
        assert_eq!(anchor(&table, "b"), None);
    }

    #[test]
    fn names_move_with_their_directory() {
        let mut table = table(
            10,
            &[("d/a", 1, 3), ("d/e/b", 1, 3), ("x", 1, 3), ("y/z", 2, 2)],
        );
        table.anchored(&path("d/e/b"), 5, 1);
        table.renamed(&path("d"), &path("y"), true);
        assert_eq!(anchor(&table, "x").as_deref(), Some("y/e/b"));
        assert!(table.of(&path("d/a")).is_none() && table.of(&path("y/a")).is_some());
        assert!(table.of(&path("y/z")).is_none(), "it was replaced");
        table.renamed(&path("x"), &path("y/a"), false);
        assert_eq!(table.of(&path("y/a")).map(Group::known), Some(2));
    }

    #[test]
    fn a_name_belongs_to_one_inode() {
        let mut table = table(10, &[("a", 1, 2), ("b", 1, 2)]);
        assert!(table.note(&path("b"), links(2, 2)));
        assert_eq!(table.of(&path("a")).map(Group::known), Some(1));
        table.forget_subtree(&path("a"));
        assert!(!table.knows(links(1, 2).inode));
    }

    #[test]
    fn what_is_whole_on_the_sink_makes_room() {
        let mut table = table(4, &[("a", 1, 2), ("b", 1, 2), ("c", 2, 2), ("d", 3, 2)]);
        assert!(!table.note(&path("e"), links(4, 2)), "none can be spared");
        table.anchored(&path("a"), 5, 1);
        table.linked(&path("b"));
        assert!(table.note(&path("e"), links(4, 2)));
        assert!(
            table.of(&path("a")).is_none(),
            "the whole group was given up"
        );
        assert_eq!(table.len(), 3);
        let spilled = |name: &str, ino| Spilled {
            links: links(ino, 2),
            path: path(name),
        };
        let left = table.take_incomplete();
        assert_eq!(left, [spilled("c", 2), spilled("d", 3), spilled("e", 4)]);
        assert!(table.is_empty());
    }

    #[test]
    fn a_group_larger_than_the_table_is_held_in_part() {
        let mut table = table(2, &[("a", 1, 9), ("b", 1, 9)]);
        table.anchored(&path("a"), 5, 1);
        assert!(
            !table.note(&path("c"), links(1, 9)),
            "b is not on the sink yet"
        );
        table.linked(&path("b"));
        assert!(table.note_one_of_all(&path("c"), links(1, 9), false));
        assert!(table.of(&path("b")).is_none() && !table.any_incomplete());
        // New content has to reach the names that were given up, too.
        table.anchored(&path("c"), 6, 2);
        assert!(table.any_incomplete());
    }

    #[test]
    fn a_search_completes_what_was_there_when_it_began() {
        let mut table = table(10, &[("a", 1, 3), ("b", 2, 2)]);
        table.search_begins();
        assert!(table.note(&path("c"), links(3, 2)));
        assert!(table.note(&path("b"), links(2, 3)), "one more since");
        table.search_met(links(1, 3));
        table.search_met(links(2, 3));
        table.search_ended();
        let incomplete = |name: &str| table.of(&path(name)).is_some_and(Group::is_incomplete);
        assert!(!incomplete("a") && incomplete("b") && incomplete("c"));
    }

    #[test]
    fn a_search_says_nothing_of_what_it_has_not_met() {
        let mut table = table(10, &[("a", 1, 3), ("b", 2, 3)]);
        table.search_begins();
        table.search_met(links(2, 3));
        table.search_met(links(2, 2));
        table.search_ended();
        assert!(table.note(&path("a"), links(1, 3)), "as many as before");
        let incomplete = |table: &LinkTable, name: &str| {
            let group = table.of(&path(name)).expect("it was noted");
            group.is_incomplete()
        };
        assert!(incomplete(&table, "a"));
        assert!(table.note(&path("b"), links(2, 2)));
        assert!(!incomplete(&table, "b"));
        assert!(table.note(&path("b"), links(2, 3)), "one more since");
        assert!(incomplete(&table, "b"));
    }

    /// Seed 39779114110262.
    #[test]
    fn a_name_that_nobody_heard_go_may_have_gone_before_the_count() {
        for hears_all in [true, false] {
            let mut table = table(10, &[("a", 1, 3), ("b", 1, 3)]);
            table.set_hears_all(hears_all);
            table.set_hears_all(true);
            table.set_now(YOUNG_COUNT_MS + 1);
            table.forget(&path("b"));
            assert_eq!(table.take_uncertain().is_empty(), hears_all);
        }
    }

    #[test]
    fn only_later_refusals_discredit_an_anchor() {
        let mut table = table(10, &[("a", 1, 2), ("b", 1, 2)]);
        table.anchored(&path("a"), 5, 7);
        table.refused(&path("b"), 6);
        assert!(anchor(&table, "b").is_some());
        table.refused(&path("b"), 8);
        assert_eq!(anchor(&table, "b"), None);
        table.anchored(&path("a"), 5, 7);
        table.renumber();
        table.refused(&path("b"), 1);
        assert_eq!(anchor(&table, "b"), None);
    }

    #[test]
    fn an_older_content_is_for_names_that_had_it() {
        let mut table = table(10, &[("a", 1, 3), ("b", 1, 3)]);
        let serves = |table: &LinkTable, content_pos, heard_pos| {
            let group = table.of(&path("b")).expect("it was noted");
            group.anchor_serves(content_pos, heard_pos)
        };
        assert!(!serves(&table, 0, 1), "there is none");
        table.anchored(&path("a"), 5, 1);
        assert!(serves(&table, 5, 9) && !serves(&table, 6, 9));
        table.content_changed(&path("b"), 8);
        assert!(serves(&table, 0, 5) && !serves(&table, 0, 9));
        table.anchored(&path("b"), 8, 2);
        assert!(serves(&table, 8, 9));
        table.anchored(&path("a"), 0, 0);
        assert!(serves(&table, 0, 9), "compared, and nothing is to be told");
    }

    #[test]
    fn what_is_forgotten_discredits_anchors_that_were_read_before() {
        let mut table = table(
            10,
            &[("a", 1, 2), ("d/a", 1, 2), ("b", 2, 2), ("d/c", 3, 2)],
        );
        for (name, read_pos) in [("a", 5), ("b", 5), ("d/c", 7)] {
            table.anchored(&path(name), read_pos, 1);
        }
        table.doubt(&path("d"), 7);
        let known = ["a", "b", "d/c"].map(|name| anchor(&table, name).is_some());
        assert_eq!(known, [false, true, true]);
    }

    /// Seed 65396840517437: a write that leaves size and time as they were, told by one name, and a session that ends
    /// before the other one is found.
    #[test]
    fn what_names_that_are_found_late_were_not_told_outlives_a_session() {
        let stamp = Stamp {
            pos: 1,
            since_ms: 0,
            made: crate::engine::Since::Ms(0),
        };
        let mut table = table(10, &[("a", 1, 2), ("x", 2, 2), ("y", 2, 2), ("z", 3, 1)]);
        for name in ["a", "x", "z"] {
            table.changed(&path(name));
            table.heard(&path(name), stamp);
        }
        table.unlink_all();
        assert!(table.note(&path("b"), links(1, 2)));
        let wants = ["a", "b", "x", "y", "z"].map(|name| {
            let group = table.of(&path(name)).expect("it was noted");
            group.wants(&path(name))
        });
        assert_eq!(wants, [true, true, true, true, false], "z has no others");
    }

    /// Two looks at names of one inode may be told in the other order, and what the first has told may be given up
    /// as an anchor in between.
    #[test]
    fn what_was_told_of_an_inode_is_newer_than_what_was_read_before() {
        let mut table = table(10, &[("a", 1, 2)]);
        let inode = table.inode(&path("a")).expect("a name that was noted");
        assert!(!table.told_since(inode, 5));
        table.anchored(&path("a"), 8, 1);
        table.doubt(&path("a"), 9);
        assert_eq!(anchor(&table, "a"), None);
        assert_eq!(
            [5, 8].map(|read_pos| table.told_since(inode, read_pos)),
            [true, false]
        );
    }
}
