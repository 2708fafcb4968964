//! What the file system of a target can hold for this process, found out by trying.
//!
//! Documents of file systems and capabilities of processes would tell most of it, but not what mount
//! options, user namespaces, servers and layers in between make of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, XattrFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid, getgroups};

use super::stage::Stage;
use super::target::Target;
use super::{open, stat};
use crate::fs::Stat;
use crate::tree::{
    FixedMode, FixedOwner, GROUPS_MAX, LimitKind, NAME_BYTES_MAX, TargetLimits, Time, TimeRange,
};

/// Tries everything in a directory of its own in the stage, which is gone afterwards.
pub(super) fn probe(stage: &Stage) -> io::Result<TargetLimits> {
    let (staged, ()) = stage.make(|dir, name| rustix::fs::mkdirat(dir, name, Mode::RWXU))?;
    let found = staged.open_dir().and_then(|dir| Probe { dir }.limits());
    staged.discard_tree()?;
    found
}

struct Probe {
    dir: OwnedFd,
}

/// Whether something that was tried can be done. An error says that it cannot be tried now.
fn can<T>(tried: rustix::io::Result<T>) -> io::Result<bool> {
    match tried {
        Ok(_) => Ok(true),
        Err(
            error @ (Errno::NOSPC
            | Errno::DQUOT
            | Errno::IO
            | Errno::ROFS
            | Errno::NOMEM
            | Errno::MFILE
            | Errno::NFILE),
        ) => Err(error.into()),
        Err(_) => Ok(false),
    }
}

impl Probe {
    fn limits(&self) -> io::Result<TargetLimits> {
        let file = self.file("file")?;
        let lacks = [
            (LimitKind::Acls, self.takes_acls(&file)?),
            (
                LimitKind::UserXattrs,
                takes_xattr(&file, "user.osync.probe", b"1")?,
            ),
            (
                LimitKind::TrustedXattrs,
                takes_xattr(&file, "trusted.osync.probe", b"1")?,
            ),
            (
                LimitKind::SecurityXattrs,
                takes_xattr(&file, "security.capability", &NO_CAPABILITIES)?,
            ),
            (
                LimitKind::Devices,
                self.takes_node("device", FileType::CharacterDevice)?,
            ),
            (
                LimitKind::Symlinks,
                can(rustix::fs::symlinkat("target", &self.dir, "symlink"))?,
            ),
            (LimitKind::Pipes, self.takes_node("pipe", FileType::Fifo)?),
            (LimitKind::NonUtf8Names, self.takes_name(b"osync-\xff")?),
            (LimitKind::FoldedNames, self.keeps_names_apart()?),
            (LimitKind::HardLinks, self.takes_links()?),
            (LimitKind::Holes, self.takes_holes()?),
        ];
        let lacks = lacks.into_iter().filter(|(_, can)| !can);
        Ok(TargetLimits {
            owner: self.owner()?,
            mode: self.mode()?,
            time: times(&file)?,
            name_bytes_max: self.longest_name()?,
            lacks: lacks.map(|(kind, _)| kind).collect(),
        })
    }

    fn file(&self, name: &str) -> rustix::io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        rustix::fs::openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR).map(File::from)
    }

    // ---- owner and mode ----------------------------------------------------------------------------

    /// Whom everything belongs to; `None` if that can be chosen.
    fn owner(&self) -> io::Result<Option<FixedOwner>> {
        let file = self.file("owner")?;
        let held = stat::of(&file)?;
        // Any that it does not have already will do.
        let other = |id| if id == 65_534 { 65_533 } else { 65_534 };
        let (uid, gid) = (other(held.uid), other(held.gid));
        // Some file systems take it and do nothing.
        let owned = give(&file, Some(uid), gid)?;
        if (owned.uid, owned.gid) == (uid, gid) {
            return Ok(None);
        }
        let mut groups = vec![held.gid];
        for group in getgroups()?.into_iter().chain([getegid()]) {
            let group = group.as_raw();
            let is_new = groups.len() < GROUPS_MAX && !groups.contains(&group);
            if is_new && give(&file, None, group)?.gid == group {
                groups.push(group);
            }
        }
        Ok(Some(FixedOwner {
            uid: held.uid,
            groups,
        }))
    }

    /// The permission bits of everything; `None` if they can be chosen.
    fn mode(&self) -> io::Result<Option<FixedMode>> {
        let file = self.file("mode")?;
        let fresh = stat::of(&file)?.mode;
        for mode in [0o640, 0o604] {
            let target = Target::Open(file.as_fd());
            // What it answers does not count, what it did does.
            let _ = target.chmod(mode);
            if stat::of(&file)?.mode != mode {
                return Ok(Some(FixedMode {
                    file: fresh,
                    dir: stat::of(&self.dir)?.mode,
                }));
            }
        }
        Ok(None)
    }

    /// An ACL that names somebody; this process, whom every user namespace knows.
    fn takes_acls(&self, file: &File) -> io::Result<bool> {
        const NOBODY: u32 = u32::MAX;
        let me = geteuid().as_raw();
        let entries: [(u16, u16, u32); 5] = [
            (0x01, 6, NOBODY),
            (0x02, 4, me),
            (0x04, 0, NOBODY),
            (0x10, 4, NOBODY),
            (0x20, 0, NOBODY),
        ];
        let mut value = 2u32.to_le_bytes().to_vec();
        for (tag, rights, id) in entries {
            value.extend(tag.to_le_bytes());
            value.extend(rights.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        takes_xattr(file, "system.posix_acl_access", &value)
    }

    // ---- kinds ---------------------------------------------------------------------------------------

    /// As a device the harmless `/dev/null`.
    fn takes_node(&self, name: &str, kind: FileType) -> io::Result<bool> {
        let null = rustix::fs::makedev(1, 3);
        can(rustix::fs::mknodat(&self.dir, name, kind, Mode::RUSR, null))
    }

    fn takes_links(&self) -> io::Result<bool> {
        let flags = AtFlags::empty();
        can(rustix::fs::linkat(
            &self.dir, "file", &self.dir, "link", flags,
        ))
    }

    fn takes_holes(&self) -> io::Result<bool> {
        const HOLE_BYTES: u64 = 1 << 20;
        let file = self.file("hole")?;
        file.write_all_at(b"1", HOLE_BYTES)?;
        Ok(file.metadata()?.blocks() * 512 < HOLE_BYTES / 2)
    }

    // ---- names ---------------------------------------------------------------------------------------

    fn takes_name(&self, name: &[u8]) -> io::Result<bool> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        can(rustix::fs::openat(
            &self.dir,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        ))
    }

    /// The longest name, if it is shorter than elsewhere.
    fn longest_name(&self) -> io::Result<Option<u8>> {
        let takes = |bytes: usize| self.takes_name(&vec![b'n'; bytes]);
        if takes(NAME_BYTES_MAX)? {
            return Ok(None);
        }
        let (mut most, mut too_many) = (1, NAME_BYTES_MAX);
        while too_many - most > 1 {
            let middle = (most + too_many) / 2;
            if takes(middle)? {
                most = middle;
            } else {
                too_many = middle;
            }
        }
        Ok(u8::try_from(most).ok())
    }

    /// False if names that differ in case or in Unicode form are one, or come back changed.
    fn keeps_names_apart(&self) -> io::Result<bool> {
        for (name, other) in [
            ("osync-Case", "osync-cASE"),
            ("osync-\u{e9}", "osync-e\u{301}"),
        ] {
            let name = name.as_bytes();
            if !self.takes_name(name)? {
                continue;
            }
            let is_one = stat::at(&self.dir, other.as_bytes()).is_ok();
            let mut is_kept = false;
            open::list(&self.dir, |held, _| is_kept |= held == name)?;
            if is_one || !is_kept {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A set of capabilities with nothing in it, as the attribute holds it (revision 2).
const NO_CAPABILITIES: [u8; 20] = {
    let mut value = [0; 20];
    value[3] = 2;
    value
};

fn takes_xattr(file: &File, name: &str, value: &[u8]) -> io::Result<bool> {
    can(rustix::fs::fsetxattr(
        file,
        name,
        value,
        XattrFlags::empty(),
    ))
}

/// Gives a file away, and tells what became of it.
fn give(file: &File, uid: Option<u32>, gid: u32) -> io::Result<Stat> {
    // What it answers does not count, what it did does.
    let _ = Target::Open(file.as_fd()).chown(uid, Some(gid));
    stat::of(file)
}

// ---- times -------------------------------------------------------------------------------------------

/// Ends of the ranges of well-known file systems, for those that do not show their own: XFS, ext4, FAT,
/// 32 bits without and with sign.
const LAST_SECS: [i64; 5] = [
    16_299_260_424,
    15_032_385_535,
    4_354_819_198,
    u32::MAX as i64,
    i32::MAX as i64,
];
const FIRST_SECS: [i64; 3] = [i32::MIN as i64, 0, 315_532_800];

fn times(file: &File) -> io::Result<TimeRange> {
    let all = TimeRange::default();
    Ok(TimeRange {
        step_nanos: time_step(file)?,
        first_secs: time_end(file, all.first_secs, &FIRST_SECS)?,
        last_secs: time_end(file, all.last_secs, &LAST_SECS)?,
    })
}

/// The time that a file has after it was given this one; the old one if that was refused.
fn keeps(file: &File, secs: i64, nanos: u32) -> io::Result<Time> {
    let _ = Target::Open(file.as_fd()).set_mtime(Time { secs, nanos });
    Ok(stat::of(file)?.mtime)
}

/// No digit is zero and the second is odd, so the result shows the step.
fn time_step(file: &File) -> io::Result<u64> {
    const SECS: i64 = 1_000_000_001;
    const NANOS: u32 = 123_456_789;
    let held = keeps(file, SECS, NANOS)?;
    let below_a_second = (0..9).map(|digits| 10u32.pow(digits));
    if let Some(step) = below_a_second
        .filter(|_| held.secs == SECS)
        .find(|step| held.nanos == NANOS - NANOS % step)
    {
        return Ok(step.into());
    }
    let secs = if held.secs == SECS { 1 } else { 2 };
    Ok(secs * 1_000_000_000)
}

/// The end of the range of seconds towards `far`, which the kernel shows by putting a time beyond it
/// there.
fn time_end(file: &File, far: i64, well_known: &[i64]) -> io::Result<i64> {
    let shown = keeps(file, far, 0)?.secs;
    for &secs in [far, shown].iter().chain(well_known) {
        // From the middle, so that a refused time shows.
        keeps(file, 1_000_000_000, 0)?;
        if keeps(file, secs, 0)?.secs == secs {
            return Ok(secs);
        }
    }
    Ok(far)
}
