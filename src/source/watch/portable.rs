//! The `notify` crate as a backend, for systems without inotify and as a second opinion.
//!
//! notify speaks of paths and keeps its own map of them; this backend gives each bound path a
//! descriptor and says `Ignored` whenever notify has let go of it, or may have. So a directory that is
//! moved loses its descriptor and gets another one when it is bound at its new place.

mod queue;

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use rustix::fs::{MemfdFlags, Mode, fchmod, fstat, memfd_create};
use rustix::io::Errno;

pub use self::queue::QUEUE_EVENTS_MAX;
use self::queue::{Queue, Said, Subject};
use super::{Pollable, RawEvent, Watch, Wd, What, beneath};
use crate::error::Error;
use crate::tree::RelPath;

/// How often a directory is tried that is exchanged while it is being bound.
const BIND_TRIES_MAX: u32 = 4;

/// An inode: what a path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    dev: u64,
    ino: u64,
}

/// A bound directory.
#[derive(Debug, Clone, Copy)]
struct Bound {
    wd: Wd,
    identity: Identity,
}

/// A [`Watch`] on the `notify` crate, with one non-recursive watch a directory.
///
/// [`Watch::waiting`] counts events, at most [`QUEUE_EVENTS_MAX`]: beyond, they are dropped and
/// an overflow is reported. Memory grows with the number of watched directories, twice (here and in
/// notify), by about the length of their paths.
pub struct Portable {
    watcher: RecommendedWatcher,
    markers: [Marker; 2],
    /// Which marker is the next.
    turn: Cell<usize>,
    queue: Arc<Queue>,
    root: OwnedFd,
    root_path: PathBuf,
    bound: BTreeMap<RelPath, Bound>,
    paths: HashMap<Wd, RelPath>,
    last_wd: i32,
    /// Events that are translated and not yet handed on.
    translated: VecDeque<RawEvent>,
    consumed: u64,
}

impl Portable {
    /// Makes a watcher for the directories below an open root, whose path must be absolute and
    /// without symlinks. Nothing is watched yet.
    ///
    /// # Errors
    /// If the system allows no further watcher.
    pub fn new(root: OwnedFd, root_path: &Path) -> Result<Self, Error> {
        let io = |source| Error::io("make an event queue for", root_path, source);
        let queue = Arc::new(Queue::new().map_err(io)?);
        let receiver = Arc::clone(&queue);
        let config = notify::Config::default().with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(move |event| receiver.accept(event), config)
            .map_err(|error| io(errno_of(error)))?;
        let markers = [
            Marker::watched_by(&mut watcher).map_err(io)?,
            Marker::watched_by(&mut watcher).map_err(io)?,
        ];
        Ok(Self {
            watcher,
            markers,
            turn: Cell::new(0),
            queue,
            root,
            root_path: root_path.to_owned(),
            bound: BTreeMap::new(),
            paths: HashMap::new(),
            last_wd: 0,
            translated: VecDeque::new(),
            consumed: 0,
        })
    }

    fn absolute(&self, path: &RelPath) -> PathBuf {
        if path.is_root() {
            return self.root_path.clone();
        }
        self.root_path.join(OsStr::from_bytes(path.as_bytes()))
    }

    fn identity(&self, path: &RelPath) -> io::Result<Identity> {
        let stat = fstat(beneath::open_dir(&self.root, path)?)?;
        Ok(Identity {
            dev: stat.st_dev,
            ino: stat.st_ino,
        })
    }

    /// Watches the path and returns which inode it led to before and after, so that a symlink or
    /// another directory put there meanwhile is not taken for it.
    fn watch(&mut self, path: &RelPath) -> io::Result<Identity> {
        let absolute = self.absolute(path);
        for _ in 0..BIND_TRIES_MAX {
            let before = self.identity(path)?;
            if self
                .bound
                .get(path)
                .is_some_and(|bound| bound.identity != before)
            {
                self.unwatch(&absolute);
            }
            let watched = self.watcher.watch(&absolute, RecursiveMode::NonRecursive);
            let after = self.identity(path);
            match (watched, after) {
                (Ok(()), Ok(after)) if after == before => return Ok(before),
                (Err(error), Ok(after)) if after == before => return Err(errno_of(error)),
                (_, Err(error)) => {
                    self.unwatch(&absolute);
                    return Err(error);
                }
                _ => self.unwatch(&absolute),
            }
        }
        Err(Errno::STALE.into())
    }

    fn unwatch(&mut self, absolute: &Path) {
        // The only failure is a watch that is gone already, which is what was asked for.
        let _ = self.watcher.unwatch(absolute);
    }

    fn next_wd(&mut self) -> Wd {
        loop {
            self.last_wd = self.last_wd.checked_add(1).unwrap_or(1);
            if !self.paths.contains_key(&Wd(self.last_wd)) {
                return Wd(self.last_wd);
            }
        }
    }

    fn wd(&self, path: &RelPath) -> Option<Wd> {
        self.bound.get(path).map(|bound| bound.wd)
    }

    /// Hands on an event that did not come through the queue.
    fn tell(&mut self, event: RawEvent) {
        self.translated.push_back(event);
        self.queue.wake();
    }

    /// Frees every binding at and below a path that is gone from its place: notify forgets them too.
    fn free_subtree(&mut self, top: &RelPath) {
        let gone: Vec<RelPath> = self
            .bound
            .range(top.clone()..)
            .map(|(path, _)| path)
            .take_while(|path| top.covers(path))
            .cloned()
            .collect();
        for path in gone {
            if let Some(bound) = self.bound.remove(&path) {
                self.paths.remove(&bound.wd);
                self.translated
                    .push_back(about_itself(bound.wd, What::Ignored));
            }
        }
    }

    /// Turns what notify said into events of watched directories.
    fn translate(&mut self, said: Said) {
        let Said::Of {
            subject,
            path,
            is_dir,
        } = said
        else {
            self.translated
                .push_back(about_itself(Wd(-1), What::Overflow));
            return;
        };
        let Some(path) = self.relative(&path) else {
            return;
        };
        let own = self.wd(&path);
        let what = match subject {
            Subject::Created => What::Created,
            Subject::Modified => What::Modified,
            Subject::Closed => What::Closed,
            Subject::Attributes | Subject::MovedItself => What::Attributes,
            Subject::Removed => What::Deleted,
            Subject::MovedFrom(cookie) => What::MovedFrom(cookie),
            Subject::MovedTo(cookie) => What::MovedTo(cookie),
        };
        let is_dir = is_dir
            || own.is_some()
            || (matches!(subject, Subject::MovedTo(_))
                && beneath::open_dir(&self.root, &path).is_ok());
        let parent = path
            .split()
            .and_then(|(dir, name)| Some((self.wd(&dir)?, name)));
        match (parent, own) {
            (Some((wd, name)), _) => {
                self.translated.push_back(RawEvent {
                    wd,
                    what,
                    is_dir,
                    name: Some(name),
                });
            }
            (None, Some(wd)) if what == What::Attributes => {
                self.translated
                    .push_back(about_itself(wd, What::Attributes));
            }
            _ => {}
        }
        match subject {
            Subject::Removed | Subject::MovedFrom(_) => self.free_subtree(&path),
            Subject::MovedItself => {
                if let Some(wd) = own {
                    self.translated.push_back(about_itself(wd, What::MoveSelf));
                }
            }
            _ => {}
        }
    }

    fn relative(&self, path: &Path) -> Option<RelPath> {
        let relative = path.strip_prefix(&self.root_path).ok()?;
        RelPath::new(relative.as_os_str().as_bytes()).ok()
    }

    /// Waits until notify's thread has handed over all that the system had reported by now.
    ///
    /// A file that has no name is watched and changed: its event is behind all earlier ones in the
    /// one queue that they share. Where that queue overflows, the event may be lost like any other, so
    /// it is repeated; two files take turns, so that no repetition is taken for a later marker.
    fn settle(&self) -> io::Result<()> {
        let [now, next] = [self.turn.get(), 1 - self.turn.get()];
        self.turn.set(next);
        let marker = &self.markers[now];
        self.queue
            .await_marker(&marker.path, || Ok(fchmod(&marker.file, Mode::RUSR)?))
    }
}

/// A file without a name whose changes are watched beside the directories.
struct Marker {
    file: OwnedFd,
    path: PathBuf,
}

impl Marker {
    fn watched_by(watcher: &mut RecommendedWatcher) -> io::Result<Self> {
        let file = memfd_create("osync-barrier", MemfdFlags::CLOEXEC)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        watcher
            .watch(&path, RecursiveMode::NonRecursive)
            .map_err(errno_of)?;
        Ok(Self { file, path })
    }
}

fn about_itself(wd: Wd, what: What) -> RawEvent {
    RawEvent {
        wd,
        what,
        is_dir: true,
        name: None,
    }
}

/// The error of the system behind an error of notify.
fn errno_of(error: notify::Error) -> io::Error {
    match error.kind {
        ErrorKind::Io(source) => source,
        ErrorKind::MaxFilesWatch => Errno::NOSPC.into(),
        ErrorKind::PathNotFound => Errno::NOENT.into(),
        _ => io::Error::other(error),
    }
}

impl Watch for Portable {
    fn bind(&mut self, path: &RelPath) -> io::Result<Wd> {
        let identity = self.watch(path)?;
        if let Some(old) = self.bound.get(path).copied() {
            if old.identity == identity {
                return Ok(old.wd);
            }
            self.paths.remove(&old.wd);
            self.tell(about_itself(old.wd, What::Ignored));
        }
        let wd = self.next_wd();
        self.paths.insert(wd, path.clone());
        self.bound.insert(path.clone(), Bound { wd, identity });
        Ok(wd)
    }

    fn unbind(&mut self, wd: Wd) {
        if let Some(path) = self.paths.remove(&wd) {
            self.bound.remove(&path);
            let absolute = self.absolute(&path);
            self.unwatch(&absolute);
            self.tell(about_itself(wd, What::Ignored));
        }
    }

    fn read(&mut self, events: &mut Vec<RawEvent>, max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < max {
            if let Some(event) = self.translated.pop_front() {
                events.push(event);
                count += 1;
            } else if let Some(said) = self.queue.take() {
                self.consumed += 1;
                self.translate(said);
            } else {
                break;
            }
        }
        Ok(count)
    }

    fn waiting(&self) -> io::Result<u64> {
        self.settle()?;
        Ok(self.queue.len() as u64)
    }

    fn consumed(&self) -> u64 {
        self.consumed
    }

    fn fill(&self, waiting: u64) -> f64 {
        (waiting as f64 / QUEUE_EVENTS_MAX as f64).min(1.0)
    }
}

impl Pollable for Portable {
    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.queue.ready_fd()
    }
}

impl AsFd for Portable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.ready_fd()
    }
}
