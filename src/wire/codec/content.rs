//! The content frame: bodies one after the other, their lengths are in the header.

use bytes::{Bytes, BytesMut};

use super::{WireError, malformed, require};

/// The content of all bodies, if there is any. One body goes as it is; several are copied once.
pub(super) fn joined<'a>(bodies: impl Iterator<Item = &'a Bytes> + Clone) -> Option<Bytes> {
    let mut filled = bodies.filter(|body| !body.is_empty());
    let rest = filled.clone();
    match (filled.next(), filled.next()) {
        (None, _) => None,
        (Some(only), None) => Some(Bytes::clone(only)),
        _ => Some(concatenated(rest)),
    }
}

fn concatenated<'a>(bodies: impl Iterator<Item = &'a Bytes> + Clone) -> Bytes {
    let mut content = BytesMut::with_capacity(bodies.clone().map(Bytes::len).sum());
    bodies.for_each(|body| content.extend_from_slice(body));
    content.freeze()
}

/// Deals a received content frame out to the bodies, as slices of it.
pub(super) struct Content(Bytes);

impl Content {
    pub(super) fn new(content: Option<Bytes>) -> Self {
        Self(content.unwrap_or_default())
    }

    /// The next `len` bytes.
    pub(super) fn take(&mut self, len: u64) -> Result<Bytes, WireError> {
        match usize::try_from(len) {
            Ok(0) => Ok(Bytes::new()),
            Ok(len) if len <= self.0.len() => Ok(self.0.split_to(len)),
            _ => Err(malformed("the content is shorter than the header says")),
        }
    }

    /// Refuses content that belongs to nothing.
    pub(super) fn end(self) -> Result<(), WireError> {
        require(
            self.0.is_empty(),
            "the content is longer than the header says",
        )
    }
}
