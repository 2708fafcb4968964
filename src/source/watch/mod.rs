//! FileEvents: raw events of the file system, behind the [`Watch`] trait.
//!
//! A backend reports what the kernel said about one watched directory, in the kernel's order, and does
//! not interpret it: which path a descriptor means is known to [`crate::engine::bindings`] alone.

mod beneath;
pub mod inotify;
pub mod portable;

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use crate::config::WatchBackend;
use crate::error::Error;
use crate::tree::{Name, RelPath};

/// Names one watched directory, as inotify's watch descriptor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wd(pub i32);

/// One event, as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEvent {
    /// The watched directory.
    pub wd: Wd,
    /// What happened.
    pub what: What,
    /// True if the event's subject is a directory.
    pub is_dir: bool,
    /// The entry in the directory; `None` if the event is about the directory itself.
    pub name: Option<Name>,
}

/// What an event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// A name was made.
    Created,
    /// Content was written.
    Modified,
    /// A file that was open for writing was closed.
    Closed,
    /// Metadata changed.
    Attributes,
    /// A name was removed.
    Deleted,
    /// The name went elsewhere; the cookie joins it to its other half.
    MovedFrom(u32),
    /// The name came from elsewhere.
    MovedTo(u32),
    /// The watched directory itself went elsewhere.
    MoveSelf,
    /// The watch is gone and its descriptor free.
    Ignored,
    /// The file system below the watch was unmounted.
    Unmounted,
    /// Events were lost.
    Overflow,
}

/// A source of events for directories below one root, with one order.
pub trait Watch: Send {
    /// Watches the directory at `path`, or confirms the watch it has. The descriptor returned is the
    /// truth about which inode is there now.
    ///
    /// # Errors
    /// ENOSPC when the limit of watches is reached, ENOENT or ENOTDIR when there is no directory.
    fn bind(&mut self, path: &RelPath) -> io::Result<Wd>;
    /// Ends a watch; its `Ignored` event follows. A descriptor that is gone already is no error.
    fn unbind(&mut self, wd: Wd);
    /// Appends the events that are there, at most `max`, without waiting. Returns how many.
    ///
    /// # Errors
    /// The queue itself failed, which ends the source.
    fn read(&mut self, events: &mut Vec<RawEvent>, max: usize) -> io::Result<usize>;
    /// Bytes (or, where the backend has none, events) that wait to be read now. Whoever has read as
    /// many more has read everything that was there at the question.
    fn waiting(&self) -> io::Result<u64>;
    /// How many units of [`Watch::waiting`] have been read since the start.
    fn consumed(&self) -> u64;
    /// Estimated share of the queue's limit that `waiting` units fill, 0.0 to 1.0.
    fn fill(&self, waiting: u64) -> f64;
}

/// A [`Watch`] whose events arrive from outside, so that a daemon can sleep until there are some.
pub trait Pollable: Watch {
    /// Readable when events may be there. Before waiting for it, read until [`Watch::read`] returns
    /// fewer than asked for: events that the backend holds already do not make it readable again.
    fn ready_fd(&self) -> BorrowedFd<'_>;
}

/// The chosen backend for the directories below an open root, whose path must be absolute and without
/// symlinks.
///
/// # Errors
/// If the system allows no further event queue.
pub fn open(
    backend: WatchBackend,
    root: OwnedFd,
    root_path: &Path,
) -> Result<Box<dyn Pollable>, Error> {
    Ok(match backend {
        WatchBackend::Inotify => Box::new(inotify::Inotify::new(root)?),
        WatchBackend::Notify => Box::new(portable::Portable::new(root, root_path)?),
    })
}

#[cfg(test)]
mod conformance;
