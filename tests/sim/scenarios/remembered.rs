//! What is remembered, at the limit of each list: the rest is compared later, nothing is lost, nothing
//! grows (I4).

use osync::engine::replica::Limits;

use super::{equal, make};
use crate::faults::Faults;
use crate::world::World;
use crate::world::steps::{mkdir, path, write};

fn remembering(set: impl FnOnce(&mut Faults)) -> World {
    World::quiet_with(|faults| {
        // Messages are small here, and must not be what limits anything.
        faults.window_messages = 500;
        set(faults);
    })
}

fn equal_within(limits: Limits, files: &[&str]) -> World {
    let mut world = remembering(|faults| faults.remembered = limits);
    for file in files {
        make(&world, file, "content");
    }
    world.must_settle();
    world.wait(2_000);
    world.must_settle();
    world
}

/// Makes directories with a file each before osync is started.
fn with_dirs(set: impl FnOnce(&mut Faults), dirs: &[String]) -> World {
    World::prepared(set, |src, _| {
        for dir in dirs {
            mkdir(src, dir);
            write(src, &format!("{dir}/f"), b"1");
        }
    })
}

#[test]
fn rescans_beyond_their_number_become_one() {
    let dirs: Vec<String> = (0..20).map(|dir| format!("d{dir}")).collect();
    for (rescans_max, most) in [(1, 2), (1000, 20)] {
        let mut w = remembering(|faults| faults.remembered.rescans_max = rescans_max);
        for dir in &dirs {
            make(&w, &format!("{dir}/f"), "1");
        }
        w.must_settle();
        w.cut_all();
        for dir in &dirs {
            w.write_unseen(&format!("{dir}/f"), "2");
            w.rescan(dir);
        }
        // Those of the whole tree that a new session owes are among them.
        let owed = w.rescans_owed();
        assert!(owed.abs_diff(most) <= 1, "{owed} rescans are owed");
        w.must_settle();
    }
}

#[test]
fn directories_found_by_a_walk_are_bounded() {
    let mut dirs = Vec::new();
    for top in 0..12 {
        dirs.push(format!("d{top}"));
        dirs.extend((0..12).map(|dir| format!("d{top}/d{dir}")));
    }
    let pending = |walk_dirs_max: usize| {
        let set = |faults: &mut Faults| {
            faults.remembered.walk_dirs_max = walk_dirs_max;
        };
        let mut w = with_dirs(set, &dirs);
        let mut most = 0;
        w.until("it has converged", |w| {
            most = most.max(w.dirs_pending());
            w.says_converged()
        });
        w.must_settle();
        // A walk that has nothing to send goes the same way.
        w.rescan("");
        w.until("the walk begins", |w| w.dirs_pending() > 0);
        w.until("it has converged", |w| {
            most = most.max(w.dirs_pending());
            w.says_converged()
        });
        w.must_settle();
        most
    };
    // Each of four pages under way keeps one directory at least; as many are on their way or owed.
    let (few, all) = (pending(1), pending(usize::MAX));
    assert!(few <= 2 * (1 + 4 + 4), "{few} directories were pending");
    assert!(all > 2 * few, "{all} without a limit: too few to see one");
}

#[test]
fn renames_beyond_their_number_are_told_by_their_names() {
    // Four are being read while the others wait.
    let files = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for (renames_max, is_sent) in [(1, true), (100, false)] {
        let limits = Limits {
            renames_max,
            ..Limits::default()
        };
        let mut w = equal_within(limits, &files);
        w.take_content_sent();
        for file in files {
            w.mv(file, &format!("{file}{file}"));
        }
        w.hear();
        w.must_settle();
        let sent = w.take_content_sent();
        assert_eq!(sent > 0, is_sent, "{sent} bytes with {renames_max} renames");
    }
}

#[test]
fn files_whose_heat_is_not_known_are_not_held_off() {
    let limits = Limits {
        hot_files_max: 1,
        ..Limits::default()
    };
    let mut w = equal_within(limits, &["hot", "other"]);
    for content in 0..5 {
        for file in ["hot", "other"] {
            w.write(file, &format!("{content}"));
        }
        w.flow();
    }
    let at_sink = |w: &World, file| w.file_at_sink(file).expect("it is there");
    assert_ne!(at_sink(&w, "hot"), b"4", "it is held off");
    assert_eq!(at_sink(&w, "other"), b"4", "no room to know its heat");
    w.must_settle();
}

#[test]
fn files_beyond_those_named_as_never_settling_are_sent() {
    let files = ["a", "b", "c"];
    let limits = Limits {
        never_settling_max: 1,
        ..Limits::default()
    };
    let mut w = equal_within(limits, &files);
    let set_writers = |w: &World, open: bool| {
        for file in files {
            w.user_does(file, |disk| {
                let ino = disk.find(&path(file)).expect("it is there");
                disk.set_writer(ino, open);
            });
        }
    };
    set_writers(&w, true);
    for round in 0..20 {
        for file in files {
            w.write(file, &format!("{round}"));
        }
        w.wait(500);
        w.flow();
    }
    let is_sent = |file| w.file_at_sink(file) != Some(b"content".to_vec());
    assert!(files.into_iter().all(is_sent));
    assert_eq!(w.never_settling(), 1);
    set_writers(&w, false);
    w.must_settle();
}

#[test]
fn directories_without_a_watch_beyond_those_known_by_name() {
    let mut w = remembering(|faults| {
        faults.watches_max = 1;
        faults.remembered.unwatched_max = 1;
    });
    make(&w, "a/f", "1");
    w.until("a is at the sink", |w| w.file_at_sink("a/f").is_some());
    w.flow();
    make(&w, "b/f", "1");
    w.until("b is at the sink", |w| w.file_at_sink("b/f").is_some());
    w.flow();
    // The one that is known by name gets a watch; the other is only counted.
    w.src.disk().watches_max = 2;
    w.bind("a");
    w.write_unseen("b/f", "2");
    w.src.disk().watches_max = usize::MAX;
    w.must_settle();
}

#[test]
fn large_files_beyond_the_streams_wait() {
    let mut w = remembering(|faults| faults.remembered.streams_max = 1);
    for file in 0..6 {
        w.write(&format!("f{file}"), "too large to be sent whole");
    }
    let mut most = 0;
    w.until("it has converged", |w| {
        most = most.max(w.streams());
        w.says_converged()
    });
    assert!((1..=2).contains(&most), "{most} streams, one for each lane");
    w.must_settle();
}

#[test]
fn large_files_beyond_the_stages_are_tried_again() {
    let mut w = remembering(|faults| faults.stages_max = 1);
    for file in 0..6 {
        w.write(&format!("f{file}"), "too large to be sent whole");
    }
    w.until("a stage is refused", |w| w.problems() > 0);
    assert_eq!(w.first_problem().expect("it is there").1, "stage");
    w.must_settle();
    assert_eq!(w.problems(), 0);
}

#[test]
fn long_paths_fill_a_queue_sooner() {
    let files: Vec<String> = (0..40)
        .map(|at| format!("dir{}/file-{at:04}", at % 4))
        .collect();
    let mut w = remembering(|faults| faults.remembered.path_bytes_max = 200);
    for at in &files {
        make(&w, at, "1");
    }
    w.must_settle();
    w.wait(2_000);
    w.must_settle();
    w.cut_all();
    for at in &files {
        w.write(at, "22");
    }
    w.hear();
    // Each path has fourteen bytes.
    let (waiting, _) = w.load();
    assert!(waiting <= 2 * 200 / 14, "{waiting} paths wait");
    assert!(w.rescans_owed() > 0);
    w.must_settle();
}

#[test]
fn long_paths_in_flight_wait_for_a_sync() {
    let dirs: Vec<String> = (0..40).map(|at| format!("directory-{at:04}")).collect();
    let mut w = remembering(|faults| faults.remembered.path_bytes_max = 300);
    for dir in &dirs {
        w.mkdir(dir);
    }
    w.must_settle();
    w.wait(2_000);
    w.must_settle();
    for dir in &dirs {
        w.write(&format!("{dir}/f"), "1");
    }
    w.wait(30);
    w.flow();
    let (waiting, in_flight) = w.load();
    // What is being read when the limit is reached still comes.
    assert!(in_flight <= 300 / 15 + 4, "{in_flight} entries in flight");
    assert!(waiting > 0, "the rest waits");
    w.must_settle();
}

/// What was in flight waits again when a session begins, and is as much as a queue holds and more.
#[test]
fn what_comes_back_at_a_cut_keeps_to_the_limit() {
    let mut w = remembering(|faults| faults.queue_entries_max = 10);
    for dir in 0..8 {
        w.mkdir(&format!("d{dir}"));
    }
    w.must_settle();
    w.wait(2_000);
    w.must_settle();
    for file in 0..64 {
        w.write(&format!("d{}/f{file}", file % 8), "1");
        w.hear();
        w.read_all();
    }
    let (_, in_flight) = w.load();
    assert!(in_flight > 40, "only {in_flight} entries are in flight");
    w.cut_all();
    w.register();
    let (waiting, _) = w.load();
    assert!(waiting <= 2 * 10, "{waiting} entries wait");
    w.must_settle();
}

#[test]
fn problems_beyond_their_number_are_found_again() {
    // The simulation lists three.
    let files = ["a", "b", "c", "d", "e", "f"];
    let mut w = equal(&files.map(|file| (file, "1")));
    for file in files {
        w.readable(file, false);
        w.write(file, "22");
    }
    w.until("all are counted", |w| w.problems() >= 6);
    for file in files {
        w.readable(file, true);
    }
    w.must_settle();
    assert_eq!(w.problems(), 0);
}

#[test]
fn every_list_is_as_short_as_it_can_be() {
    let mut w = remembering(|faults| {
        faults.queue_entries_max = 4;
        faults.in_flight_entries_max = 4;
        faults.page_names = 1;
        faults.links_max = 2;
        faults.stages_max = 1;
        faults.listing_cache_bytes = 1;
        faults.remembered = Limits {
            rescans_max: 1,
            walk_dirs_max: 1,
            renames_max: 1,
            hot_files_max: 1,
            never_settling_max: 1,
            unwatched_max: 1,
            streams_max: 1,
            path_bytes_max: 40,
            ..Limits::default()
        };
    });
    for dir in ["a", "a/b", "a/b/c", "d", "d/e"] {
        w.mkdir(dir);
        for file in 0..6 {
            w.write(&format!("{dir}/{file}"), "larger than one message");
        }
    }
    w.ln("a/1", "d/linked");
    w.must_settle();
    w.mv("a/b", "d/b");
    w.mv("d/e", "a/e");
    w.rm_r("d/b/c");
    w.cut_all();
    w.write("a/0", "changed");
    w.must_settle();
}
