//! Entries that filters exclude and that strangers have put into the target: they must stay as they are,
//! and nothing excluded may ever come beside them.

use std::collections::BTreeMap;

use osync::fs::memory::{Disk, Ino};
use osync::tree::{Filter, Kind, Name, RelPath};

use crate::faults::Faults;
use crate::rng::Rng;
use crate::world::steps;

/// What was planted, with its inodes.
#[derive(Debug, Default)]
pub struct Planted {
    entries: BTreeMap<RelPath, Ino>,
}

impl Planted {
    /// Makes an excluded file or an excluded directory with a file, in any directory that takes part.
    pub fn plant(&mut self, disk: &mut Disk, rng: &mut Rng, faults: &Faults) -> Option<RelPath> {
        let filter = &faults.filter;
        let dirs: Vec<RelPath> = disk
            .paths()
            .into_iter()
            .filter(|(path, ino)| {
                disk.stat(*ino).is_ok_and(|stat| stat.kind == Kind::Dir)
                    && !filter.excludes(path, true)
            })
            .map(|(path, _)| path)
            .collect();
        let dir = &dirs[rng.below(dirs.len())];
        let name = Name::new(&[b'a' + rng.below(faults.names) as u8]).expect("a letter");
        let path = dir.join(&name);
        if !filter.excludes_all(&path) || disk.find(&path).is_ok() {
            return None;
        }
        let text = std::str::from_utf8(path.as_bytes()).expect("letters");
        if rng.once_in(2) {
            self.put(disk, text, true);
            self.put(disk, &format!("{text}/x"), false);
        } else {
            self.put(disk, text, false);
        }
        Some(path)
    }

    /// Plants one entry. The time of its directory stays, since a later look at it is owed to nobody.
    pub fn put(&mut self, disk: &mut Disk, at: &str, is_dir: bool) {
        let path = steps::path(at);
        let dir = disk
            .find(&path.parent().expect("it has a name"))
            .expect("a directory");
        let before = disk.stat(dir).expect("a directory");
        let meta = before.metadata(disk.xattrs(dir).expect("a directory"));
        // A stranger has room of his own, and may do everything.
        let bytes_max = std::mem::replace(&mut disk.bytes_max, usize::MAX);
        let limits = std::mem::take(&mut disk.limits);
        if is_dir {
            steps::mkdir(disk, at);
        } else {
            steps::write(disk, at, b"planted");
        }
        disk.set_meta(dir, &meta).expect("a directory");
        (disk.bytes_max, disk.limits) = (bytes_max, limits);
        // A power cut of the target is about what osync wrote.
        disk.sync();
        let ino = disk.find(&path).expect("it was just made");
        self.entries.insert(path, ino);
    }

    /// From now on, an entry of the target counts as planted.
    pub fn adopt(&mut self, path: RelPath, ino: Ino) {
        self.entries.insert(path, ino);
    }

    /// From now on, nothing counts as planted.
    pub fn forget_all(&mut self) {
        self.entries.clear();
    }

    /// Takes away what stands where the source has something else than a directory.
    pub fn uproot(&mut self, src: &Disk, dst: &mut Disk) {
        let blocked = |path: &RelPath| {
            let mut above = path.parent();
            while let Some(dir) = above {
                let there = src.find(&dir).and_then(|ino| src.stat(ino));
                if there.is_ok_and(|stat| stat.kind != Kind::Dir) {
                    return true;
                }
                above = dir.parent();
            }
            false
        };
        let blocking: Vec<RelPath> = self
            .entries
            .keys()
            .filter(|path| blocked(path))
            .cloned()
            .collect();
        // What is below goes first.
        for path in blocking.iter().rev() {
            let (dir, name) = path.split().expect("it has a name");
            let dir = dst.find(&dir).expect("planted entries stay");
            match dst.unlink(dir, &name) {
                Ok(()) => {}
                Err(_) => dst.remove_dir(dir, &name).expect("an empty directory"),
            }
            self.entries.remove(path);
        }
    }

    /// True if it was planted.
    pub fn holds(&self, path: &RelPath) -> bool {
        self.entries.contains_key(path)
    }

    /// True if something planted lies below.
    pub fn lies_below(&self, path: &RelPath) -> bool {
        self.entries.keys().any(|planted| path.is_above(planted))
    }

    /// Everything planted is there, and nothing else that is excluded.
    pub fn judge(&self, disk: &Disk, filter: &Filter) -> Result<(), String> {
        for (path, ino) in &self.entries {
            if disk.find(path).ok() != Some(*ino) {
                return Err(format!("{path} is excluded and was touched"));
            }
        }
        if filter.is_empty() {
            return Ok(());
        }
        for (path, ino) in disk.paths() {
            let is_dir = disk.stat(ino).is_ok_and(|stat| stat.kind == Kind::Dir);
            if filter.excludes(&path, is_dir) && !self.holds(&path) {
                return Err(format!("{path} is excluded and came to the sink"));
            }
        }
        Ok(())
    }
}
