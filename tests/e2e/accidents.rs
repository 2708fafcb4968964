//! Roots that are emptied, replaced or unmounted, and walks that would remove much: nothing is deleted
//! until the operator agrees (I7).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use serde_json::Value;

use crate::disk::Disk;
use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::wait::{wait_for, wait_until};

/// Room for a few files.
const DISK_BYTES: u64 = 64 << 20;

fn fill(dir: &Path, files: u32) {
    fs::create_dir_all(dir).unwrap();
    for number in 0..files {
        fs::write(dir.join(format!("file {number}")), number.to_string()).unwrap();
    }
}

fn replicated(fixture: &Fixture) -> (Source<'_>, Sink) {
    let source = Source::start(fixture);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    (source, sink)
}

fn entries(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

/// Waits until the source has halted, and says why and how to go on.
fn wait_for_halt(source: &Source<'_>, why: &str) {
    wait_for("a source that has halted", PROMPT, || {
        match source.report(&["status"])["halted"].as_str() {
            Some(halted) if halted.contains(why) => Ok(()),
            halted => Err(format!("{halted:?}")),
        }
    });
    let text = source.expect(&["status"]).stdout;
    assert!(text.contains("osync resume --accept"), "{text}");
}

fn refuses_to_resume(source: &Source<'_>, why: &str) {
    let resumed = source.run(&["resume"], PROMPT);
    assert_ne!(resumed.code, Some(0));
    assert!(resumed.stderr.contains(why), "{}", resumed.stderr);
    assert!(resumed.stderr.contains("--accept"), "{}", resumed.stderr);
}

#[test]
fn an_emptied_root_keeps_the_target() {
    let fixture = Fixture::new();
    let root = fixture.source();
    fill(&root, 20);
    fill(&root.join("dir"), 20);
    let (source, sink) = replicated(&fixture);
    // At once, as an unmount looks; the directory itself stays.
    let aside = fixture.path().join("aside");
    fs::create_dir(&aside).unwrap();
    for entry in fs::read_dir(&root).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), aside.join(entry.file_name())).unwrap();
    }
    wait_for_halt(&source, "the root is empty");
    refuses_to_resume(&source, "the root is empty");
    assert_eq!(entries(&fixture.target()), 21);

    // What is there again is gone on with, and what changed meanwhile is found.
    for entry in fs::read_dir(&aside).unwrap() {
        let entry = entry.unwrap();
        fs::rename(entry.path(), root.join(entry.file_name())).unwrap();
    }
    fs::write(root.join("file 7"), "changed").unwrap();
    source.expect(&["resume"]);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&root, &fixture.target());

    // And if it is meant: the operator agrees.
    fs::rename(root.join("dir"), aside.join("again")).unwrap();
    for number in 0..20 {
        fs::remove_file(root.join(format!("file {number}"))).unwrap();
    }
    wait_for_halt(&source, "the root is empty");
    source.expect(&["resume", "--accept"]);
    source.wait_for_phase("transfer");
    source.flush();
    assert_eq!(entries(&fixture.target()), 0);
    source.stop(sink);
}

#[test]
fn an_empty_root_at_the_start_keeps_the_target() {
    let fixture = Fixture::new();
    fill(&fixture.target(), 20);
    let source = Source::start(&fixture);
    let more = ["--adopt"];
    let mut sink = Sink::start_with(&fixture, &fixture.target(), &source.addresses, &more);
    wait_for_halt(&source, "the root is empty");
    assert_eq!(entries(&fixture.target()), 20);
    sink.process.kill();

    // Names that come make it a root like any other.
    fill(&fixture.source(), 30);
    source.expect(&["resume"]);
    let sink = Sink::start_with(&fixture, &fixture.target(), &source.addresses, &more);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn push_once_of_an_emptied_root_does_not_wait_for_ever() {
    let fixture = Fixture::new();
    fill(&fixture.target(), 20);
    let mut push = fixture.osync("push");
    push.arg("push").arg(fixture.source()).arg(fixture.target());
    let ended = fixture.run("push", push.args(["--once", "--adopt"]), CONVERGENCE);
    assert_eq!(ended.code, Some(75), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("the root is empty"),
        "{}",
        ended.stderr
    );
    assert_eq!(entries(&fixture.target()), 20);
}

#[test]
fn another_directory_in_the_place_of_the_root_keeps_the_target() {
    let fixture = Fixture::new();
    let (root, aside) = (fixture.source(), fixture.path().join("aside"));
    fill(&root, 20);
    let (source, sink) = replicated(&fixture);
    fs::rename(&root, &aside).unwrap();
    fill(&root, 3);
    wait_for_halt(&source, "another directory");
    refuses_to_resume(&source, "another directory");
    fs::remove_file(aside.join("file 1")).unwrap();
    assert_eq!(entries(&fixture.target()), 20);

    let other = fixture.path().join("other");
    fs::rename(&root, &other).unwrap();
    refuses_to_resume(&source, "cannot be reached");
    let missing = source.run(&["resume", "--accept"], PROMPT);
    assert_ne!(missing.code, Some(0), "nothing is there to be accepted");

    // The right one comes back.
    fs::rename(&aside, &root).unwrap();
    source.expect(&["resume"]);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&root, &fixture.target());

    // The other one is meant.
    fs::rename(&root, &aside).unwrap();
    fs::rename(&other, &root).unwrap();
    wait_for_halt(&source, "another directory");
    source.expect(&["resume", "--accept"]);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&root, &fixture.target());
    source.stop(sink);
}

#[test]
fn a_walk_that_would_remove_much_asks() {
    let fixture = Fixture::new();
    let root = fixture.source();
    fill(&root.join("kept"), 3000);
    fill(&root.join("gone"), 1500);
    let (source, sink) = replicated(&fixture);
    source.stop(sink);
    fs::remove_dir_all(root.join("gone")).unwrap();

    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    let flush = source.run(&["flush", "--timeout", "30s"], CONVERGENCE);
    assert_eq!(flush.code, Some(2), "{}", flush.stderr);
    assert_eq!(entries(&fixture.target().join("gone")), 1500);
    assert_eq!(
        source.report(&["status"])["sinks"][0]["halted"],
        Value::from(1)
    );
    refuses_to_resume(&source, "1 removals are held back");
    source.expect(&["resume", "--accept"]);
    wait_for("what was agreed to", CONVERGENCE, || {
        match &source.report(&["status"])["sinks"][0]["problems"] {
            problems if *problems == 0 => Ok(()),
            problems => Err(problems.to_string()),
        }
    });
    source.flush();
    assert_equal(&root, &fixture.target());
    source.stop(sink);
}

/// Its root has the device and the inode number of the one before.
#[test]
fn a_new_file_system_in_the_place_of_the_target_is_left_alone() {
    with_mounts(Fixture::new, |fixture| {
        fill(&fixture.source(), 20);
        let target = fixture.target();
        let disk = Disk::of(&fixture.path().join("image"), DISK_BYTES);
        disk.mount_anew(&target);
        let before = fs::metadata(&target).unwrap();
        let (source, mut sink) = replicated(fixture);
        sink.process.terminate();
        assert_eq!(sink.process.wait(PROMPT).code, Some(0));
        disk.unmount(&target);
        // mkfs writes whole seconds down.
        let a_second = Duration::from_secs(1);
        wait_until("another second", PROMPT, || {
            before
                .created()
                .unwrap()
                .elapsed()
                .is_ok_and(|age| age > a_second)
        });
        disk.mount_anew(&target);
        let now = fs::metadata(&target).unwrap();
        assert_eq!((before.dev(), before.ino()), (now.dev(), now.ino()));

        let mut again = Sink::start(fixture, &source.addresses);
        let refused = again.process.wait(PROMPT);
        assert_eq!(refused.code, Some(78), "{}", refused.stderr);
        let said = "another directory than before";
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
        let sink = Sink::start_with(fixture, &target, &source.addresses, &["--adopt"]);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&fixture.source(), &target);
        source.stop(sink);
        disk.unmount(&target);
    });
}

/// What was mounted at the root is gone, while both ends run and while none does.
#[test]
fn an_unmounted_root_keeps_the_target() {
    with_mounts(Fixture::new, |fixture| {
        let top = fixture.source();
        let disk = Disk::of(&fixture.path().join("image"), DISK_BYTES);
        disk.mount_anew(&top);
        fill(&top, 20);
        let (mut source, mut sink) = replicated(fixture);
        unmount(&top, UnmountFlags::DETACH).unwrap();
        wait_for_halt(&source, "another directory");
        assert_eq!(entries(&fixture.target()), 20);
        source.process.kill();
        sink.process.kill();

        let mut command = fixture.osync("source");
        command.arg("source").arg(&top);
        let refused = fixture.run("refused", &mut command, PROMPT);
        assert_eq!(refused.code, Some(78), "{refused:?}");
        assert!(refused.stderr.contains("is empty"), "{}", refused.stderr);

        disk.mount(&top);
        fs::write(top.join("new"), "1").unwrap();
        let source = Source::start(fixture);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&top, &fixture.target());
        source.stop(sink);
        disk.unmount(&top);
    });
}

#[test]
fn another_directory_in_the_place_of_the_target_is_left_alone() {
    let fixture = Fixture::new();
    fill(&fixture.source(), 20);
    let (source, mut sink) = replicated(&fixture);
    let aside = fixture.path().join("aside");
    fs::rename(fixture.target(), &aside).unwrap();
    fs::create_dir(fixture.target()).unwrap();
    let ended = sink.process.wait(PROMPT);
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("another directory"),
        "{}",
        ended.stderr
    );
    fs::write(fixture.source().join("new"), "1").unwrap();
    let mut again = Sink::start(&fixture, &source.addresses);
    let refused = again.process.wait(PROMPT);
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
    assert_eq!(entries(&fixture.target()), 0);
    fs::remove_dir(fixture.target()).unwrap();
    fs::rename(&aside, fixture.target()).unwrap();
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}
