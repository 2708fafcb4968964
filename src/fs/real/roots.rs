//! Which directory a root is, how two of them lie to each other, and how much room one has.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Statx, StatxFlags, makedev, statx};

/// Tells one directory from every other on this host, until it is removed or its file system is
/// mounted again; mostly even then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootIdentity {
    /// Device of its file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When it was made, in ns since 1970; `None` if its file system does not tell. The file system that
    /// is made next on a device has the device's number again, and the same inode number for its root.
    pub born: Option<i64>,
}

impl RootIdentity {
    pub(super) fn of(dir: impl AsFd) -> io::Result<Self> {
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        Ok(Self::from(&statx(dir, c"", flags, Self::ASKED)?))
    }

    /// What has to be asked for.
    pub(super) const ASKED: StatxFlags = StatxFlags::INO.union(StatxFlags::BTIME);

    /// True if this is the identity of the directory that a stat was taken of, while it exists.
    #[must_use]
    pub fn is_of(&self, dev: u64, ino: u64) -> bool {
        (self.dev, self.ino) == (dev, ino)
    }
}

impl From<&Statx> for RootIdentity {
    fn from(seen: &Statx) -> Self {
        let is_told = StatxFlags::from_bits_retain(seen.stx_mask).contains(StatxFlags::BTIME);
        let born = seen.stx_btime;
        Self {
            dev: makedev(seen.stx_dev_major, seen.stx_dev_minor),
            ino: seen.stx_ino,
            born: is_told
                .then(|| born.tv_sec.checked_mul(1_000_000_000))
                .flatten()
                .and_then(|ns| ns.checked_add(born.tv_nsec.into())),
        }
    }
}

/// Room left on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// Bytes that an ordinary user may still write.
    pub bytes_free: u64,
    /// Entries that may still be made; [`u64::MAX`] on file systems without such a limit.
    pub inodes_free: u64,
}

impl Space {
    pub(super) fn of(root: impl AsFd) -> io::Result<Self> {
        let raw = rustix::fs::fstatvfs(root)?;
        Ok(Self {
            bytes_free: raw.f_bavail.saturating_mul(raw.f_frsize),
            inodes_free: if raw.f_files == 0 {
                u64::MAX
            } else {
                raw.f_favail
            },
        })
    }
}

/// How two directories lie to each other, if one contains the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nesting {
    /// They are the same.
    Same,
    /// The first lies somewhere below the second.
    FirstInSecond,
    /// The second lies somewhere below the first.
    SecondInFirst,
}

/// Whether one of two directories contains the other, by device and inode of all directories above,
/// so that symlinks and bind mounts of a whole root do not hide it. A path that does not exist counts
/// as the place where it would be made.
///
/// A bind mount of a directory *inside* a root is not recognised: nothing above it tells whence it came.
///
/// # Errors
/// Those of looking at a directory on the way, EACCES above all.
pub fn nested(first: &Path, second: &Path) -> io::Result<Option<Nesting>> {
    let (first_exists, firsts) = lineage(first)?;
    let (second_exists, seconds) = lineage(second)?;
    let first_in_second = second_exists && firsts.contains(&seconds[0]);
    let second_in_first = first_exists && seconds.contains(&firsts[0]);
    let same_place = !first_exists
        && !second_exists
        && std::path::absolute(first)? == std::path::absolute(second)?;
    Ok(match (first_in_second, second_in_first) {
        _ if same_place => Some(Nesting::Same),
        (true, true) => Some(Nesting::Same),
        (true, false) => Some(Nesting::FirstInSecond),
        (false, true) => Some(Nesting::SecondInFirst),
        (false, false) => None,
    })
}

/// True if the path exists, and device and inode of its directory (of the nearest one above that exists)
/// and of all above, the nearest first.
fn lineage(path: &Path) -> io::Result<(bool, Vec<(u64, u64)>)> {
    let mut nearest: PathBuf = std::path::absolute(path)?;
    let mut exists = true;
    let real = loop {
        match nearest.canonicalize() {
            Ok(real) => break real,
            Err(error) if error.kind() == io::ErrorKind::NotFound && nearest.pop() => {
                exists = false
            }
            Err(error) => return Err(error),
        }
    };
    let identities = real.ancestors().map(|dir| {
        let metadata = dir.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    });
    Ok((exists, identities.collect::<io::Result<_>>()?))
}
