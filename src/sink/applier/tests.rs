//! Streams that come as they should, and as they should not.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use super::*;
use crate::fs::conformance::{name, path};
use crate::fs::memory::{Disk, MemoryFs};
use crate::tree::ContentHasher;

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
        self.piece((offset, 0, hole), data, size)
    }

    /// The same behind something that is kept.
    fn piece(
        &self,
        (offset, kept, hole): (u64, u64, u64),
        data: &'static [u8],
        size: u64,
    ) -> Option<Refusal> {
        self.apply(Change::Chunk {
            stream: 1,
            offset,
            kept,
            hole,
            data: bytes::Bytes::from_static(data),
            size,
        })
    }

    /// Publishes the stream 1 as a file of this size.
    fn publish(&self, size: u64) -> Option<Refusal> {
        self.publish_as(size, None)
    }

    fn publish_as(&self, size: u64, hash: Option<BlockHash>) -> Option<Refusal> {
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
            hash,
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

/// Blocks of four bytes.
const BLOCK: u64 = 4;

impl Sink {
    /// Publishes a file without a base.
    fn hold(&self, content: &'static [u8]) {
        let size = content.len() as u64;
        assert_eq!(self.chunk(0, 0, content, size), None);
        assert_eq!(self.publish(size), None);
    }

    /// Asks for the base of the stream 1, from here to there in a file of this size.
    fn base(&self, range: Range<u64>, size: u64) -> Outcome {
        let change = Change::Base {
            stream: 1,
            path: path("file"),
            offset: range.start,
            bytes: range.end - range.start,
            block: BLOCK,
            size,
        };
        self.applier.apply(Lane::Live, change)
    }

    /// The same, and what the sink holds there.
    fn blocks(&self, range: Range<u64>, size: u64) -> Option<Vec<Option<BlockHash>>> {
        match self.base(range, size).answer {
            Some(Answer::Blocks(blocks)) => Some(blocks),
            Some(Answer::Missing) => None,
            other => panic!("{other:?}"),
        }
    }
}

fn hashes(blocks: &[&[u8]]) -> Vec<Option<BlockHash>> {
    let hash = |block: &&[u8]| (!block.is_empty()).then(|| BlockHash::of(block));
    blocks.iter().map(hash).collect()
}

/// The hash of a file of these pieces.
fn whole(pieces: &[&[u8]]) -> Option<BlockHash> {
    let mut content = ContentHasher::default();
    for piece in pieces {
        content.block(&BlockHash::of(piece));
    }
    Some(content.finish())
}

#[test]
fn what_is_kept_of_a_base_does_not_travel() {
    let sink = Sink::new();
    sink.hold(b"aaaabbbbccccdd");
    // The end of the old file, which is longer now, is no block.
    let told = hashes(&[b"aaaa", b"bbbb", b"cccc"]);
    assert_eq!(sink.blocks(0..16, 18), Some(told));
    assert_eq!(sink.piece((0, 4, 0), b"BBBB", 18), None);
    assert_eq!(sink.piece((8, 4, 0), b"ddee", 18), None);
    assert_eq!(sink.blocks(16..18, 18), None);
    assert_eq!(sink.piece((16, 0, 0), b"ff", 18), None);
    let hash = whole(&[b"aaaa", b"BBBB", b"cccc", b"ddee", b"ff"]);
    assert_eq!(sink.publish_as(18, hash), None);
    assert_eq!(sink.file().0, b"aaaaBBBBccccddeeff");
    // Cut off: the new end is a block of its own.
    let told = hashes(&[b"aaaa", b"BB"]);
    assert_eq!(sink.blocks(0..6, 6), Some(told));
    assert_eq!(sink.piece((0, 6, 0), b"", 6), None);
    assert_eq!(sink.publish_as(6, whole(&[b"aaaa", b"BB"])), None);
    assert_eq!(sink.file().0, b"aaaaBB");
}

#[test]
fn blocks_with_holes_are_no_base() {
    let sink = Sink::new();
    assert_eq!(sink.chunk(0, 8, b"aaaab", 20), None);
    assert_eq!(sink.chunk(13, 3, b"cccc", 20), None);
    assert_eq!(sink.publish(20), None);
    let told = hashes(&[b"", b"", b"aaaa", b"", b"cccc"]);
    assert_eq!(sink.blocks(0..20, 20), Some(told));
    // A hole where the base has data, and data where it has a hole.
    assert_eq!(sink.piece((0, 0, 4), b"\0\0\0\0", 20), None);
    assert_eq!(sink.piece((8, 0, 4), b"", 20), None);
    assert_eq!(sink.piece((12, 0, 4), b"", 20), None);
    assert_eq!(sink.piece((16, 4, 0), b"", 20), None);
    let mut content = ContentHasher::default();
    content.hole(4);
    content.block(&BlockHash::of(b"\0\0\0\0"));
    content.hole(4);
    content.hole(4);
    content.block(&BlockHash::of(b"cccc"));
    assert_eq!(sink.publish_as(20, Some(content.finish())), None);
    let content = b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0cccc".to_vec();
    assert_eq!(sink.file(), (content, vec![4..8, 16..20]));
}

#[test]
fn only_the_right_whole_is_published() {
    let right = whole(&[b"aaaa", b"BBBB"]);
    for hash in [None, whole(&[b"aaaa", b"bbbb"]), whole(&[b"aaaa"]), right] {
        let sink = Sink::new();
        sink.hold(b"aaaabbbb");
        assert!(sink.blocks(0..8, 8).is_some());
        assert_eq!(sink.piece((0, 4, 0), b"BBBB", 8), None);
        let refused = (hash != right).then_some(Refusal::Mismatch);
        assert_eq!(sink.publish_as(8, hash), refused);
        let held: &[u8] = if hash == right {
            b"aaaaBBBB"
        } else {
            b"aaaabbbb"
        };
        assert_eq!(sink.file().0, held);
        assert_eq!(sink.fs.disk().used(), 8);
    }
    // A file without a base has no such hash.
    let sink = Sink::new();
    assert_eq!(sink.chunk(0, 0, b"aaaa", 4), None);
    let refused = sink.publish_as(4, whole(&[b"aaaa"]));
    assert_eq!(refused, Some(Refusal::Mismatch));
}

#[test]
fn only_what_was_told_is_kept() {
    // Not told; within a block; behind the end; twice.
    for (offset, kept) in [(0, 12), (0, 3), (0, 2), (4, 4)] {
        let sink = Sink::new();
        sink.hold(b"aaaabbbb");
        assert!(sink.blocks(0..8, 20).is_some());
        let refused = sink.piece((offset, kept, 0), b"", 20);
        assert_eq!(refused, Some(Refusal::Mismatch), "{kept} from {offset} on");
    }
    // Nothing was asked for.
    let sink = Sink::new();
    sink.hold(b"aaaabbbb");
    let refused = sink.piece((0, 4, 0), b"", 8);
    assert_eq!(refused, Some(Refusal::Mismatch));
}

#[test]
fn a_base_goes_on_where_the_stream_is() {
    let begun = || {
        let sink = Sink::new();
        sink.hold(b"aaaabbbbcccc");
        assert!(sink.blocks(0..8, 12).is_some());
        assert_eq!(sink.piece((0, 8, 0), b"", 12), None);
        sink
    };
    assert_eq!(begun().blocks(8..12, 12), Some(hashes(&[b"cccc"])));
    // One range ahead of what is read, and no more.
    let sink = Sink::new();
    sink.hold(b"aaaabbbbcccc");
    assert_eq!(sink.blocks(0..4, 12), Some(hashes(&[b"aaaa"])));
    assert_eq!(sink.blocks(4..8, 12), Some(hashes(&[b"bbbb"])));
    assert_eq!(sink.piece((0, 4, 0), b"", 12), None);
    assert_eq!(sink.blocks(8..12, 12), Some(hashes(&[b"cccc"])));
    assert_eq!(sink.piece((4, 4, 0), b"", 12), None);
    assert_eq!(sink.piece((8, 4, 0), b"", 12), None);
    let hash = whole(&[b"aaaa", b"bbbb", b"cccc"]);
    assert_eq!(sink.publish_as(12, hash), None);
    let mismatch = vec![(0, Refusal::Mismatch)];
    assert!(sink.blocks(0..4, 12).is_some() && sink.blocks(4..8, 12).is_some());
    assert_eq!(sink.base(8..12, 12).refused, mismatch);
    assert_eq!(begun().base(4..12, 12).refused, mismatch);
    assert_eq!(begun().base(8..16, 16).refused, mismatch);
    // A stream that has begun without one.
    let sink = Sink::new();
    sink.hold(b"aaaabbbbcccc");
    assert_eq!(sink.chunk(0, 0, b"AAAA", 12), None);
    assert_eq!(sink.base(4..12, 12).refused, mismatch);
}

#[test]
fn what_is_no_file_is_no_base() {
    let sink = Sink::new();
    assert_eq!(sink.blocks(0..8, 8), None);
    let root = sink.fs.disk().root();
    sink.fs.disk().make_dir(root, &name("file")).unwrap();
    assert_eq!(sink.blocks(0..8, 8), None);
    sink.fs.disk().remove_dir(root, &name("file")).unwrap();
    // Only a hole is left of it.
    assert_eq!(sink.chunk(0, 8, b"", 8), None);
    assert_eq!(sink.publish(8), None);
    assert_eq!(sink.blocks(0..8, 8), None);
    // The stream goes on as one without a base.
    sink.hold(b"aaaabbbb");
    assert_eq!(sink.file().0, b"aaaabbbb");
}

/// Rule 30: whatever happens to the base meanwhile, what was told of it is what is kept.
#[test]
fn a_base_that_changes_changes_nothing() {
    for step in 0..12 {
        let sink = Sink::new();
        sink.hold(b"aaaabbbb");
        let mut now = 0;
        sink.fs.interrupt(Some(Box::new(move |disk: &mut Disk| {
            now += 1;
            if now == step + 1 {
                let ino = disk.find(&path("file")).unwrap();
                disk.write_at(ino, 0, b"xxxx").unwrap();
                disk.truncate(ino, 6).unwrap();
            }
        })));
        let told = sink.blocks(0..8, 8).unwrap_or_default();
        let is = |at: usize, block: &[u8]| told.get(at) == Some(&Some(BlockHash::of(block)));
        let kept = [is(0, b"aaaa"), is(1, b"bbbb")];
        let piece = |at: u64, kept: bool, data| match kept {
            true => sink.piece((at, 4, 0), b"", 8),
            false => sink.piece((at, 0, 0), data, 8),
        };
        assert_eq!(piece(0, kept[0], b"aaaa"), None);
        assert_eq!(piece(4, kept[1], b"bbbb"), None);
        let hash = (!told.is_empty())
            .then(|| whole(&[b"aaaa", b"bbbb"]))
            .flatten();
        assert_eq!(sink.publish_as(8, hash), None, "step {step}");
        assert_eq!(sink.file().0, b"aaaabbbb");
    }
}

#[test]
fn a_base_that_finds_no_room_is_none() {
    let sink = Sink::new();
    sink.hold(b"aaaabbbbcccc");
    sink.fs.disk().bytes_max = 20;
    assert_eq!(sink.blocks(0..12, 12), None);
    assert_eq!(sink.fs.disk().used(), 12);
    // Or only its beginning.
    assert!(sink.blocks(0..8, 12).is_some());
    assert_eq!(sink.blocks(8..12, 12), None);
    assert_eq!(sink.piece((0, 8, 0), b"", 12), None);
    let full = Some(Refusal::Full(Shortage::Space));
    assert_eq!(sink.chunk(8, 0, b"cccc", 12), full);
    assert_eq!(sink.fs.disk().used(), 12);
    // Nor is there one if there is no stage for it.
    let Sink { fs, applier } = Sink::new();
    let applier = applier.within(1, 1000);
    let sink = Sink { fs, applier };
    sink.hold(b"aaaabbbbcccc");
    assert!(sink.blocks(0..8, 12).is_some());
    let other = Change::Base {
        stream: 2,
        path: path("file"),
        offset: 0,
        bytes: 8,
        block: BLOCK,
        size: 12,
    };
    let outcome = sink.applier.apply(Lane::Live, other);
    assert_eq!(
        (outcome.answer, outcome.refused),
        (Some(Answer::Missing), vec![])
    );
}

/// What the filter excludes is not told of.
#[test]
fn nothing_excluded_is_a_base() {
    let sink = Sink::new();
    sink.hold(b"aaaabbbb");
    let rules = crate::tree::Rule::parse_lines(b"- file").unwrap();
    sink.applier.set_filter(Filter::new(rules).unwrap());
    assert_eq!(sink.blocks(0..8, 8), None);
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

/// What the target held before counts as soon as the brake's floor is reached, by files or by a directory.
#[test]
fn removals_beyond_the_floor_are_a_share_of_what_was_there() {
    let fs = MemoryFs::default();
    {
        let mut disk = fs.disk();
        let root = Disk::root(&disk);
        let dir = disk.make_dir(root, &name("dir")).unwrap();
        for number in 0..30 {
            let entry = name(format!("f{number:02}"));
            disk.create(root, &entry, Kind::File, b"x").unwrap();
            disk.create(dir, &entry, Kind::File, b"x").unwrap();
        }
    }
    let removed = |gone: &[&str]| {
        let applier = Applier::new(fs.clone(), Brake::new(5, 0.5), None);
        let entries = gone.iter().map(|gone| Entry {
            name: name(gone),
            state: State::Absent,
        });
        let change = Change::Entries {
            dir: RelPath::root(),
            entries: entries.collect(),
        };
        gone.len() - applier.apply(Lane::Live, change).refused.len()
    };
    // The root, a directory and 60 files.
    assert_eq!(removed(&["dir"]), 1, "31 of 62");
    let files: Vec<String> = (0..30).map(|number| format!("f{number:02}")).collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    assert_eq!(
        removed(&files),
        10,
        "of 31, and half of those that were left"
    );
}
