//! A file system in memory, for the simulated world.
//!
//! It behaves as the kernel's do where osync depends on it, watches included, and it can do what those
//! cannot: let a user act between any two steps, fill up, and lose power.

mod content;
mod disk;
#[cfg(test)]
mod tests;

pub use disk::{Disk, Ino};

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Fs, Stat};
use crate::source::watch::{RawEvent, Watch, Wd};
use crate::tree::{Kind, Metadata, Name, RelPath, Xattrs};

/// What happens between two steps.
pub type Interruption = Box<dyn FnMut(&mut Disk) + Send>;

/// What a step wants of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// To see something.
    Read,
    /// To change what is there.
    Change,
    /// To make something, which needs an inode.
    Create,
}

/// Decides whether a step fails, and with which error number.
pub type Trouble = Box<dyn FnMut(Call) -> Option<i32> + Send>;

/// A handle on a [`Disk`]; clones share it.
#[derive(Clone)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
    between: Arc<Mutex<Option<Interruption>>>,
    trouble: Arc<Mutex<Option<Trouble>>>,
}

impl std::fmt::Debug for MemoryFs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryFs").finish_non_exhaustive()
    }
}

impl Default for MemoryFs {
    fn default() -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new())),
            between: Arc::default(),
            trouble: Arc::default(),
        }
    }
}

/// An inode held open. To be dropped while nobody holds the disk.
#[derive(Debug)]
struct Held {
    disk: Arc<Mutex<Disk>>,
    ino: Ino,
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.disk).let_go(self.ino);
    }
}

/// An open file or stage.
#[derive(Debug)]
pub struct MemoryFile(Held);

/// An open directory.
#[derive(Debug)]
pub struct MemoryDir(Held);

fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

/// EINVAL for what the kernel cannot give an inode.
fn check(meta: &Metadata, kind_fits: bool) -> io::Result<()> {
    if !kind_fits || meta.mtime.nanos >= 1_000_000_000 || meta.uid.max(meta.gid) == u32::MAX {
        return error(libc::EINVAL);
    }
    Ok(())
}

impl MemoryFs {
    /// The disk, for users and judges.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// Sets what happens between any two steps of a reader or an applier.
    pub fn interrupt(&self, between: Option<Interruption>) {
        *self.between.lock().unwrap_or_else(PoisonError::into_inner) = between;
    }

    /// Sets which steps fail from now on.
    pub fn set_trouble(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn hold(&self, mut disk: MutexGuard<'_, Disk>, ino: Ino) -> Held {
        disk.hold(ino);
        Held {
            disk: Arc::clone(&self.disk),
            ino,
        }
    }

    /// The disk for one step, after whatever happens before it, unless the step fails.
    fn step(&self, call: Call) -> io::Result<MutexGuard<'_, Disk>> {
        let mut between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        let mut disk = self.disk();
        if let Some(between) = between.as_mut() {
            between(&mut disk);
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        match trouble.as_mut().and_then(|trouble| trouble(call)) {
            Some(errno) => error(errno),
            None => Ok(disk),
        }
    }
}

impl Fs for MemoryFs {
    type Dir = MemoryDir;
    type File = MemoryFile;

    fn root(&self) -> io::Result<MemoryDir> {
        let disk = self.step(Call::Read)?;
        let root = disk.root();
        Ok(MemoryDir(self.hold(disk, root)))
    }

    fn open_dir(&self, dir: &MemoryDir, name: &Name) -> io::Result<MemoryDir> {
        let disk = self.step(Call::Read)?;
        let ino = disk.lookup(dir.0.ino, name)?;
        disk.expect_dir(ino)?;
        Ok(MemoryDir(self.hold(disk, ino)))
    }

    fn stat_dir(&self, dir: &MemoryDir) -> io::Result<Stat> {
        self.step(Call::Read)?.stat(dir.0.ino)
    }

    fn may_hold_dirs(&self, dir: &MemoryDir) -> io::Result<bool> {
        self.step(Call::Read)?.holds_dirs(dir.0.ino)
    }

    fn stat(&self, dir: &MemoryDir, name: &Name) -> io::Result<Stat> {
        let disk = self.step(Call::Read)?;
        disk.stat(disk.lookup(dir.0.ino, name)?)
    }

    fn list(&self, dir: &MemoryDir, each: &mut dyn FnMut(&[u8], Option<Kind>)) -> io::Result<()> {
        let children = {
            let disk = self.step(Call::Read)?;
            disk.check_readable(dir.0.ino)?;
            disk.children(dir.0.ino)?
        };
        // Whoever is called may use the file system again.
        for (name, kind) in children {
            each(name.as_bytes(), Some(kind));
        }
        Ok(())
    }

    fn read_link(&self, dir: &MemoryDir, name: &Name) -> io::Result<Vec<u8>> {
        let disk = self.step(Call::Read)?;
        let ino = disk.lookup(dir.0.ino, name)?;
        if disk.stat(ino)?.kind != Kind::Symlink {
            return error(libc::EINVAL);
        }
        Ok(disk.content(ino)?.to_vec())
    }

    fn xattrs(&self, dir: &MemoryDir, name: &Name) -> io::Result<Xattrs> {
        let disk = self.step(Call::Read)?;
        disk.xattrs(disk.lookup(dir.0.ino, name)?)
    }

    fn dir_xattrs(&self, dir: &MemoryDir) -> io::Result<Xattrs> {
        self.step(Call::Read)?.xattrs(dir.0.ino)
    }

    fn open(&self, dir: &MemoryDir, name: &Name) -> io::Result<(MemoryFile, Stat)> {
        let disk = self.step(Call::Read)?;
        let ino = disk.lookup(dir.0.ino, name)?;
        if disk.stat(ino)?.kind != Kind::File {
            return error(libc::ESTALE);
        }
        disk.check_readable(ino)?;
        let file = MemoryFile(self.hold(disk, ino));
        let stat = self.stat_file(&file)?;
        Ok((file, stat))
    }

    fn stat_file(&self, file: &MemoryFile) -> io::Result<Stat> {
        self.step(Call::Read)?.stat(file.0.ino)
    }

    fn file_xattrs(&self, file: &MemoryFile) -> io::Result<Xattrs> {
        self.step(Call::Read)?.xattrs(file.0.ino)
    }

    fn read_at(&self, file: &MemoryFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.step(Call::Read)?;
        let content = disk.content(file.0.ino)?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn next_data(&self, file: &MemoryFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.step(Call::Read)?.next_data(file.0.ino, offset)
    }

    fn unwritten(&self, file: &MemoryFile) -> Option<bool> {
        let disk = self.step(Call::Read).ok()?;
        Some(!disk.is_being_written(file.0.ino))
    }

    fn stage(&self, dir: &MemoryDir, _mode: u32) -> io::Result<MemoryFile> {
        let mut disk = self.step(Call::Create)?;
        let ino = disk.make_unnamed(dir.0.ino)?;
        Ok(MemoryFile(self.hold(disk, ino)))
    }

    fn write_at(&self, file: &MemoryFile, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(Call::Change)?.write_at(file.0.ino, offset, data)
    }

    fn copy_range(&self, from: &MemoryFile, to: &MemoryFile, range: Range<u64>) -> io::Result<()> {
        let mut data = vec![0; content::place(range.end - range.start)?];
        if self.read_at(from, range.start, &mut data)? < data.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.write_at(to, range.start, &data)
    }

    fn punch(&self, file: &MemoryFile, range: Range<u64>) -> io::Result<()> {
        self.step(Call::Change)?.punch(file.0.ino, range)
    }

    fn set_len(&self, file: &MemoryFile, size: u64) -> io::Result<()> {
        self.step(Call::Change)?.truncate(file.0.ino, size)
    }

    fn publish(
        &self,
        stage: &mut MemoryFile,
        dir: &MemoryDir,
        name: &Name,
        meta: &Metadata,
    ) -> io::Result<bool> {
        check(meta, meta.kind == Kind::File)?;
        self.step(Call::Change)?.set_meta(stage.0.ino, meta)?;
        let mut disk = self.step(Call::Change)?;
        let is_new = disk.lookup(dir.0.ino, name).is_err();
        disk.link_over(stage.0.ino, dir.0.ino, name)?;
        Ok(is_new)
    }

    fn publish_special(
        &self,
        dir: &MemoryDir,
        name: &Name,
        meta: &Metadata,
        target: &[u8],
    ) -> io::Result<()> {
        check(meta, !matches!(meta.kind, Kind::File | Kind::Dir))?;
        let staged = {
            let mut disk = self.step(Call::Create)?;
            let ino = disk.make_special(meta, target)?;
            self.hold(disk, ino)
        };
        self.step(Call::Create)?
            .link_over(staged.ino, dir.0.ino, name)
    }

    fn make_dir(&self, dir: &MemoryDir, name: &Name, meta: &Metadata) -> io::Result<()> {
        check(meta, meta.kind == Kind::Dir)?;
        let ino = self.step(Call::Create)?.make_dir(dir.0.ino, name)?;
        self.step(Call::Create)?.set_meta(ino, meta)
    }

    fn set_dir_meta(&self, dir: &MemoryDir, meta: &Metadata) -> io::Result<()> {
        check(meta, true)?;
        self.step(Call::Change)?.set_meta(dir.0.ino, meta)
    }

    fn set_file_meta(
        &self,
        dir: &MemoryDir,
        name: &Name,
        meta: &Metadata,
        links: u64,
    ) -> io::Result<()> {
        let mut disk = self.step(Call::Change)?;
        let ino = disk.lookup(dir.0.ino, name)?;
        let stat = disk.stat(ino)?;
        if stat.kind != Kind::File || stat.size != meta.size || stat.mtime != meta.mtime {
            return error(libc::ESTALE);
        }
        if stat.nlink > links {
            let same = stat.metadata(disk.xattrs(ino)?) == *meta;
            return if same { Ok(()) } else { error(libc::EMLINK) };
        }
        disk.set_meta(ino, meta)
    }

    fn remove_file(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step(Call::Change)?.unlink(dir.0.ino, name)
    }

    fn remove_dir(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step(Call::Change)?.remove_dir(dir.0.ino, name)
    }

    fn remove_tree(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step(Call::Change)?.remove_tree(dir.0.ino, name)
    }

    fn link(
        &self,
        from: &MemoryDir,
        from_name: &Name,
        to: &MemoryDir,
        to_name: &Name,
        what: &Stat,
    ) -> io::Result<()> {
        let entry = {
            let disk = self.step(Call::Change)?;
            let ino = disk.lookup(from.0.ino, from_name)?;
            if !disk.stat(ino)?.same_content(what) {
                return error(libc::ESTALE);
            }
            self.hold(disk, ino)
        };
        // It is held open: whatever takes its name meanwhile is not linked.
        let mut disk = self.step(Call::Change)?;
        let linked = if disk.stat(entry.ino)?.nlink == 0 {
            error(libc::ESTALE)
        } else {
            disk.relink(entry.ino, to.0.ino, to_name)
        };
        drop(disk);
        linked
    }

    fn rename(
        &self,
        from: &MemoryDir,
        from_name: &Name,
        to: &MemoryDir,
        to_name: &Name,
    ) -> io::Result<()> {
        self.step(Call::Change)?
            .rename(from.0.ino, from_name, to.0.ino, to_name)
    }

    fn sync(&self) -> io::Result<()> {
        self.step(Call::Change)?.sync();
        Ok(())
    }

    fn is_out_of_inodes(&self) -> bool {
        false
    }

    fn tidy(&self) -> io::Result<()> {
        Ok(())
    }
}

/// The watches of a [`Disk`], as a backend. A unit of the queue is an event.
#[derive(Debug)]
pub struct MemoryWatch {
    fs: MemoryFs,
    consumed: u64,
}

impl MemoryWatch {
    /// The watches of this file system.
    #[must_use]
    pub fn new(fs: MemoryFs) -> Self {
        Self { fs, consumed: 0 }
    }
}

impl Watch for MemoryWatch {
    fn bind(&mut self, path: &RelPath) -> io::Result<Wd> {
        let mut disk = self.fs.disk();
        let ino = disk.find(path)?;
        disk.expect_dir(ino)?;
        disk.watch(ino)
    }

    fn unbind(&mut self, wd: Wd) {
        self.fs.disk().unwatch(wd);
    }

    fn read(&mut self, events: &mut Vec<RawEvent>, max: usize) -> io::Result<usize> {
        let read = self.fs.disk().take_events(max);
        self.consumed += read.len() as u64;
        let count = read.len();
        events.extend(read);
        Ok(count)
    }

    fn waiting(&self) -> io::Result<u64> {
        Ok(self.fs.disk().events_waiting() as u64)
    }

    fn consumed(&self) -> u64 {
        self.consumed
    }

    fn fill(&self, waiting: u64) -> f64 {
        waiting as f64 / self.fs.disk().events_max as f64
    }
}
