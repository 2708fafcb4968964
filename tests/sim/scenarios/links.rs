//! Entries with several names (rule 27).

use osync::engine::work::Order;
use osync::fs::memory::Disk;

use super::{equal, make};
use crate::world::World;
use crate::world::steps::{path, same_inode};

/// Content that went over the wire since the last call, in bytes.
fn content_sent(w: &mut World) -> u64 {
    w.take_content_sent()
}

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
    content_sent(&mut w);
    w.ln("a", "c");
    w.ln("b", "d");
    w.must_settle();
    assert_eq!(content_sent(&mut w), 0);
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
    content_sent(&mut w);
    w.ln("new/b", "new/c");
    w.must_settle();
    assert_eq!(content_sent(&mut w), 0, "another name stands for the one that went");
}

#[test]
fn metadata_of_a_whole_group_costs_no_content() {
    let mut w = equal(&[("a", "1")]);
    w.ln("a", "b");
    w.must_settle();
    content_sent(&mut w);
    w.chmod("b", 0o640);
    w.must_settle();
    assert_eq!(content_sent(&mut w), 0);
    assert!(same_inode(&w.dst.disk(), "a", "b"));
}

#[test]
fn other_metadata_on_the_sink_is_not_shared_by_accident() {
    // The sink has one inode where the source has two files that look the same.
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            for disk in [&mut *src, &mut *dst] {
                crate::world::steps::write(disk, "a", b"1");
            }
            crate::world::steps::write(src, "b", b"1");
            link(dst, "a", "b");
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
                crate::world::steps::write(src, name, b"1");
            }
            link(src, "a", "c");
            link(src, "b", "d");
            crate::world::steps::write(dst, "a", b"1");
            for name in ["b", "c", "d"] {
                link(dst, "a", name);
            }
        },
    );
    w.must_settle();
    let disk = w.dst.disk();
    assert!(same_inode(&disk, "a", "c") && same_inode(&disk, "b", "d"));
    assert!(!same_inode(&disk, "a", "b"));
}

fn link(disk: &mut Disk, from: &str, to: &str) {
    crate::world::steps::ln(disk, from, to);
}

#[test]
fn all_files_linked() {
    // Six inodes with five names each, and memory for four names.
    let mut w = World::prepared(
        |faults| faults.links_max = 4,
        |src, _| {
            for dir in 0..5 {
                crate::world::steps::mkdir(src, &dir.to_string());
                for file in 0..6 {
                    let at = format!("{dir}/{file}");
                    match dir {
                        0 => crate::world::steps::write(src, &at, &[file + 1; 8]),
                        _ => link(src, &format!("0/{file}"), &at),
                    }
                }
            }
        },
    );
    w.must_settle();
    assert!(
        content_sent(&mut w) < 2 * 6 * 8,
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
    w.write("a", "3");
    let mut searches = 0;
    w.must_settle_watching(|order| {
        searches += u32::from(matches!(order, Order::List { .. }));
    });
    assert_eq!(searches, 0, "what a search has not found lies outside");
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
