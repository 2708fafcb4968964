//! Opening and listing, one name at a time.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, ResolveFlags, SeekFrom, openat2};
use rustix::io::Errno;

use super::{errno, stat};
use crate::fs::Stat;
use crate::tree::Kind;

/// How often an open is repeated that the kernel asks to repeat.
const OPEN_TRIES_MAX: u32 = 8;

/// Bytes of entries fetched by one system call of a list.
const LIST_BUFFER_BYTES: usize = 64 * 1024;

/// Opens a root by the operator's path, whose symlinks are his.
pub(super) fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens the directory `name`, or with `.` the directory itself anew.
pub(super) fn dir(at: impl AsFd, name: &[u8], keep_access_time: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    beneath(at, name, flags, keep_access_time).map_err(no_dir)
}

/// The same, or the root of what is mounted there.
pub(super) fn dir_or_mount(
    at: impl AsFd,
    name: &[u8],
    keep_access_time: bool,
) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    resolve(at, name, flags, keep_access_time, BENEATH).map_err(no_dir)
}

/// With symlinks forbidden, the kernel calls one in a directory's place a loop.
fn no_dir(error: Errno) -> io::Error {
    if error == Errno::LOOP {
        errno(libc::ENOTDIR)
    } else {
        error.into()
    }
}

/// Opens the regular file `name` for reading; ESTALE if it is something else (by now).
pub(super) fn file(at: impl AsFd, name: &[u8], keep_access_time: bool) -> io::Result<(File, Stat)> {
    // A pipe or a terminal that took the file's place must neither block nor take us over.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = match beneath(at, name, flags, keep_access_time) {
        // A symlink, a socket, a device without a driver.
        Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(errno(libc::ESTALE)),
        opened => opened?,
    };
    let stat = stat::of(&fd)?;
    if stat.kind != Kind::File {
        return Err(errno(libc::ESTALE));
    }
    Ok((File::from(fd), stat))
}

/// A name leads down and is never followed.
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

/// Opens a name without following it and without leaving the mount.
pub(super) fn beneath(
    at: impl AsFd,
    name: &[u8],
    flags: OFlags,
    keep_access_time: bool,
) -> rustix::io::Result<OwnedFd> {
    let one_mount = BENEATH.union(ResolveFlags::NO_XDEV);
    resolve(at, name, flags, keep_access_time, one_mount)
}

fn resolve(
    at: impl AsFd,
    name: &[u8],
    flags: OFlags,
    keep_access_time: bool,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let mut flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    flags.set(OFlags::NOATIME, keep_access_time);
    let mut tries = 1;
    loop {
        match openat2(&at, name, flags, Mode::empty(), resolve) {
            // Only the owner may keep the access time; everybody else reads all the same.
            Err(Errno::PERM) if flags.contains(OFlags::NOATIME) => flags.remove(OFlags::NOATIME),
            // A rename elsewhere disturbed the look-up, or a lease is being given back.
            Err(Errno::AGAIN) if tries < OPEN_TRIES_MAX => tries += 1,
            result => return result,
        }
    }
}

thread_local! {
    /// The buffer of this thread's lists. A list within a list finds it taken and makes its own.
    static LIST_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Calls `each` for every name in a directory but `.` and `..`.
pub(super) fn list(dir: impl AsFd, mut each: impl FnMut(&[u8], Option<Kind>)) -> io::Result<()> {
    // The descriptor may have been listed before, and keeps its place.
    rustix::fs::seek(&dir, SeekFrom::Start(0))?;
    let mut buffer = LIST_BUFFER.take();
    buffer.reserve_exact(LIST_BUFFER_BYTES);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    let result = loop {
        match entries.next() {
            None => break Ok(()),
            Some(Err(error)) => break Err(error.into()),
            Some(Ok(entry)) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => each(name, kind_of(entry.file_type())),
            },
        }
    };
    LIST_BUFFER.set(buffer);
    result
}

/// The kind, where the file system tells it.
pub(super) fn kind_of(file_type: FileType) -> Option<Kind> {
    match file_type {
        FileType::RegularFile => Some(Kind::File),
        FileType::Directory => Some(Kind::Dir),
        FileType::Symlink => Some(Kind::Symlink),
        FileType::Fifo => Some(Kind::Fifo),
        FileType::Socket => Some(Kind::Socket),
        FileType::CharacterDevice => Some(Kind::CharDevice),
        FileType::BlockDevice => Some(Kind::BlockDevice),
        FileType::Unknown => None,
    }
}
