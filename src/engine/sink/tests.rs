//! A source that says things out of phase.

use super::*;

const EPOCH: u64 = 7;
const NONCE: u64 = 3;

/// A sink that has sent its request and was told its epoch.
fn registering() -> (Sink, Vec<Action>) {
    let mut out = Vec::new();
    let settings = Settings {
        sink_id: "sink".to_owned(),
        instance: 1,
        window: Credit {
            bytes: 1 << 20,
            messages: 16,
        },
        window_max: Credit {
            bytes: 4 << 20,
            messages: 64,
        },
        applying_max: 4,
        heartbeat: Heartbeat::default(),
        limits: TargetLimits::default(),
        owners: None,
        sync_interval_ms: 50,
    };
    let mut sink = Sink::new(settings, Standing::default(), &mut out);
    register(&mut sink, &mut out);
    out.clear();
    (sink, out)
}

/// It has connected, and the source has answered its request.
fn register(sink: &mut Sink, out: &mut Vec<Action>) {
    let now = Now::default();
    request(sink, now, out);
    sink.advance(now, out);
}

/// Connections are there, and the source tells the epoch.
fn request(sink: &mut Sink, now: Now, out: &mut Vec<Action>) {
    sink.handle(now, Event::Connected(vec![NONCE]), out);
    let acknowledgement = Command::RegistrationRequestAcknowledgement {
        epoch: EPOCH,
        source_id: "source".to_owned(),
        payload_bytes_max: 1,
        root: String::new(),
        filter: Filter::default(),
    };
    sink.handle(now, Event::Command(acknowledgement), out);
}

/// The same, once it has said that it is ready.
fn confirming() -> (Sink, Vec<Action>) {
    let (mut sink, mut out) = registering();
    confirm(&mut sink, &mut out);
    out.clear();
    (sink, out)
}

fn confirm(sink: &mut Sink, out: &mut Vec<Action>) {
    let now = Now::default();
    let synced = Event::Synced {
        ok: true,
        took_ms: 1,
    };
    sink.handle(now, synced, out);
    let seen = Event::Data(0, ToSink::Synchronisation { nonce: NONCE });
    sink.handle(now, seen, out);
    sink.advance(now, out);
    let success = |action: &Action| {
        matches!(
            action,
            Action::SendCommand(Command::RegistrationSuccess { epoch: EPOCH, .. })
        )
    };
    assert!(out.iter().any(success), "{out:?}");
}

/// What a source may say only in a session that it has confirmed.
fn ends_the_attempt(message: &Command) {
    for (mut sink, mut out) in [registering(), confirming()] {
        sink.handle(Now::default(), Event::Command(message.clone()), &mut out);
        sink.advance(Now::default(), &mut out);
        let again = |action: &Action| matches!(action, Action::Connect { .. });
        assert!(out.iter().any(again), "{out:?}");
        let said = |action: &Action| {
            matches!(
                action,
                Action::SendData(..) | Action::ReleaseBrake | Action::Exit { .. }
            )
        };
        assert!(!out.iter().any(said), "{out:?}");
    }
}

#[test]
fn a_service_that_ends_before_the_session_began_is_out_of_phase() {
    ends_the_attempt(&Command::ServiceTermination { epoch: EPOCH });
}

#[test]
fn the_brake_is_not_released_before_the_session_began() {
    ends_the_attempt(&Command::ReleaseBrake { epoch: EPOCH });
}

#[test]
fn a_sync_that_began_before_the_cut_prepares_no_session() {
    let (mut sink, mut out) = confirming();
    let now = Now {
        ms: 1000,
        ..Now::default()
    };
    let begun = Command::RegistrationSuccessAcknowledgement { epoch: EPOCH };
    sink.handle(now, Event::Command(begun), &mut out);
    let change = abandon(1);
    sink.handle(now, Event::Data(0, change), &mut out);
    sink.advance(now, &mut out);
    sink.handle(now, Event::Applied(1, Outcome::default()), &mut out);
    sink.advance(now, &mut out);
    let syncs = |out: &[Action]| {
        let sync = |action: &&Action| matches!(action, Action::Sync { .. });
        out.iter().filter(sync).count()
    };
    assert_eq!(syncs(&out), 1, "{out:?}");
    sink.handle(now, Event::Lost("cut".to_owned()), &mut out);
    sink.advance(now, &mut out);
    let synced = Event::Synced {
        ok: true,
        took_ms: 1,
    };
    sink.handle(now, synced, &mut out);
    sink.advance(now, &mut out);
    // Stages of the old session are freed, and what was applied since that sync began is synced.
    assert_eq!(syncs(&out), 2, "{out:?}");
    assert!(out.contains(&Action::FreeStages), "{out:?}");
}

/// A sink in transfer.
fn transferring() -> (Sink, Vec<Action>) {
    let (mut sink, mut out) = confirming();
    begin(&mut sink, &mut out);
    out.clear();
    (sink, out)
}

fn begin(sink: &mut Sink, out: &mut Vec<Action>) {
    let begun = Command::RegistrationSuccessAcknowledgement { epoch: EPOCH };
    sink.handle(Now::default(), Event::Command(begun), out);
}

/// A change with nothing to do.
fn abandon(number: u64) -> ToSink {
    ToSink::Change {
        epoch: EPOCH,
        number,
        lane: Lane::Live,
        change: Change::Abandon { stream: number },
    }
}

/// What is told and done at a time; true if a sync begins.
fn syncs_at(sink: &mut Sink, ms: u64, events: impl IntoIterator<Item = Event>) -> bool {
    let now = Now {
        ms,
        ..Now::default()
    };
    let mut out = Vec::new();
    for event in events {
        sink.handle(now, event, &mut out);
        sink.advance(now, &mut out);
    }
    sink.advance(now, &mut out);
    out.iter()
        .any(|action| matches!(action, Action::Sync { .. }))
}

#[test]
fn a_sync_comes_sooner_when_nothing_is_left_to_be_applied() {
    let (mut sink, _) = transferring();
    let told = |number| Event::Data(0, abandon(number));
    let applied = |number| Event::Applied(number, Outcome::default());
    let synced = |took_ms| Event::Synced { ok: true, took_ms };
    assert!(!syncs_at(&mut sink, 20, [told(1), told(2), applied(1)]));
    assert!(syncs_at(&mut sink, 20, [applied(2)]), "10 ms have passed");
    // However little is applied, it takes a tenth of the time at most.
    assert!(!syncs_at(&mut sink, 25, [synced(3), told(3), applied(3)]));
    assert!(!syncs_at(&mut sink, 54, []));
    assert_eq!(sink.deadline(), 55);
    assert!(syncs_at(&mut sink, 55, []));
    // A slow one is not made up for.
    assert!(!syncs_at(
        &mut sink,
        100,
        [synced(40), told(4), told(5), applied(4)]
    ));
    assert!(!syncs_at(&mut sink, 179, [applied(5)]));
    assert!(syncs_at(&mut sink, 180, []));
}

fn attempts(out: &[Action]) -> Vec<u32> {
    let attempt = |action: &Action| match action {
        Action::Connect { attempt } => Some(*attempt),
        _ => None,
    };
    out.iter().filter_map(attempt).collect()
}

#[test]
fn more_bytes_than_were_granted_end_the_session() {
    let (mut sink, mut out) = transferring();
    // The first is missing, so that none of them can begin.
    for number in 2..=10 {
        let change = ToSink::Change {
            epoch: EPOCH,
            number,
            lane: Lane::Live,
            change: Change::Chunk {
                stream: 1,
                offset: 0,
                kept: 0,
                hole: 0,
                data: bytes::Bytes::from_static(&[0; 256 * 1024]),
                size: 1 << 30,
            },
        };
        sink.handle(Now::default(), Event::Data(0, change), &mut out);
    }
    assert_eq!(
        attempts(&out).len(),
        1,
        "2.25 MiB were taken, 1 MiB was granted"
    );
}

#[test]
fn a_source_that_registers_and_talks_nonsense_is_met_with_growing_pauses() {
    let (mut sink, mut out) = transferring();
    let now = Now::default();
    let mut again = |nonsense: bool| {
        let end = match nonsense {
            true => Event::Malformed("nonsense".to_owned()),
            false => Event::Lost("cut".to_owned()),
        };
        sink.handle(now, end, &mut out);
        let attempt = attempts(&out);
        sink.advance(now, &mut out);
        register(&mut sink, &mut out);
        confirm(&mut sink, &mut out);
        begin(&mut sink, &mut out);
        assert!(sink.in_transfer());
        out.clear();
        attempt
    };
    let nonsense: Vec<_> = (0..4).flat_map(|_| again(true)).collect();
    assert_eq!(nonsense, [1, 2, 3, 4]);
    // A link that breaks is another matter, and the source has behaved since.
    assert_eq!(again(false), [5]);
    assert_eq!([again(false), again(true)].concat(), [1, 1]);
}

/// A source that plays an epoch again gets a session from its beginning, whatever came in the one before.
#[test]
fn an_epoch_that_is_used_again_begins_anew() {
    let (mut sink, mut out) = confirming();
    let now = Now::default();
    for _ in 0..2 {
        begin(&mut sink, &mut out);
        let change = abandon(1);
        sink.handle(now, Event::Data(0, change), &mut out);
        sink.advance(now, &mut out);
        assert!(sink.in_transfer(), "{out:?}");
        sink.handle(now, Event::Applied(1, Outcome::default()), &mut out);
        sink.handle(now, Event::Lost("cut".to_owned()), &mut out);
        sink.advance(now, &mut out);
        out.clear();
        register(&mut sink, &mut out);
        confirm(&mut sink, &mut out);
    }
}

#[test]
fn a_sync_that_outlasts_a_registration_serves_the_next() {
    let (mut sink, mut out) = registering();
    let late = Now {
        ms: HANDSHAKE_MS,
        ..Now::default()
    };
    sink.handle(late, Event::Tick, &mut out);
    sink.advance(late, &mut out);
    assert_eq!(attempts(&out).len(), 1, "{out:?}");
    request(&mut sink, late, &mut out);
    let synced = Event::Synced {
        ok: true,
        took_ms: HANDSHAKE_MS,
    };
    sink.handle(late, synced, &mut out);
    let seen = Event::Data(0, ToSink::Synchronisation { nonce: NONCE });
    sink.handle(late, seen, &mut out);
    sink.advance(late, &mut out);
    let success = |action: &Action| {
        matches!(
            action,
            Action::SendCommand(Command::RegistrationSuccess { .. })
        )
    };
    assert!(out.iter().any(success), "{out:?}");
}

#[test]
fn a_disk_that_hangs_behind_a_failed_sync_is_waited_for_without_turning() {
    let (mut sink, mut out) = transferring();
    let now = Now {
        ms: 1_000,
        ..Now::default()
    };
    sink.handle(now, Event::Data(0, abandon(1)), &mut out);
    sink.advance(now, &mut out);
    sink.handle(now, Event::Applied(1, Outcome::default()), &mut out);
    sink.advance(now, &mut out);
    sink.handle(now, Event::Data(0, abandon(2)), &mut out);
    sink.advance(now, &mut out);
    let failed = Event::Synced {
        ok: false,
        took_ms: 1,
    };
    sink.handle(now, failed, &mut out);
    let later = Now {
        ms: 60_000,
        ..Now::default()
    };
    sink.advance(later, &mut out);
    assert_eq!(sink.deadline(), u64::MAX, "the second has not been applied");
    out.clear();
    sink.handle(later, Event::Applied(2, Outcome::default()), &mut out);
    sink.advance(later, &mut out);
    let syncs = |action: &Action| matches!(action, Action::Sync { .. });
    assert!(out.iter().any(syncs), "{out:?}");
}
