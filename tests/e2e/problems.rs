//! What cannot be read or created is a problem: named, retried, in the way of every success, and gone
//! with its cause.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use serde_json::Value;

use crate::disk::Disk;
use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::tree::is_root;
use crate::wait::wait_for;

/// Room for a large file.
const DISK_BYTES: u64 = 64 << 20;
/// Exit code of what ended with problems left.
const PROBLEMS: i32 = 2;
/// A name that must be escaped, and how.
const ODD: &str = "odd\n\u{1b}name";
const ESCAPED: &str = "odd\\n\\u{1b}name";

/// A file of the owner from the first moment on: what is seen to belong to others counts as left out.
fn write(path: &Path) {
    let aside = tempfile::NamedTempFile::new().unwrap();
    fs::write(aside.path(), "content").unwrap();
    set_mode(aside.path(), 0o644);
    give_to_owner_of(path, aside.path());
    aside.persist(path).unwrap();
}

/// Gives an entry to the owner of the tree.
fn give_to_owner(path: &Path) {
    give_to_owner_of(path, path);
}

/// Gives an entry to the owner of the tree in which another path lies.
fn give_to_owner_of(other: &Path, path: &Path) {
    let top = other
        .ancestors()
        .find(|dir| dir.ends_with("source") || dir.ends_with("target"));
    let owner = fs::metadata(top.unwrap().parent().unwrap()).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Waits for the only problem to fulfil a condition.
fn wait_for_problem(source: &Source<'_>, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, PROMPT, || {
        let report = source.report(&["report", "problems"]);
        match report["problems"].as_array().map(Vec::as_slice) {
            Some([problem]) if holds(problem) => Ok(problem.clone()),
            _ => Err(report.to_string()),
        }
    })
}

fn assert_blocks_success(source: &Source<'_>) {
    let flush = source.run(&["flush", "--timeout", "60s"], CONVERGENCE);
    assert_eq!(flush.code, Some(PROBLEMS), "{flush:?}");
    let status = source.report(&["status"]);
    assert_eq!(status["sinks"][0]["problems"], 1, "{status}");
    assert_eq!(status["sinks"][0]["converged"], false, "{status}");
}

fn wait_until_cleared(source: &Source<'_>) {
    wait_for("the problem to clear itself", CONVERGENCE, || {
        let report = source.report(&["report", "problems"]);
        if report["total"] == 0 {
            Ok(())
        } else {
            Err(report.to_string())
        }
    });
}

/// Nothing but time tells osync: the file becomes readable without any event.
#[test]
fn a_file_that_cannot_be_read() {
    let fixture = Fixture::of_nobody();
    let locked = fixture.source().join(ODD);
    write(&locked);
    write(&fixture.source().join("readable"));
    set_mode(&locked, 0o000);
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");

    let first = wait_for_problem(&source, "the problem", |_| true);
    assert_eq!(first["path"], ESCAPED, "{first}");
    assert_eq!(first["side"], "source", "{first}");
    assert_eq!(first["operation"], "open", "{first}");
    assert_eq!(first["errno"], libc::EACCES, "{first}");
    assert_blocks_success(&source);
    assert!(fixture.target().join("readable").exists());
    let later = wait_for_problem(&source, "two retries", |problem| {
        problem["tries"].as_u64() >= Some(3)
    });
    // One second lay between the first two tries, two between the next.
    assert!(later["since_ms"].as_u64() >= Some(3_000), "{later}");

    set_mode(&locked, 0o644);
    wait_until_cleared(&source);
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_file_that_cannot_be_created() {
    if !is_root() {
        return;
    }
    let fixture = Fixture::of_nobody();
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    let (dir, aside) = (fixture.source().join("dir"), fixture.path().join("aside"));
    fs::create_dir(&aside).unwrap();
    give_to_owner_of(&dir, &aside);
    fs::rename(&aside, &dir).unwrap();
    source.flush();
    // Somebody takes the directory away from the sink.
    let taken = fixture.target().join("dir");
    chown(&taken, Some(0), Some(0)).unwrap();
    write(&dir.join("file"));

    let problem = wait_for_problem(&source, "the problem", |_| true);
    let path = problem["path"].as_str().unwrap();
    assert!(["dir", "dir/file"].contains(&path), "{problem}");
    assert_eq!(problem["side"], "sink", "{problem}");
    let errno = problem["errno"].as_i64().unwrap();
    assert!(
        [libc::EPERM.into(), libc::EACCES.into()].contains(&errno),
        "{problem}"
    );
    assert_blocks_success(&source);

    give_to_owner(&taken);
    wait_until_cleared(&source);
    source.flush();
    source.stop(sink);
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn push_once_does_not_claim_success() {
    let fixture = Fixture::of_nobody();
    let locked = fixture.source().join(ODD);
    write(&locked);
    write(&fixture.source().join("readable"));
    set_mode(&locked, 0o000);
    let mut push = fixture.osync("push");
    push.arg("push").arg("--once");
    push.arg(fixture.source()).arg(fixture.target());
    let finished = fixture.run("push", &mut push, CONVERGENCE);
    assert_eq!(finished.code, Some(PROBLEMS), "{finished:?}");
    assert!(fixture.target().join("readable").exists());

    set_mode(&locked, 0o644);
    fixture
        .start("push-again", &mut push)
        .expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());
}

/// The disk does not give some of a file: its image ends before.
#[test]
fn a_disk_that_cannot_be_read() {
    with_mounts(Fixture::new, |fixture| {
        let top = fixture.source();
        let disk = Disk::of(&fixture.path().join("image"), DISK_BYTES);
        disk.mount_anew(&top);
        fs::write(top.join("good"), "content").unwrap();
        fs::write(top.join("large"), vec![7; DISK_BYTES as usize / 2]).unwrap();
        disk.unmount(&top);
        let whole = fs::read(&disk.image).unwrap();
        disk.mount(&top);
        let image = fs::File::options().write(true).open(&disk.image).unwrap();
        image.set_len(DISK_BYTES / 2).unwrap();

        let source = Source::start(fixture);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        let problem = wait_for_problem(&source, "a problem", |problem| problem["path"] == "large");
        let said = problem["reason"].as_str().unwrap();
        assert!(said.contains("Input/output error"), "{problem}");
        assert_blocks_success(&source);
        assert!(fixture.target().join("good").exists());
        assert!(!fixture.target().join("large").exists());

        fs::write(&disk.image, whole).unwrap();
        wait_until_cleared(&source);
        source.flush();
        assert_equal(&top, &fixture.target());
        source.stop(sink);
        disk.unmount(&top);
    });
}
