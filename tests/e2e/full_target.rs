//! A target that takes nothing more: no space, no inodes, over quota, read-only. Content waits, what
//! makes room goes on, the operator is told which it is, and nobody has to do anything afterwards.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use serde_json::{Value, json};

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::wait::{wait_for, wait_until};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Bytes that no two places of a file share by chance.
fn bytes(count: usize) -> Vec<u8> {
    (0..count)
        .map(|at| (at % 251) as u8 ^ (at >> 9) as u8)
        .collect()
}

fn mount_memory(at: &Path, options: &str) {
    let options = std::ffi::CString::new(options).unwrap();
    mount("none", at, "tmpfs", MountFlags::empty(), Some(&*options)).unwrap();
}

fn remount(at: &Path, flags: MountFlags, options: &str) {
    // A sync or a file that is open for writing at this moment refuses that.
    wait_for("the target to be mounted anew", PROMPT, || {
        mount_remount(at, flags, options).map_err(|error| error.to_string())
    });
}

fn start(fixture: &Fixture) -> (Source<'_>, Sink) {
    let source = Source::start_at(fixture, &Addresses::on_ports(0, 0));
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    (source, sink)
}

fn shortage(source: &Source<'_>) -> Value {
    source.report(&["status"])["sinks"][0]["shortage"].clone()
}

fn wait_for_shortage(source: &Source<'_>, expected: &str) {
    wait_for("the target to be full", PROMPT, || match shortage(source) {
        Value::String(found) if found == expected => Ok(()),
        other => Err(other.to_string()),
    });
    let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
    assert_eq!(flush.code, Some(75), "{flush:?}");
}

/// Whatever is there under its name is the whole file.
fn assert_nothing_torn(fixture: &Fixture) {
    for entry in fs::read_dir(fixture.target()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            let there = fs::read(entry.path()).unwrap();
            let here = fs::read(fixture.source().join(entry.file_name())).unwrap();
            assert!(there == here, "{:?} is torn", entry.path());
        }
    }
}

/// Everything arrives by itself, and nothing is reported any more.
fn expect_recovery(fixture: &Fixture, source: Source<'_>, sink: Sink, words: &str) {
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    wait_until("the report to be over", PROMPT, || {
        shortage(&source).is_null()
    });
    assert_eq!(source.report(&["report", "problems"])["total"], 0);
    assert_eq!(source.transfer()["sessions"], 1, "a session was lost");
    let log = source.process.stderr();
    assert_eq!(log.matches("takes no content").count(), 1, "{log}");
    assert!(log.contains(words), "{log}");
    source.stop(sink);
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn no_space() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        mount_memory(&target, "size=8m");
        fs::write(tree.join("first"), bytes(MIB)).unwrap();
        let (source, sink) = start(fixture);
        source.flush();
        for file in 0..40 {
            fs::write(tree.join(format!("large{file}")), bytes(512 * KIB)).unwrap();
        }
        for file in 0..200 {
            fs::write(tree.join(format!("small{file}")), bytes(5 * KIB)).unwrap();
        }
        wait_for_shortage(&source, "space");
        let text = source.expect(&["status"]).stdout;
        assert!(text.contains("transfer, no space left"), "{text}");
        assert_nothing_torn(fixture);
        // What makes room goes on, and so do names.
        fs::create_dir(tree.join("dir")).unwrap();
        fs::rename(tree.join("first"), tree.join("renamed")).unwrap();
        wait_until("the rename and the directory", PROMPT, || {
            target.join("renamed").exists() && target.join("dir").exists()
        });
        fs::remove_file(tree.join("renamed")).unwrap();
        wait_until("the removal", PROMPT, || !target.join("renamed").exists());
        assert_nothing_torn(fixture);
        remount(&target, MountFlags::empty(), "size=64m");
        expect_recovery(fixture, source, sink, "no space left");
    });
}

/// A large file is not sent again and again to where it has no room.
#[test]
fn a_file_without_room_is_not_sent_to_its_end() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        mount_memory(&target, "size=8m");
        let (source, sink) = start(fixture);
        source.flush();
        let before = source.transfer()["sent_bytes"].as_u64().unwrap();
        fs::write(tree.join("huge"), bytes(200 * MIB)).unwrap();
        wait_for_shortage(&source, "space");
        let retries = || source.transfer()["retries"].as_u64().unwrap();
        let first = retries();
        wait_until("two more tries", PROMPT, || retries() >= first + 2);
        let sent = source.transfer()["sent_bytes"].as_u64().unwrap() - before;
        // Each try may fill the target, and what is sent ahead: 8 MiB each.
        assert!(sent < 5 * 20 * MIB as u64, "{sent} bytes sent in vain");
        fs::remove_file(tree.join("huge")).unwrap();
        source.flush();
        assert_equal(&tree, &target);
        source.stop(sink);
    });
}

#[test]
fn no_inodes() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        mount_memory(&target, "size=64m,nr_inodes=100");
        let (source, sink) = start(fixture);
        source.flush();
        for file in 0..300 {
            fs::write(tree.join(format!("f{file:03}")), "content").unwrap();
        }
        wait_for_shortage(&source, "inodes");
        let text = source.expect(&["status"]).stdout;
        assert!(text.contains("no inodes left"), "{text}");
        assert_nothing_torn(fixture);
        let gone = fs::read_dir(&target).unwrap().map(Result::unwrap);
        let gone = gone.filter(|entry| entry.file_type().unwrap().is_file());
        let gone: Vec<_> = gone.map(|entry| entry.file_name()).take(10).collect();
        assert_eq!(gone.len(), 10);
        for name in &gone {
            fs::remove_file(tree.join(name)).unwrap();
        }
        wait_until("the removals", PROMPT, || {
            gone.iter().all(|name| !target.join(name).exists())
        });
        remount(&target, MountFlags::empty(), "nr_inodes=1000");
        expect_recovery(fixture, source, sink, "no inodes left");
    });
}

#[test]
fn read_only() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        mount_memory(&target, "size=64m");
        for name in ["stays", "goes", "changes"] {
            fs::write(tree.join(name), name).unwrap();
        }
        let (source, sink) = start(fixture);
        source.flush();
        remount(&target, MountFlags::RDONLY, "");
        fs::remove_file(tree.join("goes")).unwrap();
        fs::write(tree.join("changes"), "changed").unwrap();
        fs::rename(tree.join("stays"), tree.join("moved")).unwrap();
        fs::create_dir_all(tree.join("new/dir")).unwrap();
        fs::write(tree.join("new/dir/file"), bytes(MIB)).unwrap();
        wait_for_shortage(&source, "read-only");
        let text = source.expect(&["status"]).stdout;
        assert!(text.contains("transfer, read-only"), "{text}");
        assert_eq!(source.report(&["report", "problems"])["total"], 0);
        remount(&target, MountFlags::empty(), "");
        expect_recovery(fixture, source, sink, "read-only");
    });
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Mounts a file system with quota in an image; `Err` says why there is none here.
fn mount_with_quota(image: &str, at: &str) -> Result<(), String> {
    fs::File::create(image).unwrap().set_len(512 << 20).unwrap();
    run("mkfs.btrfs", &["-q", image])?;
    run("mount", &["-t", "btrfs", "-o", "loop", image, at])?;
    run("btrfs", &["quota", "enable", at])?;
    run("btrfs", &["qgroup", "limit", "8M", at])
}

#[test]
fn over_quota() {
    with_mounts(Fixture::new, |fixture| {
        let (tree, target) = (fixture.source(), fixture.target());
        let image = fixture.path().join("image");
        let at = target.to_str().unwrap();
        if let Err(why) = mount_with_quota(image.to_str().unwrap(), at) {
            let said = format!("NOT TESTED: a target over quota: {why}\n");
            return std::io::stderr().write_all(said.as_bytes()).unwrap();
        }
        fs::write(tree.join("first"), bytes(MIB)).unwrap();
        let (source, sink) = start(fixture);
        source.flush();
        for file in 0..20 {
            fs::write(tree.join(format!("large{file}")), bytes(MIB)).unwrap();
        }
        wait_for_shortage(&source, "quota");
        let text = source.expect(&["status"]).stdout;
        assert!(text.contains("over quota"), "{text}");
        assert_nothing_torn(fixture);
        run("btrfs", &["qgroup", "limit", "none", at]).unwrap();
        expect_recovery(fixture, source, sink, "over quota");
        unmount(&target, UnmountFlags::DETACH).unwrap();
    });
}

/// The directory of the sink's state is full: what is applied cannot be recorded, and so not be called
/// durable. It goes on by itself too.
#[test]
fn a_full_state_directory() {
    with_mounts(Fixture::new, |fixture| {
        let tree = fixture.source();
        let state = fixture.path().join("state-sink");
        fs::create_dir(&state).unwrap();
        mount_memory(&state, "size=1m");
        let (source, sink) = start(fixture);
        source.flush();
        let filler = state.join("filler");
        // It has room for nothing then, or for a page.
        drop(fs::write(&filler, bytes(2 * MIB)));
        fs::write(tree.join("meanwhile"), "not durable").unwrap();
        wait_until("the sink to say so", PROMPT, || {
            sink.process.stderr().contains("cannot be made durable")
        });
        let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
        assert_eq!(flush.code, Some(75), "{flush:?}");
        let status = source.report(&["status"]);
        assert_eq!(status["sinks"][0]["converged"], json!(false), "{status}");
        fs::remove_file(filler).unwrap();
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&tree, &fixture.target());
        source.stop(sink);
    });
}
