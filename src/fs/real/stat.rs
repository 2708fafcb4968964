//! What the kernel tells about an inode, in the terms of the tree.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType};

use super::{errno, open};
use crate::fs::Stat;
use crate::tree::{Kind, Time};

/// Bytes in the unit in which the kernel tells what is allocated, whatever the file system's block is.
const STAT_BLOCK_BYTES: u64 = 512;

/// Stat of an open inode.
pub(super) fn of(fd: impl AsFd) -> io::Result<Stat> {
    convert(&rustix::fs::fstat(fd)?)
}

/// Stat of a name, never following it.
pub(super) fn at(dir: impl AsFd, name: &[u8]) -> io::Result<Stat> {
    convert(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Names of a directory without others below it: its own, and the `.` in it.
const LEAF_NAMES: u64 = 2;

/// File systems that count the `..` of each directory below as a name of the one above, by their magic
/// numbers: ext2 to ext4, XFS and tmpfs (statfs(2)). Others, such as btrfs, have no such count.
const COUNTING: [u64; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// False if no directory lies in this one, as far as the count of its names tells.
#[allow(clippy::unnecessary_cast)]
pub(super) fn may_hold_dirs(dir: impl AsFd) -> io::Result<bool> {
    if rustix::fs::fstat(&dir)?.st_nlink as u64 != LEAF_NAMES {
        return Ok(true);
    }
    let file_system = rustix::fs::fstatfs(dir)?.f_type as u64;
    Ok(!COUNTING.contains(&file_system))
}

/// The width of some fields differs between architectures.
#[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
fn convert(raw: &rustix::fs::Stat) -> io::Result<Stat> {
    let kind =
        open::kind_of(FileType::from_raw_mode(raw.st_mode)).ok_or_else(|| errno(libc::EINVAL))?;
    let has_size = matches!(kind, Kind::File | Kind::Symlink);
    let is_device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Ok(Stat {
        kind,
        mode: raw.st_mode & 0o7777,
        uid: raw.st_uid,
        gid: raw.st_gid,
        size: if has_size { raw.st_size as u64 } else { 0 },
        mtime: Time {
            secs: raw.st_mtime as i64,
            nanos: raw.st_mtime_nsec as u32,
        },
        ctime: Time {
            secs: raw.st_ctime as i64,
            nanos: raw.st_ctime_nsec as u32,
        },
        rdev: if is_device { raw.st_rdev as u64 } else { 0 },
        dev: raw.st_dev as u64,
        ino: raw.st_ino as u64,
        nlink: raw.st_nlink as u64,
        allocated: if kind == Kind::File {
            raw.st_blocks as u64 * STAT_BLOCK_BYTES
        } else {
            0
        },
    })
}
