//! An end in order, whatever is going on: exit code 0 soon, nothing torn, nothing left behind. A second
//! signal ends at once.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use rustix::process::Signal;

use crate::disk::{Disk, Stopped};
use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::process::Process;
use crate::proxy::{Proxy, Weather};
use crate::wait::{wait_for, wait_until};

/// Exit code of what was cut short.
const CUT_SHORT: i32 = 75;
/// A link on which everything takes long enough to be stopped in the middle.
const SLOW: Weather = Weather::Slow {
    bytes: 1_000_000,
    delay: Duration::from_millis(5),
};
/// Bytes that take this link many seconds.
const LARGE: u64 = 100 << 20;
/// Longest time that the second signal may leave. Far below the time for which an end in order waits.
const AT_ONCE: Duration = Duration::from_secs(5);

fn make_large(path: &Path) {
    let file = fs::File::create(path).unwrap();
    let piece: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 249) as u8).collect();
    for at in (0..LARGE).step_by(piece.len()) {
        file.write_all_at(&piece, at).unwrap();
    }
}

/// Both ends at work through a slow link.
struct Busy<'a> {
    source: Source<'a>,
    sink: Sink,
    proxy: Proxy,
}

impl<'a> Busy<'a> {
    fn start(fixture: &'a Fixture) -> Self {
        let source = Source::start(fixture);
        let proxy = Proxy::to(&source.addresses);
        let sink = Sink::start(fixture, proxy.addresses());
        source.wait_for_phase("transfer");
        proxy.set(SLOW);
        Self {
            source,
            sink,
            proxy,
        }
    }

    fn wait_until_streaming(&self) {
        wait_until("a large file on its way", PROMPT, || {
            let streams = self.source.transfer()["streams"].clone();
            streams
                .as_array()
                .is_some_and(|streams| !streams.is_empty())
        });
    }
}

/// Starts both ends again; the trees become equal.
fn expect_convergence(fixture: &Fixture) {
    let source = Source::start(fixture);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

fn assert_no_stage(fixture: &Fixture) {
    let stage = fixture.target().join(".osync-stage");
    assert!(!stage.exists(), "the stage is left behind");
}

#[test]
fn the_source_during_the_first_walk() {
    let fixture = Fixture::populated(3_000, 61);
    let mut source = Source::start(&fixture);
    let mut sink = Sink::start(&fixture, &source.addresses);
    wait_until("the walk to begin", PROMPT, || {
        source.transfer()["sent_entries"]
            .as_u64()
            .is_some_and(|sent| sent > 0)
    });
    source.process.interrupt();
    source.process.expect_success(PROMPT);
    sink.process.expect_success(PROMPT);
    assert_no_stage(&fixture);
    expect_convergence(&fixture);
}

#[test]
fn the_sink_during_the_first_walk() {
    let fixture = Fixture::populated(3_000, 62);
    let source = Source::start(&fixture);
    let mut sink = Sink::start(&fixture, &source.addresses);
    wait_until("something to arrive", PROMPT, || {
        fs::read_dir(fixture.target()).unwrap().count() > 1
    });
    sink.process.signal(Signal::TERM);
    sink.process.expect_success(PROMPT);
    assert_no_stage(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn the_sink_during_a_large_file() {
    let fixture = Fixture::new();
    make_large(&fixture.source().join("large"));
    let mut busy = Busy::start(&fixture);
    busy.wait_until_streaming();
    busy.sink.process.interrupt();
    busy.sink.process.expect_success(PROMPT);
    assert!(!fixture.target().join("large").exists());
    assert_no_stage(&fixture);
    busy.source.process.interrupt();
    busy.source.process.expect_success(PROMPT);
    expect_convergence(&fixture);
}

/// A flush that can no longer succeed must not say that it did, nor keep its operator waiting.
#[test]
fn the_source_during_a_large_file_and_a_flush() {
    let fixture = Fixture::new();
    make_large(&fixture.source().join("large"));
    let mut busy = Busy::start(&fixture);
    busy.wait_until_streaming();
    let mut flush = busy.source.operator();
    let mut flush = fixture.start("flush", flush.args(["flush", "--timeout", "100s"]));
    wait_until("the flush to wait", PROMPT, || {
        flush.assert_running();
        busy.source.transfer()["streams"][0] == "large"
    });
    busy.source.process.interrupt();
    busy.source.process.expect_success(PROMPT);
    let code = flush.wait(PROMPT).code;
    assert!(matches!(code, Some(69 | 75)), "{code:?}");
    busy.sink.process.expect_success(PROMPT);
    assert!(!fixture.target().join("large").exists());
    assert_no_stage(&fixture);
    expect_convergence(&fixture);
}

#[test]
fn either_while_the_other_is_away() {
    let fixture = Fixture::populated(300, 63);
    let mut source = Source::start(&fixture);
    let mut sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    sink.process.kill();
    fs::write(fixture.source().join("meanwhile"), "nobody takes it").unwrap();
    source.wait_for_phase("initialisation");
    source.process.interrupt();
    source.process.expect_success(PROMPT);
    let mut sink = Sink::start(&fixture, &source.addresses);
    wait_until("the sink to find no source", PROMPT, || {
        sink.process
            .stderr()
            .contains("trying again until it works")
    });
    sink.process.interrupt();
    sink.process.expect_success(PROMPT);
    assert_no_stage(&fixture);
    expect_convergence(&fixture);
}

#[test]
fn both_while_the_target_is_full() {
    with_mounts(Fixture::new, |fixture| {
        let options = Some(c"size=4m");
        mount(
            "none",
            fixture.target(),
            "tmpfs",
            MountFlags::empty(),
            options,
        )
        .unwrap();
        for file in 0..10 {
            fs::write(fixture.source().join(format!("{file}")), vec![7; 1 << 20]).unwrap();
        }
        for stop_the_source in [true, false] {
            let mut source = Source::start(fixture);
            let mut sink = Sink::start(fixture, &source.addresses);
            wait_for("the target to be full", PROMPT, || {
                let status = source.report(&["status"]);
                let full = status["sinks"][0]["full"] == true;
                if full {
                    Ok(())
                } else {
                    Err(status.to_string())
                }
            });
            let first: &mut Process = if stop_the_source {
                &mut source.process
            } else {
                &mut sink.process
            };
            let began = Instant::now();
            first.interrupt();
            first.expect_success(PROMPT);
            // It does not wait for room.
            assert!(
                began.elapsed() < Duration::from_secs(15),
                "{:?}",
                began.elapsed()
            );
            if !stop_the_source {
                source.process.interrupt();
            }
            source.process.expect_success(PROMPT);
            sink.process.expect_success(PROMPT);
            assert_no_stage(fixture);
        }
    });
}

/// What was applied cannot be recorded: the sink ends all the same, and the next start distrusts it.
#[test]
fn the_sink_while_its_state_cannot_be_written() {
    with_mounts(Fixture::new, |fixture| {
        let state = fixture.path().join("state-sink");
        fs::create_dir(&state).unwrap();
        mount(
            "none",
            &state,
            "tmpfs",
            MountFlags::empty(),
            Some(c"size=1m"),
        )
        .unwrap();
        let source = Source::start(fixture);
        let mut sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        let filler = state.join("filler");
        drop(fs::write(&filler, vec![7; 2 << 20]));
        fs::write(fixture.source().join("meanwhile"), "not durable").unwrap();
        wait_until("the sink to say so", PROMPT, || {
            sink.process.stderr().contains("cannot be made durable")
        });
        sink.process.interrupt();
        let code = sink.process.wait(PROMPT).code;
        assert_eq!(code, Some(1), "it claims to have ended well");
        fs::remove_file(filler).unwrap();
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&fixture.source(), &fixture.target());
        source.stop(sink);
    });
}

/// The link passes nothing, so that an end in order has to wait for its peer.
#[test]
fn a_second_signal_ends_the_source_at_once() {
    second_signal("source", |busy| &mut busy.source.process);
}

#[test]
fn a_second_signal_ends_the_sink_at_once() {
    second_signal("sink", |busy| &mut busy.sink.process);
}

/// The link is stalled, so that the first signal cannot be obeyed soon.
fn second_signal(name: &str, process: for<'b> fn(&'b mut Busy<'_>) -> &'b mut Process) {
    let fixture = Fixture::new();
    make_large(&fixture.source().join("large"));
    let mut busy = Busy::start(&fixture);
    busy.wait_until_streaming();
    busy.proxy.set(Weather::Stalled);
    let process = process(&mut busy);
    process.interrupt();
    wait_until("the first signal to be taken", PROMPT, || {
        process.stderr().contains("a second signal ends at once")
    });
    process.assert_running();
    let began = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.wait(PROMPT).code, Some(CUT_SHORT), "{name}");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert!(!fixture.target().join("large").exists());
    drop(busy);
    expect_convergence(&fixture);
}

/// The target's disk takes nothing for longer than any answer takes: who stops osync waits until it is done.
#[test]
fn both_while_the_disk_takes_long() {
    const STOPPED_FOR: Duration = Duration::from_secs(12);
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        let disk = Disk::of(&fixture.path().join("image"), 64 << 20);
        disk.mount_anew(&target);
        let mut source = Source::start(fixture);
        let mut sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        let stopped = Stopped::at(&target);
        let began = Instant::now();
        fs::write(tree.join("late"), "1").unwrap();
        wait_until("the change to be on its way", PROMPT, || {
            let live = source.report(&["report", "queue"])["sinks"][0]["live"].clone();
            live["in_flight_entries"].as_u64().unwrap() > 0
        });
        let mut command = source.operator();
        let mut stop = fixture.start("stop", command.arg("stop"));
        wait_until("the disk was stopped for long", CONVERGENCE, || {
            stop.assert_running();
            began.elapsed() > STOPPED_FOR
        });
        drop(stopped);
        stop.expect_success(PROMPT);
        source.process.expect_success(PROMPT);
        sink.process.expect_success(PROMPT);
        assert_equal(&tree, &target);
        disk.unmount(&target);
    });
}
