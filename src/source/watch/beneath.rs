//! Opening directories beneath the root, one name at a time.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, openat};

use crate::tree::RelPath;

/// The descriptor of an open directory: the root's own, or one opened on the way.
pub(super) enum OpenDir<'root> {
    /// The root, which stays open.
    Root(BorrowedFd<'root>),
    /// A directory below it.
    Below(OwnedFd),
}

impl AsFd for OpenDir<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Root(fd) => *fd,
            Self::Below(fd) => fd.as_fd(),
        }
    }
}

/// Opens the directory at `path` below `root` with `O_PATH`, step by step, so that neither a symlink
/// that a user plants meanwhile nor the length of the path matters.
///
/// # Errors
/// ENOENT if a name is missing, ENOTDIR if one is no directory (a symlink is none).
pub(super) fn open_dir<'root>(root: &'root OwnedFd, path: &RelPath) -> io::Result<OpenDir<'root>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut dir = OpenDir::Root(root.as_fd());
    for name in path.components() {
        dir = OpenDir::Below(openat(&dir, OsStr::from_bytes(name), flags, Mode::empty())?);
    }
    Ok(dir)
}
