//! The conformance body on real file systems, and what only those can show.

#![allow(clippy::unwrap_used)]

mod images;
mod limits;
mod links;
mod mounts;
mod sink;
mod source;
mod threads;

use std::any::Any;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::XattrFlags;

use super::*;
use crate::fs::conformance::{Fixture, conformance, name};
use crate::tree::{RelPath, Time};

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// A fresh directory below this one, as its user sees it.
fn fresh(below: &str) -> tempfile::TempDir {
    std::fs::create_dir_all(below).unwrap();
    tempfile::TempDir::new_in(below).unwrap()
}

fn takes_xattrs(dir: &Path) -> bool {
    rustix::fs::setxattr(dir, "user.probe", b"", XattrFlags::empty())
        .and_then(|()| rustix::fs::removexattr(dir, "user.probe"))
        .is_ok()
}

fn fixture(dir: tempfile::TempDir) -> Fixture<RealFs> {
    let base: PathBuf = dir.path().to_owned();
    let full = move |path: &RelPath| base.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
    let also = full.clone();
    Fixture {
        fs: RealFs::sink(dir.path(), SinkOptions::default()).unwrap(),
        link: Box::new(move |old, new| std::fs::hard_link(full(old), full(new)).unwrap()),
        hold_for_writing: Box::new(move |path| -> Box<dyn Any> {
            Box::new(OpenOptions::new().write(true).open(also(path)).unwrap())
        }),
        privileged: is_root(),
        owner: (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        ),
        has_xattrs: takes_xattrs(dir.path()),
        symlink_bytes_max: 4095,
        keep: Box::new(dir),
    }
}

/// The root as everybody sees it.
fn base(on: &Fixture<RealFs>) -> PathBuf {
    on.keep
        .downcast_ref::<tempfile::TempDir>()
        .unwrap()
        .path()
        .to_owned()
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// On the file system that holds the build, usually a disk.
fn on_disk() -> Fixture<RealFs> {
    fixture(fresh(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tmp")))
}

fn on_tmpfs() -> Fixture<RealFs> {
    fixture(fresh("/dev/shm"))
}

/// With stages that need a name, as on file systems without O_TMPFILE.
fn with_named_stages() -> Fixture<RealFs> {
    let fixture = on_disk();
    fixture.fs.stage.as_ref().unwrap().need_names();
    fixture
}

mod disk {
    super::conformance!(super::on_disk);
}

mod tmpfs {
    super::conformance!(super::on_tmpfs);
}

mod named_stages {
    super::conformance!(super::with_named_stages);
}
