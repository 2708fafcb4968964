//! The kernel's inotify, one instance for a whole root, so that there is one order of events.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{CreateFlags, ReadFlags, WatchFlags, add_watch, init, remove_watch};
use rustix::io::{Errno, ioctl_fionread, read, retry_on_intr};

use super::{Pollable, RawEvent, Watch, Wd, What, beneath};
use crate::error::Error;
use crate::tree::{Name, RelPath};

/// Bytes taken from the kernel with one read(2): some two thousand ordinary events.
const BUFFER_BYTES: usize = 64 * 1024;

/// Bytes of an event without a name: descriptor, mask, cookie and length of the name, 4 bytes each.
const HEADER_BYTES: usize = 16;

/// Bytes that one queued event is taken to have. The kernel pads names to a multiple of 16, so an
/// event with a name has at least 32: the estimated number of events is at least the true one, except
/// for those about a watched directory itself, which have 16 bytes and are rare.
const EVENT_BYTES_ESTIMATE: u64 = 32;

/// Where the kernel keeps the limits of inotify.
const LIMITS_DIR: &str = "/proc/sys/fs/inotify";

/// Where it keeps the limit of watches in this user namespace.
const NAMESPACE_WATCHES: &str = "/proc/sys/user/max_inotify_watches";

/// The shortest queue that an operator is told to ask for, in events.
const QUEUED_EVENTS_MIN: u64 = 65_536;

/// What is watched: everything that changes an entry, and nothing that only reads.
fn mask() -> WatchFlags {
    WatchFlags::CREATE
        | WatchFlags::DELETE
        | WatchFlags::MODIFY
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ATTRIB
        | WatchFlags::MOVED_FROM
        | WatchFlags::MOVED_TO
        | WatchFlags::MOVE_SELF
        | WatchFlags::ONLYDIR
        | WatchFlags::EXCL_UNLINK
}

/// The limits that the kernel sets, as they were when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InotifyLimits {
    /// Events that wait in one instance; the next one is lost and an overflow reported.
    pub max_queued_events: u64,
    /// Watched directories of one user, over all processes.
    pub max_user_watches: u64,
    /// The same within this user namespace, such as a container's; the smaller one counts.
    pub max_namespace_watches: u64,
    /// Instances of one user, over all processes.
    pub max_user_instances: u64,
}

impl InotifyLimits {
    /// Reads the limits that hold now.
    ///
    /// # Errors
    /// If `/proc/sys/fs/inotify` cannot be read.
    pub fn read() -> Result<Self, Error> {
        let max_user_watches = read_limit("max_user_watches")?;
        let of_namespace = read_number(Path::new(NAMESPACE_WATCHES));
        Ok(Self {
            max_queued_events: read_limit("max_queued_events")?,
            max_user_watches,
            // A kernel without user namespaces does not know this one.
            max_namespace_watches: of_namespace.unwrap_or(max_user_watches),
            max_user_instances: read_limit("max_user_instances")?,
        })
    }

    fn watches(&self) -> u64 {
        self.max_user_watches.min(self.max_namespace_watches)
    }

    /// The command that allows `dirs` directories to be watched beside what other programs watch now,
    /// or twice as many as now where the number is not known.
    #[must_use]
    pub fn sysctl_for_watches(&self, dirs: Option<u64>) -> String {
        let limit = self.watches();
        let wanted = limit.saturating_add(dirs.unwrap_or(limit));
        let key = if self.max_namespace_watches < self.max_user_watches {
            "user.max_inotify_watches"
        } else {
            "fs.inotify.max_user_watches"
        };
        format!("sysctl {key}={wanted}")
    }

    /// The command that gives the next instance a queue which does not fill so soon: four times as long,
    /// and longer than the kernel's own default of 16 384 events.
    #[must_use]
    pub fn sysctl_for_events(&self) -> String {
        let wanted = self
            .max_queued_events
            .saturating_mul(4)
            .max(QUEUED_EVENTS_MIN);
        format!("sysctl fs.inotify.max_queued_events={wanted}")
    }

    /// The error for people when [`Watch::bind`] said ENOSPC at this directory.
    #[must_use]
    pub fn watches_exhausted(&self, dir: PathBuf, dirs: Option<u64>) -> Error {
        Error::WatchLimit {
            path: dir,
            limit: self.watches(),
            sysctl: self.sysctl_for_watches(dirs),
        }
    }
}

fn read_limit(name: &str) -> Result<u64, Error> {
    let path = Path::new(LIMITS_DIR).join(name);
    read_number(&path).map_err(|source| Error::io("read the limit", path, source))
}

fn read_number(path: &Path) -> io::Result<u64> {
    let text = std::fs::read_to_string(path)?;
    text.trim().parse().map_err(io::Error::other)
}

/// A [`Watch`] on inotify.
///
/// A directory that is moved within the root keeps its descriptor, and two paths to one inode share
/// one; dropping the value ends all watches.
pub struct Inotify {
    queue: OwnedFd,
    root: OwnedFd,
    max_queued_events: u64,
    buffer: Box<[u8]>,
    /// The part of the buffer that was read from the kernel and not yet handed on.
    start: usize,
    end: usize,
    consumed_bytes: u64,
}

impl Inotify {
    /// Makes an instance for the directories below an open root. Nothing is watched yet.
    ///
    /// # Errors
    /// If the kernel allows no further instance (the hint names the sysctl), or `/proc`, through which
    /// open directories are named to the kernel, is missing.
    pub fn new(root: OwnedFd) -> Result<Self, Error> {
        let limits = InotifyLimits::read()?;
        let descriptors = PathBuf::from("/proc/self/fd");
        std::fs::metadata(&descriptors)
            .map_err(|source| Error::io("find open directories in", descriptors, source))?;
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(|errno| {
            if errno == Errno::MFILE {
                Error::InstanceLimit {
                    limit: limits.max_user_instances,
                }
            } else {
                Error::io(
                    "make an event queue from",
                    PathBuf::from("inotify"),
                    errno.into(),
                )
            }
        })?;
        Ok(Self {
            queue,
            root,
            max_queued_events: limits.max_queued_events.max(1),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            consumed_bytes: 0,
        })
    }

    /// Takes more from the kernel once all that was taken is handed on. False if there is nothing.
    fn refill(&mut self) -> io::Result<bool> {
        match retry_on_intr(|| read(&self.queue, &mut *self.buffer)) {
            Ok(bytes) => {
                self.start = 0;
                self.end = bytes;
                Ok(bytes > 0)
            }
            Err(Errno::AGAIN) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next event in the buffer; `None` if it is empty.
    fn next_buffered(&mut self) -> io::Result<Option<RawEvent>> {
        if self.start == self.end {
            return Ok(None);
        }
        let (event, bytes) = parse(&self.buffer[self.start..self.end])
            .ok_or_else(|| io::Error::other("inotify returned part of an event"))?;
        self.start += bytes;
        self.consumed_bytes += bytes as u64;
        Ok(Some(event))
    }
}

/// The first event in these bytes and how many of them it takes; `None` if it is cut off.
fn parse(bytes: &[u8]) -> Option<(RawEvent, usize)> {
    let word = |at: usize| -> Option<[u8; 4]> { bytes.get(at..at + 4)?.try_into().ok() };
    let wd = i32::from_ne_bytes(word(0)?);
    let flags = ReadFlags::from_bits_retain(u32::from_ne_bytes(word(4)?));
    let cookie = u32::from_ne_bytes(word(8)?);
    let name_bytes = usize::try_from(u32::from_ne_bytes(word(12)?)).ok()?;
    let end = HEADER_BYTES.checked_add(name_bytes)?;
    let padded = bytes.get(HEADER_BYTES..end)?;
    let name = padded.split(|&byte| byte == 0).next().unwrap_or_default();
    let event = RawEvent {
        wd: Wd(wd),
        what: what(flags, cookie),
        is_dir: flags.contains(ReadFlags::ISDIR),
        name: Name::new(name).ok(),
    };
    Some((event, end))
}

/// What these flags say. A flag that is not known yet is a reason to look, as any event is.
fn what(flags: ReadFlags, cookie: u32) -> What {
    let table = [
        (ReadFlags::QUEUE_OVERFLOW, What::Overflow),
        (ReadFlags::IGNORED, What::Ignored),
        (ReadFlags::UNMOUNT, What::Unmounted),
        (ReadFlags::MOVED_FROM, What::MovedFrom(cookie)),
        (ReadFlags::MOVED_TO, What::MovedTo(cookie)),
        (ReadFlags::CREATE, What::Created),
        (ReadFlags::DELETE, What::Deleted),
        (ReadFlags::CLOSE_WRITE, What::Closed),
        (ReadFlags::MODIFY, What::Modified),
        (ReadFlags::MOVE_SELF, What::MoveSelf),
    ];
    table
        .into_iter()
        .find_map(|(flag, what)| flags.contains(flag).then_some(what))
        .unwrap_or(What::Attributes)
}

impl Watch for Inotify {
    fn bind(&mut self, path: &RelPath) -> io::Result<Wd> {
        let dir = beneath::open_dir(&self.root, path)?;
        // The kernel takes paths only; this one leads to exactly the directory that is open. It is a
        // symlink itself, so asking not to follow it would refuse every directory.
        let alias = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        Ok(Wd(add_watch(&self.queue, alias, mask())?))
    }

    fn unbind(&mut self, wd: Wd) {
        // The only failure is a watch that is gone already, which is what was asked for.
        let _ = remove_watch(&self.queue, wd.0);
    }

    fn read(&mut self, events: &mut Vec<RawEvent>, max: usize) -> io::Result<usize> {
        let mut count = 0;
        while count < max {
            match self.next_buffered()? {
                Some(event) => {
                    events.push(event);
                    count += 1;
                }
                None if self.refill()? => {}
                None => break,
            }
        }
        Ok(count)
    }

    fn waiting(&self) -> io::Result<u64> {
        Ok(ioctl_fionread(&self.queue)? + (self.end - self.start) as u64)
    }

    fn consumed(&self) -> u64 {
        self.consumed_bytes
    }

    fn fill(&self, waiting: u64) -> f64 {
        let events = waiting.div_ceil(EVENT_BYTES_ESTIMATE);
        (events as f64 / self.max_queued_events as f64).min(1.0)
    }
}

impl Pollable for Inotify {
    fn ready_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of an event as the kernel writes them.
    fn event(flags: u32, name: &[u8]) -> Vec<u8> {
        let mut bytes = [1u32, flags, 77, name.len() as u32]
            .map(u32::to_ne_bytes)
            .concat();
        bytes.extend_from_slice(name);
        bytes
    }

    #[test]
    fn unknown_flags_are_a_reason_to_look() {
        for flags in [0, 0x0010_0000, !0x0000_ffff] {
            let (found, _) = parse(&event(flags, b"a\0\0\0")).expect("an event");
            assert_eq!(found.what, What::Attributes, "{flags:#x}");
        }
    }

    #[test]
    fn the_limit_that_counts_is_named() {
        let host = InotifyLimits {
            max_queued_events: 16_384,
            max_user_watches: 8192,
            max_namespace_watches: 8192,
            max_user_instances: 128,
        };
        let container = InotifyLimits {
            max_namespace_watches: 100,
            ..host
        };
        for (limits, dirs, sysctl) in [
            (host, None, "sysctl fs.inotify.max_user_watches=16384"),
            (host, Some(500), "sysctl fs.inotify.max_user_watches=8692"),
            (container, None, "sysctl user.max_inotify_watches=200"),
        ] {
            assert_eq!(limits.sysctl_for_watches(dirs), sysctl);
        }
        let error = container.watches_exhausted("/srv".into(), None);
        assert!(error.to_string().contains("all 100 watches"), "{error}");
        let small = InotifyLimits {
            max_queued_events: 64,
            ..host
        };
        for limits in [host, small] {
            let sysctl = limits.sysctl_for_events();
            assert_eq!(sysctl, "sysctl fs.inotify.max_queued_events=65536");
        }
    }

    #[test]
    fn a_name_ends_where_its_padding_begins() {
        let bytes = event(ReadFlags::MOVED_TO.bits(), b"name\0\0\0\0");
        let (found, used) = parse(&bytes).expect("an event");
        assert_eq!(used, bytes.len());
        assert_eq!(found.what, What::MovedTo(77));
        assert_eq!(found.name, Name::new(b"name").ok());
        let (unnamed, used) = parse(&event(ReadFlags::IGNORED.bits(), b"")).expect("an event");
        assert_eq!((unnamed.name, used), (None, HEADER_BYTES));
    }

    #[test]
    fn a_part_of_an_event_is_none() {
        let bytes = event(ReadFlags::CREATE.bits(), b"name");
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), None, "{length}");
        }
    }
}
