//! What a flush waits for, and what it says (rules 19 and 20). That its answer is true is judged by
//! the world: what was there when it was asked for must survive a power cut.

use super::equal;
use crate::world::World;

fn answered(w: &World) -> bool {
    w.flushed().is_some()
}

#[test]
fn hot_path_and_flush() {
    let mut w = equal(&[("x", "0")]);
    for content in ["1", "22", "333", "4444"] {
        w.write("x", content);
        w.flow();
        w.wait(1);
    }
    w.write("x", "55555");
    w.hear();
    assert!(!w.asked("x"), "a hot file is held off");
    w.flush();
    assert!(w.asked("x"), "a flush cuts the hold-off short");
    let held = w.look("x");
    w.write("x", "666666");
    w.hear();
    w.tell(held);
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((true, 0)));
    w.must_settle();
}

#[test]
fn collapse_under_flush() {
    let mut w = World::quiet_with(|faults| faults.queue_entries_max = 3);
    w.mkdir("d");
    w.must_settle();
    w.wait(2_000);
    w.must_settle();
    w.pause();
    w.write("d/a", "1");
    w.hear();
    w.flush();
    for at in ["d/b", "d/c", "d/e", "d/f", "d/g"] {
        w.write(at, "2");
    }
    w.hear();
    w.resume();
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((true, 0)));
    assert_eq!(w.file_at_sink("d/a"), Some(b"1".to_vec()));
    w.must_settle();
}

#[test]
fn flush_sees_mkdir_p() {
    let mut w = equal(&[("x", "0")]);
    w.mkdir("a");
    w.mkdir("a/b");
    w.mkdir("a/b/c");
    w.write("a/b/c/f", "deep");
    w.flush();
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((true, 0)));
    assert_eq!(w.file_at_sink("a/b/c/f"), Some(b"deep".to_vec()));
    w.must_settle();
}

#[test]
fn flush_over_overflow() {
    let mut w = equal(&[("d/x", "0"), ("e/y", "0")]);
    w.src.disk().events_max = 1;
    w.write("d/x", "11");
    w.write("e/y", "22");
    w.flush();
    w.src.disk().events_max = 100;
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((true, 0)));
    assert_eq!(w.file_at_sink("e/y"), Some(b"22".to_vec()));
    w.must_settle();
}

#[test]
fn flush_without_sink() {
    let mut w = World::quiet_with(|faults| faults.sinks_away_at_start = true);
    w.flush();
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((false, 0)), "no sink: never a success");

    let mut w = equal(&[("x", "0")]);
    w.kill_sink();
    w.flush();
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((false, 0)), "a sink is away: no success");
    w.restart_sink();
    w.must_settle();
}

#[test]
fn flush_names_problems() {
    let mut w = equal(&[("x", "0")]);
    w.readable("x", false);
    w.write("x", "1");
    w.flow();
    w.flush();
    w.until("the flush is answered", answered);
    assert!(w.flushed().is_some_and(|(_, problems)| problems == 1));
    w.readable("x", true);
    w.must_settle();
}

#[test]
fn flush_waits_for_durability() {
    let mut w = equal(&[("x", "0")]);
    w.write("x", "1");
    w.flush();
    w.flow();
    w.wait(15);
    w.flow();
    assert_eq!(w.file_at_sink("x"), Some(b"1".to_vec()));
    assert!(!answered(&w), "applied is not durable");
    w.until("the flush is answered", answered);
    assert_eq!(w.flushed(), Some((true, 0)));
}
