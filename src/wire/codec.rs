//! Messages to bytes and back, with every limit checked.

use bytes::Bytes;

use super::message::{Command, ToSink, ToSource};

/// The parts of one packet.
pub type Frames = Vec<Bytes>;

/// Most parts of a packet.
pub const FRAMES_MAX: usize = 2;

/// Most bytes of a header (first frame).
pub const HEADER_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes of content (second frame) in one packet.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Why some bytes are not a message.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A limit of the protocol is broken: which one.
    #[error("{0} is above its limit")]
    Limit(&'static str),
    /// The bytes do not decode.
    #[error("malformed message: {0}")]
    Malformed(String),
}

/// Bytes of a control message.
#[must_use]
pub fn encode_command(_message: &Command) -> Frames {
    unimplemented!()
}
/// A control message from bytes.
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_command(_frames: &[Bytes]) -> Result<Command, WireError> {
    unimplemented!()
}
/// Bytes of a data message to a sink.
#[must_use]
pub fn encode_to_sink(_message: &ToSink) -> Frames {
    unimplemented!()
}
/// A data message to a sink from bytes.
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_to_sink(_frames: &[Bytes]) -> Result<ToSink, WireError> {
    unimplemented!()
}
/// Bytes of a data message to the source.
#[must_use]
pub fn encode_to_source(_message: &ToSource) -> Frames {
    unimplemented!()
}
/// A data message to the source from bytes.
/// # Errors
/// [`WireError`] if it is none or breaks a limit.
pub fn decode_to_source(_frames: &[Bytes]) -> Result<ToSource, WireError> {
    unimplemented!()
}
