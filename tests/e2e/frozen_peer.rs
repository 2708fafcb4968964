//! A peer that is there and does nothing, as a host that sleeps: noticed by its silence alone.

use std::fs;
use std::time::{Duration, Instant};

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::wait::{wait_for, wait_until};

/// A heartbeat for tests.
const BEAT: [&str; 4] = ["--set", "heartbeat_ms=300", "--set", "dead_after_ms=1500"];
/// When a peer must be called dead at the latest: far below what the default settings allow, and far above
/// the settings here, as machines that run tests are busy.
const DEAD_AFTER: Duration = Duration::from_millis(10_000);

fn start(fixture: &Fixture) -> (Source<'_>, Sink) {
    fs::write(fixture.source().join("before"), "before").unwrap();
    let source = Source::start_with(fixture, &Addresses::on_ports(0, 0), &BEAT);
    let sink = Sink::start_with(fixture, &fixture.target(), &source.addresses, &BEAT);
    source.wait_for_phase("transfer");
    source.flush();
    (source, sink)
}

fn sessions(source: &Source<'_>) -> u64 {
    source.transfer()["sessions"].as_u64().unwrap()
}

fn finish(fixture: &Fixture, source: Source<'_>, sink: Sink) {
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_frozen_sink_is_away() {
    let fixture = Fixture::new();
    let (source, sink) = start(&fixture);
    let before = sessions(&source);
    let (began, frozen) = (Instant::now(), sink.process.freeze());
    source.wait_for_phase("initialisation");
    assert!(began.elapsed() < DEAD_AFTER, "{:?}", began.elapsed());
    // Nothing claims that the change arrived, or waits for ever.
    fs::write(fixture.source().join("meanwhile"), "nobody takes it").unwrap();
    let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert_eq!(flush.code, Some(75), "{flush:?}");
    drop(frozen);
    wait_until("a new session", PROMPT, || sessions(&source) > before);
    finish(&fixture, source, sink);
}

#[test]
fn a_frozen_source_is_noticed_and_found_again() {
    let fixture = Fixture::new();
    let (source, sink) = start(&fixture);
    let (began, frozen) = (Instant::now(), source.process.freeze());
    wait_for("the sink to notice", PROMPT, || {
        let log = sink.process.stderr();
        if log.contains("the source is silent") {
            Ok(())
        } else {
            Err(log)
        }
    });
    assert!(began.elapsed() < DEAD_AFTER, "{:?}", began.elapsed());
    fs::write(fixture.source().join("meanwhile"), "nobody looks").unwrap();
    drop(frozen);
    wait_until("a new session", PROMPT, || sessions(&source) > 1);
    finish(&fixture, source, sink);
}
