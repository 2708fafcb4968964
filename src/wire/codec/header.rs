//! Headers of data messages: MessagePack arrays, written and read by hand.
//!
//! Data messages pass hundreds of thousands of entries a second, so nothing here builds a tree of
//! values or names a field. Every integer may come in any MessagePack width.

use bytes::Bytes;
use rmp::{Marker, decode, encode};

use super::{HEADER_BYTES_MAX, WireError, malformed, within};

/// Why every write succeeds.
const IN_MEMORY: &str = "writing into memory cannot fail";

/// Writes a header.
pub(super) struct Writer(encode::ByteBuf);

impl Writer {
    /// A header of about this many bytes.
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self(encode::ByteBuf::with_capacity(bytes))
    }

    /// The beginning of an array of `len` values, which follow.
    pub(super) fn array(&mut self, len: usize) {
        let len = u32::try_from(len).expect("lists of a message are far shorter than 2^32");
        encode::write_array_len(&mut self.0, len).expect(IN_MEMORY);
    }

    /// An unsigned integer.
    pub(super) fn uint(&mut self, value: impl Into<u64>) {
        encode::write_uint(&mut self.0, value.into()).expect(IN_MEMORY);
    }

    /// A signed integer.
    pub(super) fn int(&mut self, value: impl Into<i64>) {
        encode::write_sint(&mut self.0, value.into()).expect(IN_MEMORY);
    }

    /// Bytes.
    pub(super) fn bin(&mut self, bytes: &[u8]) {
        encode::write_bin(&mut self.0, bytes).expect(IN_MEMORY);
    }

    /// Bytes, or nil for `None`.
    pub(super) fn bin_or_nil(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bin(bytes),
            None => self.nil(),
        }
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) {
        encode::write_str(&mut self.0, text).expect(IN_MEMORY);
    }

    /// A truth value.
    pub(super) fn flag(&mut self, value: bool) {
        encode::write_bool(&mut self.0, value).expect(IN_MEMORY);
    }

    /// Nothing, in the place of something.
    pub(super) fn nil(&mut self) {
        encode::write_nil(&mut self.0).expect(IN_MEMORY);
    }

    /// The whole header.
    pub(super) fn finish(self) -> Bytes {
        Bytes::from(self.0.into_vec())
    }
}

/// Reads a header. `what` names the value for the error.
pub(super) struct Reader<'a>(decode::Bytes<'a>);

impl<'a> Reader<'a> {
    pub(super) fn new(header: &'a [u8]) -> Self {
        Self(decode::Bytes::new(header))
    }

    fn rest(&self) -> &'a [u8] {
        self.0.remaining_slice()
    }

    /// An array of at most `max` values.
    ///
    /// Each value needs a byte at least, so a length beyond the bytes that are left is refused before
    /// anybody reserves memory for it.
    pub(super) fn list(&mut self, max: usize, what: &'static str) -> Result<usize, WireError> {
        let len = decode::read_array_len(&mut self.0).map_err(|_| wrong(what))? as usize;
        within(len, max, what)?;
        if len > self.rest().len() {
            return Err(wrong(what));
        }
        Ok(len)
    }

    /// An array of exactly `len` values.
    pub(super) fn array(&mut self, len: usize, what: &'static str) -> Result<(), WireError> {
        let found = self.list(HEADER_BYTES_MAX, what)?;
        if found != len {
            return Err(malformed(format!("{what}: {found} values instead of {len}")));
        }
        Ok(())
    }

    pub(super) fn uint(&mut self, what: &'static str) -> Result<u64, WireError> {
        decode::read_int(&mut self.0).map_err(|_| wrong(what))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        decode::read_int(&mut self.0).map_err(|_| wrong(what))
    }

    /// A type code or another small number.
    pub(super) fn code(&mut self, what: &'static str) -> Result<u8, WireError> {
        decode::read_int(&mut self.0).map_err(|_| wrong(what))
    }

    pub(super) fn i64(&mut self, what: &'static str) -> Result<i64, WireError> {
        decode::read_int(&mut self.0).map_err(|_| wrong(what))
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, WireError> {
        decode::read_int(&mut self.0).map_err(|_| wrong(what))
    }

    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, WireError> {
        decode::read_bool(&mut self.0).map_err(|_| wrong(what))
    }

    /// Bytes, at most `max`, where they lie in the header.
    pub(super) fn bin(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = decode::read_bin_len(&mut self.0).map_err(|_| wrong(what))?;
        self.take(len, max, what)
    }

    /// Text, at most `max` bytes.
    pub(super) fn text(&mut self, max: usize, what: &'static str) -> Result<String, WireError> {
        let len = decode::read_str_len(&mut self.0).map_err(|_| wrong(what))?;
        let bytes = self.take(len, max, what)?;
        let text = std::str::from_utf8(bytes).map_err(|_| wrong(what))?;
        Ok(text.to_owned())
    }

    fn take(&mut self, len: u32, max: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        within(len as usize, max, what)?;
        let (taken, rest) =
            self.rest().split_at_checked(len as usize).ok_or_else(|| wrong(what))?;
        self.0 = decode::Bytes::new(rest);
        Ok(taken)
    }

    /// True, and nil is behind us, if nil comes next; else nothing was read.
    pub(super) fn skip_nil(&mut self) -> bool {
        match self.rest().split_first() {
            Some((&first, rest)) if Marker::from_u8(first) == Marker::Null => {
                self.0 = decode::Bytes::new(rest);
                true
            }
            _ => false,
        }
    }

    /// Refuses anything that follows the message.
    pub(super) fn end(self) -> Result<(), WireError> {
        super::require(self.rest().is_empty(), "bytes follow the header")
    }
}

fn wrong(what: &'static str) -> WireError {
    malformed(format!("{what} is missing, cut short or of another type"))
}
