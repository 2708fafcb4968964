//! Users of the source tree, and the memory of every state that a name ever had.

mod holes;

use std::collections::{HashMap, HashSet};

use osync::fs::memory::{Disk, Ino};
use osync::tree::{Kind, Name, RelPath, Time, View};

use crate::rng::Rng;

/// What a reader of a file sees: content and mode.
pub type Seen = (Vec<u8>, u32);

/// The users.
#[derive(Debug)]
pub struct Users {
    pub rng: Rng,
    pub acts_left: usize,
    names: usize,
    counter: u8,
    /// A file that is being written: the second half is still to come.
    writing: Option<(Ino, Vec<u8>)>,
    /// How entries look on the target.
    pub on_target: View,
    /// Every state that each path ever had there, or that it got from where it came from.
    pub history: HashMap<RelPath, HashSet<Seen>>,
    /// Paths touched since the last flush was asked for.
    pub touched: Vec<RelPath>,
    /// Files that osync has read while a writer had them open, which it counts and names (I2).
    pub read_while_open: HashSet<RelPath>,
    /// They give entries further names. Not where some names are excluded: what is written through an
    /// excluded name is found by walks alone.
    pub links: bool,
    /// Inodes that were changed after they were made.
    changed: HashSet<Ino>,
    pub trace: bool,
}

impl Users {
    pub fn new(seed: u64, acts_left: usize, names: usize, trace: bool) -> Self {
        Self {
            rng: Rng::new(seed ^ 0x05e5),
            acts_left,
            names,
            counter: 0,
            writing: None,
            on_target: View::default(),
            history: HashMap::new(),
            touched: Vec::new(),
            read_while_open: HashSet::new(),
            links: true,
            changed: HashSet::new(),
            trace,
        }
    }

    fn say(&self, text: &str) {
        if self.trace {
            println!("      u: {text}");
        }
    }

    /// Records what every path is now.
    pub fn record(&mut self, disk: &Disk) {
        for (path, ino) in disk.paths() {
            let stat = disk.stat(ino).expect("a listed inode");
            if stat.kind == Kind::File {
                let content = disk.content(ino).expect("a listed inode").to_vec();
                let mut meta = stat.metadata(disk.xattrs(ino).expect("a listed inode"));
                self.on_target.show(None, &mut meta);
                self.history
                    .entry(path)
                    .or_default()
                    .insert((content, meta.mode));
            }
        }
    }

    fn name(&mut self) -> Name {
        let at = self.rng.below(self.names) as u8;
        Name::new(&[b'a' + at]).expect("a letter")
    }

    fn any_dir(&mut self, disk: &Disk) -> (RelPath, Ino) {
        let dirs: Vec<_> = disk
            .paths()
            .into_iter()
            .filter(|(path, ino)| {
                path.components().count() < 3
                    && disk.stat(*ino).is_ok_and(|stat| stat.kind == Kind::Dir)
            })
            .collect();
        dirs[self.rng.below(dirs.len())].clone()
    }

    fn fresh(&mut self) -> Vec<u8> {
        self.counter = self.counter.wrapping_add(1).max(1);
        let size = 2 + 2 * self.rng.below(12);
        vec![self.counter; size]
    }

    /// Half of a write may be left for later.
    fn write(&mut self, disk: &mut Disk, ino: Ino, content: Vec<u8>) {
        let half = content.len() / 2;
        disk.set_writer(ino, true);
        let size = disk.content(ino).expect("an open file").len();
        if size > content.len() || self.rng.once_in(2) {
            disk.truncate(ino, 0).expect("an open file");
        }
        disk.write_at(ino, 0, &content[..half]).expect("room");
        if self.rng.once_in(2) {
            self.writing = Some((ino, content));
        } else {
            disk.write_at(ino, half as u64, &content[half..])
                .expect("room");
            disk.set_writer(ino, false);
        }
    }

    /// Changes a page, appends or cuts off, as databases and logs do.
    fn change_part(&mut self, disk: &mut Disk, ino: Ino, path: &RelPath) {
        let size = disk.content(ino).expect("an open file").len();
        let at = match self.rng.below(3) {
            0 => size,
            _ => self.rng.below(size + 1),
        };
        self.counter = self.counter.wrapping_add(1).max(1);
        let page = vec![self.counter; 1 + self.rng.below(4)];
        disk.set_writer(ino, true);
        if at > 0 && self.rng.once_in(4) {
            self.say(&format!("cut off {path} at {at}"));
            disk.truncate(ino, at as u64).expect("an open file");
        } else {
            self.say(&format!("write {path} at {at}"));
            disk.write_at(ino, at as u64, &page).expect("room");
        }
        self.record(disk);
        disk.set_writer(ino, false);
    }

    pub fn finish_writing(&mut self, disk: &mut Disk) {
        if let Some((ino, content)) = self.writing.take() {
            let half = content.len() / 2;
            // The file may have been removed meanwhile: nobody sees it then.
            let _ = disk.write_at(ino, half as u64, &content[half..]);
            disk.set_writer(ino, false);
            self.touch(disk, ino);
            self.say("finish writing");
            self.record(disk);
        }
    }

    /// What happens to an inode happens under all its names.
    fn touch(&mut self, disk: &Disk, ino: Ino) {
        let names = disk.paths().into_iter().filter(|(_, i)| *i == ino);
        self.touched.extend(names.map(|(path, _)| path));
    }

    /// Does one thing, if any are left.
    pub fn act(&mut self, disk: &mut Disk) {
        if self.acts_left == 0 {
            return;
        }
        self.acts_left -= 1;
        disk.now.nanos += 1;
        if self.writing.is_some() && self.rng.once_in(2) {
            return self.finish_writing(disk);
        }
        let (dir_path, dir) = self.any_dir(disk);
        let name = self.name();
        let path = dir_path.join(&name);
        let there = disk.lookup(dir, &name).ok();
        let kind = there.map(|ino| disk.stat(ino).expect("a looked up inode").kind);
        self.touched.push(path.clone());
        if let Some(ino) = there {
            self.touch(disk, ino);
        }
        let may_go = there.is_none_or(|ino| !self.is_only_witness(disk, (dir, &name), ino));
        match (kind, self.rng.below(6)) {
            (None, 0 | 1) => {
                self.say(&format!("mkdir {path}"));
                disk.make_dir(dir, &name).expect("a free name");
            }
            (None, 2) => {
                self.say(&format!("symlink {path}"));
                let target = self.fresh();
                disk.create(dir, &name, Kind::Symlink, &target)
                    .expect("a free name");
            }
            (None, 3) if self.links && self.rng.once_in(2) => self.link(disk, dir, &name, &path),
            (None, _) => {
                self.say(&format!("create {path}"));
                let ino = disk
                    .create(dir, &name, Kind::File, &[])
                    .expect("a free name");
                self.record(disk);
                let content = self.fresh();
                self.write(disk, ino, content);
            }
            (Some(_), 0 | 1) => self.rename(disk, dir, &path, &name),
            (Some(_), 2) => {
                let ino = self.come_by(disk, dir, &name);
                self.attributes(disk, ino, &path);
            }
            (Some(Kind::File), 3) if may_go => {
                self.say(&format!("rm {path}"));
                disk.unlink(dir, &name).expect("a file");
            }
            (Some(Kind::File), 4) if self.writing.is_none() && self.rng.once_in(2) => {
                let ino = self.come_by(disk, dir, &name);
                self.holes(disk, ino, &path);
            }
            (Some(Kind::File), _) if self.writing.is_none() && !self.rng.once_in(4) => {
                let ino = self.come_by(disk, dir, &name);
                self.change_part(disk, ino, &path);
            }
            (Some(Kind::File), _) => {
                self.say(&format!("write {path}"));
                let content = self.fresh();
                if self.writing.is_none() {
                    let ino = self.come_by(disk, dir, &name);
                    self.write(disk, ino, content);
                }
            }
            (Some(Kind::Dir), _) if self.has_only_witnesses(disk, &path) => {}
            (Some(Kind::Dir), _) => {
                self.say(&format!("rm -r {path}"));
                self.remove_all(disk, dir, &name);
            }
            (Some(_), _) if !may_go => {}
            (Some(_), _) => {
                self.say(&format!("rm {path}"));
                disk.unlink(dir, &name).expect("no directory");
            }
        }
        self.record(disk);
    }

    /// A user is about to change an inode by this name.
    fn come_by(&mut self, disk: &mut Disk, dir: Ino, name: &Name) -> Ino {
        let ino = disk.through(dir, name).expect("it is there");
        self.changed.insert(ino);
        ino
    }

    /// True if a change of the inode is told under this name alone, and the inode stays without it. If the
    /// name goes before anybody has looked, nothing tells of the change: walks find it, not events.
    fn is_only_witness(&self, disk: &Disk, (dir, name): (Ino, &Name), ino: Ino) -> bool {
        let many = disk
            .stat(ino)
            .is_ok_and(|stat| stat.kind != Kind::Dir && stat.nlink > 1);
        let told = disk
            .name_changed(ino)
            .is_none_or(|told| told == (dir, name.clone()));
        many && told && self.changed.contains(&ino)
    }

    fn has_only_witnesses(&self, disk: &Disk, top: &RelPath) -> bool {
        disk.paths().into_iter().any(|(path, ino)| {
            let Some((dir, name)) = path.split().filter(|_| top.is_above(&path)) else {
                return false;
            };
            let dir = disk.find(&dir).expect("a listed directory");
            self.is_only_witness(disk, (dir, &name), ino)
        })
    }

    /// Gives any entry a further name.
    fn link(&mut self, disk: &mut Disk, dir: Ino, name: &Name, path: &RelPath) {
        let others: Vec<_> = disk
            .paths()
            .into_iter()
            .filter(|(_, ino)| disk.stat(*ino).is_ok_and(|stat| stat.kind != Kind::Dir))
            .collect();
        if others.is_empty() {
            return;
        }
        let (other, ino) = others[self.rng.below(others.len())].clone();
        self.say(&format!("ln {other} {path}"));
        disk.link(ino, dir, name).expect("a free name");
    }

    fn remove_all(&mut self, disk: &mut Disk, dir: Ino, name: &Name) {
        let ino = disk.lookup(dir, name).expect("it is there");
        for (child, kind) in disk.children(ino).expect("a directory") {
            if kind == Kind::Dir {
                self.remove_all(disk, ino, &child);
            } else {
                disk.unlink(ino, &child).expect("no directory");
            }
        }
        disk.remove_dir(dir, name).expect("an empty directory");
    }

    fn rename(&mut self, disk: &mut Disk, dir: Ino, path: &RelPath, name: &Name) {
        let (to_dir_path, to_dir) = self.any_dir(disk);
        let to_name = self.name();
        let to = to_dir_path.join(&to_name);
        let before = disk.paths();
        self.touched.push(to.clone());
        let replaced = disk.lookup(to_dir, &to_name);
        if replaced.is_ok_and(|ino| self.is_only_witness(disk, (to_dir, &to_name), ino)) {
            return;
        }
        if disk.rename(dir, name, to_dir, &to_name).is_err() {
            return;
        }
        self.say(&format!("mv {path} {to}"));
        // Children of a moved directory may be seen under the new name with a state they had under
        // the old one.
        for (old, _) in before {
            if let Some(new) = old.moved(path, &to) {
                let states = self.history.get(&old).cloned().unwrap_or_default();
                self.history.entry(new).or_default().extend(states);
            }
        }
        let open: Vec<_> = self
            .read_while_open
            .iter()
            .filter_map(|old| old.moved(path, &to))
            .collect();
        self.read_while_open.extend(open);
        self.moved(path, &to);
    }

    /// What was below a directory before it moved may be seen under its new name.
    pub fn moved(&mut self, from: &RelPath, to: &RelPath) {
        let below = self.history.iter().filter(|(path, _)| from.is_above(path));
        let moved: Vec<_> = below
            .filter_map(|(path, states)| Some((path.moved(from, to)?, states.clone())))
            .collect();
        for (path, states) in moved {
            self.history.entry(path).or_default().extend(states);
        }
    }

    fn attributes(&mut self, disk: &mut Disk, ino: Ino, path: &RelPath) {
        let stat = disk.stat(ino).expect("it is there");
        let mut meta = stat.metadata(disk.xattrs(ino).expect("it is there"));
        match self.rng.below(4) {
            0 => meta.mode = 0o600 + self.rng.below(64) as u32,
            1 => meta.uid = self.rng.below(3) as u32,
            2 => {
                meta.mtime = Time {
                    secs: -5,
                    nanos: self.rng.below(3) as u32,
                }
            }
            _ if stat.kind == Kind::File && self.writing.is_none() => {
                // The same size and the same time, but other content.
                self.say(&format!("write {path} without a trace"));
                self.counter = self.counter.wrapping_add(1).max(1);
                let content = vec![self.counter; stat.size as usize];
                disk.set_writer(ino, true);
                disk.write_at(ino, 0, &content).expect("room");
                self.record(disk);
                disk.set_writer(ino, false);
            }
            _ => {}
        }
        self.say(&format!("attributes {path}"));
        disk.set_meta(ino, &meta).expect("it is there");
    }
}
