#![allow(clippy::unwrap_used)]

use super::*;
use crate::report::{Problem, Shortage};
use crate::tree::{LimitKind, RelPath};

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn sample_events() -> EventQueue {
    EventQueue {
        bytes: 12_800,
        fill: 0.0244,
        warning: 0.5,
        critical: 0.9,
        overflows: 1,
        watched_dirs: 100_000,
        unwatched_dirs: 12,
    }
}

pub(in crate::cli) fn sample_status() -> Status {
    let busy = SinkStatus {
        sink: "9f3c".into(),
        phase: Phase::Transfer,
        converged: false,
        settled: false,
        limits: vec![Limit {
            kind: LimitKind::Owners,
            consequence: "everything belongs to user 1000".into(),
            entries: Some(12_345),
        }],
        lag_ms: Some(1450),
        pending_entries: 8213,
        problems: 2,
        halted: 0,
        rate: Rate {
            entries: 5123.7,
            bytes: 83_000_000.0,
        },
        eta_ms: Some(754_000),
        full: false,
        shortage: None,
    };
    let away = SinkStatus {
        sink: "a077".into(),
        phase: Phase::Initialisation,
        lag_ms: None,
        eta_ms: None,
        rate: Rate::default(),
        limits: vec![],
        full: true,
        shortage: Some(Shortage::Space),
        ..busy.clone()
    };
    Status {
        version: "0.1.0".into(),
        root: "/srv/pool\\n".into(),
        paused: false,
        rate_limits: RateLimits {
            bytes_per_s: Some(10 << 20),
            operations_per_s: Some(500),
        },
        halted: None,
        phase: Phase::Transfer,
        uptime_ms: 86_400_000,
        events: sample_events(),
        limits: vec![Limit {
            kind: LimitKind::TrustedXattrs,
            consequence: "not root: they cannot be read".into(),
            entries: None,
        }],
        audit: AuditStatus {
            interval_ms: 86_400_000,
            is_running: true,
            completed: 3,
            found: 17,
        },
        mounts_not_entered: MountsNotEntered::default(),
        sinks: vec![busy, away],
    }
}

pub(in crate::cli) fn sample_queue() -> QueueReport {
    let live = LaneQueue {
        waiting_entries: 213,
        in_flight_entries: 512,
        in_flight_bytes: 1 << 20,
        oldest_ms: Some(1450),
    };
    QueueReport {
        events: sample_events(),
        sinks: vec![SinkQueue {
            sink: "9f3c".into(),
            live,
            backlog: LaneQueue::default(),
            lag_ms: Some(1450),
            dirs_done: 1200,
            dirs_pending: 77,
            rescans_owed: 1,
            hottest: vec![HotFile {
                path: path(b"log/today\xff"),
                sent: 42,
            }],
            never_settling: vec![HotFile {
                path: path(b"db/wal"),
                sent: 1337,
            }],
        }],
    }
}

pub(in crate::cli) fn sample_transfer() -> TransferReport {
    TransferReport {
        sinks: vec![SinkTransfer {
            sink: "9f3c".into(),
            sent_entries: 1_000_000,
            sent_bytes: 5 << 40,
            applied_entries: 999_488,
            applied_bytes: 5 << 40,
            rate_10s: Rate {
                entries: 5123.7,
                bytes: 83_000_000.0,
            },
            rate_5min: Rate {
                entries: 4990.1,
                bytes: 81_000_000.0,
            },
            retries: 3,
            read_while_open: 1,
            kept_dirs: 2,
            in_flight_messages: 7,
            streams: vec![path(b"vm/disk.img")],
            epoch: Some("00c0ffee00c0ffee".into()),
            sent_mark: 107,
            applied_mark: 100,
            durable_mark: 90,
            sessions: 2,
        }],
    }
}

pub(in crate::cli) fn sample_problems() -> ProblemsReport {
    let problem = |path, errno: i32, reason: &str| Problem {
        sink: "9f3c".into(),
        path,
        side: "sink".into(),
        operation: "set owner".into(),
        errno,
        reason: reason.into(),
        since_ms: 61_250,
        tries: 4,
    };
    ProblemsReport {
        problems: vec![
            problem(path(b"home/a\nb"), 1, "Operation not permitted"),
            problem(RelPath::root(), 0, "the name is reserved\x1b[2J"),
        ],
        total: 10,
    }
}

#[test]
fn status_is_one_screen() {
    let text = status(&sample_status());
    assert!(text.lines().count() <= 24, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn status_says_what_is_held_up() {
    let halted = Status {
        paused: true,
        halted: Some("12000 of 100000 entries would be removed".into()),
        limits: vec![],
        rate_limits: RateLimits::default(),
        sinks: vec![],
        ..sample_status()
    };
    insta::assert_snapshot!(status(&halted));
}

#[test]
fn status_names_the_first_mounts() {
    let text = |paths: &[&str], total| {
        let paths = paths.iter().map(|&path| path.to_owned()).collect();
        let mounts_not_entered = MountsNotEntered { paths, total };
        let status = status(&Status {
            mounts_not_entered,
            ..sample_status()
        });
        let line = status.lines().find(|line| line.starts_with("  mounts"));
        line.map(str::to_owned)
    };
    assert_eq!(text(&[], 0), None);
    let one = text(&["/srv/\x1b[2J"], 1).unwrap();
    assert_eq!(one, "  mounts     1 not entered: /srv/\\u{1b}[2J");
    let many = text(&["/a", "/b", "/c", "/d"], 23).unwrap();
    assert_eq!(many, "  mounts     23 not entered: /a, /b, /c, ...");
}

#[test]
fn progress_is_one_line() {
    insta::assert_snapshot!(progress(&sample_status()));
    assert_eq!(
        progress(&Status {
            sinks: vec![],
            ..sample_status()
        }),
        "waiting for the sink"
    );
}

#[test]
fn queue_report() {
    insta::assert_snapshot!(queue(&sample_queue()));
}

#[test]
fn transfer_report() {
    insta::assert_snapshot!(transfer(&sample_transfer()));
    assert_eq!(
        transfer(&TransferReport { sinks: vec![] }),
        "no sink has registered\n"
    );
}

#[test]
fn problems_report() {
    insta::assert_snapshot!(problems(&sample_problems()));
    assert_eq!(
        problems(&ProblemsReport {
            problems: vec![],
            total: 0
        }),
        "no problems\n"
    );
}

#[test]
fn json_has_every_field_and_text_for_paths() {
    let json = |value: serde_json::Value| serde_json::to_string_pretty(&value).unwrap();
    insta::assert_snapshot!(
        [
            json(serde_json::to_value(sample_status()).unwrap()),
            json(serde_json::to_value(sample_queue()).unwrap()),
            json(serde_json::to_value(sample_transfer()).unwrap()),
            json(serde_json::to_value(sample_problems()).unwrap()),
        ]
        .join("\n")
    );
}
