//! The content frame: bodies one after the other, their lengths are in the header.

use bytes::{Bytes, BytesMut};

use super::{Frames, WireError, malformed, require};

/// Joins a header with the content of its bodies. One body goes as it is; several are copied once.
pub(super) fn frames(header: Bytes, bodies: &[&Bytes]) -> Frames {
    let mut filled = bodies.iter().filter(|body| !body.is_empty());
    match (filled.next(), filled.next()) {
        (None, _) => vec![header],
        (Some(only), None) => vec![header, Bytes::clone(only)],
        _ => vec![header, concatenated(bodies)],
    }
}

fn concatenated(bodies: &[&Bytes]) -> Bytes {
    let mut content = BytesMut::with_capacity(bodies.iter().map(|body| body.len()).sum());
    for body in bodies {
        content.extend_from_slice(body);
    }
    content.freeze()
}

/// Deals a received content frame out to the bodies, as slices of it.
pub(super) struct Content(Bytes);

impl Content {
    pub(super) fn new(frame: Option<&Bytes>) -> Self {
        Self(frame.cloned().unwrap_or_default())
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
        require(self.0.is_empty(), "the content is longer than the header says")
    }
}
