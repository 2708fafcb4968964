//! One name in the tree with its whole state.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Name, RelPath};

/// Most bytes of extended attributes (names and values together) that one entry may carry.
/// ext4 holds 4 KiB to 64 KiB an inode; larger sets are a problem of the entry, never cut.
pub const XATTRS_BYTES_MAX: usize = 64 * 1024;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket's name.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl From<Kind> for u8 {
    fn from(kind: Kind) -> Self {
        kind as Self
    }
}

impl TryFrom<u8> for Kind {
    type Error = String;
    fn try_from(byte: u8) -> Result<Self, String> {
        Ok(match byte {
            0 => Self::File,
            1 => Self::Dir,
            2 => Self::Symlink,
            3 => Self::Fifo,
            4 => Self::Socket,
            5 => Self::CharDevice,
            6 => Self::BlockDevice,
            _ => return Err(format!("{byte} is no kind of entry")),
        })
    }
}

/// A point in time of the file system's clock: seconds since 1970 (negative before) and nanoseconds
/// (0 to 999 999 999).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Time {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub secs: i64,
    /// Nanoseconds after `secs`.
    pub nanos: u32,
}

impl Time {
    /// This time less `secs` seconds.
    #[must_use]
    pub fn minus_secs(self, secs: i64) -> Self {
        Self {
            secs: self.secs.saturating_sub(secs),
            nanos: self.nanos,
        }
    }
}

/// Extended attributes as (name, value), sorted by name. ACLs and capabilities are among them, in
/// the kernel's own form.
pub type Xattrs = Vec<(serde_bytes::ByteBuf, serde_bytes::ByteBuf)>;

/// Everything about an entry but its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Metadata {
    /// What it is.
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky (0 to 0o7777).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length of the content in bytes: of a file its size, of a symlink its target's length; 0 for
    /// every other kind.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Device number of a device (Linux encoding), else 0.
    pub rdev: u64,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What an entry holds besides its metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Nothing: a directory, a device, a pipe, a socket.
    Empty,
    /// The whole content of a file.
    Content(Bytes),
    /// The target of a symlink.
    Target(Bytes),
    /// The content that the sink has already: metadata alone, to be refused unless the sink holds a
    /// file of this size and mtime under this name (rule 29).
    Unchanged {
        /// How many names the sink's file may have: all that are known to mean this same file, since
        /// its metadata changes under each of them.
        links: u64,
    },
    /// What another name holds: this is a further name of the same inode. To be refused unless the
    /// sink holds there what the metadata describes (rule 27).
    Link {
        /// The other name.
        to: RelPath,
        /// How many names the sink's inode may have then, if that is to be checked.
        links: Option<u64>,
    },
}

impl Body {
    /// Bytes of content or target that it carries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Empty | Self::Unchanged { .. } | Self::Link { .. } => 0,
            Self::Content(bytes) | Self::Target(bytes) => bytes.len(),
        }
    }

    /// True if it carries no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The state of one name: present with everything, or absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is nothing under this name.
    Absent,
    /// There is this.
    Present(Metadata, Body),
}

/// One name in a directory with its whole state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The name within its directory.
    pub name: Name,
    /// What was there at the look.
    pub state: State,
}
