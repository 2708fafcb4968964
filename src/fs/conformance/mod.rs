//! What every file system must do alike: one body of tests, run over each implementation of [`Fs`].
//!
//! An implementation gives a function that makes a [`Fixture`] with a fresh, empty root, and lists
//! the cases with [`conformance!`].

#![allow(clippy::unwrap_used)]

mod content;
mod holes;
mod links;
mod metadata;
mod structure;

use std::any::Any;
use std::collections::BTreeMap;
use std::io;

use serde_bytes::ByteBuf;

pub(crate) use content::*;
pub(crate) use holes::*;
pub(crate) use links::*;
pub(crate) use metadata::*;
pub(crate) use structure::*;

use super::{Fs, Stat, Way, open_way};
use crate::tree::{Kind, Metadata, Name, RelPath, Time, Xattrs};

/// Gives the file at the first path a second name.
pub(crate) type Linker = Box<dyn Fn(&RelPath, &RelPath)>;

/// Opens the file at a path for writing, until what is returned is dropped.
pub(crate) type Opener = Box<dyn Fn(&RelPath) -> Box<dyn Any>>;

/// A file system with an empty root, and what a user can do to it from outside.
pub(crate) struct Fixture<F: Fs> {
    /// The file system, writable.
    pub(crate) fs: F,
    /// A user who makes hard links.
    pub(crate) link: Linker,
    /// A user who writes.
    pub(crate) hold_for_writing: Opener,
    /// True if owners, devices and `trusted.` attributes may be set.
    pub(crate) privileged: bool,
    /// Uid and gid of what is made without asking for an owner.
    pub(crate) owner: (u32, u32),
    /// True if `user.` attributes of files and directories can be set.
    pub(crate) has_xattrs: bool,
    /// Bytes of the longest target that a symlink can have.
    pub(crate) symlink_bytes_max: usize,
    /// Dropped last.
    pub(crate) keep: Box<dyn Any>,
}

/// Makes one test of each case, over fixtures from the function given; or, given a name and a type of
/// fixture, a function of that name that runs all cases over fixtures from a function given to it.
macro_rules! conformance {
    ($fixture:path) => {
        $crate::fs::conformance::cases!(tests $fixture);
    };
    ($name:ident, $fixture:ty) => {
        $crate::fs::conformance::cases!(function $name, $fixture);
    };
}
pub(crate) use conformance;

/// Hands the list of cases to one of the two forms.
macro_rules! cases {
    ($($form:tt)*) => {
        $crate::fs::conformance::formed!([$($form)*]
            content_comes_back, a_stage_shows_nowhere,
            a_stage_near_one_directory_is_published_in_another, publish_replaces_all_but_directories,
            only_regular_files_open, open_files_outlive_their_names, a_writer_shows, sync_succeeds,
            holes_are_found, holes_take_no_room, a_stage_can_be_cut_off,
            a_range_is_copied_once_and_for_all, a_range_becomes_a_hole,
            files_keep_metadata, times_are_exact, special_entries_keep_metadata,
            directories_keep_metadata, xattrs_become_exactly_these, set_file_meta_is_in_place,
            set_file_meta_refuses_what_differs, links_are_counted, link_gives_one_more_name,
            link_replaces_all_but_directories, link_onto_itself_does_nothing,
            link_takes_no_other_inode, special_entries_are_linked_too,
            odd_names, no_limit_on_path_length, directories_below_are_not_missed,
            symlinks_are_never_directories, lists_are_whole, a_refused_stage_is_published_when_the_directory_has_gone,
            make_dir_needs_a_free_name, remove_file_takes_no_directory, remove_tree_takes_all,
            remove_tree_takes_directories_only, remove_dir_takes_empty_ones_only, rename_replaces, missing_names_are_enoent,
            tidy_keeps_the_roots_time,
        );
    };
}
pub(crate) use cases;

macro_rules! formed {
    ([tests $fixture:path] $($case:ident),* $(,)?) => {
        $(#[test] fn $case() { $crate::fs::conformance::$case(&$fixture()); })*
    };
    ([function $name:ident, $fixture:ty] $($case:ident),* $(,)?) => {
        fn $name(fixture: &dyn Fn() -> $fixture) {
            $(
                println!("{}", stringify!($case));
                $crate::fs::conformance::$case(&fixture());
            )*
        }
    };
}
pub(crate) use formed;

pub(crate) fn name(bytes: impl AsRef<[u8]>) -> Name {
    Name::new(bytes.as_ref()).unwrap()
}

pub(crate) fn path(bytes: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(bytes.as_ref()).unwrap()
}

fn code<T>(result: io::Result<T>) -> Option<i32> {
    result
        .err()
        .map(|error| error.raw_os_error().expect("an error number"))
}

fn attr(name: &str, value: &[u8]) -> (ByteBuf, ByteBuf) {
    (ByteBuf::from(name), ByteBuf::from(value))
}

impl<F: Fs> Fixture<F> {
    /// Metadata as an ordinary entry of this kind has it.
    pub(crate) fn meta(&self, kind: Kind) -> Metadata {
        Metadata {
            kind,
            mode: if kind == Kind::Symlink { 0o777 } else { 0o640 },
            uid: self.owner.0,
            gid: self.owner.1,
            size: 0,
            mtime: Time {
                secs: 1_600_000_000,
                nanos: 123_456_789,
            },
            rdev: 0,
            xattrs: Xattrs::new(),
        }
    }

    fn dir_meta(&self) -> Metadata {
        Metadata {
            mode: 0o755,
            ..self.meta(Kind::Dir)
        }
    }

    /// Metadata of a symlink or device, as a reader would find it.
    fn special_meta(&self, kind: Kind, target: &[u8]) -> Metadata {
        let rdev = match kind {
            Kind::CharDevice => 0x0103,
            Kind::BlockDevice => 0x0701,
            _ => 0,
        };
        Metadata {
            size: target.len() as u64,
            rdev,
            ..self.meta(kind)
        }
    }

    pub(crate) fn at(&self, way: &str) -> F::Dir {
        match open_way(&self.fs, &path(way)) {
            Way::Open(dir) => dir,
            Way::Broken(at) => panic!("broken at {at}"),
            Way::Failed(at, error) => panic!("failed at {at}: {error}"),
        }
    }

    pub(crate) fn mkdir(&self, dir: &F::Dir, called: &str) {
        self.fs
            .make_dir(dir, &name(called), &self.dir_meta())
            .unwrap();
    }

    pub(crate) fn write(&self, dir: &F::Dir, called: &str, content: &[u8]) -> Metadata {
        let meta = Metadata {
            size: content.len() as u64,
            ..self.meta(Kind::File)
        };
        self.publish(dir, &name(called), content, &meta).unwrap();
        meta
    }

    pub(crate) fn publish(
        &self,
        dir: &F::Dir,
        called: &Name,
        content: &[u8],
        meta: &Metadata,
    ) -> io::Result<()> {
        let mut stage = self.fs.stage(dir, 0o600)?;
        self.fs.write_at(&stage, 0, content)?;
        self.fs.publish(&mut stage, dir, called, meta).map(|_| ())
    }

    pub(crate) fn symlink(&self, dir: &F::Dir, called: &str, target: &str) {
        let meta = self.special_meta(Kind::Symlink, target.as_bytes());
        self.fs
            .publish_special(dir, &name(called), &meta, target.as_bytes())
            .unwrap();
    }

    pub(crate) fn read(&self, dir: &F::Dir, called: &str) -> Vec<u8> {
        let (file, _) = self.fs.open(dir, &name(called)).unwrap();
        let size = self.fs.stat_file(&file).unwrap().size;
        let mut content = vec![0; usize::try_from(size).unwrap() + 1];
        let length = self.fs.read_at(&file, 0, &mut content).unwrap();
        content.truncate(length);
        content
    }

    pub(crate) fn stat(&self, dir: &F::Dir, called: &str) -> Stat {
        self.fs.stat(dir, &name(called)).unwrap()
    }

    /// Everything that a reader finds under a name, without opening it.
    fn found(&self, dir: &F::Dir, called: &str) -> Metadata {
        let xattrs = self.fs.xattrs(dir, &name(called)).unwrap();
        self.stat(dir, called).metadata(xattrs)
    }

    pub(crate) fn names(&self, dir: &F::Dir) -> BTreeMap<Vec<u8>, Option<Kind>> {
        let mut names = BTreeMap::new();
        self.fs
            .list(dir, &mut |name, kind| {
                assert!(
                    names.insert(name.to_vec(), kind).is_none(),
                    "{name:?} came twice"
                );
            })
            .unwrap();
        names
    }
}
