//! Mounts below a root are entered only if that is asked for. Needs root's rights; without them there is
//! nothing to mount.

use std::os::unix::fs::MetadataExt;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};

use super::*;
use crate::engine::work::{Finding, Further, LookName, Order};
use crate::source::reader::{Reader, ReaderSettings};

/// Runs a test in a thread with its own table of mounts, and a file system mounted at `ROOT/way/mount`
/// that holds `file`. What is mounted goes away with the thread.
fn with_mount(test: impl FnOnce(&Path) + Send) {
    if !is_root() {
        return;
    }
    let dir = fresh(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: only this thread leaves the shared table of mounts, and no memory is affected.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            mount_change("/", private).unwrap();
            let at = dir.path().join("way/mount");
            std::fs::create_dir_all(&at).unwrap();
            mount("none", &at, "tmpfs", MountFlags::empty(), None).unwrap();
            std::fs::write(at.join("file"), b"precious").unwrap();
            test(dir.path());
        });
    });
}

#[test]
fn a_mount_is_another_file_system() {
    with_mount(|dir| {
        let fs = RealFs::sink(dir, SinkOptions::default()).unwrap();
        let way = fs.open_dir(&fs.root().unwrap(), &name("way")).unwrap();
        assert_eq!(code(fs.open_dir(&way, &name("mount"))), Some(libc::EXDEV));
        assert_ne!(
            fs.stat(&way, &name("mount")).unwrap().dev,
            fs.identity().dev
        );
        assert_eq!(
            code(fs.remove_tree(&way, &name("mount"))),
            Some(libc::EBUSY)
        );
        assert!(dir.join("way/mount/file").exists());
    });
}

#[test]
fn a_bind_mount_of_the_same_file_system_is_not_entered() {
    with_mount(|dir| {
        std::fs::create_dir(dir.join("bound")).unwrap();
        mount_bind(dir.join("way"), dir.join("bound")).unwrap();
        let fs = RealFs::sink(dir, SinkOptions::default()).unwrap();
        let root = fs.root().unwrap();
        assert_eq!(code(fs.open_dir(&root, &name("bound"))), Some(libc::EXDEV));
    });
}

#[test]
fn removing_a_tree_stops_at_a_mount() {
    with_mount(|dir| {
        let fs = RealFs::sink(dir, SinkOptions::default()).unwrap();
        let root = fs.root().unwrap();
        let mounted = open::root(&dir.join("way/mount")).unwrap();
        assert_eq!(code(fs.remove_tree(&root, &name("way"))), Some(libc::EXDEV));
        assert!(stat::at(&mounted, b"file").is_ok());
        // It is where it was, and not hidden in the stage.
        assert!(dir.join("way/mount/file").exists());
        let staged = std::fs::read_dir(dir.join(STAGE_NAME)).unwrap();
        assert_eq!(staged.count(), 0);
    });
}

#[test]
fn a_source_names_the_mounts_and_sees_what_they_cover() {
    with_mount(|dir| {
        let (fs, notes) = RealFs::source(dir).unwrap();
        assert_eq!(notes.mounts_below, [dir.join("way/mount")]);
        let way = fs.open_dir(&fs.root().unwrap(), &name("way")).unwrap();
        let covered = fs.open_dir(&way, &name("mount")).unwrap();
        let mut names = 0;
        fs.list(&covered, &mut |_, _| names += 1).unwrap();
        assert_eq!(names, 0);
    });
}

/// The content of `way/mount/file` through the opened root.
fn precious(fs: &RealFs) -> io::Result<Vec<u8>> {
    let way = fs.open_dir(&fs.root()?, &name("way"))?;
    let (file, _) = fs.open(&fs.open_dir(&way, &name("mount"))?, &name("file"))?;
    let mut content = vec![0; 64];
    let read = fs.read_at(&file, 0, &mut content)?;
    content.truncate(read);
    Ok(content)
}

#[test]
fn a_source_with_mounts_sees_those_of_its_start() {
    with_mount(|dir| {
        std::fs::create_dir(dir.join("late")).unwrap();
        let (fs, notes) = RealFs::source_with_mounts(dir).unwrap();
        assert_eq!(notes.mounts_below, [dir.join("way/mount")]);
        assert_eq!(precious(&fs).unwrap(), b"precious");
        mount("none", dir.join("late"), "tmpfs", MountFlags::empty(), None).unwrap();
        let late = fs.open_dir(&fs.root().unwrap(), &name("late")).unwrap();
        assert_eq!(fs.stat_dir(&late).unwrap().dev, fs.identity().dev);
        unmount(dir.join("way/mount"), UnmountFlags::empty()).unwrap();
        assert_eq!(precious(&fs).unwrap(), b"precious");
    });
}

#[test]
fn a_mount_that_is_entered_is_only_read() {
    with_mount(|dir| {
        let at = dir.join("way/mount/file");
        let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        let times = std::fs::FileTimes::new().set_accessed(old);
        let file = OpenOptions::new().write(true).open(&at).unwrap();
        file.set_times(times).unwrap();
        let (fs, _) = RealFs::source_with_mounts(dir).unwrap();
        assert_eq!(precious(&fs).unwrap(), b"precious");
        assert_eq!(at.metadata().unwrap().atime(), 1000);
        let way = fs.open_dir(&fs.root().unwrap(), &name("way")).unwrap();
        let inside = fs.open_dir(&way, &name("mount")).unwrap();
        let made = rustix::fs::mkdirat(&inside, "made", rustix::fs::Mode::RWXU);
        assert_eq!(made, Err(Errno::ROFS));
    });
}

#[test]
fn a_file_that_something_is_mounted_on_is_not_opened() {
    with_mount(|dir| {
        std::fs::write(dir.join("file"), b"covered").unwrap();
        mount_bind(dir.join("way/mount/file"), dir.join("file")).unwrap();
        let (fs, _) = RealFs::source_with_mounts(dir).unwrap();
        let opened = fs.open(&fs.root().unwrap(), &name("file"));
        assert_eq!(code(opened), Some(libc::EXDEV));
        assert_eq!(mounted_at(&dir.join("file")).unwrap(), None);
    });
}

#[test]
fn what_is_mounted_is_told_from_what_it_covers() {
    with_mount(|dir| {
        let at = dir.join("way/mount");
        let first = mounted_at(&at).unwrap().unwrap();
        assert_eq!(first.dev, at.metadata().unwrap().dev());
        assert_eq!(first.ino, at.metadata().unwrap().ino());
        assert_eq!(mounted_at(&dir.join("way")).unwrap(), None);
        mount("none", &at, "tmpfs", MountFlags::empty(), None).unwrap();
        assert_ne!(mounted_at(&at).unwrap(), Some(first));
        for _ in 0..2 {
            unmount(&at, UnmountFlags::empty()).unwrap();
        }
        assert_eq!(mounted_at(&at).unwrap(), None);
        // A directory bound onto itself is the same inode, and a mount nevertheless.
        mount_bind(&at, &at).unwrap();
        assert!(mounted_at(&at).unwrap().is_some());
        assert_eq!(code(mounted_at(&dir.join("missing"))), Some(libc::ENOENT));
    });
}

#[test]
fn the_table_of_mounts_tells_when_it_changes() {
    with_mount(|dir| {
        let odd = dir.join("a b\\040\nc");
        std::fs::create_dir(&odd).unwrap();
        let mut table = MountTable::open().unwrap();
        let before = table.below(dir).unwrap();
        assert!(!table.has_changed().unwrap());
        for _ in 0..2 {
            mount("none", &odd, "tmpfs", MountFlags::empty(), None).unwrap();
            assert!(table.has_changed().unwrap());
            assert!(!table.has_changed().unwrap());
        }
        assert_eq!(
            table.below(dir).unwrap(),
            [odd.clone(), dir.join("way/mount")]
        );
        for _ in 0..2 {
            unmount(&odd, UnmountFlags::empty()).unwrap();
        }
        assert!(table.has_changed().unwrap());
        assert_eq!(table.below(dir).unwrap(), before);
    });
}

#[test]
fn a_reader_says_nothing_of_what_lies_beyond_a_mount() {
    with_mount(|dir| {
        // A root without a private clone, as one without rights has it.
        let fs = RealFs::sink(dir, SinkOptions::default()).unwrap();
        let mut reader = Reader::new(ReaderSettings::default(), crate::tree::Filter::default());
        let path = |text: &str| RelPath::new(text.as_bytes()).unwrap();
        let mut found = |order| reader.read(&fs, Time::default(), &order, &mut || 1);
        for dir in ["way/mount", "way/mount/missing/below"] {
            let order = Order::LookDir { dir: path(dir) };
            assert_eq!(found(order), Finding::Excluded, "{dir}");
        }
        let (from, to) = (path("way/mount/missing"), path("way/mount/file"));
        assert_eq!(found(Order::CheckRename { from, to }), Finding::NotRenamed);
        let look = found(Order::Look {
            dir: path("way/mount"),
            names: vec![LookName {
                name: name("missing"),
                attributes: false,
                is_file: false,
                unsettled: false,
                further: Further::Unknown,
            }],
            content: true,
            streams: 0,
        });
        assert_eq!(look, Finding::Excluded);
    });
}
