//! Any message that keeps the rules.

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_bytes::ByteBuf;

use super::{Bytes, Message};
use crate::report::{
    EventQueue, HotFile, LaneQueue, Limit, Problem, ProblemsReport, QueueReport, RateLimits,
    Shortage, SinkQueue,
};
use crate::tree::{
    BLOCK_BYTES_MAX, BLOCKS_MAX, BlockHash, Body, Digest, Entry, Filter, FixedMode, FixedOwner,
    Kind, LimitKind, ListEntry, Metadata, Name, NameRange, OwnerTables, RelPath, Rule, State,
    TargetLimits, Time, TimeRange,
};
use crate::wire::message::{
    Answer, Change, Command, Credit, ENTRIES_MAX, ErrorAnswer, ErrorCode, FlushResult, Lane,
    Outcome, Page, Refusal, RegistrationRequest, Reply, Request, ResumePoint, ToSink, ToSource,
};

pub(super) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        command().prop_map(Message::Command),
        to_sink().prop_map(Message::ToSink),
        to_source().prop_map(Message::ToSource),
    ]
}

fn name() -> impl Strategy<Value = Name> {
    let byte = any::<u8>().prop_filter("no byte of a name", |&b| b != 0 && b != b'/');
    vec(byte, 1..20).prop_filter_map("no name", |bytes| Name::new(&bytes).ok())
}

fn names() -> impl Strategy<Value = Vec<Name>> {
    btree_set(name(), 0..6).prop_map(|names| names.into_iter().collect())
}

fn path() -> impl Strategy<Value = RelPath> {
    vec(name(), 0..4).prop_map(|names| names.iter().fold(RelPath::root(), |dir, n| dir.join(n)))
}

fn path_below_root() -> impl Strategy<Value = RelPath> {
    (path(), name()).prop_map(|(dir, name)| dir.join(&name))
}

fn time() -> impl Strategy<Value = Time> {
    (any::<i64>(), 0..1_000_000_000u32).prop_map(|(secs, nanos)| Time { secs, nanos })
}

fn kind() -> impl Strategy<Value = Kind> {
    (0..7u8).prop_map(|byte| Kind::try_from(byte).unwrap())
}

/// Metadata of this kind and, if the kind has one, of this size.
fn metadata(kind: Kind, size: u64) -> impl Strategy<Value = Metadata> {
    let xattrs = btree_map("user\\.[a-z]{1,8}", vec(any::<u8>(), 0..20), 0..3);
    let numbers = (
        0..=0o7777u32,
        any::<u32>(),
        any::<u32>(),
        time(),
        any::<u64>(),
    );
    (numbers, xattrs).prop_map(move |((mode, uid, gid, mtime, rdev), xattrs)| {
        let sized = matches!(kind, Kind::File | Kind::Symlink);
        let device = matches!(kind, Kind::CharDevice | Kind::BlockDevice);
        Metadata {
            kind,
            mode,
            uid,
            gid,
            size: if sized { size } else { 0 },
            mtime,
            rdev: if device { rdev } else { 0 },
            xattrs: xattrs
                .into_iter()
                .map(|(name, value)| (ByteBuf::from(name), ByteBuf::from(value)))
                .collect(),
        }
    })
}

fn present(kind: Kind, size: u64, body: Body) -> impl Strategy<Value = State> {
    metadata(kind, size).prop_map(move |meta| State::Present(meta, body.clone()))
}

fn state() -> impl Strategy<Value = State> {
    let content = vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    let target = vec(1..=255u8, 1..50).prop_map(Bytes::from);
    let bodiless = kind().prop_filter("has a body", |k| !matches!(k, Kind::File | Kind::Symlink));
    let linkable = kind().prop_filter("has one name only", |k| *k != Kind::Dir);
    prop_oneof![
        Just(State::Absent),
        content.prop_flat_map(|c| present(Kind::File, c.len() as u64, Body::Content(c))),
        target.prop_flat_map(|t| present(Kind::Symlink, t.len() as u64, Body::Target(t))),
        (any::<u64>(), any::<u64>()).prop_flat_map(|(size, links)| present(
            Kind::File,
            size,
            Body::Unchanged { links }
        )),
        (linkable, path_below_root(), any::<Option<u64>>())
            .prop_flat_map(|(kind, to, links)| present(kind, 7, Body::Link { to, links })),
        bodiless.prop_flat_map(|kind| present(kind, 0, Body::Empty)),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = |(name, state)| Entry { name, state };
    btree_map(name(), state(), 0..12)
        .prop_map(move |entries| entries.into_iter().map(entry).collect())
}

fn list_entries() -> impl Strategy<Value = Vec<ListEntry>> {
    let entry = kind().prop_flat_map(|kind| (metadata(kind, 5), any::<(u64, bool)>()));
    btree_map(name(), entry, 0..12).prop_map(|entries| {
        let list_entry =
            |(name, (meta, (extra, linked))): (Name, (Metadata, (u64, bool)))| ListEntry {
                name,
                kind: meta.kind,
                mode: meta.mode,
                uid: meta.uid,
                gid: meta.gid,
                size: meta.size,
                mtime: meta.mtime,
                rdev: meta.rdev,
                extra,
                linked,
            };
        entries.into_iter().map(list_entry).collect()
    })
}

fn range() -> impl Strategy<Value = NameRange> {
    (option::of(name()), option::of(name()))
        .prop_map(|(after, upto)| NameRange { after, upto })
        .prop_filter("empty", |range| match (&range.after, &range.upto) {
            (Some(after), Some(upto)) => after < upto,
            _ => true,
        })
}

fn listing() -> impl Strategy<Value = (NameRange, Page)> {
    let digest = (any::<[u8; 16]>(), any::<u32>())
        .prop_map(|(bytes, entries)| Page::Digest(Digest::from_bytes(bytes), entries));
    let page = prop_oneof![digest, list_entries().prop_map(Page::Entries)];
    (range(), page).prop_map(|(range, mut page)| {
        if let Page::Entries(entries) = &mut page {
            entries.retain(|entry| range.contains(entry.name.as_bytes()));
        }
        (range, page)
    })
}

fn hash() -> impl Strategy<Value = BlockHash> {
    (1..=u128::MAX).prop_map(|hash| BlockHash::from_bytes(hash.to_le_bytes()))
}

/// Offset and length of a base, of its blocks, and of the file.
fn base() -> impl Strategy<Value = (u64, u64, u64, u64)> {
    let block = 1..=BLOCK_BYTES_MAX;
    (block, any::<u32>(), 1..=BLOCKS_MAX as u64, any::<u32>()).prop_map(
        |(block, before, blocks, behind)| {
            let (offset, bytes) = (u64::from(before) * block, blocks * block);
            (offset, bytes, block, offset + bytes + u64::from(behind))
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let chunk = (
        any::<u64>(),
        any::<(u32, u32, u32, u32)>(),
        vec(any::<u8>(), 0..300),
    );
    let rename = (
        path_below_root(),
        path_below_root(),
        kind(),
        any::<u64>(),
        time(),
    )
        .prop_filter("same name", |(from, to, ..)| from != to);
    let publish = any::<u64>().prop_flat_map(|size| metadata(Kind::File, size));
    prop_oneof![
        (path(), entries()).prop_map(|(dir, entries)| Change::Entries { dir, entries }),
        (path(), metadata(Kind::Dir, 0)).prop_map(|(dir, meta)| Change::DirMeta { dir, meta }),
        rename.prop_map(|(from, to, kind, size, mtime)| Change::Rename {
            from,
            to,
            kind,
            size,
            mtime
        }),
        (path(), listing()).prop_map(|(dir, (range, page))| Change::Listing { dir, range, page }),
        (any::<u64>(), path_below_root(), base()).prop_map(
            |(stream, path, (offset, bytes, block, size))| Change::Base {
                stream,
                path,
                offset,
                bytes,
                block,
                size,
            }
        ),
        chunk.prop_map(|(stream, (offset, kept, hole, behind), data)| {
            let [offset, kept, hole, behind] = [offset, kept, hole, behind].map(u64::from);
            let hole = hole + u64::from(data.is_empty());
            Change::Chunk {
                stream,
                offset,
                kept,
                hole,
                size: offset + kept + hole + data.len() as u64 + behind,
                data: data.into(),
            }
        }),
        (any::<u64>(), path_below_root(), publish, option::of(hash())).prop_map(
            |(stream, path, meta, hash)| Change::Publish {
                stream,
                path,
                meta,
                hash,
            }
        ),
        any::<u64>().prop_map(|stream| Change::Abandon { stream }),
    ]
}

fn to_sink() -> impl Strategy<Value = ToSink> {
    let lane = prop_oneof![Just(Lane::Live), Just(Lane::Backlog)];
    let numbered = (1..=u64::MAX, 1..=u64::MAX, lane, change());
    prop_oneof![
        1 => any::<u64>().prop_map(|nonce| ToSink::Synchronisation { nonce }),
        1 => any::<u64>().prop_map(|token| ToSink::Ping { token }),
        8 => numbered.prop_map(|(epoch, number, lane, change)| ToSink::Change {
            epoch,
            number,
            lane,
            change
        }),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    let problem = ("[a-z ]{0,20}", any::<i32>());
    prop_oneof![
        problem.prop_map(|(operation, errno)| Refusal::Problem { operation, errno }),
        Just(Refusal::ParentMissing),
        Just(Refusal::Mismatch),
        Just(Refusal::Halted),
        Just(Refusal::Full(Shortage::Space)),
        Just(Refusal::Full(Shortage::Inodes)),
        Just(Refusal::Full(Shortage::Quota)),
        Just(Refusal::Full(Shortage::ReadOnly)),
        Just(Refusal::Kept),
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let compared = (names(), names(), names(), any::<bool>());
    prop_oneof![
        Just(Answer::Equal),
        Just(Answer::Different),
        Just(Answer::Missing),
        compared.prop_map(|(lacks, differs, excess, more)| Answer::Names {
            lacks,
            differs,
            excess,
            more
        }),
        any::<i32>().prop_map(Answer::Failed),
        vec(option::of(hash()), 0..9).prop_map(Answer::Blocks),
    ]
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let place = || 0..ENTRIES_MAX as u32;
    (
        vec((place(), refusal()), 0..5),
        vec(place(), 0..5),
        option::of(answer()),
    )
        .prop_map(|(refused, made, answer)| Outcome {
            refused,
            made,
            answer,
        })
}

fn credit() -> impl Strategy<Value = Credit> {
    (any::<u64>(), any::<u64>()).prop_map(|(bytes, messages)| Credit { bytes, messages })
}

fn to_source() -> impl Strategy<Value = ToSource> {
    let outcomes = vec((1..=u64::MAX, outcome()), 0..6);
    let acknowledgement = (1..=u64::MAX, outcomes, any::<(u64, u64)>(), credit());
    prop_oneof![
        1 => any::<u64>().prop_map(|nonce| ToSource::Announce { nonce }),
        1 => any::<u64>().prop_map(|token| ToSource::Pong { token }),
        8 => acknowledgement.prop_map(|(epoch, outcomes, (a, b), credit)| {
            ToSource::Acknowledgement {
                epoch,
                outcomes,
                applied: a.max(b),
                durable: a.min(b),
                credit,
            }
        }),
    ]
}

fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9-]{1,64}"
}

fn error_answer() -> impl Strategy<Value = ErrorAnswer> {
    let code = prop::sample::select(vec![
        ErrorCode::Malformed,
        ErrorCode::OutOfPhase,
        ErrorCode::Version,
        ErrorCode::Duplicate,
        ErrorCode::Busy,
        ErrorCode::Terminating,
        ErrorCode::Timeout,
        ErrorCode::Excluded,
    ]);
    (code, ".{0,40}").prop_map(|(code, message)| ErrorAnswer { code, message })
}

fn resume_point() -> impl Strategy<Value = ResumePoint> {
    let exceptions = btree_set(1..=1000u64, 0..10);
    (
        id(),
        1..=u64::MAX,
        1000..=u64::MAX,
        exceptions,
        any::<bool>(),
    )
        .prop_map(
            |(source_id, epoch, durable, exceptions, continuous)| ResumePoint {
                source_id,
                epoch,
                durable,
                exceptions: exceptions.into_iter().collect(),
                known_from: 2,
                continuous,
            },
        )
}

fn registration() -> impl Strategy<Value = RegistrationRequest> {
    let nonces = btree_set(any::<u64>(), 1..=16);
    let numbers = (any::<u32>(), any::<u64>());
    (
        numbers,
        id(),
        nonces,
        vec(id(), 0..3),
        (target_limits(), option::of(owner_tables())),
        option::of(resume_point()),
    )
        .prop_map(
            |((version, instance), sink_id, nonces, capabilities, (limits, owners), resume)| {
                RegistrationRequest {
                    version,
                    sink_id,
                    instance,
                    nonces: nonces.into_iter().collect(),
                    capabilities,
                    limits: Box::new(limits),
                    owners: owners.map(Box::new),
                    resume,
                }
            },
        )
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        Just(Request::Status),
        Just(Request::ReportQueue),
        Just(Request::ReportTransfer),
        Just(Request::ReportProblems),
        any::<u64>().prop_map(|timeout_ms| Request::Flush { timeout_ms }),
        Just(Request::Pause),
        any::<bool>().prop_map(|accept| Request::Resume { accept }),
        rate_limits().prop_map(Request::Limit),
        path().prop_map(|path| Request::Rescan { path }),
        vec(path(), 0..10).prop_map(|paths| Request::Enqueue { paths }),
        Just(Request::Stop),
    ]
}

fn rate_limits() -> impl Strategy<Value = RateLimits> {
    let bytes = option::of(RateLimits::BYTES_PER_S);
    let operations = option::of(RateLimits::OPERATIONS_PER_S);
    (bytes, operations).prop_map(|(bytes_per_s, operations_per_s)| RateLimits {
        bytes_per_s,
        operations_per_s,
    })
}

fn lane_queue() -> impl Strategy<Value = LaneQueue> {
    (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        option::of(any::<u64>()),
    )
        .prop_map(
            |(waiting_entries, in_flight_entries, in_flight_bytes, oldest_ms)| LaneQueue {
                waiting_entries,
                in_flight_entries,
                in_flight_bytes,
                oldest_ms,
            },
        )
}

fn event_queue() -> impl Strategy<Value = EventQueue> {
    (any::<[u64; 4]>(), 0.0..1.0f64, 0.0..1.0f64, 0.0..1.0f64).prop_map(
        |([bytes, overflows, watched_dirs, unwatched_dirs], fill, warning, critical)| EventQueue {
            bytes,
            fill,
            warning,
            critical,
            overflows,
            watched_dirs,
            unwatched_dirs,
        },
    )
}

fn hot_files() -> impl Strategy<Value = Vec<HotFile>> {
    vec(
        (path(), any::<u64>()).prop_map(|(path, sent)| HotFile { path, sent }),
        0..4,
    )
}

fn sink_queue() -> impl Strategy<Value = SinkQueue> {
    let lanes = (lane_queue(), lane_queue());
    (
        id(),
        lanes,
        option::of(any::<u64>()),
        any::<[u64; 3]>(),
        hot_files(),
        hot_files(),
    )
        .prop_map(
            |(sink, (live, backlog), lag_ms, counts, hottest, never_settling)| SinkQueue {
                sink,
                live,
                backlog,
                lag_ms,
                dirs_done: counts[0],
                dirs_pending: counts[1],
                rescans_owed: counts[2],
                hottest,
                never_settling,
            },
        )
}

fn problem() -> impl Strategy<Value = Problem> {
    (
        id(),
        path(),
        any::<bool>(),
        ".{0,20}",
        any::<i32>(),
        ".{0,20}",
        any::<u64>(),
        any::<u32>(),
    )
        .prop_map(
            |(sink, path, here, operation, errno, reason, since_ms, tries)| Problem {
                sink,
                path,
                side: if here {
                    "source".to_owned()
                } else {
                    "sink".to_owned()
                },
                operation,
                errno,
                reason,
                since_ms,
                tries,
            },
        )
}

fn limit_kind() -> impl Strategy<Value = LimitKind> {
    prop::sample::select(&LimitKind::ALL[..])
}

fn limit() -> impl Strategy<Value = Limit> {
    (limit_kind(), ".{0,20}", option::of(any::<u64>())).prop_map(|(kind, consequence, entries)| {
        Limit {
            kind,
            consequence,
            entries,
        }
    })
}

fn target_limits() -> impl Strategy<Value = TargetLimits> {
    let owner = (any::<u32>(), vec(any::<u32>(), 1..4))
        .prop_map(|(uid, groups)| FixedOwner { uid, groups });
    let mode = (0..=0o7777u32, 0..=0o7777u32).prop_map(|(file, dir)| FixedMode { file, dir });
    let time =
        (0..=10u32, i64::MIN..0, 0..=i64::MAX).prop_map(|(digits, first_secs, last_secs)| {
            TimeRange {
                step_nanos: 10u64.pow(digits),
                first_secs,
                last_secs,
            }
        });
    (
        option::of(owner),
        option::of(mode),
        time,
        option::of(any::<u8>()),
        btree_set(limit_kind(), 0..5),
    )
        .prop_map(|(owner, mode, time, name_bytes_max, lacks)| TargetLimits {
            owner,
            mode,
            time,
            name_bytes_max,
            lacks: lacks.into_iter().collect(),
        })
}

fn owner_tables() -> impl Strategy<Value = OwnerTables> {
    let table = || {
        vec(
            (
                vec(any::<u8>(), 0..20).prop_map(ByteBuf::from),
                any::<u32>(),
            ),
            0..4,
        )
    };
    (table(), table()).prop_map(|(users, groups)| OwnerTables { users, groups })
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        Just(Reply::Done),
        (event_queue(), vec(sink_queue(), 0..3))
            .prop_map(|(events, sinks)| Reply::Queue(Box::new(QueueReport { events, sinks }))),
        (vec(problem(), 0..4), any::<u64>()).prop_map(|(problems, total)| Reply::Problems(
            Box::new(ProblemsReport { problems, total })
        )),
        (any::<bool>(), any::<u64>(), ".{0,20}", vec(limit(), 0..3)).prop_map(
            |(complete, problems, waiting_for, limits)| {
                Reply::Flush(FlushResult {
                    complete,
                    problems,
                    waiting_for,
                    limits,
                })
            }
        ),
        error_answer().prop_map(Reply::Refused),
    ]
}

fn filter() -> impl Strategy<Value = Filter> {
    let rule = (any::<bool>(), vec(1..=255u8, 1..20)).prop_map(|(includes, pattern)| {
        let sign = if includes { b"+ " } else { b"- " };
        Rule::parse(&[sign, pattern.as_slice()].concat()).expect("a short pattern without NUL")
    });
    vec(rule, 0..4).prop_map(|rules| Filter::new(rules).expect("few rules"))
}

fn command() -> impl Strategy<Value = Command> {
    let epoch = || 1..=u64::MAX;
    let told = (
        epoch(),
        id(),
        1..=super::PAYLOAD_BYTES_MAX as u64,
        ".{0,20}",
        filter(),
    );
    prop_oneof![
        registration().prop_map(Command::RegistrationRequest),
        told.prop_map(|(epoch, source_id, payload_bytes_max, root, filter)| {
            Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id,
                payload_bytes_max,
                root,
                filter,
            }
        }),
        (epoch(), credit())
            .prop_map(|(epoch, credit)| Command::RegistrationSuccess { epoch, credit }),
        epoch().prop_map(|epoch| Command::RegistrationSuccessAcknowledgement { epoch }),
        epoch().prop_map(|epoch| Command::Unregister { epoch }),
        epoch().prop_map(|epoch| Command::ServiceTermination { epoch }),
        any::<u64>().prop_map(|token| Command::Ping { token }),
        error_answer().prop_map(Command::Error),
        (any::<u64>(), request()).prop_map(|(id, request)| Command::Request { id, request }),
        (any::<u64>(), reply()).prop_map(|(id, reply)| Command::Reply { id, reply }),
    ]
}
