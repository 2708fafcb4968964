//! The stage, and metadata that only a kernel has.

use std::os::unix::fs::{MetadataExt, symlink};

use serde_bytes::ByteBuf;

use super::*;
use crate::tree::XATTRS_BYTES_MAX;

fn stage_path(on: &Fixture<RealFs>) -> PathBuf {
    base(on).join(STAGE_NAME)
}

#[test]
fn stages_are_bounded_and_freed() {
    let dir = fresh("/dev/shm");
    let fs = RealFs::sink(dir.path(), SinkOptions { stages_max: 3 }).unwrap();
    let root = fs.root().unwrap();
    let mut stages: Vec<_> = (0..3).map(|_| fs.stage(&root, 0o600).unwrap()).collect();
    assert_eq!(code(fs.stage(&root, 0o600)), Some(libc::EMFILE));
    stages.pop();
    let mut last = fs.stage(&root, 0o600).unwrap();
    let meta = fs.stat_file(&last).unwrap().metadata(Xattrs::new());
    fs.publish(&mut last, &root, &name("file"), &meta).unwrap();
    drop(last);
    fs.stage(&root, 0o600).unwrap();
}

#[test]
fn named_stages_leave_with_their_owner() {
    let on = with_named_stages();
    let root = on.fs.root().unwrap();
    let stages: Vec<_> = (0..5).map(|_| on.fs.stage(&root, 0o600).unwrap()).collect();
    assert_eq!(std::fs::read_dir(stage_path(&on)).unwrap().count(), 5);
    on.fs.tidy().unwrap();
    assert!(stage_path(&on).exists(), "it is in use");
    drop(stages);
    on.fs.tidy().unwrap();
    assert!(!stage_path(&on).exists());
}

#[test]
fn failed_publications_leave_nothing() {
    for on in [on_disk(), with_named_stages()] {
        let root = on.fs.root().unwrap();
        on.mkdir(&root, "dir");
        let refused = on.publish(&root, &name("dir"), b"x", &on.meta(Kind::File));
        assert_eq!(code(refused), Some(libc::EISDIR));
        let refused = on
            .fs
            .publish_special(&root, &name("dir"), &on.meta(Kind::Fifo), b"");
        assert_eq!(code(refused), Some(libc::EISDIR));
        let nobody = Metadata {
            uid: u32::MAX,
            ..on.meta(Kind::File)
        };
        assert_eq!(
            code(on.publish(&root, &name("new"), b"x", &nobody)),
            Some(libc::EINVAL)
        );
        let nobody = Metadata {
            kind: Kind::Dir,
            ..nobody
        };
        assert_eq!(
            code(on.fs.make_dir(&root, &name("new"), &nobody)),
            Some(libc::EINVAL)
        );
        assert_eq!(std::fs::read_dir(stage_path(&on)).unwrap().count(), 0);
        on.fs.tidy().unwrap();
        assert_eq!(std::fs::read_dir(base(&on)).unwrap().count(), 1);
    }
}

#[test]
fn the_next_start_clears_the_stage() {
    let on = on_disk();
    let mut deep = stage_path(&on);
    for _ in 0..100 {
        deep.push("directory");
    }
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), b"left").unwrap();
    symlink("/", stage_path(&on).join("link")).unwrap();
    std::fs::write(stage_path(&on).join("stage"), b"left").unwrap();
    let root = on.fs.root().unwrap();
    let before = on.fs.stat_dir(&root).unwrap().mtime;
    assert!(on.names(&root).is_empty());
    on.fs.clear_stage().unwrap();
    assert!(!stage_path(&on).exists());
    assert_eq!(on.fs.stat_dir(&root).unwrap().mtime, before);
    on.fs.clear_stage().unwrap();
}

#[test]
fn the_stages_name_is_reserved_at_the_root() {
    let on = on_disk();
    let root = on.fs.root().unwrap();
    std::fs::create_dir(stage_path(&on)).unwrap();
    let stage = name(STAGE_NAME);
    let held = on.fs.stat_dir(&root).unwrap();
    let dir_meta = Metadata {
        mode: 0o700,
        ..on.meta(Kind::Dir)
    };
    let refused = [
        code(on.fs.open_dir(&root, &stage)),
        code(on.fs.open(&root, &stage)),
        code(on.fs.stat(&root, &stage)),
        code(on.fs.remove_tree(&root, &stage)),
        code(on.fs.remove_file(&root, &stage)),
        code(on.fs.make_dir(&root, &stage, &dir_meta)),
        code(on.fs.rename(&root, &stage, &root, &name("a"))),
        code(on.fs.link(&root, &stage, &root, &name("a"), &held)),
        code(on.publish(&root, &stage, b"", &on.meta(Kind::File))),
        code(
            on.fs
                .publish_special(&root, &stage, &on.meta(Kind::Fifo), b""),
        ),
    ];
    assert_eq!(refused, [Some(libc::EPERM); 10]);
    // Elsewhere it is a name like any other.
    on.mkdir(&root, "dir");
    on.write(&on.at("dir"), STAGE_NAME, b"content");
    assert_eq!(on.names(&on.at("dir")).len(), 1);
}

#[test]
fn a_planted_stage_is_not_used() {
    let on = on_disk();
    let root = on.fs.root().unwrap();
    let elsewhere = fresh("/dev/shm");
    let symlink_meta = Metadata {
        size: 1,
        ..on.meta(Kind::Symlink)
    };
    let publish = || {
        code(
            on.fs
                .publish_special(&root, &name("link"), &symlink_meta, b"x"),
        )
    };
    symlink(elsewhere.path(), stage_path(&on)).unwrap();
    assert_eq!(publish(), Some(libc::ENOTDIR));
    assert_eq!(code(on.fs.clear_stage()), Some(libc::ENOTDIR));
    std::fs::remove_file(stage_path(&on)).unwrap();
    if on.privileged {
        std::fs::create_dir(stage_path(&on)).unwrap();
        std::os::unix::fs::chown(stage_path(&on), Some(1234), None).unwrap();
        assert_eq!(publish(), Some(libc::EPERM));
        std::fs::remove_dir(stage_path(&on)).unwrap();
    }
    // One of our own that is open to others is closed.
    std::fs::create_dir(stage_path(&on)).unwrap();
    assert_eq!(publish(), None);
    assert_eq!(stage_path(&on).metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn a_stage_that_was_removed_is_made_again() {
    let on = on_disk();
    let root = on.fs.root().unwrap();
    on.symlink(&root, "link", "first");
    std::fs::remove_dir(stage_path(&on)).unwrap();
    on.symlink(&root, "link", "second");
    assert_eq!(on.fs.read_link(&root, &name("link")).unwrap(), b"second");
    std::fs::remove_dir(stage_path(&on)).unwrap();
    on.mkdir(&root, "tree");
    on.fs.remove_tree(&root, &name("tree")).unwrap();
    assert_eq!(on.names(&root).len(), 1);
}

/// An ACL in the kernel's form: owner, one user, group, mask, others.
fn acl(user: u32) -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let entries = [
        (0x01, 6, NOBODY),
        (0x02, 4, user),
        (0x04, 4, NOBODY),
        (0x10, 4, NOBODY),
    ];
    for (tag, rights, id) in entries.into_iter().chain([(0x20u16, 0u16, NOBODY)]) {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn acls_are_set_and_inherited_ones_removed() {
    'each: for on in [on_disk(), on_tmpfs(), with_named_stages()] {
        let default = "system.posix_acl_default";
        let root = on.fs.root().unwrap();
        on.mkdir(&root, "below");
        // New files get it from the one directory or the other, wherever stages are made.
        for dir in [base(&on), base(&on).join("below")] {
            if rustix::fs::setxattr(dir, default, &acl(1234), XattrFlags::empty()).is_err() {
                continue 'each;
            }
        }
        let below = on.at("below");
        for dir in [&root, &below] {
            let no_acl = on.write(dir, "file", b"");
            assert_eq!(on.stat(dir, "file").mode, no_acl.mode);
            assert!(on.fs.xattrs(dir, &name("file")).unwrap().is_empty());
        }
        on.fs
            .publish_special(&root, &name("fifo"), &on.meta(Kind::Fifo), b"")
            .unwrap();
        on.mkdir(&root, "dir");
        for called in ["file", "fifo", "dir"] {
            assert!(
                on.fs.xattrs(&root, &name(called)).unwrap().is_empty(),
                "{called}"
            );
        }
        let wanted = vec![(
            ByteBuf::from("system.posix_acl_access"),
            ByteBuf::from(acl(4321)),
        )];
        let meta = Metadata {
            xattrs: wanted.clone(),
            ..on.meta(Kind::File)
        };
        on.publish(&root, &name("file"), b"", &meta).unwrap();
        let held = on.fs.xattrs(&root, &name("file")).unwrap();
        assert_eq!(on.stat(&root, "file").metadata(held), meta);
    }
}

#[test]
fn capabilities_survive_a_change_of_owner() {
    let on = on_disk();
    if !on.privileged {
        return;
    }
    let root = on.fs.root().unwrap();
    // Version 2, effective, CAP_NET_BIND_SERVICE permitted.
    let mut capability = vec![0; 20];
    capability[..6].copy_from_slice(&[1, 0, 0, 2, 0, 4]);
    let xattrs = vec![(
        ByteBuf::from("security.capability"),
        ByteBuf::from(capability),
    )];
    let mut meta = Metadata {
        xattrs,
        mode: 0o755,
        ..on.meta(Kind::File)
    };
    for uid in [0, 1000, 1001] {
        meta.uid = uid;
        if uid == 0 {
            on.publish(&root, &name("file"), b"", &meta).unwrap();
        } else {
            on.fs.set_file_meta(&root, &name("file"), &meta, 1).unwrap();
        }
        let held = on.fs.xattrs(&root, &name("file")).unwrap();
        assert_eq!(on.stat(&root, "file").metadata(held), meta);
    }
}

#[test]
fn too_many_xattrs_are_an_error() {
    let on = on_tmpfs();
    if !on.privileged {
        return;
    }
    let root = on.fs.root().unwrap();
    on.write(&root, "file", b"");
    let file = base(&on).join("file");
    let value = vec![1; XATTRS_BYTES_MAX / 2];
    let set = |attr: &str| rustix::fs::setxattr(&file, attr, &value, XattrFlags::empty()).unwrap();
    set("trusted.one");
    assert_eq!(on.fs.xattrs(&root, &name("file")).unwrap()[0].1, value);
    set("trusted.two");
    assert_eq!(code(on.fs.xattrs(&root, &name("file"))), Some(libc::E2BIG));
}

#[test]
fn what_holds_is_not_set_again() {
    let on = on_disk();
    let root = on.fs.root().unwrap();
    let meta = Metadata {
        mode: 0o750,
        ..on.meta(Kind::Dir)
    };
    on.fs.make_dir(&root, &name("dir"), &meta).unwrap();
    let file = on.write(&root, "file", b"x");
    let (dir, before) = (on.at("dir"), on.stat(&root, "file"));
    let before_dir = on.fs.stat_dir(&dir).unwrap();
    // Any call that sets something would move ctime.
    std::thread::yield_now();
    on.fs.set_dir_meta(&dir, &meta).unwrap();
    on.fs.set_file_meta(&root, &name("file"), &file, 1).unwrap();
    assert_eq!(on.fs.stat_dir(&dir).unwrap(), before_dir);
    assert_eq!(on.stat(&root, "file"), before);
}

#[test]
fn roots_know_themselves() {
    let on = on_disk();
    let dir = base(&on);
    let found = dir.metadata().unwrap();
    assert_eq!(
        on.fs.identity(),
        RootIdentity {
            dev: found.dev(),
            ino: found.ino(),
            born: found.created().ok().map(|at| {
                let since = at.duration_since(std::time::UNIX_EPOCH).unwrap();
                since.as_nanos().try_into().unwrap()
            }),
        }
    );
    assert!(on.fs.space().unwrap().inodes_free > 0);
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    symlink("a/b", dir.join("to b")).unwrap();
    let nested = |first: &str, second: &str| nested(&dir.join(first), &dir.join(second)).unwrap();
    assert_eq!(nested("a", "a/../a"), Some(Nesting::Same));
    assert_eq!(nested("a/b", "a"), Some(Nesting::FirstInSecond));
    assert_eq!(nested("a", "to b"), Some(Nesting::SecondInFirst));
    assert_eq!(nested("a", "a/new/er"), Some(Nesting::SecondInFirst));
    assert_eq!(nested("a/new", "a"), Some(Nesting::FirstInSecond));
    assert_eq!(nested("to b/new", "a"), Some(Nesting::FirstInSecond));
    assert_eq!(nested("new", "new"), Some(Nesting::Same));
    std::fs::create_dir(dir.join("c")).unwrap();
    assert_eq!(nested("a", "c"), None);
    assert_eq!(nested("a/b", "a/new"), None);
}

#[test]
fn times_of_the_root_can_be_set_while_the_stage_is_made() {
    let on = on_disk();
    let root = on.fs.root().unwrap();
    on.mkdir(&root, "dir");
    let dir = on.at("dir");
    let link_meta = Metadata {
        size: 1,
        ..on.meta(Kind::Symlink)
    };
    for secs in 0..200 {
        let meta = Metadata {
            mtime: Time { secs, nanos: 1 },
            mode: 0o755,
            ..on.meta(Kind::Dir)
        };
        std::thread::scope(|scope| {
            let (fs, dir, link_meta) = (&on.fs, &dir, &link_meta);
            scope.spawn(move || {
                fs.publish_special(dir, &name("link"), link_meta, b"x")
                    .unwrap()
            });
            fs.set_dir_meta(&root, &meta).unwrap();
        });
        on.fs.tidy().unwrap();
        assert_eq!(on.fs.stat_dir(&root).unwrap().mtime, meta.mtime);
    }
}
