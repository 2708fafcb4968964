//! Inodes, names, watches and what a power cut leaves of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::ops::Range;

use super::content::{Content, place};
use crate::fs::Stat;
use crate::source::watch::{RawEvent, Wd, What};
use crate::tree::{Kind, LimitKind, Metadata, Name, RelPath, TargetLimits, Time, View, Xattrs};

/// Number of an inode; never used twice.
pub type Ino = u64;

#[derive(Debug, Clone)]
struct Inode {
    kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    ctime: Time,
    rdev: u64,
    xattrs: Xattrs,
    content: Content,
    children: BTreeMap<Name, Ino>,
    nlink: u64,
}

impl Inode {
    /// Bytes allocated for the content of a file.
    fn allocated(&self) -> usize {
        match self.kind {
            Kind::File => self.content.allocated(),
            _ => 0,
        }
    }
}

/// A whole file system.
#[derive(Debug, Clone)]
pub struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    root: Ino,
    next_ino: Ino,
    /// Its clock.
    pub now: Time,
    /// Bytes of content that fit; holes take no room.
    pub bytes_max: usize,
    /// Bytes of content that are there, of files without a name too.
    used: usize,
    /// How often each inode is held open by osync.
    held: BTreeMap<Ino, u32>,
    /// The names through which users change files that have several.
    ways: BTreeMap<Ino, (Ino, Name)>,
    /// Events that fit into the queue.
    pub events_max: usize,
    /// Watches that fit.
    pub watches_max: usize,
    /// What it cannot hold.
    pub limits: TargetLimits,
    /// Counts every change, so that a judge looks only when there is something new.
    pub changes: u64,
    watches: BTreeMap<Ino, Wd>,
    next_wd: i32,
    events: VecDeque<RawEvent>,
    next_cookie: u32,
    writers: BTreeSet<Ino>,
    unreadable: BTreeSet<Ino>,
    durable: Option<Box<Disk>>,
    /// Files whose content was written since the last sync.
    dirty: BTreeSet<Ino>,
}

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl Disk {
    pub(super) fn new() -> Self {
        let mut disk = Self {
            inodes: BTreeMap::new(),
            root: 1,
            next_ino: 1,
            now: Time::default(),
            bytes_max: usize::MAX,
            used: 0,
            held: BTreeMap::new(),
            ways: BTreeMap::new(),
            events_max: 16_384,
            watches_max: usize::MAX,
            limits: TargetLimits::default(),
            changes: 0,
            watches: BTreeMap::new(),
            next_wd: 1,
            events: VecDeque::new(),
            next_cookie: 1,
            writers: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            durable: None,
            dirty: BTreeSet::new(),
        };
        disk.root = disk.inode(Kind::Dir);
        disk.sync();
        disk
    }

    fn inode(&mut self, kind: Kind) -> Ino {
        let owner = self.limits.owner.as_ref();
        let (uid, gid) = owner.map_or((0, 0), |owner| (owner.uid, owner.groups[0]));
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(
            ino,
            Inode {
                kind,
                mode: 0o700,
                uid,
                gid,
                mtime: self.now,
                ctime: self.now,
                rdev: 0,
                xattrs: Vec::new(),
                content: Content::default(),
                children: BTreeMap::new(),
                nlink: 0,
            },
        );
        ino
    }

    fn get(&self, ino: Ino) -> io::Result<&Inode> {
        self.inodes
            .get(&ino)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    fn get_mut(&mut self, ino: Ino) -> io::Result<&mut Inode> {
        self.changes += 1;
        self.inodes
            .get_mut(&ino)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ESTALE))
    }

    /// The root directory.
    #[must_use]
    pub fn root(&self) -> Ino {
        self.root
    }

    // ---- looking -----------------------------------------------------------------------------------

    /// The inode of a name.
    pub fn lookup(&self, dir: Ino, name: &Name) -> io::Result<Ino> {
        self.expect_dir(dir)?;
        let children = &self.get(dir)?.children;
        let held = self.held_name(dir, name)?;
        held.and_then(|held| children.get(&held).copied())
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// The name that a directory holds for this one: with folding, it may differ in case.
    fn held_name(&self, dir: Ino, name: &Name) -> io::Result<Option<Name>> {
        let children = &self.get(dir)?.children;
        let is_same = |held: &&Name| held.as_bytes().eq_ignore_ascii_case(name.as_bytes());
        Ok(match children.get_key_value(name) {
            Some((held, _)) => Some(held.clone()),
            None if !self.limits.has(LimitKind::FoldedNames) => None,
            None => children.keys().find(is_same).cloned(),
        })
    }

    /// The inode of a path.
    pub fn find(&self, path: &RelPath) -> io::Result<Ino> {
        let mut at = self.root;
        for part in path.components() {
            at = self.lookup(
                at,
                &Name::new(part).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            )?;
        }
        Ok(at)
    }

    /// ENOTDIR unless it is a directory.
    pub fn expect_dir(&self, ino: Ino) -> io::Result<()> {
        if self.get(ino)?.kind == Kind::Dir {
            Ok(())
        } else {
            error(libc::ENOTDIR)
        }
    }

    /// Stat of an inode.
    pub fn stat(&self, ino: Ino) -> io::Result<Stat> {
        let inode = self.get(ino)?;
        Ok(Stat {
            kind: inode.kind,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: inode.content.bytes().len() as u64,
            mtime: inode.mtime,
            ctime: inode.ctime,
            rdev: inode.rdev,
            dev: 1,
            ino,
            nlink: inode.nlink,
            allocated: inode.allocated() as u64,
        })
    }

    /// Names and kinds in a directory, sorted.
    pub fn children(&self, dir: Ino) -> io::Result<Vec<(Name, Kind)>> {
        self.expect_dir(dir)?;
        self.get(dir)?
            .children
            .iter()
            .map(|(name, &ino)| Ok((name.clone(), self.get(ino)?.kind)))
            .collect()
    }

    /// Content of a file or target of a symlink.
    pub fn content(&self, ino: Ino) -> io::Result<&[u8]> {
        Ok(self.get(ino)?.content.bytes())
    }

    /// The first data of a file that ends after this offset, cut off there; `None` if only a hole
    /// follows, or nothing.
    pub fn next_data(&self, ino: Ino, offset: u64) -> io::Result<Option<Range<u64>>> {
        let content = &self.get(ino)?.content;
        // Beyond the largest file there is nothing.
        let data = place(offset).ok().and_then(|at| content.next_data(at));
        Ok(data.map(|data| data.start as u64..data.end as u64))
    }

    /// All that is no hole in a file, sorted.
    pub fn data(&self, ino: Ino) -> io::Result<Vec<Range<u64>>> {
        let mut found: Vec<Range<u64>> = Vec::new();
        while let Some(data) = self.next_data(ino, found.last().map_or(0, |last| last.end))? {
            found.push(data);
        }
        Ok(found)
    }

    /// Extended attributes.
    pub fn xattrs(&self, ino: Ino) -> io::Result<Xattrs> {
        Ok(self.get(ino)?.xattrs.clone())
    }

    pub(super) fn check_readable(&self, ino: Ino) -> io::Result<()> {
        if self.unreadable.contains(&ino) {
            error(libc::EACCES)
        } else {
            Ok(())
        }
    }

    pub(super) fn is_being_written(&self, ino: Ino) -> bool {
        self.writers.contains(&ino)
    }

    /// Every path with its inode, the root first, parents before children.
    #[must_use]
    pub fn paths(&self) -> Vec<(RelPath, Ino)> {
        let mut found = vec![(RelPath::root(), self.root)];
        let mut next = 0;
        while let Some((path, ino)) = found.get(next).cloned() {
            if let Some(inode) = self.inodes.get(&ino) {
                found.extend(
                    inode
                        .children
                        .iter()
                        .map(|(name, &child)| (path.join(name), child)),
                );
            }
            next += 1;
        }
        found
    }

    // ---- changing ----------------------------------------------------------------------------------

    /// Bytes of content on the disk.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used
    }

    /// A file without a name, near a directory.
    pub(super) fn make_unnamed(&mut self, dir: Ino) -> io::Result<Ino> {
        self.check_alive(dir)?;
        if self.used >= self.bytes_max {
            return error(libc::ENOSPC);
        }
        Ok(self.inode(Kind::File))
    }

    /// Changes content and what follows from that: times, room, what is not durable, events.
    fn change(&mut self, ino: Ino, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let now = self.now;
        let inode = self.get_mut(ino)?;
        let before = inode.allocated();
        change(&mut inode.content);
        (inode.mtime, inode.ctime) = (now, now);
        let after = inode.allocated();
        self.used = self.used - before + after;
        self.dirty.insert(ino);
        self.tell(ino, What::Modified);
        Ok(())
    }

    /// Writes into a file; what the write allocates must fit. A gap before it becomes a hole.
    pub fn write_at(&mut self, ino: Ino, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = place(offset)?..place(offset.saturating_add(data.len() as u64))?;
        let missing = self.get(ino)?.content.missing(&range);
        if self.used.saturating_add(missing) > self.bytes_max {
            return error(libc::ENOSPC);
        }
        self.change(ino, |content| content.write(range.start, data))
    }

    /// Cuts a file off, or lets it end with a hole.
    pub fn truncate(&mut self, ino: Ino, size: u64) -> io::Result<()> {
        let size = place(size)?;
        self.change(ino, |content| content.set_len(size))
    }

    /// Makes a range of a file a hole, as far as the file reaches.
    pub fn punch(&mut self, ino: Ino, range: Range<u64>) -> io::Result<()> {
        let range = place(range.start)?..place(range.end)?;
        self.change(ino, |content| content.punch(range))
    }

    /// The inode of a name through which a user is about to change it. Until he comes by another, or
    /// this name is taken from it, the changes are told under this name alone, as the kernel does; of
    /// an inode that came by none they are told under the first name that is watched.
    pub fn through(&mut self, dir: Ino, name: &Name) -> io::Result<Ino> {
        let ino = self.lookup(dir, name)?;
        self.ways.insert(ino, (dir, name.clone()));
        Ok(ino)
    }

    /// Somebody opens the file for writing, or closes it.
    pub fn set_writer(&mut self, ino: Ino, open: bool) {
        if open {
            self.writers.insert(ino);
        } else if self.writers.remove(&ino) {
            self.tell(ino, What::Closed);
            self.free_if_gone(ino);
        }
    }

    /// Makes a file unreadable, or readable again.
    pub fn set_unreadable(&mut self, ino: Ino, unreadable: bool) {
        let changed = if unreadable {
            self.unreadable.insert(ino)
        } else {
            self.unreadable.remove(&ino)
        };
        if changed {
            self.tell(ino, What::Attributes);
        }
    }

    /// Sets all metadata; the change time is the clock's.
    pub fn set_meta(&mut self, ino: Ino, meta: &Metadata) -> io::Result<()> {
        self.check_holds(meta)?;
        let now = self.now;
        let mtime = self.limits.time.nearest(meta.mtime);
        let inode = self.get_mut(ino)?;
        inode.mode = meta.mode;
        inode.uid = meta.uid;
        inode.gid = meta.gid;
        inode.xattrs.clone_from(&meta.xattrs);
        inode.mtime = mtime;
        inode.ctime = now;
        self.tell(ino, What::Attributes);
        Ok(())
    }

    /// EPERM for metadata that this disk cannot hold; only times it changes by itself.
    fn check_holds(&self, meta: &Metadata) -> io::Result<()> {
        let mut held = Metadata {
            mtime: Time::default(),
            ..meta.clone()
        };
        let met = View::new(self.limits.clone(), None).show(None, &mut held);
        let only_times = |kind| kind == LimitKind::Times || !met.contains(kind);
        if LimitKind::ALL.into_iter().all(only_times) {
            Ok(())
        } else {
            error(libc::EPERM)
        }
    }

    pub(super) fn make_special(&mut self, meta: &Metadata, target: &[u8]) -> io::Result<Ino> {
        let ino = self.inode(meta.kind);
        let inode = self.get_mut(ino)?;
        inode.rdev = meta.rdev;
        inode.content = target.into();
        self.set_meta(ino, meta)?;
        Ok(ino)
    }

    /// Makes a name for a new file or symlink.
    pub fn create(&mut self, dir: Ino, name: &Name, kind: Kind, content: &[u8]) -> io::Result<Ino> {
        if self.lookup(dir, name).is_ok() {
            return error(libc::EEXIST);
        }
        self.check_alive(dir)?;
        let ino = self.inode(kind);
        let inode = self.get_mut(ino)?;
        inode.content = content.into();
        let allocated = inode.allocated();
        self.used += allocated;
        self.dirty.insert(ino);
        self.enter(dir, name, ino)?;
        self.tell_name(dir, name, kind == Kind::Dir, What::Created);
        Ok(ino)
    }

    /// Makes a directory.
    pub fn make_dir(&mut self, dir: Ino, name: &Name) -> io::Result<Ino> {
        self.create(dir, name, Kind::Dir, &[])
    }

    /// link(2): gives an inode that is no directory (EPERM) and has a name still (ENOENT) one more name,
    /// if that is free (EEXIST).
    pub fn link(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        self.check_linkable(ino)?;
        if self.lookup(dir, name).is_ok() {
            return error(libc::EEXIST);
        }
        self.check_alive(dir)?;
        self.enter(dir, name, ino)?;
        self.tell_name(dir, name, false, What::Created);
        Ok(())
    }

    /// The same at a place that is not part of this tree.
    pub fn link_outside(&mut self, ino: Ino) -> io::Result<()> {
        self.check_linkable(ino)?;
        let now = self.now;
        let inode = self.get_mut(ino)?;
        inode.nlink += 1;
        inode.ctime = now;
        Ok(())
    }

    fn check_linkable(&self, ino: Ino) -> io::Result<()> {
        match self.get(ino)? {
            inode if inode.kind == Kind::Dir => error(libc::EPERM),
            inode if inode.nlink == 0 => error(libc::ENOENT),
            _ if self.limits.has(LimitKind::HardLinks) => error(libc::EPERM),
            _ => Ok(()),
        }
    }

    /// The same in the place of whatever is not a directory (EISDIR), by way of a name in a stage that
    /// nobody watches.
    pub(super) fn relink(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        match self.lookup(dir, name) {
            Err(_) => return self.link(ino, dir, name),
            Ok(there) if there == ino => return Ok(()),
            Ok(_) => self.check_linkable(ino)?,
        }
        self.link_over(ino, dir, name)?;
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.tell_name(dir, name, false, What::MovedTo(cookie));
        Ok(())
    }

    fn enter(&mut self, dir: Ino, name: &Name, ino: Ino) -> io::Result<()> {
        let now = self.now;
        let parent = self.get_mut(dir)?;
        parent.children.insert(name.clone(), ino);
        (parent.mtime, parent.ctime) = (now, now);
        let inode = self.get_mut(ino)?;
        inode.nlink += 1;
        inode.ctime = now;
        Ok(())
    }

    fn leave(&mut self, dir: Ino, name: &Name) -> io::Result<Ino> {
        let now = self.now;
        let held = self.held_name(dir, name)?;
        let parent = self.get_mut(dir)?;
        let Some(ino) = held.and_then(|held| parent.children.remove(&held)) else {
            return error(libc::ENOENT);
        };
        (parent.mtime, parent.ctime) = (now, now);
        let inode = self.get_mut(ino)?;
        inode.nlink -= 1;
        inode.ctime = now;
        Ok(ino)
    }

    /// Takes away a name for good.
    fn drop_name(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let ino = self.leave(dir, name)?;
        self.free_if_gone(ino);
        Ok(())
    }

    /// ENOTDIR unless it is a directory, ENOENT if that was removed and is only held open.
    fn check_alive(&self, dir: Ino) -> io::Result<()> {
        self.expect_dir(dir)?;
        if dir != self.root && self.get(dir)?.nlink == 0 {
            return error(libc::ENOENT);
        }
        Ok(())
    }

    /// osync opens an inode.
    pub(super) fn hold(&mut self, ino: Ino) {
        *self.held.entry(ino).or_default() += 1;
    }

    /// And closes it. What a power cut closed already is closed.
    pub(super) fn let_go(&mut self, ino: Ino) {
        if let Some(times) = self.held.get_mut(&ino) {
            *times -= 1;
            if *times == 0 {
                self.held.remove(&ino);
                self.free_if_gone(ino);
            }
        }
    }

    /// Frees an inode that has no name and that nobody has open.
    fn free_if_gone(&mut self, ino: Ino) {
        let open = self.held.contains_key(&ino) || self.writers.contains(&ino);
        let gone = self.get(ino).is_ok_and(|inode| inode.nlink == 0);
        if open || !gone || ino == self.root {
            return;
        }
        if let Some(inode) = self.inodes.remove(&ino) {
            self.used -= inode.allocated();
        }
        self.dirty.remove(&ino);
        self.ways.remove(&ino);
        self.unreadable.remove(&ino);
    }

    fn dropped(&mut self, ino: Ino) {
        if let Some(wd) = self.watches.remove(&ino) {
            self.push(RawEvent {
                wd,
                what: What::Ignored,
                is_dir: true,
                name: None,
            });
        }
    }

    /// Puts an unnamed inode in the place of whatever is not a directory.
    pub(super) fn link_over(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        match self.lookup(dir, name) {
            Ok(there) if self.get(there)?.kind == Kind::Dir => return error(libc::EISDIR),
            Ok(_) => self.drop_name(dir, name)?,
            Err(_) => self.check_alive(dir)?,
        }
        self.enter(dir, name, ino)
    }

    /// True if a directory lies directly in this one.
    pub(super) fn holds_dirs(&self, dir: Ino) -> io::Result<bool> {
        let mut children = self.get(dir)?.children.values();
        let is_dir = |ino: &Ino| self.get(*ino).is_ok_and(|inode| inode.kind == Kind::Dir);
        Ok(children.any(is_dir))
    }

    /// Removes a name that is no directory.
    pub fn unlink(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let ino = self.lookup(dir, name)?;
        if self.get(ino)?.kind == Kind::Dir {
            return error(libc::EISDIR);
        }
        self.drop_name(dir, name)?;
        self.tell_name(dir, name, false, What::Deleted);
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_dir(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let ino = self.lookup(dir, name)?;
        self.expect_dir(ino)?;
        if !self.get(ino)?.children.is_empty() {
            return error(libc::ENOTEMPTY);
        }
        self.drop_name(dir, name)?;
        self.dropped(ino);
        self.tell_name(dir, name, true, What::Deleted);
        Ok(())
    }

    pub(super) fn remove_tree(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let top = self.lookup(dir, name)?;
        self.expect_dir(top)?;
        // From the bottom, so that each directory is empty when its turn comes.
        let mut inside = vec![(dir, name.clone(), top)];
        let mut next = 0;
        while let Some(&(_, _, ino)) = inside.get(next) {
            let children = self.get(ino)?.children.iter();
            inside.extend(children.map(|(name, &child)| (ino, name.clone(), child)));
            next += 1;
        }
        for (dir, name, _) in inside.iter().rev() {
            self.drop_name(*dir, name)?;
        }
        Ok(())
    }

    /// rename(2).
    pub fn rename(
        &mut self,
        from: Ino,
        from_name: &Name,
        to: Ino,
        to_name: &Name,
    ) -> io::Result<()> {
        let ino = self.lookup(from, from_name)?;
        self.check_alive(to)?;
        let is_dir = self.get(ino)?.kind == Kind::Dir;
        if is_dir && self.is_inside(to, ino) {
            return error(libc::EINVAL);
        }
        if let Ok(there) = self.lookup(to, to_name) {
            if there == ino {
                return Ok(());
            }
            match (is_dir, self.get(there)?.kind == Kind::Dir) {
                (true, false) => return error(libc::ENOTDIR),
                (false, true) => return error(libc::EISDIR),
                (true, true) if !self.get(there)?.children.is_empty() => {
                    return error(libc::ENOTEMPTY);
                }
                _ => {}
            }
            self.drop_name(to, to_name)?;
            if is_dir {
                self.dropped(there);
            }
        }
        self.leave(from, from_name)?;
        self.enter(to, to_name, ino)?;
        if let Some(way) = self.ways.get_mut(&ino)
            && (way.0, &way.1) == (from, from_name)
        {
            *way = (to, to_name.clone());
        }
        let cookie = self.next_cookie;
        self.next_cookie += 1;
        self.tell_name(from, from_name, is_dir, What::MovedFrom(cookie));
        self.tell_name(to, to_name, is_dir, What::MovedTo(cookie));
        if let Some(&wd) = self.watches.get(&ino) {
            self.push(RawEvent {
                wd,
                what: What::MoveSelf,
                is_dir,
                name: None,
            });
        }
        Ok(())
    }

    fn is_inside(&self, dir: Ino, top: Ino) -> bool {
        let mut left = vec![top];
        while let Some(ino) = left.pop() {
            if ino == dir {
                return true;
            }
            if let Some(inode) = self.inodes.get(&ino) {
                left.extend(inode.children.values());
            }
        }
        false
    }

    // ---- watches -----------------------------------------------------------------------------------

    pub(super) fn watch(&mut self, ino: Ino) -> io::Result<Wd> {
        if let Some(&wd) = self.watches.get(&ino) {
            return Ok(wd);
        }
        if self.watches.len() >= self.watches_max {
            return error(libc::ENOSPC);
        }
        let wd = Wd(self.next_wd);
        self.next_wd += 1;
        self.watches.insert(ino, wd);
        Ok(wd)
    }

    pub(super) fn unwatch(&mut self, wd: Wd) {
        let ino = self
            .watches
            .iter()
            .find(|(_, w)| **w == wd)
            .map(|(&ino, _)| ino);
        if let Some(ino) = ino {
            self.dropped(ino);
        }
    }

    /// Ends all watches and forgets what they told: the watcher is gone.
    pub fn forget_watches(&mut self) {
        self.watches.clear();
        self.events.clear();
    }

    fn push(&mut self, event: RawEvent) {
        if self.events.len() < self.events_max {
            if self.events.back() != Some(&event) {
                self.events.push_back(event);
            }
        } else if self
            .events
            .back()
            .is_none_or(|last| last.what != What::Overflow)
        {
            self.events.push_back(RawEvent {
                wd: Wd(-1),
                what: What::Overflow,
                is_dir: false,
                name: None,
            });
        }
    }

    fn tell_name(&mut self, dir: Ino, name: &Name, is_dir: bool, what: What) {
        if let Some(&wd) = self.watches.get(&dir) {
            self.push(RawEvent {
                wd,
                what,
                is_dir,
                name: Some(name.clone()),
            });
        }
    }

    /// Tells the directory of the name through which the inode was changed; a directory's own watch
    /// too.
    fn tell(&mut self, ino: Ino, what: What) {
        let Some(inode) = self.inodes.get(&ino) else {
            return;
        };
        let is_dir = inode.kind == Kind::Dir;
        if let Some((dir, name)) = self.name_changed(ino) {
            self.tell_name(dir, &name, is_dir, what);
        }
        if let (true, Some(&wd)) = (is_dir, self.watches.get(&ino)) {
            self.push(RawEvent {
                wd,
                what,
                is_dir,
                name: None,
            });
        }
    }

    /// The name under which a change of the inode is told.
    pub fn name_changed(&self, ino: Ino) -> Option<(Ino, Name)> {
        if let Some((dir, name)) = self.ways.get(&ino)
            && self.lookup(*dir, name).is_ok_and(|there| there == ino)
        {
            return Some((*dir, name.clone()));
        }
        self.watches.keys().find_map(|dir| {
            let mut children = self.inodes.get(dir)?.children.iter();
            let (name, _) = children.find(|(_, child)| **child == ino)?;
            Some((*dir, name.clone()))
        })
    }

    pub(super) fn take_events(&mut self, max: usize) -> Vec<RawEvent> {
        let count = self.events.len().min(max);
        self.events.drain(..count).collect()
    }

    /// Events in the queue.
    #[must_use]
    pub fn events_waiting(&self) -> usize {
        self.events.len()
    }

    // ---- durability --------------------------------------------------------------------------------

    /// Everything so far survives a power cut.
    pub fn sync(&mut self) {
        self.durable = None;
        self.dirty.clear();
        let mut copy = self.clone();
        copy.end_processes();
        self.durable = Some(Box::new(copy));
    }

    /// What a power cut leaves: the last sync, or everything since with some contents lost though their
    /// names, sizes and times are there. `keep` decides about the names, then about each file.
    pub fn power_cut(&mut self, mut keep: impl FnMut() -> bool) {
        let mut after = self.clone();
        if !keep()
            && let Some(durable) = self.durable.take()
        {
            after = *durable;
            after.now = self.now;
            after.next_ino = self.next_ino;
            after.changes = self.changes + 1;
        } else {
            for ino in std::mem::take(&mut after.dirty) {
                if !keep()
                    && let Some(inode) = after.inodes.get_mut(&ino)
                {
                    inode.content.lose();
                }
            }
            after.changes += 1;
        }
        after.end_processes();
        *self = after;
        self.sync();
    }

    /// A sync that fails. What of the content was not durable may be gone, as the kernel takes for written
    /// what it has failed to write; `keep` decides about each file.
    pub fn fail_sync(&mut self, mut keep: impl FnMut() -> bool) {
        for ino in self.dirty.clone() {
            if !keep()
                && let Some(inode) = self.inodes.get_mut(&ino)
            {
                inode.content.lose();
            }
        }
        self.changes += 1;
    }

    /// What only running processes have is gone, files without a name with it.
    fn end_processes(&mut self) {
        self.watches.clear();
        self.events.clear();
        self.held.clear();
        self.writers.clear();
        self.ways.clear();
        let nameless: Vec<Ino> = self
            .inodes
            .iter()
            .filter(|(_, inode)| inode.nlink == 0)
            .map(|(&ino, _)| ino)
            .collect();
        for ino in nameless {
            self.free_if_gone(ino);
        }
    }
}
