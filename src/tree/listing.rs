//! Listings: what a directory holds, without content, for comparison.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use super::{Kind, Name, Time, Xattrs};

/// A half-open range of the sorted names of one directory: those after `after`, up to and including
/// `upto`. `None` leaves that end open. A page of a listing is such a range, so both sides can
/// compare a directory of any size without remembering what they saw.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct NameRange {
    /// Exclusive lower end.
    pub after: Option<Name>,
    /// Inclusive upper end.
    pub upto: Option<Name>,
}

impl NameRange {
    /// True if `name` lies in the range.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.after
            .as_ref()
            .is_none_or(|after| name > after.as_bytes())
            && self
                .upto
                .as_ref()
                .is_none_or(|upto| name <= upto.as_bytes())
    }
}

/// One name of a listing with what is compared. Equal fields mean an equal entry, unless it is
/// suspect; sizes and link counts of directories are never part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListEntry {
    /// The name.
    pub name: Name,
    /// What it is.
    pub kind: Kind,
    /// Permission bits (0 to 0o7777).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target, else 0.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Device number of a device, else 0.
    pub rdev: u64,
    /// xxh3 over the extended attributes and, of a symlink, its target; 0 if there is neither.
    pub extra: u64,
    /// It has further names. Only the sink having some where the source has none counts as different:
    /// those of the source may lie outside its root.
    pub linked: bool,
}

impl ListEntry {
    /// A name of which the kind alone counts.
    #[must_use]
    pub fn bare(name: Name, kind: Kind) -> Self {
        Self {
            name,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            rdev: 0,
            extra: 0,
            linked: false,
        }
    }

    /// True if the sink's entry `held` needs no change to be what this one of the source is.
    #[must_use]
    pub fn is_held_as(&self, held: &Self) -> bool {
        let unlinked = |entry: &Self| Self {
            linked: false,
            ..entry.clone()
        };
        unlinked(self) == unlinked(held) && (self.linked || !held.linked)
    }

    /// The value of [`ListEntry::extra`] for these attributes and this symlink target.
    #[must_use]
    pub fn extra_of(xattrs: &Xattrs, target: &[u8]) -> u64 {
        if xattrs.is_empty() && target.is_empty() {
            return 0;
        }
        let mut hash = Xxh3::new();
        let mut part = |bytes: &[u8]| {
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        for (name, value) in xattrs {
            part(name);
            part(value);
        }
        part(target);
        hash.digest()
    }
}

/// xxh3 (128 bit) over the sorted entries of a range. It guards against differences, not against
/// an attacker: whoever can write the tree can write it on both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest(#[serde(with = "serde_bytes")] [u8; 16]);

impl Digest {
    /// The digest of a page, whose entries must be sorted by name.
    #[must_use]
    pub fn of(entries: &[ListEntry]) -> Self {
        let mut hash = Xxh3::new();
        for entry in entries {
            let mut fixed = [0u8; 57];
            let mut at = 0;
            let mut put = |bytes: &[u8]| {
                fixed[at..at + bytes.len()].copy_from_slice(bytes);
                at += bytes.len();
            };
            put(&(entry.name.as_bytes().len() as u16).to_le_bytes());
            put(&[u8::from(entry.kind)]);
            put(&entry.mode.to_le_bytes());
            put(&entry.uid.to_le_bytes());
            put(&entry.gid.to_le_bytes());
            put(&entry.size.to_le_bytes());
            put(&entry.mtime.secs.to_le_bytes());
            put(&entry.mtime.nanos.to_le_bytes());
            put(&entry.rdev.to_le_bytes());
            put(&entry.extra.to_le_bytes());
            put(&[u8::from(entry.linked)]);
            let used = at;
            hash.update(&fixed[..used]);
            hash.update(entry.name.as_bytes());
        }
        Self(hash.digest128().to_le_bytes())
    }

    /// A digest that a peer computed.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they travel: the 128 bits in little-endian order.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}
