//! Entries with several names (rule 27).

use osync::wire::message::Refusal;

use super::{at_every_moment, equal, make};
use crate::world::World;
use crate::world::steps::{ln, mkdir, path, same_inode, write};

#[test]
fn hardlink_write_one_name() {
    let mut w = equal(&[("a/h", "1"), ("b/x", "9")]);
    w.ln("a/h", "b/h");
    w.must_settle();
    w.write("a/h", "22");
    w.must_settle();
    assert!(same_inode(&w.dst.disk(), "a/h", "b/h"));
    w.write("b/h", "333");
    w.must_settle();
    assert!(same_inode(&w.dst.disk(), "a/h", "b/h"));
}

#[test]
fn a_further_name_costs_no_content() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.take_content_sent();
    w.ln("a", "c");
    w.ln("b", "d");
    w.must_settle();
    assert_eq!(w.take_content_sent(), 0);
}

#[test]
fn a_group_is_broken_and_made_again() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.rm("b");
    w.write("b", "1");
    w.must_settle();
    assert!(!same_inode(&w.dst.disk(), "a", "b"));
    w.rm("b");
    w.ln("a", "b");
    w.must_settle();
    assert!(same_inode(&w.dst.disk(), "a", "b"));
}

#[test]
fn the_oldest_names_go_first() {
    let mut w = equal(&[("old/a", "1"), ("new/x", "9")]);
    for name in ["new/a", "new/b"] {
        w.ln("old/a", name);
        w.must_settle();
    }
    w.rm_r("old");
    w.must_settle();
    w.take_content_sent();
    w.ln("new/b", "new/c");
    w.must_settle();
    assert_eq!(
        w.take_content_sent(),
        0,
        "another name stands for the one that went"
    );
}

#[test]
fn metadata_of_a_whole_group_costs_no_content() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.take_content_sent();
    w.chmod("b", 0o640);
    w.must_settle();
    assert_eq!(w.take_content_sent(), 0);
    assert!(same_inode(&w.dst.disk(), "a", "b"));
}

#[test]
fn other_metadata_on_the_sink_is_not_shared_by_accident() {
    // The sink has one inode where the source has two files that look the same.
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            for disk in [&mut *src, &mut *dst] {
                write(disk, "a", b"1");
            }
            write(src, "b", b"1");
            ln(dst, "a", "b");
        },
    );
    w.must_settle();
    assert!(!same_inode(&w.dst.disk(), "a", "b"));
}

#[test]
fn groups_that_the_sink_has_as_one_are_parted() {
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            for name in ["a", "b"] {
                write(src, name, b"1");
            }
            ln(src, "a", "c");
            ln(src, "b", "d");
            write(dst, "a", b"1");
            for name in ["b", "c", "d"] {
                ln(dst, "a", name);
            }
        },
    );
    w.must_settle();
    let disk = w.dst.disk();
    assert!(same_inode(&disk, "a", "c") && same_inode(&disk, "b", "d"));
    assert!(!same_inode(&disk, "a", "b"));
}

#[test]
fn all_files_linked() {
    // Six inodes with five names each, and memory for four names.
    let mut w = World::prepared(
        |faults| faults.links_max = 4,
        |src, _| {
            for dir in 0..5 {
                mkdir(src, &dir.to_string());
                for file in 0..6 {
                    let at = format!("{dir}/{file}");
                    match dir {
                        0 => write(src, &at, &[file + 1; 8]),
                        _ => ln(src, &format!("0/{file}"), &at),
                    }
                }
            }
        },
    );
    w.must_settle();
    assert!(
        w.take_content_sent() < 2 * 6 * 8,
        "most contents travel once, not once for each of five names"
    );
    w.write("3/2", "new content");
    w.must_settle();
}

#[test]
fn a_name_outside_the_root_is_not_searched_for_again() {
    let mut w = equal(&[("a", "1"), ("d/x", "1")]);
    w.user_does("a", |disk| {
        let ino = disk.find(&path("a")).expect("it is there");
        disk.link_outside(ino).expect("a file");
    });
    w.write("a", "2");
    w.must_settle();
    assert!(w.take_searched() > 0);
    w.write("a", "3");
    w.must_settle();
    assert_eq!(
        w.take_searched(),
        0,
        "what a search has not found lies outside"
    );
}

#[test]
fn names_of_another_process_are_found() {
    // The source does not remember files with one name: that of the new name's inode is searched for.
    let mut w = equal(&[("d/e/a", "1"), ("b", "2")]);
    make(&w, "x", "1");
    w.ln("d/e/a", "b2");
    w.must_settle();
    assert!(same_inode(&w.dst.disk(), "d/e/a", "b2"));
}

#[test]
fn a_change_is_seen_under_another_name_when_its_own_goes() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.come_by("b");
    w.write("b", "new");
    w.chmod("b", 0o611);
    w.rm("b");
    w.must_settle();
    w.ln("a", "c");
    w.must_settle();
    w.come_by("a");
    w.chmod("a", 0o622);
    w.rm("a");
    w.must_settle();
}

#[test]
fn a_change_is_seen_under_another_name_when_its_directory_goes() {
    let leave: [fn(&mut World); 3] = [
        |w| w.rm_r("d"),
        |w| {
            w.rm_r("d");
            w.write("d", "a file");
        },
        |w| {
            w.rm_r("d");
            w.mv("e", "d");
        },
    ];
    for leave in leave {
        let mut w = equal(&[("a", "1"), ("d/x/y", "9"), ("e/y", "8")]);
        w.ln("a", "d/x/b");
        w.must_settle();
        w.pause();
        w.come_by("d/x/b");
        w.write("d/x/b", "new");
        leave(&mut w);
        w.hear();
        w.resume();
        w.must_settle();
    }
}

#[test]
fn a_change_is_seen_under_another_name_when_its_own_is_taken() {
    let mut w = equal(&[("a", "1"), ("c", "9")]);
    w.ln("a", "b");
    w.must_settle();
    w.pause();
    w.come_by("b");
    w.write("b", "new");
    w.mv("c", "b");
    w.hear();
    w.resume();
    w.must_settle();
}

/// What was written through a name that nobody knows, or hears of, must not get the metadata that is told
/// by another name (seed 6073559925344).
#[test]
fn metadata_by_one_name_on_content_by_an_unheard_one() {
    for is_known in [true, false] {
        let mut w = World::quiet_with(|faults| faults.watches_max = 1);
        make(&w, "a", "1");
        w.mkdir("d");
        if is_known {
            w.ln("a", "d/b");
        }
        w.until("all is at the sink", |w| {
            w.file_at_sink("a").is_some() && (!is_known || w.file_at_sink("d/b").is_some())
        });
        w.flow();
        w.wait(4_000);
        if !is_known {
            w.ln("a", "d/b");
        }
        w.come_by("d/b");
        w.write_unseen("d/b", "2");
        w.come_by("a");
        w.chmod("a", 0o611);
        // At every step, each name must hold what it once was.
        w.until("it is told", |w| {
            w.file_at_sink("a").as_deref() == Some(b"2")
        });
    }
}

#[test]
fn metadata_by_one_name_on_content_by_another() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.pause();
    w.come_by("b");
    w.write_unseen("b", "2");
    w.come_by("a");
    w.chmod("a", 0o611);
    w.hear();
    w.resume();
    w.must_settle();
}

/// What is on its way under one name must not get the metadata that is told by another before it is there, be it
/// streamed or read (seed 73992526342959).
#[test]
fn metadata_by_one_name_on_content_that_another_is_about_to_tell() {
    for (old, new) in [("1", "2"), ("aaaabbbbcccc", "aaaabbbbCCCC")] {
        let begin = || {
            let mut w = equal(&[("a", old)]);
            w.ln("a", "b");
            w.must_settle();
            w.come_by("a");
            w.write_unseen("a", new);
            w
        };
        // At every step, each name must hold what it once was.
        at_every_moment(60, begin, |w| {
            w.come_by("b");
            w.chmod("b", 0o611);
        });
    }
}

/// The same if one look sees both.
#[test]
fn metadata_by_one_name_on_content_that_the_same_look_tells_by_another() {
    for (first, second) in [("a", "b"), ("b", "a")] {
        let mut w = equal(&[("a", "1")]);
        w.ln("a", "b");
        w.must_settle();
        w.pause();
        w.come_by(first);
        w.write_unseen(first, "2");
        w.come_by(second);
        w.chmod(second, 0o611);
        w.hear();
        w.resume();
        w.must_settle();
    }
}

#[test]
fn a_restart_sends_no_content_of_whole_groups() {
    let mut w = equal(&[("a", "1"), ("d/x", "2")]);
    w.ln("a", "d/b");
    w.ln("a", "c");
    w.must_settle();
    w.wait(60_000);
    w.kill_source();
    w.restart_source();
    w.take_content_sent();
    w.must_settle();
    assert_eq!(w.take_content_sent(), 0);
}

#[test]
fn content_that_changed_while_it_could_not_be_read() {
    for name in ["a", "b"] {
        let mut w = equal(&[("a", "1")]);
        w.ln("a", "b");
        w.must_settle();
        w.come_by(name);
        w.readable(name, false);
        w.write_unseen(name, "2");
        w.hear();
        w.read_all();
        assert_eq!(w.problems(), 1);
        w.come_by(name);
        w.readable(name, true);
        w.hear();
        w.read_all();
        w.until("it is none", |w| w.problems() == 0);
        w.must_settle();
    }
}

#[test]
fn a_further_name_of_what_could_not_be_read() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    w.come_by("a");
    w.readable("a", false);
    w.write_unseen("a", "2");
    w.hear();
    w.read_all();
    assert_eq!(w.problems(), 1);
    w.ln("a", "c");
    w.until("c is a problem, too", |w| w.problems() == 2);
    assert_eq!(w.file_at_sink("c"), None, "it never had the old content");
    w.readable("a", true);
    w.must_settle();
}

/// While the other name waits to be looked at, a search meets an inode with a single name. That says nothing
/// of the name that it gets afterwards, though it has as many as before then (seed 8130107575820).
#[test]
fn a_search_that_met_a_single_name() {
    for moment in 0..60 {
        let mut w = equal(&[("a", "1")]);
        w.ln("a", "b");
        w.must_settle();
        for content in ["2", "3", "4"] {
            w.write("b", content);
            w.must_settle();
        }
        w.write("a", "long enough to be a stream");
        w.hear();
        w.rm("b");
        w.some_steps(5 * moment);
        w.ln("a", "b");
        w.must_settle();
    }
}

/// A search for other names cannot list a directory: they are found when it can be listed (seed
/// 10511806533889).
#[test]
fn a_search_that_cannot_list_a_directory() {
    let mut w = equal(&[("a/b", "1"), ("b/x", "2")]);
    w.readable("a", false);
    w.ln("a/b", "b/a");
    w.until("it has searched", |w| w.problems() > 0);
    w.readable("a", true);
    w.must_settle();
    assert!(same_inode(&w.dst.disk(), "a/b", "b/a"));
}

/// A target without hard links: a new name is changed, keeping size and time, and gone when it is looked at,
/// since it was renamed; under the new name nobody knows of the change, which is to be told to the other
/// names all the same (seed 13783206432333).
#[test]
fn a_change_under_a_name_that_moves_before_it_is_known() {
    let mut w = World::quiet_with(|faults| faults.names_apart = true);
    w.write("a", "old content");
    w.ln("a", "b");
    w.must_settle();
    super::long_after(&mut w);
    w.ln("a", "new");
    w.come_by("new");
    w.write_unseen("new", "new content");
    w.hear();
    w.mv("new", "moved");
    w.read_all();
    w.must_settle();
}

/// A further name is changed and gone before the other name of its inode was searched for: the change is to be
/// told by that one, which nobody has named (seed 28025093599359); the more so if it was told under the name
/// that goes (seed 39672602468631).
#[test]
fn a_change_under_a_name_that_goes_before_the_other_is_known() {
    for is_told in [false, true] {
        let mut w = equal(&[("c", "old")]);
        super::long_after(&mut w);
        w.ln("c", "a");
        if !is_told {
            w.hear();
            w.read_all();
            w.hear();
        }
        w.write("a", "new");
        w.hear();
        if is_told {
            let new = Some(b"new".to_vec());
            w.until("it is told", |w| w.file_at_sink("a") == new);
        }
        w.rm("a");
        w.must_settle();
    }
}

/// A directory has a problem, so that what is told below it is dropped. A name there goes: what happened to its
/// inode is seen by another one.
#[test]
fn a_change_below_a_directory_with_a_problem() {
    let then: [fn(&mut World); 3] = [
        |w| w.rm("d/b"),
        |w| w.mv("d/b", "moved"),
        |w| w.mv("other", "d/b"),
    ];
    for then in then {
        let mut w = equal(&[("a", "old"), ("d/x", "9"), ("other", "8")]);
        w.ln("a", "d/b");
        w.must_settle();
        super::long_after(&mut w);
        w.readable("d", false);
        w.rescan("d");
        w.until("it is a problem", |w| w.problems() > 0);
        w.come_by("d/b");
        w.write_unseen("d/b", "new");
        w.hear();
        w.read_all();
        w.wait(6_000);
        then(&mut w);
        w.flow();
        w.wait(6_000);
        w.readable("d", true);
        w.must_settle();
    }
}

/// What happened to an inode is told under one name. A look at it fails, or the sink refuses it, or it is lost
/// on the way: it is told by that name later, or by another if that goes; where the target holds the names
/// apart, to all of them (seed 24526251967125).
#[test]
fn a_change_told_under_one_name_survives_any_trouble() {
    let happen: [fn(&World); 2] = [|w| w.chmod("b", 0o611), |w| w.write_unseen("b", "new")];
    let trouble: [fn(&mut World); 4] = [
        |w| fail_to_look(w, 0),
        |w| fail_to_look(w, 1),
        refuse_until_later,
        |w| {
            w.hear();
            w.read_all();
            w.cut_all();
            w.stall(8_000);
            w.wait(6_000);
        },
    ];
    let then: [fn(&mut World); 5] = [
        |_| {},
        |w| w.enqueue(&["b"]),
        |w| w.rm("b"),
        |w| w.mv("b", "d/moved"),
        |w| w.mv("other", "b"),
    ];
    let all_troubles = || {
        trouble
            .into_iter()
            .flat_map(|trouble| then.map(|then| (trouble, then)))
    };
    for (apart, happen) in [false, true]
        .into_iter()
        .flat_map(|apart| happen.map(|it| (apart, it)))
    {
        for (trouble, then) in all_troubles() {
            let mut w = World::quiet_with(|faults| faults.names_apart = apart);
            w.write("a", "old");
            w.ln("a", "b");
            w.mkdir("d");
            w.write("other", "9");
            w.must_settle();
            super::long_after(&mut w);
            w.come_by("b");
            happen(&w);
            trouble(&mut w);
            then(&mut w);
            w.hear();
            w.resume();
            w.must_settle();
        }
    }
}

/// The next look fails with this system call.
fn fail_to_look(w: &mut World, call: usize) {
    w.fail_next_read(call);
    w.hear();
    w.read_all();
    assert_eq!(w.problems(), 1);
}

/// The sink cannot do what it is told of "b". For so long nothing more is told that a count of names is not
/// young any more.
fn refuse_until_later(w: &mut World) {
    w.hear();
    w.read_all();
    w.ship();
    let held = w.take_work("b");
    let operation = "set metadata".to_owned();
    let errno = libc::EIO;
    w.refuse(&held, Refusal::Problem { operation, errno });
    w.pause();
    w.answer();
    w.wait(6_000);
}

/// A target without hard links: the sink cannot take the content that was written through one name. Later it is
/// told to both (seed 27892234292283).
#[test]
fn content_refused_under_one_name_is_told_to_all() {
    let mut w = World::quiet_with(|faults| faults.names_apart = true);
    w.write("a", &"old piece ".repeat(20));
    w.ln("a", "b");
    w.must_settle();
    super::long_after(&mut w);
    w.come_by("b");
    w.write_unseen("b", &"new piece ".repeat(20));
    w.close_target(500, libc::EIO, false);
    w.until("a piece is a problem", |w| w.problems() > 0);
    w.must_settle();
}

/// A search for other names cannot look at one of them: it is looked at again, and not taken for one outside
/// (seed 28694024323000).
#[test]
fn a_search_that_cannot_look_at_a_name() {
    for call in 0..8 {
        let mut w = equal(&[("b", "1"), ("a/x", "2")]);
        super::long_after(&mut w);
        w.ln("b", "a/a");
        w.until("it searches", |w| w.searches(""));
        w.fail_next_read(call);
        let listed = w.list("");
        w.tell(listed);
        w.must_settle();
        assert!(same_inode(&w.dst.disk(), "a/a", "b"), "call {call}");
    }
}

/// Two names of old content.
fn two_old_names() -> World {
    let mut w = equal(&[("d/b", "old content"), ("d/y", "1")]);
    w.ln("d/b", "d/c");
    w.must_settle();
    super::long_after(&mut w);
    w.come_by("d/b");
    w
}

/// What happens below a directory that is a problem is not looked at: what the sink holds there is not what
/// further names mean, neither while the problem stands nor when it has just ended (seed 28737236006280).
#[test]
fn a_further_name_of_what_a_problem_hides() {
    for ends in [false, true] {
        let mut w = two_old_names();
        w.readable("d", false);
        w.rescan("d");
        w.until("d is a problem", |w| w.problems() == 1);
        w.write_unseen("d/b", "new content");
        w.hear();
        if ends {
            w.readable("d", true);
            w.until("it is none", |w| w.problems() == 0);
        }
        w.ln("d/b", "new");
        w.flow();
        w.readable("d", true);
        w.must_settle();
    }
}

/// New content that another name tells of is being read: until it is told, what the sink holds is not what
/// further names mean.
#[test]
fn a_further_name_of_what_another_is_about_to_tell() {
    for (name, held_off) in [("d/b", false), ("d/b", true), ("d/c", false), ("d/c", true)] {
        let mut w = two_old_names();
        w.come_by(name);
        if held_off {
            for content in ["1", "2", "old content"] {
                w.write(name, content);
                w.flow();
            }
        }
        w.write_unseen(name, "new content");
        w.hear();
        let reading = (!held_off).then(|| w.look(name));
        w.ln("d/b", "d/new");
        w.flow();
        if let Some(reading) = reading {
            w.tell(reading);
        }
        w.must_settle();
    }
}

/// The same where that name was not known for one of the inode when it was heard (seed 39258774592496).
#[test]
fn a_further_name_of_what_a_stranger_is_about_to_tell() {
    let mut w = equal(&[("b", &"old piece ".repeat(30)), ("d/y", "1")]);
    super::long_after(&mut w);
    w.ln("b", "d/c");
    w.until("other names are searched for", |w| w.searches(""));
    let search = w.list("");
    w.until("the new name is told", |w| w.file_at_sink("d/c").is_some());
    w.come_by("b");
    w.write_unseen("b", &"new piece ".repeat(30));
    w.hear();
    w.until("it is being read", |w| w.streams() == 1);
    w.ln("b", "d/new");
    w.hear();
    for _what in ["that it is one of several", "which"] {
        w.until("it is looked at", |w| w.asked("d/new"));
        let seen = w.look("d/new");
        w.tell(seen);
    }
    w.tell(search);
    w.must_settle();
}

/// The same where the event was lost with others.
#[test]
fn a_further_name_of_what_an_overflow_hides() {
    let mut w = two_old_names();
    w.src.disk().events_max = 1;
    w.write("d/y", "2");
    w.write_unseen("d/b", "new content");
    w.hear();
    w.src.disk().events_max = 100;
    w.ln("d/b", "new");
    w.flow();
    w.must_settle();
}

/// A file changes under a name that no walk has reached, behind a walk that has told another: nobody hears of it
/// (seed 36367343601983).
#[test]
fn names_apart_of_what_changes_behind_a_walk() {
    let mut w = World::prepared(
        |faults| faults.names_apart = true,
        |src, _| {
            mkdir(src, "d");
            write(src, "d/b", b"1");
            ln(src, "d/b", "a");
        },
    );
    let told = Some(b"1".to_vec());
    w.until("a name is told", |w| w.file_at_sink("a") == told);
    assert_eq!(w.file_at_sink("d/b"), None);
    w.come_by("d/b");
    w.write("d/b", "22");
    w.drop_events();
    w.must_settle();
}

/// A target without hard links that takes one large file at a time refuses what comes beside it. That tells no
/// other name again: else they would refuse each other for ever (seed 32964070541186).
#[test]
fn names_apart_that_refuse_each_other() {
    let mut w = World::quiet_with(|faults| {
        faults.names_apart = true;
        faults.stages_max = 1;
    });
    w.write("a", &"old piece ".repeat(3));
    for name in ["b", "c", "d"] {
        w.ln("a", name);
    }
    w.must_settle();
    super::long_after(&mut w);
    w.come_by("b");
    w.write_unseen("b", &"new piece ".repeat(3));
    w.must_settle();
}

/// What is kept outside of memory for a sink goes when the sink has left.
#[test]
fn spilled_names_go_with_their_sink() {
    let mut w = World::prepared(
        |faults| faults.links_max = 2,
        |src, _| {
            for file in 0..6 {
                let name = |which| format!("{which}{file}");
                write(src, &name('a'), &[file + 1; 8]);
                ln(src, &name('a'), &name('b'));
            }
        },
    );
    w.must_settle();
    assert!(w.keeps_spilled());
    w.stop_sink();
    assert!(!w.keeps_spilled());
    w.restart_sink();
    w.must_settle();
}
