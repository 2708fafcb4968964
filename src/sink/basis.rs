//! What a large file at the sink gives to the one that takes its place.
//!
//! A stage that builds on a base holds a copy of it, made range by range before anybody is told the hashes:
//! those of the copy, which nobody else can change. So it does not matter what becomes of the base meanwhile
//! (rule 30). What the source does not keep, it overwrites.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;

use crate::fs::Fs;
use crate::tree::{BlockHash, ContentHasher};

/// Ranges that were told and may still be kept: the one that the source is reading, and the next.
const RANGES_MAX: usize = 2;

/// A file that a stage builds on, and the hashes that were told of it.
#[derive(Debug)]
pub(super) struct Basis<H> {
    /// Until nothing more of it is there to be had.
    base: Option<H>,
    /// Bytes of a block.
    block: u64,
    /// Bytes of the file that is made of it.
    size: u64,
    /// What was told and may still be kept.
    told: VecDeque<Told>,
    content: ContentHasher,
}

/// The hashes of the blocks of a range.
#[derive(Debug)]
struct Told {
    range: Range<u64>,
    blocks: Vec<Option<BlockHash>>,
}

impl<H> Basis<H> {
    pub(super) fn new(base: H, block: u64, size: u64) -> Self {
        Self {
            base: Some(base),
            block,
            size,
            told: VecDeque::new(),
            content: ContentHasher::default(),
        }
    }

    /// True if a range of blocks of this length may be copied now, to a stage that has grown to `end`. What was told
    /// before that is forgotten, and of what may still be kept there is no more than two ranges.
    pub(super) fn admits(&mut self, end: u64, range: &Range<u64>, block: u64) -> bool {
        while self.told.front().is_some_and(|told| told.range.end <= end) {
            self.told.pop_front();
        }
        let told_to = self.told.back().map_or(end, |told| told.range.end);
        block == self.block && range.start >= told_to && self.told.len() < RANGES_MAX
    }

    /// Copies a range of the base to the stage. Returns the hashes of its blocks; `None` if nothing more of it is
    /// to be had, be it that it ends there, cannot be read, or that there is no room: whoever writes what is
    /// sent instead is told.
    pub(super) fn copy<F: Fs<File = H>>(
        &mut self,
        fs: &F,
        stage: &H,
        range: Range<u64>,
    ) -> Option<Vec<Option<BlockHash>>> {
        let copied = self.hashes(fs, self.base.as_ref()?, stage, range.clone());
        match copied {
            Ok(blocks) if !blocks.is_empty() => {
                let told = blocks.clone();
                self.told.push_back(Told { range, blocks });
                Some(told)
            }
            Ok(_) | Err(_) => {
                self.base = None;
                None
            }
        }
    }

    fn hashes<F: Fs<File = H>>(
        &self,
        fs: &F,
        base: &H,
        stage: &H,
        range: Range<u64>,
    ) -> io::Result<Vec<Option<BlockHash>>> {
        let mut blocks = Vec::new();
        let mut at = range.start;
        while at < range.end
            && let Some(data) = fs.next_data(base, at)?
        {
            let whole = self.whole_blocks(&data, range.end);
            if !whole.is_empty() {
                fs.copy_range(base, stage, whole.clone())?;
            }
            for start in whole.clone().step_by(self.block as usize) {
                let wanted = (whole.end - start).min(self.block) as usize;
                let copied = fs.read_piece(stage, start, wanted)?;
                if copied.len() < wanted {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let place = (start - range.start) / self.block;
                blocks.resize(place as usize, None);
                blocks.push(Some(BlockHash::of(&copied)));
            }
            // A hole may be all that the range has.
            let skipped = data.start.min(range.end) - range.start;
            let skipped = skipped.div_ceil(self.block) as usize;
            blocks.resize(blocks.len().max(skipped), None);
            at = data.end;
        }
        Ok(blocks)
    }

    /// The blocks up to `end` that lie in the data from their first byte to their last.
    fn whole_blocks(&self, data: &Range<u64>, end: u64) -> Range<u64> {
        let last = match data.end >= self.size {
            true => self.size,
            false => data.end / self.block * self.block,
        };
        data.start.next_multiple_of(self.block)..last.min(end)
    }

    /// Takes note that this range stays as it was copied. False unless it consists of blocks of which the
    /// hashes were told at once.
    pub(super) fn keep(&mut self, kept: Range<u64>) -> bool {
        if kept.is_empty() {
            return true;
        }
        let is_part = |told: &&Told| told.range.start <= kept.start && kept.end <= told.range.end;
        let ends_block = kept.end.is_multiple_of(self.block) || kept.end == self.size;
        let Some(told) = self.told.iter().find(is_part) else {
            return false;
        };
        if !kept.start.is_multiple_of(self.block) || !ends_block {
            return false;
        }
        let first = (kept.start - told.range.start) / self.block;
        let count = (kept.end - kept.start).div_ceil(self.block) as usize;
        let blocks = told.blocks.iter().skip(first as usize).take(count);
        let hashes: Vec<_> = blocks.map_while(|hash| *hash).collect();
        hashes.iter().for_each(|hash| self.content.block(hash));
        hashes.len() == count
    }

    /// Takes note of a hole.
    pub(super) fn hole(&mut self, bytes: u64) {
        self.content.hole(bytes);
    }

    /// Takes note of content that came from the source.
    pub(super) fn data(&mut self, data: &[u8]) {
        self.content.block(&BlockHash::of(data));
    }

    /// The hash of the whole file.
    pub(super) fn hash(&self) -> BlockHash {
        self.content.finish()
    }
}
