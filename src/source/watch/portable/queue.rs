//! The bounded queue between notify's thread and the reader.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{
    AccessKind, AccessMode, CreateKind, EventKind, MetadataKind, ModifyKind, RemoveKind, RenameMode,
};
use rustix::event::{EventfdFlags, eventfd};

/// Most events that wait for the reader. One more is an overflow: what follows is dropped until the
/// reader has read that.
pub const QUEUE_EVENTS_MAX: usize = 16_384;

/// How long a marker may take before it counts as lost in an overflow and is repeated.
const MARKER_REPEAT: Duration = Duration::from_millis(100);

/// How long notify's thread may take to hand over what the system has reported.
const MARKER_TIMEOUT: Duration = Duration::from_secs(30);

/// What notify said, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Events were lost, by the system or for lack of room here.
    Lost,
    /// Something happened to this path.
    Of {
        /// What.
        subject: Subject,
        /// Absolute path.
        path: PathBuf,
        /// True if notify knows that it is or was a directory.
        is_dir: bool,
    },
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    Created,
    Modified,
    Closed,
    /// Also whatever is unclear: a look heals all.
    Attributes,
    Removed,
    MovedFrom(u32),
    MovedTo(u32),
    /// The watched directory itself went elsewhere.
    MovedItself,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Said>,
    /// True from the overflow until the reader has taken notice of it.
    overflowing: bool,
    marker: Option<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    marker_seen: Condvar,
    /// Readable while something waits.
    ready: OwnedFd,
}

impl Queue {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            state: Mutex::default(),
            marker_seen: Condvar::new(),
            ready: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can leave the state half changed, so a panic elsewhere spoils nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn ready_fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Makes [`Queue::ready_fd`] readable.
    pub(super) fn wake(&self) {
        // A counter that is full is readable, which is all that is wanted.
        let _ = rustix::io::write(&self.ready, &1u64.to_ne_bytes());
    }

    /// The oldest entry; with none left, [`Queue::ready_fd`] is no longer readable.
    pub(super) fn take(&self) -> Option<Said> {
        let mut state = self.lock();
        let said = state.waiting.pop_front();
        match said {
            Some(Said::Lost) => state.overflowing = false,
            Some(Said::Of { .. }) => {}
            None => {
                // It fails where nothing had made it readable.
                let _ = rustix::io::read(&self.ready, &mut [0; 8]);
            }
        }
        said
    }

    /// Takes an event from notify's thread, never waiting for the reader.
    pub(super) fn accept(&self, event: notify::Result<notify::Event>) {
        let mut state = self.lock();
        match event {
            Ok(event) if !event.need_rescan() => {
                if event.kind == EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any))
                    && event.paths.first() == state.marker.as_ref()
                {
                    state.marker = None;
                    self.marker_seen.notify_all();
                    return;
                }
                interpret(event, &mut |said| push(&mut state, said));
            }
            // After an error nobody knows what was not reported.
            _ => push(&mut state, Said::Lost),
        }
        if !state.waiting.is_empty() {
            self.wake();
        }
    }

    /// Sets the marker, a change of this path's metadata, again and again until it has come through.
    ///
    /// # Errors
    /// TimedOut if it does not come, or what setting it says.
    pub(super) fn await_marker(
        &self,
        path: &Path,
        mut set: impl FnMut() -> io::Result<()>,
    ) -> io::Result<()> {
        self.lock().marker = Some(path.to_owned());
        let deadline = Instant::now() + MARKER_TIMEOUT;
        loop {
            set()?;
            let (state, _) = self
                .marker_seen
                .wait_timeout_while(self.lock(), MARKER_REPEAT, |state| state.marker.is_some())
                .unwrap_or_else(PoisonError::into_inner);
            if state.marker.is_none() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the watcher's thread does not hand over its events",
                ));
            }
        }
    }
}

/// Appends one entry, within the limit.
fn push(state: &mut State, said: Said) {
    if state.overflowing {
        return;
    }
    let full = state.waiting.len() >= QUEUE_EVENTS_MAX;
    state.overflowing = full || said == Said::Lost;
    state
        .waiting
        .push_back(if full { Said::Lost } else { said });
}

/// What an event of notify means, as nothing, one or several entries.
fn interpret(event: notify::Event, push: &mut dyn FnMut(Said)) {
    // The kernel's cookies have 32 bits; notify keeps them in a usize.
    let cookie = event.tracker().map(|tracker| tracker as u32);
    let (subject, is_dir) = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Subject::Closed, false),
        // Opened, read, closed after reading: nothing changed.
        EventKind::Access(_) => return,
        EventKind::Create(kind) => (Subject::Created, kind == CreateKind::Folder),
        EventKind::Remove(kind) => (Subject::Removed, kind == RemoveKind::Folder),
        EventKind::Modify(ModifyKind::Data(_)) => (Subject::Modified, false),
        EventKind::Modify(ModifyKind::Name(mode)) => match (mode, cookie) {
            (RenameMode::From, Some(cookie)) => (Subject::MovedFrom(cookie), false),
            (RenameMode::To, Some(cookie)) => (Subject::MovedTo(cookie), false),
            // Both halves have been said on their own before.
            (RenameMode::Both, Some(_)) => return,
            (RenameMode::From, None) => (Subject::MovedItself, false),
            _ => (Subject::Attributes, false),
        },
        _ => (Subject::Attributes, false),
    };
    for path in event.paths {
        push(Said::Of {
            subject,
            path,
            is_dir,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(name: &str) -> notify::Result<notify::Event> {
        Ok(notify::Event::new(EventKind::Create(CreateKind::File)).add_path(PathBuf::from(name)))
    }

    #[test]
    fn is_bounded_and_says_once_that_it_overflowed() {
        let queue = Queue::new().expect("a queue");
        for _ in 0..2 * QUEUE_EVENTS_MAX {
            queue.accept(created("/a"));
        }
        assert_eq!(queue.len(), QUEUE_EVENTS_MAX + 1);
        for _ in 0..QUEUE_EVENTS_MAX {
            assert_ne!(queue.take(), Some(Said::Lost));
        }
        assert_eq!(queue.take(), Some(Said::Lost));
        queue.accept(created("/b"));
        assert_ne!(queue.take(), Some(Said::Lost));
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn an_error_is_a_loss() {
        let queue = Queue::new().expect("a queue");
        queue.accept(Err(notify::Error::generic("broken")));
        assert_eq!(queue.take(), Some(Said::Lost));
    }

    #[test]
    fn what_is_unclear_is_a_reason_to_look() {
        for (kind, subjects) in [
            (EventKind::Any, vec![Subject::Attributes]),
            (
                EventKind::Modify(ModifyKind::Name(RenameMode::Any)),
                vec![Subject::Attributes],
            ),
            (EventKind::Access(AccessKind::Read), vec![]),
        ] {
            let mut found = Vec::new();
            interpret(
                notify::Event::new(kind).add_path("/a".into()),
                &mut |said| {
                    if let Said::Of { subject, .. } = said {
                        found.push(subject);
                    }
                },
            );
            assert_eq!(found, subjects, "{kind:?}");
        }
    }
}
