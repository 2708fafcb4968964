//! The real file system, by system calls.
//!
//! Every step starts at a descriptor and takes one name, so paths may be longer than the kernel's
//! PATH_MAX, and neither a symlink nor a mount that a user plants meanwhile leads out of the root.
//! It needs Linux 5.6 (openat2) and a mounted /proc.

mod copy;
mod lease;
mod link;
mod metadata;
mod mounts;
mod open;
mod probe;
mod publish;
mod remove;
mod roots;
mod settle;
mod source;
mod stage;
mod stat;
mod target;
#[cfg(test)]
mod tests;
mod xattrs;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::{Fs, Stat};
use crate::tree::{Kind, Metadata, Name, RelPath, TargetLimits, Xattrs};

pub use lease::ignore_lease_signal;
pub use mounts::{MountTable, mounted_at};
pub use roots::{Nesting, RootIdentity, Space, nested};
pub use source::{AccessTimes, Reading, SourceNotes};

use stage::{Slot, Stage};
use target::Target;
use xattrs::XattrAccess;

/// The reserved name of the stage, directly in a sink's root. Lists leave it out there, and every
/// step that names it there is refused with EPERM. Further down it is a name like any other.
pub const STAGE_NAME: &str = ".osync-stage";

/// Longest path that the kernel takes, in bytes, with the zero at its end.
const KERNEL_PATH_BYTES_MAX: usize = 4096;

/// What a sink's file system may use.
#[derive(Debug, Clone, Copy)]
pub struct SinkOptions {
    /// Most stages that may be open at once; the next one is refused with EMFILE. Each holds a
    /// descriptor, so the process limit must leave room for as many.
    pub stages_max: usize,
}

impl Default for SinkOptions {
    fn default() -> Self {
        Self { stages_max: 4096 }
    }
}

/// A file system below a root that was opened once. All methods may be called by many threads at once.
#[derive(Debug)]
pub struct RealFs {
    root: OwnedFd,
    identity: RootIdentity,
    /// Whether O_NOATIME is tried, because nothing else keeps the access times.
    keep_access_times: bool,
    /// Whether directories that something is mounted on lead to that.
    enters_mounts: bool,
    xattrs: XattrAccess,
    /// Where changes are prepared; a source has none and refuses every change with EROFS.
    stage: Option<Arc<Stage>>,
}

/// A directory held open.
#[derive(Debug)]
pub struct RealDir {
    fd: OwnedFd,
    is_root: bool,
}

impl AsFd for RealDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A regular file held open. Dropping a stage that was not published frees it and its bytes.
#[derive(Debug)]
pub struct RealFile {
    file: File,
    slot: Option<Slot>,
}

impl RealFs {
    /// Opens a root for reading alone: nothing that is done through it changes anything, and as root
    /// not even access times (see [`SourceNotes`] for what holds otherwise).
    ///
    /// As root it keeps the root's mount busy for as long as it lives.
    ///
    /// # Errors
    /// Those of opening the root: ENOENT, EACCES, or ENOTDIR if it is no directory.
    pub fn source(root: &Path) -> io::Result<(Self, SourceNotes)> {
        let (root, notes) = source::open(root)?;
        let keep_access_times = !matches!(notes.access_times, AccessTimes::Kept);
        Ok((Self::at(root, keep_access_times, None)?, notes))
    }

    /// The same with all that is mounted on directories below the root at this moment. Mounts that
    /// appear later are not seen, and those that go stay visible, and their file systems busy, for as
    /// long as it lives. A file that something is mounted on is not opened (EXDEV).
    ///
    /// # Errors
    /// Those of opening the root; EPERM without root's rights; EAGAIN if something is mounted or
    /// unmounted below it all the time.
    pub fn source_with_mounts(root: &Path) -> io::Result<(Self, SourceNotes)> {
        let (root, notes) = source::open_with_mounts(root)?;
        let fs = Self {
            enters_mounts: true,
            ..Self::at(root, false, None)?
        };
        Ok((fs, notes))
    }

    /// The same root as this source sees it, to be kept elsewhere.
    ///
    /// # Errors
    /// EMFILE if the process has no descriptor left; EINVAL of a sink.
    pub fn same_source(&self) -> io::Result<Self> {
        if self.stage.is_some() {
            return Err(errno(libc::EINVAL));
        }
        Ok(Self {
            enters_mounts: self.enters_mounts,
            ..Self::at(self.root.try_clone()?, self.keep_access_times, None)?
        })
    }

    /// Opens a root for writing.
    ///
    /// # Errors
    /// Those of opening the root: ENOENT, EACCES, or ENOTDIR if it is no directory.
    pub fn sink(root: &Path, options: SinkOptions) -> io::Result<Self> {
        let root = open::root(root)?;
        let stage = Stage::new(root.try_clone()?, options.stages_max)?;
        Self::at(root, false, Some(Arc::new(stage)))
    }

    fn at(root: OwnedFd, keep_access_times: bool, stage: Option<Arc<Stage>>) -> io::Result<Self> {
        let identity = RootIdentity::of(&root)?;
        Ok(Self {
            root,
            identity,
            keep_access_times,
            enters_mounts: false,
            xattrs: if stage.is_some() {
                XattrAccess::to_set()
            } else {
                XattrAccess::to_read()
            },
            stage,
        })
    }

    /// Which directory the root is.
    #[must_use]
    pub fn identity(&self) -> RootIdentity {
        self.identity
    }

    /// Room left on the root's file system for this process.
    ///
    /// # Errors
    /// Those of fstatvfs(2), such as EIO.
    pub fn space(&self) -> io::Result<Space> {
        Space::of(&self.root)
    }

    /// Removes what an earlier run left in the stage. For the start, before any stage is made: it
    /// removes stages in use as well.
    ///
    /// # Errors
    /// EROFS on a source; EPERM if the stage's name is taken by somebody else's directory, ENOTDIR if
    /// it is no directory; otherwise the first removal that failed.
    pub fn clear_stage(&self) -> io::Result<()> {
        self.writable()?.clear()
    }

    /// Finds out what the target cannot hold, by trying it in the stage. For the start: from then on
    /// attributes that cannot be set are not seen either. Nothing is left behind.
    ///
    /// # Errors
    /// EROFS on a source; ENOSPC, EIO and the like if nothing can be tried now.
    pub fn probe(&mut self) -> io::Result<TargetLimits> {
        let stage = self.writable()?;
        let limits = probe::probe(stage);
        stage.tidy()?;
        let limits = limits?;
        self.xattrs.leave_out(&limits.lacks);
        Ok(limits)
    }

    /// The same without trying, from what was found out before.
    pub fn assume(&mut self, limits: &TargetLimits) {
        self.xattrs.leave_out(&limits.lacks);
    }

    fn writable(&self) -> io::Result<&Arc<Stage>> {
        self.stage.as_ref().ok_or_else(|| errno(libc::EROFS))
    }
}

impl RealDir {
    /// The bytes of a name in this directory, unless it is the reserved one.
    fn allow<'a>(&self, name: &'a Name) -> io::Result<&'a [u8]> {
        let bytes = name.as_bytes();
        if self.is_root && bytes == STAGE_NAME.as_bytes() {
            return Err(errno(libc::EPERM));
        }
        Ok(bytes)
    }
}

fn errno(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Fs for RealFs {
    type Dir = RealDir;
    type File = RealFile;

    fn root(&self) -> io::Result<RealDir> {
        let fd = open::dir(&self.root, b".", self.keep_access_times)?;
        Ok(RealDir { fd, is_root: true })
    }

    fn open_dir(&self, dir: &RealDir, name: &Name) -> io::Result<RealDir> {
        let name = dir.allow(name)?;
        let fd = if self.enters_mounts {
            open::dir_or_mount(dir, name, self.keep_access_times)?
        } else {
            open::dir(dir, name, self.keep_access_times)?
        };
        Ok(RealDir { fd, is_root: false })
    }

    fn open_below(&self, path: &RelPath) -> Option<RealDir> {
        let first = path.components().next()?;
        if path.len() >= KERNEL_PATH_BYTES_MAX || first == STAGE_NAME.as_bytes() {
            return None;
        }
        let open = match self.enters_mounts {
            true => open::dir_or_mount,
            false => open::dir,
        };
        let fd = open(&self.root, path.as_bytes(), self.keep_access_times).ok()?;
        Some(RealDir { fd, is_root: false })
    }

    fn stat_dir(&self, dir: &RealDir) -> io::Result<Stat> {
        stat::of(dir)
    }

    fn may_hold_dirs(&self, dir: &RealDir) -> io::Result<bool> {
        stat::may_hold_dirs(dir)
    }

    fn stat(&self, dir: &RealDir, name: &Name) -> io::Result<Stat> {
        stat::at(dir, dir.allow(name)?)
    }

    fn list(&self, dir: &RealDir, each: &mut dyn FnMut(&[u8], Option<Kind>)) -> io::Result<()> {
        open::list(dir, |name, kind| {
            if !(dir.is_root && name == STAGE_NAME.as_bytes()) {
                each(name, kind);
            }
        })
    }

    fn read_link(&self, dir: &RealDir, name: &Name) -> io::Result<Vec<u8>> {
        Ok(rustix::fs::readlinkat(dir, dir.allow(name)?, Vec::new())?.into_bytes())
    }

    fn xattrs(&self, dir: &RealDir, name: &Name) -> io::Result<Xattrs> {
        self.xattrs
            .read(Target::Name(dir.as_fd(), dir.allow(name)?))
    }

    fn dir_xattrs(&self, dir: &RealDir) -> io::Result<Xattrs> {
        self.xattrs.read(Target::Open(dir.as_fd()))
    }

    fn open(&self, dir: &RealDir, name: &Name) -> io::Result<(RealFile, Stat)> {
        let (file, stat) = open::file(dir, dir.allow(name)?, self.keep_access_times)?;
        Ok((RealFile { file, slot: None }, stat))
    }

    fn stat_file(&self, file: &RealFile) -> io::Result<Stat> {
        stat::of(&file.file)
    }

    fn file_xattrs(&self, file: &RealFile) -> io::Result<Xattrs> {
        self.xattrs.read(Target::Open(file.file.as_fd()))
    }

    fn read_at(&self, file: &RealFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match file.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Into memory that nobody clears before.
    fn read_piece(&self, file: &RealFile, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut piece = Vec::with_capacity(bytes);
        while piece.len() < bytes {
            let at = offset + piece.len() as u64;
            match rustix::io::pread(&file.file, spare_capacity(&mut piece), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        // There may have been more room than was asked for.
        piece.truncate(bytes);
        Ok(piece)
    }

    fn next_data(&self, file: &RealFile, offset: u64) -> io::Result<Option<Range<u64>>> {
        // Content is read and written at offsets given, so nobody misses the position.
        let start = match rustix::fs::seek(&file.file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => return Ok(None),
            found => found?,
        };
        match rustix::fs::seek(&file.file, SeekFrom::Hole(start)) {
            // It was cut off since.
            Err(Errno::NXIO) => Ok(None),
            end => Ok(Some(start..end?).filter(|data| !data.is_empty())),
        }
    }

    fn unwritten(&self, file: &RealFile) -> Option<bool> {
        lease::unwritten(file.file.as_fd())
    }

    fn stage(&self, dir: &RealDir, mode: u32) -> io::Result<RealFile> {
        let (file, slot) = self.writable()?.file(dir.as_fd(), mode)?;
        Ok(RealFile {
            file,
            slot: Some(slot),
        })
    }

    fn write_at(&self, file: &RealFile, offset: u64, data: &[u8]) -> io::Result<()> {
        file.file.write_all_at(data, offset)
    }

    fn copy_range(&self, from: &RealFile, to: &RealFile, range: Range<u64>) -> io::Result<()> {
        copy::range(&from.file, &to.file, range)
    }

    fn punch(&self, file: &RealFile, range: Range<u64>) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let bytes = range.end - range.start;
        Ok(rustix::fs::fallocate(
            &file.file,
            flags,
            range.start,
            bytes,
        )?)
    }

    fn set_len(&self, file: &RealFile, size: u64) -> io::Result<()> {
        Ok(rustix::fs::ftruncate(&file.file, size)?)
    }

    fn publish(
        &self,
        stage: &mut RealFile,
        dir: &RealDir,
        name: &Name,
        meta: &Metadata,
    ) -> io::Result<bool> {
        publish::file(&self.xattrs, stage, dir.as_fd(), dir.allow(name)?, meta)
    }

    fn publish_special(
        &self,
        dir: &RealDir,
        name: &Name,
        meta: &Metadata,
        target: &[u8],
    ) -> io::Result<()> {
        let name = dir.allow(name)?;
        publish::special(
            &self.xattrs,
            self.writable()?,
            dir.as_fd(),
            name,
            meta,
            target,
        )
    }

    fn make_dir(&self, dir: &RealDir, name: &Name, meta: &Metadata) -> io::Result<()> {
        self.writable()?;
        publish::dir(&self.xattrs, dir.as_fd(), dir.allow(name)?, meta)
    }

    fn set_dir_meta(&self, dir: &RealDir, meta: &Metadata) -> io::Result<()> {
        let stage = self.writable()?;
        // Making or removing the stage puts the root's time back; it must not undo this one.
        let _alone = dir.is_root.then(|| stage.lock());
        metadata::apply(
            &self.xattrs,
            Target::Open(dir.as_fd()),
            &stat::of(dir)?,
            meta,
        )
    }

    fn set_file_meta(
        &self,
        dir: &RealDir,
        name: &Name,
        meta: &Metadata,
        links: u64,
    ) -> io::Result<()> {
        self.writable()?;
        metadata::apply_in_place(&self.xattrs, dir.as_fd(), dir.allow(name)?, meta, links)
    }

    fn remove_file(&self, dir: &RealDir, name: &Name) -> io::Result<()> {
        self.writable()?;
        Ok(rustix::fs::unlinkat(
            dir,
            dir.allow(name)?,
            AtFlags::empty(),
        )?)
    }

    fn remove_dir(&self, dir: &RealDir, name: &Name) -> io::Result<()> {
        self.writable()?;
        Ok(rustix::fs::unlinkat(
            dir,
            dir.allow(name)?,
            AtFlags::REMOVEDIR,
        )?)
    }

    fn remove_tree(&self, dir: &RealDir, name: &Name) -> io::Result<()> {
        remove::tree(self.writable()?, dir.as_fd(), dir.allow(name)?)
    }

    fn link(
        &self,
        from: &RealDir,
        from_name: &Name,
        to: &RealDir,
        to_name: &Name,
        what: &Stat,
    ) -> io::Result<()> {
        let stage = self.writable()?;
        let entry = link::find(from.as_fd(), from.allow(from_name)?, what)?;
        link::give_name(stage, &entry, to.as_fd(), to.allow(to_name)?)
    }

    fn rename(
        &self,
        from: &RealDir,
        from_name: &Name,
        to: &RealDir,
        to_name: &Name,
    ) -> io::Result<()> {
        self.writable()?;
        let (from_name, to_name) = (from.allow(from_name)?, to.allow(to_name)?);
        settle::before_replacing(from.as_fd(), from_name, to.as_fd(), to_name)?;
        rustix::fs::renameat(from, from_name, to, to_name).map_err(|error| match error {
            // XFS says of a directory that is not empty that it exists.
            Errno::EXIST => Errno::NOTEMPTY.into(),
            error => error.into(),
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.writable()?;
        // A sink never enters another file system, so this one is all that was touched.
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    fn is_out_of_inodes(&self) -> bool {
        self.space().is_ok_and(|space| space.inodes_free == 0)
    }

    fn tidy(&self) -> io::Result<()> {
        self.writable()?.tidy()
    }
}
