//! Blocks of a large file, told by their hashes, and the hash of the whole that is made of them.

use blake3::Hasher;
use serde::{Deserialize, Serialize};

/// Largest block that is compared by its hash, in bytes.
pub const BLOCK_BYTES_MAX: u64 = 128 * 1024;

/// Most blocks that are compared at once.
pub const BLOCKS_MAX: usize = 1024;

/// Bytes of a [`BlockHash`].
pub const BLOCK_HASH_BYTES: usize = 16;

/// The first 128 bits of BLAKE3. Users write the files that are hashed, so that it must be beyond anybody to
/// find two contents with one hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlockHash(#[serde(with = "serde_bytes")] [u8; BLOCK_HASH_BYTES]);

impl BlockHash {
    /// The hash of these bytes.
    #[must_use]
    pub fn of(data: &[u8]) -> Self {
        Self::first_of(&blake3::hash(data))
    }

    /// A hash from its bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; BLOCK_HASH_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; BLOCK_HASH_BYTES] {
        &self.0
    }

    fn first_of(hash: &blake3::Hash) -> Self {
        let first = hash.as_bytes().first_chunk();
        Self(*first.expect("a hash of BLAKE3 has 32 bytes"))
    }
}

/// The hash of a whole file, from those of its pieces in their order: both ends cut it into the same pieces.
#[derive(Debug, Clone, Default)]
pub struct ContentHasher(Hasher);

impl ContentHasher {
    /// A piece of content follows.
    pub fn block(&mut self, hash: &BlockHash) {
        self.0.update(&[0]).update(hash.as_bytes());
    }

    /// A hole of so many bytes follows.
    pub fn hole(&mut self, bytes: u64) {
        self.0.update(&[1]).update(&bytes.to_le_bytes());
    }

    /// The hash of what came so far.
    #[must_use]
    pub fn finish(&self) -> BlockHash {
        BlockHash::first_of(&self.0.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_is_told_by_its_pieces_and_their_order() {
        let whole = |pieces: &[&[u8]]| {
            let mut content = ContentHasher::default();
            for piece in pieces {
                content.block(&BlockHash::of(piece));
            }
            content
        };
        let ab = whole(&[b"a", b"b"]);
        assert_eq!(ab.finish(), whole(&[b"a", b"b"]).finish());
        assert_ne!(ab.finish(), whole(&[b"b", b"a"]).finish());
        assert_ne!(ab.finish(), whole(&[b"ab"]).finish());
        let mut longer = ab.clone();
        longer.hole(1);
        let mut longest = ab.clone();
        longest.hole(2);
        assert_ne!(longer.finish(), ab.finish());
        assert_ne!(longer.finish(), longest.finish());
    }
}
