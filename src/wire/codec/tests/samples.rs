//! One message of every form, with values that show where each field lies in the bytes.

use serde_bytes::ByteBuf;

use super::{Bytes, Message};
use crate::report::{
    EventQueue, HotFile, LaneQueue, Phase, Problem, ProblemsReport, QueueReport, Rate, SinkQueue,
    SinkStatus, SinkTransfer, Status, TransferReport,
};
use crate::tree::{
    Body, Digest, Entry, Kind, ListEntry, Metadata, Name, NameRange, RelPath, State, Time,
};
use crate::wire::message::{
    Answer, Change, Command, Credit, ErrorAnswer, ErrorCode, FlushResult, Lane, Outcome, Page,
    Refusal, RegistrationRequest, Reply, Request, ResumePoint, ToSink, ToSource, VERSION,
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
        extra: 0xfeed,
    }
}

pub(super) fn registration(resume: Option<ResumePoint>) -> RegistrationRequest {
    RegistrationRequest {
        version: VERSION,
        sink_id: "sink-1".to_owned(),
        instance: 42,
        nonces: vec![7, u64::MAX],
        capabilities: Vec::new(),
        resume,
    }
}

pub(super) fn resume_point() -> ResumePoint {
    ResumePoint {
        source_id: "source-1".to_owned(),
        epoch: EPOCH,
        durable: 1000,
        exceptions: vec![3, 999],
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
        sessions()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        errors()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        requests()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        replies()
            .into_iter()
            .map(|(name, m)| (name, Message::Command(m))),
    );
    all.extend(
        to_sink()
            .into_iter()
            .map(|(name, m)| (name, Message::ToSink(m))),
    );
    all.extend(
        to_source()
            .into_iter()
            .map(|(name, m)| (name, Message::ToSource(m))),
    );
    all
}

fn sessions() -> Vec<(&'static str, Command)> {
    let epoch = EPOCH;
    vec![
        (
            "command-registration-request-first",
            Command::RegistrationRequest(registration(None)),
        ),
        (
            "command-registration-request-resume",
            Command::RegistrationRequest(RegistrationRequest {
                capabilities: vec!["example".to_owned()],
                ..registration(Some(resume_point()))
            }),
        ),
        (
            "command-registration-request-acknowledgement",
            Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id: "source-1".to_owned(),
                payload_bytes_max: 256 * 1024,
                root: "2049:131073".to_owned(),
            },
        ),
        (
            "command-registration-success",
            Command::RegistrationSuccess {
                epoch,
                credit: Credit {
                    bytes: 8 << 20,
                    messages: 128,
                },
            },
        ),
        (
            "command-registration-success-acknowledgement",
            Command::RegistrationSuccessAcknowledgement { epoch },
        ),
        ("command-unregister", Command::Unregister { epoch }),
        (
            "command-unregister-acknowledgement",
            Command::UnregisterAcknowledgement { epoch },
        ),
        (
            "command-service-termination",
            Command::ServiceTermination { epoch },
        ),
        (
            "command-service-termination-acknowledgement",
            Command::ServiceTerminationAcknowledgement { epoch },
        ),
        ("command-release-brake", Command::ReleaseBrake { epoch }),
        ("command-ping", Command::Ping { token: 9 }),
        ("command-pong", Command::Pong { token: 9 }),
    ]
}

fn errors() -> Vec<(&'static str, Command)> {
    let error = |code, message: &str| {
        Command::Error(ErrorAnswer {
            code,
            message: message.into(),
        })
    };
    vec![
        (
            "command-error-malformed",
            error(ErrorCode::Malformed, "a key is no text"),
        ),
        (
            "command-error-out-of-phase",
            error(ErrorCode::OutOfPhase, "no session"),
        ),
        (
            "command-error-version",
            error(ErrorCode::Version, "this source speaks version 1"),
        ),
        (
            "command-error-duplicate",
            error(ErrorCode::Duplicate, "sink-1 is registered"),
        ),
        (
            "command-error-busy",
            error(ErrorCode::Busy, "too many sinks"),
        ),
        (
            "command-error-terminating",
            error(ErrorCode::Terminating, "the source terminates"),
        ),
        (
            "command-error-timeout",
            error(ErrorCode::Timeout, "no RegistrationSuccess"),
        ),
    ]
}

fn requests() -> Vec<(&'static str, Command)> {
    let request = |request| Command::Request { id: 5, request };
    vec![
        ("command-request-status", request(Request::Status)),
        (
            "command-request-report-queue",
            request(Request::ReportQueue),
        ),
        (
            "command-request-report-transfer",
            request(Request::ReportTransfer),
        ),
        (
            "command-request-report-problems",
            request(Request::ReportProblems),
        ),
        (
            "command-request-flush",
            request(Request::Flush { timeout_ms: 60_000 }),
        ),
        ("command-request-pause", request(Request::Pause)),
        ("command-request-resume", request(Request::Resume)),
        (
            "command-request-rescan",
            request(Request::Rescan {
                path: path("home/a"),
            }),
        ),
        (
            "command-request-enqueue",
            request(Request::Enqueue {
                paths: vec![RelPath::root(), RelPath::new(b"not/text/\xff").unwrap()],
            }),
        ),
        ("command-request-stop", request(Request::Stop)),
    ]
}

fn replies() -> Vec<(&'static str, Command)> {
    let reply = |reply| Command::Reply { id: 5, reply };
    vec![
        ("command-reply-done", reply(Reply::Done)),
        (
            "command-reply-status",
            reply(Reply::Status(Box::new(status()))),
        ),
        (
            "command-reply-queue",
            reply(Reply::Queue(Box::new(queue()))),
        ),
        (
            "command-reply-transfer",
            reply(Reply::Transfer(Box::new(transfer()))),
        ),
        (
            "command-reply-problems",
            reply(Reply::Problems(Box::new(problems()))),
        ),
        (
            "command-reply-flush",
            reply(Reply::Flush(FlushResult {
                complete: false,
                problems: 2,
                waiting_for: "sink-1 is away".to_owned(),
            })),
        ),
        (
            "command-reply-refused",
            reply(Reply::Refused(ErrorAnswer {
                code: ErrorCode::Busy,
                message: "too many requests".to_owned(),
            })),
        ),
    ]
}

fn events() -> EventQueue {
    EventQueue {
        bytes: 4096,
        fill: 0.25,
        warning: 0.5,
        critical: 0.75,
        overflows: 1,
        watched_dirs: 10_000,
        unwatched_dirs: 2,
    }
}

fn status() -> Status {
    let sink = |sink: &str, phase, lag_ms| SinkStatus {
        sink: sink.to_owned(),
        phase,
        converged: false,
        lag_ms,
        pending_entries: 17,
        problems: 1,
        halted: 0,
        rate: Rate {
            entries: 1500.0,
            bytes: 2.5e6,
        },
        eta_ms: None,
        full: false,
    };
    Status {
        version: "0.1.0".to_owned(),
        root: "/srv/data".to_owned(),
        paused: false,
        halted: Some("the root is empty".to_owned()),
        phase: Phase::Transfer,
        uptime_ms: 86_400_000,
        events: events(),
        sinks: vec![
            sink("sink-1", Phase::Termination, Some(12)),
            sink("sink-2", Phase::Initialisation, None),
        ],
    }
}

fn queue() -> QueueReport {
    let lane = |waiting_entries, oldest_ms| LaneQueue {
        waiting_entries,
        in_flight_entries: 3,
        in_flight_bytes: 70_000,
        oldest_ms,
    };
    QueueReport {
        events: events(),
        sinks: vec![SinkQueue {
            sink: "sink-1".to_owned(),
            live: lane(4, Some(8)),
            backlog: lane(0, None),
            lag_ms: Some(8),
            dirs_done: 900,
            dirs_pending: 100,
            rescans_owed: 1,
            hottest: vec![HotFile {
                path: path("var/log/syslog"),
                sent: 12,
            }],
            never_settling: Vec::new(),
        }],
    }
}

fn transfer() -> TransferReport {
    TransferReport {
        sinks: vec![SinkTransfer {
            sink: "sink-1".to_owned(),
            sent_entries: 1000,
            sent_bytes: 1 << 33,
            applied_entries: 990,
            applied_bytes: 1 << 32,
            rate_10s: Rate {
                entries: 100.5,
                bytes: 1e8,
            },
            rate_5min: Rate {
                entries: 90.0,
                bytes: 0.0,
            },
            retries: 4,
            read_while_open: 1,
            in_flight_messages: 10,
            streams: vec![path("images/disk.img")],
            epoch: Some("0123456789abcdef".to_owned()),
            sent_mark: 310,
            applied_mark: 299,
            durable_mark: 250,
            sessions: 2,
        }],
    }
}

fn problems() -> ProblemsReport {
    ProblemsReport {
        problems: vec![Problem {
            sink: "sink-1".to_owned(),
            path: path("secret"),
            side: "source".to_owned(),
            operation: "open".to_owned(),
            errno: 13,
            reason: "permission denied".to_owned(),
            since_ms: 5000,
            tries: 3,
        }],
        total: 1,
    }
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
                data: Bytes::from_static(b"piece"),
            }),
        ),
        (
            "to-sink-publish",
            numbered(Change::Publish {
                stream: 2,
                path: path("images/disk.img"),
                meta: metadata(Kind::File, (1 << 20) + 5),
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
            present("socket", Kind::Socket, 0, Body::Empty),
            Entry {
                name: name("tagged"),
                state: State::Present(tagged, Body::Content(Bytes::from_static(b"abc"))),
            },
            present("unchanged", Kind::File, 1 << 40, Body::Unchanged),
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
                after: Some(name("k")),
                upto: Some(name("z")),
            },
            page: Page::Digest(Digest::from_bytes(*b"0123456789abcdef"), 1000),
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
        (4, Refusal::Full),
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
            ]),
        ),
    ]
}
