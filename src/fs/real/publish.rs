//! Making entries appear, whole, under their final names.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::Errno;

use super::stage::Stage;
use super::target::Target;
use super::xattrs::XattrAccess;
use super::{RealFile, errno, link, metadata, open, settle, stat};
use crate::tree::{Kind, Metadata};

/// Publishes a stage. True if nothing had that name. If it fails, dropping the stage removes the name that it
/// may have got.
pub(super) fn file(
    xattrs: &XattrAccess,
    stage: &mut RealFile,
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &Metadata,
) -> io::Result<bool> {
    let RealFile { file, slot } = stage;
    let (Some(slot), Kind::File) = (slot, meta.kind) else {
        return Err(errno(libc::EINVAL));
    };
    metadata::apply(xattrs, Target::Open(file.as_fd()), &stat::of(&*file)?, meta)?;
    let is_new = if slot.has_name() {
        stat::at(dir, name).is_err()
    } else {
        match link::exclusive(file.as_fd(), dir, name) {
            // A link replaces nothing, so the file needs a name to be renamed from.
            Err(Errno::EXIST) => slot.give_name(file.as_fd())?,
            linked => return Ok(linked.map(|()| true)?),
        }
        false
    };
    if !is_new {
        settle::content(file.as_fd())?;
    }
    slot.publish(dir, name)?;
    Ok(is_new)
}

/// Publishes a symlink, device, pipe or socket: made in the stage, given its metadata there by name,
/// then renamed over whatever is in its place.
pub(super) fn special(
    xattrs: &XattrAccess,
    stage: &Stage,
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &Metadata,
    target: &[u8],
) -> io::Result<()> {
    let file_type = match meta.kind {
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharacterDevice,
        Kind::BlockDevice => FileType::BlockDevice,
        Kind::File | Kind::Dir => return Err(errno(libc::EINVAL)),
    };
    let (mut staged, ()) = stage.make(|dir, name| match file_type {
        FileType::Symlink => rustix::fs::symlinkat(target, dir, name),
        _ => rustix::fs::mknodat(dir, name, file_type, Mode::RUSR | Mode::WUSR, meta.rdev),
    })?;
    metadata::apply(xattrs, staged.target(), &staged.stat()?, meta)?;
    staged.publish(dir, name)
}

/// Makes a directory at its final name and gives it its metadata there. For a moment it is seen
/// without, empty and for its owner alone, which no reader can take for a state of its content.
pub(super) fn dir(
    xattrs: &XattrAccess,
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &Metadata,
) -> io::Result<()> {
    if meta.kind != Kind::Dir {
        return Err(errno(libc::EINVAL));
    }
    rustix::fs::mkdirat(dir, name, Mode::RWXU)?;
    finish_dir(xattrs, dir, name, meta).inspect_err(|_| {
        // It fails if somebody put something in meanwhile, and then the directory is wanted.
        let _ = rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR);
    })
}

fn finish_dir(
    xattrs: &XattrAccess,
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &Metadata,
) -> io::Result<()> {
    let made: OwnedFd = open::dir(dir, name, false)?;
    metadata::apply(xattrs, Target::Open(made.as_fd()), &stat::of(&made)?, meta)
}
