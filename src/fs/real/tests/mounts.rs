//! Mounts below a root are never entered. Needs root's rights; without them there is nothing to mount.

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::*;

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
        rustix::mount::mount_bind(dir.join("way"), dir.join("bound")).unwrap();
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
