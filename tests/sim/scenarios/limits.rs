//! Targets that cannot hold everything: both sides agree on what is equal there, so nothing is sent for
//! ever, and what is left out is counted (rule 39 for those that fold case).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use osync::fs::memory::Disk;
use osync::tree::{LimitKind, Metadata, OwnerMap, OwnerTables, RelPath, TargetLimits, Time, View};

use super::make;
use crate::faults::poor_target;
use crate::world::World;
use crate::world::steps::{ln, path, same_inode, write};

fn on_target(limits: &TargetLimits) -> World {
    World::prepared(|_| {}, |_, dst| dst.limits = limits.clone())
}

fn without_hard_links() -> TargetLimits {
    TargetLimits {
        lacks: vec![LimitKind::HardLinks],
        ..TargetLimits::default()
    }
}

fn give(disk: &mut Disk, at: &str, uid: u32, mtime: Time) {
    let ino = disk.find(&path(at)).unwrap();
    let stat = disk.stat(ino).unwrap();
    let mut meta = stat.metadata(disk.xattrs(ino).unwrap());
    (meta.uid, meta.gid, meta.mtime) = (uid, uid, mtime);
    disk.set_meta(ino, &meta).unwrap();
}

fn add_xattr(disk: &mut Disk, at: &str, name: &str) {
    let ino = disk.find(&path(at)).unwrap();
    let mut meta = disk.stat(ino).unwrap().metadata(disk.xattrs(ino).unwrap());
    meta.xattrs
        .push((name.as_bytes().to_vec().into(), b"1".to_vec().into()));
    disk.set_meta(ino, &meta).unwrap();
}

/// What a disk holds, as it looks on a target.
fn seen(disk: &Disk, view: &View) -> BTreeMap<RelPath, (Metadata, Vec<u8>)> {
    let entries = disk.paths().into_iter().map(|(path, ino)| {
        let mut meta = disk.stat(ino).unwrap().metadata(disk.xattrs(ino).unwrap());
        let name = path.split().map(|(_, name)| name);
        view.show(name.as_ref(), &mut meta);
        (path, (meta, disk.content(ino).unwrap().to_vec()))
    });
    entries.collect()
}

fn assert_same(world: &World, view: &View) {
    let (src, dst) = (world.src.disk(), world.dst.disk());
    assert_eq!(seen(&src, view), seen(&dst, &View::default()));
}

fn entries(world: &World, kind: LimitKind) -> u64 {
    let limits = world.sink_status().unwrap().limits;
    let limit = limits.iter().find(|limit| limit.kind == kind);
    limit.and_then(|limit| limit.entries).unwrap_or_default()
}

fn settle(world: &mut World) {
    world.until("the target holds all that it can", World::says_settled);
}

#[test]
fn what_cannot_be_held_is_counted_and_not_sent_for_ever() {
    let limits = poor_target();
    let view = View::new(limits.clone(), None);
    let mut w = on_target(&limits);
    let whole = |secs| Time { secs, nanos: 0 };
    make(&w, "d/own", "1");
    make(&w, "d/foreign", "2");
    make(&w, "d/late", "3");
    w.user_does("d/own", |disk| give(disk, "d/own", 1000, whole(5)));
    w.user_does("d/foreign", |disk| give(disk, "d/foreign", 0, whole(6)));
    w.user_does("d/foreign", |disk| {
        add_xattr(disk, "d/foreign", "trusted.a")
    });
    w.user_does("d/late", |disk| give(disk, "d/late", 1000, whole(1 << 40)));
    w.user_does("d", |disk| give(disk, "d", 1000, whole(7)));
    w.user_does("", |disk| give(disk, "", 0, whole(8)));
    settle(&mut w);
    assert!(!w.says_converged(), "what is left out is not equal");
    assert_same(&w, &view);
    // The root and one file; the first copy meets each once.
    assert_eq!(entries(&w, LimitKind::Owners), 2);
    assert_eq!(entries(&w, LimitKind::TrustedXattrs), 1);
    assert_eq!(entries(&w, LimitKind::Times), 1);
    assert_eq!(entries(&w, LimitKind::Acls), 0);

    // A comparison finds nothing, and counts the same.
    let before = w.sent();
    w.rescan("");
    w.until("the walk begins", |w| !w.says_settled());
    settle(&mut w);
    assert!(
        w.sent() - before <= 4,
        "two listings, and the metadata of the root"
    );
    assert_eq!(entries(&w, LimitKind::Owners), 2);
    let before = w.sent();
    w.some_steps(3_000);
    assert_eq!(w.sent(), before, "nothing is sent any more");

    // A flush says the same.
    w.flush();
    w.until("the flush is answered", |w| w.flushed().is_some());
    let lost = w.flush_lost();
    assert_eq!(
        lost,
        [
            "owners of 2 entries",
            "times of 1 entries",
            "trusted attributes of 1 entries"
        ]
    );

    // Live changes arrive as far as they can: content, metadata alone, renames.
    w.write("d/own", "changed");
    w.chmod("d/foreign", 0o600);
    w.mv("d/late", "d/moved");
    settle(&mut w);
    assert_same(&w, &view);
}

/// An ACL that gives the group less than the mask shows.
fn give_acl(disk: &mut Disk, at: &str) {
    let entry = |tag: u16, rights: u16| {
        let mut bytes = tag.to_le_bytes().to_vec();
        bytes.extend(rights.to_le_bytes());
        bytes.extend(u32::MAX.to_le_bytes());
        bytes
    };
    let entries = [(0x01, 6), (0x04, 4), (0x10, 6), (0x20, 0)];
    let mut acl = 2u32.to_le_bytes().to_vec();
    acl.extend(
        entries
            .into_iter()
            .flat_map(|(tag, rights)| entry(tag, rights)),
    );
    let ino = disk.find(&path(at)).unwrap();
    let mut meta = disk.stat(ino).unwrap().metadata(disk.xattrs(ino).unwrap());
    let name = b"system.posix_acl_access".to_vec();
    meta.mode = 0o660;
    meta.xattrs.push((name.into(), acl.into()));
    disk.set_meta(ino, &meta).unwrap();
}

#[test]
fn a_further_name_of_what_looks_different_there_costs_no_content() {
    let limits = poor_target();
    let mut w = on_target(&limits);
    make(&w, "a", "1");
    w.user_does("a", |disk| give_acl(disk, "a"));
    settle(&mut w);
    w.ln("a", "b");
    settle(&mut w);
    w.take_content_sent();
    w.ln("a", "c");
    settle(&mut w);
    assert_same(&w, &View::new(limits, None));
    assert_eq!(w.take_content_sent(), 0);
    let disk = w.dst.disk();
    assert!(same_inode(&disk, "a", "c"));
    let seen = disk.stat(disk.find(&path("c")).unwrap()).unwrap();
    assert_eq!(seen.mode, 0o640);
}

#[test]
fn names_of_a_file_are_files_of_their_own() {
    let mut w = on_target(&without_hard_links());
    make(&w, "d/a", "1");
    w.ln("d/a", "b");
    w.ln("d/a", "d/c");
    settle(&mut w);
    assert_same(&w, &View::default());
    assert!(!w.says_converged());
    assert_eq!(entries(&w, LimitKind::HardLinks), 3);

    // What happens through one name happens to all.
    w.write("b", "22");
    settle(&mut w);
    assert_same(&w, &View::default());
    w.take_content_sent();
    w.chmod("d/c", 0o640);
    settle(&mut w);
    assert_same(&w, &View::default());
    assert_eq!(w.take_content_sent(), 0, "metadata is told alone");
    w.write("d/c", "333");
    w.rm("d/c");
    settle(&mut w);
    assert_same(&w, &View::default());
    w.take_content_sent();

    // A comparison finds nothing.
    w.rescan("");
    w.until("the walk begins", |w| !w.says_settled());
    settle(&mut w);
    assert_eq!(w.take_content_sent(), 0);
    assert_eq!(entries(&w, LimitKind::HardLinks), 2);
    w.rm("b");
    w.rescan("");
    w.until("it is equal", World::says_converged);
}

/// What happens to a name while it is being sent reaches the other names as well (seed 4901912248443).
#[test]
fn names_apart_hear_of_what_happened_during_a_stream() {
    let mut w = on_target(&without_hard_links());
    make(&w, "a", "1");
    w.ln("a", "c");
    settle(&mut w);
    w.write("a", "22");
    w.hear();
    w.until("the other name is about to be read", |w| w.asked("c"));
    w.come_by("c");
    w.write("c", "more than one chunk");
    w.hear();
    w.flush();
    w.until("the flush is answered", |w| w.flushed().is_some());
    settle(&mut w);
    assert_same(&w, &View::default());
}

#[test]
fn without_anything_to_leave_out_it_is_equal() {
    let limits = poor_target();
    let mut w = on_target(&limits);
    make(&w, "f", "1");
    for at in ["f", ""] {
        w.user_does(at, |disk| give(disk, at, 1000, Time { secs: 5, nanos: 0 }));
    }
    w.until("it is equal", World::says_converged);
    assert_same(&w, &View::default());
    // Once the one thing that could not be held is gone, a walk finds that it is.
    w.user_does("f", |disk| add_xattr(disk, "f", "trusted.a"));
    w.until("it is met", |w| entries(w, LimitKind::TrustedXattrs) > 0);
    w.user_does("", |disk| {
        let root = disk.root();
        disk.unlink(root, &osync::tree::Name::new(b"f").unwrap())
            .unwrap();
        give(disk, "", 1000, Time { secs: 5, nanos: 0 });
    });
    settle(&mut w);
    assert!(!w.says_converged());
    w.rescan("");
    w.until("it is equal", World::says_converged);
}

fn with_owners(source: &OwnerTables, target: &OwnerTables) -> World {
    let mut w = World::prepared(|faults| faults.sinks_away_at_start = true, |_, _| {});
    w.kill_source();
    (w.source_owners, w.target_owners) = (source.clone(), Some(target.clone()));
    w.restart_source();
    w.restart_sink();
    w
}

#[test]
fn owners_follow_their_names() {
    let tables = |ann: u32, bob: u32| OwnerTables {
        users: vec![(b"ann".to_vec().into(), ann), (b"bob".to_vec().into(), bob)],
        groups: vec![(b"ann".to_vec().into(), ann), (b"bob".to_vec().into(), bob)],
    };
    // What is whose is exchanged between the hosts.
    let (source, target) = (tables(1, 2), tables(2, 1));
    let mut w = with_owners(&source, &target);
    for (at, uid) in [("a", 1), ("b", 2), ("c", 3)] {
        make(&w, at, "1");
        w.user_does(at, |disk| give(disk, at, uid, Time { secs: 5, nanos: 7 }));
    }
    let view = View::new(
        TargetLimits::default(),
        Some(OwnerMap::new(&source, &target)),
    );
    w.until("it is equal", World::says_converged);
    assert_same(&w, &view);
    let uid = |w: &World, at| {
        let disk = w.dst.disk();
        disk.stat(disk.find(&path(at)).unwrap()).unwrap().uid
    };
    assert_eq!([uid(&w, "a"), uid(&w, "b"), uid(&w, "c")], [2, 1, 3]);
    let before = w.sent();
    w.rescan("");
    w.until("the walk begins", |w| !w.says_converged());
    w.until("it is equal", World::says_converged);
    assert!(w.sent() - before <= 3, "nothing differs");
}

#[test]
fn a_number_that_becomes_anothers_is_counted() {
    let ann = |id: u32| OwnerTables {
        users: vec![(b"ann".to_vec().into(), id)],
        groups: Vec::new(),
    };
    let mut w = with_owners(&ann(1), &ann(2));
    make(&w, "stranger", "1");
    w.user_does("stranger", |disk| {
        give(disk, "stranger", 2, Time::default())
    });
    settle(&mut w);
    assert!(!w.says_converged());
    assert_eq!(entries(&w, LimitKind::SharedOwners), 1);
}

fn folding() -> TargetLimits {
    TargetLimits {
        lacks: vec![LimitKind::FoldedNames],
        ..TargetLimits::default()
    }
}

/// The disk itself finds a name by another case.
fn holds_exactly(world: &World, name: &str) -> bool {
    let disk = world.dst.disk();
    let children = disk.children(disk.root()).unwrap();
    children
        .iter()
        .any(|(held, _)| held.as_bytes() == name.as_bytes())
}

#[test]
fn case_fold_pair() {
    let mut w = on_target(&folding());
    make(&w, "A", "upper");
    w.until("it is equal", World::says_converged);
    make(&w, "a", "lower");
    w.until("the second is a problem", |w| w.problems() == 1);
    assert_eq!(
        w.file_at_sink("A"),
        Some(b"upper".to_vec()),
        "nothing was replaced"
    );
    // Removing the one that is not there leaves the one that is.
    w.rm("a");
    w.until("it is equal", World::says_converged);
    assert_eq!(w.file_at_sink("A"), Some(b"upper".to_vec()));
    assert_same(&w, &View::default());
}

#[test]
fn case_fold_rename() {
    let mut w = on_target(&folding());
    make(&w, "A", "one");
    w.until("it is equal", World::says_converged);
    w.mv("A", "a");
    w.until("it has the new name", |w| {
        w.says_converged() && holds_exactly(w, "a")
    });
    assert!(!holds_exactly(&w, "A"));
    assert_same(&w, &View::default());
}

#[test]
fn case_fold_directories() {
    let mut w = on_target(&folding());
    make(&w, "D/x", "of D");
    make(&w, "d/x", "of d");
    make(&w, "d/y", "of d alone");
    w.until("one of them is a problem", |w| w.problems() == 1);
    let (held, gone) = if holds_exactly(&w, "D") {
        ("D", "d")
    } else {
        ("d", "D")
    };
    let content = |top: &str| Some(format!("of {top}").into_bytes());
    w.until("the other has what is in it, and nothing else", |w| {
        w.file_at_sink(&format!("{held}/x")) == content(held)
    });
    w.rm_r(held);
    w.until("the other takes its place", World::says_converged);
    assert_same(&w, &View::default());
    assert_eq!(w.file_at_sink(&format!("{gone}/x")), content(gone));
}

#[test]
fn case_fold_link() {
    // The sink takes `a`, which it does not have, for `A`, which looks the same.
    let mut w = World::prepared(
        |_| {},
        |src, dst| {
            dst.limits = folding();
            write(src, "A", b"upper");
            write(src, "a", b"lower");
            for at in ["A", "a"] {
                give(src, at, 0, Time { secs: 5, nanos: 0 });
            }
            ln(src, "a", "b");
        },
    );
    w.until("a is a problem", |w| w.problems() == 1);
    w.until("its other name is there", |w| w.file_at_sink("b").is_some());
    assert!(holds_exactly(&w, "A"));
    assert_eq!(w.file_at_sink("A"), Some(b"upper".to_vec()));
    assert_eq!(w.file_at_sink("b"), Some(b"lower".to_vec()));
}
