//! Disks of the tests' own: images behind loop devices, which can be exchanged, stopped and broken.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};

use crate::endpoint::PROMPT;
use crate::wait::wait_for;

/// A device with room for a file system.
pub struct Disk {
    /// What it holds.
    pub image: PathBuf,
    device: String,
}

impl Disk {
    /// A disk of so many bytes.
    pub fn of(image: &Path, bytes: u64) -> Self {
        File::create(image).unwrap().set_len(bytes).unwrap();
        let device = run("losetup", &["--find", "--show", text(image)]);
        Self {
            image: image.to_owned(),
            device: device.trim().to_owned(),
        }
    }

    /// Makes an empty ext4, and mounts it.
    pub fn mount_anew(&self, at: &Path) {
        run("mkfs.ext4", &["-q", "-F", &self.device]);
        self.mount(at);
        fs::remove_dir(at.join("lost+found")).unwrap();
    }

    /// The same with an XFS, whose files may share what they hold.
    pub fn mount_sharing(&self, at: &Path) {
        run("mkfs.xfs", &["-q", "-f", "-m", "reflink=1", &self.device]);
        self.mount(at);
    }

    /// Mounts the file system that is there.
    pub fn mount(&self, at: &Path) {
        run("mount", &[&self.device, text(at)]);
    }

    /// Unmounts it, once nobody uses it any more.
    pub fn unmount(&self, at: &Path) {
        // A process that another test starts holds all descriptors of this one until its program runs.
        wait_for("the end of all use", PROMPT, || {
            unmount(at, UnmountFlags::empty()).map_err(|error| error.to_string())
        });
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.device]);
    }
}

/// A file system that takes nothing and says nothing, until this is dropped.
pub struct Stopped<'a>(&'a Path);

impl<'a> Stopped<'a> {
    /// Stops what is mounted here.
    pub fn at(mount: &'a Path) -> Self {
        run("fsfreeze", &["-f", text(mount)]);
        Self(mount)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        run("fsfreeze", &["-u", text(self.0)]);
    }
}

fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
