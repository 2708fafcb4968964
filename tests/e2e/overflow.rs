//! The kernel's event queue fills up, or overflows, because the source does not read it in time.
//!
//! How long a queue is, is decided for the whole host when it is made. The tests change that for the
//! moment in which their own source starts, and need root's rights for it.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLockWriteGuard};

use crate::endpoint::{Addresses, EVENT_QUEUES, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::tree::is_root;
use crate::wait::{wait_for, wait_until};

const LIMIT: &str = "/proc/sys/fs/inotify/max_queued_events";
/// Events that a short queue holds.
const SHORT: usize = 64;
/// What an operator is told to do.
const REMEDY: &str = "sysctl fs.inotify.max_queued_events=65536";

/// Short queues for whatever is started while this lives.
struct ShortQueues {
    before: String,
    _alone: RwLockWriteGuard<'static, ()>,
}

impl ShortQueues {
    fn set() -> Self {
        let alone = EVENT_QUEUES.write().unwrap_or_else(PoisonError::into_inner);
        let before = fs::read_to_string(LIMIT).unwrap();
        fs::write(LIMIT, SHORT.to_string()).unwrap();
        Self {
            before,
            _alone: alone,
        }
    }
}

impl Drop for ShortQueues {
    fn drop(&mut self) {
        fs::write(LIMIT, &self.before).unwrap();
    }
}

/// A source with a short queue, and a sink that is equal. The source has two files to be touched.
fn start<'a>(fixture: &'a Fixture, more: &[&str]) -> Option<(Source<'a>, Sink)> {
    if !is_root() {
        let said = b"NOT TESTED: short event queues: only root can set their length\n";
        std::io::stderr().write_all(said).unwrap();
        return None;
    }
    for path in touched(fixture) {
        fs::write(path, "touched again and again").unwrap();
    }
    let queues = ShortQueues::set();
    let source = Source::start_with_queues_held(fixture, more);
    drop(queues);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    Some((source, sink))
}

fn touched(fixture: &Fixture) -> [PathBuf; 2] {
    ["one", "other"].map(|name| fixture.source().join(name))
}

/// Makes so many events; the kernel would make one of several that are the same.
fn make_events(fixture: &Fixture, count: usize) {
    let files = touched(fixture);
    for turn in 0..count {
        let mode = 0o600 | (turn as u32 & 0o77);
        fs::set_permissions(&files[turn % 2], Permissions::from_mode(mode)).unwrap();
    }
}

/// Makes so many events while the source does not read.
fn make_events_unread(fixture: &Fixture, source: &Source<'_>, count: usize) {
    let frozen = source.process.freeze();
    make_events(fixture, count);
    drop(frozen);
    source.flush();
}

fn told(source: &Source<'_>, what: &str) -> usize {
    source.process.stderr().matches(what).count()
}

#[test]
fn lost_events_cost_a_comparison_and_no_session() {
    let fixture = Fixture::populated(500, 51);
    let Some((source, sink)) = start(&fixture, &[]) else {
        return;
    };
    let before = source.transfer()["sessions"].clone();
    for round in 0..3 {
        let frozen = source.process.freeze();
        make_events(&fixture, SHORT);
        // Of these nobody hears.
        let dir = fixture.source().join(format!("unheard{round}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..100 {
            fs::write(dir.join(format!("{file}")), format!("{round}")).unwrap();
        }
        fs::write(fixture.source().join("same size"), format!("{round}")).unwrap();
        if round > 0 {
            fs::remove_dir_all(fixture.source().join(format!("unheard{}", round - 1))).unwrap();
        }
        drop(frozen);
        wait_for("the overflow to be counted", PROMPT, || {
            let status = source.report(&["status"]);
            match status["events"]["overflows"].as_u64() {
                Some(overflows) if overflows > round => Ok(()),
                _ => Err(status.to_string()),
            }
        });
        source.flush();
        assert_equal(&fixture.source(), &fixture.target());
    }
    assert_eq!(
        source.transfer()["sessions"],
        before,
        "the session was reset"
    );
    // Told once, then counted.
    assert_eq!(told(&source, "lost events"), 1);
    assert!(told(&source, REMEDY) >= 1);
    let text = source.expect(&["status"]).stdout;
    assert!(text.contains("3 overflows"), "{text}");
    source.stop(sink);
}

#[test]
fn an_operator_is_warned_once_per_crossing() {
    let fixture = Fixture::new();
    let Some((source, sink)) = start(&fixture, &[]) else {
        return;
    };
    make_events_unread(&fixture, &source, SHORT / 4);
    assert_eq!(told(&source, "queue is"), 0);
    for crossing in 1..=2 {
        make_events_unread(&fixture, &source, SHORT * 3 / 4);
        wait_until("the warning", PROMPT, || {
            told(&source, "queue is") == crossing
        });
    }
    assert_eq!(told(&source, REMEDY), 2);
    let status = source.report(&["status"]);
    assert_eq!(status["events"]["overflows"], 0, "{status}");
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

fn terminates_at(events: usize) {
    let fixture = Fixture::new();
    let Some((mut source, mut sink)) = start(&fixture, &["--on-critical", "terminate"]) else {
        return;
    };
    make_events_unread(&fixture, &source, SHORT * 3 / 4);
    source.process.assert_running();
    let frozen = source.process.freeze();
    make_events(&fixture, events);
    drop(frozen);
    source.process.expect_success(PROMPT);
    sink.process.expect_success(PROMPT);
    assert_eq!(told(&source, "terminating as configured"), 1);
    // What it left behind, another run finds.
    let source = Source::start_at(&fixture, &Addresses::on_ports(0, 0));
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_source_can_be_told_to_end_before_events_are_lost() {
    terminates_at(SHORT * 61 / 64);
}

#[test]
fn a_source_can_be_told_to_end_when_events_were_lost() {
    terminates_at(SHORT * 4);
}
