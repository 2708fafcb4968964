//! Bytes of a file and the holes among them, in blocks of one byte.

use std::io;
use std::ops::Range;

/// Largest file, in bytes; holes take memory too.
pub(super) const FILE_BYTES_MAX: u64 = 1 << 30;

/// The content of a file, or the target of a symlink.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    bytes: Vec<u8>,
    /// Sorted, apart from each other, none empty. Few files have any, and then this owns no memory.
    holes: Vec<Range<usize>>,
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            holes: Vec::new(),
        }
    }
}

/// A size or an offset, if a file can be as large as that (else EFBIG).
pub(super) fn place(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes)
        .ok()
        .filter(|_| bytes <= FILE_BYTES_MAX)
        .ok_or_else(|| io::Error::from_raw_os_error(libc::EFBIG))
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that are no hole.
    pub(super) fn allocated(&self) -> usize {
        self.bytes.len() - self.holes.iter().map(Range::len).sum::<usize>()
    }

    /// Bytes that a write of this range would allocate.
    pub(super) fn missing(&self, range: &Range<usize>) -> usize {
        let in_holes: usize = self
            .holes
            .iter()
            .map(|hole| hole.start.max(range.start)..hole.end.min(range.end))
            .map(|both| both.len())
            .sum();
        in_holes + range.end.saturating_sub(range.start.max(self.bytes.len()))
    }

    /// The first data that ends after `offset`, cut off there.
    pub(super) fn next_data(&self, offset: usize) -> Option<Range<usize>> {
        let mut start = offset;
        for hole in self.holes.iter().filter(|hole| hole.end > offset) {
            if hole.start > start {
                return Some(start..hole.start);
            }
            start = hole.end;
        }
        (start < self.bytes.len()).then_some(start..self.bytes.len())
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        if self.bytes.len() < end {
            self.set_len(end);
        }
        self.bytes[offset..end].copy_from_slice(data);
        if !self.holes.is_empty() {
            self.fill(&(offset..end));
        }
    }

    /// What the file gains is a hole.
    pub(super) fn set_len(&mut self, len: usize) {
        let before = self.bytes.len();
        self.bytes.resize(len, 0);
        if len > before {
            self.punch(before..len);
        } else if !self.holes.is_empty() {
            self.fill(&(len..before));
        }
    }

    /// Makes a range a hole, as far as the file reaches.
    pub(super) fn punch(&mut self, range: Range<usize>) {
        let mut hole = range.start..range.end.min(self.bytes.len());
        if hole.is_empty() {
            return;
        }
        self.bytes[hole.clone()].fill(0);
        self.holes.retain(|other| {
            let apart = other.end < hole.start || other.start > hole.end;
            if !apart {
                hole = hole.start.min(other.start)..hole.end.max(other.end);
            }
            apart
        });
        let at = self.holes.partition_point(|other| other.end < hole.start);
        self.holes.insert(at, hole);
    }

    /// Nothing in this range is a hole any more.
    fn fill(&mut self, range: &Range<usize>) {
        let holes = std::mem::take(&mut self.holes);
        let around = |hole: Range<usize>| {
            let before = hole.start..hole.end.min(range.start);
            let behind = hole.start.max(range.end)..hole.end;
            [before, behind]
        };
        self.holes = holes
            .into_iter()
            .flat_map(around)
            .filter(|left| !left.is_empty())
            .collect();
    }

    /// The content is lost, but not its size.
    pub(super) fn lose(&mut self) {
        self.bytes.fill(0);
    }
}
