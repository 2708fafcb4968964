//! Giving an inode its metadata: owner, then mode, then extended attributes, then times.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use super::roots::Space;
use super::target::Target;
use super::xattrs::XattrAccess;
use super::{errno, open};
use crate::fs::Stat;
use crate::tree::{Kind, Metadata, XATTRS_BYTES_MAX};

/// Set-user-id and set-group-id, which a change of owner takes away from files.
const SET_ID_BITS: u32 = 0o6000;

/// Makes an inode that now is as `held` have the metadata `meta`. Nothing is set that holds already.
pub(super) fn apply(
    xattrs: &XattrAccess,
    target: Target<'_>,
    held: &Stat,
    meta: &Metadata,
) -> io::Result<()> {
    let uid = (held.uid != meta.uid).then_some(meta.uid);
    let gid = (held.gid != meta.gid).then_some(meta.gid);
    let new_owner = uid.is_some() || gid.is_some();
    if new_owner {
        target.chown(uid, gid)?;
    }
    let stale_mode = held.mode != meta.mode || (new_owner && meta.mode & SET_ID_BITS != 0);
    if stale_mode && held.kind != Kind::Symlink {
        target.chmod(meta.mode)?;
    }
    // Read only now: a new owner loses capabilities, and a new mode changes the ACL.
    xattrs
        .replace(target, &meta.xattrs)
        .map_err(|error| no_room(target, error))?;
    if held.mtime != meta.mtime {
        target.set_mtime(meta.mtime)?;
    }
    Ok(())
}

/// File systems answer ENOSPC also where an inode has no room for its attributes. That does not pass as
/// a full disk does, so it is told apart: E2BIG.
fn no_room(target: Target<'_>, error: io::Error) -> io::Error {
    /// What a set of attributes needs on a file system that has room.
    const BYTES: u64 = XATTRS_BYTES_MAX as u64;
    let has_room = |space: Space| space.bytes_free > BYTES && space.inodes_free > 0;
    if error.raw_os_error() == Some(libc::ENOSPC) && Space::of(target.near()).is_ok_and(has_room) {
        return errno(libc::E2BIG);
    }
    error
}

/// Sets the metadata of a file that must hold the content of `meta` already, under at most `links`
/// names.
///
/// Without root's rights the file has to be readable, as it is opened for this.
pub(super) fn apply_in_place(
    xattrs: &XattrAccess,
    dir: BorrowedFd<'_>,
    name: &[u8],
    meta: &Metadata,
    links: u64,
) -> io::Result<()> {
    let (file, held) = open::file(dir, name, false)?;
    if held.size != meta.size || held.mtime != meta.mtime {
        return Err(errno(libc::ESTALE));
    }
    let target = Target::Open(file.as_fd());
    if held.nlink > links {
        let same = held.metadata(xattrs.read(target)?) == *meta;
        return if same {
            Ok(())
        } else {
            Err(errno(libc::EMLINK))
        };
    }
    apply(xattrs, target, &held, meta)
}
