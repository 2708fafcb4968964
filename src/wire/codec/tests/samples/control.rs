//! Samples of the command channel.

use serde_bytes::ByteBuf;

use super::{EPOCH, path, registration, resume_point};
use crate::report::{
    AuditStatus, EventQueue, HotFile, LaneQueue, Limit, MountsNotEntered, Phase, Problem,
    ProblemsReport, QueueReport, Rate, RateLimits, Shortage, SinkQueue, SinkStatus, SinkTransfer,
    Status, TransferReport,
};
use crate::tree::{
    Filter, FixedMode, FixedOwner, LimitKind, OwnerTables, RelPath, Rule, TargetLimits, TimeRange,
};
use crate::wire::message::{
    Command, Credit, ErrorAnswer, ErrorCode, FlushResult, RegistrationRequest, Reply, Request,
};

pub(super) fn sessions() -> Vec<(&'static str, Command)> {
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
            "command-registration-request-limits",
            Command::RegistrationRequest(RegistrationRequest {
                limits: Box::new(limits()),
                owners: Some(Box::new(OwnerTables {
                    users: vec![(ByteBuf::from("ann"), 1000)],
                    groups: vec![(ByteBuf::from("staff"), 50), (ByteBuf::from(b"\xff"), 51)],
                })),
                ..registration(None)
            }),
        ),
        (
            "command-registration-request-acknowledgement",
            Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id: "source-1".to_owned(),
                payload_bytes_max: 256 * 1024,
                root: "2049:131073".to_owned(),
                filter: Filter::default(),
            },
        ),
        (
            "command-registration-request-acknowledgement-filter",
            Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id: "source-1".to_owned(),
                payload_bytes_max: 256 * 1024,
                root: "2049:131073".to_owned(),
                filter: Filter::new(vec![
                    Rule::include(b"*/").expect("a pattern"),
                    Rule::exclude(b"*.\xff").expect("a pattern"),
                ])
                .expect("two rules"),
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

pub(super) fn errors() -> Vec<(&'static str, Command)> {
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
        (
            "command-error-excluded",
            error(ErrorCode::Excluded, "'a' is excluded by the rule '- a'"),
        ),
    ]
}

pub(super) fn requests() -> Vec<(&'static str, Command)> {
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
        (
            "command-request-resume",
            request(Request::Resume { accept: true }),
        ),
        (
            "command-request-limit",
            request(Request::Limit(RateLimits {
                bytes_per_s: Some(10_000_000),
                operations_per_s: None,
            })),
        ),
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

pub(super) fn replies() -> Vec<(&'static str, Command)> {
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
                limits: vec![limit(Some(3))],
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

fn limits() -> TargetLimits {
    TargetLimits {
        owner: Some(FixedOwner {
            uid: 1000,
            groups: vec![1000, 50],
        }),
        mode: Some(FixedMode {
            file: 0o644,
            dir: 0o755,
        }),
        time: TimeRange {
            step_nanos: 1_000_000_000,
            first_secs: -(1 << 31),
            last_secs: (1 << 31) - 1,
        },
        name_bytes_max: Some(143),
        lacks: vec![LimitKind::Acls, LimitKind::Devices],
    }
}

fn limit(entries: Option<u64>) -> Limit {
    Limit {
        kind: LimitKind::TrustedXattrs,
        consequence: "they are dropped".to_owned(),
        entries,
    }
}

fn status() -> Status {
    let sink = |sink: &str, phase, lag_ms| SinkStatus {
        sink: sink.to_owned(),
        phase,
        converged: false,
        settled: true,
        limits: vec![limit(Some(3))],
        lag_ms,
        pending_entries: 17,
        problems: 1,
        halted: 0,
        rate: Rate {
            entries: 1500.0,
            bytes: 2.5e6,
        },
        eta_ms: None,
        full: true,
        shortage: Some(Shortage::ReadOnly),
    };
    Status {
        version: "0.1.0".to_owned(),
        root: "/srv/data".to_owned(),
        paused: false,
        rate_limits: RateLimits {
            bytes_per_s: Some(10_000_000),
            operations_per_s: Some(500),
        },
        halted: Some("the root is empty".to_owned()),
        phase: Phase::Transfer,
        uptime_ms: 86_400_000,
        events: events(),
        limits: vec![limit(None)],
        audit: AuditStatus {
            interval_ms: 86_400_000,
            is_running: true,
            completed: 3,
            found: 17,
        },
        mounts_not_entered: MountsNotEntered {
            paths: vec!["/srv/data/boot".to_owned()],
            total: 7,
        },
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
            kept_dirs: 2,
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
