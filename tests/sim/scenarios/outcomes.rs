//! Refusals, credit and limits: nothing stops others (rules 15 to 18, 36, 37).

use osync::wire::message::Refusal;

use super::{equal, long_after, make};
use crate::world::World;

fn no_access() -> Refusal {
    Refusal::Problem {
        operation: "write".to_owned(),
        errno: libc::EACCES,
    }
}

#[test]
fn brake_does_not_stall() {
    let mut w = equal(&[("d/a", "1"), ("d/b", "2"), ("d/c", "3"), ("x", "0")]);
    w.set_brake(2);
    w.rm_r("d");
    w.until("the removal is held back", |w| w.problems() == 1);
    for content in 1..60 {
        w.write("x", &format!("{content}"));
        w.until("live goes on", |w| {
            w.file_at_sink("x") == Some(format!("{content}").into_bytes())
        });
    }
    assert!(w.file_at_sink("d/a").is_some() && !w.says_converged());
    w.flush();
    w.until("the flush is answered", |w| w.flushed().is_some());
    assert_ne!(w.flushed(), Some((true, 0)), "what is held back counts");
    w.resume();
    w.must_settle();
}

#[test]
fn subtree_delete_trips_brake() {
    // One message may stand for many entries: removal, and change of kind.
    for kind_change in [false, true] {
        let mut w = equal(&[("d/a", "1"), ("d/b/c", "2"), ("d/b/d", "3")]);
        w.set_brake(4);
        w.rm_r("d");
        if kind_change {
            w.write("d", "now a file");
        }
        w.until("it is held back", |w| w.problems() == 1);
        assert_eq!(w.file_at_sink("d/b/c"), Some(b"2".to_vec()));
        w.resume();
        w.must_settle();
    }
}

#[test]
fn full_disk_delete_frees() {
    let mut w = equal(&[("old", "16 bytes of this"), ("small", "1")]);
    w.dst.disk().bytes_max = 30;
    w.write("big", "also sixteen by.");
    w.flow();
    assert_eq!(w.file_at_sink("big"), None);
    w.write("big", "ever so many bytes");
    w.hear();
    w.read_all();
    w.ship();
    assert!(!w.has_work("big"), "no content is sent to a full disk");
    w.rm("old");
    w.mv("small", "moved");
    w.flow();
    assert_eq!(w.file_at_sink("old"), None, "removals flow");
    assert!(w.file_at_sink("moved").is_some(), "renames flow");
    assert_eq!(w.file_at_sink("big"), None);
    // The disk in memory never frees content itself.
    w.dst.disk().bytes_max = usize::MAX;
    w.must_settle();
}

#[test]
fn answers_fill_queue() {
    let mut w = World::quiet_with(|faults| {
        faults.queue_entries_max = 4;
        faults.page_names = 3;
    });
    for dir in 0..6 {
        for file in 0..8 {
            make(&w, &format!("d{dir}/f{file}"), "1");
        }
    }
    let mut most = 0;
    w.until("it has converged", |w| {
        most = most.max(w.load().0);
        w.says_converged()
    });
    // Both queues, and a page for each visit of both walks.
    assert!(most <= 2 * (4 + 1) + 2 * 4 * 3, "{most} names waited");
    w.must_settle();
}

#[test]
fn slow_syncfs_bounded() {
    let mut w = World::quiet_with(|faults| faults.in_flight_entries_max = 6);
    for dir in 0..40 {
        w.mkdir(&format!("d{dir}"));
    }
    w.must_settle();
    w.wait(2_000);
    w.must_settle();
    for dir in 0..40 {
        w.write(&format!("d{dir}/f"), "1");
    }
    w.wait(30);
    w.flow();
    w.wait(30);
    w.flow();
    let (waiting, in_flight) = w.load();
    // What is being read when the limit is reached still comes.
    assert!(in_flight <= 6 + 4, "{in_flight} entries in flight");
    assert!(waiting > 0, "the rest waits");
    w.must_settle();
}

#[test]
fn live_through_full_window() {
    let mut w = World::quiet_with(|faults| faults.window_messages = 16);
    let files: Vec<String> = (0..30).map(|dir| format!("d{dir}/f")).collect();
    for at in &files {
        make(&w, at, "backlog");
    }
    w.must_settle();
    w.enqueue(&files.iter().map(String::as_str).collect::<Vec<_>>());
    // The sink takes everything and applies nothing.
    w.read_all();
    w.ship();
    assert!(w.load().0 > 0, "the window is full of backlog");
    w.write("live", "now");
    w.hear();
    assert!(w.asked("live"), "live has its own share of the credit");
    let held = w.look("live");
    w.tell(held);
    w.ship();
    w.apply_all();
    assert_eq!(w.file_at_sink("live"), Some(b"now".to_vec()));
    w.must_settle();
}

#[test]
fn problem_directory_clears() {
    let mut w = equal(&[("x", "0")]);
    w.mkdir("d");
    w.write("d/f", "1");
    w.flow_refusing("d", &no_access());
    for at in ["d/g", "d/h"] {
        w.write(at, "2");
        w.flow_refusing("d", &no_access());
    }
    assert_eq!(w.problems(), 1, "the directory stands for all below");
    assert!(!w.says_converged());
    w.must_settle();
}

#[test]
fn problem_directory_hides_a_change() {
    let mut w = equal(&[("d/f", "1")]);
    long_after(&mut w);
    w.enqueue(&["d"]);
    w.flow_refusing("d", &no_access());
    assert_eq!(w.problems(), 1);
    w.write_unseen("d/f", "2");
    w.hear();
    w.must_settle();
}

#[test]
fn problem_survives_older_message() {
    let mut w = equal(&[("x", "1")]);
    w.write("x", "2");
    w.hear();
    w.read_all();
    w.readable("x", false);
    w.write("x", "3");
    w.hear();
    w.read_all();
    assert_eq!(w.problems(), 1);
    w.ship();
    w.apply_all();
    w.answer();
    assert_eq!(w.file_at_sink("x"), Some(b"2".to_vec()));
    assert_eq!(w.problems(), 1, "what was sent before it proves nothing");
    assert!(!w.says_converged());
    w.readable("x", true);
    w.must_settle();
}

/// What a full disk refuses must not get the metadata that comes behind it: the older content there may
/// have the same size and time (seed 6463077061926).
#[test]
fn metadata_behind_content_that_a_full_disk_refuses() {
    let mut w = equal(&[("a", "old content")]);
    w.dst.disk().bytes_max = 0;
    w.write_unseen("a", "new content");
    w.until("the content is at the sink", |w| w.has_work("a"));
    w.chmod("a", 0o611);
    w.hear();
    w.flush();
    assert!(!w.asked("a"), "metadata waits for the outcome");
    w.some_steps(60);
    w.dst.disk().bytes_max = usize::MAX;
    w.must_settle();
}
