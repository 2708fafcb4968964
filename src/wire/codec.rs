//! Messages to bytes and back, with every limit checked.
//!
//! What comes from the network is checked here once, completely: a message that decodes satisfies
//! every rule of `proto/PROTOCOL.md` that can be stated about one message alone. Decoding reserves
//! memory in proportion to the bytes that came, never to the lengths that they announce.

mod command;
mod compression;
mod content;
mod header;
mod noun;
#[cfg(test)]
mod tests;
mod to_sink;
mod to_source;
mod value;

use bytes::Bytes;

pub use command::{decode_command, encode_command};
pub use compression::{Compressor, LEVEL_MAX, LEVEL_MIN};
pub use to_sink::{decode_to_sink, encode_to_sink, encode_to_sink_compressed};
pub use to_source::{decode_to_source, encode_to_source};

/// The parts of one packet: the header or control message, then the content if there is any.
pub type Frames = Vec<Bytes>;

/// Most parts of a packet.
pub const FRAMES_MAX: usize = 2;

/// Most bytes of a header or control message (first frame).
///
/// Encoding does not enforce it: whoever packs a message stops well before, and a message beyond it
/// is refused by the peer.
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of content (second frame) in one packet.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Why some bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A limit of the protocol is broken: which one.
    #[error("{0} is above its limit")]
    Limit(&'static str),
    /// The bytes do not decode, or break a rule: which one.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// What a packet costs in credit: the bytes of all its frames.
#[must_use]
pub fn frames_bytes(frames: &Frames) -> u64 {
    frames.iter().map(|frame| frame.len() as u64).sum()
}

fn malformed(what: impl Into<String>) -> WireError {
    WireError::Malformed(what.into())
}

/// Fails with what is wrong unless the rule holds.
fn require(holds: bool, otherwise: &'static str) -> Result<(), WireError> {
    if holds {
        Ok(())
    } else {
        Err(malformed(otherwise))
    }
}

/// Fails with the limit's name if there is more of it than allowed.
fn within(amount: usize, max: usize, what: &'static str) -> Result<(), WireError> {
    if amount <= max {
        Ok(())
    } else {
        Err(WireError::Limit(what))
    }
}

/// The first frame and, where the message can have one, the second; sizes are checked.
fn split(frames: &[Bytes]) -> Result<(&Bytes, Option<&Bytes>), WireError> {
    within(frames.len(), FRAMES_MAX, "number of frames")?;
    let header = frames.first().ok_or_else(|| malformed("no frames"))?;
    within(header.len(), HEADER_BYTES_MAX, "length of the header")?;
    let payload = frames.get(1);
    if let Some(payload) = payload {
        within(payload.len(), PAYLOAD_BYTES_MAX, "length of the content")?;
        require(!payload.is_empty(), "the content frame is empty")?;
    }
    Ok((header, payload))
}

/// The only frame of a message that carries no content.
fn single(frames: &[Bytes]) -> Result<&Bytes, WireError> {
    match split(frames)? {
        (header, None) => Ok(header),
        (_, Some(_)) => Err(malformed("this message carries no content")),
    }
}
