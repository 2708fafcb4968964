//! Several peers at one source: two sinks, a sink of another version, a peer that talks nonsense.

use std::fs;
use std::time::Duration;

use bytes::Bytes;
use osync::channel::zmtp::Connection;
use osync::channel::{Channel, Incoming, Peer};
use osync::wire::message::{Command, ErrorCode, RegistrationRequest, VERSION};
use osync::wire::{decode_command, encode_command};

use crate::checked::REMOVES_MUCH;
use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::wait::{wait_for, wait_until};

#[test]
fn two_sinks_are_served_at_once() {
    let fixture = Fixture::populated(2_000, 21);
    let source = Source::start(&fixture);
    let sink = Sink::start_with(
        &fixture,
        &fixture.target(),
        &source.addresses,
        &REMOVES_MUCH,
    );
    let other = fixture.path().join("other");
    let state = fixture.path().join("state-other");
    fs::create_dir(&other).unwrap();
    let state = state.to_str().unwrap().to_owned();
    let mut second = Sink::start_with(
        &fixture,
        &other,
        &source.addresses,
        &[&REMOVES_MUCH[..], &["--state-dir", &state]].concat(),
    );
    wait_for("two sinks in transfer", PROMPT, || {
        let status = source.report(&["status"]);
        let sinks = status["sinks"].as_array().unwrap();
        let there = sinks
            .iter()
            .filter(|sink| sink["phase"] == "transfer")
            .count();
        if there == 2 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    fixture.churn(3, 22).finish();
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    assert_equal(&fixture.source(), &other);

    // One leaves in order, the other is served on.
    second.process.interrupt();
    second.process.expect_success(PROMPT);
    fs::write(fixture.source().join("after"), "one sink left").unwrap();
    wait_until("the change on the sink that stays", CONVERGENCE, || {
        rsync_difference(&fixture.source(), &fixture.target()).is_empty()
    });
    source.stop(sink);
}

#[test]
fn the_notify_backend_follows_changes() {
    let fixture = Fixture::populated(500, 23);
    let mut live = fixture.osync("push");
    live.arg("push").arg(fixture.source()).arg(fixture.target());
    live.args(["--watch", "notify"]);
    let mut live = fixture.start("push", &mut live);
    wait_until("equal trees", CONVERGENCE, || {
        live.assert_running();
        rsync_difference(&fixture.source(), &fixture.target()).is_empty()
    });
    fixture.churn(2, 24).finish();
    wait_until("equal trees after changes", CONVERGENCE, || {
        live.assert_running();
        rsync_difference(&fixture.source(), &fixture.target()).is_empty()
    });
    live.interrupt();
    live.expect_success(PROMPT);
}

/// The answers to packets on the command channel.
fn answers(address: &str, packets: Vec<Vec<Bytes>>) -> Vec<Command> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let limit = Duration::from_secs(10);
        let (mut connection, peer): (Connection, Peer) =
            Connection::connect(address, limit).await.unwrap();
        let mut heard = Vec::new();
        for packet in packets {
            connection.send(peer, packet);
            match tokio::time::timeout(limit, connection.recv())
                .await
                .expect("an answer")
            {
                Incoming::Packet(_, frames) => heard.push(decode_command(&frames).unwrap()),
                other => panic!("{other:?} instead of an answer"),
            }
        }
        heard
    })
}

#[test]
fn nonsense_and_other_versions_are_answered_and_lose_nothing() {
    let fixture = Fixture::populated(200, 25);
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.flush();
    let request = RegistrationRequest {
        version: VERSION + 1,
        sink_id: "from the future".to_owned(),
        instance: 1,
        nonces: vec![1],
        capabilities: Vec::new(),
        limits: Box::default(),
        owners: None,
        resume: None,
    };
    let packets = vec![
        vec![Bytes::from_static(b"\xc1 this is no MessagePack")],
        vec![Bytes::new(), Bytes::new()],
        encode_command(&Command::RegistrationRequest(request)),
        encode_command(&Command::ServiceTermination { epoch: 1 }),
    ];
    let codes: Vec<ErrorCode> = answers(&source.addresses.command, packets)
        .into_iter()
        .map(|answer| match answer {
            Command::Error(error) => error.code,
            other => panic!("{other:?} instead of an error answer"),
        })
        .collect();
    let expected = [
        ErrorCode::Malformed,
        ErrorCode::Malformed,
        ErrorCode::Version,
        ErrorCode::OutOfPhase,
    ];
    assert_eq!(codes, expected);

    fs::write(fixture.source().join("after"), "the real sink is served on").unwrap();
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}
