//! Order of looks and messages (rules 1 to 12, 29).

use osync::engine::footprint::Footprint;
use osync::fs::memory::MemoryFs;
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::tree::{Body, Entry, Kind, Metadata, RelPath, State, Time};
use osync::wire::message::{Change, Lane, Refusal};

use super::{at_every_moment, equal, make};
use crate::world::World;
use crate::world::steps::{one, path, write};

#[test]
fn pack_overtaken_by_fresh_look() {
    let mut w = equal(&[]);
    w.write("c", "1");
    w.hear();
    let held = w.look("c");
    w.rm("c");
    w.flow();
    w.tell(held);
    w.must_settle();
}

#[test]
fn event_during_read() {
    let mut w = equal(&[("x", "1")]);
    w.write("x", "2");
    w.hear();
    let held = w.look("x");
    w.write("x", "3");
    w.hear();
    w.tell(held);
    w.must_settle();
}

#[test]
fn stale_absent_above_fresh_child() {
    let mut w = equal(&[("a/b", "1")]);
    w.rm_r("a");
    w.hear();
    let held = w.look("a");
    w.mkdir("a");
    w.flow();
    w.write("a/a", "2");
    w.hear();
    assert!(!w.asked("a/a"), "nothing is read below a claim");
    w.flow();
    w.tell(held);
    w.must_settle();
}

#[test]
fn rename_behind_waiting_target() {
    let mut w = equal(&[("c", "1")]);
    w.pause();
    w.write("c", "2");
    w.write("b", "9");
    w.mv("c", "b");
    w.hear();
    w.resume();
    assert!(w.asked("b"), "the rename comes first");
    let rename = w.look("c");
    assert!(!w.asked("b"), "the look that waited is behind the rename");
    w.tell(rename);
    w.must_settle();
}

#[test]
fn late_file_rename_over_new_directory() {
    let mut w = equal(&[("a", "1")]);
    w.mv("a", "c");
    w.mv("c", "a");
    w.mkdir("c");
    w.write("c/b", "2");
    w.pause();
    w.enqueue(&["c/b"]);
    for _ in 0..4 {
        w.hear_one();
    }
    w.resume();
    while !w.asked("c/b") {
        assert!(!w.asked("a/b"), "a file's rename moves nothing below");
        let looks = ["a", "c"].into_iter().find(|at| w.asked(at));
        let held = w.look(looks.expect("a look at a or c comes before c/b"));
        w.tell(held);
    }
    w.must_settle();
}

#[test]
fn ghost_parent() {
    let mut w = equal(&[("d/f", "1")]);
    w.write("d/f", "2");
    w.hear();
    let held = w.look("d/f");
    w.mv("d", "e");
    w.flow();
    w.tell(held);
    w.must_settle();

    let applier = Applier::new(MemoryFs::default(), Brake::new(9, 1.0), None);
    let outcome = applier.apply(
        Lane::Live,
        Change::Entries {
            dir: path("d"),
            entries: vec![file("f", b"1", 0)],
        },
    );
    assert_eq!(outcome.refused, [(0, Refusal::ParentMissing)]);
    assert_eq!(applier.fs().disk().paths().len(), 1, "no parent was made");
}

fn meta(size: u64, secs: i64) -> Metadata {
    Metadata {
        kind: Kind::File,
        mode: 0o644,
        uid: 0,
        gid: 0,
        size,
        mtime: Time { secs, nanos: 0 },
        rdev: 0,
        xattrs: Vec::new(),
    }
}

fn file(name: &str, content: &'static [u8], secs: i64) -> Entry {
    let body = Body::Content(content.into());
    Entry {
        name: one(name),
        state: State::Present(meta(content.len() as u64, secs), body),
    }
}

#[test]
fn chmod_before_content() {
    let fs = MemoryFs::default();
    write(&mut fs.disk(), "x", b"secret");
    let applier = Applier::new(fs.clone(), Brake::new(9, 1.0), None);
    for wrong in [meta(6, 5), meta(8, 0)] {
        let outcome = applier.apply(
            Lane::Live,
            Change::Entries {
                dir: RelPath::root(),
                entries: vec![Entry {
                    name: one("x"),
                    state: State::Present(wrong, Body::Unchanged { links: 1 }),
                }],
            },
        );
        assert_eq!(outcome.refused, [(0, Refusal::Mismatch)]);
    }
    let (_, ino) = fs.disk().paths()[1];
    assert_eq!(fs.disk().stat(ino).expect("x is there").mode, 0o700);

    let mut w = equal(&[("x", "secret")]);
    w.chmod("x", 0o600);
    w.hear();
    w.write("x", "harmless");
    w.chmod("x", 0o644);
    let held = w.look("x");
    w.tell(held);
    w.must_settle();
}

#[test]
fn metadata_alone_behind_its_content() {
    let mut w = equal(&[("x", "secret")]);
    w.chmod("x", 0o600);
    w.hear();
    w.write_unseen("x", "public");
    w.chmod("x", 0o644);
    let held = w.look("x");
    w.tell(held);
    w.must_settle();
}

#[test]
fn listing_before_its_rename() {
    let mut w = equal(&[("a/b", "1")]);
    w.pause();
    w.rm("a/b");
    w.mv("a", "b");
    w.rescan("b");
    w.resume();
    let dir = w.look("b");
    w.tell(dir);
    let held = w.list("b");
    w.hear();
    w.tell(held);
    w.must_settle();
}

#[test]
fn tmp_rename_torn() {
    let mut w = equal(&[]);
    w.write("tmp", "half");
    w.flow();
    w.write("tmp", "half and half");
    w.mv("tmp", "final");
    w.hear();
    w.flow();
    assert_ne!(w.file_at_sink("final"), Some(b"half".to_vec()));
    w.must_settle();
}

#[test]
fn rename_above_running_read() {
    let begin = || {
        let w = equal(&[("d/small", "1")]);
        w.write("d/big", "a file in several pieces");
        w
    };
    at_every_moment(60, begin, |w| w.mv("d", "e"));
}

#[test]
fn barrier_and_stream() {
    let chunk = Footprint::of(&Change::Chunk {
        stream: 1,
        offset: 0,
        kept: 0,
        hole: 0,
        data: bytes::Bytes::from_static(b"x"),
        size: 1,
    });
    let rename = Footprint::of(&Change::Rename {
        from: path("d"),
        to: path("e"),
        kind: Kind::Dir,
        size: 0,
        mtime: Time::default(),
    });
    let publish = Footprint::of(&Change::Publish {
        stream: 1,
        path: path("d/big"),
        meta: meta(1, 0),
        hash: None,
    });
    let base = Footprint::of(&Change::Base {
        stream: 1,
        path: path("d/big"),
        offset: 0,
        bytes: 1,
        block: 1,
        size: 1,
    });
    assert!(!rename.waits_for(&chunk) && !chunk.waits_for(&rename));
    assert!(!rename.waits_for(&base) && base.waits_for(&rename));
    assert!(chunk.waits_for(&base) && base.waits_for(&chunk));
    assert!(publish.waits_for(&chunk) && publish.waits_for(&rename));
}

#[test]
fn absent_before_rename_event() {
    let mut w = equal(&[("d/x", "1"), ("d/y", "2")]);
    let before = w.inode_at_sink("d/x");
    w.mv("d", "e");
    w.enqueue(&["d/x"]);
    w.read_all();
    w.flow();
    w.must_settle();
    assert_eq!(w.inode_at_sink("e/x"), before, "renamed, not sent again");
}

#[test]
fn rename_into_walked_region() {
    let begin = || {
        let mut w = World::quiet();
        make(&w, "aa/old", "1");
        make(&w, "zz/new/f", "2");
        w.until("the sink is registered", World::sink_takes_changes);
        w
    };
    at_every_moment(300, begin, |w| {
        w.mv("zz/new", "aa/new");
        w.must_settle();
        w.write("aa/new/f", "it is watched");
    });
}

#[test]
fn a_rename_costs_no_content() {
    let mut w = equal(&[("d/a", "1"), ("d/e/b", "2"), ("f", "3")]);
    w.take_content_sent();
    w.mv("d", "g");
    w.hear();
    w.must_settle();
    w.mv("f", "g/f");
    w.hear();
    w.must_settle();
    w.mv("g/f", "g/a");
    w.hear();
    w.must_settle();
    assert_eq!(w.take_content_sent(), 0);
}

/// The sink cannot take a content that differs from the old one in neither size nor time, and before the source
/// hears of it, the file or its directory moves. The content is told under the new name (seed 31186435506534).
#[test]
fn content_refused_before_its_file_moved() {
    let lose: [fn(&mut World); 2] = [|_| {}, |w| w.cut_all()];
    for (from, to) in [("d/x", "e/moved"), ("d", "e/moved")] {
        for lose in lose {
            let mut w = equal(&[("d/x", "old"), ("e/y", "9")]);
            super::long_after(&mut w);
            w.write_unseen("d/x", "new");
            w.hear();
            w.read_all();
            w.ship();
            let held = w.take_work("d/x");
            let operation = "create".to_owned();
            let errno = libc::EIO;
            w.refuse(&held, Refusal::Problem { operation, errno });
            w.mv(from, to);
            w.hear();
            w.read_all();
            w.ship();
            w.apply_all();
            lose(&mut w);
            w.must_settle();
        }
    }
}
