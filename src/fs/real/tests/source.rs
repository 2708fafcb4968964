//! A source changes nothing.

use std::os::unix::fs::{MetadataExt, symlink};
use std::time::{Duration, SystemTime};

use super::*;

/// A tree whose access times the next ordinary read would change.
fn tree() -> tempfile::TempDir {
    let dir = fresh(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"));
    std::fs::create_dir(dir.path().join("dir")).unwrap();
    std::fs::write(dir.path().join("dir/file"), b"content").unwrap();
    symlink("file", dir.path().join("dir/link")).unwrap();
    let old = rustix::fs::Timespec {
        tv_sec: 1_000_000_000,
        tv_nsec: 7,
    };
    let times = rustix::fs::Timestamps {
        last_access: old,
        last_modification: old,
    };
    for below in ["dir/file", "dir/link", "dir", ""] {
        let path = dir.path().join(below);
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    dir
}

fn access_times(dir: &Path) -> Vec<(i64, i64)> {
    ["", "dir", "dir/file", "dir/link"]
        .map(|below| {
            let found = dir.join(below).symlink_metadata().unwrap();
            (found.atime(), found.atime_nsec())
        })
        .into()
}

fn read_everything(fs: &RealFs) {
    let root = fs.root().unwrap();
    fs.list(&root, &mut |_, _| {}).unwrap();
    let dir = fs.open_dir(&root, &name("dir")).unwrap();
    fs.list(&dir, &mut |_, _| {}).unwrap();
    fs.dir_xattrs(&dir).unwrap();
    fs.xattrs(&dir, &name("link")).unwrap();
    let (file, _) = fs.open(&dir, &name("file")).unwrap();
    let mut content = [0; 16];
    assert_eq!(fs.read_at(&file, 0, &mut content).unwrap(), 7);
    fs.file_xattrs(&file).unwrap();
}

#[test]
fn access_times_stay() {
    let dir = tree();
    let before = access_times(dir.path());
    let (fs, notes) = RealFs::source(dir.path()).unwrap();
    read_everything(&fs);
    if is_root() {
        assert!(matches!(notes.reading, Reading::PrivateClone), "{notes:?}");
    }
    if notes.access_times == AccessTimes::Kept {
        let at = fs.open_dir(&fs.root().unwrap(), &name("dir")).unwrap();
        assert_eq!(fs.read_link(&at, &name("link")).unwrap(), b"file");
    }
    assert_eq!(access_times(dir.path()), before);
}

#[test]
fn without_a_clone_own_access_times_stay() {
    let dir = tree();
    let before = access_times(dir.path());
    let root = open::root(dir.path()).unwrap();
    let fs = RealFs::at(root, true, None).unwrap();
    read_everything(&fs);
    assert_eq!(access_times(dir.path()), before);

    // The same without O_NOATIME shows that there was something to keep.
    let root = open::root(dir.path()).unwrap();
    let mount = rustix::fs::fstatvfs(&root).unwrap().f_flag;
    if !mount.contains(rustix::fs::StatVfsMountFlags::NOATIME) {
        read_everything(&RealFs::at(root, false, None).unwrap());
        assert_ne!(access_times(dir.path()), before);
    }
}

#[test]
fn nothing_can_be_written() {
    let dir = tree();
    let (fs, notes) = RealFs::source(dir.path()).unwrap();
    let root = fs.root().unwrap();
    let at = fs.open_dir(&root, &name("dir")).unwrap();
    let stat = fs.stat_dir(&at).unwrap();
    let meta = stat.metadata(Xattrs::new());
    let special = Metadata {
        kind: Kind::Fifo,
        ..meta.clone()
    };
    let (new, file) = (name("new"), name("file"));
    let refused = [
        code(fs.stage(&root, 0o600)),
        code(fs.make_dir(&at, &new, &meta)),
        code(fs.publish_special(&at, &new, &special, b"")),
        code(fs.set_dir_meta(&at, &meta)),
        code(fs.set_file_meta(&at, &file, &meta, 1)),
        code(fs.remove_file(&at, &file)),
        code(fs.remove_tree(&root, &name("dir"))),
        code(fs.rename(&at, &file, &at, &new)),
        code(fs.sync()),
        code(fs.tidy()),
        code(fs.clear_stage()),
    ];
    assert_eq!(refused, [Some(libc::EROFS); 11]);
    let (mut read_only, _) = fs.open(&at, &file).unwrap();
    assert_eq!(code(fs.write_at(&read_only, 0, b"x")), Some(libc::EBADF));
    assert_eq!(
        code(fs.publish(&mut read_only, &at, &new, &meta)),
        Some(libc::EINVAL)
    );

    // Through the clone the kernel refuses as well, whoever asks.
    if matches!(notes.reading, Reading::PrivateClone) {
        use rustix::fs::{Mode, OFlags};
        use rustix::io::Errno;
        let open = rustix::fs::openat(&at, "file", OFlags::WRONLY, Mode::empty());
        assert_eq!(open.unwrap_err(), Errno::ROFS);
        let made = rustix::fs::mkdirat(&at, "new", Mode::RWXU);
        assert_eq!(made.unwrap_err(), Errno::ROFS);
    }
}

#[test]
fn a_writer_shows_through_the_source() {
    ignore_lease_signal().unwrap();
    let dir = tree();
    let (fs, notes) = RealFs::source(dir.path()).unwrap();
    let at = fs.open_dir(&fs.root().unwrap(), &name("dir")).unwrap();
    let (file, _) = fs.open(&at, &name("file")).unwrap();
    assert_eq!(fs.unwritten(&file), Some(true), "{notes:?}");
    let writer = OpenOptions::new()
        .write(true)
        .open(dir.path().join("dir/file"))
        .unwrap();
    assert_eq!(fs.unwritten(&file), Some(false));
    drop(writer);
    assert_eq!(fs.unwritten(&file), Some(true));
}

#[test]
fn writers_and_leases_do_not_disturb_each_other() {
    ignore_lease_signal().unwrap();
    let dir = tree();
    let path = dir.path().join("dir/file");
    let (fs, _) = RealFs::source(dir.path()).unwrap();
    let at = fs.open_dir(&fs.root().unwrap(), &name("dir")).unwrap();
    let (file, _) = fs.open(&at, &name("file")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert!(fs.unwritten(&file).is_some());
            }
        });
        let begin = SystemTime::now();
        for _ in 0..2000 {
            drop(OpenOptions::new().write(true).open(&path).unwrap());
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        asking.join().unwrap();
        // A writer that met a lease would wait for the kernel's 45 s if it were not given back.
        assert!(begin.elapsed().unwrap() < Duration::from_secs(40));
    });
}

#[test]
fn roots_that_are_none_are_refused() {
    let dir = tree();
    assert_eq!(
        code(RealFs::source(&dir.path().join("missing"))),
        Some(libc::ENOENT)
    );
    assert_eq!(
        code(RealFs::source(&dir.path().join("dir/file"))),
        Some(libc::ENOTDIR)
    );
    let options = SinkOptions::default();
    assert_eq!(
        code(RealFs::sink(&dir.path().join("dir/file"), options)),
        Some(libc::ENOTDIR)
    );
}
