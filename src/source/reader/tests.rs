//! Files with holes, from the look to the end of their streams.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::ops::Range;

use bytes::Bytes;

use super::*;
use crate::fs::conformance::name;
use crate::fs::memory::{Disk, Ino, MemoryFile, MemoryFs};

const SIZE: u64 = 40;

/// A file of [`SIZE`] bytes with data in these ranges.
fn source(data: &[Range<u64>]) -> (MemoryFs, Ino) {
    let fs = MemoryFs::default();
    let mut disk = fs.disk();
    let root = disk.root();
    let ino = disk.create(root, &name("file"), Kind::File, b"").unwrap();
    disk.truncate(ino, SIZE).unwrap();
    for range in data {
        let bytes = vec![b'x'; (range.end - range.start) as usize];
        disk.write_at(ino, range.start, &bytes).unwrap();
    }
    drop(disk);
    (fs, ino)
}

/// Looks at the file, which travels whole up to this size.
fn look(fs: &MemoryFs, inline_bytes_max: u64) -> (Seen, Option<OpenFile<MemoryFile>>) {
    let settings = ReaderSettings {
        inline_bytes_max,
        ..ReaderSettings::default()
    };
    let mut reader = Reader::new(settings, Filter::default());
    let order = Order::Look {
        dir: RelPath::root(),
        names: vec![LookName {
            name: name("file"),
            attributes: false,
            is_file: false,
            unsettled: false,
            further: Further::Unknown,
        }],
        content: true,
        streams: 1,
    };
    let Finding::Looked(mut seen) = reader.read(fs, Time::default(), &order, &mut || 7) else {
        panic!("not looked at")
    };
    (seen.remove(0), reader.take_opened().pop())
}

fn opened(fs: &MemoryFs, inline_bytes_max: u64) -> OpenFile<MemoryFile> {
    let (seen, open) = look(fs, inline_bytes_max);
    assert!(matches!(seen, Seen::Large { stream: 7, .. }), "{seen:?}");
    open.unwrap()
}

/// All pieces of at most 8 bytes, as the engine asks for them.
fn pieces(fs: &MemoryFs, open: &OpenFile<MemoryFile>, hashed: bool) -> Vec<Range<u64>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < open.stat.size {
        let Finding::Chunk { offset, data, hash } = read_chunk(fs, open, span(at, hashed)) else {
            panic!("the stream has ended at {at} after {found:?}")
        };
        let expected = (hashed && !data.is_empty()).then(|| BlockHash::of(&data));
        assert_eq!(hash, expected);
        at = offset + data.len() as u64;
        found.push(offset..at);
    }
    found
}

fn span(offset: u64, hashed: bool) -> Span {
    Span {
        offset,
        bytes: 8,
        hashed,
    }
}

fn is_over(finding: &Finding) -> bool {
    *finding == Finding::StreamEnded { whole: false }
}

fn ends_whole(fs: &MemoryFs, open: &OpenFile<MemoryFile>, unsettled: bool) -> bool {
    let path = RelPath::root().join(&name("file"));
    end_stream(fs, open, &path, unsettled) == Finding::StreamEnded { whole: true }
}

#[test]
fn a_file_with_holes_is_a_stream_however_small() {
    let holes: [&[Range<u64>]; 4] = [&[0..39], &[1..40], &[0..9, 10..40], &[]];
    for data in holes {
        opened(&source(data).0, 1000);
    }
    let (seen, open) = look(&source(&[0..SIZE]).0, 1000);
    assert!(matches!(seen, Seen::Is { .. }), "{seen:?}");
    assert!(open.is_none());
}

#[test]
fn a_stream_jumps_over_holes() {
    type Ranges = [Range<u64>];
    let cases: [(&Ranges, &Ranges); 4] = [
        (&[3..5, 20..40], &[3..5, 20..28, 28..36, 36..40]),
        (&[0..16], &[0..8, 8..16, 40..40]),
        (&[], &[40..40]),
        (&[0..40], &[0..8, 8..16, 16..24, 24..32, 32..40]),
    ];
    for (data, expected) in cases {
        let (fs, _) = source(data);
        let open = opened(&fs, 8);
        assert_eq!(pieces(&fs, &open, false), expected);
        assert!(ends_whole(&fs, &open, false));
    }
}

#[test]
fn what_is_hashed_ends_with_its_block() {
    type Ranges = [Range<u64>];
    let cases: [(&Ranges, &Ranges); 3] = [
        (&[0..40], &[0..8, 8..16, 16..24, 24..32, 32..40]),
        (
            &[3..5, 20..36],
            &[3..3, 3..5, 20..20, 20..24, 24..32, 32..36, 40..40],
        ),
        (&[], &[40..40]),
    ];
    for (data, expected) in cases {
        let (fs, _) = source(data);
        assert_eq!(pieces(&fs, &opened(&fs, 8), true), expected);
    }
}

#[test]
fn a_file_without_holes_is_read_in_full_whatever_is_punched_meanwhile() {
    let (fs, ino) = source(&[0..SIZE]);
    let open = opened(&fs, 8);
    fs.disk().now.nanos += 1;
    fs.disk().punch(ino, 8..40).unwrap();
    assert_eq!(pieces(&fs, &open, false).len(), 5);
    assert!(!ends_whole(&fs, &open, false));
}

#[test]
fn what_was_cut_off_is_no_hole() {
    let (fs, ino) = source(&[0..4, 20..30]);
    let open = opened(&fs, 8);
    let change = |change: &dyn Fn(&mut Disk)| {
        let mut disk = fs.disk();
        disk.now.nanos += 1;
        change(&mut disk);
    };
    change(&|disk| disk.truncate(ino, 24).unwrap());
    assert_eq!(
        read_chunk(&fs, &open, span(4, false)),
        Finding::Chunk {
            offset: 20,
            data: Bytes::from_static(b"xxxx"),
            hash: None,
        }
    );
    assert!(is_over(&read_chunk(&fs, &open, span(24, false))));
    assert!(!ends_whole(&fs, &open, false));
    // Longer than it was: what has come since is not read, and the change is noticed.
    change(&|disk| disk.write_at(ino, 60, b"new").unwrap());
    assert_eq!(
        read_chunk(&fs, &open, span(24, false)),
        Finding::Chunk {
            offset: SIZE,
            data: Bytes::new(),
            hash: None,
        }
    );
    assert!(!ends_whole(&fs, &open, false));
    // Unless it is one that never settles.
    assert!(ends_whole(&fs, &open, true));
}
