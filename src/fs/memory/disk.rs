//! Inodes, names, watches and what a power cut leaves of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;

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
    content: Vec<u8>,
    children: BTreeMap<Name, Ino>,
    nlink: u64,
}

/// A whole file system.
#[derive(Debug, Clone)]
pub struct Disk {
    inodes: BTreeMap<Ino, Inode>,
    root: Ino,
    next_ino: Ino,
    /// Its clock.
    pub now: Time,
    /// Bytes of content that fit.
    pub bytes_max: usize,
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
                content: Vec::new(),
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
            size: inode.content.len() as u64,
            mtime: inode.mtime,
            ctime: inode.ctime,
            rdev: inode.rdev,
            dev: 1,
            ino,
            nlink: inode.nlink,
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
        Ok(&self.get(ino)?.content)
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

    fn used(&self) -> usize {
        self.inodes.values().map(|inode| inode.content.len()).sum()
    }

    /// A file without a name.
    pub(super) fn make_unnamed(&mut self) -> io::Result<Ino> {
        if self.used() >= self.bytes_max {
            return error(libc::ENOSPC);
        }
        Ok(self.inode(Kind::File))
    }

    /// Writes into a file; what the write makes longer must fit.
    pub fn write_at(&mut self, ino: Ino, offset: usize, data: &[u8]) -> io::Result<()> {
        let end = offset + data.len();
        let grows = end.saturating_sub(self.get(ino)?.content.len());
        if self.used().saturating_add(grows) > self.bytes_max {
            return error(libc::ENOSPC);
        }
        let now = self.now;
        let inode = self.get_mut(ino)?;
        if inode.content.len() < end {
            inode.content.resize(end, 0);
        }
        inode.content[offset..end].copy_from_slice(data);
        (inode.mtime, inode.ctime) = (now, now);
        self.dirty.insert(ino);
        self.tell(ino, What::Modified);
        Ok(())
    }

    /// Cuts a file off.
    pub fn truncate(&mut self, ino: Ino, size: usize) -> io::Result<()> {
        let now = self.now;
        let inode = self.get_mut(ino)?;
        inode.content.truncate(size);
        (inode.mtime, inode.ctime) = (now, now);
        self.dirty.insert(ino);
        self.tell(ino, What::Modified);
        Ok(())
    }

    /// Somebody opens the file for writing, or closes it.
    pub fn set_writer(&mut self, ino: Ino, open: bool) {
        if open {
            self.writers.insert(ino);
        } else if self.writers.remove(&ino) {
            self.tell(ino, What::Closed);
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
        inode.content = target.to_vec();
        self.set_meta(ino, meta)?;
        Ok(ino)
    }

    /// Makes a name for a new file or symlink.
    pub fn create(&mut self, dir: Ino, name: &Name, kind: Kind, content: &[u8]) -> io::Result<Ino> {
        if self.lookup(dir, name).is_ok() {
            return error(libc::EEXIST);
        }
        self.expect_dir(dir)?;
        let ino = self.inode(kind);
        self.get_mut(ino)?.content = content.to_vec();
        self.dirty.insert(ino);
        self.enter(dir, name, ino)?;
        self.tell_name(dir, name, kind == Kind::Dir, What::Created);
        Ok(ino)
    }

    /// Makes a directory.
    pub fn make_dir(&mut self, dir: Ino, name: &Name) -> io::Result<Ino> {
        self.create(dir, name, Kind::Dir, &[])
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
            Ok(_) => {
                self.leave(dir, name)?;
            }
            Err(_) => self.expect_dir(dir)?,
        }
        self.enter(dir, name, ino)
    }

    /// Removes a name that is no directory.
    pub fn unlink(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let ino = self.lookup(dir, name)?;
        if self.get(ino)?.kind == Kind::Dir {
            return error(libc::EISDIR);
        }
        self.leave(dir, name)?;
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
        self.leave(dir, name)?;
        self.dropped(ino);
        self.tell_name(dir, name, true, What::Deleted);
        Ok(())
    }

    pub(super) fn remove_tree(&mut self, dir: Ino, name: &Name) -> io::Result<()> {
        let ino = self.lookup(dir, name)?;
        self.expect_dir(ino)?;
        self.leave(dir, name)?;
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
        self.expect_dir(to)?;
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
            self.leave(to, to_name)?;
            if is_dir {
                self.dropped(there);
            }
        }
        self.leave(from, from_name)?;
        self.enter(to, to_name, ino)?;
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

    /// Tells the directories that hold a name of the inode; a directory's own watch too.
    fn tell(&mut self, ino: Ino, what: What) {
        let Some(inode) = self.inodes.get(&ino) else {
            return;
        };
        let is_dir = inode.kind == Kind::Dir;
        let names: Vec<(Ino, Name)> = self
            .watches
            .keys()
            .filter_map(|dir| self.inodes.get(dir).map(|inode| (*dir, inode)))
            .flat_map(|(dir, parent)| {
                parent
                    .children
                    .iter()
                    .filter(|(_, child)| **child == ino)
                    .map(move |(name, _)| (dir, name.clone()))
            })
            .collect();
        for (dir, name) in names.into_iter().take(1) {
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
        copy.watches.clear();
        copy.events.clear();
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
                    inode.content.fill(0);
                }
            }
            after.changes += 1;
        }
        after.watches.clear();
        after.events.clear();
        *self = after;
        // Files without a name are gone.
        self.inodes
            .retain(|&ino, inode| ino == self.root || inode.nlink > 0);
        self.sync();
    }
}
