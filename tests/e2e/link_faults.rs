//! A link that is cut, stalled, slow, late or flapping, while users go on.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::checked::{self, REMOVES_MUCH, Worker};
use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::{Fixture, LONG_SECONDS};
use crate::judge::assert_equal;
use crate::proxy::{Proxy, Weather};
use crate::seed::Seed;
use crate::wait::{wait_for, wait_until};

/// A short heartbeat, and the smallest queue that may be set.
const SETTINGS: [&str; 6] = [
    "--set",
    "heartbeat_ms=1000",
    "--set",
    "dead_after_ms=5000",
    "--set",
    "queue_entries_max=1024",
];
/// What a sink understands of these.
const BEAT: [&str; 4] = ["--set", "heartbeat_ms=1000", "--set", "dead_after_ms=5000"];
/// What the program takes without any queue, in bytes. This build is not optimised.
const MEMORY_MAX: u64 = 64 << 20;

struct Operation<'a> {
    source: Source<'a>,
    sink: Sink,
    proxy: Proxy,
}

impl<'a> Operation<'a> {
    fn start(fixture: &'a Fixture) -> Self {
        let source = Source::start_with(fixture, &Addresses::on_ports(0, 0), &SETTINGS);
        let proxy = Proxy::to(&source.addresses);
        let of_sink = [&BEAT[..], &REMOVES_MUCH].concat();
        let sink = Sink::start_with(fixture, &fixture.target(), proxy.addresses(), &of_sink);
        source.wait_for_phase("transfer");
        Self {
            source,
            sink,
            proxy,
        }
    }

    fn sessions(&self) -> u64 {
        self.source.transfer()["sessions"].as_u64().unwrap()
    }

    fn finish(self, fixture: &Fixture) {
        self.source.wait_for_phase("transfer");
        self.source.flush();
        assert_equal(&fixture.source(), &fixture.target());
        self.source.stop(self.sink);
    }
}

/// Makes many files in some directories: far more than a queue of the smallest size holds.
fn change_much(top: &Path) {
    for dir in 0..10 {
        let dir = top.join(format!("new{dir}"));
        fs::create_dir(&dir).unwrap();
        for file in 0..300 {
            fs::write(dir.join(format!("{file}")), "changed meanwhile").unwrap();
        }
    }
}

/// Waits until the queue has been collapsed and holds no more than it may.
fn wait_until_collapsed(source: &Source<'_>) {
    wait_for("changes to collapse into rescans", CONVERGENCE, || {
        let queue = source.report(&["report", "queue"]);
        let sink = &queue["sinks"][0];
        let waiting = sink["live"]["waiting_entries"].as_u64().unwrap();
        let owed = sink["rescans_owed"].as_u64().unwrap();
        // Entries that are read or held back now are beside those that wait.
        if owed > 0 && waiting <= 1024 {
            Ok(())
        } else {
            Err(queue.to_string())
        }
    });
}

fn away_while_much_changes(weather: Weather) {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("before"), "before").unwrap();
    let operation = Operation::start(&fixture);
    operation.source.flush();
    let before = operation.sessions();
    operation.proxy.set(weather);
    operation.source.wait_for_phase("initialisation");
    change_much(&fixture.source());
    wait_until_collapsed(&operation.source);
    let flush = operation.source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert_eq!(flush.code, Some(75), "{flush:?}");
    operation.proxy.set(Weather::Fair);
    wait_until("a new session", CONVERGENCE, || {
        operation.sessions() > before
    });
    operation.source.wait_for_phase("transfer");
    operation.source.flush();
    let peak = operation.source.process.memory_peak();
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    operation.finish(&fixture);
}

#[test]
fn a_cut_link_costs_a_bounded_queue() {
    away_while_much_changes(Weather::Cut);
}

#[test]
fn a_stalled_link_costs_a_bounded_queue() {
    away_while_much_changes(Weather::Stalled);
}

/// Slow is not dead: as long as something comes through, the session lives, however late it is.
#[test]
fn a_slow_and_late_link_keeps_its_session() {
    let fixture = Fixture::new();
    let operation = Operation::start(&fixture);
    operation.proxy.set(Weather::Slow {
        bytes: 400_000,
        delay: Duration::from_millis(150),
    });
    // Some seconds of work for this link, far longer than silence is allowed to be.
    let large: Vec<u8> = (0..3_500_000_u32).map(|at| (at % 251) as u8).collect();
    fs::write(fixture.source().join("large"), large).unwrap();
    for file in 0..300 {
        fs::write(fixture.source().join(format!("small{file}")), "small").unwrap();
    }
    operation.source.flush();
    assert_eq!(operation.sessions(), 1);
    assert_equal(&fixture.source(), &fixture.target());
    operation.proxy.set(Weather::Fair);
    operation.finish(&fixture);
}

#[test]
fn a_flapping_link_loses_and_tears_nothing() {
    let fixture = Fixture::populated(500, 41);
    let mut seed = Seed::new(42);
    let operation = Operation::start(&fixture);
    let churn = fixture.churn(LONG_SECONDS, 43);
    let writer = checked::publish(&fixture.source().join("checked"), seed.split());
    let reader = checked::sample(&fixture.target().join("checked"));
    let link = std::time::Instant::now();
    operation
        .proxy
        .flap(seed, || link.elapsed() > Duration::from_secs(7));
    let (sessions, peak) = (operation.sessions(), operation.source.process.memory_peak());
    assert!(sessions > 2, "the link never failed: {sessions} sessions");
    assert!(peak < MEMORY_MAX, "{peak} bytes");
    churn.interrupt();
    assert!(Worker::finish(writer) > 100);
    operation.source.wait_for_phase("transfer");
    operation.source.flush();
    reader.finish().unwrap_or_else(|seen| panic!("{seen}"));
    operation.finish(&fixture);
}
