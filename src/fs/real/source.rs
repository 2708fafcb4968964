//! The root of a source, through which nothing can be changed.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::CapabilitySet;

use super::{MountTable, errno, open};

/// How often a clone is made again because something was mounted or unmounted meanwhile.
const CLONE_TRIES_MAX: u32 = 8;

/// How a source is read, and what that means for its users.
#[derive(Debug)]
pub struct SourceNotes {
    /// Through what it is read.
    pub reading: Reading,
    /// Whose access times reading changes.
    pub access_times: AccessTimes,
    /// Mounts below the root at the start. Unless they are entered, the directories that they cover are
    /// seen through a private clone; otherwise entering them fails with EXDEV.
    pub mounts_below: Vec<PathBuf>,
    /// True if the kernel shows this process attributes in `trusted.`.
    pub sees_trusted: bool,
}

/// Through what a source is read.
#[derive(Debug)]
pub enum Reading {
    /// A clone of the root's mount that no other process sees: read-only, without access times, and
    /// without devices. It keeps the file system busy.
    PrivateClone,
    /// The root itself, because the clone was refused with this error (EPERM without root's rights).
    Root(io::Error),
}

/// Whose access times reading changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessTimes {
    /// Nobody's.
    Kept,
    /// Those of symlinks.
    SymlinksChange,
    /// Those of symlinks, and of files and directories that belong to others than this user.
    SymlinksAndForeignChange {
        /// The user whose own files and directories keep theirs.
        uid: u32,
    },
}

impl fmt::Display for AccessTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept => write!(f, "access times are kept"),
            Self::SymlinksChange => write!(f, "access times of symlinks change"),
            Self::SymlinksAndForeignChange { uid } => write!(
                f,
                "access times of symlinks change, and of all files and directories not owned by \
                 user {uid}; run as root to keep them"
            ),
        }
    }
}

/// Opens the root of a source.
pub(super) fn open(path: &Path) -> io::Result<(OwnedFd, SourceNotes)> {
    let plain = open::root(path)?;
    let mounts_below = MountTable::open()?.below(&path.canonicalize()?)?;
    let (root, reading, access_times) = match clone(&plain, Extent::OneMount) {
        Ok(clone) => (clone, Reading::PrivateClone, AccessTimes::Kept),
        Err(refused) => {
            let access_times = access_times_of(&plain)?;
            (plain, Reading::Root(refused), access_times)
        }
    };
    Ok((
        root,
        SourceNotes {
            reading,
            access_times,
            mounts_below,
            sees_trusted: sees_trusted(),
        },
    ))
}

/// Opens the root of a source together with what is mounted below it, which only a private clone does
/// safely: through it nobody sees a mount come or go.
pub(super) fn open_with_mounts(path: &Path) -> io::Result<(OwnedFd, SourceNotes)> {
    let plain = open::root(path)?;
    let real = path.canonicalize()?;
    let mut table = MountTable::open()?;
    for _ in 0..CLONE_TRIES_MAX {
        let mounts_below = table.below(&real)?;
        let root = clone(&plain, Extent::AllBelow)?;
        if table.below(&real)? == mounts_below {
            let notes = SourceNotes {
                reading: Reading::PrivateClone,
                access_times: AccessTimes::Kept,
                mounts_below,
                sees_trusted: sees_trusted(),
            };
            return Ok((root, notes));
        }
    }
    Err(errno(libc::EAGAIN))
}

/// What a clone holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    /// The mount alone: whoever unmounts one below must not find it busy because of us.
    OneMount,
    /// All that is mounted below as well, but for mounts that are marked as not to be cloned.
    AllBelow,
}

/// A private clone of the mount at a directory. Whoever mounts something later changes nothing for us.
fn clone(dir: &OwnedFd, extent: Extent) -> io::Result<OwnedFd> {
    const AT_EMPTY_PATH: OpenTreeFlags = OpenTreeFlags::AT_EMPTY_PATH;
    let mut flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;
    flags.set(OpenTreeFlags::AT_RECURSIVE, extent == Extent::AllBelow);
    let clone = open_tree(dir, "", flags)?;
    set_read_only(&clone)?;
    Ok(clone)
}

/// mount_setattr(2), of all mounts in a clone: no writes, no access times, no devices (which to open may
/// have effects), and no mounts that appear because they appear elsewhere.
fn set_read_only(mount: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_NODEV,
        attr_clr: libc::MOUNT_ATTR__ATIME,
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: the path is a NUL-terminated constant, the structure outlives the call, and its true size
    // is passed.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if set == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// What O_NOATIME, which only owners and root may use, and the mount leave to change.
fn access_times_of(root: impl AsFd) -> io::Result<AccessTimes> {
    let kept = StatVfsMountFlags::RDONLY | StatVfsMountFlags::NOATIME;
    let uid = rustix::process::geteuid();
    Ok(if rustix::fs::fstatvfs(root)?.f_flag.intersects(kept) {
        AccessTimes::Kept
    } else if uid.is_root() {
        AccessTimes::SymlinksChange
    } else {
        AccessTimes::SymlinksAndForeignChange { uid: uid.as_raw() }
    })
}

/// Lists of attributes leave out `trusted.` without this capability.
fn sees_trusted() -> bool {
    // A kernel that does not tell shows no more than to any user.
    rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}
