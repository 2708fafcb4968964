//! One inode under several names.

use super::*;

/// What [`Fs::link`] answers for a further name in the root.
fn link<F: Fs>(on: &Fixture<F>, old: &str, new: &str, what: &Stat) -> Option<i32> {
    let root = on.fs.root().unwrap();
    code(on.fs.link(&root, &name(old), &root, &name(new), what))
}

pub(crate) fn links_are_counted<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "one", b"shared");
    (on.link)(&path("one"), &path("two"));
    assert_eq!(on.stat(&root, "one"), on.stat(&root, "two"));
    assert_eq!(on.stat(&root, "one").nlink, 2);
    // Publishing replaces the name and leaves the other link alone.
    on.write(&root, "one", b"alone");
    assert_eq!(on.read(&root, "two"), b"shared");
    assert_eq!(on.stat(&root, "two").nlink, 1);
}

pub(crate) fn link_gives_one_more_name<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    let meta = on.write(&root, "file", b"shared");
    let what = on.stat(&root, "file");
    on.fs
        .link(&root, &name("file"), &dir, &name("other"), &what)
        .unwrap();
    let other = on.stat(&dir, "other");
    assert!(other.same_content(&what));
    assert_eq!(other.nlink, 2);
    assert_eq!(on.found(&dir, "other"), meta);
    assert_eq!(on.read(&dir, "other"), b"shared");
    // The stat that was taken before there were more names still says which inode is meant.
    assert_eq!(link(on, "file", "third", &what), None);
    assert_eq!(on.stat(&root, "third").nlink, 3);
    on.fs.remove_file(&root, &name("file")).unwrap();
    assert_eq!(on.stat(&dir, "other").nlink, 2);
    assert_eq!(on.read(&root, "third"), b"shared");
}

pub(crate) fn link_replaces_all_but_directories<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"shared");
    let what = on.stat(&root, "file");
    on.write(&root, "a", b"other content");
    on.symlink(&root, "b", "file");
    on.fs
        .publish_special(&root, &name("c"), &on.meta(Kind::Fifo), b"")
        .unwrap();
    for taken in ["a", "b", "c"] {
        assert_eq!(link(on, "file", taken, &what), None, "{taken}");
        assert!(on.stat(&root, taken).same_content(&what));
        assert_eq!(on.read(&root, taken), b"shared");
    }
    assert_eq!(on.stat(&root, "file").nlink, 4);
    on.mkdir(&root, "full");
    on.write(&on.at("full"), "inside", b"kept");
    on.mkdir(&root, "empty");
    for dir in ["full", "empty"] {
        assert_eq!(link(on, "file", dir, &what), Some(libc::EISDIR), "{dir}");
    }
    assert_eq!(on.read(&on.at("full"), "inside"), b"kept");
    assert_eq!(on.stat(&root, "file").nlink, 4);
    assert_eq!(on.names(&root).len(), 6);
}

pub(crate) fn link_onto_itself_does_nothing<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    on.write(&dir, "file", b"shared");
    let what = on.stat(&dir, "file");
    let again = |new: &str| code(on.fs.link(&dir, &name("file"), &dir, &name(new), &what));
    assert_eq!(again("other"), None);
    let before = (on.stat(&dir, "file"), on.fs.stat_dir(&dir).unwrap());
    assert_eq!(again("other"), None);
    assert_eq!(again("file"), None);
    let after = (on.stat(&dir, "file"), on.fs.stat_dir(&dir).unwrap());
    assert_eq!(after, before);
    assert_eq!(on.names(&dir).len(), 2);
}

pub(crate) fn link_takes_no_other_inode<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"content");
    on.write(&root, "taken", b"stays");
    let what = on.stat(&root, "file");
    let stale = Some(libc::ESTALE);
    let larger = Stat {
        size: what.size + 1,
        ..what
    };
    let later = Stat {
        mtime: Time {
            secs: what.mtime.secs + 1,
            ..what.mtime
        },
        ..what
    };
    let symlink = Stat {
        kind: Kind::Symlink,
        ..what
    };
    // Exchanged for a file that differs in nothing but its inode.
    on.write(&root, "twin", b"content");
    let twin = on.stat(&root, "twin");
    for other in [larger, later, symlink, twin] {
        assert_eq!(link(on, "file", "new", &other), stale, "{other:?}");
        assert_eq!(link(on, "file", "taken", &other), stale, "{other:?}");
        assert_eq!(link(on, "file", "file", &other), stale, "{other:?}");
    }
    assert_eq!(link(on, "missing", "new", &what), Some(libc::ENOENT));
    assert_eq!(link(on, "missing", "taken", &what), Some(libc::ENOENT));
    on.mkdir(&root, "dir");
    let dir = on.stat(&root, "dir");
    assert_eq!(link(on, "dir", "new", &dir), Some(libc::EPERM));
    assert_eq!(on.read(&root, "taken"), b"stays");
    assert_eq!(on.stat(&root, "file").nlink, 1);
    assert_eq!(on.names(&root).len(), 4);
}

pub(crate) fn special_entries_are_linked_too<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "taken", b"");
    on.symlink(&root, "link", "taken");
    for (kind, called) in [(Kind::Fifo, "fifo"), (Kind::Socket, "socket")] {
        on.fs
            .publish_special(&root, &name(called), &on.meta(kind), b"")
            .unwrap();
    }
    for called in ["link", "fifo", "socket"] {
        let what = on.stat(&root, called);
        let new = format!("{called} again");
        assert_eq!(link(on, called, &new, &what), None, "{called}");
        assert_eq!(link(on, called, "taken", &what), None, "{called}");
        assert!(on.stat(&root, &new).same_content(&what));
        assert!(on.stat(&root, "taken").same_content(&what));
    }
    assert_eq!(on.stat(&root, "link").nlink, 2);
    assert_eq!(
        on.fs.read_link(&root, &name("link again")).unwrap(),
        b"taken"
    );
}
