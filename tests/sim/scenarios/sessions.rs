//! Sessions, marks and resume points (rules 8, 13, 14, 23).

use osync::wire::message::Refusal;

use super::{at_every_moment, equal, make};
use crate::world::World;

#[test]
fn rename_replayed() {
    let begin = || {
        let w = equal(&[("b", "1"), ("d/x", "2"), ("e/y", "3")]);
        w.rm_r("e");
        w.mkdir("e");
        w.mv("b", "a");
        w.write("b", "new");
        w.mv("d", "e");
        w.mkdir("d");
        w.write("d/z", "also new");
        w
    };
    at_every_moment(120, begin, |w| w.cut_all());
    let mut w = begin();
    w.flow();
    w.cut_all();
    w.must_settle();
}

#[test]
fn resume_renumbered() {
    let mut w = equal(&[("a", "1"), ("b", "1"), ("c", "1")]);
    w.write("a", "22");
    w.write("b", "33");
    w.flow();
    w.sync();
    w.answer();
    w.write("b", "444");
    w.write("c", "555");
    w.hear();
    w.read_all();
    w.cut_all();
    w.must_settle();
}

#[test]
fn late_applier_of_old_epoch() {
    let mut w = equal(&[("x", "0")]);
    w.write("x", "1");
    w.hear();
    w.read_all();
    w.ship();
    let late = w.take_work("x");
    w.cut_all();
    w.write("x", "22");
    for _ in 0..20 {
        w.flow();
        w.sync();
        w.wait(100);
    }
    assert!(!w.sink_takes_changes(), "an older change is still applied");
    assert_eq!(w.file_at_sink("x"), Some(b"0".to_vec()));
    w.apply_now(late);
    w.must_settle();
}

#[test]
fn mark_overtakes_problem() {
    let mut w = equal(&[("x", "1")]);
    w.write("x", "2");
    w.hear();
    w.read_all();
    w.ship();
    let held = w.take_work("x");
    let why = Refusal::Problem {
        operation: "write".to_owned(),
        errno: libc::EACCES,
    };
    w.refuse(&held, why);
    w.wait(30);
    w.sync();
    // The problem is lost with the connection; the mark that covers it comes with the next.
    w.cut_all();
    w.must_settle();
}

#[test]
fn target_rolled_back() {
    let mut w = equal(&[("d/x", "old")]);
    let snapshot = w.dst.disk().clone();
    w.write("d/x", "newer");
    w.write("y", "new");
    w.must_settle();
    w.kill_sink();
    *w.dst.disk() = snapshot;
    w.restart_sink();
    w.must_settle();
}

#[test]
fn state_rolled_back() {
    let mut w = equal(&[("x", "1")]);
    let old = w.sink_state();
    w.write("x", "22");
    w.must_settle();
    w.kill_sink();
    w.restore_sink_state(old);
    let snapshot = w.dst.disk().clone();
    w.write("x", "333");
    *w.dst.disk() = snapshot;
    w.restart_sink();
    w.must_settle();
}

/// A link that holds for a few steps only, and often not even until a session has begun on both sides: a walk
/// goes on where it was.
#[test]
fn a_walk_goes_on_over_a_flapping_link() {
    let mut w = World::quiet_with(|faults| faults.page_names = 4);
    for dir in 0..16 {
        make(&w, &format!("d{dir:03}/f"), "1");
    }
    let mut sessions = 0;
    while w.difference().is_some() {
        w.register();
        w.some_steps(60);
        w.cut_all();
        w.apply_all();
        // The sink says that it is ready, and is not heard; then the source agrees, and is not heard.
        for heard in [false, true] {
            w.register_unheard(heard);
            w.cut_all();
        }
        sessions += 1;
        assert!(sessions < 450, "no headway: {:?}", w.difference());
    }
    w.must_settle();
}

#[test]
fn what_a_look_has_opened_is_closed_when_its_sink_leaves() {
    let mut w = equal(&[("large", "1"), ("x", "1")]);
    w.wait(1_000);
    w.pause();
    w.write("large", "larger than what travels whole");
    w.chmod("x", 0o600);
    w.hear();
    w.resume();
    let look = w.look("large");
    // Metadata alone waits until all is heard that had happened by then.
    w.write("y", "1");
    w.tell(look);
    assert_eq!(w.streams(), 1);
    w.stop_sink();
    assert_eq!(w.streams(), 0);
}
