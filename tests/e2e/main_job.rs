//! The main job: a large mixed tree, ten seconds of churn, a flush, equal trees, an orderly end.

use std::fs;

use crate::endpoint::{Addresses, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;

/// Ordinary files in the tree.
const FILES: u32 = 20_000;
/// Seconds of churn.
const CHURN_SECONDS: u32 = 10;

#[test]
fn a_tree_in_use_becomes_equal_source_first() {
    let fixture = Fixture::populated(FILES, 1);
    let churn = fixture.churn(CHURN_SECONDS, 2);
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    churn.finish();
    become_equal_and_stop(&fixture, source, sink);
}

#[test]
fn a_tree_in_use_becomes_equal_sink_first() {
    let fixture = Fixture::populated(FILES, 3);
    let churn = fixture.churn(CHURN_SECONDS, 4);
    let addresses = Addresses::free();
    let mut sink = Sink::start(&fixture, &addresses);
    let source = Source::start_at(&fixture, &addresses);
    churn.finish();
    sink.process.assert_running();
    become_equal_and_stop(&fixture, source, sink);
}

/// Each look at such a directory has more to read than it may bring back, while others follow.
#[test]
fn a_directory_of_many_files_is_told_in_order() {
    let fixture = Fixture::in_memory();
    for file in 0..600 {
        fs::write(fixture.source().join(format!("{file}")), [7; 4096]).unwrap();
    }
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_eq!(source.transfer()["sessions"], 1, "a session was broken");
    become_equal_and_stop(&fixture, source, sink);
}

fn become_equal_and_stop(fixture: &Fixture, source: Source<'_>, mut sink: Sink) {
    source.wait_for_phase("transfer");
    source.flush();
    sink.process.assert_running();
    assert_equal(&fixture.source(), &fixture.target());
    let status = source.report(&["status"]);
    assert_eq!(status["sinks"][0]["converged"], true, "{status}");
    assert_eq!(status["sinks"][0]["problems"], 0, "{status}");
    source.stop(sink);
    // The end itself must neither leave nor take anything.
    assert!(!fs::exists(fixture.target().join(".osync-stage")).unwrap());
    assert_equal(&fixture.source(), &fixture.target());
}
