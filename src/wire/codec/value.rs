//! The shape of a control message, before anything is built from it.
//!
//! Deserializing a map whose type is one of its fields keeps every value in memory first, each in far
//! more bytes than it has on the wire. So the bytes are walked once without keeping anything, and
//! messages with too many, too long or too deeply nested values are refused.

use rmp::Marker;

use super::{WireError, malformed, require, within};
use crate::tree::PATH_BYTES_MAX;

/// Most values in one message: each map, list, key and leaf counts.
pub(super) const VALUES_MAX: usize = 64 * 1024;

/// Most maps and lists around a value.
pub(super) const DEPTH_MAX: usize = 16;

/// Longest text or bytes of one value; a path is the longest that anybody needs.
pub(super) const VALUE_BYTES_MAX: usize = PATH_BYTES_MAX;

/// Refuses everything that is not exactly one map within the limits, with text as keys.
pub(super) fn check_map(message: &[u8]) -> Result<(), WireError> {
    let mut walk = Walk { rest: message, values: 0 };
    match walk.next()? {
        Shape::Map(pairs) => walk.map(pairs, 0)?,
        _ => return Err(malformed("a control message is a map")),
    }
    require(walk.rest.is_empty(), "bytes follow the message")
}

/// What a marker announces.
enum Shape {
    /// A value without parts, of this many bytes.
    Leaf(usize),
    /// Text of this many bytes, the only leaf that can be a key.
    Text(usize),
    /// A list of this many values.
    List(usize),
    /// A map of this many pairs.
    Map(usize),
}

struct Walk<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Walk<'a> {
    fn map(&mut self, pairs: usize, depth: usize) -> Result<(), WireError> {
        within(depth, DEPTH_MAX, "depth of nesting")?;
        for _ in 0..pairs {
            match self.next()? {
                Shape::Text(bytes) => self.skip(bytes)?,
                _ => return Err(malformed("a key is no text")),
            }
            self.value(depth)?;
        }
        Ok(())
    }

    fn value(&mut self, depth: usize) -> Result<(), WireError> {
        match self.next()? {
            Shape::Leaf(bytes) | Shape::Text(bytes) => self.skip(bytes),
            Shape::Map(pairs) => self.map(pairs, depth + 1),
            Shape::List(values) => {
                within(depth + 1, DEPTH_MAX, "depth of nesting")?;
                (0..values).try_for_each(|_| self.value(depth + 1))
            }
        }
    }

    fn next(&mut self) -> Result<Shape, WireError> {
        self.values += 1;
        within(self.values, VALUES_MAX, "number of values")?;
        Ok(match Marker::from_u8(self.take(1)?[0]) {
            Marker::Null | Marker::True | Marker::False => Shape::Leaf(0),
            Marker::FixPos(_) | Marker::FixNeg(_) => Shape::Leaf(0),
            Marker::U8 | Marker::I8 => Shape::Leaf(1),
            Marker::U16 | Marker::I16 => Shape::Leaf(2),
            Marker::U32 | Marker::I32 | Marker::F32 => Shape::Leaf(4),
            Marker::U64 | Marker::I64 | Marker::F64 => Shape::Leaf(8),
            Marker::FixStr(bytes) => Shape::Text(bytes.into()),
            Marker::Str8 => Shape::Text(self.length(1)?),
            Marker::Str16 => Shape::Text(self.length(2)?),
            Marker::Str32 => Shape::Text(self.length(4)?),
            Marker::Bin8 => Shape::Leaf(self.length(1)?),
            Marker::Bin16 => Shape::Leaf(self.length(2)?),
            Marker::Bin32 => Shape::Leaf(self.length(4)?),
            Marker::FixArray(values) => Shape::List(values.into()),
            Marker::Array16 => Shape::List(self.length(2)?),
            Marker::Array32 => Shape::List(self.length(4)?),
            Marker::FixMap(pairs) => Shape::Map(pairs.into()),
            Marker::Map16 => Shape::Map(self.length(2)?),
            Marker::Map32 => Shape::Map(self.length(4)?),
            _ => return Err(malformed("a value of a type that is not used here")),
        })
    }

    /// A length of this many bytes, the highest first.
    fn length(&mut self, width: usize) -> Result<usize, WireError> {
        Ok(self.take(width)?.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)))
    }

    fn skip(&mut self, bytes: usize) -> Result<(), WireError> {
        within(bytes, VALUE_BYTES_MAX, "length of a value")?;
        self.take(bytes).map(|_| ())
    }

    fn take(&mut self, bytes: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or_else(|| malformed("the message is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }
}
