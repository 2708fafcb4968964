//! Mounts below a root: left alone, or entered and held to what they were (rule 32).
//!
//! Each test has its own table of mounts, which the processes that it starts share.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use serde_json::Value;

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference_with};
use crate::process::Finished;
use crate::wait::{wait_for, wait_until};

/// Runs a test in a thread with its own table of mounts. What is mounted goes away with the thread.
pub fn with_mounts(make: fn() -> Fixture, test: impl FnOnce(&Fixture) + Send) {
    if !rustix::process::geteuid().is_root() {
        let said = b"NOT TESTED: what needs mounts: only root may mount\n";
        return std::io::stderr().write_all(said).unwrap();
    }
    let ended = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // SAFETY: only this thread leaves the shared table of mounts, and no memory is affected.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            mount_change("/", private).unwrap();
            let fixture = make();
            test(&fixture);
            // It is removed by a thread that does not see what is mounted in it.
            fixture
        });
        thread.join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn mount_tmpfs(at: &Path) {
    fs::create_dir_all(at).unwrap();
    mount("none", at, "tmpfs", MountFlags::empty(), None).unwrap();
}

fn start<'a>(fixture: &'a Fixture, more: &[&str]) -> Source<'a> {
    Source::start_with(fixture, &Addresses::on_ports(0, 0), more)
}

/// A source that must not start.
fn refused(fixture: &Fixture, more: &[&str]) -> Finished {
    let mut command = fixture.osync("source");
    command.arg("source").arg(fixture.source()).args(more);
    command.args([
        "--command",
        "tcp://127.0.0.1:0",
        "--data",
        "tcp://127.0.0.1:0",
    ]);
    let finished = fixture.run("refused", &mut command, PROMPT);
    assert_eq!(finished.code, Some(78), "{finished:?}");
    finished
}

fn not_entered(source: &Source<'_>) -> Value {
    source.report(&["status"])["mounts_not_entered"].clone()
}

fn wait_until_halted(source: &Source<'_>, why: &str) {
    wait_for("a source that has halted", PROMPT, || {
        let halted = source.report(&["status"])["halted"].clone();
        match halted.as_str() {
            Some(text) if text.contains(why) => Ok(()),
            _ => Err(halted.to_string()),
        }
    });
}

fn wait_until_converged(source: &Source<'_>) {
    wait_until("a sink that is equal", CONVERGENCE, || {
        source.report(&["status"])["sinks"][0]["converged"] == true
    });
}

/// Something of each kind.
fn fill(dir: &Path) {
    fs::create_dir_all(dir.join("dir/sub")).unwrap();
    fs::write(dir.join("dir/sub/file"), "content").unwrap();
    fs::write(dir.join("large"), vec![7; 400_000]).unwrap();
    fs::hard_link(dir.join("large"), dir.join("dir/further name")).unwrap();
    symlink("dir/sub", dir.join("link")).unwrap();
}

/// What users do to it.
fn change(dir: &Path) {
    fs::write(dir.join("dir/sub/file"), "other content").unwrap();
    fs::rename(dir.join("dir/sub"), dir.join("moved")).unwrap();
    fs::create_dir_all(dir.join("new/er")).unwrap();
    fs::write(dir.join("new/er/file"), "made meanwhile").unwrap();
    fs::remove_file(dir.join("link")).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(0o750)).unwrap();
}

#[test]
fn a_mount_is_left_alone_and_its_directory_replicated() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        let at = top.join("data");
        fs::create_dir(&at).unwrap();
        fs::set_permissions(&at, fs::Permissions::from_mode(0o710)).unwrap();
        fs::write(at.join("covered"), "by the mount").unwrap();
        fill(&top.join("beside"));
        mount_tmpfs(&at);
        fill(&at);
        let source = start(fixture, &[]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        change(&at);
        change(&top.join("beside"));
        source.flush();
        let left = not_entered(&source);
        assert_eq!(left["total"], 1, "{left}");
        assert_eq!(left["paths"][0], at.to_str().unwrap());
        let text = source.expect(&["status"]).stdout;
        assert!(text.contains("1 not entered: "), "{text}");

        // rsync sees the root of what is mounted, the target has the directory that it covers.
        let said = rsync_difference_with(&["-x".to_owned()], &top, &target);
        assert!(said.lines().all(|line| line.ends_with(" data/")), "{said}");
        assert!(said.starts_with(".d"), "{said}");
        unmount(&at, UnmountFlags::empty()).unwrap();
        assert_equal(&top, &target);
        assert!(fs::exists(target.join("data/covered")).unwrap());
        wait_until("no mount in the status", PROMPT, || {
            not_entered(&source)["total"] == 0
        });
        wait_until_converged(&source);
        source.stop(sink);
    });
}

#[test]
fn mounts_are_entered_and_followed() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        let (data, inner, bound) = (top.join("data"), top.join("data/in ner"), top.join("bound"));
        let elsewhere = fixture.path().join("elsewhere");
        fill(&top.join("beside"));
        mount_tmpfs(&data);
        mount_tmpfs(&inner);
        fs::create_dir_all(&bound).unwrap();
        fill(&elsewhere);
        mount_bind(&elsewhere, &bound).unwrap();
        for dir in [&data, &inner] {
            fill(dir);
        }
        let source = start(fixture, &["--cross-mounts"]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&top, &target);
        assert_eq!(not_entered(&source)["total"], 0);

        // Through the mounts that users have, not the source's own.
        for dir in [&data, &inner, &elsewhere, &top.join("beside")] {
            change(dir);
        }
        source.flush();
        assert_equal(&top, &target);
        assert!(fs::exists(target.join("data/in ner/new/er/file")).unwrap());
        assert_eq!(source.report(&["status"])["events"]["unwatched_dirs"], 0);
        source.stop(sink);
    });
}

#[test]
fn a_mount_that_appears_is_told_and_not_entered() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        mount_tmpfs(&top.join("data"));
        fill(&top.join("late"));
        let source = start(fixture, &["--cross-mounts"]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        mount_tmpfs(&top.join("late"));
        fs::write(top.join("late/file"), "on the new mount").unwrap();
        wait_until("the mount in the status", PROMPT, || {
            let left = not_entered(&source);
            left["total"] == 1 && left["paths"][0] == top.join("late").to_str().unwrap()
        });
        source.expect(&["rescan", "."]);
        source.flush();
        assert!(!fs::exists(target.join("late/file")).unwrap());
        unmount(top.join("late"), UnmountFlags::empty()).unwrap();
        assert_equal(&top, &target);
        let told = source.process.stderr();
        let told = told
            .lines()
            .filter(|line| line.contains("/late' is another file system"));
        assert_eq!(told.count(), 1);
        source.stop(sink);
    });
}

/// A source with a mount at `data` that was replicated, by a process that still runs.
fn replicated(fixture: &Fixture) -> (Source<'_>, Sink) {
    let data = fixture.source().join("data");
    mount_tmpfs(&data);
    fill(&data);
    fill(&fixture.source().join("beside"));
    let source = start(fixture, &["--cross-mounts"]);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    (source, sink)
}

#[test]
fn submount_vanishes() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        let data = top.join("data");
        let (mut source, mut sink) = replicated(fixture);
        let all_there = |when: &str| {
            let kept = fs::read_to_string(target.join("data/dir/sub/file"));
            assert_eq!(kept.unwrap(), "content", "{when}");
            assert!(fs::exists(target.join("beside/large")).unwrap(), "{when}");
        };
        unmount(&data, UnmountFlags::DETACH).unwrap();
        wait_until_halted(&source, "/data' is gone");
        fs::remove_file(top.join("beside/large")).unwrap();
        let flush = source.run(&["flush", "--timeout", "1s"], PROMPT);
        assert_eq!(flush.code, Some(75), "{flush:?}");
        assert_ne!(source.run(&["resume"], PROMPT).code, Some(0));
        all_there("after the unmount");
        source.process.kill();
        sink.process.kill();

        // What is missing at the start is not taken for removed, whatever the flags are.
        let said = refused(fixture, &["--cross-mounts"]).stderr;
        assert!(
            said.contains("/data' was entered before and is missing"),
            "{said}"
        );
        refused(fixture, &[]);
        mount_tmpfs(&data);
        let said = refused(fixture, &["--cross-mounts"]).stderr;
        assert!(said.contains("/data' is empty"), "{said}");
        let said = refused(fixture, &[]).stderr;
        assert!(said.contains("--cross-mounts"), "{said}");
        all_there("after restarts without the mount");

        // A file system in its place is another source: everything is compared.
        fs::write(data.join("other"), "on another file system").unwrap();
        let source = start(fixture, &["--cross-mounts"]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&top, &target);
        source.stop(sink);

        // What is excluded by now needs no mount, and stays as it is in the target.
        unmount(&data, UnmountFlags::DETACH).unwrap();
        let source = start(fixture, &["--exclude", "/data"]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert!(fs::exists(target.join("data/other")).unwrap());
        source.stop(sink);
    });
}

#[test]
fn mounts_beyond_a_number_are_refused() {
    with_mounts(Fixture::new, |fixture| {
        let top = fixture.source();
        let mount_one = |number: u32| mount_tmpfs(&top.join(number.to_string()));
        (0..1024).for_each(mount_one);
        let mut source = start(fixture, &["--cross-mounts"]);
        source.process.kill();
        mount_one(1024);
        let said = refused(fixture, &["--cross-mounts"]).stderr;
        assert!(said.contains("more than 1024 mounts"), "{said}");
        assert!(said.contains("--exclude"), "{said}");
    });
}

#[test]
fn a_mount_point_that_is_removed_deletes_nothing() {
    with_mounts(Fixture::new, |fixture| {
        let data = fixture.source().join("data");
        let (source, _sink) = replicated(fixture);
        // The kernel takes along what is mounted on it anywhere else.
        unmount(&data, UnmountFlags::DETACH).unwrap();
        fs::remove_dir(&data).unwrap();
        fs::write(&data, "a file in its place").unwrap();
        // The kernel's own word that the file system is gone may come first.
        wait_until_halted(&source, "mounted");
        source.run(&["flush", "--timeout", "1s"], PROMPT);
        assert!(fs::exists(fixture.target().join("data/dir/sub/file")).unwrap());
    });
}

#[test]
fn a_mount_point_that_is_made_again_deletes_nothing() {
    with_mounts(Fixture::new, |fixture| {
        let data = fixture.source().join("data");
        let elsewhere = fixture.path().join("elsewhere");
        fill(&elsewhere);
        fs::create_dir(&data).unwrap();
        mount_bind(&elsewhere, &data).unwrap();
        let source = start(fixture, &["--cross-mounts"]);
        let _sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        unmount(&data, UnmountFlags::empty()).unwrap();
        fs::remove_dir(&data).unwrap();
        fs::create_dir(&data).unwrap();
        mount_bind(&elsewhere, &data).unwrap();
        wait_until_halted(&source, "/data'");
        source.run(&["flush", "--timeout", "1s"], PROMPT);
        assert!(fs::exists(fixture.target().join("data/dir/sub/file")).unwrap());
    });
}

#[test]
fn a_mount_that_is_covered_by_another_halts() {
    with_mounts(Fixture::new, |fixture| {
        let (source, _sink) = replicated(fixture);
        mount_tmpfs(&fixture.source().join("data"));
        wait_until_halted(&source, "something else is now mounted at");
        assert!(fs::exists(fixture.target().join("data/dir/sub/file")).unwrap());
    });
}

#[test]
fn a_file_that_something_is_mounted_on_is_a_problem() {
    with_mounts(Fixture::new, |fixture| {
        let top = fixture.source();
        let outside = fixture.path().join("outside");
        fs::write(&outside, "nobody tells when this changes").unwrap();
        fs::write(top.join("file"), "").unwrap();
        mount_bind(&outside, top.join("file")).unwrap();
        let source = start(fixture, &["--cross-mounts"]);
        let _sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        wait_for("the problem", PROMPT, || {
            let problems = source.report(&["report", "problems"]);
            let problem = &problems["problems"][0];
            let reason = problem["reason"].as_str().unwrap_or_default();
            match problem["path"] == "file" && reason.contains("something is mounted there") {
                true => Ok(()),
                false => Err(problems.to_string()),
            }
        });
        assert_eq!(not_entered(&source)["total"], 1);
        assert_eq!(source.report(&["status"])["sinks"][0]["converged"], false);
    });
}

#[test]
fn a_directory_is_not_reached_twice() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        fill(&top.join("first"));
        fs::create_dir(top.join("again")).unwrap();
        mount_bind(top.join("first"), top.join("again")).unwrap();
        let said = refused(fixture, &["--cross-mounts"]).stderr;
        assert!(said.contains("/again' is also seen within"), "{said}");
        let more = ["--cross-mounts", "--exclude", "/again"];
        let source = start(fixture, &more);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        let excluded = ["--exclude=/again".to_owned()];
        assert_eq!(rsync_difference_with(&excluded, &top, &target), "");
        source.stop(sink);
    });
}

#[test]
fn a_push_enters_mounts_if_asked_to() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        mount_tmpfs(&top.join("data"));
        fill(&top.join("data"));
        let mut push = fixture.osync("push");
        push.arg("push").args([&top, &target]);
        push.args(["--once", "--cross-mounts"]);
        fixture.start("push", &mut push).expect_success(CONVERGENCE);
        assert_equal(&top, &target);
    });
}

#[test]
fn without_rights_a_mount_is_left_alone_and_nothing_said_of_it() {
    with_mounts(Fixture::of_nobody, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        let own = |path: &Path| {
            let mut chown = Command::new("chown");
            chown.args(["-R", "65534:65534"]).arg(path);
            fixture.start("chown", &mut chown).expect_success(PROMPT);
        };
        fill(&top.join("data"));
        fill(&top.join("beside"));
        own(&top);
        let source = start(fixture, &[]);
        let sink = Sink::start(fixture, &source.addresses);
        source.wait_for_phase("transfer");
        source.flush();
        assert_equal(&top, &target);
        mount_tmpfs(&top.join("data"));
        fill(&top.join("data/foreign"));
        own(&top.join("data"));
        wait_until("the mount in the status", PROMPT, || {
            not_entered(&source)["total"] == 1
        });
        change(&top.join("data/foreign"));
        fs::write(top.join("beside/dir/sub/file"), "other content").unwrap();
        source.expect(&["rescan", "."]);
        source.flush();
        wait_until_converged(&source);
        let said = rsync_difference_with(&["-x".to_owned()], &top, &target);
        assert_eq!(said, "");
        assert!(fs::exists(target.join("data/large")).unwrap());

        unmount(top.join("data"), UnmountFlags::empty()).unwrap();
        wait_until("no mount in the status", PROMPT, || {
            not_entered(&source)["total"] == 0
        });
        source.expect(&["rescan", "."]);
        source.flush();
        assert_eq!(source.report(&["status"])["halted"], Value::Null);
        assert_equal(&top, &target);
        source.stop(sink);
        let said = refused(fixture, &["--cross-mounts"]).stderr;
        assert!(said.contains("needs root's rights"), "{said}");
    });
}

#[test]
fn a_mount_in_the_target_is_a_problem_and_stays_as_it_is() {
    with_mounts(Fixture::new, |fixture| {
        let (top, target) = (fixture.source(), fixture.target());
        fill(&top.join("data"));
        let (wanted, excess) = (target.join("data"), target.join("old/mount"));
        for at in [&wanted, &excess] {
            mount_tmpfs(at);
            fs::write(at.join("theirs"), "of somebody else").unwrap();
        }
        let source = start(fixture, &[]);
        let sink = Sink::start_with(fixture, &target, &source.addresses, &["--adopt"]);
        source.wait_for_phase("transfer");
        wait_for("both problems", PROMPT, || {
            let report = source.report(&["report", "problems"]);
            let problems = report["problems"].as_array().unwrap();
            let is_told = |path: &str| {
                problems.iter().any(|problem| {
                    let reason = problem["reason"].as_str().unwrap();
                    problem["path"] == path && reason.contains("something is mounted there")
                })
            };
            (is_told("data") && is_told("old"))
                .then_some(())
                .ok_or(report.to_string())
        });
        // Changes below are no reason to write to what it covers either.
        change(&top.join("data"));
        let flush = source.run(&["flush", "--timeout", "60s"], CONVERGENCE);
        assert_eq!(flush.code, Some(2), "{flush:?}");
        for at in [&wanted, &excess] {
            let names: Vec<_> = fs::read_dir(at)
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            assert_eq!(names, ["theirs"], "{}", at.display());
            unmount(at, UnmountFlags::empty()).unwrap();
        }
        let told = sink.process.stderr();
        assert!(
            told.contains("/old/mount' is another file system and is not entered"),
            "{told}"
        );
        wait_until_converged(&source);
        assert_equal(&top, &target);
        source.stop(sink);
    });
}
