//! What is found out about targets is true: of real file systems, mount options and users. Needs root's
//! rights; what this host cannot produce is said.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use rustix::mount::{MountPropagationFlags, mount_change};
use serde_bytes::ByteBuf;

use super::*;
use crate::tree::{FixedOwner, LimitKind, TargetLimits, TimeRange, View};

const NOBODY: u32 = 65_534;

/// Runs a test in a thread with its own table of mounts; what is mounted goes away with the thread.
fn apart(test: impl FnOnce(&Path) + Send) {
    if !is_root() {
        return skip("mounts", "only root can");
    }
    let dir = fresh(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp"));
    let ended = std::thread::scope(|scope| {
        let run = || {
            // SAFETY: only this thread leaves the shared table of mounts, and no memory is affected.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
            let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
            mount_change("/", private).unwrap();
            test(dir.path());
        };
        scope.spawn(run).join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

#[allow(clippy::print_stderr)]
fn skip(what: &str, why: &str) {
    eprintln!("NOT TRIED: {what}: {why}");
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output();
    match output {
        Err(error) => Err(format!("{program}: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Mounts at `DIR/mnt`, which is returned; says so and returns `None` where that is not possible.
fn mounted(dir: &Path, kind: &str, options: &str, mkfs: &[&str]) -> Option<PathBuf> {
    let (at, image) = (dir.join("mnt"), dir.join("image"));
    std::fs::create_dir(&at).unwrap();
    let (place, all) = (at.to_str().unwrap(), image.to_str().unwrap());
    let done = if ["tmpfs", "ramfs"].contains(&kind) {
        run("mount", &["-t", kind, "-o", options, "none", place])
    } else {
        let file = std::fs::File::create(&image).unwrap();
        // As much as XFS wants; what is not used takes no space.
        file.set_len(320 << 20).unwrap();
        let program = format!("mkfs.{kind}");
        run(&program, &[mkfs, &[all]].concat())
            .and_then(|()| run("mount", &["-o", &format!("loop,{options}"), all, place]))
    };
    match done {
        Ok(()) => Some(at),
        Err(why) => {
            skip(&format!("{kind} {options} {mkfs:?}"), &why);
            None
        }
    }
}

fn probed(dir: &Path) -> (RealFs, TargetLimits) {
    let mut fs = RealFs::sink(dir, SinkOptions::default()).unwrap();
    let limits = fs.probe().unwrap();
    (fs, limits)
}

fn names(dir: &Path) -> usize {
    std::fs::read_dir(dir).unwrap().count()
}

/// Entries with everything that a target may be unable to hold, as they look there, come back exactly.
fn assert_held(fs: &RealFs, limits: &TargetLimits) {
    let view = View::new(limits.clone(), None);
    let times = [
        (0, 0),
        (-1, 999_999_999),
        (1 << 31, 1),
        (-(1 << 40), 5),
        (1 << 40, 123_456_789),
    ];
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff\x02\0\x04\0\x07\0\0\0\
        \x04\0\0\0\xff\xff\xff\xff\x10\0\x04\0\xff\xff\xff\xff\x20\0\0\0\xff\xff\xff\xff";
    let attributes: [(&str, &[u8]); 4] = [
        (
            "security.capability",
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        ),
        ("system.posix_acl_access", acl),
        ("trusted.a", b"1"),
        ("user.a", b"2"),
    ];
    let root = fs.root().unwrap();
    for (number, (secs, nanos)) in times.into_iter().enumerate() {
        let mut meta = Metadata {
            kind: Kind::File,
            mode: 0o6640,
            uid: 7,
            gid: 8,
            size: 0,
            mtime: Time { secs, nanos },
            rdev: 0,
            xattrs: attributes
                .map(|(name, value)| (ByteBuf::from(name), ByteBuf::from(value)))
                .to_vec(),
        };
        let name = name(format!("f{number}"));
        view.show(Some(&name), &mut meta);
        fs.publish(&mut fs.stage(&root, 0o600).unwrap(), &root, &name, &meta)
            .unwrap();
        let stat = fs.stat(&root, &name).unwrap();
        assert_eq!(stat.metadata(fs.xattrs(&root, &name).unwrap()), meta);
    }
}

#[test]
fn a_whole_file_system_holds_everything_for_root() {
    if !is_root() {
        return skip("a target of root", "only root can");
    }
    let dir = fresh("/dev/shm");
    let before = dir.path().metadata().unwrap();
    let (fs, limits) = probed(dir.path());
    assert_eq!(limits, TargetLimits::default());
    let after = dir.path().metadata().unwrap();
    assert_eq!(names(dir.path()), 0, "nothing is left behind");
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    assert_held(&fs, &limits);
}

#[test]
fn the_range_of_times_is_found() {
    let range = |step_nanos, last_secs| TimeRange {
        step_nanos,
        first_secs: -(1 << 31),
        last_secs,
    };
    let cases: [(&str, &[&str], TimeRange); 3] = [
        (
            "ext4",
            &["-q", "-F", "-I", "128"],
            range(1_000_000_000, (1 << 31) - 1),
        ),
        ("ext4", &["-q", "-F", "-I", "256"], range(1, 15_032_385_535)),
        ("xfs", &["-q"], range(1, 16_299_260_424)),
    ];
    for (kind, mkfs, expected) in cases {
        apart(|dir| {
            let Some(at) = mounted(dir, kind, "rw", mkfs) else {
                return;
            };
            let (fs, limits) = probed(&at);
            assert_eq!(limits.time, expected, "{kind} {mkfs:?}");
            assert_held(&fs, &limits);
        });
    }
}

#[test]
fn xfs_shows_acls_once() {
    apart(|dir| {
        let Some(at) = mounted(dir, "xfs", "rw", &["-q"]) else {
            return;
        };
        let (fs, limits) = probed(&at);
        assert_held(&fs, &limits);
        // What comes from elsewhere without XFS's own form of the ACL must not take the ACL away.
        let root = fs.root().unwrap();
        let name = name("f0");
        let stat = fs.stat(&root, &name).unwrap();
        let meta = stat.metadata(fs.xattrs(&root, &name).unwrap());
        assert_eq!(meta.xattrs.len(), 4);
        fs.set_file_meta(&root, &name, &meta, 1).unwrap();
        assert_eq!(fs.xattrs(&root, &name).unwrap(), meta.xattrs);
    });
}

#[test]
fn a_file_system_without_attributes_is_found() {
    apart(|dir| {
        let Some(at) = mounted(dir, "ramfs", "rw", &[]) else {
            return;
        };
        let (fs, limits) = probed(&at);
        assert_eq!(
            limits.lacks,
            [
                LimitKind::Acls,
                LimitKind::UserXattrs,
                LimitKind::TrustedXattrs,
                LimitKind::SecurityXattrs
            ]
        );
        assert_held(&fs, &limits);
    });
}

/// Makes this thread an ordinary user.
fn become_nobody() {
    // SAFETY: the ids of this thread alone change, unlike with the functions of the C library.
    unsafe {
        assert_eq!(
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY),
            0
        );
        assert_eq!(
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY),
            0
        );
    }
}

/// Names the target of [`an_ordinary_user_has_limits`] where it runs as that user. A thread alone cannot
/// become one: `/proc/self` would be root's.
const TARGET_OF_NOBODY: &str = "OSYNC_TEST_TARGET_OF_NOBODY";

#[test]
fn an_ordinary_user_has_limits() {
    if let Some(target) = std::env::var_os(TARGET_OF_NOBODY) {
        return has_the_limits_of_nobody(Path::new(&target));
    }
    if !is_root() {
        return skip("another user", "only root can become one");
    }
    let dir = fresh("/dev/shm");
    std::os::unix::fs::chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let mut as_nobody = Command::new("setpriv");
    as_nobody
        .args(["--reuid=65534", "--regid=65534", "--groups=77"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "fs::real::tests::limits::an_ordinary_user_has_limits",
        ])
        .env(TARGET_OF_NOBODY, dir.path());
    let output = as_nobody.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{output:?}"
    );
}

fn has_the_limits_of_nobody(target: &Path) {
    let (fs, limits) = probed(target);
    let expected = TargetLimits {
        owner: Some(FixedOwner {
            uid: NOBODY,
            groups: vec![NOBODY, 77],
        }),
        lacks: vec![
            LimitKind::TrustedXattrs,
            LimitKind::SecurityXattrs,
            LimitKind::Devices,
        ],
        ..TargetLimits::default()
    };
    assert_eq!(limits, expected);
    assert_held(&fs, &limits);
}

#[test]
fn names_that_a_target_takes_for_one_are_found() {
    let cases: [(&str, &str, &[&str]); 3] = [
        (
            "ext4",
            "rw",
            &["-q", "-F", "-O", "casefold", "-E", "encoding=utf8"],
        ),
        ("tmpfs", "casefold", &[]),
        ("vfat", "rw", &[]),
    ];
    for (kind, options, mkfs) in cases {
        apart(|dir| {
            let Some(at) = mounted(dir, kind, options, mkfs) else {
                return;
            };
            let target = at.join("target");
            std::fs::create_dir(&target).unwrap();
            if kind != "vfat" {
                run("chattr", &["+F", target.to_str().unwrap()]).unwrap();
            }
            assert!(probed(&target).1.has(LimitKind::FoldedNames), "{kind}");
        });
    }
}

#[test]
fn attributes_for_which_an_inode_has_no_room_are_no_full_disk() {
    apart(|dir| {
        let Some(at) = mounted(dir, "ext4", "rw", &["-q", "-F", "-b", "1024"]) else {
            return;
        };
        let (fs, _) = probed(&at);
        let meta = Metadata {
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: Time::default(),
            rdev: 0,
            xattrs: vec![(ByteBuf::from("user.large"), ByteBuf::from(vec![1; 8192]))],
        };
        let root = fs.root().unwrap();
        let published = fs.publish(
            &mut fs.stage(&root, 0o600).unwrap(),
            &root,
            &name("f"),
            &meta,
        );
        assert_eq!(code(published), Some(libc::E2BIG));
        // On a disk that is full indeed, it is told as that.
        let filler = std::fs::File::create(at.join("filler")).unwrap();
        let full = std::io::copy(&mut std::io::repeat(0), &mut &filler).unwrap_err();
        assert_eq!(full.raw_os_error(), Some(libc::ENOSPC));
        let published = fs.publish(
            &mut fs.stage(&root, 0o600).unwrap(),
            &root,
            &name("f"),
            &meta,
        );
        assert_eq!(code(published), Some(libc::ENOSPC));
    });
}

#[test]
fn a_full_target_cannot_be_tried() {
    apart(|dir| {
        let Some(at) = mounted(dir, "tmpfs", "nr_inodes=2", &[]) else {
            return;
        };
        let mut fs = RealFs::sink(&at, SinkOptions::default()).unwrap();
        assert_eq!(code(fs.probe()), Some(libc::ENOSPC));
        assert_eq!(names(&at), 0);
    });
}

#[test]
fn a_source_cannot_be_tried() {
    let dir = fresh("/dev/shm");
    let (mut fs, _) = RealFs::source(dir.path()).unwrap();
    assert_eq!(code(fs.probe()), Some(libc::EROFS));
}

#[test]
fn an_ordinary_user_does_not_see_everything_of_a_source() {
    apart(|dir| {
        let Some(at) = mounted(dir, "tmpfs", "mode=0777", &[]) else {
            return;
        };
        let file = at.join("f");
        std::fs::write(&file, b"").unwrap();
        for (name, value) in [("trusted.a", &b"1"[..]), ("user.a", b"2")] {
            rustix::fs::setxattr(&file, name, value, XattrFlags::empty()).unwrap();
        }
        let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        rustix::fs::setxattr(
            &file,
            "security.capability",
            capability,
            XattrFlags::empty(),
        )
        .unwrap();
        let seen = || {
            let (fs, notes) = RealFs::source(&at).unwrap();
            let xattrs = fs.xattrs(&fs.root().unwrap(), &name("f")).unwrap();
            let names: Vec<String> = xattrs
                .into_iter()
                .map(|(name, _)| String::from_utf8(name.into_vec()).unwrap())
                .collect();
            (notes.sees_trusted, names)
        };
        let all = ["security.capability", "trusted.a", "user.a"];
        assert_eq!(seen(), (true, all.map(String::from).to_vec()));
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        become_nobody();
        let shown = ["security.capability", "user.a"];
        assert_eq!(seen(), (false, shown.map(String::from).to_vec()));
    });
}
