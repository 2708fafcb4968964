//! What a flush waits for, and what it says (rules 19 and 20). That its answer is true is judged by
//! the world: what was there when it was asked for must survive a power cut.

use osync::channel::Peer;
use osync::engine::bindings::{PathEvent, Touch};
use osync::engine::replica::{Limits, Replica};
use osync::engine::source::Action;
use osync::engine::wall::WallClock;
use osync::engine::work::{Finding, Order, Seen};
use osync::engine::{Now, Since, Stamp};
use osync::tree::{Body, Kind, Metadata, State, Time};
use osync::wire::message::Credit;

use super::equal;
use crate::world::World;
use crate::world::steps::path;

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

/// One sink of two, driven by hand: whatever it asks for is found, sent and made durable.
struct ByHand {
    replica: Replica,
    looks: usize,
    sent: u64,
}

impl ByHand {
    fn new(key: u64) -> Self {
        let mut replica = Replica::new(key, Limits::default(), WallClock::new(at(0)));
        // The first walk is of no matter here: it has a later stamp than all that is asked about.
        let credit = Credit {
            bytes: 64 << 20,
            messages: 1000,
        };
        replica.attach(at(0), stamp(1000), 1, vec![Peer(key)], credit, None);
        Self {
            replica,
            looks: 0,
            sent: 0,
        }
    }

    fn event(&mut self, ms: u64, pos: u64) {
        let event = PathEvent::Touched {
            path: path("x"),
            touch: Touch::Content,
            is_dir: false,
        };
        self.replica
            .event(at(ms), stamp(pos), &event, &mut Vec::new());
    }

    fn serve(&mut self, ms: u64) {
        let mut out = Vec::new();
        self.replica.dispatch(at(ms), false, &mut out);
        while let Some(action) = out.pop() {
            match action {
                Action::Read { ticket, order, .. } => {
                    let finding = match order {
                        Order::Look { names, .. } => {
                            self.looks += 1;
                            let seen = names.iter().map(|_| Seen::Is {
                                state: State::Present(meta(), Body::Empty),
                                while_open: false,
                                links: None,
                            });
                            Finding::Looked(seen.collect())
                        }
                        Order::LookDir { .. } => Finding::Dir(meta()),
                        _ => continue,
                    };
                    self.replica.found(at(ms), ticket, finding, &mut out);
                }
                Action::SendData { .. } => self.sent += 1,
                _ => {}
            }
        }
        let (done, credit) = (self.sent, Credit::default());
        let sane = self
            .replica
            .acknowledged(at(ms), Vec::new(), done, done, credit);
        assert!(sane, "a mark of what was sent");
    }
}

fn at(ms: u64) -> Now {
    Now {
        ms,
        ..Now::default()
    }
}

fn stamp(pos: u64) -> Stamp {
    Stamp {
        pos,
        since_ms: 0,
        made: Since::Ms(0),
    }
}

fn meta() -> Metadata {
    Metadata {
        kind: Kind::Fifo,
        mode: 0o600,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Time::default(),
        rdev: 0,
        xattrs: Vec::new(),
    }
}

#[test]
fn hot_path_slow_sink() {
    let (mut fast, mut slow) = (ByHand::new(1), ByHand::new(2));
    for pos in 5..50 {
        let ms = pos * 100;
        fast.event(ms, pos);
        slow.event(ms, pos);
        fast.serve(ms);
        fast.serve(ms + 20);
        assert!(!slow.replica.reached(6), "its place is the earliest");
    }
    assert!(fast.replica.reached(6), "a slow sink holds up no other");
    slow.serve(60_000);
    slow.serve(60_020);
    assert!(slow.replica.reached(50), "one look tells all");
    assert_eq!(slow.looks, 1);
    assert!(fast.looks < 45, "a hot file is held off");
}

/// A problem that goes while a flush waits leaves nothing behind that the flush does not wait for: not
/// the other names of its inode, nor itself (seed 6709082106296).
#[test]
fn a_flush_while_a_problem_goes() {
    let mut w = equal(&[("a", "1"), ("d/x", "2")]);
    w.ln("a", "d/b");
    w.must_settle();
    w.come_by("a");
    w.readable("a", false);
    w.write("a", "22");
    w.until("it is a problem", |w| w.problems() > 0);
    w.write("d/x", "33");
    w.until("a reader is asked", |w| w.asked("d/x"));
    let held = w.look("d/x");
    w.flush();
    w.readable("a", true);
    w.until("it is none", |w| w.problems() == 0);
    w.tell(held);
    w.until("the flush is answered", answered);
    w.must_settle();
}

/// A source that ends takes no changes any more, and promises nothing of them (seed 50116611337786).
#[test]
fn a_flush_while_the_source_ends() {
    let mut w = equal(&[("a", "1")]);
    w.stop_source();
    w.flush();
    assert_eq!(w.flushed(), Some((true, 0)), "nothing has changed");
    w.write("a", "22");
    w.hear();
    assert!(!w.says_converged());
    w.flush();
    assert_eq!(w.flushed(), Some((false, 0)));
}
