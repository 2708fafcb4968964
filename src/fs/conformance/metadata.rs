//! Owners, modes, times, extended attributes.

use super::*;

pub(crate) fn files_keep_metadata<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let owners = if on.privileged {
        vec![on.owner, (1234, 4321)]
    } else {
        vec![on.owner]
    };
    for (uid, gid) in owners {
        for mode in [0o600, 0o644, 0o4755, 0o2755, 0o6711, 0o1777, 0o7777] {
            let meta = Metadata {
                uid,
                gid,
                mode,
                size: 1,
                ..on.meta(Kind::File)
            };
            on.publish(&root, &name("file"), b"x", &meta).unwrap();
            assert_eq!(on.found(&root, "file"), meta);
            let stat = on.stat(&root, "file");
            assert_eq!((stat.nlink, stat.rdev), (1, 0));
            assert_eq!(stat.dev, on.fs.stat_dir(&root).unwrap().dev);
        }
    }
}

const TIMES: [Time; 6] = [
    Time { secs: 0, nanos: 0 },
    Time { secs: 1, nanos: 1 },
    Time {
        secs: 1_700_000_000,
        nanos: 999_999_999,
    },
    // Before 1970, where seconds are rounded down.
    Time {
        secs: -1,
        nanos: 500_000_001,
    },
    Time {
        secs: -1_000_000,
        nanos: 7,
    },
    // After 2038.
    Time {
        secs: 4_000_000_000,
        nanos: 42,
    },
];

pub(crate) fn times_are_exact<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    for mtime in TIMES {
        let meta = Metadata {
            mtime,
            ..on.meta(Kind::File)
        };
        on.publish(&root, &name("file"), b"", &meta).unwrap();
        assert_eq!(on.stat(&root, "file").mtime, mtime);
        let meta = Metadata {
            mtime,
            ..on.special_meta(Kind::Symlink, b"to")
        };
        on.fs
            .publish_special(&root, &name("link"), &meta, b"to")
            .unwrap();
        assert_eq!(on.stat(&root, "link").mtime, mtime);
        on.fs
            .set_dir_meta(
                &on.at("dir"),
                &Metadata {
                    mtime,
                    ..on.dir_meta()
                },
            )
            .unwrap();
        assert_eq!(on.stat(&root, "dir").mtime, mtime);
    }
    for nanos in [1_000_000_000, (1 << 30) - 1, (1 << 30) - 2, u32::MAX] {
        let meta = Metadata {
            mtime: Time { secs: 0, nanos },
            ..on.meta(Kind::File)
        };
        let refused = on.publish(&root, &name("never"), b"", &meta);
        assert_eq!(code(refused), Some(libc::EINVAL), "{nanos}");
    }
    assert_eq!(code(on.fs.stat(&root, &name("never"))), Some(libc::ENOENT));
}

pub(crate) fn special_entries_keep_metadata<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let mut kinds = vec![Kind::Symlink, Kind::Fifo, Kind::Socket];
    let mut owner = on.owner;
    if on.privileged {
        kinds.extend([Kind::CharDevice, Kind::BlockDevice]);
        owner = (77, 88);
    }
    // As long as a symlink can be, and none that leads anywhere.
    let long = vec![b'x'; on.symlink_bytes_max];
    for kind in kinds {
        let target: &[u8] = if kind == Kind::Symlink { &long } else { b"" };
        let (uid, gid) = owner;
        let meta = Metadata {
            uid,
            gid,
            ..on.special_meta(kind, target)
        };
        on.fs
            .publish_special(&root, &name("entry"), &meta, target)
            .unwrap();
        assert_eq!(on.found(&root, "entry"), meta);
        if kind == Kind::Symlink {
            assert_eq!(on.fs.read_link(&root, &name("entry")).unwrap(), target);
        }
    }
    for kind in [Kind::File, Kind::Dir] {
        let refused = on
            .fs
            .publish_special(&root, &name("entry"), &on.meta(kind), b"");
        assert_eq!(code(refused), Some(libc::EINVAL));
    }
}

pub(crate) fn directories_keep_metadata<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    for (number, mode) in [0o700, 0o755, 0o1777, 0o2775, 0o500]
        .into_iter()
        .enumerate()
    {
        let meta = Metadata {
            mode,
            ..on.dir_meta()
        };
        let called = format!("dir{number}");
        on.fs.make_dir(&root, &name(&called), &meta).unwrap();
        assert_eq!(on.found(&root, &called), meta);
        assert_eq!(
            on.fs.stat_dir(&on.at(&called)).unwrap(),
            on.stat(&root, &called)
        );
    }
    let (uid, gid) = if on.privileged { (55, 66) } else { on.owner };
    let meta = Metadata {
        uid,
        gid,
        mode: 0o3711,
        mtime: TIMES[3],
        ..on.dir_meta()
    };
    on.fs.set_dir_meta(&on.at("dir0"), &meta).unwrap();
    assert_eq!(on.found(&root, "dir0"), meta);
    on.fs.set_dir_meta(&root, &meta).unwrap();
    let xattrs = on.fs.dir_xattrs(&root).unwrap();
    assert_eq!(on.fs.stat_dir(&root).unwrap().metadata(xattrs), meta);
}

pub(crate) fn xattrs_become_exactly_these<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    assert!(on.fs.dir_xattrs(&dir).unwrap().is_empty());
    if !on.has_xattrs {
        return;
    }
    let mut first = vec![
        attr("user.a", b""),
        attr("user.b", b"two\0bytes"),
        attr("user.z", b"z"),
    ];
    if on.privileged {
        first.insert(0, attr("trusted.t", &[0xff; 300]));
    }
    let second = vec![attr("user.b", b"changed"), attr("user.c", b"new")];
    for xattrs in [&first, &second, &Xattrs::new()] {
        let meta = Metadata {
            xattrs: xattrs.clone(),
            ..on.dir_meta()
        };
        on.fs.set_dir_meta(&dir, &meta).unwrap();
        assert_eq!(&on.fs.dir_xattrs(&dir).unwrap(), xattrs);
        assert_eq!(&on.fs.xattrs(&root, &name("dir")).unwrap(), xattrs);

        let meta = Metadata {
            xattrs: xattrs.clone(),
            ..on.meta(Kind::File)
        };
        on.publish(&root, &name("published"), b"", &meta).unwrap();
        assert_eq!(on.found(&root, "published"), meta);
        let (file, _) = on.fs.open(&root, &name("published")).unwrap();
        assert_eq!(&on.fs.file_xattrs(&file).unwrap(), xattrs);

        if on.fs.stat(&root, &name("in place")).is_err() {
            on.write(&root, "in place", b"");
        }
        on.fs
            .set_file_meta(&root, &name("in place"), &meta, 1)
            .unwrap();
        assert_eq!(on.found(&root, "in place"), meta);
    }
    if on.privileged {
        let xattrs = vec![attr("trusted.of-link", b"1")];
        let meta = Metadata {
            xattrs,
            ..on.special_meta(Kind::Symlink, b"published")
        };
        on.fs
            .publish_special(&root, &name("link"), &meta, b"published")
            .unwrap();
        assert_eq!(on.found(&root, "link"), meta);
        assert!(on.fs.xattrs(&root, &name("published")).unwrap().is_empty());
    }
    assert_eq!(
        code(on.fs.xattrs(&root, &name("missing"))),
        Some(libc::ENOENT)
    );
}

pub(crate) fn set_file_meta_is_in_place<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let mut meta = on.write(&root, "file", b"content");
    let before = on.stat(&root, "file");
    meta.mode = 0o4711;
    if on.privileged {
        (meta.uid, meta.gid) = (99, 98);
    }
    on.fs.set_file_meta(&root, &name("file"), &meta, 1).unwrap();
    assert_eq!(on.found(&root, "file"), meta);
    // The owner changes but the mode stays: the kernel's loss of set-user-id must be made good.
    if on.privileged {
        meta.uid = 100;
        on.fs.set_file_meta(&root, &name("file"), &meta, 1).unwrap();
        assert_eq!(on.found(&root, "file"), meta);
    }
    assert!(on.stat(&root, "file").same_inode(&before));
    assert_eq!(on.read(&root, "file"), b"content");
}

pub(crate) fn set_file_meta_refuses_what_differs<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let held = on.write(&root, "file", b"content");
    let set = |called: &str, meta: &Metadata| {
        code(on.fs.set_file_meta(
            &root,
            &name(called),
            &Metadata {
                mode: 0o600,
                ..meta.clone()
            },
            1,
        ))
    };
    assert_eq!(
        set(
            "file",
            &Metadata {
                size: 8,
                ..held.clone()
            }
        ),
        Some(libc::ESTALE)
    );
    let later = Metadata {
        mtime: TIMES[1],
        ..held.clone()
    };
    assert_eq!(set("file", &later), Some(libc::ESTALE));
    on.mkdir(&root, "dir");
    on.symlink(&root, "link", "file");
    on.fs
        .publish_special(&root, &name("fifo"), &on.meta(Kind::Fifo), b"")
        .unwrap();
    for other in ["dir", "link", "fifo"] {
        assert_eq!(set(other, &held), Some(libc::ESTALE), "{other}");
    }
    assert_eq!(set("missing", &held), Some(libc::ENOENT));
    (on.link)(&path("file"), &path("dir/other"));
    assert_eq!(set("file", &held), Some(libc::EMLINK));
    assert_eq!(on.found(&root, "file"), held);
}
