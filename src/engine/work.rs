//! What the source engine asks of its readers, and what they find.

use std::sync::Arc;

use bytes::Bytes;

use super::walk::Suspicion;
use crate::tree::{
    BlockHash, Body, Kind, LimitCounts, ListEntry, Metadata, Name, RelPath, State, Time, View,
};

/// Files up to this size travel whole, in a message with others; larger ones are streamed, and those
/// with holes. In bytes.
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
        /// Files that may be opened for streaming.
        streams: usize,
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
        /// What is wanted of each name.
        detail: Detail,
        /// Files to be named as suspects.
        suspicion: Option<Suspicion>,
        /// How entries look where they are compared.
        view: Arc<View>,
    },
    /// Read the next piece of a large file.
    ReadChunk {
        /// The stream, as opened by a look.
        stream: u64,
        /// Where.
        span: Span,
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

/// Where a piece of a large file is read: the first data at or after an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From where on; before the end of the file.
    pub offset: u64,
    /// At most so many bytes.
    pub bytes: u64,
    /// The file is compared in blocks of so many bytes: the piece ends with its block, is told with its
    /// hash, and what lies before the data comes alone.
    pub hashed: bool,
}

impl Order {
    /// What it may cost at most, in operations: one for each name that is looked at or listed with its
    /// metadata, and one for a page of names alone, for a piece of a large file, and for all else.
    #[must_use]
    pub fn operations_max(&self) -> u64 {
        match self {
            Self::Look { names, .. } => names.len() as u64,
            Self::List {
                names_max, detail, ..
            } if !matches!(detail, Detail::Dirs | Detail::Kind) => *names_max as u64,
            _ => 1,
        }
    }
}

/// What is listed of each name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// Whether it is a directory; other names may be left out.
    Dirs,
    /// Its kind.
    Kind,
    /// Its kind, and whether it is one name of several.
    Links,
    /// All that is compared.
    Everything,
}

/// A name to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookName {
    /// The name.
    pub name: Name,
    /// Of a file, metadata without content.
    pub attributes: bool,
    /// It was a file when it was listed a moment ago.
    pub is_file: bool,
    /// Take the file even if a writer has it open or it changes: it never settles.
    pub unsettled: bool,
    /// What to do if it turns out to be one name of several.
    pub further: Further,
}

/// How to look at an entry that has further names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Further {
    /// Nothing is known of its other names: say only that there are some.
    Unknown,
    /// Take it whole: the sink learns the inode's content by this name.
    Whole,
    /// Say that it is the same inode as this other name, if it is.
    LinkTo(RelPath),
}

/// An inode of the source, to tell which names mean the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode {
    /// Device of the file system.
    pub dev: u64,
    /// Number on that device.
    pub ino: u64,
}

/// That an entry is one name of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Links {
    /// What all of them mean.
    pub inode: Inode,
    /// How many there are, those outside the root included; at least 2.
    pub count: u64,
    /// When the inode last changed in any way; `None` if that was not kept.
    pub changed: Option<Time>,
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
    Listed(Box<Listed>),
    /// A piece of a file.
    Chunk {
        /// Where it begins; what was asked for and lies before it is a hole.
        offset: u64,
        /// The piece; nothing at the end of the file if that is a hole.
        data: Bytes,
        /// Its hash, if that was asked for and there is data.
        hash: Option<BlockHash>,
    },
    /// The stream has ended: whether the file is unchanged and still has its name. To a piece asked
    /// for it says that the file is not what it was.
    StreamEnded {
        /// It is.
        whole: bool,
    },
    /// The stream cannot be read on.
    StreamFailed {
        /// What was tried.
        operation: &'static str,
        /// Error number of Linux.
        errno: i32,
    },
    /// A directory on the way is missing or no directory: the highest such path.
    Broken(RelPath),
    /// The directory does not take part, or lies beyond a mount that is not entered: nothing is said of
    /// it (rules 32, 35).
    Excluded,
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

impl Finding {
    /// What it has cost, in operations, if the order could cost so many at most. Names for which a look had no
    /// room are looked at again, and cost something then.
    #[must_use]
    pub fn operations(&self, most: u64) -> u64 {
        let names = match self {
            Self::Looked(seen) => seen.iter().filter(|seen| **seen != Seen::Unread).count(),
            Self::Listed(page) => page.entries.len(),
            _ => 1,
        };
        (names as u64).min(most).max(1)
    }
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Listed {
    /// The names with what is compared; unless that is wanted ([`Detail::Everything`]), names and kinds
    /// alone count.
    pub entries: Vec<ListEntry>,
    /// The directory's own modification time, as the sink is shown it.
    pub mtime: Time,
    /// The last name of the page, though it may have gone since, if others follow it.
    pub upto: Option<Name>,
    /// Files of the page that count as different.
    pub suspects: Vec<Name>,
    /// Names of the page that are one of several.
    pub linked: Vec<(Name, Links)>,
    /// The limits of the view that the entries met.
    pub met: LimitCounts,
}

/// One name of several that found no room in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spilled {
    /// What it means.
    pub links: Links,
    /// The name.
    pub path: RelPath,
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
        /// Set if it is one name of several.
        links: Option<Links>,
    },
    /// A large file or one with holes, now open as this stream.
    Large {
        /// Names the open file.
        stream: u64,
        /// Its metadata at the first stat.
        meta: Metadata,
        /// As above.
        while_open: bool,
        /// As above.
        links: Option<Links>,
    },
    /// One name of several, of which more must be known before it is read ([`Further::Unknown`]), or
    /// not the same inode as the name that was given ([`Further::LinkTo`]).
    Linked(Links),
    /// A file to be streamed, which this look may not open.
    NoStream,
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
    /// Whatever may be there does not take part: nothing is said (rule 35).
    Excluded,
}

impl Seen {
    /// True if it means what it says only once all events up to the look have been read.
    #[must_use]
    pub fn needs_barrier(&self) -> bool {
        matches!(
            self,
            Self::Is {
                state: State::Absent
                    | State::Present(_, Body::Unchanged { .. } | Body::Link { .. }),
                ..
            }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::ListEntry;

    #[test]
    fn operations_are_names_that_were_looked_at_or_listed_with_their_metadata() {
        let looked = Finding::Looked(vec![Seen::Withheld, Seen::Withheld, Seen::Unread]);
        assert_eq!(looked.operations(3), 2);
        let name = Name::new(b"name").expect("a name");
        let listed = Finding::Listed(Box::new(Listed {
            entries: vec![ListEntry::bare(name, Kind::File); 7],
            ..Listed::default()
        }));
        assert_eq!(listed.operations(512), 7);
        assert_eq!(listed.operations(1), 1, "names alone");
        assert_eq!(Finding::NotRenamed.operations(1), 1);
    }
}
