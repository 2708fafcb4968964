//! The kernel's table of mounts: what is mounted below a root, and whether that has changed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, StatxAttributes, StatxFlags, makedev, statx};

use super::RootIdentity;

/// The table as the process sees it that opened it.
#[derive(Debug)]
pub struct MountTable {
    table: File,
}

impl MountTable {
    /// Opens the table of this thread, which is that of its process unless it has left it.
    ///
    /// # Errors
    /// Those of opening `/proc/thread-self/mountinfo`, ENOENT without `/proc`.
    pub fn open() -> io::Result<Self> {
        let table = File::open("/proc/thread-self/mountinfo")?;
        Ok(Self { table })
    }

    /// Where something is mounted below `root`, an absolute path without symlinks; sorted, each place
    /// once, however many mounts cover each other there.
    ///
    /// # Errors
    /// Those of reading the table.
    pub fn below(&mut self, root: &Path) -> io::Result<Vec<PathBuf>> {
        let mut text = Vec::new();
        self.table.rewind()?;
        self.table.read_to_end(&mut text)?;
        let mut points: Vec<PathBuf> = points(&text)
            .filter(|point| point != root && point.starts_with(root))
            .collect();
        points.sort_unstable();
        points.dedup();
        Ok(points)
    }

    /// True if something was mounted or unmounted anywhere since this was asked last.
    ///
    /// # Errors
    /// Those of poll(2).
    pub fn has_changed(&self) -> io::Result<bool> {
        let mut asked = [PollFd::new(&self.table, PollFlags::PRI)];
        poll(&mut asked, Some(&Timespec::default()))?;
        Ok(asked[0]
            .revents()
            .intersects(PollFlags::PRI | PollFlags::ERR))
    }
}

/// Which directory is mounted at a path now; `None` if none is, be it that nothing is mounted there or
/// that a file is. It waits for no server and mounts nothing on demand. Needs Linux 5.8.
///
/// # Errors
/// Those of looking at it, ENOENT above all.
pub fn mounted_at(path: &Path) -> io::Result<Option<RootIdentity>> {
    let flags = AtFlags::STATX_DONT_SYNC | AtFlags::NO_AUTOMOUNT | AtFlags::SYMLINK_NOFOLLOW;
    let seen = statx(CWD, path, flags, StatxFlags::TYPE | StatxFlags::INO)?;
    let is_dir = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory;
    let is_mounted = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((is_dir && is_mounted).then(|| RootIdentity {
        dev: makedev(seen.stx_dev_major, seen.stx_dev_minor),
        ino: seen.stx_ino,
    }))
}

/// The fifth field of each line.
fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|&byte| byte == b'\n').filter_map(|line| {
        let field = line.split(|&byte| byte == b' ').nth(4)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

/// The kernel writes spaces and the like in its table of mounts as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', tail @ ..] if byte == b'\\' => {
                bytes.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = tail;
            }
            _ => bytes.push(byte),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::*;

    const TABLE: &[u8] = b"\
22 28 0:21 / /proc rw,nosuid shared:12 - proc proc rw
28 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
31 28 8:2 / /srv/a\\040b rw - xfs /dev/sdb rw
32 31 8:2 /sub /srv/a\\040b/tab\\011line\\012back\\134slash\\043 rw - xfs /dev/sdb rw
33 31 8:3 / /srv/a\\040b/\xff\\377 rw master:3 propagate_from:2 - ext4 /dev/sdc rw
34 31 8:3 / /srv/a\\040b/no\\04octal\\ rw - ext4 /dev/sdc rw
";

    #[test]
    fn every_mount_point_is_read_with_its_escapes() {
        let found: Vec<PathBuf> = points(TABLE).collect();
        let wanted: [&[u8]; 6] = [
            b"/proc",
            b"/",
            b"/srv/a b",
            b"/srv/a b/tab\tline\nback\\slash#",
            b"/srv/a b/\xff\xff",
            b"/srv/a b/no\\04octal\\",
        ];
        let found: Vec<&[u8]> = found
            .iter()
            .map(|path| path.as_os_str().as_bytes())
            .collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn an_escape_is_three_octal_digits_of_one_byte() {
        for (field, bytes) in [
            (&b"\\134040"[..], &b"\\040"[..]),
            (b"\\400", b"\\400"),
            (b"\\08a", b"\\08a"),
            (b"\\\\040", b"\\ "),
            (b"", b""),
        ] {
            assert_eq!(unescape(field), bytes, "{}", field.escape_ascii());
        }
    }
}
