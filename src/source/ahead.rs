//! A file that is read in pieces, one of them ahead.
//!
//! The engine asks for a piece when it has sent the one before. Meanwhile a reader without other work reads what will
//! be asked for next. That makes no difference to what is sent: whether the file has changed since it was opened is
//! judged behind its last piece.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::reader::{OpenFile, read_chunk};
use crate::engine::work::{Finding, Span};
use crate::fs::Fs;

/// A file held open for streaming, and at most one piece of it that nobody has asked for yet.
#[derive(Debug)]
pub struct Stream<F: Fs> {
    open: OpenFile<F::File>,
    ahead: Mutex<Option<(Span, Finding)>>,
}

impl<F: Fs> Stream<F> {
    /// The stream of a file of which nothing was read yet.
    #[must_use]
    pub fn new(open: OpenFile<F::File>) -> Self {
        Self {
            open,
            ahead: Mutex::new(None),
        }
    }

    /// The open file.
    #[must_use]
    pub fn open(&self) -> &OpenFile<F::File> {
        &self.open
    }

    /// What is asked for. Waits for a reader that is reading ahead.
    pub fn read(&self, fs: &F, span: Span) -> Finding {
        let ahead = self.ahead().take();
        match ahead {
            Some((known, finding)) if known == span => finding,
            _ => read_chunk(fs, &self.open, span),
        }
    }

    /// Reads a span before it is asked for, in the place of what was read so before.
    pub fn read_ahead(&self, fs: &F, span: Span) {
        let mut ahead = self.ahead();
        *ahead = Some((span, read_chunk(fs, &self.open, span)));
    }

    /// What will be asked for after this span, of which this was found; `None` if that was the end.
    #[must_use]
    pub fn after(&self, span: Span, found: &Finding) -> Option<Span> {
        let Finding::Chunk { offset, data, .. } = found else {
            return None;
        };
        let offset = offset + data.len() as u64;
        let left = self.open.stat.size.saturating_sub(offset);
        let bytes = match span.hashed {
            true => span.bytes,
            false => span.bytes.min(left),
        };
        (left > 0).then_some(Span {
            offset,
            bytes,
            ..span
        })
    }

    fn ahead(&self) -> MutexGuard<'_, Option<(Span, Finding)>> {
        // It is whole after every statement that changes it.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::fs::conformance::name;
    use crate::fs::memory::{Ino, MemoryFs};
    use crate::tree::Kind;

    const OLD: &[u8] = b"0123456789";
    const NEW: &[u8] = b"abcdefghij";

    fn stream() -> (MemoryFs, Ino, Stream<MemoryFs>) {
        let fs = MemoryFs::default();
        let mut disk = fs.disk();
        let root = disk.root();
        let ino = disk.create(root, &name("file"), Kind::File, OLD).unwrap();
        drop(disk);
        let (file, stat) = fs.open(&fs.root().unwrap(), &name("file")).unwrap();
        let open = OpenFile {
            stream: 1,
            file,
            stat,
            sparse: false,
        };
        (fs, ino, Stream::new(open))
    }

    fn span(offset: u64, bytes: u64) -> Span {
        Span {
            offset,
            bytes,
            hashed: false,
        }
    }

    fn content(finding: &Finding) -> &[u8] {
        match finding {
            Finding::Chunk { data, .. } => data,
            other => panic!("no content: {other:?}"),
        }
    }

    #[test]
    fn each_piece_but_the_first_can_be_read_ahead() {
        let (fs, ino, stream) = stream();
        let mut found = stream.read(&fs, span(0, 4));
        let mut whole = content(&found).to_vec();
        let mut at = span(0, 4);
        while let Some(next) = stream.after(at, &found) {
            stream.read_ahead(&fs, next);
            fs.disk().write_at(ino, 0, NEW).unwrap();
            found = stream.read(&fs, next);
            fs.disk().write_at(ino, 0, OLD).unwrap();
            whole.extend_from_slice(content(&found));
            at = next;
        }
        assert_eq!(at, span(8, 2));
        assert_eq!(whole, OLD);
    }

    #[test]
    fn what_was_read_ahead_answers_its_own_question_once() {
        let (fs, ino, stream) = stream();
        stream.read_ahead(&fs, span(4, 4));
        fs.disk().write_at(ino, 0, NEW).unwrap();
        assert_eq!(content(&stream.read(&fs, span(4, 4))), &OLD[4..8]);
        assert_eq!(content(&stream.read(&fs, span(4, 4))), &NEW[4..8]);
        stream.read_ahead(&fs, span(4, 4));
        fs.disk().write_at(ino, 0, OLD).unwrap();
        assert_eq!(content(&stream.read(&fs, span(4, 3))), &OLD[4..7]);
    }

    #[test]
    fn nothing_is_read_behind_a_stream_that_has_ended() {
        let (_, _, stream) = stream();
        let ended = Finding::StreamEnded { whole: false };
        assert_eq!(stream.after(span(0, 4), &ended), None);
    }
}
