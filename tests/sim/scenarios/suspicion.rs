//! What is forgotten is not taken for unchanged, however long ago it happened (rule 21).

use super::equal;
use crate::world::{Side, World};

/// Something of the same size and time was written a while ago, and no sink was there to be told.
fn written_long_ago(files: &[(&str, &str)], at: &str) -> World {
    let mut w = equal(files);
    w.kill_sink();
    w.write_unseen(at, "new content");
    w.hear();
    for _ in 0..10 {
        w.wait(2_000);
    }
    w
}

/// The same, while no source was there: the next one walks through everything and distrusts what changed since.
/// The sink has run without a break and distrusts nothing.
fn walk_that_distrusts(files: &[(&str, &str)], changed: &str) -> World {
    let mut w = equal(files);
    w.kill_source();
    w.write_unseen(changed, "new content");
    for _ in 0..10 {
        w.wait(2_000);
    }
    w.restart_source();
    w
}

/// A problem that finds no room in the ledger is as old as the change that could not be told, not as the
/// failure (seed 7581385207290).
#[test]
fn problem_without_room_is_as_old_as_its_change() {
    let files = [("a", "1"), ("b", "1"), ("c", "1"), ("x", "old content")];
    let mut w = written_long_ago(&files, "x");
    for name in ["a", "b", "c", "x"] {
        w.readable(name, false);
    }
    for name in ["a", "b", "c"] {
        w.write(name, "2");
    }
    w.restart_sink();
    w.until("all fail", |w| w.problems() == 4);
    for name in ["a", "b", "c", "x"] {
        w.readable(name, true);
    }
    w.must_settle();
}

/// A walk that distrusts what changed long ago meets a directory that cannot be listed: when it can, the
/// files in it are still not trusted.
#[test]
fn problem_of_a_directory_keeps_the_suspicion_of_a_walk() {
    let mut w = written_long_ago(&[("d/x", "old content")], "d/x");
    w.kill_source();
    w.readable("d", false);
    w.restart_source();
    w.restart_sink();
    w.until("the directory fails", |w| w.problems() == 1);
    w.readable("d", true);
    w.must_settle();
}

/// What waits below a directory is dropped when the directory becomes a problem, and is as old as it was.
#[test]
fn problem_of_a_directory_is_as_old_as_what_waits_below() {
    let mut w = written_long_ago(&[("d/x", "old content")], "d/x");
    w.readable("d", false);
    w.rescan("d");
    w.readable("d/x", false);
    w.restart_sink();
    w.until("both fail", |w| w.problems() > 0);
    w.readable("d/x", true);
    w.readable("d", true);
    w.must_settle();
}

/// What could not be read moves: its content is still to be told, though the sink moves the old one and finds
/// size and time as they should be (seed 10612890285627).
#[test]
fn a_problem_that_moves() {
    for (from, to, dir) in [("x", "y", None), ("d/x", "e/x", Some(("d", "e")))] {
        let mut w = equal(&[("x", "old content"), ("d/x", "old content")]);
        w.readable(from, false);
        w.write_unseen(from, "new content");
        w.hear();
        w.read_all();
        assert_eq!(w.problems(), 1);
        super::long_after_with_problems(&mut w);
        let (old, new) = dir.unwrap_or((from, to));
        w.mv(old, new);
        w.flow();
        w.readable(to, true);
        w.must_settle();
    }
}

/// The clock was ahead when a change was made, and is set back before the source starts again: a change time
/// that is still to come is no sign of an old file.
#[test]
fn a_change_from_the_future_survives_no_restart_unseen() {
    let mut w = equal(&[("x", "old content")]);
    w.kill_source();
    w.set_clock(Side::Source, 3_600_000);
    w.write_unseen("x", "new content");
    w.set_clock(Side::Source, 10_000);
    w.restart_source();
    w.must_settle();
}

/// The clock is set back before the source starts again: no change is too old.
#[test]
fn a_change_before_a_restart_by_a_clock_set_back() {
    let mut w = equal(&[("x", "old content")]);
    w.kill_source();
    w.set_clock(Side::Source, -3_600_000);
    w.write_unseen("x", "new content");
    w.restart_source();
    w.must_settle();
}

/// What could not be read since long ago is not taken for equal by the next process (seed 28039737848511).
#[test]
fn a_problem_outlives_its_source() {
    for (unreadable, changed) in [("x", "x"), ("d", "d/x")] {
        let mut w = equal(&[("x", "old content"), ("d/x", "old content")]);
        super::long_after(&mut w);
        w.readable(unreadable, false);
        w.rescan(unreadable);
        w.write_unseen(changed, "new content");
        w.hear();
        w.until("it is a problem", |w| w.problems() == 1);
        super::long_after_with_problems(&mut w);
        w.kill_source();
        w.readable(unreadable, true);
        w.restart_source();
        w.must_settle();
    }
}

/// The clock is set back while a source runs that has taken up what an earlier one left: what changes from then
/// on is older than all that was told before (seed 33649953056236).
#[test]
fn a_change_before_a_restart_long_after_a_clock_set_back() {
    let mut w = equal(&[("x", "old content")]);
    w.kill_source();
    w.restart_source();
    w.must_settle();
    w.set_clock(Side::Source, -3_600_000);
    super::long_after(&mut w);
    w.write_unseen("x", "new content");
    w.kill_source();
    w.restart_source();
    w.must_settle();
}

/// A walk that distrusts what changed long ago has yet to come to a file, or to the directory that it is in, when
/// that moves to where the walk has been (seed 31949248079199).
#[test]
fn what_moves_behind_a_walk_that_distrusts() {
    // More directories than are walked at once, so that the last is still to come when the first are done.
    let others = ["a/1", "b/1", "c/1", "e/1", "f/1", "g/1", "h/1", "i/1"];
    let mut files = vec![("z/x", "old content"), ("z/d/x", "old content")];
    files.extend(others.map(|other| (other, "1")));
    for (from, to) in [("z/x", "a/x"), ("z/x", "x"), ("z", "a/z"), ("z/d", "d")] {
        for steps in (0..800).step_by(4) {
            let changed = match from {
                "z/d" => "z/d/x",
                _ => "z/x",
            };
            let mut w = walk_that_distrusts(&files, changed);
            w.some_steps(steps);
            w.mv(from, to);
            w.hear();
            w.must_settle();
        }
    }
}

/// A walk that distrusts what changed long ago lists a directory, and cannot look at a name there. It is looked at
/// by itself; when that tells a directory, what lies in it is not trusted either (seed 34550474861198).
#[test]
fn a_directory_that_a_walk_that_distrusts_could_not_tell() {
    for failing in 0..8 {
        let mut w = walk_that_distrusts(&[("d/x", "old content")], "d/x");
        w.until("the root is to be listed", |w| w.lists(""));
        w.fail_next_read(failing);
        let listed = w.list("");
        w.tell(listed);
        w.must_settle();
    }
}

/// A walk that distrusts what changed long ago cannot list a directory, while the metadata of a file in it is looked
/// at: that is not told alone, as the problem of the directory stands for its content (seed 34687194477515).
#[test]
fn metadata_below_a_directory_that_has_just_become_a_problem() {
    let mut w = walk_that_distrusts(&[("x", "old content")], "x");
    w.until("the root is to be listed", |w| w.lists(""));
    w.chmod("x", 0o614);
    w.hear();
    w.wait(200);
    let looked = w.look("x");
    w.readable("", false);
    let listed = w.list("");
    w.tell(listed);
    assert_eq!(w.problems(), 1);
    w.tell(looked);
    w.readable("", true);
    w.must_settle();
}

/// What happened unseen is still not trusted when something else has happened to the file since, which moves the
/// time of its last change on (seed 46519741464119).
#[test]
fn a_change_is_not_hidden_by_a_later_one_of_another_kind() {
    let mut w = equal(&[("x", "old content")]);
    w.stop_sink();
    w.write_unseen("x", "new content");
    w.read_all();
    w.hear();
    w.pause();
    w.restart_sink();
    w.until("it is registered", World::sink_takes_changes);
    for _ in 0..10 {
        w.wait(2_000);
    }
    w.ln("x", "y");
    w.rm("y");
    w.drop_events();
    w.resume();
    w.must_settle();
}

/// What a source hears while it ends, it does not take: the next one must not trust it by size and time.
#[test]
fn a_change_while_the_source_ends() {
    let mut w = equal(&[("x", "old content")]);
    w.wait(4_000);
    w.stop_source();
    w.write_unseen("x", "new content");
    // The sink does not hear yet that the service ends.
    for _ in 0..4 {
        w.wait(2_000);
        w.hear();
    }
    assert!(w.source_runs());
    w.kill_source();
    w.some_steps(200);
    w.restart_source();
    w.restart_sink();
    w.must_settle();
}
