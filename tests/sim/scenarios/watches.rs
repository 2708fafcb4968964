//! Which watch means which directory (rule 31).

use super::{equal, make};
use crate::world::World;

#[test]
fn moved_to_lost_in_overflow() {
    for events_max in [1, 2] {
        let mut w = equal(&[("d/x", "1"), ("y", "1")]);
        w.src.disk().events_max = events_max;
        w.write("y", "2");
        w.mv("d", "e");
        w.src.disk().events_max = 100;
        w.write("e/x", "22");
        w.hear();
        w.must_settle();
        w.write("e/x", "333");
        w.must_settle();
    }
}

#[test]
fn bind_before_old_rename() {
    let mut w = equal(&[("d/x", "1")]);
    w.mv("d", "e");
    w.rescan("e");
    w.mv("e", "g");
    w.mkdir("d");
    w.rescan("d");
    w.flow();
    w.must_settle();
    w.write("g/x", "22");
    w.write("d/x", "new");
    w.must_settle();
}

#[test]
fn late_watch_owes_a_rescan() {
    let mut w = World::quiet_with(|faults| faults.watches_max = 1);
    make(&w, "d/x", "1");
    w.until("d is at the sink", |w| w.file_at_sink("d/x").is_some());
    w.flow();
    w.write("d/x", "22");
    w.src.disk().watches_max = usize::MAX;
    w.bind("d");
    assert!(!w.says_converged(), "nobody told what changed before");
    w.must_settle();
}

/// What changes in a directory without a watch is told by nobody: what stands for it trusts neither size
/// nor time (rule 21).
#[test]
fn unwatched_directory_same_size_same_mtime() {
    let mut w = World::quiet_with(|faults| faults.watches_max = 1);
    make(&w, "d/x", "old!");
    w.until("d is at the sink", |w| w.file_at_sink("d/x").is_some());
    w.flow();
    // In steps, so that no heartbeat is missed.
    let pass = |w: &mut World, seconds: u64| {
        for _ in 0..seconds / 4 {
            w.wait(4_000);
            w.flow();
            w.sync();
        }
    };
    for (content, late) in [("new!", 4), ("more", 40), ("last", 100)] {
        pass(&mut w, late);
        w.write_unseen("d/x", content);
        pass(&mut w, 36);
        assert_eq!(w.file_at_sink("d/x").as_deref(), Some(content.as_bytes()));
    }
    w.write_unseen("d/x", "then");
    w.src.disk().watches_max = usize::MAX;
    w.bind("d");
    w.must_settle();
}

/// Nobody has told what changed in a directory without a watch since the walk before: the source's next
/// process trusts it no more than this one would have (seed 50381701306698).
#[test]
fn unwatched_change_before_a_restart() {
    let mut w = World::quiet_with(|faults| faults.watches_max = 1);
    make(&w, "d/x", "old!");
    w.until("d is at the sink", |w| w.file_at_sink("d/x").is_some());
    w.flow();
    w.write_unseen("d/x", "new!");
    for _ in 0..3 {
        w.wait(4_000);
        w.flow();
        w.sync();
    }
    w.kill_source();
    w.src.disk().watches_max = usize::MAX;
    w.restart_source();
    w.must_settle();
}
