//! Opening directories beneath the root.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

use crate::tree::RelPath;

const FLAGS: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the directory at `path` below `root` with `O_PATH`, so that neither a symlink that a user plants
/// meanwhile nor the length of the path matters.
///
/// # Errors
/// ENOENT if a name is missing, ENOTDIR if one is no directory (a symlink is none).
pub(super) fn open_dir(root: &OwnedFd, path: &RelPath) -> io::Result<OwnedFd> {
    let whole = if path.is_root() {
        b"."
    } else {
        path.as_bytes()
    };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match openat2(
        root,
        OsStr::from_bytes(whole),
        FLAGS,
        Mode::empty(),
        beneath,
    ) {
        // Longer than the kernel takes at once, or disturbed by a rename elsewhere.
        Err(Errno::NAMETOOLONG | Errno::AGAIN) => step_by_step(root, path),
        // With symlinks forbidden, the kernel calls one in a directory's place a loop.
        Err(Errno::LOOP) => Err(Errno::NOTDIR.into()),
        opened => Ok(opened?),
    }
}

fn step_by_step(root: &OwnedFd, path: &RelPath) -> io::Result<OwnedFd> {
    let mut dir = openat(root, ".", FLAGS, Mode::empty())?;
    for name in path.components() {
        dir = openat(&dir, OsStr::from_bytes(name), FLAGS, Mode::empty())?;
    }
    Ok(dir)
}
