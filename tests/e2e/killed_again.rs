//! kill -9 of either side at any moment, again and again, while a reader looks at the target.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::checked;
use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::seed::Seed;
use crate::wait::wait_until;

/// How often somebody is killed.
const KILLS: u64 = 24;
/// Files that a reader must have read at least for its word to count.
const READ_MIN: u64 = 500;
/// Older than this nothing is distrusted after a kill: twice what the sink allows for clocks.
const SETTLED: Duration = Duration::from_secs(4);

#[test]
fn nothing_is_ever_torn_and_everything_arrives() {
    let fixture = Fixture::new();
    let mut seed = Seed::new(1001);
    let writers = [1, 2].map(|_| {
        // Each has a part of the tree of its own.
        let part = fixture
            .source()
            .join(format!("part{}", seed.below(1 << 32)));
        checked::publish(&part, seed.split())
    });
    let reader = checked::sample(&fixture.target());
    let addresses = Addresses::free();
    let start_sink = || {
        Sink::start_with(
            &fixture,
            &fixture.target(),
            &addresses,
            &checked::REMOVES_MUCH,
        )
    };
    let mut source = Source::start_at(&fixture, &addresses);
    let mut sink = start_sink();
    for _ in 0..KILLS {
        // Any moment: in the handshake, in the first walk, in the middle of it all.
        std::thread::sleep(Duration::from_millis(seed.below(600)));
        let victim = seed.below(5);
        if victim != 0 {
            sink.process.kill();
        }
        if victim <= 1 {
            source.process.kill();
            source = Source::start_at(&fixture, &addresses);
        }
        if victim != 0 {
            sink = start_sink();
        }
    }
    let published: u64 = writers.into_iter().map(checked::Worker::finish).sum();
    source.wait_for_phase("transfer");
    source.flush();
    let read = reader.finish().unwrap_or_else(|seen| panic!("{seen}"));
    assert!(published > 100, "only {published} files were published");
    assert!(read >= READ_MIN, "only {read} files were read");
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
    assert!(!fs::exists(fixture.target().join(".osync-stage")).unwrap());
    assert_equal(&fixture.source(), &fixture.target());
}

/// Files in the tree of which nothing may be sent again.
const FILES: u32 = 3_000;

/// Both endpoints with a tree that is equal, and durable for longer than anybody distrusts.
fn settled<'a>(fixture: &'a Fixture, addresses: &Addresses) -> (Source<'a>, Sink) {
    let source = Source::start_at(fixture, addresses);
    let sink = Sink::start(fixture, addresses);
    source.wait_for_phase("transfer");
    source.flush();
    let written = SystemTime::now();
    wait_until("what was written to be old", PROMPT, || {
        written.elapsed().unwrap() > SETTLED
    });
    // One more sync, after which only this file is younger.
    fs::write(fixture.source().join("last"), "one more").unwrap();
    source.flush();
    (source, sink)
}

/// Asserts that between both reports nothing was sent but directories once more, and the last file.
fn assert_little_sent(fixture: &Fixture, before: (u64, u64), after: (u64, u64)) {
    let (entries, bytes) = (after.0 - before.0, after.1 - before.1);
    let (dirs, tree_bytes) = count(&fixture.source());
    // Further names of one inode are told once more, as only the sink can say whether they are.
    assert!(
        entries <= dirs + u64::from(FILES) / 100,
        "{entries} entries sent again, with {dirs} directories"
    );
    assert!(
        bytes * 10 <= tree_bytes,
        "{bytes} of {tree_bytes} bytes sent again"
    );
}

/// Entries and bytes that this source has sent.
fn sent(source: &Source<'_>) -> (u64, u64) {
    let report = source.transfer();
    let count = |field: &str| report[field].as_u64().unwrap();
    (count("sent_entries"), count("sent_bytes"))
}

/// Directories, and bytes of files, below `top`.
fn count(top: &Path) -> (u64, u64) {
    let entries = fs::read_dir(top).unwrap().map(Result::unwrap);
    entries.fold((1, 0), |(dirs, bytes), entry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            let below = count(&entry.path());
            (dirs + below.0, bytes + below.1)
        } else {
            (dirs, bytes + meta.len())
        }
    })
}

#[test]
fn a_killed_sink_is_not_sent_again_what_it_has() {
    let fixture = Fixture::populated(FILES, 31);
    let (source, mut sink) = settled(&fixture, &Addresses::free());
    let before = sent(&source);
    sink.process.kill();
    source.wait_for_phase("initialisation");
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_little_sent(&fixture, before, sent(&source));
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_killed_source_does_not_send_again_what_is_there() {
    let fixture = Fixture::populated(FILES, 32);
    let addresses = Addresses::free();
    let (mut source, sink) = settled(&fixture, &addresses);
    source.process.kill();
    let source = Source::start_at(&fixture, &addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_little_sent(&fixture, (0, 0), sent(&source));
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}
