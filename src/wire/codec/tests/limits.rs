//! Each limit: what lies on it is accepted, what lies beyond is refused.

use serde_bytes::ByteBuf;

use super::samples::*;
use super::*;
use crate::report::Shortage;
use crate::tree::{
    BLOCK_BYTES_MAX, BLOCKS_MAX, BlockHash, Body, Entry, Kind, ListEntry, Metadata, NAME_BYTES_MAX,
    Name, NameRange, PATH_BYTES_MAX, RelPath, State, Time, XATTRS_BYTES_MAX,
};
use crate::wire::message::*;

const EPOCH: u64 = 1;

pub(super) fn accepts(message: Message) {
    assert_eq!(message.round_trip().as_ref(), Ok(&message));
}

pub(super) fn refuses(message: Message, why: &str) {
    refuses_frames(&message, &message.encode(), why);
}

fn refuses_frames(alike: &Message, frames: &[Bytes], why: &str) {
    let error = alike.decode_alike(frames).expect_err(why).to_string();
    assert!(error.contains(why), "{error:?} does not say {why:?}");
}

fn change(change: Change) -> Message {
    Message::ToSink(numbered(change))
}

fn entries(entries: Vec<Entry>) -> Message {
    change(Change::Entries {
        dir: path("d"),
        entries,
    })
}

fn one(meta: Metadata, body: Body) -> Message {
    entries(vec![Entry {
        name: name("n"),
        state: State::Present(meta, body),
    }])
}

fn dir_meta(alter: impl FnOnce(&mut Metadata)) -> Message {
    let mut meta = metadata(Kind::Dir, 0);
    alter(&mut meta);
    change(Change::DirMeta {
        dir: path("d"),
        meta,
    })
}

fn listing(range: NameRange, entries: Vec<ListEntry>) -> Message {
    change(Change::Listing {
        dir: path("d"),
        range,
        page: Page::Entries(entries),
    })
}

fn acknowledged(outcome: Outcome) -> Message {
    Message::ToSource(acknowledgement(vec![(1, outcome)]))
}

/// Different names in ascending order.
fn names(count: usize) -> impl Iterator<Item = Name> {
    (0..count).map(|at| name(&format!("{at:06}")))
}

#[test]
fn frames() {
    let message = entries(vec![file("f", b"content")]);
    let frames = message.encode();
    refuses_frames(&message, &[], "no frames");
    refuses_frames(&message, &frames[..1], "the content is shorter");
    let three = [frames[0].clone(), frames[1].clone(), frames[1].clone()];
    refuses_frames(&message, &three, "number of frames is above");
    refuses_frames(
        &message,
        &[frames[0].clone(), Bytes::new()],
        "content frame is empty",
    );
    let longer = Bytes::from_static(b"content and more");
    refuses_frames(
        &message,
        &[frames[0].clone(), longer],
        "the content is longer",
    );
    let ping = Message::ToSink(ToSink::Ping { token: 1 });
    let with_content = [ping.encode().remove(0), Bytes::from_static(b"x")];
    refuses_frames(&ping, &with_content, "the content is longer");
    let pong = Message::ToSource(ToSource::Pong { token: 1 });
    let with_content = [pong.encode().remove(0), Bytes::from_static(b"x")];
    refuses_frames(&pong, &with_content, "carries no content");
}

#[test]
fn bytes_after_the_message() {
    for (_, sample) in samples() {
        let mut frames = sample.encode();
        frames[0] = [&frames[0][..], &[0xc0]].concat().into();
        refuses_frames(&sample, &frames, "bytes follow the");
    }
}

#[test]
fn headers_and_content() {
    for (_, sample) in samples() {
        let header = Bytes::from(vec![0x93; HEADER_BYTES_MAX + 1]);
        refuses_frames(&sample, &[header], "length of the header is above");
    }
    let chunk = |len| {
        change(Change::Chunk {
            stream: 1,
            offset: 0,
            kept: 0,
            hole: 0,
            data: Bytes::from(vec![b'x'; len]),
            size: len as u64,
        })
    };
    accepts(chunk(PAYLOAD_BYTES_MAX));
    refuses(
        chunk(PAYLOAD_BYTES_MAX + 1),
        "length of the content is above",
    );
}

#[test]
fn announced_lengths_reserve_nothing() {
    // Lists of 2^32 - 1 values, in each of the places where a message may begin one.
    let long = [0xdd, 0xff, 0xff, 0xff, 0xff];
    for prefix in [
        &[][..],
        &[0x95, 2, 1, 1, 0][..],
        &[0x95, 2, 1, 1, 0, 0x93, 0, 0xc4, 0],
        &[0x97, 2, 1, 1, 1, 1, 1],
        &[0x97, 2, 1, 1, 1, 1, 1, 0x91, 0x94, 1],
    ] {
        let header = Bytes::from([prefix, &long].concat());
        assert!(decode_to_sink(std::slice::from_ref(&header)).is_err());
        assert!(decode_to_source(&[header]).is_err());
    }
    let map = Bytes::from_static(&[0xdf, 0xff, 0xff, 0xff, 0xff]);
    assert!(decode_command(&[map]).is_err());
}

#[test]
fn entries_in_a_message() {
    let many = |count| {
        let absent = |name| Entry {
            name,
            state: State::Absent,
        };
        entries(names(count).map(absent).collect())
    };
    accepts(many(0));
    accepts(many(ENTRIES_MAX));
    refuses(many(ENTRIES_MAX + 1), "number of entries is above");
    refuses(
        entries(vec![absent("b"), absent("a")]),
        "names are not sorted",
    );
    refuses(
        entries(vec![absent("a"), absent("a")]),
        "names are not sorted",
    );
}

#[test]
fn listings() {
    let many = |count| {
        let listed = |name| ListEntry {
            name,
            ..list_entry("n")
        };
        listing(NameRange::default(), names(count).map(listed).collect())
    };
    accepts(many(0));
    accepts(many(ENTRIES_MAX));
    refuses(many(ENTRIES_MAX + 1), "number of entries is above");
    let all = NameRange::default();
    refuses(
        listing(all.clone(), vec![list_entry("b"), list_entry("a")]),
        "not sorted",
    );
    let mode = ListEntry {
        mode: 0o10000,
        ..list_entry("a")
    };
    refuses(listing(all.clone(), vec![mode]), "mode is above");
    let sized = ListEntry {
        kind: Kind::Dir,
        size: 1,
        ..list_entry("a")
    };
    refuses(listing(all, vec![sized]), "only files and symlinks");
    let range = |after, upto| NameRange {
        after: Some(name(after)),
        upto: Some(name(upto)),
    };
    accepts(listing(
        range("a", "c"),
        vec![list_entry("b"), list_entry("c")],
    ));
    refuses(
        listing(range("a", "c"), vec![list_entry("a")]),
        "outside the page's range",
    );
    refuses(
        listing(range("a", "c"), vec![list_entry("d")]),
        "outside the page's range",
    );
    refuses(
        listing(range("c", "c"), Vec::new()),
        "the range of names is empty",
    );
}

#[test]
fn names_and_paths() {
    let long = RelPath::new(
        "n/".repeat(PATH_BYTES_MAX / 2)
            .trim_end_matches('/')
            .as_bytes(),
    );
    let long = long.unwrap();
    accepts(change(Change::Entries {
        dir: long.clone(),
        entries: Vec::new(),
    }));
    let longer = long.join(&name("n"));
    accepts(change(Change::Entries {
        dir: path("n"),
        entries: vec![absent(&"n".repeat(255))],
    }));
    refuses(
        change(Change::Entries {
            dir: longer.join(&name("n")),
            entries: Vec::new(),
        }),
        "a path",
    );
    let rename = |from, to| {
        let (kind, size, mtime) = (Kind::Dir, 0, Time::default());
        change(Change::Rename {
            from,
            to,
            kind,
            size,
            mtime,
        })
    };
    accepts(rename(path("a"), path("b")));
    refuses(rename(RelPath::root(), path("a")), "the root cannot");
    refuses(rename(path("a"), RelPath::root()), "the root cannot");
    refuses(rename(path("a"), path("a")), "a rename to the same name");
    let escape = Bytes::from_static(b"\x95\x02\x01\x01\x00\x93\x00\xc4\x02..\x90");
    refuses_frames(&entries(Vec::new()), &[escape], "'..' component");
    let mut header = b"\x95\x02\x01\x01\x00\x93\x00\xc4\x00\x91\x91\xc5\x01\x00".to_vec();
    header.resize(header.len() + NAME_BYTES_MAX + 1, b'n');
    refuses_frames(
        &entries(Vec::new()),
        &[header.into()],
        "length of a name is above",
    );
}

#[test]
fn metadata_fields() {
    accepts(dir_meta(|meta| meta.mode = 0o7777));
    refuses(dir_meta(|meta| meta.mode = 0o10000), "mode is above");
    accepts(dir_meta(|meta| meta.mtime.nanos = 999_999_999));
    refuses(
        dir_meta(|meta| meta.mtime.nanos = 1_000_000_000),
        "nanoseconds",
    );
    refuses(
        dir_meta(|meta| meta.size = 1),
        "only files and symlinks have a size",
    );
    refuses(dir_meta(|meta| meta.rdev = 1), "only devices");
    refuses(dir_meta(|meta| meta.kind = Kind::Fifo), "of another kind");
    let publish = |kind, at| {
        change(Change::Publish {
            stream: 1,
            path: at,
            meta: metadata(kind, 0),
            hash: None,
        })
    };
    refuses(publish(Kind::Symlink, path("p")), "is no file");
    refuses(publish(Kind::File, RelPath::root()), "the root cannot");
}

#[test]
fn extended_attributes() {
    let with = |xattrs: Vec<(Vec<u8>, usize)>| {
        let xattr = |(name, len)| (ByteBuf::from(name), ByteBuf::from(vec![b'v'; len]));
        dir_meta(|meta| meta.xattrs = xattrs.into_iter().map(xattr).collect())
    };
    accepts(with(vec![(b"user.n".to_vec(), XATTRS_BYTES_MAX - 6)]));
    refuses(
        with(vec![(b"user.n".to_vec(), XATTRS_BYTES_MAX - 5)]),
        "extended attributes is above",
    );
    let half = XATTRS_BYTES_MAX / 2;
    refuses(
        with(vec![(b"a".to_vec(), half), (b"b".to_vec(), half)]),
        "attributes is above",
    );
    accepts(with(vec![(vec![b'n'; 255], 0)]));
    refuses(
        with(vec![(vec![b'n'; 256], 0)]),
        "name of an extended attribute is above",
    );
    refuses(with(vec![(Vec::new(), 0)]), "name is invalid");
    refuses(with(vec![(b"a\0".to_vec(), 0)]), "name is invalid");
    refuses(
        with(vec![(b"b".to_vec(), 0), (b"a".to_vec(), 0)]),
        "not sorted by name",
    );
    refuses(
        with(vec![(b"a".to_vec(), 0), (b"a".to_vec(), 0)]),
        "not sorted by name",
    );
}

#[test]
fn bodies_fit_their_kinds() {
    let content = |bytes: &'static [u8]| Body::Content(Bytes::from_static(bytes));
    let target = |bytes: &'static [u8]| Body::Target(Bytes::from_static(bytes));
    let link = |to: &str, links| Body::Link {
        to: path(to),
        links,
    };
    for (kind, size, body) in [
        (Kind::File, 0, Body::Empty),
        (Kind::File, 1, target(b"t")),
        (Kind::Symlink, 1, content(b"t")),
        (Kind::Symlink, 0, Body::Empty),
        (Kind::Symlink, 1, Body::Unchanged { links: 1 }),
        (Kind::Dir, 0, Body::Unchanged { links: 1 }),
        (Kind::Dir, 0, link("a", None)),
        (Kind::Dir, 0, content(b"")),
        (Kind::Fifo, 0, target(b"")),
    ] {
        refuses(
            one(metadata(kind, size), body),
            "the body does not fit the kind",
        );
    }
    refuses(
        one(metadata(Kind::Symlink, 0), target(b"")),
        "target is empty",
    );
    refuses(
        one(metadata(Kind::Symlink, 3), target(b"a\0b")),
        "holds a NUL byte",
    );
}

#[test]
fn received_content_is_not_copied() {
    let message = entries(vec![
        file("a", b"first"),
        file("b", b""),
        file("c", b"second"),
    ]);
    let frames = message.encode();
    let Ok(ToSink::Change {
        change: Change::Entries { entries, .. },
        ..
    }) = decode_to_sink(&frames)
    else {
        panic!("not what was sent");
    };
    let State::Present(_, Body::Content(content)) = &entries[2].state else {
        panic!("no content")
    };
    assert_eq!(content.as_ptr(), frames[1][5..].as_ptr());
}

#[test]
fn a_single_body_is_sent_without_a_copy() {
    let body = Bytes::from(vec![1; 100]);
    let chunk = numbered(Change::Chunk {
        stream: 1,
        offset: 0,
        kept: 0,
        hole: 0,
        data: body.clone(),
        size: 1000,
    });
    assert_eq!(encode_to_sink(&chunk)[1].as_ptr(), body.as_ptr());
}

#[test]
fn numbers_and_epochs() {
    let abandon = Change::Abandon { stream: 1 };
    for (epoch, number, why) in [(0, 1, "the epoch is 0"), (1, 0, "the number is 0")] {
        let lane = Lane::Live;
        let change = abandon.clone();
        refuses(
            Message::ToSink(ToSink::Change {
                epoch,
                number,
                lane,
                change,
            }),
            why,
        );
    }
    for command in [
        Command::RegistrationSuccess {
            epoch: 0,
            credit: Credit::default(),
        },
        Command::RegistrationSuccessAcknowledgement { epoch: 0 },
        Command::Unregister { epoch: 0 },
        Command::UnregisterAcknowledgement { epoch: 0 },
        Command::ServiceTermination { epoch: 0 },
        Command::ServiceTerminationAcknowledgement { epoch: 0 },
        Command::ReleaseBrake { epoch: 0 },
    ] {
        refuses(Message::Command(command), "the epoch is 0");
    }
}

#[test]
fn acknowledgements() {
    let marks = |epoch, applied, durable| {
        let (outcomes, credit) = (Vec::new(), Credit::default());
        Message::ToSource(ToSource::Acknowledgement {
            epoch,
            outcomes,
            applied,
            durable,
            credit,
        })
    };
    accepts(marks(EPOCH, 5, 5));
    refuses(marks(0, 5, 5), "the epoch is 0");
    refuses(marks(EPOCH, 5, 6), "more is durable than applied");
    let outcomes = |count: usize| {
        let outcome = |at| (at as u64 + 1, Outcome::default());
        Message::ToSource(acknowledgement((0..count).map(outcome).collect()))
    };
    accepts(outcomes(OUTCOMES_MAX));
    refuses(outcomes(OUTCOMES_MAX + 1), "number of outcomes is above");
    let zero = Message::ToSource(acknowledgement(vec![(0, Outcome::default())]));
    refuses(zero, "the number is 0");
}

#[test]
fn outcomes() {
    let refused = |count| {
        let refused = vec![(0, Refusal::Full(Shortage::Space)); count];
        acknowledged(Outcome {
            refused,
            ..Outcome::default()
        })
    };
    accepts(refused(ENTRIES_MAX));
    refuses(refused(ENTRIES_MAX + 1), "number of refusals is above");
    let made = |made| {
        acknowledged(Outcome {
            made,
            ..Outcome::default()
        })
    };
    accepts(made(vec![ENTRIES_MAX as u32 - 1; ENTRIES_MAX]));
    refuses(
        made(vec![0; ENTRIES_MAX + 1]),
        "number of made directories is above",
    );
    refuses(
        made(vec![ENTRIES_MAX as u32]),
        "no message has an entry in that place",
    );
    let problem = |len| {
        let refusal = Refusal::Problem {
            operation: "o".repeat(len),
            errno: -1,
        };
        acknowledged(Outcome {
            refused: vec![(0, refusal)],
            ..Outcome::default()
        })
    };
    accepts(problem(OPERATION_BYTES_MAX));
    refuses(
        problem(OPERATION_BYTES_MAX + 1),
        "length of an operation is above",
    );
}

#[test]
fn answers() {
    let answer = |lacks, differs, excess| {
        let answer = Some(Answer::Names {
            lacks,
            differs,
            excess,
            more: false,
        });
        acknowledged(Outcome {
            answer,
            ..Outcome::default()
        })
    };
    let full = || names(ANSWER_NAMES_MAX).collect::<Vec<_>>();
    let beyond = || names(ANSWER_NAMES_MAX + 1).collect::<Vec<_>>();
    accepts(answer(full(), full(), full()));
    refuses(
        answer(beyond(), Vec::new(), Vec::new()),
        "number of names is above",
    );
    refuses(
        answer(Vec::new(), beyond(), Vec::new()),
        "number of names is above",
    );
    refuses(
        answer(Vec::new(), Vec::new(), beyond()),
        "number of names is above",
    );
    refuses(
        answer(vec![name("b"), name("a")], Vec::new(), Vec::new()),
        "not sorted",
    );
}

#[test]
fn chunks_lie_within_their_files() {
    let chunk = |offset, kept, hole, data, size| {
        change(Change::Chunk {
            stream: 1,
            offset,
            kept,
            hole,
            data: Bytes::from_static(data),
            size,
        })
    };
    let most = u64::MAX;
    for (offset, kept, hole, size) in [
        (most, 0, 0, most),
        (0, 0, most, most),
        (0, most, 0, most),
        (0, most, most, most),
        (most, most, most, most),
        (3, 0, 4, 7),
        (3, 2, 2, 7),
    ] {
        refuses(chunk(offset, kept, hole, b"x", size), "ends beyond");
    }
    refuses(chunk(most, 0, 1, b"", most), "ends beyond");
    refuses(chunk(most, 1, 0, b"", most), "ends beyond");
    accepts(chunk(3, 0, 4, b"x", 8));
    accepts(chunk(3, 2, 2, b"x", 8));
    accepts(chunk(most - 1, 0, 0, b"x", most));
    accepts(chunk(0, 0, most, b"", most));
    accepts(chunk(0, most, 0, b"", most));
    accepts(chunk(3, 4, 0, b"", 8));
    accepts(chunk(3, 0, 4, b"", 8));
    // What moves nothing on is no piece.
    for (offset, size) in [(0, 0), (8, 8), (3, 8)] {
        refuses(chunk(offset, 0, 0, b"", size), "a chunk is empty");
    }
}

#[test]
fn bases_are_whole_blocks_of_their_files() {
    let base = |offset, bytes, block, size| {
        change(Change::Base {
            stream: 1,
            path: path("p"),
            offset,
            bytes,
            block,
            size,
        })
    };
    let (most, blocks) = (BLOCK_BYTES_MAX, BLOCKS_MAX as u64);
    accepts(base(0, blocks * most, most, blocks * most));
    accepts(base(0, blocks, 1, u64::MAX));
    accepts(base(8, 4, 4, 12));
    accepts(base(8, 3, 4, 11));
    for block in [0, most + 1] {
        refuses(base(0, 1, block, 1), "a block is empty or too long");
    }
    for (offset, bytes, size) in [(8, 4, 11), (8, 3, 12), (0, u64::MAX, 8), (8, u64::MAX, 8)] {
        refuses(
            base(offset, bytes, 4, size),
            "ends within a block or beyond",
        );
    }
    for (offset, bytes, size) in [(8, 0, 8), (6, 2, 8), (0, 4 * (blocks + 1), 8000)] {
        refuses(base(offset, bytes, 4, size), "is empty or too long");
    }
}

#[test]
fn hashes() {
    let blocks = |count| {
        let hash = BlockHash::from_bytes([7; 16]);
        let blocks = std::iter::repeat_n([Some(hash), None], count).flatten();
        acknowledged(Outcome {
            answer: Some(Answer::Blocks(blocks.collect())),
            ..Outcome::default()
        })
    };
    accepts(blocks(BLOCKS_MAX / 2));
    accepts(blocks(0));
    refuses(blocks(BLOCKS_MAX / 2 + 1), "length of hashes is above");
    let told = blocks(1);
    let frames = told.encode();
    let at = frames[0].len() - 34;
    // One byte less of the last hash.
    assert_eq!(frames[0][at..at + 2], [0xc4, 32]);
    let mut short = frames[0][..frames[0].len() - 1].to_vec();
    short[at + 1] = 31;
    refuses_frames(&told, &[Bytes::from(short)], "a hash is too short");
}
