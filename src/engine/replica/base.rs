//! Large files that the sink holds in an older form: only what differs is sent.
//!
//! The sink is asked for a range of what it holds (`Change::Base`) and answers with the hashes of its blocks.
//! The file is then read block by block, and what has the same hash is not sent but said to be kept. While one
//! range is read, the next one is asked for, and no other, so that neither side ever remembers more hashes than
//! those of two.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::{Replica, Stream, Subject};
use crate::engine::Now;
use crate::engine::source::Action;
use crate::tree::{BlockHash, ContentHasher};
use crate::wire::message::{Answer, Change};

/// What the sink holds of a file that is being streamed.
#[derive(Debug, Default)]
pub(super) struct Base {
    /// Bytes of a block.
    block: u64,
    /// Bytes of the file.
    size: u64,
    /// The range that the sink was asked for and has not told of yet.
    asked: Option<Range<u64>>,
    /// It was asked up to here.
    asked_to: u64,
    /// What it has told of, from where the file is being read on.
    known: VecDeque<Known>,
    /// Bytes found to be the same that the sink has not been told to keep.
    same: u64,
    content: ContentHasher,
}

/// A range of which the sink has told.
#[derive(Debug)]
struct Known {
    range: Range<u64>,
    blocks: Vec<Option<BlockHash>>,
}

/// The next piece of a stream: what is kept of the base, a hole, data.
pub(super) struct Piece {
    /// Where it begins.
    pub offset: u64,
    pub kept: u64,
    pub hole: u64,
    pub data: Bytes,
}

impl Piece {
    /// The message that tells it.
    pub(super) fn into_chunk(self, stream: u64, size: u64) -> Change {
        Change::Chunk {
            stream,
            offset: self.offset,
            kept: self.kept,
            hole: self.hole,
            data: self.data,
            size,
        }
    }
}

impl Base {
    /// Leaves out of a piece what the sink has. `None` if nothing needs to be told yet. If it trusts, the hash
    /// need not be the same.
    pub(super) fn without_same(
        &mut self,
        mut piece: Piece,
        hash: Option<BlockHash>,
        trusts: bool,
    ) -> Option<Piece> {
        let start = piece.offset + piece.hole;
        let end = start + piece.data.len() as u64;
        while self
            .known
            .front()
            .is_some_and(|known| known.range.end <= start)
        {
            self.known.pop_front();
        }
        let held = self.held(start, end).filter(|_| piece.hole == 0);
        let is_same = held.is_some() && (held == hash || trusts);
        if piece.hole > 0 {
            self.content.hole(piece.hole);
        }
        if let Some(hash) = held.filter(|_| is_same).or(hash) {
            self.content.block(&hash);
        }
        piece.offset -= self.same;
        piece.kept = self.same;
        if is_same {
            piece.kept += piece.data.len() as u64;
            piece.data = Bytes::new();
        }
        let range = self.known.front().map(|known| &known.range);
        let is_over = range.is_none_or(|range| end >= range.end);
        self.same = match is_same && !is_over {
            true => piece.kept,
            false => 0,
        };
        (self.same == 0).then_some(piece)
    }

    /// The hash of what the sink has in the place of these bytes, if they are a block.
    fn held(&self, start: u64, end: u64) -> Option<BlockHash> {
        let is_block = start.is_multiple_of(self.block)
            && (end - start == self.block || end == self.size)
            && end > start;
        let known = self.known.front().filter(|_| is_block)?;
        let place = start.checked_sub(known.range.start)? / self.block;
        *known.blocks.get(place as usize)?
    }

    /// The hash of the whole file, as it was told.
    pub(super) fn hash(&self) -> BlockHash {
        self.content.finish()
    }
}

impl Stream {
    /// The sink may have a stage for it.
    pub(super) fn has_stage(&self) -> bool {
        self.offset > 0 || self.base.as_ref().is_some_and(|base| base.asked_to > 0)
    }

    /// What the sink holds where it is to be read next is still to be told.
    pub(super) fn awaits_base(&self) -> bool {
        let asked = self.base.as_ref().and_then(|base| base.asked.as_ref());
        asked.is_some_and(|asked| asked.start <= self.offset)
    }
}

impl Replica {
    /// A look has opened a large file.
    pub(super) fn begin_stream(&mut self, id: u64, mut stream: Stream) {
        let size = stream.meta.size;
        if !stream.wish.without_base && size >= self.limits.base_bytes_min {
            let block = self.limits.block_bytes;
            stream.base = Some(Base {
                block,
                size,
                ..Base::default()
            });
        }
        self.streams.insert(id, stream);
    }

    /// Asks what the sink holds of a file, if it is time. False if nothing was asked.
    pub(super) fn ask_for_base(&mut self, now: Now, id: u64, out: &mut Vec<Action>) -> bool {
        let most = self.limits.block_bytes * self.limits.base_blocks as u64;
        let Some(stream) = self.streams.get_mut(&id) else {
            return false;
        };
        let Some(base) = &mut stream.base else {
            return false;
        };
        let offset = stream.offset.next_multiple_of(base.block);
        let offset = offset.max(base.asked_to);
        let is_early = base.asked.is_some() || offset > stream.offset + most;
        if is_early || offset >= base.size {
            return false;
        }
        let bytes = most.min(base.size - offset);
        base.asked_to = offset + bytes;
        base.asked = Some(offset..base.asked_to);
        let change = Change::Base {
            stream: id,
            path: stream.path.clone(),
            offset,
            bytes,
            block: base.block,
            size: base.size,
        };
        let (lane, stamp) = (stream.lane, stream.wish.stamp);
        self.number(now, lane, stamp, change, Subject::Base { stream: id }, out);
        true
    }

    /// The sink has told what it holds.
    pub(super) fn base_told(&mut self, id: u64, answer: Answer) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return;
        };
        let Some(base) = &mut stream.base else {
            return;
        };
        match (base.asked.take(), answer) {
            (Some(range), Answer::Blocks(blocks)) => base.known.push_back(Known { range, blocks }),
            // It has nothing, and no stage either.
            (Some(range), _) if range.start == 0 => stream.base = None,
            _ => base.asked_to = base.size,
        }
    }
}
