//! Windows onto huge directories: the next names of a directory, kept for the pages that follow.
//!
//! A file system lists in no order, so the names of one page are found by reading the whole directory.
//! What such a read has met beyond the page is kept here, within a limit, and serves the pages behind it:
//! a directory is read once for each window, not once for each page.
//!
//! A window may be older than the page that it serves. It tells which names to look at, never what they
//! are, and it is never older than the visit that uses it: a first page forgets what was kept of its
//! directory. Several visits may go through one directory, each with a window of its own. What this side
//! itself puts into the directory meanwhile has to be told by [`Windows::created`]; what others put in is
//! told by events, or found by the next visit.

use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Fs;
use crate::tree::{Kind, Name, NameRange, RelPath};

/// Bytes of names kept, of all directories together, unless it is set.
pub const KEPT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Directories of which names are kept, or being read, at one time; above it the one used least lately
/// is forgotten.
pub const WINDOWS_MAX: usize = 32;

/// What a name costs besides its bytes: pointers, kind, and its share of a tree's node.
const NAME_COST: usize = 48;

/// A name and, where the file system tells it, its kind.
pub type Listing = (Name, Option<Kind>);

/// Which names take part; it must say the same of each as long as a window lasts.
pub type Wanted<'a> = &'a dyn Fn(&[u8], Option<Kind>) -> bool;

type Names = BTreeMap<Name, Option<Kind>>;

/// The windows of one side, shared by all its threads.
#[derive(Debug)]
pub struct Windows {
    open: Mutex<Open>,
    kept_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Open {
    windows: Vec<Window>,
    /// Counts uses, and tells windows apart.
    clock: u64,
}

#[derive(Debug)]
struct Window {
    dir: RelPath,
    id: u64,
    used: u64,
    /// Device and inode of the directory that was read; `None` while it is being read.
    inode: Option<(u64, u64)>,
    /// The names that it covers.
    range: NameRange,
    names: Names,
    bytes: usize,
}

impl Default for Windows {
    fn default() -> Self {
        Self::keeping(KEPT_BYTES_MAX)
    }
}

impl Windows {
    /// Windows that keep at most so many bytes of names.
    #[must_use]
    pub fn keeping(kept_bytes_max: usize) -> Self {
        Self {
            open: Mutex::default(),
            kept_bytes_max,
        }
    }

    /// The first names of a directory behind `after` that are `wanted`, at most `max` of them, and whether
    /// others follow. `path` is where `dir` was opened.
    ///
    /// # Errors
    /// Those of reading the directory.
    pub fn page<F: Fs>(
        &self,
        fs: &F,
        dir: &F::Dir,
        path: &RelPath,
        after: Option<&Name>,
        max: usize,
        wanted: Wanted<'_>,
    ) -> io::Result<(Vec<Listing>, bool)> {
        match after {
            None => self.lock().forget(path),
            Some(after) if self.lock().has(path) => {
                let stat = fs.stat_dir(dir)?;
                let page = self.lock().page(path, (stat.dev, stat.ino), after, max);
                if let Some(page) = page {
                    return Ok(page);
                }
            }
            Some(_) => {}
        }
        self.read(fs, dir, path, after, max, wanted)
    }

    /// Reads the directory, and keeps what lies behind the page.
    fn read<F: Fs>(
        &self,
        fs: &F,
        dir: &F::Dir,
        path: &RelPath,
        after: Option<&Name>,
        max: usize,
        wanted: Wanted<'_>,
    ) -> io::Result<(Vec<Listing>, bool)> {
        let (id, share) = self.lock().begin(path, self.kept_bytes_max);
        let found = smallest(fs, dir, after, max, share, wanted)
            .and_then(|found| fs.stat_dir(dir).map(|stat| (found, (stat.dev, stat.ino))));
        let mut open = self.lock();
        let (Smallest { mut names, upto }, inode) = match found {
            Ok(found) => found,
            Err(error) => {
                open.end(id);
                return Err(error);
            }
        };
        let more = names.len() > max;
        // At its end, too: a target that is being filled has the pages that follow put there by this side.
        if more || after.is_some() {
            let range = NameRange {
                after: after.cloned(),
                upto,
            };
            open.fill(id, inode, range, &names);
            open.shrink(self.kept_bytes_max);
            names.truncate(max);
        } else {
            open.end(id);
        }
        Ok((names, more))
    }

    /// Names that this side has put into a directory.
    pub fn created<'a>(&self, dir: &RelPath, names: impl IntoIterator<Item = &'a Name>) {
        let mut open = self.lock();
        if !open.has(dir) {
            return;
        }
        for name in names {
            open.created(dir, name);
        }
        open.shrink(self.kept_bytes_max);
    }

    /// A directory has another name, or another directory has its name.
    pub fn forget_below(&self, top: &RelPath) {
        self.lock()
            .windows
            .retain(|window| !top.covers(&window.dir));
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        // A panic elsewhere ends the process; no window is ever left half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn has(&self, dir: &RelPath) -> bool {
        self.windows.iter().any(|window| window.dir == *dir)
    }

    fn forget(&mut self, dir: &RelPath) {
        self.windows.retain(|window| window.dir != *dir);
    }

    fn end(&mut self, id: u64) {
        self.windows.retain(|window| window.id != id);
    }

    /// A directory is about to be read. Returns by what to call that, and how many bytes of its names
    /// may be kept: all, or an equal share if several directories are read side by side.
    fn begin(&mut self, dir: &RelPath, kept_bytes_max: usize) -> (u64, usize) {
        self.clock += 1;
        if self.windows.len() >= WINDOWS_MAX {
            self.drop_oldest();
        }
        self.windows.push(Window {
            dir: dir.clone(),
            id: self.clock,
            used: self.clock,
            inode: None,
            range: NameRange::default(),
            names: Names::new(),
            bytes: 0,
        });
        let in_use = self.windows.iter().filter(|window| window.used > 0);
        (self.clock, kept_bytes_max / in_use.count())
    }

    /// What was read is kept, unless its window was forgotten meanwhile: then the reading has only its own
    /// page to tell.
    fn fill(&mut self, id: u64, inode: (u64, u64), range: NameRange, names: &[Listing]) {
        let Some(window) = self.windows.iter_mut().find(|window| window.id == id) else {
            return;
        };
        window.inode = Some(inode);
        window.range = range;
        // What was created meanwhile may lie outside.
        let created = std::mem::take(&mut window.names);
        window.names = names.iter().cloned().collect();
        window.bytes = window.names.keys().map(cost).sum();
        for name in created.into_keys() {
            window.add(&name);
        }
    }

    /// A page out of a window that reaches beyond it. One whose end has been reached is of no more use.
    fn page(
        &mut self,
        dir: &RelPath,
        inode: (u64, u64),
        after: &Name,
        max: usize,
    ) -> Option<(Vec<Listing>, bool)> {
        self.clock += 1;
        let covers = |window: &Window| window.dir == *dir && window.covers(inode, after);
        while let Some(at) = self.windows.iter().position(covers) {
            let window = &mut self.windows[at];
            if let Some((page, more)) = window.page(after, max) {
                // At the end of the directory it is kept only in case the same page is asked for again.
                window.used = if more { self.clock } else { 0 };
                return Some((page, more));
            }
            self.windows.swap_remove(at);
        }
        None
    }

    fn created(&mut self, dir: &RelPath, name: &Name) {
        let windows = self.windows.iter_mut();
        for window in windows.filter(|window| window.dir == *dir) {
            window.add(name);
        }
    }

    /// Keeps to the limit: windows used least lately go, and the last one loses its end.
    fn shrink(&mut self, kept_bytes_max: usize) {
        while self
            .windows
            .iter()
            .map(|window| window.bytes)
            .sum::<usize>()
            > kept_bytes_max
        {
            if self.windows.len() > 1 {
                self.drop_oldest();
            } else if !self.windows[0].cut() {
                // One that is still being read has no end that could be cut.
                self.windows.clear();
            }
        }
    }

    fn drop_oldest(&mut self) {
        let windows = self.windows.iter().enumerate();
        let oldest = windows.min_by_key(|(_, window)| window.used);
        if let Some((at, _)) = oldest {
            self.windows.swap_remove(at);
        }
    }
}

impl Window {
    /// True if it was read from this directory, and what lies directly behind `after` is in it.
    fn covers(&self, inode: (u64, u64), after: &Name) -> bool {
        let begins = self.range.after.as_ref().is_none_or(|first| first <= after);
        let ends = self.range.upto.as_ref().is_some_and(|last| last < after);
        self.inode == Some(inode) && begins && !ends
    }

    /// The page behind `after`; `None` if it does not reach beyond that page.
    fn page(&self, after: &Name, max: usize) -> Option<(Vec<Listing>, bool)> {
        let behind = (Bound::Excluded(after), Bound::Unbounded);
        let next = self.names.range::<Name, _>(behind).take(max + 1);
        let mut page: Vec<_> = next.map(|(name, kind)| (name.clone(), *kind)).collect();
        let more = page.len() > max;
        page.truncate(max);
        (more || self.range.upto.is_none()).then_some((page, more))
    }

    /// Adds a name if the window covers it, or may when it has been read.
    fn add(&mut self, name: &Name) {
        if self.range.contains(name.as_bytes()) && !self.names.contains_key(name) {
            self.names.insert(name.clone(), None);
            self.bytes += cost(name);
        }
    }

    /// Gives up the last name. False if it must not.
    fn cut(&mut self) -> bool {
        if self.inode.is_none() {
            return false;
        }
        let Some((last, _)) = self.names.pop_last() else {
            return false;
        };
        self.bytes -= cost(&last);
        self.range.upto = self.names.last_key_value().map(|(name, _)| name.clone());
        self.range.upto.is_some()
    }
}

fn cost(name: &Name) -> usize {
    name.as_bytes().len() + NAME_COST
}

/// The smallest names of a directory.
struct Smallest {
    names: Vec<Listing>,
    /// The last of them, if others follow.
    upto: Option<Name>,
}

/// Reads a directory and keeps its smallest names behind `after`: more than `max` of them if there are,
/// and as many as fit into `bytes_max`.
fn smallest<F: Fs>(
    fs: &F,
    dir: &F::Dir,
    after: Option<&Name>,
    max: usize,
    bytes_max: usize,
    wanted: Wanted<'_>,
) -> io::Result<Smallest> {
    let mut heap: BinaryHeap<(Box<[u8]>, Option<u8>)> = BinaryHeap::new();
    let (mut bytes, mut cut) = (0, false);
    fs.list(dir, &mut |name, kind| {
        if after.is_some_and(|after| name <= after.as_bytes()) {
            return;
        }
        // Once something was left out, nothing behind what is left may come in.
        if cut && heap.peek().is_some_and(|(largest, _)| name > &**largest) {
            return;
        }
        if !wanted(name, kind) {
            return;
        }
        bytes += name.len() + NAME_COST;
        heap.push((name.into(), kind.map(u8::from)));
        while heap.len() > max + 1 && bytes > bytes_max {
            let largest = heap.pop();
            bytes -= largest.map_or(0, |(name, _)| name.len() + NAME_COST);
            cut = true;
        }
    })?;
    let names: Vec<Listing> = heap
        .into_sorted_vec()
        .into_iter()
        .filter_map(|(name, kind)| {
            let kind = kind.and_then(|kind| Kind::try_from(kind).ok());
            Some((Name::new(&name).ok()?, kind))
        })
        .collect();
    let upto = names.last().filter(|_| cut).map(|(name, _)| name.clone());
    Ok(Smallest { names, upto })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fs::memory::{MemoryDir, MemoryFs};

    const PAGE: usize = 3;

    fn name(number: usize) -> Name {
        Name::new(format!("{number:04}").as_bytes()).unwrap()
    }

    fn create(fs: &MemoryFs, numbers: impl IntoIterator<Item = usize>) {
        let mut disk = fs.disk();
        let root = disk.root();
        for number in numbers {
            disk.create(root, &name(number), Kind::File, b"").unwrap();
        }
    }

    /// A directory with so many names, opened.
    fn directory(names: usize) -> (MemoryFs, MemoryDir) {
        let fs = MemoryFs::default();
        create(&fs, 0..names);
        let root = fs.root().unwrap();
        (fs, root)
    }

    fn page(
        windows: &Windows,
        (fs, dir): &(MemoryFs, MemoryDir),
        after: Option<&Name>,
    ) -> (Vec<Name>, bool) {
        let page = windows.page(fs, dir, &RelPath::root(), after, PAGE, &|_, _| true);
        let (names, more) = page.unwrap();
        (names.into_iter().map(|(name, _)| name).collect(), more)
    }

    /// All pages behind one name.
    fn pages(windows: &Windows, dir: &(MemoryFs, MemoryDir), mut after: Option<Name>) -> Vec<Name> {
        let mut all = Vec::new();
        loop {
            let (names, more) = page(windows, dir, after.as_ref());
            all.extend(names);
            after = all.last().cloned();
            if !more {
                return all;
            }
        }
    }

    fn names(numbers: std::ops::Range<usize>) -> Vec<Name> {
        numbers.map(name).collect()
    }

    /// Counts the steps on the file system from now on.
    fn count_steps(fs: &MemoryFs) -> Arc<AtomicUsize> {
        let steps = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&steps);
        fs.interrupt(Some(Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        })));
        steps
    }

    #[test]
    fn pages_are_complete_whatever_is_kept() {
        let dir = directory(100);
        for kept in [0, 1, 5 * (4 + NAME_COST), 1000, KEPT_BYTES_MAX] {
            assert_eq!(pages(&Windows::keeping(kept), &dir, None), names(0..100));
        }
    }

    #[test]
    fn a_directory_is_read_once_for_each_window() {
        let dir = directory(100);
        let windows = Windows::keeping(50 * (4 + NAME_COST));
        let steps = count_steps(&dir.0);
        pages(&windows, &dir, None);
        // 34 pages: the first and one in the middle read the directory, each page but the first looks
        // whether it is still the same.
        let (pages, reads) = (34, 3);
        assert!(
            steps.load(Ordering::Relaxed) <= pages + 2 * reads,
            "{steps:?}"
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let dir = directory(500);
        let kept = 50 * (4 + NAME_COST);
        let windows = Windows::keeping(kept);
        page(&windows, &dir, None);
        let more: Vec<Name> = (0..50)
            .map(|n| Name::new(format!("00{n}x").as_bytes()).unwrap())
            .collect();
        windows.created(&RelPath::root(), &more);
        let open = windows.lock();
        let bytes = open
            .windows
            .iter()
            .map(|window| window.bytes)
            .sum::<usize>();
        assert!(0 < bytes && bytes <= kept, "{bytes}");
    }

    #[test]
    fn what_was_created_is_seen_behind_the_page() {
        let dir = directory(50);
        let windows = Windows::default();
        let (first, _) = page(&windows, &dir, None);
        create(&dir.0, [70]);
        let behind = pages(&windows, &dir, first.last().cloned());
        assert!(!behind.contains(&name(70)), "nobody told of it");

        page(&windows, &dir, None);
        create(&dir.0, [60, 80]);
        windows.created(&RelPath::root(), [&name(60), &name(80)]);
        let behind = pages(&windows, &dir, first.last().cloned());
        assert_eq!(behind[47..], [name(60), name(70), name(80)]);
    }

    #[test]
    fn a_directory_that_is_filled_page_by_page_is_not_read_for_each() {
        let dir = directory(0);
        let windows = Windows::default();
        assert_eq!(page(&windows, &dir, None), (names(0..0), false));
        let steps = count_steps(&dir.0);
        for number in 0..100 {
            create(&dir.0, [number]);
            windows.created(&RelPath::root(), [&name(number)]);
            assert_eq!(page(&windows, &dir, Some(&name(number))).0, names(0..0));
        }
        // One of them reads the directory, the others look whether it is still the same.
        assert!(steps.load(Ordering::Relaxed) <= 100 + 2, "{steps:?}");
        let behind = pages(&windows, &dir, Some(name(50)));
        assert_eq!(behind, names(51..100));
    }

    #[test]
    fn a_first_page_reads_anew() {
        let dir = directory(50);
        let windows = Windows::default();
        page(&windows, &dir, None);
        create(&dir.0, [60]);
        assert_eq!(pages(&windows, &dir, None).last(), Some(&name(60)));
    }

    #[test]
    fn another_directory_of_the_same_path_is_read() {
        let (fs, root) = directory(0);
        let made = |number: usize| {
            let mut disk = fs.disk();
            let dir = {
                let root = disk.root();
                disk.make_dir(root, &name(number))
            }
            .unwrap();
            for child in 0..20 {
                disk.create(dir, &name(100 * number + child), Kind::File, b"")
                    .unwrap();
            }
            drop(disk);
            fs.open_dir(&root, &name(number)).unwrap()
        };
        let (one, two) = ((fs.clone(), made(1)), (fs.clone(), made(2)));
        let windows = Windows::default();
        page(&windows, &one, None);
        assert_eq!(page(&windows, &two, Some(&name(102))).0, names(200..203));
    }

    #[test]
    fn two_who_go_through_one_directory_do_not_disturb_each_other() {
        let dir = directory(400);
        // Far less than what lies between the two.
        let windows = Windows::keeping(100 * (4 + NAME_COST));
        let (mut one, mut other) = (name(0), name(200));
        page(&windows, &dir, None);
        let steps = count_steps(&dir.0);
        for _ in 0..60 {
            for after in [&mut one, &mut other] {
                let (names, _) = page(&windows, &dir, Some(after));
                *after = names.last().cloned().unwrap();
            }
        }
        assert_eq!((one, other), (name(180), name(380)));
        // Each has room for 50 names, so it reads the directory four or five times.
        assert!(steps.load(Ordering::Relaxed) <= 120 + 2 * 11, "{steps:?}");
    }
}
