//! Listings and walks (rules 4b, 4c), and what found its way into them.

use osync::fs::memory::MemoryFs;
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::tree::{NameRange, RelPath};
use osync::wire::message::{Answer, Change, Lane, Page};

use super::{equal, make};
use crate::world::World;
use crate::world::steps::{Held, mkdir, one, path, write};

#[test]
fn listing_overtakes_read() {
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            for disk in [&mut *src, dst] {
                mkdir(disk, "b");
                mkdir(disk, "b/a");
            }
            write(src, "b/a/a", b"4");
        },
    );
    w.register();
    w.enqueue(&["b/a/a"]);
    let held = w.look("b/a/a");
    // Nobody watches b/a yet, so nobody tells.
    w.rm("b/a/a");
    assert_eq!(w.src.disk().events_waiting(), 0);
    for _ in 0..10 {
        w.flow();
        w.wait(20);
    }
    w.tell(held);
    w.must_settle();
}

#[test]
fn out_and_back_unwatched() {
    let mut w = equal(&[("b/x", "1"), ("b/y", "1")]);
    w.pause();
    w.mkdir("new");
    w.mv("b", "new/c");
    w.write("new/c/x", "22");
    w.enqueue(&["b/x", "b"]);
    w.resume();
    w.read_all();
    w.mv("new/c", "b");
    w.rm("b/y");
    w.must_settle();
}

#[test]
fn page_whose_last_name_vanishes() {
    for step in 0..12 {
        let mut w = World::prepared(
            |faults| faults.page_names = 2,
            |src, _| {
                for at in ["a", "b", "c", "d", "e"] {
                    write(src, at, b"1");
                }
            },
        );
        w.until("the sink is registered", World::sink_takes_changes);
        let own = w.look("");
        w.tell(own);
        let root = w.src.disk().root();
        w.between_steps(step, move |disk, _| {
            disk.unlink(root, &one("b")).expect("it is there");
        });
        let held = w.list("");
        w.tell(held);
        w.must_settle();
    }
}

/// What a look reads in a directory that moves meanwhile need never have been at the old path
/// (seed 39271659179930).
#[test]
fn a_directory_that_moves_while_it_is_looked_at() {
    for step in 0..12 {
        let mut w = equal(&[("b/x", "1")]);
        w.write("b/x", "22");
        w.hear();
        let root = w.src.disk().root();
        w.between_steps(step, move |disk, users| {
            disk.rename(root, &one("b"), root, &one("a"))
                .expect("it is there");
            users.record(disk);
            users.moved(&path("b"), &path("a"));
            write(disk, "a/x", b"333");
        });
        let held = w.look("b/x");
        w.tell(held);
        w.must_settle();
    }
}

/// Names come and go in a directory that was compared and is not watched yet: only its own time tells
/// (seed 34229740069633).
#[test]
fn names_that_come_and_go_before_a_directory_is_watched() {
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            for disk in [src, dst] {
                mkdir(disk, "d");
                write(disk, "d/file", b"1");
            }
        },
    );
    w.register();
    w.until("the root is listed", |w| w.lists(""));
    let page = w.list("");
    w.tell(page);
    assert!(!w.lists("d"));
    w.write("d/new", "1");
    w.rm("d/new");
    assert_eq!(w.src.disk().events_waiting(), 0);
    w.must_settle();
}

#[test]
fn queue_head_behind_its_directory() {
    let mut w = equal(&[("x", "0")]);
    w.pause();
    w.mkdir("d");
    let names: Vec<String> = (0..100).map(|n| format!("d/f{n:03}")).collect();
    for at in &names {
        w.write(at, "1");
    }
    let below: Vec<&str> = names.iter().map(String::as_str).collect();
    w.enqueue(&below);
    w.enqueue(&["d"]);
    assert_eq!(w.dst.disk().find(&path("d")).ok(), None);
    w.resume();
    w.until("everything was handed out", |w| {
        names.iter().all(|at| w.file_at_sink(at).is_some())
    });
    w.must_settle();
}

/// An audit finds what no event has told, repairs it and counts it, and counts nothing else.
#[test]
fn audits_find_what_nobody_told() {
    let mut w = World::quiet_with(|faults| faults.audit_ms = 2_000);
    for (at, content) in [("a/x", "1"), ("a/b/y", "2"), ("a/b/z", "3"), ("c/d/e", "4")] {
        make(&w, at, content);
    }
    w.must_settle();
    let (before, found) = w.audited();
    assert_eq!(found, 0);
    w.until("two audits", |w| w.audited().0 >= before + 2);
    assert_eq!(w.audited().1, 0, "all was told");

    w.write("a/b/y", "22");
    w.rm("a/x");
    w.mkdir("c/new");
    w.write("c/new/f", "5");
    w.drop_events();
    let at_sink = |w: &World, at: &str| w.file_at_sink(at);
    w.until("all of it is repaired", |w| {
        at_sink(w, "a/b/y").as_deref() == Some(b"22")
            && at_sink(w, "a/x").is_none()
            && at_sink(w, "c/new/f").is_some()
    });
    w.must_settle();
    // The three names, and the directories whose times changed with them.
    let (_, found) = w.audited();
    assert!((3..=5).contains(&found), "{found}");
    // What events tell is not counted.
    w.write("a/b/y", "333");
    w.must_settle();
    let before = w.audited().0;
    w.until("two more audits", |w| w.audited().0 >= before + 2);
    assert_eq!(w.audited().1, found);
}

/// An audit meets the names of an inode one by one; it sends none of them for that (seed 13581056565872).
#[test]
fn audits_leave_linked_names_alone() {
    let mut w = World::quiet_with(|faults| {
        faults.audit_ms = 2_000;
        faults.links_max = 2;
    });
    for name in ["a", "d/b"] {
        make(&w, name, "content");
        for further in ["1", "2", "3"] {
            w.ln(name, &format!("{name}{further}"));
        }
    }
    w.must_settle();
    w.take_content_sent();
    let before = w.audited().0;
    w.until("two audits", |w| w.audited().0 >= before + 2);
    assert_eq!((w.take_content_sent(), w.audited().1), (0, 0));
}

/// A name of the target that cannot be looked at is in excess as well, and stands in its place: names in an
/// answer are sorted (seed 16922431934645).
#[test]
fn an_answer_is_sorted_whatever_fails() {
    for failing in 0..20 {
        let fs = MemoryFs::default();
        for name in ["a", "b", "c"] {
            write(&mut fs.disk(), name, b"1");
        }
        let applier = Applier::new(fs.clone(), Brake::new(9, 1.0), None);
        let mut calls = 0;
        fs.set_trouble(Some(Box::new(move |_| {
            calls += 1;
            (calls - 1 == failing).then_some(libc::EIO)
        })));
        let change = Change::Listing {
            dir: RelPath::root(),
            range: NameRange {
                after: None,
                upto: None,
            },
            page: Page::Entries(Vec::new()),
        };
        let outcome = applier.apply(Lane::Live, change);
        match outcome.answer {
            Some(Answer::Names { excess, .. }) => {
                let all = ["a", "b", "c"].map(one);
                assert_eq!(excess, all, "call {failing} failed");
            }
            other => assert_eq!(other, Some(Answer::Failed(libc::EIO)), "{failing}"),
        }
    }
}

/// A listing cannot tell what a name is; it is looked at, which the end of the session interrupts. That it is a
/// directory, with all that is to be compared below it, is not forgotten (seed 24859548156090).
#[test]
fn a_directory_that_a_listing_could_not_tell() {
    let mut was_asked = false;
    for failing in 0..8 {
        let mut w = equal(&[("d/f", "1")]);
        w.write("d/f", "22");
        w.drop_events();
        let listed = list_root(&mut w, |w| w.fail_next_read(failing));
        w.tell(listed);
        w.ship();
        w.apply_all();
        w.answer();
        if w.asked("d") {
            was_asked = true;
            let late = w.look("d");
            w.cut_all();
            w.tell(late);
        }
        w.must_settle();
    }
    assert!(was_asked, "no listing failed at the name");
}

/// A reader lists the root for a rescan.
fn list_root(w: &mut World, before: impl FnOnce(&mut World)) -> Held {
    w.rescan("");
    let looked = w.look("");
    w.tell(looked);
    before(w);
    w.list("")
}

/// Names come and go in a new directory before it is watched, which changes its time alone
/// (seed 24860866980382).
#[test]
fn an_empty_directory_changes_before_it_is_watched() {
    let mut w = equal(&[("a", "1")]);
    w.mkdir("b");
    w.drop_events();
    let listed = list_root(&mut w, |_| ());
    w.tell(listed);
    w.ship();
    w.apply_all();
    w.answer();
    let looked = w.look("b");
    w.mkdir("b/x");
    w.rm_r("b/x");
    w.tell(looked);
    w.must_settle();
}

/// Who reads the metadata of a directory is in nobody's way below it: else what lies there would wait in the queue,
/// to be compared with all below, which the walk under way tells anyhow.
#[test]
fn a_deep_tree_is_told_once() {
    const CHAINS: usize = 8;
    const DEPTH: usize = 25;
    let mut w = World::prepared(
        |_| {},
        |src, _| {
            for chain in 0..CHAINS {
                let mut at = format!("c{chain}");
                mkdir(src, &at);
                for _ in 0..DEPTH {
                    at += "/d";
                    mkdir(src, &at);
                    write(src, &format!("{at}/f"), b"1");
                }
            }
        },
    );
    w.until("it is equal", World::says_converged);
    // One message for the entries of each directory and one for its times.
    let least = 2 * CHAINS * (DEPTH + 1);
    let sent = w.sent() as usize;
    assert!(
        sent < least + least / 10,
        "{sent} messages, of which {least} were needed"
    );
}

/// Two looks of one page had no room for all of their names, and end in any order: what is left is told in the
/// order of names, as a message must be.
#[test]
fn looks_of_a_page_without_room() {
    for in_order in [true, false] {
        let mut w = World::prepared(
            |faults| faults.look_names = 3,
            |src, _| {
                for name in ["a", "b", "c", "d", "e", "f"] {
                    write(src, name, b"1");
                }
            },
        );
        w.until("both are asked for", |w| w.asked("a") && w.asked("d"));
        let mut looks = vec![w.look("a"), w.look("d")];
        if !in_order {
            looks.reverse();
        }
        w.pause();
        for look in looks {
            w.tell_first(look, 1);
        }
        w.resume();
        w.must_settle();
    }
}

/// Looks of a directory that the sink lacks end in another order than they began, and there is room for one
/// directory only: none is passed over (seed 55343967812344).
#[test]
fn directories_that_are_seen_in_another_order() {
    let mut w = World::prepared(
        |faults| {
            faults.look_names = 1;
            faults.remembered.walk_dirs_max = 1;
        },
        |src, _| {
            for name in ["a", "a/b", "a/c"] {
                mkdir(src, name);
            }
            write(src, "a/b/x", b"1");
        },
    );
    w.until("both are asked for", |w| w.asked("a/b") && w.asked("a/c"));
    let (first, second) = (w.look("a/b"), w.look("a/c"));
    w.tell(second);
    w.tell(first);
    w.must_settle();
}
