//! One message of every form, with values that show where each field lies in the bytes.

mod control;

use serde_bytes::ByteBuf;

use super::{Bytes, Message};
use crate::report::Shortage;
use crate::tree::{
    BlockHash, Body, Digest, Entry, Kind, ListEntry, Metadata, Name, NameRange, RelPath, State,
    Time,
};
use crate::wire::message::{
    Answer, Change, Credit, Lane, Outcome, Page, Refusal, RegistrationRequest, ResumePoint, ToSink,
    ToSource, VERSION,
};

const EPOCH: u64 = 0x0123_4567_89ab_cdef;

pub(super) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).unwrap()
}

pub(super) fn metadata(kind: Kind, size: u64) -> Metadata {
    let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
    Metadata {
        kind,
        mode: 0o4755,
        uid: 1000,
        gid: 100,
        size,
        mtime: Time {
            secs: 1_700_000_000,
            nanos: 123_456_789,
        },
        rdev: if device { 0x0103 } else { 0 },
        xattrs: Vec::new(),
    }
}

pub(super) fn present(text: &str, kind: Kind, size: u64, body: Body) -> Entry {
    Entry {
        name: name(text),
        state: State::Present(metadata(kind, size), body),
    }
}

pub(super) fn file(text: &str, content: &'static [u8]) -> Entry {
    let body = Body::Content(Bytes::from_static(content));
    present(text, Kind::File, content.len() as u64, body)
}

pub(super) fn absent(text: &str) -> Entry {
    Entry {
        name: name(text),
        state: State::Absent,
    }
}

fn further_name(to: &str, links: Option<u64>) -> Body {
    Body::Link {
        to: path(to),
        links,
    }
}

pub(super) fn list_entry(text: &str) -> ListEntry {
    ListEntry {
        name: name(text),
        kind: Kind::File,
        mode: 0o644,
        uid: 1000,
        gid: 100,
        size: 70_000,
        mtime: Time {
            secs: -1,
            nanos: 999_999_999,
        },
        rdev: 0,
        extra: ListEntry::extra_of(&vec![(ByteBuf::from("user.a"), ByteBuf::from("1"))], b""),
        linked: true,
    }
}

pub(super) fn registration(resume: Option<ResumePoint>) -> RegistrationRequest {
    RegistrationRequest {
        version: VERSION,
        sink_id: "sink-1".to_owned(),
        instance: 42,
        nonces: vec![7, u64::MAX],
        capabilities: Vec::new(),
        limits: Box::default(),
        owners: None,
        resume,
    }
}

pub(super) fn resume_point() -> ResumePoint {
    ResumePoint {
        source_id: "source-1".to_owned(),
        epoch: EPOCH,
        durable: 1000,
        exceptions: vec![3, 999],
        known_from: 2,
        continuous: true,
    }
}

pub(super) fn numbered(change: Change) -> ToSink {
    ToSink::Change {
        epoch: EPOCH,
        number: 300,
        lane: Lane::Live,
        change,
    }
}

pub(super) fn acknowledgement(outcomes: Vec<(u64, Outcome)>) -> ToSource {
    let credit = Credit {
        bytes: 16 << 20,
        messages: 256,
    };
    ToSource::Acknowledgement {
        epoch: EPOCH,
        outcomes,
        applied: 299,
        durable: 250,
        credit,
    }
}

/// Every sample with the name of its golden file.
pub(super) fn samples() -> Vec<(&'static str, Message)> {
    let mut all = Vec::new();
    all.extend(
        control::sessions()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        control::errors()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        control::requests()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        control::replies()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        to_sink()
            .into_iter()
            .map(|(name, m)| (name, Message::ToSink(m))),
    );
    all.push((
        "to-sink-chunk-compressed",
        Message::Compressed(compressible(b"seven days ".repeat(100))),
    ));
    all.extend(
        to_source()
            .into_iter()
            .map(|(name, m)| (name, Message::ToSource(m))),
    );
    all
}

/// A chunk with this content.
pub(super) fn compressible(data: Vec<u8>) -> ToSink {
    numbered(Change::Chunk {
        stream: 2,
        offset: 0,
        kept: 0,
        hole: 0,
        data: Bytes::from(data),
        size: 1 << 36,
    })
}

fn to_sink() -> Vec<(&'static str, ToSink)> {
    vec![
        (
            "to-sink-synchronisation",
            ToSink::Synchronisation { nonce: 7 },
        ),
        ("to-sink-ping", ToSink::Ping { token: 9 }),
        ("to-sink-entries", numbered(entries())),
        (
            "to-sink-entries-one-file-in-root",
            numbered(Change::Entries {
                dir: RelPath::root(),
                entries: vec![file("hello.txt", b"hello\n")],
            }),
        ),
        (
            "to-sink-dir-meta",
            numbered(Change::DirMeta {
                dir: RelPath::root(),
                meta: metadata(Kind::Dir, 0),
            }),
        ),
        (
            "to-sink-rename",
            numbered(Change::Rename {
                from: path("a/old"),
                to: path("b/new"),
                kind: Kind::File,
                size: 6,
                mtime: Time {
                    secs: 1_700_000_000,
                    nanos: 1,
                },
            }),
        ),
        ("to-sink-listing-digest", listing_digest()),
        (
            "to-sink-listing-entries",
            numbered(Change::Listing {
                dir: path("home"),
                range: NameRange::default(),
                page: Page::Entries(vec![list_entry("a"), list_entry("b")]),
            }),
        ),
        (
            "to-sink-chunk",
            numbered(Change::Chunk {
                stream: 2,
                offset: 1 << 20,
                kept: 0,
                hole: 1 << 16,
                data: Bytes::from_static(b"piece"),
                size: 1 << 36,
            }),
        ),
        (
            "to-sink-chunk-hole",
            numbered(Change::Chunk {
                stream: 2,
                offset: 5,
                kept: 0,
                hole: (1 << 36) - 5,
                data: Bytes::new(),
                size: 1 << 36,
            }),
        ),
        (
            "to-sink-chunk-kept",
            numbered(Change::Chunk {
                stream: 2,
                offset: 0,
                kept: 1 << 27,
                hole: 0,
                data: Bytes::new(),
                size: 1 << 36,
            }),
        ),
        (
            "to-sink-base",
            numbered(Change::Base {
                stream: 2,
                path: path("images/disk.img"),
                offset: 1 << 27,
                bytes: 1 << 27,
                block: 1 << 17,
                size: 1 << 36,
            }),
        ),
        (
            "to-sink-publish",
            numbered(Change::Publish {
                stream: 2,
                path: path("images/disk.img"),
                meta: metadata(Kind::File, (1 << 20) + 5),
                hash: None,
            }),
        ),
        (
            "to-sink-publish-hash",
            numbered(Change::Publish {
                stream: 2,
                path: path("images/disk.img"),
                meta: metadata(Kind::File, 1 << 36),
                hash: Some(BlockHash::from_bytes(*b"0123456789abcdef")),
            }),
        ),
        ("to-sink-abandon", numbered(Change::Abandon { stream: 2 })),
    ]
}

fn entries() -> Change {
    let mut tagged = metadata(Kind::File, 3);
    tagged.xattrs = vec![
        (ByteBuf::from("user.a"), ByteBuf::from("1")),
        (ByteBuf::from("user.b"), ByteBuf::new()),
    ];
    let target = Body::Target(Bytes::from_static(b"../x"));
    Change::Entries {
        dir: path("home/a"),
        entries: vec![
            absent("absent"),
            present("block", Kind::BlockDevice, 0, Body::Empty),
            present("char", Kind::CharDevice, 0, Body::Empty),
            present("dir", Kind::Dir, 0, Body::Empty),
            file("empty", b""),
            present("fifo", Kind::Fifo, 0, Body::Empty),
            file("file", b"content"),
            present("link", Kind::Symlink, 4, target),
            present(
                "name of fifo",
                Kind::Fifo,
                0,
                further_name("var/fifo", None),
            ),
            present(
                "name of file",
                Kind::File,
                7,
                further_name("var/file", Some(3)),
            ),
            present("socket", Kind::Socket, 0, Body::Empty),
            Entry {
                name: name("tagged"),
                state: State::Present(tagged, Body::Content(Bytes::from_static(b"abc"))),
            },
            present(
                "unchanged",
                Kind::File,
                1 << 40,
                Body::Unchanged { links: 1 },
            ),
            present(
                "unchanged twice",
                Kind::File,
                5,
                Body::Unchanged { links: 2 },
            ),
        ],
    }
}

fn listing_digest() -> ToSink {
    ToSink::Change {
        epoch: EPOCH,
        number: 1,
        lane: Lane::Backlog,
        change: Change::Listing {
            dir: path("home"),
            range: NameRange {
                after: Some(name("Z")),
                upto: Some(name("b")),
            },
            page: Page::Digest(Digest::of(&[list_entry("a"), list_entry("b")]), 2),
        },
    }
}

fn to_source() -> Vec<(&'static str, ToSource)> {
    let refused = vec![
        (
            0,
            Refusal::Problem {
                operation: "create".to_owned(),
                errno: 36,
            },
        ),
        (1, Refusal::ParentMissing),
        (2, Refusal::Mismatch),
        (3, Refusal::Halted),
        (4, Refusal::Full(Shortage::Space)),
        (5, Refusal::Kept),
        (6, Refusal::Full(Shortage::Inodes)),
        (7, Refusal::Full(Shortage::Quota)),
        (8, Refusal::Full(Shortage::ReadOnly)),
    ];
    let answered = |number, answer| {
        (
            number,
            Outcome {
                answer: Some(answer),
                ..Outcome::default()
            },
        )
    };
    vec![
        ("to-source-announce", ToSource::Announce { nonce: 7 }),
        ("to-source-pong", ToSource::Pong { token: 9 }),
        ("to-source-acknowledgement", acknowledgement(Vec::new())),
        (
            "to-source-acknowledgement-refused",
            acknowledgement(vec![(
                298,
                Outcome {
                    refused,
                    ..Outcome::default()
                },
            )]),
        ),
        (
            "to-source-acknowledgement-made",
            acknowledgement(vec![(
                299,
                Outcome {
                    made: vec![0, 511],
                    ..Outcome::default()
                },
            )]),
        ),
        (
            "to-source-acknowledgement-answers",
            acknowledgement(vec![
                answered(290, Answer::Equal),
                answered(291, Answer::Different),
                answered(292, Answer::Missing),
                answered(
                    293,
                    Answer::Names {
                        lacks: vec![name("a"), name("b")],
                        differs: vec![name("c")],
                        excess: Vec::new(),
                        more: true,
                    },
                ),
                answered(294, Answer::Failed(5)),
                answered(
                    295,
                    Answer::Blocks(vec![
                        Some(BlockHash::from_bytes(*b"0123456789abcdef")),
                        None,
                    ]),
                ),
            ]),
        ),
    ]
}
