//! The codec against golden bytes, arbitrary messages, arbitrary bytes, and each limit.
#![allow(clippy::unwrap_used)]

mod arbitrary;
mod control_limits;
mod forms;
mod golden;
mod limits;
mod properties;
mod samples;

use super::*;
use crate::wire::message::{Command, ToSink, ToSource};

/// A message of either channel and direction.
#[derive(Debug, Clone, PartialEq)]
enum Message {
    Command(Command),
    ToSink(ToSink),
    /// With its content compressed.
    Compressed(ToSink),
    ToSource(ToSource),
}

impl Message {
    fn encode(&self) -> Frames {
        match self {
            Self::Command(message) => encode_command(message),
            Self::ToSink(message) => encode_to_sink(message),
            Self::Compressed(message) => {
                encode_to_sink_compressed(message, &mut Compressor::new().unwrap(), 3)
            }
            Self::ToSource(message) => encode_to_source(message),
        }
    }

    /// Decodes frames as a message of the same channel and direction as this one.
    fn decode_alike(&self, frames: &[Bytes]) -> Result<Self, WireError> {
        match self {
            Self::Command(_) => decode_command(frames).map(Self::Command),
            Self::ToSink(_) => decode_to_sink(frames).map(Self::ToSink),
            Self::Compressed(_) => decode_to_sink(frames).map(Self::Compressed),
            Self::ToSource(_) => decode_to_source(frames).map(Self::ToSource),
        }
    }

    fn round_trip(&self) -> Result<Self, WireError> {
        self.decode_alike(&self.encode())
    }
}
