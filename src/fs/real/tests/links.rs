//! Links while somebody exchanges names, which only shows between the system calls.

use super::super::link;
use super::*;

fn stage_is_empty(on: &Fixture<RealFs>) -> bool {
    let stage = base(on).join(STAGE_NAME);
    !stage.exists() || std::fs::read_dir(stage).unwrap().count() == 0
}

#[test]
fn what_takes_the_name_meanwhile_is_not_linked() {
    for on in [on_disk(), on_tmpfs()] {
        let root = on.fs.root().unwrap();
        let stage = on.fs.stage.as_ref().unwrap();
        let give =
            |entry: &OwnedFd, new: &[u8]| code(link::give_name(stage, entry, root.as_fd(), new));
        on.write(&root, "taken", b"stays");
        on.write(&root, "file", b"meant");
        let entry = link::find(root.as_fd(), b"file", &on.stat(&root, "file")).unwrap();
        on.write(&root, "file", b"other");
        for new in [b"new".as_slice(), b"taken"] {
            assert_eq!(give(&entry, new), Some(libc::ESTALE));
        }
        assert_eq!(on.read(&root, "taken"), b"stays");
        assert_eq!(on.names(&root).len(), 2);

        let entry = link::find(root.as_fd(), b"file", &on.stat(&root, "file")).unwrap();
        on.fs
            .rename(&root, &name("file"), &root, &name("moved"))
            .unwrap();
        on.write(&root, "file", b"third");
        for new in ["new", "taken"] {
            assert_eq!(give(&entry, new.as_bytes()), None);
            assert_eq!(on.read(&root, new), b"other");
        }
        assert!(stage_is_empty(&on));
    }
}

#[test]
fn a_name_that_became_the_link_meanwhile_leaves_no_trace() {
    for on in [on_disk(), on_tmpfs()] {
        let root = on.fs.root().unwrap();
        let stage = on.fs.stage.as_ref().unwrap();
        on.write(&root, "file", b"shared");
        let entry = link::find(root.as_fd(), b"file", &on.stat(&root, "file")).unwrap();
        let (staged, ()) = stage
            .make(|dir, name| link::exclusive(entry.as_fd(), dir, name.as_bytes()))
            .unwrap();
        std::fs::hard_link(base(&on).join("file"), base(&on).join("other")).unwrap();
        staged.publish_link(root.as_fd(), b"other").unwrap();
        assert!(stage_is_empty(&on));
        assert_eq!(on.stat(&root, "file").nlink, 2);
    }
}

#[test]
fn refused_links_leave_no_trace() {
    for on in [on_disk(), on_tmpfs()] {
        let root = on.fs.root().unwrap();
        on.write(&root, "file", b"content");
        on.mkdir(&root, "dir");
        let what = on.stat(&root, "file");
        let link =
            |to: &RealDir, new: &str| code(on.fs.link(&root, &name("file"), to, &name(new), &what));
        assert_eq!(link(&root, "dir"), Some(libc::EISDIR));
        assert_eq!(link(&root, STAGE_NAME), Some(libc::EPERM));
        let gone = on.at("dir");
        on.fs.remove_tree(&root, &name("dir")).unwrap();
        assert_eq!(link(&gone, "ghost"), Some(libc::ENOENT));
        assert!(stage_is_empty(&on));
        assert_eq!(on.stat(&root, "file").nlink, 1);
    }
}

#[test]
fn links_do_not_cross_file_systems() {
    let (on, elsewhere) = (on_disk(), on_tmpfs());
    let (root, other) = (on.fs.root().unwrap(), elsewhere.fs.root().unwrap());
    on.write(&root, "file", b"content");
    let what = on.stat(&root, "file");
    if what.dev == elsewhere.fs.identity().dev {
        return;
    }
    for new in ["new", "taken"] {
        elsewhere.write(&other, "taken", b"stays");
        let refused = on.fs.link(&root, &name("file"), &other, &name(new), &what);
        assert_eq!(code(refused), Some(libc::EXDEV));
    }
    assert!(stage_is_empty(&on));
}
