//! Everything that an entry can be arrives: after the walk, after live changes, and once only.
//!
//! Needs root's rights; without them there is no such tree to make.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, os::unix::fs as unix};

use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_no_difference;
use crate::tree::{assert_same, difference, is_root, make, mutate, traces};
use crate::wait::wait_until;

/// Whoever comes back does not rely on what changed less than so many seconds before the end of the last time.
const DISTRUST_SECS: u64 = 5;

#[test]
fn the_walk_and_live_changes_bring_everything_on_disk() {
    if is_root() {
        walk_live_and_restart(&Fixture::new());
    }
}

#[test]
fn the_walk_and_live_changes_bring_everything_in_memory() {
    if is_root() {
        walk_live_and_restart(&Fixture::in_memory());
    }
}

fn walk_live_and_restart(fixture: &Fixture) {
    make(fixture);
    let source = Source::start(fixture);
    let mut sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_same(fixture);

    mutate(fixture);
    source.flush();
    assert_same(fixture);

    wait_until_trusted(fixture);
    sink.process.interrupt();
    sink.process.expect_success(PROMPT);
    let before = traces(&fixture.target());
    let mut sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.expect(&["rescan", "."]);
    source.flush();
    assert_untouched(fixture, &before);

    sink.process.kill();
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    source.stop(sink);
    assert_same(fixture);
}

#[test]
fn push_once_brings_everything_on_disk() {
    if is_root() {
        push_twice(&Fixture::new());
    }
}

#[test]
fn push_once_brings_everything_in_memory() {
    if is_root() {
        push_twice(&Fixture::in_memory());
    }
}

/// The second time the changes are found by the walk, as nobody watched; the third time there are none.
fn push_twice(fixture: &Fixture) {
    make(fixture);
    push_once(fixture);
    assert_same(fixture);
    mutate(fixture);
    wait_until_trusted(fixture);
    push_once(fixture);
    assert_same(fixture);
    let before = traces(&fixture.target());
    push_once(fixture);
    assert_untouched(fixture, &before);
}

/// Waits until the last change lies so far back that whoever comes next relies on it.
fn wait_until_trusted(fixture: &Fixture) {
    let last = traces(&fixture.source())
        .into_values()
        .map(|(_, secs, _)| secs)
        .max();
    let last = u64::try_from(last.unwrap()).unwrap();
    wait_until("the last change to be old", PROMPT, || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        now.as_secs() > last + DISTRUST_SECS
    });
}

/// Directories that swap names arrive although their files have the same names, sizes and times.
#[test]
fn a_directory_that_takes_the_place_of_its_twin_is_sent() {
    let fixture = Fixture::new();
    let top = fixture.source();
    for dir in ["one", "two"] {
        fs::create_dir(top.join(dir)).unwrap();
        fs::write(top.join(dir).join("file"), dir).unwrap();
        set_mtime(&top.join(dir).join("file"), 5);
    }
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    for (from, to) in [("one", "third"), ("two", "one"), ("third", "two")] {
        fs::rename(top.join(from), top.join(to)).unwrap();
    }
    source.flush();
    assert_no_difference("the walk", &difference(&top, &fixture.target()));
    source.stop(sink);
}

fn push_once(fixture: &Fixture) {
    let mut push = fixture.osync("push");
    push.arg("push").arg("--once");
    // Much is removed between two pushes, and nobody is there to agree.
    push.args(["--set", "walk_brake_share=1"]);
    push.arg(fixture.source()).arg(fixture.target());
    fixture.start("push", &mut push).expect_success(CONVERGENCE);
}

/// Asserts that a walk over equal trees changed nothing at all.
#[track_caller]
fn assert_untouched(
    fixture: &Fixture,
    before: &std::collections::BTreeMap<std::path::PathBuf, (u64, i64, i64)>,
) {
    let after = traces(&fixture.target());
    let touched: Vec<_> = after
        .iter()
        .filter(|(path, trace)| before.get(*path) != Some(trace))
        .map(|(path, _)| path.strip_prefix(fixture.target()).unwrap())
        .collect();
    assert!(
        touched.is_empty() && after.len() == before.len(),
        "{} entries were touched although nothing had changed: {touched:?}",
        touched.len()
    );
}

/// Something done to one of two equal trees.
type Change = fn(&Path);

/// A judge that sees nothing would let everything pass: each kind of difference must be seen.
#[test]
fn the_walking_judge_sees_every_difference() {
    if !is_root() {
        return;
    }
    let changes: [(&str, Change); 14] = [
        ("content", |top| same_size(&top.join("file"))),
        ("size", |top| fs::write(top.join("file"), "longer").unwrap()),
        ("mode", |top| set_mode(&top.join("file"), 0o4644)),
        ("owner", |top| {
            unix::lchown(top.join("link"), Some(7), None).unwrap()
        }),
        ("mtime", |top| set_mtime(&top.join("file"), 8)),
        ("mtime", |top| set_mtime(&top.join("link"), 8)),
        ("mtime", |top| set_mtime(&top.join("dir"), 8)),
        ("attributes", |top| {
            set_xattr(&top.join("dir"), "trusted.judge")
        }),
        ("attributes", |top| set_xattr(top, "user.judge")),
        ("target", |top| relink(&top.join("link"))),
        ("device", |top| another_device(&top.join("device"))),
        ("allocated bytes", |top| fill(&top.join("sparse"))),
        ("linked to", |top| unlink_from_group(&top.join("dir/name"))),
        ("is missing", |top| {
            fs::create_dir(top.join("dir/excess")).unwrap()
        }),
    ];
    for (what, change) in changes {
        let fixture = twins();
        assert_eq!(difference(&fixture.source(), &fixture.target()), "");
        change(&fixture.target());
        let seen = difference(&fixture.source(), &fixture.target());
        assert!(seen.contains(what), "{what} was not seen: {seen:?}");
    }
}

#[test]
fn the_walking_judge_sees_another_kind() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.source().join("entry")).unwrap();
    fs::write(fixture.target().join("entry"), "").unwrap();
    let seen = difference(&fixture.source(), &fixture.target());
    assert!(seen.contains("kind"), "{seen:?}");
}

/// The same small tree on both sides.
fn twins() -> Fixture {
    let fixture = Fixture::new();
    for top in [fixture.source(), fixture.target()] {
        fs::create_dir(top.join("dir")).unwrap();
        fs::write(top.join("file"), "content").unwrap();
        symlink("somewhere", top.join("link")).unwrap();
        fs::write(top.join("name"), "linked").unwrap();
        fs::hard_link(top.join("name"), top.join("dir/name")).unwrap();
        fs::File::create(top.join("sparse"))
            .unwrap()
            .set_len(1 << 20)
            .unwrap();
        make_device(&top.join("device"), 3);
        for path in ["file", "link", "name", "sparse", "device", "dir", ""] {
            set_mtime(&top.join(path), 5);
        }
    }
    fixture
}

fn set_mtime(path: &Path, nanos: i64) {
    let time = rustix::fs::Timespec {
        tv_sec: 5,
        tv_nsec: nanos,
    };
    let times = rustix::fs::Timestamps {
        last_access: time,
        last_modification: time,
    };
    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, flags).unwrap();
}

fn same_size(path: &Path) {
    fs::write(path, "CONTENT").unwrap();
    set_mtime(path, 5);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn set_xattr(path: &Path, name: &str) {
    rustix::fs::setxattr(path, name, b"seen", rustix::fs::XattrFlags::empty()).unwrap();
}

fn relink(path: &Path) {
    fs::remove_file(path).unwrap();
    symlink("somewhile", path).unwrap();
}

fn make_device(path: &Path, minor: u32) {
    let device = rustix::fs::makedev(1, minor);
    let mode = rustix::fs::Mode::RUSR;
    let kind = rustix::fs::FileType::CharacterDevice;
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, device).unwrap();
    assert!(fs::metadata(path).unwrap().file_type().is_char_device());
}

fn another_device(path: &Path) {
    fs::remove_file(path).unwrap();
    make_device(path, 5);
}

/// Writes the zeros that were a hole.
fn fill(path: &Path) {
    let size = fs::metadata(path).unwrap().len();
    fs::write(path, vec![0; usize::try_from(size).unwrap()]).unwrap();
}

fn unlink_from_group(path: &Path) {
    let copy = path.with_extension("copy");
    let status = Command::new("cp").arg("-a").args([path, &copy]).status();
    assert!(status.unwrap().success());
    fs::rename(&copy, path).unwrap();
    assert_eq!(fs::metadata(path).unwrap().nlink(), 1);
}
