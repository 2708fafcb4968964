//! Having content on the disk before it takes the place of something else.
//!
//! A file system may write a rename down before the content that it moves. After a power cut the name
//! then holds an empty file, and what was durable under it is lost. So whatever is about to replace a
//! file is written first. This costs a wait for the disk, but no flush of its cache: the journal's own
//! comes behind it. A new name replaces nothing and does not wait; syncs make it durable.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::OFlags;

use super::{open, stat};
use crate::tree::Kind;

/// Waits until the content of an open file is on the disk.
pub(super) fn content(file: BorrowedFd<'_>) -> io::Result<()> {
    const ALL: u32 = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: the call takes no memory. A length of 0 means up to the end.
    let written = unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, ALL) };
    if written == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // A file system that cannot write in parts writes as a whole.
        Some(libc::EINVAL | libc::ESPIPE | libc::ENOSYS) => Ok(rustix::fs::fdatasync(file)?),
        _ => Err(error),
    }
}

/// The same for what `name` is, if it is a regular file, before it takes the place of `to`; nothing if
/// there is no file that it could replace.
pub(super) fn before_replacing(
    from: BorrowedFd<'_>,
    name: &[u8],
    to_dir: BorrowedFd<'_>,
    to: &[u8],
) -> io::Result<()> {
    let is_file = |dir, name: &[u8]| {
        stat::at(dir, name).is_ok_and(|stat| stat.kind == Kind::File && stat.size > 0)
    };
    if !is_file(to_dir, to) || !is_file(from, name) {
        return Ok(());
    }
    match open::beneath(from, name, OFlags::RDONLY | OFlags::NONBLOCK, false) {
        Ok(file) => content(file.as_fd()),
        // Whoever may not read it may still move it; a sync makes it durable, later.
        Err(_) => Ok(()),
    }
}
