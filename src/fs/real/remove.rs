//! Removing directories with everything below.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::stage::Stage;
use super::{errno, open, stat};
use crate::tree::Kind;

/// Most names of subdirectories remembered for one directory on the way down. A directory with more
/// is listed again.
const PENDING_NAMES_MAX: usize = 64;

/// Takes a directory into the stage in one step and frees it there.
pub(super) fn tree(stage: &Stage, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    // With a slash behind it the name can only mean a directory, so that a file which took its place
    // stays where it is.
    let mut as_dir = name.to_vec();
    as_dir.push(b'/');
    let (staged, ()) = stage.make(|stage, unique| {
        match rustix::fs::renameat(dir, &*as_dir, stage, unique) {
            // Without root's rights a directory that its owner may not write cannot change its parent.
            Err(Errno::ACCESS) if make_accessible(dir, name).is_ok() => {
                rustix::fs::renameat(dir, &*as_dir, stage, unique)
            }
            renamed => renamed,
        }
    })?;
    staged.remove_tree(dir, name)
}

/// Opens a directory in the stage to empty it.
pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    if !rustix::process::geteuid().is_root() {
        make_accessible(dir, name)?;
    }
    open::dir(dir, name, false)
}

/// Gives the owner all rights to a directory that is about to be removed. It may not be open to us,
/// and by name chmod would follow a symlink, so this goes through a descriptor that gives no access.
fn make_accessible(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let fd = openat2(dir, name, flags, Mode::empty(), resolve)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    rustix::fs::chmodat(CWD, path, Mode::RWXU, AtFlags::empty())
}

/// A directory on the way from the top down to where we are.
struct Above {
    /// Its inode, to know it again on the way back.
    ino: u64,
    /// The subdirectory in which we are.
    below: Box<[u8]>,
    /// Subdirectories still to be removed.
    pending: Vec<Box<[u8]>>,
}

/// Removes everything in a directory of the stage. It stops with EXDEV at a mount, of which nothing is
/// touched.
///
/// Neither stack nor descriptors limit the depth: it holds one directory open and climbs by `..`, which
/// nobody else can change within the stage, and checks that it comes out where it went in.
pub(super) fn everything_in(top: OwnedFd) -> io::Result<()> {
    let mut here = top;
    let mut way: Vec<Above> = Vec::new();
    let mut pending = clear_level(&here)?;
    loop {
        if let Some(below) = pending.pop() {
            let next = open(here.as_fd(), &below)?;
            let ino = stat::of(&here)?.ino;
            here = next;
            way.push(Above {
                ino,
                below,
                pending,
            });
            pending = clear_level(&here)?;
            continue;
        }
        // Only a pass that finds nothing proves that nothing is left.
        pending = clear_level(&here)?;
        if !pending.is_empty() {
            continue;
        }
        let Some(above) = way.pop() else {
            return Ok(());
        };
        here = climb(&here, above.ino)?;
        rustix::fs::unlinkat(&here, &*above.below, AtFlags::REMOVEDIR)?;
        pending = above.pending;
    }
}

fn climb(here: &OwnedFd, ino: u64) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let above = rustix::fs::openat(here, "..", flags, Mode::empty())?;
    if stat::of(&above)?.ino != ino {
        return Err(errno(libc::ESTALE));
    }
    Ok(above)
}

/// Unlinks what is no directory and returns the names of some of the directories.
fn clear_level(dir: &OwnedFd) -> io::Result<Vec<Box<[u8]>>> {
    let mut dirs: Vec<Box<[u8]>> = Vec::new();
    let mut failed = None;
    open::list(dir, |name, kind| {
        if failed.is_some() || dirs.len() == PENDING_NAMES_MAX {
            return;
        }
        match unlink_unless_dir(dir, name, kind) {
            Ok(true) => {}
            Ok(false) => dirs.push(name.into()),
            Err(error) => failed = Some(error),
        }
    })?;
    failed.map_or(Ok(dirs), Err)
}

/// False if it is a directory.
fn unlink_unless_dir(dir: &OwnedFd, name: &[u8], kind: Option<Kind>) -> io::Result<bool> {
    if kind == Some(Kind::Dir) {
        return Ok(false);
    }
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::ISDIR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
