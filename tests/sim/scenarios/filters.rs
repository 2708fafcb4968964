//! Histories of entries that take no part (rule 35).

use osync::fs::memory::MemoryFs;
use osync::sink::applier::Applier;
use osync::sink::brake::Brake;
use osync::tree::{Body, Entry, Kind, Metadata, RelPath, State};
use osync::wire::message::{Change, Lane};

use super::equal;
use crate::world::World;
use crate::world::steps::{mkdir, one, path, write};

/// A quiet world with these rules and these files, which are equal on both sides where they take part.
fn filtered(rules: &str, files: &[(&str, &str)]) -> World {
    let mut world = World::quiet_with(|faults| faults.filter = crate::faults::filter(rules));
    for (path, content) in files {
        super::make(&world, path, content);
    }
    world.must_settle();
    world.wait(2_000);
    world.must_settle();
    world
}

fn plant(world: &mut World, at: &str, is_dir: bool) {
    let mut disk = world.dst.disk();
    world.planted.put(&mut disk, at, is_dir);
}

/// A restart with rules that exclude a file: the sink has it in excess, the source says nothing of it.
#[test]
fn exclude_on_reload() {
    let mut world = equal(&[("d/p", "1"), ("d/q", "2"), ("e/x", "3")]);
    let kept = world.inode_at_sink("d/p").expect("it was copied");
    // What is excluded from now on belongs to the target alone.
    for at in ["d/p", "e", "e/x"] {
        let ino = world.inode_at_sink(at).expect("it was copied");
        world.planted.adopt(path(at), ino);
    }
    world.kill_source();
    world.set_filter("- p\n- /e");
    world.restart_source();
    world.must_settle();
    world.rm("d/p");
    world.rm_r("e");
    world.write("d/q", "new");
    world.must_settle();
    assert_eq!(world.inode_at_sink("d/p"), Some(kept));
    assert_eq!(world.file_at_sink("e/x"), Some(b"3".to_vec()));
    assert_eq!(world.file_at_sink("d/q"), Some(b"new".to_vec()));
    // And back: what takes part again and is not there goes.
    world.planted.forget_all();
    world.kill_source();
    world.set_filter("");
    world.restart_source();
    world.must_settle();
    assert_eq!(world.inode_at_sink("d/p"), None);
    assert_eq!(world.inode_at_sink("e"), None);
}

#[test]
fn an_excluded_name_of_an_inode_stays_out() {
    let mut world = filtered("- *.no", &[("a", "1")]);
    for name in ["a.no", "b", "c.no"] {
        world.ln("a", name);
    }
    world.write("a", "new");
    world.must_settle();
    assert_eq!(world.inode_at_sink("a"), world.inode_at_sink("b"));
    assert_eq!(world.inode_at_sink("a.no"), None);
}

#[test]
fn a_rename_to_an_excluded_name_is_a_removal() {
    super::at_every_moment(
        40,
        || {
            let world = filtered("- /b", &[("a/f", "1"), ("a/d/g", "2"), ("f", "3")]);
            world.mv("a", "b");
            world
        },
        |world| world.write("b/f", "excluded by now"),
    );
    let mut world = filtered("- *.no", &[("a/f", "1"), ("g", "2")]);
    let watches = world.watches();
    world.mv("g", "g.no");
    world.mv("a", "a.no");
    world.must_settle();
    assert_eq!(world.inode_at_sink("g"), None);
    assert_eq!(world.inode_at_sink("a"), None);
    assert_eq!(
        world.watches(),
        watches - 1,
        "nobody hears of what is excluded"
    );
}

#[test]
fn a_rename_from_an_excluded_name_is_an_arrival() {
    let mut world = filtered(
        "- *.no",
        &[("a.no/f", "1"), ("a.no/d/g", "2"), ("h.no", "3")],
    );
    assert_eq!(world.inode_at_sink("a.no"), None);
    world.mv("a.no", "a");
    world.mv("h.no", "h");
    world.must_settle();
    assert_eq!(world.file_at_sink("a/d/g"), Some(b"2".to_vec()));
    assert_eq!(world.file_at_sink("h"), Some(b"3".to_vec()));
    // It is watched from now on.
    world.write("a/d/g", "22");
    world.must_settle();
    assert_eq!(world.file_at_sink("a/d/g"), Some(b"22".to_vec()));
    // Between two excluded names nothing happens but a new time of their directories.
    world.write("one.no", "1");
    world.must_settle();
    world.mv("one.no", "d.no");
    world.must_settle();
}

/// What moves to a path where less takes part must not be moved as a whole: the sink would hold entries
/// that are excluded by now, or move those that are none of the source's.
#[test]
fn a_directory_moves_without_what_is_excluded() {
    let mut world = filtered("- /new/x", &[("old/x", "1"), ("old/y", "2")]);
    world.mv("old", "new");
    world.must_settle();
    assert_eq!(world.inode_at_sink("new/x"), None);
    assert_eq!(world.file_at_sink("new/y"), Some(b"2".to_vec()));
    world.mv("new", "newer");
    world.must_settle();
    assert_eq!(world.file_at_sink("newer/x"), Some(b"1".to_vec()));

    let mut world = filtered("- own", &[("old/d/y", "2")]);
    plant(&mut world, "old/d/own", false);
    world.mv("old", "new");
    world.must_settle();
    assert_eq!(world.file_at_sink("new/d/y"), Some(b"2".to_vec()));
    assert_eq!(world.inode_at_sink("old/d/y"), None);
    assert_eq!(world.file_at_sink("old/d/own"), Some(b"planted".to_vec()));
}

#[test]
fn removing_a_directory_leaves_what_is_excluded_and_says_so() {
    let mut world = filtered("- own", &[("a/b/c/f", "1"), ("a/g", "2"), ("a/e/h", "3")]);
    plant(&mut world, "a/b/own", true);
    plant(&mut world, "a/b/own/x", false);
    world.rm_r("a");
    world.must_settle();
    assert_eq!(world.file_at_sink("a/b/own/x"), Some(b"planted".to_vec()));
    for gone in ["a/b/c", "a/g", "a/e"] {
        assert_eq!(world.inode_at_sink(gone), None, "{gone}");
    }
    assert!(world.kept_dirs() > 0);
    assert_eq!(world.problems(), 0, "it is no problem");
    // Walks meet it again and have nothing to do.
    let kept = world.kept_dirs();
    world.rescan("");
    world.must_settle();
    assert_eq!(world.kept_dirs(), kept);
    // And it can come back.
    world.mkdir("a");
    world.write("a/g", "new");
    world.must_settle();
    assert_eq!(world.file_at_sink("a/g"), Some(b"new".to_vec()));
}

/// A file cannot take the place of a directory that has to stay.
#[test]
fn a_kind_change_over_excluded_entries_is_a_problem() {
    let mut world = filtered("- own", &[("a/f", "1")]);
    plant(&mut world, "a/own", false);
    world.rm_r("a");
    world.write("a", "a file now");
    world.until("the problem is known", |world| world.problems() > 0);
    let operation = "replace a directory that holds excluded entries".to_owned();
    assert_eq!(
        world.first_problem(),
        Some((path("a"), operation, libc::ENOTEMPTY))
    );
    assert!(!world.says_converged());
    assert_eq!(world.inode_at_sink("a/f"), None);
    world.uproot();
    world.must_settle();
    assert_eq!(world.file_at_sink("a"), Some(b"a file now".to_vec()));
}

/// The brake counts what would go, and not what stays.
#[test]
fn the_brake_counts_only_what_would_go() {
    let files: Vec<String> = (0..6).map(|at| format!("a/f{at}")).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|at| (at.as_str(), "1")).collect();
    let mut world = filtered("- own", &files);
    plant(&mut world, "a/own", true);
    for at in 0..20 {
        plant(&mut world, &format!("a/own/{at}"), false);
    }
    world.set_brake(5);
    world.rm_r("a");
    world.until("the brake holds", |world| world.problems() > 0);
    assert_eq!(world.file_at_sink("a/f0"), Some(b"1".to_vec()));
    world.set_brake(6);
    world.resume();
    world.must_settle();
    assert_eq!(world.inode_at_sink("a/f0"), None);
}

/// More directories that only hold excluded entries than an answer can name: no comparison goes on for
/// ever about them.
#[test]
fn many_kept_directories_end_a_comparison() {
    let mut world = World::quiet_with(|faults| {
        faults.filter = crate::faults::filter("- own");
        faults.sinks_away_at_start = true;
    });
    for at in 0..600 {
        let dir = format!("d{at:03}");
        crate::world::steps::mkdir(&mut world.dst.disk(), &dir);
        plant(&mut world, &format!("{dir}/own"), false);
    }
    world.restart_sink();
    world.must_settle();
    assert_eq!((world.problems(), world.kept_dirs()), (0, 0));
}

/// A page of a directory can be owed under a name that a rename above it has excluded since. That it
/// cannot be watched leaves nothing to compare (seed 2589165941350).
#[test]
fn an_excluded_directory_without_a_watch_is_nobodys_concern() {
    let mut world = filtered("- /e/x", &[("d/x/y/f", "1")]);
    world.mv("d", "e");
    world.src.disk().watches_max = 0;
    world.bind("e/x/y");
    // Enough for the root and what takes part.
    world.src.disk().watches_max = 2;
    world.must_settle();
    assert_eq!(world.inode_at_sink("e/x"), None);
}

/// Names that take no part change the time of their directory, which is compared.
#[test]
fn excluded_names_change_their_directorys_time() {
    let mut world = filtered("- own\n- sub/", &[("a/f", "1")]);
    world.write("a/own", "1");
    world.must_settle();
    world.mkdir("a/sub");
    world.must_settle();
    world.mv("a/own", "own");
    world.must_settle();
    world.rm("own");
    world.must_settle();
    assert_eq!(world.inode_at_sink("a/own"), None);
}

/// A pattern may mean directories only: a file of that name takes part, and must go at the sink when a
/// directory takes its place.
#[test]
fn only_one_kind_is_excluded() {
    let mut world = filtered("- b/", &[("b", "a file")]);
    assert_eq!(world.file_at_sink("b"), Some(b"a file".to_vec()));
    world.rm("b");
    world.mkdir("b");
    world.write("b/x", "1");
    world.must_settle();
    assert_eq!(world.inode_at_sink("b"), None);
    world.rm_r("b");
    world.write("b", "again");
    world.must_settle();
    assert_eq!(world.file_at_sink("b"), Some(b"again".to_vec()));
    assert_eq!(world.kept_dirs(), 0);
}

/// Moved to where nobody watches, a directory leaves half a rename. Until that is given up, something has
/// changed of which nothing is queued.
#[test]
fn half_a_rename_is_not_equal() {
    let mut world = filtered("- own", &[("a/f", "1"), ("own/x", "2")]);
    assert!(world.says_converged());
    world.mv("a", "own/a");
    world.hear();
    assert!(!world.says_converged(), "the other half may still come");
    world.must_settle();
    assert_eq!(world.inode_at_sink("a"), None);
}

/// Whichever system call of an applier fails, nothing excluded goes with the directory that holds it
/// (seeds 1217, 11704969487419, 11742633328948, 27960697653608).
#[test]
fn a_call_that_fails_takes_nothing_excluded_along() {
    let entry = |state| Change::Entries {
        dir: RelPath::root(),
        entries: vec![Entry {
            name: one("d"),
            state,
        }],
    };
    let rename = |from, kind| {
        let meta = file_meta();
        let (from, to) = (path(from), path("d"));
        Change::Rename {
            from,
            to,
            kind,
            size: meta.size,
            mtime: meta.mtime,
        }
    };
    let changes = [
        entry(State::Absent),
        entry(State::Present(file_meta(), Body::Content("new".into()))),
        rename("file", Kind::File),
        rename("dir", Kind::Dir),
    ];
    for change in changes {
        for failing in 0..80 {
            let fs = MemoryFs::default();
            for dir in ["d", "d/e", "d/e/own", "dir"] {
                mkdir(&mut fs.disk(), dir);
            }
            write(&mut fs.disk(), "d/x", b"1");
            write(&mut fs.disk(), "d/e/own/kept", b"kept");
            write(&mut fs.disk(), "file", b"new");
            let applier = Applier::new(fs.clone(), Brake::new(9, 1.0), None);
            applier.set_filter(crate::faults::filter("- own"));
            let mut calls = 0;
            fs.set_trouble(Some(Box::new(move |_| {
                calls += 1;
                (calls - 1 == failing).then_some(libc::EIO)
            })));
            applier.apply(Lane::Live, change.clone());
            let kept = fs.disk().find(&path("d/e/own/kept"));
            assert!(kept.is_ok(), "call {failing} of {change:?} failed");
        }
    }
}

fn file_meta() -> Metadata {
    let fs = MemoryFs::default();
    let mut disk = fs.disk();
    write(&mut disk, "f", b"new");
    let ino = disk.find(&path("f")).expect("it was just written");
    disk.stat(ino).expect("it is there").metadata(Vec::new())
}
