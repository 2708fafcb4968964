//! Streams that come as they should, and as they should not.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use super::*;
use crate::fs::conformance::{name, path};
use crate::fs::memory::{Disk, MemoryFs};

struct Sink {
    fs: MemoryFs,
    applier: Applier<MemoryFs>,
}

impl Sink {
    fn new() -> Self {
        let fs = MemoryFs::default();
        let applier = Applier::new(fs.clone(), Brake::new(1000, 1.0), None);
        Self { fs, applier }
    }

    fn apply(&self, change: Change) -> Option<Refusal> {
        let outcome = self.applier.apply(Lane::Live, change);
        outcome.refused.into_iter().next().map(|(_, why)| why)
    }

    /// A piece of the stream 1.
    fn chunk(&self, offset: u64, hole: u64, data: &'static [u8], size: u64) -> Option<Refusal> {
        self.apply(Change::Chunk {
            stream: 1,
            offset,
            hole,
            data: bytes::Bytes::from_static(data),
            size,
        })
    }

    /// Publishes the stream 1 as a file of this size.
    fn publish(&self, size: u64) -> Option<Refusal> {
        let meta = Metadata {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size,
            mtime: Time::default(),
            rdev: 0,
            xattrs: Vec::new(),
        };
        self.apply(Change::Publish {
            stream: 1,
            path: path("file"),
            meta,
        })
    }

    fn file(&self) -> (Vec<u8>, Vec<std::ops::Range<u64>>) {
        let disk = self.fs.disk();
        let ino = disk.find(&path("file")).unwrap();
        (disk.content(ino).unwrap().to_vec(), disk.data(ino).unwrap())
    }

    fn is_empty(&self) -> bool {
        let disk = self.fs.disk();
        disk.lookup(Disk::root(&disk), &name("file")).is_err() && disk.used() == 0
    }
}

#[test]
fn a_stream_keeps_its_holes() {
    let sink = Sink::new();
    assert_eq!(sink.chunk(0, 2, b"abc", 20), None);
    assert_eq!(sink.chunk(5, 0, b"d", 20), None);
    assert_eq!(sink.chunk(6, 4, b"ef", 20), None);
    assert_eq!(sink.chunk(12, 8, b"", 20), None);
    assert_eq!(sink.publish(20), None);
    let content = b"\0\0abcd\0\0\0\0ef\0\0\0\0\0\0\0\0".to_vec();
    assert_eq!(sink.file(), (content, vec![2..6, 10..12]));
    // All a hole, in the place of the other.
    assert_eq!(sink.chunk(0, 5, b"", 5), None);
    assert_eq!(sink.publish(5), None);
    assert_eq!(sink.file(), (vec![0; 5], vec![]));
    // And without any; zeros that are data stay data.
    assert_eq!(sink.chunk(0, 0, b"\0\0\0", 4), None);
    assert_eq!(sink.chunk(3, 0, b"x", 4), None);
    assert_eq!(sink.publish(4), None);
    assert_eq!(sink.file().1, [0..4]);
}

#[test]
fn a_piece_that_was_lost_is_no_hole() {
    let sink = Sink::new();
    sink.fs.disk().bytes_max = 2;
    let full = Some(Refusal::Full(Shortage::Space));
    assert_eq!(sink.chunk(0, 0, b"abc", 10), full);
    sink.fs.disk().bytes_max = 100;
    assert_eq!(sink.chunk(3, 0, b"de", 10), full);
    assert_eq!(sink.chunk(5, 5, b"", 10), full);
    assert_eq!(sink.publish(10), full);
    assert!(sink.is_empty());
    // The stream has ended; another begins with a stage of its own.
    assert_eq!(sink.publish(10), Some(Refusal::Mismatch));
    assert_eq!(sink.chunk(0, 7, b"abc", 10), None);
    assert_eq!(sink.publish(10), None);
}

#[test]
fn pieces_that_do_not_fit_free_the_stage() {
    for (offset, size) in [(0, 10), (2, 10), (4, 10), (3, 11), (3, 9)] {
        let sink = Sink::new();
        assert_eq!(sink.chunk(0, 0, b"abc", 10), None);
        let refused = sink.chunk(offset, 0, b"de", size);
        assert_eq!(refused, Some(Refusal::Mismatch), "{offset} of {size}");
        assert!(sink.is_empty());
    }
    // Not whole yet, or not the file that it says.
    for size in [3, 9, 10, 11] {
        let sink = Sink::new();
        assert_eq!(sink.chunk(0, 0, b"abc", 10), None);
        assert_eq!(sink.publish(size), Some(Refusal::Mismatch));
        assert!(sink.is_empty());
    }
}

/// An entry that could not be looked at is there all the same (seed 12868024763410).
#[test]
fn what_cannot_be_looked_at_is_in_excess() {
    for failing in 0..8 {
        let sink = Sink::new();
        assert_eq!(sink.chunk(0, 0, b"1", 1), None);
        assert_eq!(sink.publish(1), None);
        let mut step = 0;
        sink.fs.set_trouble(Some(Box::new(move |_| {
            step += 1;
            (step == failing + 1).then_some(libc::EIO)
        })));
        let listing = Change::Listing {
            dir: RelPath::root(),
            range: NameRange {
                after: None,
                upto: None,
            },
            page: Page::Entries(Vec::new()),
        };
        match sink.applier.apply(Lane::Live, listing).answer {
            Some(Answer::Failed(libc::EIO)) => {}
            Some(Answer::Names { excess, .. }) => assert_eq!(excess, [name("file")]),
            other => panic!("step {failing} failed: {other:?}"),
        }
    }
}

/// Removals that fail are tried again and again. They are still there, so that they leave the brake its room.
#[test]
fn a_removal_that_fails_does_not_count() {
    for filter in [
        Filter::default(),
        Filter::new(vec![crate::tree::Rule::parse(b"- *.keep").unwrap()]).unwrap(),
    ] {
        let fs = MemoryFs::default();
        {
            let mut disk = fs.disk();
            let root = Disk::root(&disk);
            let dir = disk.make_dir(root, &name("dir")).unwrap();
            for entry in ["a", "b", "c.keep"] {
                disk.create(dir, &name(entry), Kind::File, b"x").unwrap();
            }
            disk.create(root, &name("file"), Kind::File, b"x").unwrap();
        }
        let applier = Applier::new(fs.clone(), Brake::new(10, 0.0), None);
        applier.set_filter(filter);
        fs.set_trouble(Some(Box::new(|call| {
            (call == crate::fs::memory::Call::Change).then_some(libc::EPERM)
        })));
        for gone in ["dir", "file"] {
            for _ in 0..100 {
                let entry = Entry {
                    name: name(gone),
                    state: State::Absent,
                };
                let absent = Change::Entries {
                    dir: RelPath::root(),
                    entries: vec![entry],
                };
                let outcome = applier.apply(Lane::Backlog, absent);
                assert!(
                    matches!(
                        outcome.refused[..],
                        [(
                            0,
                            Refusal::Problem {
                                errno: libc::EPERM,
                                ..
                            }
                        )]
                    ),
                    "{outcome:?}"
                );
            }
        }
        assert_eq!(applier.brake.room(Lane::Backlog), 10);
    }
}
