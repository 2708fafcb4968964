//! What the source engine asks of its readers, and what they find.

use std::sync::Arc;

use bytes::Bytes;

use super::walk::Suspicion;
use crate::tree::{Body, Kind, LimitCounts, ListEntry, Metadata, Name, RelPath, State, Time, View};

/// Files up to this size travel whole, in a message with others; larger ones are streamed. In bytes.
pub const INLINE_BYTES_MAX: u64 = 128 * 1024;

/// Content that one look may bring back, in bytes. One file may be as large as this.
pub const LOOK_BYTES_MAX: u64 = 192 * 1024;

/// Names, attributes and fixed parts that one look may bring back, in bytes, before it stops; the
/// entry that crosses it is still taken.
pub const LOOK_HEADER_BYTES_MAX: u64 = 64 * 1024;

/// One piece of work for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Look at names in one directory.
    Look {
        /// The directory.
        dir: RelPath,
        /// The names, sorted.
        names: Vec<LookName>,
        /// False while the sink is full: content is left out, everything else is looked at.
        content: bool,
    },
    /// Read the metadata of a directory.
    LookDir {
        /// The directory.
        dir: RelPath,
    },
    /// See whether a rename holds: `from` absent, `to` what was renamed.
    CheckRename {
        /// The old path.
        from: RelPath,
        /// The new path.
        to: RelPath,
    },
    /// List a page of a directory.
    List {
        /// The directory.
        dir: RelPath,
        /// Names after this one.
        after: Option<Name>,
        /// At most so many.
        names_max: usize,
        /// False if names alone are wanted.
        compare: bool,
        /// Files to be named as suspects.
        suspicion: Option<Suspicion>,
        /// How entries look where they are compared.
        view: Arc<View>,
    },
    /// Read a piece of a large file.
    ReadChunk {
        /// The stream, as opened by a look.
        stream: u64,
        /// Where.
        offset: u64,
        /// How many bytes.
        bytes: u64,
    },
    /// See whether a streamed file is still the same and still has its name; ends the stream.
    EndStream {
        /// The stream.
        stream: u64,
        /// Its path.
        path: RelPath,
        /// Take it even if it changed: it never settles.
        unsettled: bool,
    },
}

/// A name to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookName {
    /// The name.
    pub name: Name,
    /// Of a file, metadata without content.
    pub attributes: bool,
    /// Take the file even if a writer has it open or it changes: it never settles.
    pub unsettled: bool,
}

/// What a reader found.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// For each name of a look.
    Looked(Vec<Seen>),
    /// Metadata of a directory.
    Dir(Metadata),
    /// The rename holds, and this was renamed.
    Renamed {
        /// What it is.
        kind: Kind,
        /// Its size in bytes.
        size: u64,
        /// Its time of change.
        mtime: Time,
    },
    /// The rename does not hold (any more).
    NotRenamed,
    /// A page of a listing, sorted.
    Listed(Listed),
    /// A piece of a file; shorter than asked means that the file is not what it was.
    Chunk(Bytes),
    /// The stream has ended: whether the file is unchanged and still has its name.
    StreamEnded {
        /// It is.
        whole: bool,
    },
    /// A directory on the way is missing or no directory: the highest such path.
    Broken(RelPath),
    /// An operation on a path failed.
    Failed {
        /// The path.
        path: RelPath,
        /// What was tried.
        operation: &'static str,
        /// Error number of Linux.
        errno: i32,
    },
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listed {
    /// The names with what is compared; without `compare` the names and kinds alone count.
    pub entries: Vec<ListEntry>,
    /// The last name of the page, though it may have gone since, if others follow it.
    pub upto: Option<Name>,
    /// Files of the page that count as different.
    pub suspects: Vec<Name>,
    /// The limits of the view that the entries met.
    pub met: LimitCounts,
}

/// What a look saw under one name.
#[derive(Debug, Clone, PartialEq)]
pub enum Seen {
    /// The state.
    Is {
        /// What was there.
        state: State,
        /// It was read although it was changing or open for writing.
        while_open: bool,
    },
    /// A large file, now open as this stream.
    Large {
        /// Names the open file.
        stream: u64,
        /// Its metadata at the first stat.
        meta: Metadata,
        /// As above.
        while_open: bool,
    },
    /// It changed while it was read, or a writer has it open.
    Unsettled,
    /// A file whose content is not wanted now.
    Withheld,
    /// The operation failed.
    Failed {
        /// What was tried.
        operation: &'static str,
        /// Error number of Linux.
        errno: i32,
    },
    /// No room was left in this look.
    Unread,
}

impl Seen {
    /// True if it means what it says only once all events up to the look have been read.
    #[must_use]
    pub fn needs_barrier(&self) -> bool {
        matches!(
            self,
            Self::Is {
                state: State::Absent | State::Present(_, Body::Unchanged),
                ..
            }
        )
    }
}
