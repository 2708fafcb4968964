//! The same tests for every backend that watches real directories.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tempfile::TempDir;

use super::inotify::{Inotify, InotifyLimits};
use super::portable::Portable;
use super::{Pollable, RawEvent, Watch, Wd, What};
use crate::tree::{Name, RelPath};

fn rel(path: &str) -> RelPath {
    RelPath::new(path.as_bytes()).unwrap()
}

/// A watched temporary directory.
struct World<W> {
    dir: TempDir,
    watch: W,
}

impl<W: Pollable> World<W> {
    fn new(make: fn(OwnedFd, &Path) -> W) -> Self {
        let dir = TempDir::new().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let watch = make(File::open(&root).unwrap().into(), &root);
        Self { dir, watch }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir(self.path(path)).unwrap();
    }

    fn write(&self, path: &str) {
        File::create(self.path(path))
            .unwrap()
            .write_all(b"x")
            .unwrap();
    }

    fn bind(&mut self, path: &str) -> Wd {
        self.watch.bind(&rel(path)).unwrap()
    }

    /// Everything that happened before this call, in batches of `batch`.
    fn events_by(&mut self, batch: usize) -> Vec<RawEvent> {
        let goal = self.watch.waiting().unwrap() + self.watch.consumed();
        let mut events = Vec::new();
        loop {
            let read = self.watch.read(&mut events, batch).unwrap();
            if self.watch.consumed() >= goal && read < batch {
                return events;
            }
            assert!(read > 0, "fewer events than were announced");
        }
    }

    fn events(&mut self) -> Vec<RawEvent> {
        self.events_by(1024)
    }

    fn is_ready(&self, timeout_ms: i64) -> bool {
        let fd = self.watch.ready_fd();
        let timeout = Timespec {
            tv_sec: timeout_ms / 1000,
            tv_nsec: timeout_ms % 1000 * 1_000_000,
        };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
    }
}

fn said(events: &[RawEvent], wd: Wd, name: &str) -> Vec<What> {
    let name = Name::new(name.as_bytes()).unwrap();
    let about = |event: &&RawEvent| event.wd == wd && event.name.as_ref() == Some(&name);
    events
        .iter()
        .filter(about)
        .map(|event| event.what)
        .collect()
}

fn is_ignored(events: &[RawEvent], wd: Wd) -> bool {
    events
        .iter()
        .any(|event| event.wd == wd && event.what == What::Ignored)
}

fn errno<T>(result: std::io::Result<T>) -> Option<Errno> {
    result.err().and_then(|error| Errno::from_io_error(&error))
}

fn reports_the_life_of_a_file<W: Pollable>(mut world: World<W>) {
    let root = world.bind("");
    world.write("a");
    fs::set_permissions(world.path("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(world.path("a")).unwrap();
    let whats = said(&world.events(), root, "a");
    let order = [
        What::Created,
        What::Modified,
        What::Closed,
        What::Attributes,
        What::Deleted,
    ];
    let mut rest = whats.iter();
    for what in order {
        assert!(rest.any(|found| *found == what), "{what:?} in {whats:?}");
    }
}

fn joins_the_halves_of_a_rename<W: Pollable>(mut world: World<W>) {
    world.mkdir("one");
    world.mkdir("two");
    world.write("one/a");
    world.mkdir("one/d");
    let (one, two) = (world.bind("one"), world.bind("two"));
    fs::rename(world.path("one/a"), world.path("two/b")).unwrap();
    fs::rename(world.path("one/d"), world.path("two/d")).unwrap();
    let events = world.events();
    let [What::MovedFrom(from)] = said(&events, one, "a")[..] else {
        panic!("{events:?}")
    };
    let [What::MovedTo(to)] = said(&events, two, "b")[..] else {
        panic!("{events:?}")
    };
    assert_eq!(from, to);
    let [What::MovedTo(dir)] = said(&events, two, "d")[..] else {
        panic!("{events:?}")
    };
    assert_ne!(dir, to);
    let arrived = events
        .iter()
        .find(|event| event.what == What::MovedTo(dir))
        .unwrap();
    assert!(arrived.is_dir);
}

fn binds_the_same_directory_to_the_same_descriptor<W: Pollable>(mut world: World<W>) {
    world.mkdir("d");
    world.mkdir("e");
    let first = world.bind("d");
    assert_eq!(world.bind("d"), first);
    assert_ne!(world.bind("e"), first);
    world.write("d/a");
    assert!(said(&world.events(), first, "a").contains(&What::Created));
}

fn binds_another_directory_of_the_same_name_anew<W: Pollable>(mut world: World<W>) {
    world.mkdir("d");
    world.mkdir("e");
    let (old, _) = (world.bind("d"), world.bind(""));
    fs::rename(world.path("d"), world.path("was")).unwrap();
    fs::rename(world.path("e"), world.path("d")).unwrap();
    world.events();
    let new = world.bind("d");
    assert_ne!(new, old);
    world.write("d/a");
    assert!(said(&world.events(), new, "a").contains(&What::Created));
}

fn says_when_a_watch_is_gone<W: Pollable>(mut world: World<W>) {
    world.mkdir("unbound");
    world.mkdir("removed");
    let (unbound, removed) = (world.bind("unbound"), world.bind("removed"));
    world.watch.unbind(unbound);
    fs::remove_dir(world.path("removed")).unwrap();
    assert!(world.is_ready(5000));
    let events = world.events();
    assert!(
        is_ignored(&events, unbound) && is_ignored(&events, removed),
        "{events:?}"
    );
    world.watch.unbind(unbound);
    world.write("unbound/a");
    assert_eq!(world.events(), []);
}

fn follows_a_moved_directory_once_it_is_bound_again<W: Pollable>(mut world: World<W>) {
    world.mkdir("d");
    world.mkdir("d/below");
    for path in ["", "d", "d/below"] {
        world.bind(path);
    }
    fs::rename(world.path("d"), world.path("e")).unwrap();
    // Before the events of the move are read, as a walk may do it, and after.
    world.bind("e/below");
    world.events();
    let (dir, below) = (world.bind("e"), world.bind("e/below"));
    world.write("e/a");
    world.write("e/below/b");
    let events = world.events();
    assert!(
        said(&events, dir, "a").contains(&What::Created),
        "{events:?}"
    );
    assert!(
        said(&events, below, "b").contains(&What::Created),
        "{events:?}"
    );
}

fn refuses_what_is_no_directory<W: Pollable>(mut world: World<W>) {
    world.write("file");
    world.mkdir("d");
    world.mkdir("d/below");
    symlink("d", world.path("link")).unwrap();
    symlink("/", world.path("out")).unwrap();
    for (path, expected) in [
        ("file", Errno::NOTDIR),
        ("file/x", Errno::NOTDIR),
        ("link", Errno::NOTDIR),
        ("link/below", Errno::NOTDIR),
        ("out/tmp", Errno::NOTDIR),
        ("missing", Errno::NOENT),
    ] {
        assert_eq!(
            errno(world.watch.bind(&rel(path))),
            Some(expected),
            "{path}"
        );
    }
}

fn has_a_barrier<W: Pollable>(mut world: World<W>) {
    let root = world.bind("");
    for round in 0..20 {
        let names: Vec<_> = (0..50).map(|i| format!("{round}-{i}")).collect();
        std::thread::scope(|scope| {
            for half in names.chunks(25) {
                let world = &world.dir;
                scope.spawn(move || {
                    half.iter()
                        .for_each(|name| drop(File::create(world.path().join(name)).unwrap()));
                });
            }
        });
        let events = world.events_by(7);
        for name in &names {
            assert!(
                said(&events, root, name).contains(&What::Closed),
                "{name} in {events:?}"
            );
        }
    }
}

fn is_readable_while_something_waits<W: Pollable>(mut world: World<W>) {
    world.bind("");
    assert!(!world.is_ready(0));
    world.write("a");
    assert!(world.is_ready(5000));
    assert!(!world.events().is_empty());
    assert!(!world.is_ready(0));
    world.write("b");
    assert!(world.is_ready(5000));
}

/// Watch, then list: whatever is made in new directories while they are being bound is seen.
fn misses_nothing_in_new_directories<W: Pollable>(mut world: World<W>) {
    let mut dirs = BTreeMap::from([(world.bind(""), rel(""))]);
    let mut seen = BTreeSet::new();
    let top = world.dir.path().to_owned();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let top = top.clone();
            std::thread::spawn(move || {
                for burst in 0..25 {
                    let dir = top.join(format!("{writer}/{burst}/x/y"));
                    fs::create_dir_all(&dir).unwrap();
                    File::create(dir.join("file")).unwrap();
                }
            })
        })
        .collect();
    let mut arrived = |world: &mut World<W>, events: Vec<RawEvent>| {
        let mut new: Vec<RelPath> = Vec::new();
        for event in events {
            if let (Some(dir), Some(name)) = (dirs.get(&event.wd), &event.name) {
                new.push(dir.join(name));
            }
        }
        while let Some(path) = new.pop() {
            let absolute = top.join(path.to_string());
            if absolute.is_dir() {
                dirs.insert(world.watch.bind(&path).unwrap(), path.clone());
                for entry in fs::read_dir(&absolute).unwrap() {
                    let name = entry.unwrap().file_name();
                    let child = path.join(&Name::new(name.as_encoded_bytes()).unwrap());
                    if !seen.contains(&child) {
                        new.push(child);
                    }
                }
            }
            seen.insert(path);
        }
    };
    while writers.iter().any(|writer| !writer.is_finished()) {
        let events = world.events();
        arrived(&mut world, events);
    }
    let events = world.events();
    arrived(&mut world, events);
    for (writer, burst) in (0..4).flat_map(|writer| (0..25).map(move |burst| (writer, burst))) {
        assert!(
            seen.contains(&rel(&format!("{writer}/{burst}/x/y/file"))),
            "{writer} {burst}"
        );
    }
    writers
        .into_iter()
        .for_each(|writer| writer.join().unwrap());
}

fn reports_an_overflow<W: Pollable>(mut world: World<W>) {
    let root = world.bind("");
    world.write("a");
    world.write("b");
    world.events();
    // The kernel joins an event with an equal one before it, so two files take turns.
    let (a, b) = (world.path("a"), world.path("b"));
    for turn in 0..InotifyLimits::read().unwrap().max_queued_events + 16 {
        let path = if turn % 2 == 0 { &a } else { &b };
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let overflowed = |events: &[RawEvent]| events.iter().any(|event| event.what == What::Overflow);
    assert!(world.watch.fill(u64::MAX) >= 1.0, "the queue has no end");
    let fill = world.watch.fill(world.watch.waiting().unwrap());
    assert!(fill > 0.5, "{fill}");
    assert!(overflowed(&world.events()));
    world.write("c");
    let events = world.events();
    assert!(said(&events, root, "c").contains(&What::Created));
}

/// Runs in a user namespace of its own whose limit of watches is low.
fn says_when_no_watches_are_left<W: Pollable>(mut world: World<W>) {
    if std::env::var_os(LIMITED).is_none() {
        return;
    }
    let full = (0..20).find_map(|at| {
        let name = format!("{at}");
        world.mkdir(&name);
        errno(world.watch.bind(&rel(&name)))
    });
    assert_eq!(full, Some(Errno::NOSPC));
    // What is watched goes on.
    world.write("0/a");
    assert!(said(&world.events(), world.watch.bind(&rel("0")).unwrap(), "a").len() > 1);
}

/// Set where the limit of watches is low.
const LIMITED: &str = "OSYNC_TEST_FEW_WATCHES";

#[test]
fn the_limit_of_watches_is_an_error_of_its_own() {
    let unshare = |script: &str| {
        let mut command = std::process::Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script]);
        command
            .env(LIMITED, "1")
            .arg(std::env::current_exe().unwrap());
        command.output().unwrap()
    };
    let lower = "echo 12 > /proc/sys/user/max_inotify_watches";
    if !unshare(lower).status.success() {
        // Containers may forbid it; there is no other way to lower the limit for one test alone.
        return;
    }
    let output = unshare(&format!(
        "{lower} && exec \"$0\" --test-threads=1 says_when_no_watches_are_left"
    ));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("2 passed"),
        "{text}"
    );
}

macro_rules! conforms {
    ($backend:ident, $make:expr; $($test:ident)*) => {
        mod $backend {
            use super::*;
            $(#[test]
            fn $test() {
                super::$test(World::new($make));
            })*
        }
    };
    ($backend:ident, $make:expr) => {
        conforms! { $backend, $make;
            reports_the_life_of_a_file
            joins_the_halves_of_a_rename
            binds_the_same_directory_to_the_same_descriptor
            binds_another_directory_of_the_same_name_anew
            says_when_a_watch_is_gone
            follows_a_moved_directory_once_it_is_bound_again
            refuses_what_is_no_directory
            has_a_barrier
            is_readable_while_something_waits
            misses_nothing_in_new_directories
            reports_an_overflow
            says_when_no_watches_are_left
        }
    };
}

conforms!(on_inotify, |root, _| Inotify::new(root).unwrap());
conforms!(on_notify, |root, path| Portable::new(root, path).unwrap());

/// What only inotify promises.
mod inotify_alone {
    use super::*;

    #[test]
    fn a_moved_directory_keeps_its_descriptor() {
        let mut world = World::new(|root, _| Inotify::new(root).unwrap());
        world.mkdir("d");
        let dir = world.bind("d");
        fs::rename(world.path("d"), world.path("e")).unwrap();
        assert_eq!(world.bind("e"), dir);
        let events = world.events();
        assert!(
            events
                .iter()
                .any(|event| event.wd == dir && event.what == What::MoveSelf)
        );
    }

    #[test]
    fn counts_bytes_that_were_read_and_not_handed_on() {
        let mut world = World::new(|root, _| Inotify::new(root).unwrap());
        world.bind("");
        world.write("a");
        world.write("b");
        let waiting = world.watch.waiting().unwrap();
        let mut events = Vec::new();
        world.watch.read(&mut events, 1).unwrap();
        assert_eq!(
            world.watch.consumed() + world.watch.waiting().unwrap(),
            waiting
        );
        assert!(world.watch.consumed() > 0);
    }

    #[test]
    fn names_the_sysctl() {
        let limits = InotifyLimits::read().unwrap();
        let text = limits.sysctl_for_watches(Some(1000));
        assert_eq!(
            text,
            format!(
                "sysctl fs.inotify.max_user_watches={}",
                limits.max_user_watches + 1000
            )
        );
    }
}
