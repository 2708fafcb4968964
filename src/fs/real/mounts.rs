//! The kernel's table of mounts: what is mounted below a root, and whether that has changed.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, FileType, StatxAttributes, StatxFlags, statx};

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
        let text = self.read()?;
        let points = mounts(&text).map(|mount| mount.point);
        let mut points: Vec<PathBuf> = points
            .filter(|point| point != root && point.starts_with(root))
            .collect();
        points.sort_unstable();
        points.dedup();
        Ok(points)
    }

    /// Two of these paths that show directories of one file system of which one lies within the other, so
    /// that they are reached twice: first the outer one. The paths are those of a root, which may lie
    /// anywhere within a mount, and of mounts below it.
    ///
    /// # Errors
    /// Those of reading the table.
    pub fn shown_twice(&mut self, paths: &[&Path]) -> io::Result<Option<(PathBuf, PathBuf)>> {
        let text = self.read()?;
        let all: Vec<Mount> = mounts(&text).collect();
        Ok(shown_twice(&all, paths))
    }

    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut text = Vec::new();
        self.table.rewind()?;
        self.table.read_to_end(&mut text)?;
        Ok(text)
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
    let seen = statx(CWD, path, flags, StatxFlags::TYPE | RootIdentity::ASKED)?;
    let is_dir = FileType::from_raw_mode(seen.stx_mode.into()) == FileType::Directory;
    let is_mounted = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    Ok((is_dir && is_mounted).then(|| RootIdentity::from(&seen)))
}

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    /// Its file system.
    device: Vec<u8>,
    /// The directory of that file system that is mounted.
    shows: PathBuf,
    /// Where.
    point: PathBuf,
}

fn mounts(table: &[u8]) -> impl Iterator<Item = Mount> {
    let path = |field| PathBuf::from(OsString::from_vec(unescape(field)));
    table.split(|&byte| byte == b'\n').filter_map(move |line| {
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        Some(Mount {
            device: fields.next()?.to_owned(),
            shows: path(fields.next()?),
            point: path(fields.next()?),
        })
    })
}

fn shown_twice(all: &[Mount], paths: &[&Path]) -> Option<(PathBuf, PathBuf)> {
    let shown = |path: &&Path| {
        let above = all.iter().filter(|mount| path.starts_with(&mount.point));
        // Of several at one place the last one covers the others.
        let mount = above.max_by_key(|mount| mount.point.components().count())?;
        let below = path.strip_prefix(&mount.point).ok()?;
        Some((&mount.device, mount.shows.join(below), path.to_path_buf()))
    };
    let mut shown: Vec<_> = paths.iter().filter_map(shown).collect();
    // What lies within a directory comes right behind it.
    shown.sort_unstable();
    let mut pairs = shown.iter().zip(shown.iter().skip(1));
    let twice = pairs.find(|(outer, inner)| outer.0 == inner.0 && inner.1.starts_with(&outer.1));
    twice.map(|(outer, inner)| (outer.2.clone(), inner.2.clone()))
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
        let found: Vec<PathBuf> = mounts(TABLE).map(|mount| mount.point).collect();
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
    fn directories_that_are_shown_twice_are_found() {
        let table = b"\
1 0 8:1 / / rw - ext4 a rw
2 1 8:1 /srv/pool/a /srv/pool/again rw - ext4 a rw
3 1 8:1 /srv/poolside /srv/pool/side rw - ext4 a rw
4 1 8:2 / /srv/pool/disk rw - xfs b rw
5 1 8:2 /sub /srv/pool/part rw - xfs b rw
6 1 8:3 /sub /srv/pool/other rw - xfs c rw
7 4 8:4 / /srv/pool/disk rw - xfs d rw
";
        let all: Vec<Mount> = mounts(table).collect();
        let twice = |paths: &[&str]| {
            let paths: Vec<&Path> = paths.iter().map(Path::new).collect();
            let paths = shown_twice(&all, &paths)?;
            let text = |path: PathBuf| path.to_str().map(str::to_owned);
            Some((text(paths.0)?, text(paths.1)?))
        };
        let root = "/srv/pool";
        let apart = ["side", "disk", "part", "other"].map(|name| format!("{root}/{name}"));
        let mut paths: Vec<&str> = apart.iter().map(String::as_str).collect();
        paths.push(root);
        // What is mounted over /srv/pool/disk hides the first file system there.
        assert_eq!(twice(&paths), None);
        paths.push("/srv/pool/again");
        let found = Some((root.into(), "/srv/pool/again".into()));
        assert_eq!(twice(&paths), found);
        assert_eq!(twice(&[root, root]), Some((root.into(), root.into())));
        assert_eq!(twice(&[]), None);
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
