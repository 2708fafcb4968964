//! What power cuts, crashes and lost memory leave behind (rules 21, 22, 28).

use osync::engine::walk::Suspicion;
use osync::fs::memory::MemoryFs;
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::tree::{Body, Entry, RelPath, State};
use osync::wire::message::{Change, Lane, Refusal};

use super::equal;
use crate::world::steps::{mkdir, one, path, write};
use crate::world::{Side, World};

#[test]
fn same_size_same_mtime_crash() {
    let mut w = equal(&[("x", "old!")]);
    w.write_unseen("x", "new!");
    w.hear();
    w.kill_source();
    w.restart_source();
    w.must_settle();
}

#[test]
fn same_size_same_mtime_overflow() {
    let mut w = equal(&[("x", "old!"), ("y", "1")]);
    w.src.disk().events_max = 1;
    w.write("y", "2");
    w.write_unseen("x", "new!");
    w.hear();
    w.src.disk().events_max = 100;
    w.must_settle();
}

#[test]
fn power_cut_equal_size() {
    for source_dies_too in [false, true] {
        let mut w = equal(&[("x", "old")]);
        w.write("x", "newer");
        w.write("y", "new");
        w.flow();
        assert_eq!(w.file_at_sink("x"), Some(b"newer".to_vec()));
        w.power_cut_empties_files();
        assert_eq!(w.file_at_sink("x"), Some(vec![0; 5]));
        if source_dies_too {
            w.kill_source();
            w.restart_source();
        }
        w.restart_sink();
        w.must_settle();
    }
}

#[test]
fn distrusted_file_is_not_built_on() {
    let acts: [fn(&mut World); 2] = [|w| w.chmod("x", 0o600), |w| w.mv("x", "y")];
    for act in acts {
        let mut w = equal(&[("x", "old")]);
        w.write("x", "newer");
        w.flow();
        w.power_cut_empties_files();
        w.restart_sink();
        // A change time of now would not be distrusted any more.
        w.wait(5_000);
        w.until("the sink is registered", World::sink_takes_changes);
        act(&mut w);
        w.hear();
        w.must_settle();
    }

    let fs = MemoryFs::default();
    write(&mut fs.disk(), "x", b"00000");
    let ino = fs.disk().find(&path("x")).expect("it was just written");
    let stat = fs.disk().stat(ino).expect("it was just written");
    let distrust = Some(Suspicion::new(stat.ctime, stat.ctime));
    let applier = Applier::new(fs, Brake::new(9, 1.0), distrust);
    let attributes = Change::Entries {
        dir: RelPath::root(),
        entries: vec![Entry {
            name: one("x"),
            state: State::Present(stat.metadata(Vec::new()), Body::Unchanged { links: 1 }),
        }],
    };
    let rename = Change::Rename {
        from: path("x"),
        to: path("y"),
        kind: stat.kind,
        size: stat.size,
        mtime: stat.mtime,
    };
    for change in [attributes, rename] {
        let outcome = applier.apply(Lane::Live, change);
        assert_eq!(outcome.refused, [(0, Refusal::Mismatch)]);
    }
}

#[test]
fn dir_mtime_after_child() {
    let mut w = equal(&[("d/x", "1")]);
    w.write("d/x", "2");
    w.must_settle();
}

#[test]
fn root_metadata_is_compared() {
    let set = |disk: &mut osync::fs::memory::Disk, secs| {
        let root = disk.root();
        let mut meta = disk.stat(root).expect("a root").metadata(Vec::new());
        meta.mtime.secs = secs;
        disk.set_meta(root, &meta).expect("a root");
    };
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            set(src, 5);
            set(dst, 6);
        },
    );
    w.must_settle();
    w.user_does("", |disk| set(disk, 7));
    w.must_settle();
}

#[test]
fn huge_directory_excess() {
    let mut w = World::prepared(
        |faults| faults.page_names = 2,
        |src, dst| {
            for disk in [src, dst] {
                mkdir(disk, "d");
            }
        },
    );
    for at in ["d/b", "d/e", "d/h"] {
        w.write(at, "both");
    }
    for at in [
        "d/a", "d/c", "d/ca", "d/d", "d/f", "d/g", "d/i", "d/j", "d/k",
    ] {
        write(&mut w.dst.disk(), at, b"excess");
        let ino = w.dst.disk().find(&path(at)).expect("it was just written");
        assert!(w.dst.disk().stat(ino).is_ok());
    }
    w.users().record(&w.dst.disk());
    w.must_settle();
}

/// An unclean stop, and a clock that is set back to before it, so that what the sink writes from now on has
/// change times of that time: it trusts its own files all the same (seed 10913225048805).
#[test]
fn what_is_written_by_a_clock_set_back_is_built_on() {
    let mut w = equal(&[("x", "old")]);
    w.wait(100_000);
    w.kill_sink();
    w.restart_sink();
    w.until("the sink is registered", World::sink_takes_changes);
    w.must_settle();
    let ahead_ms = -50_000;
    for moment in [ahead_ms, 0, ahead_ms] {
        w.set_clock(Side::Sink, moment);
        w.write("x", "new");
        w.must_settle();
        w.take_content_sent();
        let since_ms = w.now().ms;
        w.ln("x", "y");
        w.must_settle();
        assert!(w.take_content_sent() <= 6, "sent again and again");
        assert!(w.now().ms < since_ms + 30_000, "it waited for the clock");
        w.rm("y");
        w.must_settle();
    }
}

/// The clock stands before the last sync when the sink starts after a power cut: files that changed since
/// then are distrusted all the same, whichever way the clock was set, and though the source forgets too.
#[test]
fn a_clock_set_before_or_after_a_power_cut_hides_no_empty_file() {
    const HOUR_MS: i64 = 3_600_000;
    for (writing, starting) in [(0, -HOUR_MS), (HOUR_MS, 0), (-HOUR_MS, -HOUR_MS)] {
        let mut w = equal(&[("x", "old")]);
        w.set_clock(Side::Sink, writing);
        w.write("y", "synced");
        w.must_settle();
        w.write("x", "newer");
        w.flow();
        w.power_cut_empties_files();
        assert_eq!(w.file_at_sink("x"), Some(vec![0; 5]));
        w.set_clock(Side::Sink, starting);
        // A source that remembers sends again what was not durable.
        w.forget_source();
        w.restart_sink();
        w.must_settle();
    }
}

/// A sync fails, and later ones succeed before a session has begun anew: what the first was to make durable is
/// not durable by that (seed 28704326455943).
#[test]
fn a_sync_that_failed_is_not_made_good_by_later_ones() {
    let mut w = equal(&[("x", "old")]);
    w.write("x", "newer");
    w.flow();
    w.wait(30);
    w.sync_loses_all();
    assert_eq!(w.file_at_sink("x"), Some(vec![0; 5]));
    for _ in 0..3 {
        w.cut_all();
        w.wait(2_000);
        w.sync();
    }
    w.must_settle();
}

/// What a sink has refused is not durable, though the source never heard of the refusal, and another process of
/// the sink syncs before it says where the last one stood.
#[test]
fn what_was_refused_outlives_the_process_that_refused() {
    let mut w = equal(&[("x", "old")]);
    w.write_unseen("x", "new");
    w.hear();
    w.read_all();
    w.ship();
    let held = w.take_work("x");
    w.refuse(&held, Refusal::Mismatch);
    w.wait(30);
    w.sync();
    w.cut_all();
    w.kill_sink();
    w.restart_sink();
    w.sync();
    w.cut_all();
    w.must_settle();
}

/// A sync that fails takes content with it that nobody remembers, as the source dies: files of the sink that
/// look as they should are not trusted (seed 28584212670037).
#[test]
fn what_a_failed_sync_took_is_found_without_the_source_that_sent_it() {
    for sink_dies_too in [false, true] {
        let mut w = equal(&[("x", "old")]);
        w.write("x", "newer");
        w.flow();
        w.wait(30);
        w.sync_loses_all();
        assert_eq!(w.file_at_sink("x"), Some(vec![0; 5]));
        w.forget_source();
        w.wait(5_000);
        w.sync();
        if sink_dies_too {
            w.wait(5_000);
            w.kill_sink();
            w.restart_sink();
        }
        w.must_settle();
    }
}

/// A power cut has emptied what the sink wrote last, and the source that knows of it has gone.
fn emptied_by_a_power_cut() -> World {
    let mut w = equal(&[("x", "old")]);
    w.write("x", "newer");
    w.flow();
    w.power_cut_empties_files();
    w.forget_source();
    w
}

/// A sink dies again before anything was compared: what the first power cut may have emptied is still not
/// trusted, though a sync has succeeded since.
#[test]
fn a_second_crash_hides_no_empty_file() {
    let mut w = emptied_by_a_power_cut();
    for _ in 0..3 {
        w.wait(5_000);
        w.restart_sink();
        w.sync();
        w.kill_sink();
    }
    w.restart_sink();
    w.must_settle();
}

/// The same where it is stopped in order, as long as the clock tells when the crash was.
#[test]
fn an_end_in_order_before_the_comparison_hides_no_empty_file() {
    let mut w = emptied_by_a_power_cut();
    w.wait(5_000);
    w.restart_sink();
    w.register();
    w.stop_sink();
    w.restart_sink();
    w.must_settle();
}
