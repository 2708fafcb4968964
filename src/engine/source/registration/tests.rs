//! Sinks that begin to register and do not go on, and strangers that make the source talk.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::engine::replica::Limits;
use crate::engine::session::Heartbeat;
use crate::engine::source::{Event, Pace, Settings};
use crate::wire::message::VERSION;

fn source() -> Source {
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
        carryover: Default::default(),
        filter: Default::default(),
        limits_of_source: Vec::new(),
        owners: Err("not needed".to_owned()),
        audit: Pace {
            interval_ms: u64::MAX,
            entries_per_s: 1,
        },
    };
    Source::new(settings, Now::default(), &mut Vec::new())
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

#[test]
fn a_registration_that_is_not_finished_leaves_nothing_behind() {
    let mut source = source();
    let now = Now::default();
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
