//! Stages, content and what is open.

use super::*;

pub(crate) fn content_comes_back<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    // Backwards, as chunks of several connections may come.
    on.fs.write_at(&stage, 6, b"world").unwrap();
    on.fs.write_at(&stage, 0, b"hello ").unwrap();
    assert_eq!(on.fs.stat_file(&stage).unwrap().size, 11);
    let meta = Metadata {
        size: 11,
        ..on.meta(Kind::File)
    };
    on.fs
        .publish(&mut stage, &root, &name("file"), &meta)
        .unwrap();

    assert_eq!(on.read(&root, "file"), b"hello world");
    let (file, _) = on.fs.open(&root, &name("file")).unwrap();
    let mut part = [0; 4];
    assert_eq!(on.fs.read_at(&file, 3, &mut part).unwrap(), 4);
    assert_eq!(&part, b"lo w");
    assert_eq!(on.fs.read_at(&file, 9, &mut part).unwrap(), 2);
    assert_eq!(on.fs.read_at(&file, 11, &mut part).unwrap(), 0);
    assert_eq!(on.fs.read_at(&file, 1000, &mut part).unwrap(), 0);
    assert_eq!(on.fs.read_piece(&file, 3, 4).unwrap(), b"lo w");
    assert_eq!(on.fs.read_piece(&file, 9, 4).unwrap(), b"ld");
    assert_eq!(on.fs.read_piece(&file, 1000, 4).unwrap(), b"");
    assert_eq!(on.fs.read_piece(&file, 0, 0).unwrap(), b"");

    // What lies between two writes reads as zeros.
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&stage, 5, b"x").unwrap();
    let meta = Metadata {
        size: 6,
        ..on.meta(Kind::File)
    };
    on.fs
        .publish(&mut stage, &root, &name("sparse"), &meta)
        .unwrap();
    assert_eq!(on.read(&root, "sparse"), b"\0\0\0\0\0x");
    on.write(&root, "empty", b"");
    assert_eq!(on.read(&root, "empty"), b"");
}

pub(crate) fn a_stage_shows_nowhere<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let stages: Vec<_> = (0..10)
        .map(|_| on.fs.stage(&root, 0o600).unwrap())
        .collect();
    on.fs.write_at(&stages[3], 0, b"never published").unwrap();
    assert!(on.names(&root).is_empty());
    drop(stages);
    assert!(on.names(&root).is_empty());
}

pub(crate) fn a_stage_near_one_directory_is_published_in_another<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let meta = on.meta(Kind::File);
    for called in ["one", "other"] {
        on.mkdir(&root, called);
    }
    let (one, other) = (on.at("one"), on.at("other"));
    for (near, at) in [(&root, &one), (&one, &other), (&other, &root)] {
        let mut stage = on.fs.stage(near, 0o600).unwrap();
        on.fs.publish(&mut stage, at, &name("file"), &meta).unwrap();
    }
    // Of a directory that was removed nothing is left to be near to, or to publish in.
    on.mkdir(&root, "gone");
    let gone = on.at("gone");
    on.fs.remove_tree(&root, &name("gone")).unwrap();
    let refused = on.publish(&gone, &name("file"), b"", &meta);
    assert_eq!(code(refused), Some(libc::ENOENT));
}

pub(crate) fn publish_replaces_all_but_directories<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let fifo = on.meta(Kind::Fifo);
    on.write(&root, "a", b"first");
    on.write(&root, "a", b"second");
    assert_eq!(on.read(&root, "a"), b"second");
    on.symlink(&root, "a", "elsewhere");
    assert_eq!(on.fs.read_link(&root, &name("a")).unwrap(), b"elsewhere");
    on.symlink(&root, "a", "elsewhere else");
    assert_eq!(
        on.fs.read_link(&root, &name("a")).unwrap(),
        b"elsewhere else"
    );
    on.fs
        .publish_special(&root, &name("a"), &fifo, b"")
        .unwrap();
    assert_eq!(on.stat(&root, "a").kind, Kind::Fifo);
    on.write(&root, "a", b"third");
    assert_eq!(on.read(&root, "a"), b"third");

    on.mkdir(&root, "dir");
    on.write(&on.at("dir"), "inside", b"kept");
    let refused = on.publish(&root, &name("dir"), b"", &on.meta(Kind::File));
    assert_eq!(code(refused), Some(libc::EISDIR));
    let refused = on.fs.publish_special(&root, &name("dir"), &fifo, b"");
    assert_eq!(code(refused), Some(libc::EISDIR));
    on.fs
        .make_dir(&root, &name("empty"), &on.dir_meta())
        .unwrap();
    let refused = on.publish(&root, &name("empty"), b"", &on.meta(Kind::File));
    assert_eq!(code(refused), Some(libc::EISDIR));
    assert_eq!(on.read(&on.at("dir"), "inside"), b"kept");
    assert_eq!(on.names(&root).len(), 3);
}

pub(crate) fn only_regular_files_open<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"");
    on.mkdir(&root, "dir");
    on.symlink(&root, "link", "file");
    on.fs
        .publish_special(&root, &name("fifo"), &on.meta(Kind::Fifo), b"")
        .unwrap();
    on.fs
        .publish_special(&root, &name("socket"), &on.meta(Kind::Socket), b"")
        .unwrap();
    for other in ["dir", "link", "fifo", "socket"] {
        assert_eq!(
            code(on.fs.open(&root, &name(other))),
            Some(libc::ESTALE),
            "{other}"
        );
    }
    assert_eq!(
        code(on.fs.open(&root, &name("missing"))),
        Some(libc::ENOENT)
    );
}

pub(crate) fn open_files_outlive_their_names<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"old");
    let (old, _) = on.fs.open(&root, &name("file")).unwrap();
    let before = on.fs.stat_file(&old).unwrap();
    assert_eq!(before, on.stat(&root, "file"));
    on.write(&root, "file", b"newer");
    assert!(!before.same_inode(&on.stat(&root, "file")));
    on.fs.remove_file(&root, &name("file")).unwrap();
    let mut content = [0; 8];
    assert_eq!(on.fs.read_at(&old, 0, &mut content).unwrap(), 3);
    assert_eq!(&content[..3], b"old");
    assert_eq!(on.fs.stat_file(&old).unwrap().nlink, 0);
}

pub(crate) fn a_writer_shows<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"quiet");
    let (file, _) = on.fs.open(&root, &name("file")).unwrap();
    let provable = on.fs.unwritten(&file);
    assert_ne!(provable, Some(false));
    let writer = (on.hold_for_writing)(&path("file"));
    assert_eq!(on.fs.unwritten(&file), provable.map(|_| false));
    drop(writer);
    assert_eq!(on.fs.unwritten(&file), provable);
    // Asking left nothing behind that would keep a writer waiting.
    drop((on.hold_for_writing)(&path("file")));
}

pub(crate) fn sync_succeeds<F: Fs>(on: &Fixture<F>) {
    on.write(&on.fs.root().unwrap(), "file", b"content");
    on.fs.sync().unwrap();
}

pub(crate) fn a_refused_stage_is_published_when_the_directory_has_gone<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "name");
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&stage, 0, b"content").unwrap();
    let meta = Metadata {
        size: 7,
        ..on.meta(Kind::File)
    };
    let refused = on.fs.publish(&mut stage, &root, &name("name"), &meta);
    assert_eq!(code(refused), Some(libc::EISDIR));
    on.fs.remove_tree(&root, &name("name")).unwrap();
    let is_new = on.fs.publish(&mut stage, &root, &name("name"), &meta);
    assert!(is_new.unwrap());
    assert_eq!(on.read(&root, "name"), b"content");
    let mut other = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&other, 0, b"another").unwrap();
    let is_new = on.fs.publish(&mut other, &root, &name("name"), &meta);
    assert!(!is_new.unwrap());
    drop((stage, other));
    assert_eq!(on.read(&root, "name"), b"another");
}
