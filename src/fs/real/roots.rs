//! Which directory a root is, how two of them lie to each other, and how much room one has.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::stat;

/// Tells one directory from every other on this host, until it is removed or its file system is
/// mounted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootIdentity {
    /// Device of its file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
}

impl RootIdentity {
    pub(super) fn of(dir: impl AsFd) -> io::Result<Self> {
        let stat = stat::of(dir)?;
        Ok(Self {
            dev: stat.dev,
            ino: stat.ino,
        })
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

/// True if the path exists, and the identities of its directory (of the nearest one above that exists)
/// and of all above, the nearest first.
fn lineage(path: &Path) -> io::Result<(bool, Vec<RootIdentity>)> {
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
        Ok(RootIdentity {
            dev: metadata.dev(),
            ino: metadata.ino(),
        })
    });
    Ok((exists, identities.collect::<io::Result<_>>()?))
}
