#![allow(clippy::unwrap_used)]

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::*;

/// Runs a test on a target with room for a few entries, in a thread with its own table of mounts; it goes
/// away with the thread. Needs root's rights.
fn on_small_target(test: impl FnOnce(&Path) + Send) {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        // SAFETY: only this thread leaves the shared table of mounts, and no memory is affected.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNS) }, 0);
        let private = MountPropagationFlags::REC | MountPropagationFlags::PRIVATE;
        mount_change("/", private).unwrap();
        let options = c"nr_inodes=64";
        mount("none", dir.path(), "tmpfs", MountFlags::empty(), options).unwrap();
        test(dir.path());
    };
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn fill(target: &Path) {
    let made = (0..).map(|number| std::fs::write(target.join(format!("f{number}")), b""));
    assert_eq!(
        made.filter_map(Result::err).next().unwrap().raw_os_error(),
        Some(libc::ENOSPC)
    );
}

#[test]
fn a_full_target_is_taken_as_it_was_before() {
    on_small_target(|target| {
        let base = tempfile::tempdir().unwrap();
        let settings = Settings {
            state_dir: Some(base.path().to_owned()),
            ..Settings::default()
        };
        let known = Target::open(target, false, &settings).unwrap();
        assert_eq!(known.limits, TargetLimits::default());
        // Something that would be found out otherwise, to see where the answer comes from.
        let before = TargetLimits {
            lacks: vec![LimitKind::TrustedXattrs],
            ..TargetLimits::default()
        };
        let state = SinkState {
            limits: Some(before.clone()),
            ..known.state.clone()
        };
        known.dir.save(&state).unwrap();
        drop(known);
        fill(target);
        let full = Target::open(target, false, &settings).unwrap();
        assert_eq!(full.limits, before);
        drop(full);

        // One that was never tried is refused until it can be.
        let elsewhere = tempfile::tempdir().unwrap();
        let settings = Settings {
            state_dir: Some(elsewhere.path().to_owned()),
            ..settings
        };
        let refused = Target::open(target, true, &settings).err().unwrap();
        assert!(refused.to_string().contains("No space left"), "{refused}");
    });
}
