//! How much memory the endpoints take: as much as their settings say, however much there is to do.

#![allow(clippy::print_stdout, reason = "figures, for whoever asks for them")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, mkdirat, mknodat, open, unlinkat};

use crate::checked::REMOVES_MUCH;
use crate::disk::{Disk, Stopped};
use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::wait::{wait_for, wait_until};

const MIB: u64 = 1 << 20;
/// What an endpoint takes where nothing waits: program, threads, buffers. This build is not optimised.
const BASE_BYTES: u64 = 20 * MIB;
/// What one path that waits takes at most, as the documents say.
const WAITING_BYTES: u64 = 400;
/// What an endpoint may take on whatever tree.
const ENDPOINT_BYTES: u64 = 32 * MIB;

const DIRS: u64 = 1000;
const FILES: u64 = 1000;
/// Directories that are changed in one go: their events find room in the kernel's shortest queue.
const DIRS_AT_ONCE: u64 = 5;
/// One file of so many stays.
const STAYS: u64 = 100;

fn dir(top: &Path, dir: u64) -> std::path::PathBuf {
    top.join(format!("directory-{dir:04}"))
}

/// Makes files in a directory, and removes all but a few again: each is a path of its own that has changed.
fn change_all(dir: &Path) {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let dir = open(dir, flags, Mode::empty()).unwrap();
    for file in 0..FILES {
        let name = format!("file-{file:04}");
        let mode = Mode::from_raw_mode(0o644);
        mknodat(&dir, &*name, FileType::RegularFile, mode, 0).unwrap();
        if file % STAYS != 0 {
            unlinkat(&dir, &*name, AtFlags::empty()).unwrap();
        }
    }
    unlinkat(&dir, "before", AtFlags::empty()).unwrap();
}

/// Waits until the source has read all that the kernel has to tell.
fn wait_until_heard(source: &Source<'_>) {
    wait_for("the events to be read", PROMPT, || {
        let status = source.report(&["status"]);
        match status["events"]["bytes"].as_u64() {
            Some(0) => Ok(()),
            _ => Err(status["events"].to_string()),
        }
    });
}

/// A million paths change while a sink takes nothing. Tells what the source has used at most.
fn a_million_dirty_paths(
    leave: impl FnOnce(&mut Sink),
    come_back: impl FnOnce(&Fixture, &Source<'_>, Sink) -> Sink,
) {
    let fixture = Fixture::in_memory();
    for at in 0..DIRS {
        fs::create_dir(dir(&fixture.source(), at)).unwrap();
        fs::write(dir(&fixture.source(), at).join("before"), "before").unwrap();
    }
    let source = Source::start(&fixture);
    let mut sink = Sink::start_with(
        &fixture,
        &fixture.target(),
        &source.addresses,
        &REMOVES_MUCH,
    );
    source.wait_for_phase("transfer");
    source.flush();
    let before = source.process.memory_peak();
    assert!(before < BASE_BYTES, "{before} bytes with nothing to do");

    leave(&mut sink);
    for first in (0..DIRS).step_by(DIRS_AT_ONCE as usize) {
        for at in first..first + DIRS_AT_ONCE {
            change_all(&dir(&fixture.source(), at));
        }
        wait_until_heard(&source);
    }
    let status = source.report(&["status"]);
    assert_eq!(status["events"]["overflows"], 0, "each path was told of");
    let queue = source.report(&["report", "queue"])["sinks"][0].clone();
    let waiting = queue["live"]["waiting_entries"].as_u64().unwrap();
    assert!((32_768..=65_536).contains(&waiting), "{queue}");
    assert!(queue["rescans_owed"].as_u64().unwrap() > 500, "{queue}");
    let limit = BASE_BYTES + 65_536 * WAITING_BYTES;
    let peak = source.process.memory_peak();
    assert!(
        peak < limit,
        "{peak} bytes with a million paths, above {limit}"
    );

    let sink = come_back(&fixture, &source, sink);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    let peak = source.process.memory_peak();
    assert!(peak < limit, "{peak} bytes to tell it, above {limit}");
    let peak = sink.process.memory_peak();
    assert!(peak < ENDPOINT_BYTES, "{peak} bytes in the sink");
    source.stop(sink);
}

#[test]
fn a_million_dirty_paths_while_the_sink_is_dead() {
    a_million_dirty_paths(
        |sink| sink.process.kill(),
        |fixture, source, dead| {
            drop(dead);
            Sink::start_with(fixture, &fixture.target(), &source.addresses, &REMOVES_MUCH)
        },
    );
}

#[test]
fn a_million_dirty_paths_while_the_sink_is_frozen() {
    let mut frozen = None;
    let slot = std::cell::RefCell::new(&mut frozen);
    a_million_dirty_paths(
        |sink| **slot.borrow_mut() = Some(sink.process.freeze()),
        |_, source, sink| {
            source.wait_for_phase("initialisation");
            drop(slot.borrow_mut().take());
            sink
        },
    );
}

/// Ten times as many files take no more.
#[test]
fn the_number_of_files_takes_no_memory() {
    let peaks = |dirs: u64| {
        let fixture = Fixture::in_memory();
        for at in 0..dirs {
            let path = dir(&fixture.source(), at);
            mkdirat(CWD, &path, Mode::from_raw_mode(0o755)).unwrap();
            for file in 0..200 {
                fs::write(path.join(format!("file-{file}")), "content").unwrap();
            }
        }
        let source = Source::start(&fixture);
        let sink = Sink::start(&fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&fixture.source(), &fixture.target());
        let peaks = [source.process.memory_peak(), sink.process.memory_peak()];
        source.stop(sink);
        peaks
    };
    let (few, many) = (peaks(20), peaks(200));
    for (few, many) in few.into_iter().zip(many) {
        assert!(many < ENDPOINT_BYTES, "{many} bytes");
        assert!(
            many < few + 6 * MIB,
            "{few} bytes, and {many} for ten times as many"
        );
    }
}

/// The source sends as much as it may, and the target's disk takes none of it.
#[test]
fn a_sink_with_a_disk_that_stops() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        let disk = Disk::of(&fixture.path().join("image"), 512 * MIB);
        disk.mount_anew(&target);
        let source = Source::start(fixture);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();

        let stopped = Stopped::at(&target);
        for file in 0..20 {
            fs::write(
                tree.join(format!("large{file}")),
                vec![b'x'; 8 * MIB as usize],
            )
            .unwrap();
        }
        for file in 0..5000 {
            fs::write(tree.join(format!("small{file}")), vec![b'y'; 4096]).unwrap();
        }
        wait_until("the window to be used up", CONVERGENCE, || {
            let live = source.report(&["report", "queue"])["sinks"][0]["live"].clone();
            live["in_flight_bytes"].as_u64().unwrap() > 4 * MIB
        });
        // The session goes on: it is the disk that does nothing.
        let silence = Duration::from_secs(3);
        let flush = source.run(
            &["flush", "--timeout", &format!("{}s", silence.as_secs())],
            PROMPT,
        );
        assert_eq!(flush.code, Some(75), "{flush:?}");
        let (of_source, of_sink) = (source.process.memory_peak(), sink.process.memory_peak());
        // What is on its way, and what the connections hold of it.
        let limit = ENDPOINT_BYTES + 2 * 8 * MIB;
        assert!(of_source < limit, "{of_source} bytes in the source");
        assert!(of_sink < limit, "{of_sink} bytes in the sink");
        drop(stopped);
        source.flush();
        assert_equal(&tree, &target);
        assert_eq!(source.transfer()["sessions"], 1, "a session was lost");
        let peak = sink.process.memory_peak();
        assert!(peak < limit, "{peak} bytes in the sink");
        source.stop(sink);
    });
}
