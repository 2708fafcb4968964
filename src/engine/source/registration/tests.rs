//! Sinks that begin to register and do not go on, that leave and come back, and strangers that make the
//! source talk.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::engine::carryover::Carryover;
use crate::engine::replica::Limits;
use crate::engine::session::Heartbeat;
use crate::engine::source::{Event, Pace, Settings};
use crate::tree::Time;
use crate::wire::message::VERSION;

fn source() -> Source {
    source_after(Default::default())
}

/// A source whose earlier process has left this.
fn source_after(carryover: std::collections::BTreeMap<String, Carryover>) -> Source {
    let settings = Settings {
        root: "/root".to_owned(),
        root_identity: "0:0".to_owned(),
        source_id: "source".to_owned(),
        instance: 1,
        limits: Limits::default(),
        heartbeat: Heartbeat::default(),
        warning: 0.5,
        critical: 0.9,
        terminate_on_critical: false,
        events_remedy: String::new(),
        carryover,
        filter: Default::default(),
        limits_of_source: Vec::new(),
        owners: Err("not needed".to_owned()),
        audit: Pace {
            interval_ms: u64::MAX,
            entries_per_s: 1,
        },
    };
    Source::new(settings, at(0), &mut Vec::new())
}

/// So many milliseconds after the start; the wall clock stood at 1000 s then.
fn at(ms: u64) -> Now {
    Now {
        ms,
        wall: secs(1_000 + ms as i64 / 1_000),
    }
}

fn secs(secs: i64) -> Time {
    Time { secs, nanos: 0 }
}

/// Asks to be registered by a name, with a nonce of the same number as the peer.
fn request(source: &mut Source, now: Now, peer: u64, sink_id: &str) -> Vec<Action> {
    let request = RegistrationRequest {
        version: VERSION,
        sink_id: sink_id.to_owned(),
        instance: peer,
        nonces: vec![peer],
        capabilities: Vec::new(),
        limits: Box::default(),
        owners: None,
        resume: None,
    };
    let mut out = Vec::new();
    let message = Command::RegistrationRequest(request);
    source.handle(now, Event::Command(Peer(peer), message), &mut out);
    out
}

/// True if this peer is told the epoch of its session.
fn is_accepted(out: &[Action], wanted: u64) -> bool {
    out.iter().any(|action| {
        matches!(
            action,
            Action::SendCommand { peer: Peer(peer), message: Command::RegistrationRequestAcknowledgement { .. } }
                if *peer == wanted
        )
    })
}

/// Registers a sink to the end. Returns its epoch.
fn register(source: &mut Source, now: Now, peer: u64, sink_id: &str) -> u64 {
    let announcement = ToSource::Announce { nonce: peer };
    let out = &mut Vec::new();
    source.handle(now, Event::Data(Peer(peer + 1), announcement), out);
    let told = request(source, now, peer, sink_id);
    let epoch = told.iter().find_map(|action| match action {
        Action::SendCommand {
            message: Command::RegistrationRequestAcknowledgement { epoch, .. },
            ..
        } => Some(*epoch),
        _ => None,
    });
    let epoch = epoch.expect("it is accepted");
    let credit = Credit {
        bytes: 8 << 20,
        messages: 512,
    };
    let message = Command::RegistrationSuccess { epoch, credit };
    source.handle(now, Event::Command(Peer(peer), message), out);
    epoch
}

#[test]
fn the_end_of_the_service_is_waited_for_without_turning() {
    let mut source = source();
    let out = &mut Vec::new();
    register(&mut source, at(0), 1, "sink");
    source.advance(at(0), out);
    source.handle(at(0), Event::Stop, out);
    let late = at(TERMINATION_MS);
    // The sink is there, and its disk is slow.
    let ping = Command::Ping { token: 1 };
    source.handle(late, Event::Command(Peer(1), ping), out);
    let pong = ToSource::Pong { token: 1 };
    source.handle(late, Event::Data(Peer(2), pong), out);
    source.handle(late, Event::Tick, out);
    out.clear();
    source.advance(late, out);
    let ends = |action: &Action| {
        matches!(
            action,
            Action::SendCommand {
                message: Command::ServiceTermination { .. },
                ..
            }
        )
    };
    assert!(out.iter().any(ends), "{out:?}");
    let deadline = source.deadline();
    assert!(deadline > late.ms, "{deadline} is over at {}", late.ms);
}

#[test]
fn a_registration_that_is_not_finished_leaves_nothing_behind() {
    let mut source = source();
    let now = at(0);
    for peer in 1..=3 {
        request(&mut source, now, peer, &format!("fake {peer}"));
    }
    let late = Now {
        ms: ANNOUNCE_MS,
        ..now
    };
    source.handle(late, Event::Tick, &mut Vec::new());
    source.handle(late, Event::CommandGone(Peer(3)), &mut Vec::new());
    assert_eq!(source.status(late).sinks, []);
}

#[test]
fn requests_that_are_not_followed_by_announcements_keep_nobody_out() {
    let mut source = source();
    let now = Now::default();
    for peer in 1..=2 * SINKS_MAX as u64 {
        request(&mut source, now, peer, &format!("fake {peer}"));
    }
    let real = 1_000;
    let announcement = ToSource::Announce { nonce: real };
    source.handle(
        now,
        Event::Data(Peer(real + 1), announcement),
        &mut Vec::new(),
    );
    let out = request(&mut source, now, real, "real");
    assert!(is_accepted(&out, real), "{out:?}");
}

#[test]
fn strangers_say_nothing_in_the_log() {
    let mut source = source();
    let error = Command::Error(ErrorAnswer {
        code: ErrorCode::Busy,
        message: "\x1b[2J one line\nand another".to_owned(),
    });
    let mut out = Vec::new();
    source.handle(Now::default(), Event::Command(Peer(1), error), &mut out);
    assert_eq!(out, []);
}
