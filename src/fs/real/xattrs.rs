//! Extended attributes, ACLs and capabilities among them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::Errno;
use serde_bytes::ByteBuf;

use super::errno;
use super::target::Target;
use crate::tree::{LimitKind, XATTRS_BYTES_MAX, Xattrs};

/// Most bytes that Linux returns for one value and for one list of names.
const KERNEL_BYTES_MAX: usize = 64 * 1024;

/// What is neither reported nor set nor removed.
const NOT_OF_THE_TREE: [&[u8]; 3] = [
    // Belongs to the security policy of each host. Where the policy is active no file can be without it,
    // and it may refuse foreign labels.
    b"security.selinux",
    // ACLs once more, as XFS shows them to root: who removes these removes the ACLs.
    b"trusted.SGI_ACL_FILE",
    b"trusted.SGI_ACL_DEFAULT",
];

/// What is known about the extended attributes of one file system.
#[derive(Debug)]
pub(super) struct XattrAccess {
    /// Set once the file system said that it has none. The root's mount is never left, so one answer
    /// holds for all.
    unsupported: AtomicBool,
    /// Beginnings of names that are neither reported nor set nor removed, because they cannot be set.
    left_out: Vec<&'static [u8]>,
}

impl XattrAccess {
    /// For reading: all that the kernel shows.
    pub(super) fn to_read() -> Self {
        Self {
            unsupported: AtomicBool::new(false),
            left_out: Vec::new(),
        }
    }

    /// For setting: all namespaces as root, else `user.` and ACLs, until more is known.
    pub(super) fn to_set() -> Self {
        let mut access = Self::to_read();
        if !rustix::process::geteuid().is_root() {
            access.leave_out(&[LimitKind::TrustedXattrs, LimitKind::SecurityXattrs]);
        }
        access
    }

    /// Leaves out what the file system or the kernel does not let this process set.
    pub(super) fn leave_out(&mut self, lacks: &[LimitKind]) {
        self.left_out = lacks
            .iter()
            .filter_map(|kind| kind.xattr_prefix())
            .collect();
    }

    /// All replicated attributes, sorted; empty where the file system has none. E2BIG above
    /// [`XATTRS_BYTES_MAX`].
    pub(super) fn read(&self, target: Target<'_>) -> io::Result<Xattrs> {
        let mut found = Xattrs::new();
        let mut bytes = 0;
        for name in self.names(target)? {
            // Removed since the list was made: then it was simply not there.
            let Some(value) = value(target, &name)? else {
                continue;
            };
            bytes += name.len() + value.len();
            if bytes > XATTRS_BYTES_MAX {
                return Err(errno(libc::E2BIG));
            }
            found.push((ByteBuf::from(name), ByteBuf::from(value)));
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Makes the replicated attributes exactly these, by as few calls as that takes.
    pub(super) fn replace(&self, target: Target<'_>, wanted: &Xattrs) -> io::Result<()> {
        let held = self.names(target)?;
        // Removals first: many file systems have room for a few kilobytes only.
        for name in held
            .iter()
            .filter(|held| !wanted.iter().any(|(name, _)| name == *held))
        {
            match target.remove_xattr(name) {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for (name, value) in wanted
            .iter()
            .filter(|(name, _)| !NOT_OF_THE_TREE.contains(&name.as_slice()))
        {
            let is_held = held.iter().any(|held| name == held);
            if !(is_held && holds(target, name, value)) {
                target.set_xattr(name, value)?;
            }
        }
        Ok(())
    }

    fn names(&self, target: Target<'_>) -> io::Result<Vec<Vec<u8>>> {
        if self.unsupported.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let list = match fill::<1024>(|buffer| target.list_xattrs(buffer)) {
            Err(Errno::OPNOTSUPP) => {
                self.unsupported.store(true, Ordering::Relaxed);
                return Ok(Vec::new());
            }
            list => list?,
        };
        let names = list
            .split(|&byte| byte == 0)
            .filter(|name| self.is_replicated(name));
        Ok(names.map(<[u8]>::to_vec).collect())
    }

    fn is_replicated(&self, name: &[u8]) -> bool {
        !name.is_empty()
            && !NOT_OF_THE_TREE.contains(&name)
            && !self.left_out.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// The value of an attribute; `None` if it is gone.
fn value(target: Target<'_>, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    match fill::<256>(|buffer| target.get_xattr(name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// True if the attribute has this value. A failure counts as "no": the set that follows reports it.
fn holds(target: Target<'_>, name: &[u8], value: &[u8]) -> bool {
    // One byte more, so that a longer value shows and the buffer is never empty.
    let mut buffer = vec![0; value.len() + 1];
    target
        .get_xattr(name, &mut buffer)
        .is_ok_and(|length| buffer[..length] == *value)
}

/// What `read` puts into a small buffer of `SMALL` bytes, or if it says ERANGE, into one that is as
/// large as the kernel allows, so that no third try is needed. The kernel allocates as much as it is
/// offered, which makes large buffers slow.
fn fill<const SMALL: usize>(
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    let mut small = [0; SMALL];
    match read(&mut small) {
        Err(Errno::RANGE) => {}
        length => return Ok(small[..length?].to_vec()),
    }
    let mut large = vec![0; KERNEL_BYTES_MAX];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(large)
}
