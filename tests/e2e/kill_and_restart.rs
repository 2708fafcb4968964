//! kill -9 in the middle, at either end.

use std::fs;

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::{Fixture, LONG_SECONDS};
use crate::judge::assert_equal;
use crate::wait::wait_until;

/// Ordinary files in the tree.
const FILES: u32 = 5_000;
/// How often the victim is killed during one churn.
const KILLS: u32 = 2;

#[test]
fn a_killed_sink_catches_up() {
    let fixture = Fixture::populated(FILES, 13);
    let source = Source::start(&fixture);
    let mut sink = Sink::start(&fixture, &source.addresses);
    let mut churn = fixture.churn(LONG_SECONDS, 14);
    for _ in 0..KILLS {
        wait_until_sent(&source);
        sink.process.kill();
        sink = Sink::start(&fixture, &source.addresses);
    }
    churn.assert_running();
    churn.interrupt();
    finish(&fixture, source, sink);
}

#[test]
fn a_killed_source_catches_up() {
    let fixture = Fixture::populated(FILES, 15);
    let addresses = Addresses::free();
    let mut source = Source::start_at(&fixture, &addresses);
    let mut sink = Sink::start(&fixture, &addresses);
    let mut churn = fixture.churn(LONG_SECONDS, 16);
    for _ in 0..KILLS {
        wait_until_sent(&source);
        source.process.kill();
        sink.process.assert_running();
        source = Source::start_at(&fixture, &addresses);
    }
    churn.assert_running();
    churn.interrupt();
    finish(&fixture, source, sink);
}

#[test]
fn both_killed_at_once_catch_up() {
    let fixture = Fixture::populated(FILES, 17);
    let addresses = Addresses::free();
    let mut source = Source::start_at(&fixture, &addresses);
    let mut sink = Sink::start(&fixture, &addresses);
    let mut churn = fixture.churn(LONG_SECONDS, 18);
    wait_until_sent(&source);
    churn.assert_running();
    source.process.kill();
    sink.process.kill();
    // What changes while nobody watches is found by the walk.
    churn.interrupt();
    let sink = Sink::start(&fixture, &addresses);
    let source = Source::start_at(&fixture, &addresses);
    finish(&fixture, source, sink);
}

/// Waits until this source has brought something over in this session or an earlier one.
fn wait_until_sent(source: &Source<'_>) {
    let applied = || source.transfer()["applied_entries"].as_u64().unwrap_or(0);
    let before = applied();
    wait_until("more entries", PROMPT, || applied() > before);
}

fn finish(fixture: &Fixture, source: Source<'_>, sink: Sink) {
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
    assert!(
        !fs::exists(fixture.target().join(".osync-stage")).unwrap(),
        "the stage is left behind"
    );
    assert_equal(&fixture.source(), &fixture.target());
}
