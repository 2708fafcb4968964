//! The stage: where everything is prepared before it appears under its final name, and where
//! directories go before they are freed.
//!
//! Content needs no name while it is written (O_TMPFILE). The stage's directory is therefore made only
//! when something must have a name first, and it is the one trace in the tree: reserved, for the owner
//! alone, removed in the end. Making and removing it leaves the root's time as it was.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::target::Target;
use super::{STAGE_NAME, errno, link, open, remove, stat};

/// Read, write and execute, for the owner, the group and others.
const PERMISSIONS: u32 = 0o777;

/// The stage below one root.
#[derive(Debug)]
pub(super) struct Stage {
    root: OwnedFd,
    /// The stage's directory, once it was needed. The lock also covers the root's times, which whoever
    /// makes or removes the directory puts back.
    dir: Mutex<Option<Arc<OwnedFd>>>,
    /// Beginning of all names in the stage; random, so that they never meet those of another run.
    prefix: u64,
    names: AtomicU64,
    /// Whether the file system may know O_TMPFILE.
    unnamed: AtomicBool,
    stages: AtomicUsize,
    stages_max: usize,
}

/// One of the places for stages; free again when it is dropped, together with the name, if the stage
/// had to have one.
#[derive(Debug)]
pub(super) struct Slot {
    stage: Arc<Stage>,
    staged: Option<Staged>,
}

/// An entry in the stage's directory that is removed when it is dropped, unless it was published.
#[derive(Debug)]
pub(super) struct Staged {
    dir: Arc<OwnedFd>,
    name: String,
    is_here: bool,
}

impl Stage {
    pub(super) fn new(root: OwnedFd, stages_max: usize) -> io::Result<Self> {
        let mut prefix = [0; 8];
        rustix::rand::getrandom(&mut prefix[..], rustix::rand::GetRandomFlags::empty())?;
        Ok(Self {
            root,
            dir: Mutex::new(None),
            prefix: u64::from_ne_bytes(prefix),
            names: AtomicU64::new(0),
            unnamed: AtomicBool::new(true),
            stages: AtomicUsize::new(0),
            stages_max,
        })
    }

    /// Holds off the making and removing of the stage's directory, and with it changes of the root's
    /// times by the stage.
    pub(super) fn lock(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        // Whoever panicked with the lock left a directory or none: both are fine.
        self.dir.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new file for content, near a directory and without a name where the file system can do that; otherwise in
    /// one that is for its owner alone. So it may have its permissions from the start.
    pub(super) fn file(
        self: &Arc<Self>,
        dir: BorrowedFd<'_>,
        mode: u32,
    ) -> io::Result<(File, Slot)> {
        let mut slot = self.slot()?;
        let mode = Mode::from_raw_mode(mode & PERMISSIONS);
        if self.unnamed.load(Ordering::Relaxed) {
            let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
            match rustix::fs::openat(dir, ".", flags, mode) {
                // The file system, or an old kernel, does not know unnamed files.
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                    self.unnamed.store(false, Ordering::Relaxed);
                }
                // What ext4 says of a directory that was removed.
                Err(Errno::PERM) if rustix::fs::fstat(dir)?.st_nlink == 0 => {
                    return Err(Errno::NOENT.into());
                }
                opened => return Ok((File::from(opened?), slot)),
            }
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let (staged, fd) = self.make(|dir, name| rustix::fs::openat(dir, name, flags, mode))?;
        slot.staged = Some(staged);
        Ok((File::from(fd), slot))
    }

    /// Behaves as on a file system without unnamed files.
    #[cfg(test)]
    pub(super) fn need_names(&self) {
        self.unnamed.store(false, Ordering::Relaxed);
    }

    fn slot(self: &Arc<Self>) -> io::Result<Slot> {
        let room = |stages| (stages < self.stages_max).then_some(stages + 1);
        self.stages
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .map_err(|_| errno(libc::EMFILE))?;
        Ok(Slot {
            stage: Arc::clone(self),
            staged: None,
        })
    }

    /// Makes something under a new name in the stage's directory.
    pub(super) fn make<T>(
        &self,
        step: impl Fn(BorrowedFd<'_>, &str) -> rustix::io::Result<T>,
    ) -> io::Result<(Staged, T)> {
        let number = self.names.fetch_add(1, Ordering::Relaxed);
        let name = format!("{:016x}-{number:x}", self.prefix);
        let mut dir = self.dir()?;
        let mut made = step(dir.as_fd(), &name);
        if matches!(made, Err(Errno::NOENT)) && rustix::fs::fstat(&dir)?.st_nlink == 0 {
            // Somebody removed the stage's directory under our hands: once more with a new one.
            *self.lock() = None;
            dir = self.dir()?;
            made = step(dir.as_fd(), &name);
        }
        let made = made?;
        Ok((
            Staged {
                dir,
                name,
                is_here: true,
            },
            made,
        ))
    }

    /// The stage's directory, made if it has to be.
    fn dir(&self) -> io::Result<Arc<OwnedFd>> {
        let mut dir = self.lock();
        if let Some(dir) = &*dir {
            return Ok(Arc::clone(dir));
        }
        let before = stat::of(&self.root)?;
        match rustix::fs::mkdirat(&self.root, STAGE_NAME, Mode::RWXU) {
            Ok(()) => Target::Open(self.root.as_fd()).set_mtime(before.mtime)?,
            Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let opened = Arc::new(self.open()?);
        *dir = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// Opens the directory that is there. It must be our own and for us alone, or somebody else could
    /// exchange what is prepared in it.
    fn open(&self) -> io::Result<OwnedFd> {
        let fd = open::dir(&self.root, STAGE_NAME.as_bytes(), false)?;
        let held = stat::of(&fd)?;
        if held.uid != rustix::process::geteuid().as_raw() {
            return Err(errno(libc::EPERM));
        }
        if held.mode & 0o777 != 0o700 {
            // Where modes cannot be chosen it is enough that nobody else can write.
            let closed = Target::Open(fd.as_fd()).chmod(0o700);
            if closed.is_err() && held.mode & 0o022 != 0 {
                closed?;
            }
        }
        Ok(fd)
    }

    /// Removes everything that is in the stage, and its directory.
    pub(super) fn clear(&self) -> io::Result<()> {
        {
            let _alone = self.lock();
            match self.open() {
                Ok(dir) => remove::everything_in(dir)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.tidy()
    }

    /// Removes the stage's directory if it is empty and nobody is about to use it.
    pub(super) fn tidy(&self) -> io::Result<()> {
        let mut dir = self.lock();
        // Others get their share of it under this lock only, so none can appear now.
        if dir.as_ref().is_some_and(|dir| Arc::strong_count(dir) > 1) {
            return Ok(());
        }
        let before = stat::of(&self.root)?;
        match rustix::fs::unlinkat(&self.root, STAGE_NAME, AtFlags::REMOVEDIR) {
            Ok(()) => Target::Open(self.root.as_fd()).set_mtime(before.mtime)?,
            Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        *dir = None;
        Ok(())
    }
}

impl Slot {
    /// True if the stage had to have a name.
    pub(super) fn has_name(&self) -> bool {
        self.staged.is_some()
    }

    /// Gives a stage without a name one.
    pub(super) fn give_name(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        let named = self
            .stage
            .make(|dir, name| link::exclusive(file, dir, name.as_bytes()));
        self.staged = Some(named?.0);
        Ok(())
    }

    /// Puts a stage that has a name in the place of whatever `name` is; EISDIR if that is a directory.
    pub(super) fn publish(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        match &mut self.staged {
            Some(staged) => staged.publish(dir, name),
            None => Err(errno(libc::EINVAL)),
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stage.stages.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Staged {
    /// The entry, to have its metadata read or set.
    pub(super) fn target(&self) -> Target<'_> {
        Target::Name(self.dir.as_fd(), self.name.as_bytes())
    }

    /// Where it lies, and under which name.
    pub(super) fn at(&self) -> (BorrowedFd<'_>, &[u8]) {
        (self.dir.as_fd(), self.name.as_bytes())
    }

    /// The entry's kind and metadata.
    pub(super) fn stat(&self) -> io::Result<crate::fs::Stat> {
        stat::at(&self.dir, self.name.as_bytes())
    }

    /// Puts the entry atomically in the place of whatever `name` is; EISDIR if that is a directory.
    pub(super) fn publish(&mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        rustix::fs::renameat(&self.dir, &self.name, dir, name)?;
        self.is_here = false;
        Ok(())
    }

    /// Does the same with a further name of an inode that may have `name` already. Then rename(2) does
    /// nothing, and only dropping removes the stage's name.
    pub(super) fn publish_link(self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, &self.name, dir, name)?)
    }

    /// Opens a directory of the stage.
    pub(super) fn open_dir(&self) -> io::Result<OwnedFd> {
        open::dir(&self.dir, self.name.as_bytes(), false)
    }

    /// Frees a directory of the stage's own with everything below. If that fails, what is left stays in
    /// the stage, which the next start clears.
    pub(super) fn discard_tree(mut self) -> io::Result<()> {
        self.is_here = false;
        self.empty()
    }

    /// Frees a directory with everything below. If that fails, what is left goes back to `name` in
    /// `dir`, where everybody sees it.
    pub(super) fn remove_tree(mut self, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
        self.is_here = false;
        self.empty().inspect_err(|_| {
            // Where the name is taken by now it stays in the stage, which the next start clears.
            let flags = RenameFlags::NOREPLACE;
            let _ = rustix::fs::renameat_with(&self.dir, &self.name, dir, name, flags);
        })
    }

    fn empty(&self) -> io::Result<()> {
        let name = self.name.as_bytes();
        remove::everything_in(remove::open(self.dir.as_fd(), name)?)?;
        Ok(rustix::fs::unlinkat(&self.dir, name, AtFlags::REMOVEDIR)?)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.is_here {
            // What cannot be removed now is removed by the next start.
            let _ = rustix::fs::unlinkat(&self.dir, &self.name, AtFlags::empty());
        }
    }
}
