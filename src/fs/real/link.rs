//! Giving an inode one more name.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, OFlags};
use rustix::io::Errno;

use super::stage::Stage;
use super::{errno, open, settle, stat};
use crate::fs::Stat;

/// The entry `name`, of any kind and without rights to it, if it is `what`; else ESTALE. What is held
/// open stays that inode, whatever happens to the name.
pub(super) fn find(dir: BorrowedFd<'_>, name: &[u8], what: &Stat) -> io::Result<OwnedFd> {
    let entry = open::beneath(dir, name, OFlags::PATH, false)?;
    if stat::of(&entry)?.same_content(what) {
        Ok(entry)
    } else {
        Err(errno(libc::ESTALE))
    }
}

/// Gives an open entry the name `name`, in the place of whatever that is.
pub(super) fn give_name(
    stage: &Stage,
    entry: &OwnedFd,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> io::Result<()> {
    let linked = match exclusive(entry.as_fd(), dir, name) {
        Err(Errno::EXIST) => replace(stage, entry, dir, name),
        linked => linked.map_err(io::Error::from),
    };
    linked.map_err(|error| match stat::of(entry) {
        // Its last name is gone, so it was exchanged since it was found.
        Ok(held) if held.nlink == 0 => errno(libc::ESTALE),
        _ => error,
    })
}

fn replace(stage: &Stage, entry: &OwnedFd, dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    let held = stat::of(entry)?;
    if stat::at(dir, name).is_ok_and(|there| there.same_inode(&held)) {
        return Ok(());
    }
    let (staged, ()) = stage.make(|dir, name| exclusive(entry.as_fd(), dir, name.as_bytes()))?;
    settle::before_replacing(staged.at().0, staged.at().1, dir, name)?;
    staged.publish_link(dir, name)
}

/// Gives an open inode a name that is free (else EEXIST).
pub(super) fn exclusive(
    entry: BorrowedFd<'_>,
    dir: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<()> {
    // Linking by descriptor alone needs CAP_DAC_READ_SEARCH or Linux 6.10, and is refused with ENOENT,
    // which a directory that is gone answers as well: so the way through /proc decides.
    static BY_DESCRIPTOR: AtomicBool = AtomicBool::new(true);
    if BY_DESCRIPTOR.load(Ordering::Relaxed) {
        match rustix::fs::linkat(entry, "", dir, name, AtFlags::EMPTY_PATH) {
            Err(Errno::NOENT) => {}
            linked => return linked,
        }
    }
    let path = format!("/proc/self/fd/{}", entry.as_raw_fd());
    rustix::fs::linkat(CWD, path, dir, name, AtFlags::SYMLINK_FOLLOW)?;
    BY_DESCRIPTOR.store(false, Ordering::Relaxed);
    Ok(())
}
