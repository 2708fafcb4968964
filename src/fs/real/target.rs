//! An inode whose metadata is read or set: held open, or a name that cannot be opened.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags};
use rustix::io::Errno;

use super::errno;
use crate::tree::Time;

/// Where an inode is found. A symlink, device, pipe or socket has to be reached by name, since opening
/// it is impossible or has effects; the name is never followed, except by [`Target::chmod`].
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    /// By a descriptor of it.
    Open(BorrowedFd<'a>),
    /// By its name in a directory.
    Name(BorrowedFd<'a>, &'a [u8]),
}

impl Target<'_> {
    /// Something open on the same file system.
    pub(super) fn near(&self) -> BorrowedFd<'_> {
        match self {
            Self::Open(fd) | Self::Name(fd, _) => *fd,
        }
    }

    /// Sets owner and group; `None` leaves one as it is.
    pub(super) fn chown(self, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
        // The highest number means "leave as it is" to the kernel and belongs to nobody.
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(errno(libc::EINVAL));
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid)?,
            Self::Name(dir, name) => {
                rustix::fs::chownat(dir, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Sets the permission bits. By name this follows symlinks, as there is no call that does not
    /// before Linux 6.6: only for names in the stage that are no symlinks.
    pub(super) fn chmod(self, mode: u32) -> io::Result<()> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, mode)?,
            Self::Name(dir, name) => rustix::fs::chmodat(dir, name, mode, AtFlags::empty())?,
        }
        Ok(())
    }

    /// Sets the time of the last change of content and leaves the access time.
    pub(super) fn set_mtime(self, mtime: Time) -> io::Result<()> {
        // Larger numbers have special meanings to the kernel, such as "now".
        if mtime.nanos >= 1_000_000_000 {
            return Err(errno(libc::EINVAL));
        }
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.secs,
                tv_nsec: mtime.nanos.into(),
            },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times)?,
            Self::Name(dir, name) => {
                rustix::fs::utimensat(dir, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }

    /// Fills `buffer` with the names of the extended attributes, each with a NUL behind it.
    pub(super) fn list_xattrs(self, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Self::Name(dir, name) => match list_xattrs_at(dir, name, buffer) {
                None => rustix::fs::llistxattr(proc_path(dir, name), buffer),
                Some(result) => result,
            },
        }
    }

    /// Fills `buffer`, which must not be empty, with the value of one extended attribute.
    pub(super) fn get_xattr(self, attr: &[u8], buffer: &mut [u8]) -> rustix::io::Result<usize> {
        match self {
            Self::Open(fd) => rustix::fs::fgetxattr(fd, attr, buffer),
            Self::Name(dir, name) => rustix::fs::lgetxattr(proc_path(dir, name), attr, buffer),
        }
    }

    /// Makes or replaces one extended attribute.
    pub(super) fn set_xattr(self, attr: &[u8], value: &[u8]) -> rustix::io::Result<()> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, attr, value, flags),
            Self::Name(dir, name) => {
                rustix::fs::lsetxattr(proc_path(dir, name), attr, value, flags)
            }
        }
    }

    /// Removes one extended attribute.
    pub(super) fn remove_xattr(self, attr: &[u8]) -> rustix::io::Result<()> {
        match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, attr),
            Self::Name(dir, name) => rustix::fs::lremovexattr(proc_path(dir, name), attr),
        }
    }
}

/// A path that leads to a name through an open directory, for calls that know no descriptors. It
/// costs about 1 us more than a look-up by descriptor.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

/// listxattrat(2): the one call for extended attributes that a walk makes for every name, so it is
/// worth being spared the way through /proc. `None` if the kernel lacks it (before Linux 6.13).
fn list_xattrs_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    buffer: &mut [u8],
) -> Option<rustix::io::Result<usize>> {
    static MISSING: AtomicBool = AtomicBool::new(false);
    // All architectures number new calls alike, counted from the first ones that they share.
    const SYS_LISTXATTRAT: libc::c_long = libc::SYS_open_tree + 37;

    if MISSING.load(Ordering::Relaxed) {
        return None;
    }
    let mut path = [0u8; crate::tree::NAME_BYTES_MAX + 1];
    path.get_mut(..name.len())?.copy_from_slice(name);
    // SAFETY: the path is ended by at least one NUL, and the kernel writes at most the length of the
    // buffer into it.
    let listed = unsafe {
        libc::syscall(
            SYS_LISTXATTRAT,
            dir.as_raw_fd(),
            path.as_ptr(),
            libc::AT_SYMLINK_NOFOLLOW,
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    };
    match usize::try_from(listed) {
        Ok(bytes) => Some(Ok(bytes)),
        Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
            // Some containers refuse calls that they do not know with EPERM, which this one never
            // answers itself.
            Some(Errno::NOSYS | Errno::PERM) | None => {
                MISSING.store(true, Ordering::Relaxed);
                None
            }
            Some(error) => Some(Err(error)),
        },
    }
}
