//! Content that travels compressed: the content frame is one zstd frame then.

use bytes::Bytes;
use zstd::bulk::{Compressor as Context, decompress};

use super::{PAYLOAD_BYTES_MAX, WireError, malformed, within};

/// Less content than this goes as it is, in bytes.
const CONTENT_BYTES_MIN: usize = 512;

/// How much of the content is tried first, in bytes, on the fastest level: pieces from so many places, since
/// many files may lie in it.
const SAMPLE_BYTES: usize = 16 * 1024;
const SAMPLE_PLACES: usize = 8;

/// The fastest level.
pub const LEVEL_MIN: u8 = 1;
/// The one that takes longest.
pub const LEVEL_MAX: u8 = 19;

/// Compresses contents one after the other.
pub struct Compressor {
    /// For samples, on the fastest level.
    sampler: Context<'static>,
    context: Context<'static>,
    level: u8,
}

impl Compressor {
    /// A compressor of the fastest level.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self {
            sampler: Context::new(LEVEL_MIN.into())?,
            context: Context::new(LEVEL_MIN.into())?,
            level: LEVEL_MIN,
        })
    }

    /// The content as one zstd frame; `None` if it does not shrink by a sixteenth. What cannot shrink shows
    /// that in a sample, and costs next to nothing.
    pub(super) fn pack(&mut self, content: &[u8], level: u8) -> Option<Bytes> {
        if content.len() < CONTENT_BYTES_MIN {
            return None;
        }
        if content.len() > 2 * SAMPLE_BYTES {
            shrink(&mut self.sampler, &sample(content))?;
        }
        if level != self.level {
            // One that has run out of room takes no other level.
            self.context = Context::new(level.into()).ok()?;
            self.level = level;
        }
        shrink(&mut self.context, content)
    }
}

/// It ends as soon as there is no room: then the content goes as it is.
fn shrink(context: &mut Context<'_>, content: &[u8]) -> Option<Bytes> {
    let mut packed = Vec::with_capacity(content.len() - content.len() / 16);
    context.compress_to_buffer(content, &mut packed).ok()?;
    packed.shrink_to_fit();
    Some(Bytes::from(packed))
}

fn sample(content: &[u8]) -> Vec<u8> {
    let apart = content.len() / (SAMPLE_PLACES + 1);
    let pieces = (1..=SAMPLE_PLACES).map(|place| &content[place * apart..]);
    pieces
        .flat_map(|from| &from[..SAMPLE_BYTES / SAMPLE_PLACES])
        .copied()
        .collect()
}

/// The content of a frame that announces so many bytes.
///
/// No more memory is reserved than a content frame may have, and none before what is announced was checked.
pub(super) fn unpack(packed: &[u8], announced: u64) -> Result<Bytes, WireError> {
    let length = usize::try_from(announced).unwrap_or(usize::MAX);
    within(length, PAYLOAD_BYTES_MAX, "length of the content")?;
    let wrong = || malformed("the content does not decompress to what is announced");
    let content = decompress(packed, length).map_err(|_| wrong())?;
    match content.len() == length && length > 0 {
        true => Ok(Bytes::from(content)),
        false => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(bytes: usize) -> Vec<u8> {
        let words = b"what can be foreseen need not be said ".iter().cycle();
        words.copied().take(bytes).collect()
    }

    /// Bytes that nothing foresees (xorshift).
    fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252_u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        (0..bytes).map(|_| next()).collect()
    }

    #[test]
    fn what_was_packed_comes_out_again() {
        let mut compressor = Compressor::new().unwrap();
        for bytes in [CONTENT_BYTES_MIN, 2 * SAMPLE_BYTES + 1, PAYLOAD_BYTES_MAX] {
            for level in [LEVEL_MIN, 6, LEVEL_MAX] {
                let content = text(bytes);
                let packed = compressor.pack(&content, level).unwrap();
                assert!(packed.len() < bytes / 4, "{} of {bytes}", packed.len());
                assert_eq!(unpack(&packed, bytes as u64).unwrap(), content);
            }
        }
    }

    #[test]
    fn what_does_not_shrink_goes_as_it_is() {
        let mut compressor = Compressor::new().unwrap();
        for bytes in [0, 1, CONTENT_BYTES_MIN, PAYLOAD_BYTES_MAX] {
            assert_eq!(compressor.pack(&noise(bytes), 3), None, "{bytes} bytes");
        }
        assert_eq!(compressor.pack(&text(CONTENT_BYTES_MIN - 1), 3), None);
    }

    #[test]
    fn what_cannot_shrink_is_found_out_by_a_sample() {
        let mut compressor = Compressor::new().unwrap();
        let content = [text(1000), noise(100_000), text(1000)].concat();
        assert_eq!(compressor.pack(&content, LEVEL_MAX), None);
        assert_eq!(compressor.level, LEVEL_MIN, "the rest was tried as well");
    }

    #[test]
    fn what_looked_as_if_it_would_shrink_spoils_nothing_that_follows() {
        let mut compressor = Compressor::new().unwrap();
        let mut misleading = noise(PAYLOAD_BYTES_MAX);
        let piece = SAMPLE_BYTES / SAMPLE_PLACES;
        for place in 1..=SAMPLE_PLACES {
            let from = place * (PAYLOAD_BYTES_MAX / (SAMPLE_PLACES + 1));
            misleading[from..from + piece].copy_from_slice(&text(piece));
        }
        for level in [9, 9, 3, 1] {
            assert_eq!(compressor.pack(&misleading, level), None);
            assert_eq!(compressor.level, level, "the sample was believed");
            assert!(compressor.pack(&text(100_000), level).is_some());
            assert!(compressor.pack(&text(100_000), 6).is_some());
        }
    }

    #[test]
    fn what_shrinks_in_places_is_compressed() {
        let mut compressor = Compressor::new().unwrap();
        let files = (0..40).map(|file| match file % 2 {
            0 => text(6_000),
            _ => noise(6_000),
        });
        let content = files.collect::<Vec<_>>().concat();
        let packed = compressor.pack(&content, 3).unwrap();
        assert!(packed.len() < content.len() * 2 / 3);
    }

    #[test]
    fn a_bomb_takes_no_more_than_it_announces() {
        let mut context = Context::new(LEVEL_MIN.into()).unwrap();
        let bomb = context.compress(&vec![0; 1 << 30]).unwrap();
        for announced in [1, PAYLOAD_BYTES_MAX as u64] {
            assert!(matches!(
                unpack(&bomb, announced),
                Err(WireError::Malformed(_))
            ));
        }
        for announced in [PAYLOAD_BYTES_MAX as u64 + 1, 1 << 30, u64::MAX] {
            assert!(matches!(unpack(&bomb, announced), Err(WireError::Limit(_))));
        }
    }

    #[test]
    fn what_is_announced_must_come() {
        let mut compressor = Compressor::new().unwrap();
        let packed = compressor.pack(&text(4096), 1).unwrap();
        for announced in [0, 4095, 4097] {
            assert!(unpack(&packed, announced).is_err(), "{announced}");
        }
        assert!(unpack(&packed[..packed.len() - 1], 4096).is_err());
        assert!(unpack(b"no frame", 4096).is_err());
        assert!(unpack(b"", 1).is_err());
    }
}
