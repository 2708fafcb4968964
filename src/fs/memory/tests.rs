//! The conformance body on the file system in memory, and what only that has.

#![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]

use std::any::Any;

use super::*;
use crate::fs::conformance::{Fixture, conformance, name, path};
use crate::source::watch::What;

/// Ends a user's writing when it is dropped.
struct Writer(MemoryFs, Ino);

impl Drop for Writer {
    fn drop(&mut self) {
        self.0.disk().set_writer(self.1, false);
    }
}

fn fixture() -> Fixture<MemoryFs> {
    let fs = MemoryFs::default();
    let (linker, opener) = (fs.clone(), fs.clone());
    Fixture {
        link: Box::new(move |old, new| {
            let mut disk = linker.disk();
            let (dir, called) = new.split().unwrap();
            let (ino, dir) = (disk.find(old).unwrap(), disk.find(&dir).unwrap());
            disk.link(ino, dir, &called).unwrap();
        }),
        hold_for_writing: Box::new(move |path| -> Box<dyn Any> {
            let ino = opener.disk().find(path).unwrap();
            opener.disk().set_writer(ino, true);
            Box::new(Writer(opener.clone(), ino))
        }),
        privileged: true,
        owner: (0, 0),
        has_xattrs: true,
        symlink_bytes_max: 4095,
        keep: Box::new(()),
        fs,
    }
}

conformance!(fixture);

/// What the watches told since they were asked last, the root's alone being there.
fn told(fs: &MemoryFs) -> Vec<(What, Option<Name>)> {
    let events = fs.disk().take_events(usize::MAX);
    events.into_iter().map(|e| (e.what, e.name)).collect()
}

fn watched() -> (MemoryFs, Ino) {
    let fs = MemoryFs::default();
    let root = fs.disk().root();
    fs.disk().watch(root).unwrap();
    (fs, root)
}

#[test]
fn what_has_no_name_is_freed_when_it_is_closed() {
    let on = fixture();
    let root = on.fs.root().unwrap();
    let used = || on.fs.disk().used();
    let stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&stage, 0, b"12345").unwrap();
    assert_eq!(used(), 5);
    drop(stage);
    assert_eq!(used(), 0);

    on.write(&root, "file", b"123");
    on.write(&root, "file", b"1234567");
    assert_eq!(used(), 7);
    on.symlink(&root, "link", "costs no content");
    assert_eq!(used(), 7);
    let (open, _) = on.fs.open(&root, &name("file")).unwrap();
    on.fs.remove_file(&root, &name("file")).unwrap();
    assert_eq!(used(), 7);
    drop(open);
    assert_eq!(used(), 0);

    on.mkdir(&root, "dir");
    on.mkdir(&on.at("dir"), "below");
    on.write(&on.at("dir/below"), "file", b"12");
    (on.link)(&path("dir/below/file"), &path("kept"));
    on.write(&on.at("dir"), "other", b"1234");
    on.fs.remove_tree(&root, &name("dir")).unwrap();
    assert_eq!(used(), 2);
    assert_eq!(on.read(&root, "kept"), b"12");

    let writer = (on.hold_for_writing)(&path("kept"));
    on.fs.remove_file(&root, &name("kept")).unwrap();
    assert_eq!(used(), 2);
    drop(writer);
    assert_eq!(used(), 0);
    let stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&stage, 0, b"lost").unwrap();
    on.fs.disk().power_cut(|| true);
    assert_eq!(used(), 0);
}

#[test]
fn a_full_disk_takes_what_a_removal_frees() {
    let on = fixture();
    let root = on.fs.root().unwrap();
    on.fs.disk().bytes_max = 10;
    on.write(&root, "a", b"12345678");
    let stage = on.fs.stage(&root, 0o600).unwrap();
    let full = on.fs.write_at(&stage, 0, b"123").unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
    on.fs.remove_file(&root, &name("a")).unwrap();
    on.fs.write_at(&stage, 0, b"123").unwrap();
}

#[test]
fn a_link_is_told_as_a_new_name_and_a_replaced_one_as_a_move() {
    let (fs, root) = watched();
    let mut disk = fs.disk();
    let ino = disk.create(root, &name("a"), Kind::File, b"1").unwrap();
    disk.create(root, &name("c"), Kind::File, b"2").unwrap();
    disk.take_events(usize::MAX);
    disk.link(ino, root, &name("b")).unwrap();
    assert!(disk.link(ino, root, &name("b")).is_err());
    drop(disk);
    assert_eq!(told(&fs), [(What::Created, Some(name("b")))]);
    let dir = fs.root().unwrap();
    let what = fs.stat(&dir, &name("a")).unwrap();
    for _ in 0..2 {
        fs.link(&dir, &name("a"), &dir, &name("c"), &what).unwrap();
    }
    let told = told(&fs);
    assert!(
        matches!(&told[..], [(What::MovedTo(_), Some(new))] if *new == name("c")),
        "{told:?}"
    );
}

#[test]
fn a_change_is_told_under_the_name_that_it_came_through() {
    let (fs, root) = watched();
    let under = |called: &str| [(What::Modified, Some(name(called)))];
    let mut disk = fs.disk();
    let ino = disk.create(root, &name("a"), Kind::File, b"1").unwrap();
    disk.link(ino, root, &name("b")).unwrap();
    let unwatched = disk.make_dir(root, &name("dir")).unwrap();
    disk.link(ino, unwatched, &name("c")).unwrap();
    disk.take_events(usize::MAX);
    disk.write_at(ino, 0, b"2").unwrap();
    drop(disk);
    assert_eq!(told(&fs), under("a"));
    let through = |dir, called: &str| {
        let mut disk = fs.disk();
        let ino = disk.through(dir, &name(called)).unwrap();
        disk.write_at(ino, 0, b"3").unwrap();
    };
    through(root, "b");
    assert_eq!(told(&fs), under("b"));
    // Nobody watches where this name is.
    through(unwatched, "c");
    assert_eq!(told(&fs), []);
    through(root, "b");
    fs.disk()
        .rename(root, &name("b"), root, &name("moved"))
        .unwrap();
    told(&fs);
    fs.disk().write_at(ino, 0, b"4").unwrap();
    assert_eq!(told(&fs), under("moved"));
    fs.disk().unlink(root, &name("moved")).unwrap();
    told(&fs);
    fs.disk().write_at(ino, 0, b"5").unwrap();
    assert_eq!(told(&fs), under("a"));
}

#[test]
fn an_exchange_between_the_steps_of_a_link_is_noticed() {
    let on = fixture();
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"meant");
    on.write(&root, "taken", b"stays");
    let what = on.stat(&root, "file");
    let mut steps = 0;
    on.fs.interrupt(Some(Box::new(move |disk: &mut Disk| {
        steps += 1;
        if steps == 2 {
            let root = disk.root();
            disk.unlink(root, &name("file")).unwrap();
            disk.create(root, &name("file"), Kind::File, b"other")
                .unwrap();
        }
    })));
    let link = |new: &str| on.fs.link(&root, &name("file"), &root, &name(new), &what);
    let refused = link("taken").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ESTALE));
    on.fs.interrupt(None);
    assert_eq!(on.read(&root, "taken"), b"stays");
}

#[test]
fn content_knows_its_holes() {
    let mut content = content::Content::default();
    content.write(10, b"ab");
    content.write(20, b"c");
    content.set_len(30);
    let ranges = |content: &content::Content| {
        let mut found = Vec::new();
        let mut at = 0;
        while let Some(data) = content.next_data(at) {
            at = data.end;
            found.push(data);
        }
        found
    };
    assert_eq!(ranges(&content), [10..12, 20..21]);
    assert_eq!((content.bytes().len(), content.allocated()), (30, 3));
    assert_eq!(content.next_data(11), Some(11..12));
    assert_eq!(content.missing(&(9..21)), 9);
    assert_eq!(content.missing(&(25..35)), 10);
    content.write(12, &[b'd'; 8]);
    assert_eq!(ranges(&content), [10..21]);
    content.punch(11..13);
    content.punch(15..16);
    content.punch(13..15);
    content.punch(40..50);
    assert_eq!(ranges(&content), [10..11, 16..21]);
    assert_eq!(&content.bytes()[10..17], b"a\0\0\0\0\0d");
    content.set_len(18);
    assert_eq!(ranges(&content), [10..11, 16..18]);
    content.set_len(5);
    assert_eq!((ranges(&content), content.allocated()), (vec![], 0));
    content.write(0, b"12345");
    assert_eq!(content.allocated(), 5);
}
