//! A source that leaves its host to others: limits of what the backlog uses in a second, and threads that
//! give way.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::process::Process;
use crate::wait::wait_for;

const FILES: usize = 400;
const FILE_BYTES: usize = 32 * 1024;

/// A source of many files, which is told these limits when it starts, and its sink.
fn copying<'a>(fixture: &'a Fixture, limits: &[&str]) -> (Source<'a>, Sink, Instant) {
    for number in 0..FILES {
        let dir = fixture.source().join((number / 100).to_string());
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), vec![7; FILE_BYTES]).unwrap();
    }
    let start = Instant::now();
    let source = Source::start_with(fixture, &Addresses::on_ports(0, 0), limits);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    (source, sink, start)
}

/// Waits until so much was sent in all. Returns how much it was, and what time it was afterwards, so that
/// the rate is never thought to be higher than it was.
fn sent(source: &Source<'_>, key: &str, least: u64) -> (u64, Instant) {
    wait_for(&format!("{least} in {key}"), CONVERGENCE, || {
        let transfer = source.transfer();
        match transfer[key].as_u64() {
            Some(sent) if sent >= least => Ok((sent, Instant::now())),
            _ => Err(transfer.to_string()),
        }
    })
}

fn assert_within(sent: u64, per_s: u64, since: Instant, until: Instant, at_once: u64) {
    let seconds = until.duration_since(since).as_secs_f64();
    let most = (per_s as f64 * seconds) as u64 + at_once;
    assert!(
        sent <= most,
        "{sent} in {seconds} s is more than {per_s}/s allows"
    );
}

fn limits(source: &Source<'_>) -> Value {
    source.report(&["limit"])
}

#[test]
fn bandwidth_is_kept_and_changed_while_it_runs() {
    const SLOW: u64 = 512 * 1024;
    const FAST: u64 = 4 * SLOW;
    // A look that was begun while something was left, and what could be saved up.
    const AT_ONCE: u64 = 512 * 1024;
    let fixture = Fixture::new();
    let (source, sink, start) = copying(&fixture, &["--limit-bandwidth", "512KiB/s"]);
    assert_eq!(
        limits(&source),
        json!({"bytes_per_s": SLOW, "operations_per_s": null})
    );
    let (slow, now) = sent(&source, "sent_bytes", 2 * SLOW);
    assert_within(slow, SLOW, start, now, AT_ONCE);

    // The live lane does not wait, however much of the backlog is left.
    fs::write(fixture.source().join("live"), "now").unwrap();
    wait_for("the live change", PROMPT, || {
        fs::metadata(fixture.target().join("live")).map_err(|error| error.to_string())
    });

    let since = Instant::now();
    let (before, _) = sent(&source, "sent_bytes", 0);
    source.expect(&["limit", "2MiB/s"]);
    let (after, until) = sent(&source, "sent_bytes", before + FAST);
    assert_within(after - before, FAST, since, until, AT_ONCE);

    source.expect(&["limit", "none"]);
    assert_eq!(
        limits(&source),
        json!({"bytes_per_s": null, "operations_per_s": null})
    );
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn operations_are_kept_and_shown() {
    const PER_S: u64 = 80;
    let fixture = Fixture::new();
    let (source, sink, start) = copying(&fixture, &["--limit-iops", "80"]);
    let status = source.expect(&["status"]).stdout;
    assert!(
        status.contains("backlog limited to 80 operations/s"),
        "{status}"
    );
    // Each entry that is sent was looked at once, at least.
    let (entries, now) = sent(&source, "sent_entries", 2 * PER_S);
    assert_within(entries, PER_S, start, now, PER_S / 2);
    source.expect(&["limit", "100MB/s"]);
    assert_eq!(
        limits(&source),
        json!({"bytes_per_s": 100_000_000, "operations_per_s": null})
    );
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

/// Priorities of the threads that have such names, as the kernel's nice values.
fn niceness(process: &Process, name: &str) -> Vec<i32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")).unwrap());
    let of_name = stats.filter_map(|stat| {
        let (head, fields) = stat.rsplit_once(')')?;
        let is_it = head.split_once('(')?.1.starts_with(name);
        let nice = fields.split_whitespace().nth(16)?.parse().ok()?;
        is_it.then_some(nice)
    });
    of_name.collect()
}

#[test]
fn nice_threads_give_way_and_the_loops_do_not() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("file"), "content").unwrap();
    let source = Source::start_with(&fixture, &Addresses::on_ports(0, 0), &["--nice"]);
    let sink = Sink::start_with(
        &fixture,
        &fixture.target(),
        &source.addresses,
        &["--nice", "--set", "appliers=2"],
    );
    source.wait_for_phase("transfer");
    source.flush();
    let usual = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(niceness(&source.process, "reader-"), [19]);
    assert_eq!(niceness(&sink.process, "applier-"), [19, 19]);
    for process in [&source.process, &sink.process] {
        assert_eq!(niceness(process, "osync"), [usual]);
        assert!(!process.stderr().contains("keeps its priority"));
    }
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn limits_of_an_operator_outlive_a_halt() {
    let fixture = Fixture::new();
    let root = fixture.source();
    fs::write(root.join("file"), "content").unwrap();
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    source.expect(&["limit", "1MiB", "--iops", "7"]);
    fs::rename(&root, fixture.path().join("aside")).unwrap();
    fs::create_dir(&root).unwrap();
    wait_for(
        "the halt",
        PROMPT,
        || match source.report(&["status"])["halted"].as_str() {
            Some(_) => Ok(()),
            None => Err("it goes on".to_owned()),
        },
    );
    source.expect(&["resume", "--accept"]);
    wait_for("a source that goes on", PROMPT, || {
        match source.report(&["status"])["halted"].as_str() {
            Some(why) => Err(why.to_owned()),
            None => Ok(()),
        }
    });
    assert_eq!(
        limits(&source),
        json!({"bytes_per_s": 1 << 20, "operations_per_s": 7})
    );
    drop(sink);
}
