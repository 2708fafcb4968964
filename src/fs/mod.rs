//! Everything osync does to a file system, relative to the descriptor of a root.
//!
//! [`Fs`] has one method for each step that a reader or an applier takes, and none of them follows a
//! symlink or leaves the root. [`real`] does it with system calls, [`memory`] in memory with a user who
//! may act between any two steps; the conformance tests hold the two together.

#[cfg(test)]
pub(crate) mod conformance;
pub mod memory;
pub mod real;
pub mod windows;

use std::io;
use std::ops::Range;

use crate::tree::{Kind, Metadata, Name, RelPath, Time, Xattrs};

/// What lstat tells about an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (0 to 0o7777).
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Bytes of a file or of a symlink's target, 0 for every other kind.
    pub size: u64,
    /// Time of the last change of content.
    pub mtime: Time,
    /// Time of the last change of anything; users cannot set it back.
    pub ctime: Time,
    /// Device number of a device, else 0.
    pub rdev: u64,
    /// Device of the file system it lies on.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Number of names.
    pub nlink: u64,
    /// Bytes that the file system has allocated for a file's content, 0 for every other kind. It may
    /// change by itself, and lie above the size.
    pub allocated: u64,
}

impl Stat {
    /// The metadata of this entry with these extended attributes.
    #[must_use]
    pub fn metadata(&self, xattrs: Xattrs) -> Metadata {
        Metadata {
            kind: self.kind,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            mtime: self.mtime,
            rdev: self.rdev,
            xattrs,
        }
    }

    /// True if both are the same inode, of the same kind, size and mtime.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.same_inode(other)
            && self.kind == other.kind
            && self.size == other.size
            && self.mtime == other.mtime
    }

    /// True if both are the same inode on the same file system.
    #[must_use]
    pub fn same_inode(&self, other: &Self) -> bool {
        self.dev == other.dev && self.ino == other.ino
    }
}

/// A file system below one root.
///
/// Errors are the kernel's: ENOENT for a missing name, ENOTDIR where a directory was expected, ELOOP
/// never (a symlink in the place of a directory is ENOTDIR), EXDEV for a step onto another file system.
pub trait Fs: Send + Sync + 'static {
    /// A directory held open.
    type Dir: Send;
    /// A regular file held open, for reading or as a stage.
    type File: Send;

    /// The root, opened anew.
    fn root(&self) -> io::Result<Self::Dir>;
    /// The directory `name` in `dir`, if it is one, on the same file system; where that was asked for, what
    /// is mounted on it.
    fn open_dir(&self, dir: &Self::Dir, name: &Name) -> io::Result<Self::Dir>;
    /// The directory at a path below the root, for what one step costs; `None` if it is not to be had like that,
    /// be it that it is not there.
    fn open_below(&self, _path: &RelPath) -> Option<Self::Dir> {
        None
    }
    /// Stat of an open directory.
    fn stat_dir(&self, dir: &Self::Dir) -> io::Result<Stat>;
    /// Stat of a name, never following it.
    fn stat(&self, dir: &Self::Dir, name: &Name) -> io::Result<Stat>;
    /// Calls `each` for every name but `.`, `..` and the stage's, in no order, with its kind where the
    /// file system tells it. An error in the middle is an error, never a short list.
    fn list(&self, dir: &Self::Dir, each: &mut dyn FnMut(&[u8], Option<Kind>)) -> io::Result<()>;
    /// False if no directory lies directly in this one; true where only reading it would tell.
    fn may_hold_dirs(&self, dir: &Self::Dir) -> io::Result<bool>;
    /// Target of a symlink.
    fn read_link(&self, dir: &Self::Dir, name: &Name) -> io::Result<Vec<u8>>;
    /// Extended attributes of a name, never following it, sorted; empty where the file system has none.
    fn xattrs(&self, dir: &Self::Dir, name: &Name) -> io::Result<Xattrs>;
    /// Extended attributes of an open directory.
    fn dir_xattrs(&self, dir: &Self::Dir) -> io::Result<Xattrs>;

    /// A regular file for reading, not changing its access time where the rights allow that, and its stat
    /// once it was open.
    fn open(&self, dir: &Self::Dir, name: &Name) -> io::Result<(Self::File, Stat)>;
    /// Stat of an open file.
    fn stat_file(&self, file: &Self::File) -> io::Result<Stat>;
    /// Extended attributes of an open file.
    fn file_xattrs(&self, file: &Self::File) -> io::Result<Xattrs>;
    /// Reads at an offset until `buffer` is full or the file ends; returns the bytes read.
    fn read_at(&self, file: &Self::File, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Reads so many bytes at an offset into memory of their own; fewer where the file ends.
    fn read_piece(&self, file: &Self::File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut piece = vec![0; bytes];
        let read = self.read_at(file, offset, &mut piece)?;
        piece.truncate(read);
        Ok(piece)
    }
    /// The first data that ends after `offset`, cut off there; `None` if only a hole follows, or
    /// nothing. Space that was allocated and never written counts as a hole, and on a file system
    /// that knows no holes everything is data.
    fn next_data(&self, file: &Self::File, offset: u64) -> io::Result<Option<Range<u64>>>;
    /// True if nobody has the file open for writing at this moment, proven by a read lease taken and
    /// given back; `None` if it cannot be proven here.
    fn unwritten(&self, file: &Self::File) -> Option<bool>;

    /// A new stage for content, which no name shows, with those of these permissions that the process gives to
    /// new files: whoever knows them sooner than when it is published spares setting them. It can be published
    /// anywhere; file systems put it near `dir`, so that is best where it will be.
    fn stage(&self, dir: &Self::Dir, mode: u32) -> io::Result<Self::File>;
    /// Writes all bytes at an offset of a stage.
    fn write_at(&self, file: &Self::File, offset: u64, data: &[u8]) -> io::Result<()>;
    /// Copies this range of a file to the same place of a stage, where the file system can by sharing it, so
    /// that what happens to the file afterwards does not show in the stage. What was a hole may become data.
    /// An error, if the file ends before.
    fn copy_range(&self, from: &Self::File, to: &Self::File, range: Range<u64>) -> io::Result<()>;
    /// Makes this range of a stage a hole.
    fn punch(&self, file: &Self::File, range: Range<u64>) -> io::Result<()>;
    /// Makes a stage so long; what it gains is a hole. EFBIG beyond what the file system can hold.
    fn set_len(&self, file: &Self::File, size: u64) -> io::Result<()>;
    /// Gives a stage its metadata (owner, then mode, then extended attributes, then times) and puts it
    /// atomically in the place of whatever `name` is, unless that is a directory (EISDIR): then it can be tried
    /// again. True if nothing had that name. What is published must not be written any more.
    fn publish(
        &self,
        stage: &mut Self::File,
        dir: &Self::Dir,
        name: &Name,
        meta: &Metadata,
    ) -> io::Result<bool>;
    /// Puts a symlink, device, pipe or socket with its metadata atomically in the place of whatever
    /// `name` is, unless that is a directory (EISDIR).
    fn publish_special(
        &self,
        dir: &Self::Dir,
        name: &Name,
        meta: &Metadata,
        target: &[u8],
    ) -> io::Result<()>;
    /// Makes a directory with its metadata (EEXIST if the name is taken).
    fn make_dir(&self, dir: &Self::Dir, name: &Name, meta: &Metadata) -> io::Result<()>;
    /// Sets the metadata of an open directory.
    fn set_dir_meta(&self, dir: &Self::Dir, meta: &Metadata) -> io::Result<()>;
    /// Sets the metadata of the regular file `name` in place, if it has at most `links` names (else
    /// EMLINK, unless there is nothing to set), its size and mtime are those of `meta` (else ESTALE) and
    /// it is a file (else ESTALE).
    fn set_file_meta(
        &self,
        dir: &Self::Dir,
        name: &Name,
        meta: &Metadata,
        links: u64,
    ) -> io::Result<()>;
    /// Removes a name that is no directory (EISDIR if it is).
    fn remove_file(&self, dir: &Self::Dir, name: &Name) -> io::Result<()>;
    /// Removes an empty directory (ENOTEMPTY if something is in it, ENOTDIR if it is none).
    fn remove_dir(&self, dir: &Self::Dir, name: &Name) -> io::Result<()>;
    /// Takes a directory with all below out of the tree at once (into the stage), then frees it.
    fn remove_tree(&self, dir: &Self::Dir, name: &Name) -> io::Result<()>;
    /// Gives the entry `from_name`, which is no directory (else EPERM), the further name `to_name`,
    /// atomically in the place of whatever that is, unless that is a directory (EISDIR). The entry must
    /// be the inode `what`, with its kind, size and mtime (else ESTALE), and nothing that takes its name
    /// meanwhile is ever linked. If `to_name` is that inode already, nothing is done.
    ///
    /// EMLINK, EPERM and EOPNOTSUPP say that the file system or the kernel refuses one more name.
    fn link(
        &self,
        from: &Self::Dir,
        from_name: &Name,
        to: &Self::Dir,
        to_name: &Name,
        what: &Stat,
    ) -> io::Result<()>;
    /// rename(2): atomically gives an entry another name, replacing a file or an empty directory (else
    /// ENOTEMPTY).
    fn rename(
        &self,
        from: &Self::Dir,
        from_name: &Name,
        to: &Self::Dir,
        to_name: &Name,
    ) -> io::Result<()>;

    /// True if what is missing for something new, after ENOSPC, are inodes.
    fn is_out_of_inodes(&self) -> bool;
    /// Makes everything done so far durable, on every file system touched.
    fn sync(&self) -> io::Result<()>;
    /// Removes the stage's directory if it is empty, leaving the root's times as they were.
    fn tidy(&self) -> io::Result<()>;
}

/// Stat of a name, never following it; `None` if nothing has that name.
///
/// # Errors
/// Those of looking: nobody knows then whether something is there.
pub fn stat_if_there<F: Fs>(fs: &F, dir: &F::Dir, name: &Name) -> io::Result<Option<Stat>> {
    match fs.stat(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the way to a directory ended early.
#[derive(Debug)]
pub enum Way<D> {
    /// The directory.
    Open(D),
    /// The highest path on the way that is missing or no directory.
    Broken(RelPath),
    /// Something failed at this path.
    Failed(RelPath, io::Error),
}

/// Opens a directory, by which no symlink is ever followed: at once, or else in steps from the root, so that no
/// limit on path length applies and it is known what stands in the way.
pub fn open_way<F: Fs>(fs: &F, path: &RelPath) -> Way<F::Dir> {
    if !path.is_root()
        && let Some(dir) = fs.open_below(path)
    {
        return Way::Open(dir);
    }
    let mut dir = match fs.root() {
        Ok(dir) => dir,
        Err(error) => return Way::Failed(RelPath::root(), error),
    };
    let mut here = RelPath::root();
    for part in path.components() {
        let name = Name::new(part).expect("a component of a valid path is a name");
        here = here.join(&name);
        match fs.open_dir(&dir, &name) {
            Ok(next) => dir = next,
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
                return Way::Broken(here);
            }
            Err(error) => return Way::Failed(here, error),
        }
    }
    Way::Open(dir)
}
