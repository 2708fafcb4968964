//! What an operator does while it runs.

use std::fs::{self, File};
use std::path::Path;

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::process::Finished;
use crate::wait::{wait_for, wait_until};

/// A small tree, replicated and flushed.
fn replicated(fixture: &Fixture) -> (Source<'_>, Sink) {
    let top = fixture.source();
    fs::create_dir(top.join("sub")).unwrap();
    for index in 0..200 {
        fs::write(
            top.join(format!("sub/file {index}")),
            format!("content {index}"),
        )
        .unwrap();
    }
    let source = Source::start(fixture);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&top, &fixture.target());
    (source, sink)
}

#[test]
fn a_pause_collects_and_resume_sends() {
    let fixture = Fixture::new();
    let (source, sink) = replicated(&fixture);
    source.expect(&["pause"]);
    assert_eq!(source.report(&["status"])["paused"], true);
    fs::write(fixture.source().join("meanwhile"), "changed in a pause").unwrap();
    wait_for("the change in the queue", PROMPT, || {
        let queue = source.report(&["report", "queue"]);
        match queue["sinks"][0]["live"]["waiting_entries"].as_u64() {
            Some(1..) => Ok(()),
            _ => Err(queue.to_string()),
        }
    });
    assert!(!fs::exists(fixture.target().join("meanwhile")).unwrap());
    // A flush cannot be complete while changes wait, and must not hang beyond its time.
    let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert_eq!(flush.code, Some(75), "{flush:?}");
    source.expect(&["resume"]);
    assert_eq!(source.report(&["status"])["paused"], false);
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_rescan_repairs_what_others_did_to_the_target() {
    let fixture = Fixture::new();
    let (source, sink) = replicated(&fixture);
    fs::write(fixture.target().join("sub/file 7"), "written by a stranger").unwrap();
    fs::remove_file(fixture.target().join("sub/file 8")).unwrap();
    fs::write(fixture.target().join("sub/foreign"), "not from the source").unwrap();
    source.expect(&["rescan", "sub"]);
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

/// Connections that others have made to a port of this host.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let to_port = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&format!(":{port:04X}")) && fields[3] == ESTABLISHED
    };
    table.lines().skip(1).filter(to_port).count()
}

#[test]
fn readers_appliers_and_data_connections_are_as_many_as_asked_for() {
    for (threads, connections) in [(1, 1), (64, 16)] {
        let fixture = Fixture::new();
        for dir in 0..20 {
            let dir = fixture.source().join(dir.to_string());
            fs::create_dir(&dir).unwrap();
            for file in 0..50 {
                fs::write(dir.join(file.to_string()), vec![7; 50 * file]).unwrap();
            }
        }
        let readers = format!("readers={threads}");
        let source = Source::start_with(&fixture, &Addresses::on_ports(0, 0), &["--set", &readers]);
        let (appliers, data) = (
            format!("appliers={threads}"),
            format!("data_connections={connections}"),
        );
        let more = ["--set", &appliers, "--set", &data];
        let sink = Sink::start_with(&fixture, &fixture.target(), &source.addresses, &more);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&fixture.source(), &fixture.target());
        assert_eq!(source.process.threads("reader-"), threads);
        assert_eq!(sink.process.threads("applier-"), threads);
        assert_eq!(connections_to(source.addresses.ports().1), connections);
        source.stop(sink);
    }
}

#[test]
fn enqueued_paths_are_sent_again() {
    let fixture = Fixture::new();
    let odd = "sub/new\nline";
    fs::create_dir(fixture.source().join("sub")).unwrap();
    for name in ["sub/one", "sub/two", odd] {
        fs::write(fixture.source().join(name), name).unwrap();
    }
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();

    let lose = |names: &[&str]| {
        for name in names {
            fs::remove_file(fixture.target().join(name)).unwrap();
        }
    };
    lose(&["sub/one", "sub/two"]);
    source.expect(&["enqueue", "sub/one", "sub/two"]);
    expect_restored(&fixture, &source);

    lose(&["sub/one", "sub/two"]);
    enqueue_from_input(&fixture, &source, &["enqueue", "-"], b"sub/one\nsub/two\n");
    expect_restored(&fixture, &source);

    lose(&[odd, "sub/one"]);
    enqueue_from_input(
        &fixture,
        &source,
        &["enqueue", "-", "-0"],
        b"sub/new\nline\0sub/one\0",
    );
    expect_restored(&fixture, &source);
    source.stop(sink);
}

fn enqueue_from_input(fixture: &Fixture, source: &Source<'_>, args: &[&str], input: &[u8]) {
    let finished = fixture.run_with_input("enqueue", source.operator().args(args), input);
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

fn expect_restored(fixture: &Fixture, source: &Source<'_>) {
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn reports_are_readable_by_people_and_programs() {
    let fixture = Fixture::new();
    let (source, sink) = replicated(&fixture);
    for args in [
        &["status"][..],
        &["report", "queue"],
        &["report", "transfer"],
        &["report", "problems"],
    ] {
        let text = source.expect(args).stdout;
        assert!(!text.trim().is_empty(), "{args:?} prints nothing");
    }
    let status = source.report(&["status"]);
    assert_eq!(status["phase"], "transfer");
    assert_eq!(status["sinks"][0]["converged"], true, "{status}");
    assert_eq!(status["sinks"][0]["pending_entries"], 0, "{status}");
    assert_eq!(status["events"]["watched_dirs"], 2, "{status}");
    assert_eq!(status["events"]["unwatched_dirs"], 0, "{status}");
    let queue = source.report(&["report", "queue"]);
    for lane in ["live", "backlog"] {
        assert_eq!(queue["sinks"][0][lane]["waiting_entries"], 0, "{queue}");
    }
    let transfer = source.transfer();
    assert!(
        transfer["applied_entries"].as_u64().unwrap() >= 201,
        "{transfer}"
    );
    assert!(transfer["epoch"].is_string(), "{transfer}");
    assert_eq!(
        transfer["sent_mark"], transfer["durable_mark"],
        "{transfer}"
    );
    assert_eq!(source.report(&["report", "problems"])["total"], 0);
    source.stop(sink);
}

#[test]
fn nothing_claims_success_without_a_sink() {
    let fixture = Fixture::new();
    let mut source = Source::start(&fixture);
    let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert!(matches!(flush.code, Some(1 | 69 | 75)), "{flush:?}");
    source.expect(&["stop"]);
    source.process.expect_success(PROMPT);
}

#[test]
fn a_sink_that_left_blocks_flush() {
    let fixture = Fixture::new();
    let (source, mut sink) = replicated(&fixture);
    sink.process.kill();
    fs::write(fixture.source().join("unseen"), "by the sink").unwrap();
    let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert!(matches!(flush.code, Some(1 | 69 | 75)), "{flush:?}");
}

#[test]
fn an_operator_hears_that_no_source_answers() {
    let fixture = Fixture::new();
    let mut status = fixture.osync("operator");
    status.args(["status", "--command", &Addresses::free().command]);
    let finished: Finished = fixture.run("status", &mut status, PROMPT);
    assert_eq!(finished.code, Some(69), "{finished:?}");
    assert!(finished.stdout.is_empty(), "{finished:?}");
}

#[test]
fn an_interrupted_sink_leaves_the_source_serving() {
    let fixture = Fixture::new();
    let (mut source, mut sink) = replicated(&fixture);
    sink.process.interrupt();
    sink.process.expect_success(PROMPT);
    source.process.assert_running();
    fs::write(fixture.source().join("later"), "for the sink that returns").unwrap();
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_file_that_is_never_quiet_does_not_hold_others_back() {
    let fixture = Fixture::new();
    let (source, sink) = replicated(&fixture);
    let busy = fixture.source().join("busy");
    let mut turn = 0_u32;
    fs::write(fixture.source().join("quiet"), "written once").unwrap();
    wait_until("the quiet file", PROMPT, || {
        turn += 1;
        fs::write(&busy, format!("turn {turn}")).unwrap();
        same_content(
            &fixture.source().join("quiet"),
            &fixture.target().join("quiet"),
        )
    });
    source.flush();
    assert_eq!(rsync_difference(&fixture.source(), &fixture.target()), "");
    source.stop(sink);
}

fn same_content(first: &Path, second: &Path) -> bool {
    File::open(second).is_ok() && fs::read(first).unwrap() == fs::read(second).unwrap()
}
