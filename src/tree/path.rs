//! Names and relative paths, as validated bytes.

use std::cmp::Ordering;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// Longest name of one entry, in bytes (NAME_MAX of every Linux file system that osync meets).
pub const NAME_BYTES_MAX: usize = 255;

/// Longest path relative to the root, in bytes. Paths beyond the kernel's PATH_MAX are opened in
/// steps, so this is a limit of the protocol alone.
pub const PATH_BYTES_MAX: usize = 32 * 1024;

/// Why some bytes are not a path below the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// The path begins with a slash.
    #[error("path is absolute")]
    Absolute,
    /// A component is empty, `.` or `..`.
    #[error("path has an empty, '.' or '..' component")]
    Component,
    /// A NUL byte, which no name can hold.
    #[error("path holds a NUL byte")]
    Nul,
    /// A slash inside a single name.
    #[error("name holds a slash")]
    Slash,
    /// Longer than [`NAME_BYTES_MAX`] or [`PATH_BYTES_MAX`].
    #[error("path or name is too long")]
    TooLong,
}

/// One name in a directory: 1 to [`NAME_BYTES_MAX`] bytes, without slash or NUL, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf")]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Validates one name.
    ///
    /// # Errors
    /// [`InvalidPath`] if the bytes cannot be the name of an entry.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidPath> {
        check_name(bytes)?;
        Ok(Self(Arc::from(bytes)))
    }

    /// The bytes of the name.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

fn check_name(bytes: &[u8]) -> Result<(), InvalidPath> {
    match bytes {
        b"" | b"." | b".." => return Err(InvalidPath::Component),
        _ if bytes.len() > NAME_BYTES_MAX => return Err(InvalidPath::TooLong),
        _ => {}
    }
    for &byte in bytes {
        match byte {
            0 => return Err(InvalidPath::Nul),
            b'/' => return Err(InvalidPath::Slash),
            _ => {}
        }
    }
    Ok(())
}

/// A path relative to the root; empty for the root itself.
///
/// The order puts every path directly before all that is below it, so that a subtree is one
/// contiguous range of an ordered map.
#[derive(Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "serde_bytes::ByteBuf")]
pub struct RelPath(Arc<[u8]>);

impl Default for RelPath {
    fn default() -> Self {
        Self::root()
    }
}

impl RelPath {
    /// The root itself.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from(&b""[..]))
    }

    /// Validates a whole path.
    ///
    /// # Errors
    /// [`InvalidPath`] if it is absolute, too long, or has a component that is no name.
    pub fn new(bytes: &[u8]) -> Result<Self, InvalidPath> {
        if bytes.len() > PATH_BYTES_MAX {
            return Err(InvalidPath::TooLong);
        }
        if bytes.first() == Some(&b'/') {
            return Err(InvalidPath::Absolute);
        }
        if !bytes.is_empty() {
            for part in bytes.split(|&b| b == b'/') {
                check_name(part)?;
            }
        }
        Ok(Self(Arc::from(bytes)))
    }

    /// The bytes, components separated by slashes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// True for the root itself.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The path of an entry in this directory.
    ///
    /// A result above [`PATH_BYTES_MAX`] is possible here and refused by the decoder of the peer;
    /// whoever descends checks [`RelPath::len`] first.
    #[must_use]
    pub fn join(&self, name: &Name) -> Self {
        if self.is_root() {
            return Self(name.0.clone());
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.0.len());
        bytes.extend_from_slice(&self.0);
        bytes.push(b'/');
        bytes.extend_from_slice(&name.0);
        Self(Arc::from(bytes))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True for the root, whose path has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.is_root()
    }

    /// Directory and name of this entry; `None` for the root.
    #[must_use]
    pub fn split(&self) -> Option<(Self, Name)> {
        if self.is_root() {
            return None;
        }
        Some(match self.0.iter().rposition(|&b| b == b'/') {
            Some(at) => (
                Self(Arc::from(&self.0[..at])),
                Name(Arc::from(&self.0[at + 1..])),
            ),
            None => (Self::root(), Name(self.0.clone())),
        })
    }

    /// The directory that holds this entry; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        self.split().map(|(dir, _)| dir)
    }

    /// The names along the path, from the top.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|&b| b == b'/').filter(|part| !part.is_empty())
    }

    /// True if `self` is `other` or a directory above it.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_root()
            || (other.0.starts_with(&self.0)
                && (other.0.len() == self.0.len() || other.0[self.0.len()] == b'/'))
    }

    /// True if `self` is above `other` and not the same.
    #[must_use]
    pub fn is_above(&self, other: &Self) -> bool {
        self.0.len() < other.0.len() && self.covers(other)
    }

    /// The component of `self` directly below the directory `dir`; `None` if it is not below.
    #[must_use]
    pub fn component_below(&self, dir: &Self) -> Option<&[u8]> {
        if !dir.is_above(self) {
            return None;
        }
        let rest = if dir.is_root() {
            &self.0[..]
        } else {
            &self.0[dir.0.len() + 1..]
        };
        rest.split(|&b| b == b'/').next()
    }

    /// The same entry after the directory or entry `from` was renamed to `to`; `None` if the path
    /// is not at or below `from`.
    #[must_use]
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        if !from.covers(self) {
            return None;
        }
        let rest = &self.0[from.0.len()..];
        let mut bytes = Vec::with_capacity(to.0.len() + rest.len());
        bytes.extend_from_slice(&to.0);
        bytes.extend_from_slice(rest);
        Some(Self(Arc::from(bytes)))
    }
}

impl Ord for RelPath {
    fn cmp(&self, other: &Self) -> Ordering {
        let shared = self.0.iter().zip(other.0.iter()).position(|(a, b)| a != b);
        match shared {
            None => self.0.len().cmp(&other.0.len()),
            // A slash sorts before every other byte, so that children follow their directory.
            Some(at) => {
                let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
                rank(self.0[at]).cmp(&rank(other.0[at]))
            }
        }
    }
}

impl PartialOrd for RelPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Bytes of a name or path, displayed so that any terminal and any log shows them on one line: control
/// characters, backslashes and bytes that are no text are written as escapes.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a [u8]);

impl<'a> Escaped<'a> {
    /// A path of the operating system.
    #[must_use]
    pub fn path(path: &'a Path) -> Self {
        Self(path.as_os_str().as_bytes())
    }
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                if c.is_control() || c == '\\' {
                    write!(f, "{}", c.escape_default())?;
                } else {
                    write!(f, "{c}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            write!(f, ".")
        } else {
            Escaped(&self.0).fmt(f)
        }
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<serde_bytes::ByteBuf> for Name {
    type Error = InvalidPath;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, InvalidPath> {
        Self::new(&bytes)
    }
}

/// Bytes on the wire; where people read (JSON), the text of [`Escaped`], which is not read back.
impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes_or_text(&self.0, self, serializer)
    }
}

impl TryFrom<serde_bytes::ByteBuf> for RelPath {
    type Error = InvalidPath;
    fn try_from(bytes: serde_bytes::ByteBuf) -> Result<Self, InvalidPath> {
        Self::new(&bytes)
    }
}

/// Bytes on the wire; where people read (JSON), the text of [`Escaped`], which is not read back.
impl Serialize for RelPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes_or_text(&self.0, self, serializer)
    }
}

fn serialize_bytes_or_text<S: Serializer>(
    bytes: &[u8],
    text: &impl fmt::Display,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.collect_str(text)
    } else {
        serializer.serialize_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    #[test]
    fn refuses_what_could_leave_the_root() {
        for (bytes, why) in [
            (&b"/etc"[..], InvalidPath::Absolute),
            (b"..", InvalidPath::Component),
            (b"a/../b", InvalidPath::Component),
            (b"a//b", InvalidPath::Component),
            (b"a/", InvalidPath::Component),
            (b"a/./b", InvalidPath::Component),
            (b"a\0b", InvalidPath::Nul),
        ] {
            assert_eq!(RelPath::new(bytes).unwrap_err(), why);
        }
        assert_eq!(Name::new(b"a/b").unwrap_err(), InvalidPath::Slash);
        assert_eq!(Name::new(&[b'x'; 256]).unwrap_err(), InvalidPath::TooLong);
        assert!(Name::new(&[b'x'; 255]).is_ok());
    }

    #[test]
    fn a_subtree_is_one_range() {
        let mut paths: Vec<_> = ["a.b", "a/b", "a", "a/b/c", "a-", "a/c", "b", "a!"]
            .map(path)
            .into();
        paths.sort();
        let order: Vec<_> = paths.iter().map(ToString::to_string).collect();
        assert_eq!(order, ["a", "a/b", "a/b/c", "a/c", "a!", "a-", "a.b", "b"]);
    }

    #[test]
    fn relations() {
        assert!(path("a").covers(&path("a/b")) && path("a").is_above(&path("a/b")));
        assert!(!path("a").covers(&path("ab")) && !path("a").is_above(&path("a")));
        assert_eq!(path("a/b/c").component_below(&path("a")), Some(&b"b"[..]));
        assert_eq!(
            path("a/b").moved(&path("a"), &path("x/y")),
            Some(path("x/y/b"))
        );
        assert_eq!(
            path("a").split(),
            Some((RelPath::root(), Name::new(b"a").expect("a name")))
        );
        assert_eq!(
            format!("{}", RelPath::new(b"a\n\xff\\").expect("bytes")),
            "a\\n\\xff\\\\"
        );
    }

    #[test]
    fn is_bytes_on_the_wire_and_text_in_json() {
        let odd = RelPath::new(b"a/\xff").expect("bytes");
        assert_eq!(serde_json::to_string(&odd).expect("json"), r#""a/\\xff""#);
        let wire = rmp_serde::to_vec(&odd).expect("bytes");
        assert_eq!(wire, [0xc4, 3, b'a', b'/', 0xff]);
        assert_eq!(
            rmp_serde::from_slice::<RelPath>(&wire).expect("a path"),
            odd
        );
    }
}
