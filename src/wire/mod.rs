//! Messages and their bytes. The specification for other implementations is `proto/PROTOCOL.md`.
//!
//! Control messages (command channel) are MessagePack maps, so that a dozen lines in any language can
//! speak them. Data messages are a MessagePack header and one raw frame with the content, so that file
//! content is never copied into an encoder.

mod codec;
pub mod message;

pub use codec::{
    decode_command, decode_to_sink, decode_to_source, encode_command, encode_to_sink, frames_bytes,
    encode_to_source, Frames, WireError, FRAMES_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX,
};
