//! Sinks that begin to register and do not go on, that leave and come back, and strangers that make the
//! source talk.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::engine::Since;
use crate::engine::carryover::Carryover;
use crate::engine::replica::Limits;
use crate::engine::session::{ANNOUNCED_MAX, Heartbeat};
use crate::engine::source::audit::Audit;
use crate::engine::source::{Event, Pace, Settings};
use crate::engine::throttle::Throttle;
use crate::engine::walk::Suspicion;
use crate::engine::work::{Finding, Order};
use crate::report::RateLimits;
use crate::tree::Time;
use crate::wire::message::{Request, VERSION};

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
        rate_limits: RateLimits::default(),
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

/// What a listing that is handed out now distrusts. Looks are answered with nothing.
fn suspicion_of_next_list(source: &mut Source, now: Now) -> Option<Suspicion> {
    let mut out = Vec::new();
    source.advance(now, &mut out);
    let mut found = None;
    for action in out {
        match action {
            Action::Read {
                order: Order::List { suspicion, .. },
                ..
            } => found = found.or(suspicion),
            Action::Read { ticket, .. } => {
                let nothing = Event::Found(ticket, Finding::Excluded);
                source.handle(now, nothing, &mut Vec::new());
            }
            _ => {}
        }
    }
    found
}

#[test]
fn a_sink_that_left_in_order_is_not_trusted_with_what_changed_meanwhile() {
    let mut source = source();
    let epoch = register(&mut source, at(0), 1, "sink");
    let out = &mut Vec::new();
    let left = at(100_000);
    source.handle(left, Event::Fill(0, 0.0), out);
    let message = Command::Unregister { epoch };
    source.handle(left, Event::Command(Peer(1), message), out);
    source.handle(left, Event::CommandGone(Peer(1)), out);
    let back = at(600_000);
    source.handle(back, Event::Fill(0, 0.0), out);
    register(&mut source, back, 10, "sink");
    let suspicion = (0..8).find_map(|_| suspicion_of_next_list(&mut source, back));
    let suspicion = suspicion.expect("nobody told it what changed while it was away");
    assert!(suspicion.holds(secs(1_300)), "{suspicion:?}");
    assert!(!suspicion.holds(secs(900)), "{suspicion:?}");
}

#[test]
fn sinks_that_left_are_remembered_up_to_a_number() {
    let mut source = source();
    let out = &mut Vec::new();
    for number in 0..2 * LEFT_MAX as u64 {
        let (now, peer) = (at(1_000 * number), 1 + 2 * number);
        source.handle(now, Event::Fill(0, 0.0), out);
        let epoch = register(&mut source, now, peer, &format!("sink {number}"));
        let message = Command::Unregister { epoch };
        source.handle(now, Event::Command(Peer(peer), message), out);
        source.handle(now, Event::CommandGone(Peer(peer)), out);
        out.clear();
    }
    assert_eq!(source.left.len(), LEFT_MAX);
    let last = format!("sink {}", 2 * LEFT_MAX - 1);
    assert!(source.left.contains_key(&last));
}

#[test]
fn what_an_earlier_process_left_open_stays_open_until_it_was_compared() {
    let left = Carryover {
        durable_until: secs(500),
        problems: Vec::new(),
    };
    let mut source = source_after([("sink".to_owned(), left)].into());
    register(&mut source, at(0), 1, "sink");
    source.advance(at(0), &mut Vec::new());
    let left = source.carryover(at(5_000)).remove("sink").unwrap();
    assert!(left.durable_until <= secs(500), "{left:?}");
}

#[test]
fn what_waited_in_the_event_queue_is_open_since_that_was_empty() {
    let mut source = source();
    let out = &mut Vec::new();
    source.handle(at(0), Event::Fill(0, 0.0), out);
    source.handle(at(60_000), Event::Fill(16, 0.1), out);
    register(&mut source, at(60_000), 1, "sink");
    source.handle(at(60_000), Event::Fill(0, 0.0), out);
    assert_eq!(source.last_stamp(at(60_000)).made, Since::Ms(60_000));
    let left = source.carryover(at(60_000)).remove("sink").unwrap();
    assert!(left.durable_until <= secs(1_000), "{left:?}");
}

/// Problems are tried again and the tree is audited when their time has come. Where nothing is handed out, the
/// loop would turn without end if it woke up for that.
#[test]
fn who_hands_nothing_out_does_not_turn() {
    let pause = Event::Command(
        Peer(9),
        Command::Request {
            id: 1,
            request: Request::Pause,
        },
    );
    let leave = |epoch| Event::Command(Peer(1), Command::Unregister { epoch });
    let lost = Event::RootLost("it is gone".to_owned());
    for (case, event) in [Some(pause), Some(lost), Some(Event::Stop), None]
        .into_iter()
        .enumerate()
    {
        let mut source = source();
        let pace = Pace {
            interval_ms: 2_000,
            entries_per_s: 1_000,
        };
        source.audit = Audit::new(pace, &Limits::default(), 0);
        let epoch = register(&mut source, at(0), 1, "sink");
        let mut out = Vec::new();
        source.advance(at(0), &mut out);
        for action in out {
            if let Action::Read {
                ticket,
                order: Order::LookDir { dir },
                ..
            } = action
            {
                let failed = Finding::Failed {
                    path: dir,
                    operation: "open",
                    errno: libc::EIO,
                };
                source.handle(at(0), Event::Found(ticket, failed), &mut Vec::new());
            }
        }
        assert_eq!(source.status(at(0)).sinks[0].problems, 1);
        let event = event.unwrap_or_else(|| leave(epoch));
        source.handle(at(0), event, &mut Vec::new());
        let later = at(5_000);
        source.handle(later, Event::Tick, &mut Vec::new());
        source.advance(later, &mut Vec::new());
        let deadline = source.deadline();
        assert!(deadline > later.ms, "case {case}: {deadline}");
    }
}

#[test]
fn backlogs_take_turns_while_there_is_not_enough_for_all() {
    let mut source = source();
    let limits = RateLimits {
        bytes_per_s: None,
        operations_per_s: Some(1),
    };
    source.throttle = Throttle::new(0, limits);
    for (peer, sink) in [(1, "first"), (10, "second"), (20, "third")] {
        register(&mut source, at(0), peer, sink);
    }
    let paths = ["a/x", "b/x", "c/x"].map(|path| RelPath::new(path.as_bytes()).unwrap());
    let request = Command::Request {
        id: 1,
        request: Request::Enqueue {
            paths: paths.to_vec(),
        },
    };
    source.handle(at(0), Event::Command(Peer(30), request), &mut Vec::new());
    let mut served = Vec::new();
    // The first second is for the page of the root that is listed already, to bind watches.
    for second in 0..=6 {
        let mut out = Vec::new();
        source.advance(at(1_000 * second), &mut out);
        served.extend(out.iter().filter_map(|action| match action {
            Action::Read { ticket, .. } => Some(Replica::key_of(*ticket)),
            _ => None,
        }));
    }
    assert_eq!(served, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn few_operators_wait_at_once() {
    let is_refused = |out: &[Action]| {
        let reply = |action: &Action| {
            matches!(
                action,
                Action::SendCommand {
                    message: Command::Reply {
                        reply: Reply::Refused(_),
                        ..
                    },
                    ..
                }
            )
        };
        out.iter().any(reply)
    };
    let flush = Request::Flush { timeout_ms: 1_000 };
    for request in [Request::Stop, flush] {
        let mut source = source();
        register(&mut source, at(0), 1, "sink");
        for id in 0..=64 {
            let request = request.clone();
            let message = Command::Request { id, request };
            let out = &mut Vec::new();
            source.handle(at(0), Event::Command(Peer(9), message), out);
            assert_eq!(is_refused(out), id == 64, "{id}: {out:?}");
        }
    }
}

#[test]
fn sinks_beyond_a_number_are_told_why_they_must_wait() {
    let mut source = source();
    let last = SINKS_MAX as u64;
    let mut epoch = 0;
    for number in 0..last {
        let name = format!("sink {number}");
        epoch = register(&mut source, at(0), 10 + 2 * number, &name);
    }
    let told = request(&mut source, at(0), 1, "one more");
    let is_busy = |action: &Action| {
        matches!(
            action,
            Action::SendCommand {
                message: Command::Error(ErrorAnswer {
                    code: ErrorCode::Busy,
                    ..
                }),
                ..
            }
        )
    };
    assert!(told.iter().any(is_busy), "{told:?}");
    // One that leaves in order makes room.
    let peer = Peer(10 + 2 * (last - 1));
    let message = Command::Unregister { epoch };
    source.handle(at(0), Event::Command(peer, message), &mut Vec::new());
    source.handle(at(0), Event::CommandGone(peer), &mut Vec::new());
    register(&mut source, at(0), 1, "one more");
}

#[test]
fn announcements_beyond_a_number_end_their_connections() {
    let mut source = source();
    let last = ANNOUNCED_MAX as u64;
    for number in 0..=last {
        let announcement = ToSource::Announce { nonce: number };
        let out = &mut Vec::new();
        source.handle(at(0), Event::Data(Peer(number), announcement), out);
        let dropped =
            |action: &Action| matches!(action, Action::DropData { peer } if peer.0 == last);
        assert_eq!(out.iter().any(dropped), number == last);
    }
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
