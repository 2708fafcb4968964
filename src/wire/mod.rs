//! Messages and their bytes. The specification for other implementations is `proto/PROTOCOL.md`.
//!
//! Control messages (command channel) are MessagePack maps, so that a dozen lines in any language can
//! speak them. Data messages are a MessagePack header and one raw frame with the content, so that file
//! content is never copied into an encoder.

mod codec;
pub mod message;

pub use codec::{
    Compressor, FRAMES_MAX, Frames, HEADER_BYTES_MAX, LEVEL_MAX, LEVEL_MIN, PAYLOAD_BYTES_MAX,
    WireError, decode_command, decode_to_sink, decode_to_source, encode_command, encode_to_sink,
    encode_to_sink_compressed, encode_to_source, frames_bytes,
};
