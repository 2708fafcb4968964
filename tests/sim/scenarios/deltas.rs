//! Of a large file that the sink holds in an older form only what differs is sent (rule 30). Blocks have four
//! bytes here, and the sink is asked for three of them at once.

use osync::fs::memory::Disk;
use osync::wire::message::Refusal;

use super::{at_every_moment, equal, long_after, make};
use crate::world::World;
use crate::world::steps::{mkdir, one, path, write};

const OLD: &str = "aaaabbbbccccddddeeee";

/// A world in which the sink holds a large file, and nothing was counted yet.
fn held() -> World {
    let mut w = equal(&[("x", OLD)]);
    w.take_content_sent();
    w.take_content_kept();
    w.take_bases_asked();
    w
}

/// Writes the file anew, and says how much of it was sent and how much kept.
fn sent_and_kept(content: &str) -> (u64, u64) {
    let mut w = held();
    w.write("x", content);
    w.must_settle();
    assert_eq!(w.file_at_sink("x").as_deref(), Some(content.as_bytes()));
    (w.take_content_sent(), w.take_content_kept())
}

/// A stranger does something to the target.
fn stranger(w: &World, act: impl FnOnce(&mut Disk)) {
    let mut disk = w.dst.disk();
    act(&mut disk);
    w.users().record(&disk);
}

/// A world in which the sink was asked for what it is about to lose, or has told it.
fn asked() -> World {
    let mut w = held();
    w.write("x", "aaaabbbbccccddddEEEE");
    w.until("the sink is asked", World::has_asked_for_base);
    w
}

#[test]
fn appended_file_sends_its_tail() {
    assert_eq!(sent_and_kept("aaaabbbbccccddddeeeeff"), (2, 20));
    assert_eq!(sent_and_kept("aaaabbbbccccddddeeeeffffgg"), (6, 20));
}

#[test]
fn changed_middle_sends_its_blocks() {
    assert_eq!(sent_and_kept("aaaabbbbccCCddddeeee"), (4, 16));
    assert_eq!(sent_and_kept("AAAAbbbbccccddddEEEE"), (8, 12));
    assert_eq!(sent_and_kept("AAAABBBBCCCCDDDDEEEE"), (20, 0));
}

#[test]
fn cut_off_file_sends_its_end_at_most() {
    // The end of the shorter file is compared with what the sink has there.
    assert_eq!(sent_and_kept("aaaabbbbccccdd"), (0, 14));
    assert_eq!(sent_and_kept("aaaabbbbccccDD"), (2, 12));
}

#[test]
fn files_with_holes_keep_them() {
    let mut w = held();
    let punch = |disk: &mut Disk, range| {
        let ino = disk.find(&path("x")).expect("it is there");
        disk.punch(ino, range).expect("a file");
    };
    w.user_does("x", |disk| punch(disk, 4..12));
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (0, 12));
    // What is a hole at the sink is sent where it is none.
    w.user_does("x", |disk| {
        let ino = disk.find(&path("x")).expect("it is there");
        disk.write_at(ino, 4, &[0; 4]).expect("room");
    });
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (4, 12));
}

#[test]
fn replaced_file_is_compared_with_the_old() {
    let mut w = held();
    w.write("new", "aaaabbbbCCCCddddeeee");
    w.mv("new", "x");
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (4, 16));
}

#[test]
fn new_files_ask_for_nothing() {
    let mut w = World::prepared(
        |_| {},
        |src, _| {
            mkdir(src, "old");
            write(src, "old/x", OLD.as_bytes());
            write(src, "y", OLD.as_bytes());
        },
    );
    w.must_settle();
    make(&w, "new/z", OLD);
    w.must_settle();
    assert_eq!(w.take_bases_asked(), 0);
}

#[test]
fn walks_compare_what_differs() {
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            write(src, "x", b"aaaabbbbCCCCddddeeee!");
            write(dst, "x", OLD.as_bytes());
        },
    );
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (5, 16));
}

#[test]
fn delta_base_changed() {
    // Hashes of one version are told, and another one is written before what was built on them.
    at_every_moment(60, asked, |w| w.write("x", "AAAAbbbbccccddddFFFF"));
    // Somebody changes what the sink holds, in place.
    at_every_moment(60, asked, |w| {
        stranger(w, |disk| write(disk, "x", b"00000000000000000000"));
        // Should it have been published by then, no event tells: that is for an audit to find.
        w.write("x", "aaaabbbbccccddddEEEF");
    });
}

#[test]
fn base_vanishes() {
    at_every_moment(60, asked, |w| {
        stranger(w, |disk| {
            let root = disk.root();
            let _ = disk.unlink(root, &one("x"));
        });
        w.write("x", "aaaabbbbccccddddFFFF");
    });
}

#[test]
fn base_becomes_a_directory() {
    at_every_moment(60, asked, |w| {
        w.rm("x");
        w.mkdir("x");
        w.write("x/y", OLD);
    });
    // At the sink alone.
    let mut w = held();
    stranger(&w, |disk| {
        let root = disk.root();
        disk.unlink(root, &one("x")).expect("a file");
        mkdir(disk, "x");
    });
    w.write("x", "aaaabbbbccccddddEEEE");
    w.must_settle();
    assert_eq!(w.take_content_sent(), 20);
}

#[test]
fn base_moves_away() {
    at_every_moment(60, asked, |w| {
        w.mv("x", "y");
        w.write("x", "aaaaBBBBccccddddeeee");
    });
}

#[test]
fn sink_dies_with_half_a_stage() {
    at_every_moment(60, asked, |w| {
        w.kill_sink();
        w.restart_sink();
    });
    at_every_moment(60, asked, |w| {
        w.power_cut_empties_files();
        w.restart_sink();
    });
    at_every_moment(60, asked, World::cut_all);
}

#[test]
fn refused_whole_is_sent_without_a_base() {
    let mut w = held();
    w.write("x", "aaaabbbbccccddddEEEE");
    w.until("it is to be published", |w| w.has_work("x"));
    let publish = w.take_work("x");
    w.refuse(&publish, Refusal::Mismatch);
    assert_eq!(w.take_content_kept(), 16);
    w.take_content_sent();
    w.take_bases_asked();
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (20, 0));
    assert_eq!(w.take_bases_asked(), 0);
    // The next change is compared again.
    long_after(&mut w);
    w.write("x", "aaaabbbbccccddddFFFF");
    w.must_settle();
    assert_eq!((w.take_content_sent(), w.take_content_kept()), (4, 16));
}
