//! Any bytes as a packet: a message or an error, and what is a message can be said again.

use bytes::Bytes;
use osync::wire::{
    decode_command, decode_to_sink, decode_to_source, encode_command, encode_to_sink,
    encode_to_source,
};

/// The last two bytes say how many of those before them are a second frame; 0 for none.
pub fn run(data: &[u8]) {
    let frames = frames(data);
    if let Ok(message) = decode_command(&frames) {
        let again = decode_command(&encode_command(&message));
        assert_eq!(
            format!("{:?}", again.as_ref()),
            format!("{:?}", Ok::<_, ()>(&message))
        );
    }
    if let Ok(message) = decode_to_sink(&frames) {
        assert_eq!(decode_to_sink(&encode_to_sink(&message)), Ok(message));
    }
    if let Ok(message) = decode_to_source(&frames) {
        assert_eq!(decode_to_source(&encode_to_source(&message)), Ok(message));
    }
}

/// The frames that the bytes stand for.
pub fn frames(data: &[u8]) -> Vec<Bytes> {
    let Some((packet, &content)) = data.split_last_chunk::<2>() else {
        return vec![Bytes::copy_from_slice(data)];
    };
    let content = usize::from(u16::from_le_bytes(content)).min(packet.len());
    let (header, content) = packet.split_at(packet.len() - content);
    let mut frames = vec![Bytes::copy_from_slice(header)];
    if !content.is_empty() {
        frames.push(Bytes::copy_from_slice(content));
    }
    frames
}
