//! Readers: they carry out the orders of the engine on the source's file system.
//!
//! Every look verifies what rule 12 and rule 25 ask for: a name is absent only in a directory that is
//! still the same directory, and content is whole only if the file did not change around the read and,
//! while its last change is young, nobody had it open for writing.

use std::io;

use bytes::Bytes;

use crate::engine::walk::Suspicion;
use crate::engine::work::{
    Finding, INLINE_BYTES_MAX, LOOK_BYTES_MAX, LOOK_HEADER_BYTES_MAX, Listed, LookName, Order, Seen,
};
use crate::fs::{Fs, Stat, Way, open_way};
use crate::tree::{Body, Kind, LimitSet, ListEntry, Metadata, Name, RelPath, State, Time, View};
use crate::wire::message::{ENTRY_COST, xattrs_cost};

/// A file changed less than this long ago is asked for writers before it is read, in seconds. Older
/// files can only be in the middle of a write that has not told the kernel its time yet, which a
/// local file system does at the start of each write.
const YOUNG_SECS: i64 = 2;

/// Files larger than this travel as streams; smaller in tests that want many streams.
#[derive(Debug, Clone, Copy)]
pub struct ReaderSettings {
    /// Largest file sent whole, in bytes; at most [`INLINE_BYTES_MAX`].
    pub inline_bytes_max: u64,
    /// Ask for writers by a read lease.
    pub lease: bool,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self {
            inline_bytes_max: INLINE_BYTES_MAX,
            lease: true,
        }
    }
}

/// A file that a look has opened for streaming.
#[derive(Debug)]
pub struct OpenFile<H> {
    /// The stream.
    pub stream: u64,
    /// The file.
    pub file: H,
    /// Its stat before the first byte was read.
    pub stat: Stat,
}

/// Carries out orders; one for each reader thread.
#[derive(Debug)]
pub struct Reader<F: Fs> {
    settings: ReaderSettings,
    buffer: Vec<u8>,
    /// Files opened by the last look.
    opened: Vec<OpenFile<F::File>>,
}

impl<F: Fs> Reader<F> {
    /// A reader.
    #[must_use]
    pub fn new(settings: ReaderSettings) -> Self {
        Self {
            settings,
            buffer: Vec::new(),
            opened: Vec::new(),
        }
    }

    /// The files that the last order opened for streaming.
    pub fn take_opened(&mut self) -> Vec<OpenFile<F::File>> {
        std::mem::take(&mut self.opened)
    }

    /// Carries out an order that needs no open stream. `now` is the wall clock, `next_stream` gives
    /// numbers to files that a look opens.
    pub fn read(
        &mut self,
        fs: &F,
        now: Time,
        order: &Order,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Finding {
        let found = match order {
            Order::Look {
                dir,
                names,
                content,
            } => self.look(fs, now, dir, names, *content, next_stream),
            Order::LookDir { dir } => look_dir(fs, dir),
            Order::CheckRename { from, to } => check_rename(fs, from, to),
            Order::List {
                dir,
                after,
                names_max,
                compare,
                suspicion,
                view,
            } => {
                let view = compare.then_some(&**view);
                list(fs, dir, after.as_ref(), *names_max, view, *suspicion)
            }
            Order::ReadChunk { .. } | Order::EndStream { .. } => {
                Ok(Finding::StreamEnded { whole: false })
            }
        };
        found.unwrap_or_else(|finding| finding)
    }

    fn look(
        &mut self,
        fs: &F,
        now: Time,
        dir_path: &RelPath,
        names: &[LookName],
        content: bool,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Result<Finding, Finding> {
        let dir = way(fs, dir_path)?;
        let place = Place {
            fs,
            now,
            dir: &dir,
            content,
        };
        let mut seen = Vec::with_capacity(names.len());
        let (mut bytes, mut header) = (0, 0);
        for name in names {
            let full = bytes >= LOOK_BYTES_MAX || header >= LOOK_HEADER_BYTES_MAX;
            let next = if full {
                Seen::Unread
            } else {
                self.look_at(&place, name, bytes, next_stream)
            };
            if let Seen::Is { state, .. } = &next {
                header += (ENTRY_COST + name.name.as_bytes().len()) as u64;
                if let State::Present(meta, body) = state {
                    header += xattrs_cost(meta) as u64;
                    bytes += body.len() as u64;
                }
            }
            seen.push(next);
        }
        let absent = seen.iter().any(|seen| {
            matches!(
                seen,
                Seen::Is {
                    state: State::Absent,
                    ..
                }
            )
        });
        if absent && !still_there(fs, dir_path, &dir) {
            // The directory is elsewhere by now: what is absent in it says nothing about this path.
            for seen in seen.iter_mut().filter(|seen| {
                matches!(
                    seen,
                    Seen::Is {
                        state: State::Absent,
                        ..
                    }
                )
            }) {
                *seen = Seen::Unread;
            }
        }
        Ok(Finding::Looked(seen))
    }

    fn look_at(
        &mut self,
        place: &Place<'_, F>,
        name: &LookName,
        used: u64,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Seen {
        let Place {
            fs, dir, content, ..
        } = *place;
        let stat = match fs.stat(dir, &name.name) {
            Ok(stat) => stat,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return Seen::Is {
                    state: State::Absent,
                    while_open: false,
                };
            }
            Err(error) => return failed("stat", &error),
        };
        let looked = match stat.kind {
            Kind::File if name.attributes => self.attributes(fs, dir, &name.name),
            Kind::File if !content && stat.size > 0 => Ok(Seen::Withheld),
            Kind::File
                if stat.size <= self.settings.inline_bytes_max
                    && used + stat.size > LOOK_BYTES_MAX =>
            {
                Ok(Seen::Unread)
            }
            Kind::File => self.file(place, name, next_stream),
            _ => special(fs, dir, &name.name, &stat),
        };
        looked.unwrap_or_else(|(operation, error)| match error.raw_os_error() {
            // It was there a moment ago: look again, absent is said by a stat alone.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE) => Seen::Unsettled,
            _ => failed(operation, &error),
        })
    }

    fn attributes(&mut self, fs: &F, dir: &F::Dir, name: &Name) -> Result<Seen, Step> {
        let file = fs.open(dir, name).map_err(|e| ("open", e))?;
        let stat = fs.stat_file(&file).map_err(|e| ("stat", e))?;
        let xattrs = fs.file_xattrs(&file).map_err(|e| ("read attributes", e))?;
        Ok(Seen::Is {
            state: State::Present(stat.metadata(xattrs), Body::Unchanged),
            while_open: false,
        })
    }

    fn file(
        &mut self,
        place: &Place<'_, F>,
        name: &LookName,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Result<Seen, Step> {
        let Place { fs, now, dir, .. } = *place;
        let file = fs.open(dir, &name.name).map_err(|e| ("open", e))?;
        let mut before = fs.stat_file(&file).map_err(|e| ("stat", e))?;
        let mut written = false;
        if self.settings.lease && before.ctime >= now.minus_secs(YOUNG_SECS) {
            // A writer who is inside one long write(2) cannot be seen by comparing stats; the lease
            // must come before the first of them (rule 25).
            written = fs.unwritten(&file) == Some(false);
            before = fs.stat_file(&file).map_err(|e| ("stat", e))?;
        }
        if written && !name.unsettled {
            return Ok(Seen::Unsettled);
        }
        let xattrs = fs.file_xattrs(&file).map_err(|e| ("read attributes", e))?;
        if before.size > self.settings.inline_bytes_max {
            let stream = next_stream();
            self.opened.push(OpenFile {
                stream,
                file,
                stat: before,
            });
            return Ok(Seen::Large {
                stream,
                meta: before.metadata(xattrs),
                while_open: written,
            });
        }
        let size = usize::try_from(before.size).expect("an inline file fits into memory");
        self.buffer.resize(size, 0);
        let read = fs
            .read_at(&file, 0, &mut self.buffer)
            .map_err(|e| ("read", e))?;
        // By name, so that it is also known to be still this file that the name means.
        let after = fs.stat(dir, &name.name).map_err(|e| ("stat", e))?;
        if !unchanged(&before, &after) || read != size {
            if !name.unsettled || read != size || !before.same_inode(&after) {
                return Ok(Seen::Unsettled);
            }
            written = true;
        }
        let content = Bytes::copy_from_slice(&self.buffer);
        Ok(Seen::Is {
            state: State::Present(before.metadata(xattrs), Body::Content(content)),
            while_open: written,
        })
    }
}

/// Where and how a look is made.
struct Place<'a, F: Fs> {
    fs: &'a F,
    now: Time,
    dir: &'a F::Dir,
    content: bool,
}

/// An operation that failed.
type Step = (&'static str, io::Error);

fn failed(operation: &'static str, error: &io::Error) -> Seen {
    Seen::Failed {
        operation,
        errno: error.raw_os_error().unwrap_or(0),
    }
}

/// True if nothing about the file changed between two stats; the change time catches what sets the
/// others back.
fn unchanged(before: &Stat, after: &Stat) -> bool {
    before.same_inode(after)
        && before.size == after.size
        && before.mtime == after.mtime
        && before.ctime == after.ctime
}

fn special<F: Fs>(fs: &F, dir: &F::Dir, name: &Name, stat: &Stat) -> Result<Seen, Step> {
    let body = if stat.kind == Kind::Symlink {
        Body::Target(
            fs.read_link(dir, name)
                .map_err(|e| ("read link", e))?
                .into(),
        )
    } else {
        Body::Empty
    };
    let xattrs = if stat.kind == Kind::Dir {
        let opened = match fs.open_dir(dir, name) {
            // A mount point is an entry like others, with what is mounted on it left alone.
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => None,
            opened => Some(opened.map_err(|e| ("open", e))?),
        };
        opened.map_or(Ok(Vec::new()), |opened| fs.dir_xattrs(&opened))
    } else {
        fs.xattrs(dir, name)
    };
    let mut meta = stat.metadata(xattrs.map_err(|e| ("read attributes", e))?);
    // The link may have been replaced between the two calls; its target is what counts.
    if stat.kind == Kind::Symlink && meta.size != body.len() as u64 {
        return Ok(Seen::Unsettled);
    }
    if stat.kind != Kind::Symlink {
        meta.size = 0;
    }
    let after = fs.stat(dir, name).map_err(|e| ("stat", e))?;
    if !stat.same_inode(&after) || (stat.kind == Kind::Symlink && !unchanged(stat, &after)) {
        return Ok(Seen::Unsettled);
    }
    Ok(Seen::Is {
        state: State::Present(meta, body),
        while_open: false,
    })
}

/// Opens a directory or says why it cannot be.
fn way<F: Fs>(fs: &F, path: &RelPath) -> Result<F::Dir, Finding> {
    match open_way(fs, path) {
        Way::Open(dir) => Ok(dir),
        Way::Broken(highest) => Err(Finding::Broken(highest)),
        Way::Failed(path, error) => Err(Finding::Failed {
            path,
            operation: "open",
            errno: error.raw_os_error().unwrap_or(0),
        }),
    }
}

fn problem(path: &RelPath, operation: &'static str) -> impl Fn(io::Error) -> Finding {
    move |error| Finding::Failed {
        path: path.clone(),
        operation,
        errno: error.raw_os_error().unwrap_or(0),
    }
}

/// True if this path still leads to this directory.
fn still_there<F: Fs>(fs: &F, path: &RelPath, dir: &F::Dir) -> bool {
    let Way::Open(again) = open_way(fs, path) else {
        return false;
    };
    match (fs.stat_dir(dir), fs.stat_dir(&again)) {
        (Ok(before), Ok(after)) => before.same_inode(&after),
        _ => false,
    }
}

fn look_dir<F: Fs>(fs: &F, path: &RelPath) -> Result<Finding, Finding> {
    let dir = way(fs, path)?;
    let stat = fs.stat_dir(&dir).map_err(problem(path, "stat"))?;
    let xattrs = fs
        .dir_xattrs(&dir)
        .map_err(problem(path, "read attributes"))?;
    let mut meta: Metadata = stat.metadata(xattrs);
    meta.size = 0;
    Ok(Finding::Dir(meta))
}

fn stat_path<F: Fs>(fs: &F, path: &RelPath) -> Result<Option<Stat>, Finding> {
    let Some((dir, name)) = path.split() else {
        return Ok(None);
    };
    match open_way(fs, &dir) {
        Way::Broken(_) => Ok(None),
        Way::Failed(path, error) => Err(problem(&path, "open")(error)),
        Way::Open(dir) => match fs.stat(&dir, &name) {
            Ok(stat) => Ok(Some(stat)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(problem(path, "stat")(error)),
        },
    }
}

/// A rename is told only while the old name is absent and the new one is there (rule 7).
fn check_rename<F: Fs>(fs: &F, from: &RelPath, to: &RelPath) -> Result<Finding, Finding> {
    let (before, after) = (stat_path(fs, from)?, stat_path(fs, to)?);
    Ok(match (before, after) {
        (None, Some(stat)) => {
            let size = if matches!(stat.kind, Kind::File | Kind::Symlink) {
                stat.size
            } else {
                0
            };
            Finding::Renamed {
                kind: stat.kind,
                size,
                mtime: stat.mtime,
            }
        }
        _ => Finding::NotRenamed,
    })
}

/// A name and, where the file system tells it, its kind.
type Listing = (Name, Option<Kind>);

/// Keeps the smallest names after `after`, at most one more than `max`.
fn smallest_names<F: Fs>(
    fs: &F,
    dir: &F::Dir,
    after: Option<&Name>,
    max: usize,
) -> io::Result<(Vec<Listing>, bool)> {
    let mut heap: std::collections::BinaryHeap<(Vec<u8>, Option<u8>)> =
        std::collections::BinaryHeap::new();
    fs.list(dir, &mut |name, kind| {
        if after.is_some_and(|after| name <= after.as_bytes()) {
            return;
        }
        if heap.len() > max
            && heap
                .peek()
                .is_some_and(|(largest, _)| name >= largest.as_slice())
        {
            return;
        }
        heap.push((name.to_vec(), kind.map(u8::from)));
        if heap.len() > max + 1 {
            heap.pop();
        }
    })?;
    let mut names = heap.into_sorted_vec();
    let more = names.len() > max;
    names.truncate(max);
    let named = names.into_iter().filter_map(|(name, kind)| {
        let kind = kind.and_then(|kind| Kind::try_from(kind).ok());
        Some((Name::new(&name).ok()?, kind))
    });
    Ok((named.collect(), more))
}

/// One page of a directory, as it is to be compared with another, or else names and kinds alone; shared
/// with the sink, which compares it with its own.
pub fn list<F: Fs>(
    fs: &F,
    path: &RelPath,
    after: Option<&Name>,
    names_max: usize,
    compare: Option<&View>,
    suspicion: Option<Suspicion>,
) -> Result<Finding, Finding> {
    let dir = way(fs, path)?;
    let (names, more) =
        smallest_names(fs, &dir, after, names_max).map_err(problem(path, "list"))?;
    let last = names.last().map(|(name, _)| name.clone());
    let mut listed = Listed {
        upto: last.filter(|_| more),
        ..Listed::default()
    };
    for (name, kind) in names {
        if compare.is_none()
            && let Some(kind) = kind
        {
            listed.entries.push(bare(name, kind));
            continue;
        }
        match list_entry(fs, &dir, &name, compare.unwrap_or(&View::default())) {
            Ok((entry, stat, met)) => {
                listed.met.add(met);
                let suspect = suspicion.is_some_and(|suspicion| suspicion.holds(stat.ctime));
                if suspect && stat.kind != Kind::Dir {
                    listed.suspects.push(name);
                }
                listed.entries.push(entry);
            }
            // It went away since it was listed: it is not part of the page, and its event follows.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
            // What cannot be compared is looked at, which makes the failure a problem of that name.
            Err(_) => listed.suspects.push(name),
        }
    }
    Ok(Finding::Listed(listed))
}

fn bare(name: Name, kind: Kind) -> ListEntry {
    ListEntry {
        name,
        kind,
        mode: 0,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: Time::default(),
        rdev: 0,
        extra: 0,
    }
}

/// What is compared of one name, and the limits of the view that it met.
fn list_entry<F: Fs>(
    fs: &F,
    dir: &F::Dir,
    name: &Name,
    view: &View,
) -> io::Result<(ListEntry, Stat, LimitSet)> {
    let stat = fs.stat(dir, name)?;
    let target = if stat.kind == Kind::Symlink {
        fs.read_link(dir, name)?
    } else {
        Vec::new()
    };
    let mut meta = stat.metadata(fs.xattrs(dir, name)?);
    let met = view.show(Some(name), &mut meta);
    let has_size = matches!(meta.kind, Kind::File | Kind::Symlink);
    let entry = ListEntry {
        name: name.clone(),
        kind: meta.kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        size: if has_size { meta.size } else { 0 },
        mtime: meta.mtime,
        rdev: meta.rdev,
        extra: ListEntry::extra_of(&meta.xattrs, &target),
    };
    Ok((entry, stat, met))
}

/// Reads a piece of a streamed file.
pub fn read_chunk<F: Fs>(fs: &F, open: &OpenFile<F::File>, offset: u64, bytes: u64) -> Finding {
    let mut data = vec![0; usize::try_from(bytes).expect("a chunk fits into memory")];
    match fs.read_at(&open.file, offset, &mut data) {
        Ok(read) => {
            data.truncate(read);
            Finding::Chunk(data.into())
        }
        Err(_) => Finding::Chunk(Bytes::new()),
    }
}

/// True if a streamed file is unchanged and the path still leads to it.
pub fn end_stream<F: Fs>(
    fs: &F,
    open: &OpenFile<F::File>,
    path: &RelPath,
    unsettled: bool,
) -> Finding {
    let same = fs
        .stat_file(&open.file)
        .is_ok_and(|stat| unsettled || unchanged(&open.stat, &stat));
    let named = matches!(stat_path(fs, path), Ok(Some(stat)) if stat.same_inode(&open.stat));
    Finding::StreamEnded {
        whole: same && named,
    }
}
