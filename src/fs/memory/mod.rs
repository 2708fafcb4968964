//! A file system in memory, for the simulated world.
//!
//! It behaves as the kernel's do where osync depends on it, watches included, and it can do what those
//! cannot: let a user act between any two steps, fill up, and lose power.

mod disk;

pub use disk::{Disk, Ino};

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Fs, Stat};
use crate::source::watch::{RawEvent, Watch, Wd};
use crate::tree::{Kind, Metadata, Name, RelPath, Xattrs};

/// What happens between two steps.
pub type Interruption = Box<dyn FnMut(&mut Disk) + Send>;

/// A handle on a [`Disk`]; clones share it.
#[derive(Clone)]
pub struct MemoryFs {
    disk: Arc<Mutex<Disk>>,
    between: Arc<Mutex<Option<Interruption>>>,
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
        }
    }
}

/// An open file or stage.
#[derive(Debug)]
pub struct MemoryFile {
    ino: Ino,
}

/// An open directory.
#[derive(Debug)]
pub struct MemoryDir {
    ino: Ino,
}

impl MemoryFs {
    /// The disk, for users and judges.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what happens between any two steps of a reader or an applier.
    pub fn interrupt(&self, between: Option<Interruption>) {
        *self.between.lock().unwrap_or_else(PoisonError::into_inner) = between;
    }

    /// The disk for one step, after whatever happens before it.
    fn step(&self) -> MutexGuard<'_, Disk> {
        let mut between = self.between.lock().unwrap_or_else(PoisonError::into_inner);
        let mut disk = self.disk();
        if let Some(between) = between.as_mut() {
            between(&mut disk);
        }
        disk
    }
}

impl Fs for MemoryFs {
    type Dir = MemoryDir;
    type File = MemoryFile;

    fn root(&self) -> io::Result<MemoryDir> {
        Ok(MemoryDir {
            ino: self.step().root(),
        })
    }

    fn open_dir(&self, dir: &MemoryDir, name: &Name) -> io::Result<MemoryDir> {
        let disk = self.step();
        let ino = disk.lookup(dir.ino, name)?;
        disk.expect_dir(ino)?;
        Ok(MemoryDir { ino })
    }

    fn stat_dir(&self, dir: &MemoryDir) -> io::Result<Stat> {
        self.step().stat(dir.ino)
    }

    fn stat(&self, dir: &MemoryDir, name: &Name) -> io::Result<Stat> {
        let disk = self.step();
        disk.stat(disk.lookup(dir.ino, name)?)
    }

    fn list(&self, dir: &MemoryDir, each: &mut dyn FnMut(&[u8], Option<Kind>)) -> io::Result<()> {
        let disk = self.step();
        for (name, kind) in disk.children(dir.ino)? {
            each(name.as_bytes(), Some(kind));
        }
        Ok(())
    }

    fn read_link(&self, dir: &MemoryDir, name: &Name) -> io::Result<Vec<u8>> {
        let disk = self.step();
        let ino = disk.lookup(dir.ino, name)?;
        if disk.stat(ino)?.kind != Kind::Symlink {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        Ok(disk.content(ino)?.to_vec())
    }

    fn xattrs(&self, dir: &MemoryDir, name: &Name) -> io::Result<Xattrs> {
        let disk = self.step();
        disk.xattrs(disk.lookup(dir.ino, name)?)
    }

    fn dir_xattrs(&self, dir: &MemoryDir) -> io::Result<Xattrs> {
        self.step().xattrs(dir.ino)
    }

    fn open(&self, dir: &MemoryDir, name: &Name) -> io::Result<MemoryFile> {
        let disk = self.step();
        let ino = disk.lookup(dir.ino, name)?;
        if disk.stat(ino)?.kind != Kind::File {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        disk.check_readable(ino)?;
        Ok(MemoryFile { ino })
    }

    fn stat_file(&self, file: &MemoryFile) -> io::Result<Stat> {
        self.step().stat(file.ino)
    }

    fn file_xattrs(&self, file: &MemoryFile) -> io::Result<Xattrs> {
        self.step().xattrs(file.ino)
    }

    fn read_at(&self, file: &MemoryFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let disk = self.step();
        let content = disk.content(file.ino)?;
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(content.len());
        let count = buffer.len().min(content.len() - start);
        buffer[..count].copy_from_slice(&content[start..start + count]);
        Ok(count)
    }

    fn unwritten(&self, file: &MemoryFile) -> Option<bool> {
        Some(!self.step().is_being_written(file.ino))
    }

    fn stage(&self) -> io::Result<MemoryFile> {
        let mut disk = self.step();
        Ok(MemoryFile {
            ino: disk.make_unnamed()?,
        })
    }

    fn write_at(&self, file: &MemoryFile, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset =
            usize::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
        self.step().write_at(file.ino, offset, data)
    }

    fn publish(
        &self,
        stage: MemoryFile,
        dir: &MemoryDir,
        name: &Name,
        meta: &Metadata,
    ) -> io::Result<()> {
        self.step().set_meta(stage.ino, meta)?;
        self.step().link_over(stage.ino, dir.ino, name)
    }

    fn publish_special(
        &self,
        dir: &MemoryDir,
        name: &Name,
        meta: &Metadata,
        target: &[u8],
    ) -> io::Result<()> {
        let ino = self.step().make_special(meta, target)?;
        self.step().link_over(ino, dir.ino, name)
    }

    fn make_dir(&self, dir: &MemoryDir, name: &Name, meta: &Metadata) -> io::Result<()> {
        let ino = self.step().make_dir(dir.ino, name)?;
        self.step().set_meta(ino, meta)
    }

    fn set_dir_meta(&self, dir: &MemoryDir, meta: &Metadata) -> io::Result<()> {
        self.step().set_meta(dir.ino, meta)
    }

    fn set_file_meta(&self, dir: &MemoryDir, name: &Name, meta: &Metadata) -> io::Result<()> {
        let mut disk = self.step();
        let ino = disk.lookup(dir.ino, name)?;
        let stat = disk.stat(ino)?;
        if stat.kind != Kind::File || stat.size != meta.size || stat.mtime != meta.mtime {
            return Err(io::Error::from_raw_os_error(libc::ESTALE));
        }
        if stat.nlink != 1 {
            return Err(io::Error::from_raw_os_error(libc::EMLINK));
        }
        disk.set_meta(ino, meta)
    }

    fn remove_file(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step().unlink(dir.ino, name)
    }

    fn remove_dir(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step().remove_dir(dir.ino, name)
    }

    fn remove_tree(&self, dir: &MemoryDir, name: &Name) -> io::Result<()> {
        self.step().remove_tree(dir.ino, name)
    }

    fn rename(
        &self,
        from: &MemoryDir,
        from_name: &Name,
        to: &MemoryDir,
        to_name: &Name,
    ) -> io::Result<()> {
        self.step().rename(from.ino, from_name, to.ino, to_name)
    }

    fn sync(&self) -> io::Result<()> {
        self.step().sync();
        Ok(())
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
