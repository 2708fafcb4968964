//! Names, directories, renames and removals.

use super::*;

pub(crate) fn odd_names<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let longest = [b'n'; 255];
    let names: [&[u8]; 8] = [
        b"new\nline",
        b"\xff\xfe",
        b" ",
        b"-rf",
        b"...",
        b"\\x41",
        b"\x01",
        &longest,
    ];
    for bytes in names {
        let called = name(bytes);
        on.publish(
            &root,
            &called,
            b"1",
            &Metadata {
                size: 1,
                ..on.meta(Kind::File)
            },
        )
        .unwrap();
        on.publish(
            &root,
            &called,
            b"2",
            &Metadata {
                size: 1,
                ..on.meta(Kind::File)
            },
        )
        .unwrap();
        assert!(on.fs.xattrs(&root, &called).unwrap().is_empty());
        assert_eq!(on.fs.stat(&root, &called).unwrap().size, 1);
    }
    let listed: Vec<_> = on.names(&root).into_keys().collect();
    let mut expected: Vec<_> = names.map(<[u8]>::to_vec).into();
    expected.sort();
    assert_eq!(listed, expected);
    for bytes in names {
        on.fs.remove_file(&root, &name(bytes)).unwrap();
        on.fs.make_dir(&root, &name(bytes), &on.dir_meta()).unwrap();
        on.fs.remove_tree(&root, &name(bytes)).unwrap();
    }
    assert!(on.names(&root).is_empty());
}

pub(crate) fn no_limit_on_path_length<F: Fs>(on: &Fixture<F>) {
    let part = "d".repeat(200);
    let mut deep = RelPath::root();
    let mut dir = on.fs.root().unwrap();
    while deep.len() < 3 * 4096 {
        on.mkdir(&dir, &part);
        dir = on.fs.open_dir(&dir, &name(&part)).unwrap();
        deep = deep.join(&name(&part));
    }
    on.write(&dir, "file", b"deep");
    let Way::Open(again) = open_way(&on.fs, &deep) else {
        panic!("the way is broken")
    };
    assert_eq!(on.read(&again, "file"), b"deep");
    assert!(on.fs.xattrs(&again, &name("file")).unwrap().is_empty());
    let missing = deep.join(&name("file")).join(&name("below"));
    match open_way(&on.fs, &missing) {
        Way::Broken(at) => assert_eq!(at, deep.join(&name("file"))),
        _ => panic!("a file is no way"),
    }
    on.fs
        .remove_tree(&on.fs.root().unwrap(), &name(&part))
        .unwrap();
    assert!(on.names(&on.fs.root().unwrap()).is_empty());
}

pub(crate) fn symlinks_are_never_directories<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "real");
    on.symlink(&root, "to dir", "real");
    on.symlink(&root, "out", "/");
    on.symlink(&root, "up", "..");
    on.symlink(&root, "self", "self");
    on.write(&root, "file", b"");
    for other in ["to dir", "out", "up", "self", "file"] {
        let refused = on.fs.open_dir(&root, &name(other));
        assert_eq!(code(refused), Some(libc::ENOTDIR), "{other}");
        assert!(
            matches!(open_way(&on.fs, &path(format!("{other}/a"))), Way::Broken(at) if at == path(other))
        );
    }
    assert_eq!(
        code(on.fs.open_dir(&root, &name("missing"))),
        Some(libc::ENOENT)
    );
    assert_eq!(on.stat(&root, "to dir").kind, Kind::Symlink);
    assert_eq!(on.stat(&root, "to dir").size, 4);
    assert_eq!(
        code(on.fs.read_link(&root, &name("file"))),
        Some(libc::EINVAL)
    );
}

pub(crate) fn lists_are_whole<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "many");
    let many = on.at("many");
    assert!(on.names(&many).is_empty());
    for number in 0..3000 {
        on.write(&many, &format!("{number:0>40}"), b"");
    }
    on.mkdir(&many, "dir");
    on.symlink(&many, "link", "x");
    let names = on.names(&many);
    assert_eq!(names.len(), 3002);
    for (kind, called) in [(Kind::Dir, "dir"), (Kind::Symlink, "link")] {
        let told = names[called.as_bytes()];
        assert!(told.is_none_or(|told| told == kind));
    }
    // The same descriptor can be listed again, and a list within a list.
    let mut outer = 0;
    on.fs
        .list(&many, &mut |_, _| {
            outer += 1;
            if outer == 1 {
                assert_eq!(on.names(&on.at("many")).len(), 3002);
            }
        })
        .unwrap();
    assert_eq!(outer, 3002);
    on.fs.remove_tree(&root, &name("many")).unwrap();
}

pub(crate) fn make_dir_needs_a_free_name<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    on.write(&root, "file", b"");
    on.symlink(&root, "link", "nowhere");
    for taken in ["dir", "file", "link"] {
        let refused = on.fs.make_dir(&root, &name(taken), &on.dir_meta());
        assert_eq!(code(refused), Some(libc::EEXIST), "{taken}");
    }
    let refused = on.fs.make_dir(&root, &name("new"), &on.meta(Kind::File));
    assert_eq!(code(refused), Some(libc::EINVAL));
    assert_eq!(on.names(&root).len(), 3);
}

pub(crate) fn remove_file_takes_no_directory<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    on.write(&root, "file", b"");
    on.symlink(&root, "link", "dir");
    assert_eq!(
        code(on.fs.remove_file(&root, &name("dir"))),
        Some(libc::EISDIR)
    );
    on.fs.remove_file(&root, &name("link")).unwrap();
    on.fs.remove_file(&root, &name("file")).unwrap();
    assert_eq!(
        code(on.fs.remove_file(&root, &name("file"))),
        Some(libc::ENOENT)
    );
    assert_eq!(on.names(&root).into_keys().collect::<Vec<_>>(), [b"dir"]);
}

pub(crate) fn remove_tree_takes_all<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "kept");
    on.write(&on.at("kept"), "file", b"kept");
    on.mkdir(&root, "tree");
    let tree = on.at("tree");
    // Wider than any batch of names, with something of each kind at several depths.
    for number in 0..150 {
        let called = format!("d{number}");
        on.mkdir(&tree, &called);
        let dir = on.fs.open_dir(&tree, &name(&called)).unwrap();
        on.write(&dir, "file", b"x");
        on.symlink(&dir, "link", "../../kept");
        on.mkdir(&dir, "empty");
    }
    on.write(&tree, "file", b"x");
    // Directories that even their owner may not change.
    let locked = Metadata {
        mode: 0o500,
        ..on.dir_meta()
    };
    on.fs.set_dir_meta(&on.at("tree/d7"), &locked).unwrap();
    on.fs.set_dir_meta(&tree, &locked).unwrap();
    on.fs.remove_tree(&root, &name("tree")).unwrap();
    assert_eq!(code(on.fs.stat(&root, &name("tree"))), Some(libc::ENOENT));
    assert_eq!(on.read(&on.at("kept"), "file"), b"kept");
    assert_eq!(on.names(&root).len(), 1);
    // Who still holds the directory finds it gone.
    let refused = on.publish(&tree, &name("ghost"), b"", &on.meta(Kind::File));
    assert_eq!(code(refused), Some(libc::ENOENT));
    let refused = on.fs.make_dir(&tree, &name("ghost"), &on.dir_meta());
    assert_eq!(code(refused), Some(libc::ENOENT));
}

pub(crate) fn remove_tree_takes_directories_only<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    on.write(&root, "file", b"kept");
    on.symlink(&root, "link", "dir");
    for other in ["file", "link"] {
        let refused = on.fs.remove_tree(&root, &name(other));
        assert_eq!(code(refused), Some(libc::ENOTDIR), "{other}");
    }
    assert_eq!(
        code(on.fs.remove_tree(&root, &name("missing"))),
        Some(libc::ENOENT)
    );
    assert_eq!(on.names(&root).len(), 3);
}

pub(crate) fn remove_dir_takes_empty_ones_only<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    on.write(&on.at("dir"), "inside", b"kept");
    on.symlink(&root, "link", "dir");
    for (other, errno) in [
        ("dir", libc::ENOTEMPTY),
        ("link", libc::ENOTDIR),
        ("missing", libc::ENOENT),
    ] {
        let refused = on.fs.remove_dir(&root, &name(other));
        assert_eq!(code(refused), Some(errno), "{other}");
    }
    on.fs.remove_file(&on.at("dir"), &name("inside")).unwrap();
    on.fs.remove_dir(&root, &name("dir")).unwrap();
    assert_eq!(on.names(&root).len(), 1);
}

pub(crate) fn rename_replaces<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    on.write(&root, "a", b"a");
    on.write(&root, "b", b"b");
    let before = on.stat(&root, "a");
    let rename = |from: &F::Dir, from_name: &str, to: &F::Dir, to_name: &str| {
        code(on.fs.rename(from, &name(from_name), to, &name(to_name)))
    };
    assert_eq!(rename(&root, "a", &root, "b"), None);
    assert_eq!(rename(&root, "b", &dir, "moved"), None);
    let after = on.stat(&dir, "moved");
    assert!(after.same_inode(&before) && after.mtime == before.mtime);
    assert_eq!(on.read(&dir, "moved"), b"a");
    assert_eq!(on.names(&root).len(), 1);

    assert_eq!(rename(&root, "b", &root, "c"), Some(libc::ENOENT));
    on.write(&root, "file", b"");
    assert_eq!(rename(&root, "file", &root, "dir"), Some(libc::EISDIR));
    assert_eq!(rename(&root, "dir", &root, "file"), Some(libc::ENOTDIR));
    on.mkdir(&root, "empty");
    assert_eq!(rename(&root, "empty", &root, "dir"), Some(libc::ENOTEMPTY));
    assert_eq!(rename(&root, "dir", &root, "empty"), None);
    assert_eq!(on.read(&on.at("empty"), "moved"), b"a");
    // A directory does not fit into itself.
    on.mkdir(&dir, "inner");
    let inner = on.at("empty/inner");
    assert_eq!(rename(&root, "empty", &inner, "loop"), Some(libc::EINVAL));
}

pub(crate) fn missing_names_are_enoent<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let missing = name("missing");
    assert_eq!(code(on.fs.stat(&root, &missing)), Some(libc::ENOENT));
    assert_eq!(code(on.fs.read_link(&root, &missing)), Some(libc::ENOENT));
    assert_eq!(code(on.fs.open_dir(&root, &missing)), Some(libc::ENOENT));
    assert!(matches!(open_way(&on.fs, &path("a/b/c")), Way::Broken(at) if at == path("a")));
    assert!(matches!(open_way(&on.fs, &RelPath::root()), Way::Open(_)));
}

pub(crate) fn tidy_keeps_the_roots_time<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    let meta = Metadata {
        mtime: Time {
            secs: 1_000_000,
            nanos: 5,
        },
        ..on.dir_meta()
    };
    on.fs.set_dir_meta(&root, &meta).unwrap();
    // Below the root, so that only the stage itself touches the root.
    on.write(&dir, "file", b"1");
    on.write(&dir, "file", b"2");
    on.symlink(&dir, "link", "x");
    on.mkdir(&dir, "tree");
    on.fs.remove_tree(&dir, &name("tree")).unwrap();
    assert_eq!(on.fs.stat_dir(&root).unwrap().mtime, meta.mtime);
    on.fs.tidy().unwrap();
    on.fs.tidy().unwrap();
    assert_eq!(on.fs.stat_dir(&root).unwrap().mtime, meta.mtime);
    assert_eq!(on.names(&root).len(), 1);
    // And it comes back when it is needed.
    on.write(&dir, "file", b"3");
    assert_eq!(on.fs.stat_dir(&root).unwrap().mtime, meta.mtime);
    assert_eq!(on.read(&dir, "file"), b"3");
}

pub(crate) fn directories_below_are_not_missed<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.fs.open_dir(&root, &name("dir")).unwrap();
    on.write(&dir, "file", b"1");
    assert!(on.fs.may_hold_dirs(&root).unwrap());
    let known = !on.fs.may_hold_dirs(&dir).unwrap();
    on.mkdir(&dir, "below");
    assert!(on.fs.may_hold_dirs(&dir).unwrap());
    on.fs.remove_tree(&dir, &name("below")).unwrap();
    assert_eq!(on.fs.may_hold_dirs(&dir).unwrap(), !known);
}
