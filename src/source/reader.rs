//! Readers: they carry out the orders of the engine on the source's file system.
//!
//! Every look verifies what rule 12 and rule 25 ask for: a name is absent only in a directory that is
//! still the same directory, and content is whole only if the file did not change around the read and,
//! while its last change is young, nobody had it open for writing.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;

use crate::engine::work::{
    Detail, Finding, Further, INLINE_BYTES_MAX, Inode, LOOK_BYTES_MAX, LOOK_HEADER_BYTES_MAX,
    Links, Listed, LookName, Order, Seen, Span,
};
use crate::fs::windows::{KEPT_BYTES_MAX, Windows};
use crate::fs::{Fs, Stat, Way, open_way};
use crate::tree::{
    BlockHash, Body, Filter, Kind, LimitKind, LimitSet, ListEntry, Metadata, Name, RelPath, State,
    Time, View,
};
use crate::wire::message::{ENTRY_COST, xattrs_cost};

/// A file changed less than this long ago is asked for writers before it is read, in seconds. Older
/// files can only be in the middle of a write that has not told the kernel its time yet, which a
/// local file system does at the start of each write.
const YOUNG_SECS: i64 = 2;

/// Bytes that are allocated for the content of files at once. What is left of them at the end of a look serves the
/// next one.
const BUFFER_BYTES: usize = 64 * 1024;

/// Files larger than this travel as streams; smaller in tests that want many streams.
#[derive(Debug, Clone, Copy)]
pub struct ReaderSettings {
    /// Largest file sent whole, in bytes; at most [`INLINE_BYTES_MAX`].
    pub inline_bytes_max: u64,
    /// Content that one look takes, in bytes; from `inline_bytes_max` to [`LOOK_BYTES_MAX`].
    pub look_bytes_max: u64,
    /// Ask for writers by a read lease.
    pub lease: bool,
    /// Bytes of names of huge directories kept for later pages.
    pub listing_cache_bytes: usize,
}

impl Default for ReaderSettings {
    fn default() -> Self {
        Self {
            inline_bytes_max: INLINE_BYTES_MAX,
            look_bytes_max: LOOK_BYTES_MAX,
            lease: true,
            listing_cache_bytes: KEPT_BYTES_MAX,
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
    /// True if it has holes, which are not read then.
    pub sparse: bool,
}

/// Carries out orders; one for each reader thread.
#[derive(Debug)]
pub struct Reader<F: Fs> {
    settings: ReaderSettings,
    filter: Filter,
    /// Room for the content of the next files, which share it.
    buffer: BytesMut,
    windows: Arc<Windows>,
    /// Files opened by the last look.
    opened: Vec<OpenFile<F::File>>,
}

impl<F: Fs> Reader<F> {
    /// A reader that says nothing about what the filter excludes.
    #[must_use]
    pub fn new(settings: ReaderSettings, filter: Filter) -> Self {
        Self {
            settings,
            filter,
            buffer: BytesMut::new(),
            windows: Arc::new(Windows::keeping(settings.listing_cache_bytes)),
            opened: Vec::new(),
        }
    }

    /// The same reader looking through windows that it shares with others.
    #[must_use]
    pub fn sharing(self, windows: Arc<Windows>) -> Self {
        Self { windows, ..self }
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
                streams,
            } => {
                let limits = (*content, *streams);
                self.look(fs, now, dir, names, limits, next_stream)
            }
            Order::LookDir { dir } => look_dir(fs, dir, &self.filter),
            Order::CheckRename { from, to } => check_rename(fs, from, to),
            Order::List {
                dir,
                after,
                names_max,
                detail,
                suspicion,
                view,
            } => {
                let asked = Asked {
                    after: after.as_ref(),
                    names_max: *names_max,
                    detail: *detail,
                    is_suspect: &|stat| suspicion.is_some_and(|s| s.holds(stat.ctime)),
                    view,
                };
                list(fs, &self.windows, &self.filter, dir, &asked)
            }
            Order::ReadChunk { .. } | Order::EndStream { .. } => {
                Ok(Finding::StreamEnded { whole: false })
            }
        };
        match (found.unwrap_or_else(|finding| finding), order) {
            // Of what lies beyond a mount that is not entered nothing is said, least of all that it is
            // absent (rule 32).
            (
                Finding::Failed {
                    errno: libc::EXDEV, ..
                },
                Order::CheckRename { .. },
            ) => Finding::NotRenamed,
            (
                Finding::Failed {
                    errno: libc::EXDEV, ..
                },
                _,
            ) => Finding::Excluded,
            (finding, _) => finding,
        }
    }

    fn look(
        &mut self,
        fs: &F,
        now: Time,
        dir_path: &RelPath,
        names: &[LookName],
        (content, streams): (bool, usize),
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Result<Finding, Finding> {
        if self.filter.excludes(dir_path, true) {
            return Ok(Finding::Excluded);
        }
        let dir = way(fs, dir_path)?;
        let place = Place {
            fs,
            now,
            dir: &dir,
            path: dir_path,
            content,
            streams,
        };
        let mut seen = Vec::with_capacity(names.len());
        let (mut bytes, mut header) = (0, 0);
        let mut full = false;
        for name in names {
            let next = if full {
                Seen::Unread
            } else {
                self.look_at(&place, name, bytes, next_stream)
            };
            // Smaller files that follow might have room; to ask each of them would cost more than another look.
            full |= matches!(next, Seen::Unread);
            if let Seen::Is { state, .. } = &next {
                header += (ENTRY_COST + name.name.as_bytes().len()) as u64;
                if let State::Present(meta, body) = state {
                    header += xattrs_cost(meta) as u64;
                    bytes += body.len() as u64;
                }
                if let State::Present(_, Body::Link { to, .. }) = state {
                    header += to.len() as u64;
                }
            }
            full |= bytes >= self.settings.look_bytes_max || header >= LOOK_HEADER_BYTES_MAX;
            seen.push(next);
        }
        if !still_there(fs, dir_path, &dir) {
            // The directory is elsewhere by now: neither what is in it nor what is absent need ever have
            // been so at this path. Streams find that out at their end.
            let said = seen
                .iter_mut()
                .filter(|seen| matches!(seen, Seen::Is { .. }));
            said.for_each(|seen| *seen = Seen::Unread);
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
        let Place { fs, dir, .. } = *place;
        if let Some(seen) = self.listed_file(place, name, used, next_stream) {
            return seen;
        }
        let stat = match fs.stat(dir, &name.name) {
            Ok(stat) => stat,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                return self.nothing_included(place, &name.name);
            }
            Err(error) => return failed("stat", &error),
        };
        if self.excludes(place, &name.name, stat.kind == Kind::Dir) {
            return self.nothing_included(place, &name.name);
        }
        let looked = match (stat.kind, links_of(&stat), &name.further) {
            (_, Some(links), Further::Unknown) if !name.attributes => Ok(Seen::Linked(links)),
            (_, Some(links), Further::LinkTo(other)) => {
                further_name(place, &name.name, (&stat, links), other)
            }
            _ => self.look_whole(place, name, &stat, used, next_stream),
        };
        looked.unwrap_or_else(|(operation, error)| match error.raw_os_error() {
            // It was there a moment ago: look again, absent is said by a stat alone.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ESTALE) => Seen::Unsettled,
            _ => failed(operation, &error),
        })
    }

    /// What was listed as a file a moment ago is opened without asking what it is. `None` if it is something
    /// else by now, or anything about it needs a closer look.
    fn listed_file(
        &mut self,
        place: &Place<'_, F>,
        name: &LookName,
        used: u64,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Option<Seen> {
        let is_whole = name.is_file && place.content && !name.attributes;
        if !is_whole || self.excludes(place, &name.name, false) {
            return None;
        }
        let (file, stat) = place.fs.open(place.dir, &name.name).ok()?;
        if links_of(&stat).is_some() {
            return None;
        }
        if !self.has_room(used, &stat) {
            return Some(Seen::Unread);
        }
        self.file(place, name, (file, stat), next_stream).ok()
    }

    /// True if a file of which so much would be told still fits into a look, or will travel in pieces.
    fn has_room(&self, used: u64, stat: &Stat) -> bool {
        stat.size > self.settings.inline_bytes_max
            || used + stat.size <= self.settings.look_bytes_max
    }

    fn look_whole(
        &mut self,
        place: &Place<'_, F>,
        name: &LookName,
        stat: &Stat,
        used: u64,
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Result<Seen, Step> {
        let Place {
            fs, dir, content, ..
        } = *place;
        match stat.kind {
            Kind::File if name.attributes => self.attributes(fs, dir, &name.name),
            Kind::File if !content && stat.size > 0 => Ok(Seen::Withheld),
            Kind::File if !self.has_room(used, stat) => Ok(Seen::Unread),
            Kind::File => {
                let opened = fs.open(dir, &name.name).map_err(|e| ("open", e))?;
                self.file(place, name, opened, next_stream)
            }
            _ => special(fs, dir, &name.name, stat),
        }
    }

    /// True if an entry of this kind is excluded in a directory that is not.
    fn excludes(&self, place: &Place<'_, F>, name: &Name, is_dir: bool) -> bool {
        let filter = &self.filter;
        !filter.is_empty() && filter.excludes_entry(&place.path.join(name), is_dir)
    }

    /// What is said of a name at which nothing is that takes part. If something else could be there that
    /// does, the sink may still have it, and is told to remove it; it leaves alone what is excluded.
    fn nothing_included(&self, place: &Place<'_, F>, name: &Name) -> Seen {
        let all = [true, false].map(|is_dir| self.excludes(place, name, is_dir));
        if all == [true, true] {
            return Seen::Excluded;
        }
        Seen::Is {
            state: State::Absent,
            while_open: false,
            links: None,
        }
    }

    fn attributes(&mut self, fs: &F, dir: &F::Dir, name: &Name) -> Result<Seen, Step> {
        let (file, stat) = fs.open(dir, name).map_err(|e| ("open", e))?;
        let xattrs = fs.file_xattrs(&file).map_err(|e| ("read attributes", e))?;
        Ok(Seen::Is {
            state: State::Present(stat.metadata(xattrs), Body::Unchanged { links: 1 }),
            while_open: false,
            links: links_of(&stat),
        })
    }

    fn file(
        &mut self,
        place: &Place<'_, F>,
        name: &LookName,
        (file, mut before): (F::File, Stat),
        next_stream: &mut dyn FnMut() -> u64,
    ) -> Result<Seen, Step> {
        let Place { fs, now, dir, .. } = *place;
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
        let sparse = has_holes(fs, &file, &before).map_err(|e| ("find holes", e))?;
        let large = sparse || before.size > self.settings.inline_bytes_max;
        if large && self.opened.len() >= place.streams {
            return Ok(Seen::NoStream);
        }
        let xattrs = fs.file_xattrs(&file).map_err(|e| ("read attributes", e))?;
        if large {
            let stream = next_stream();
            self.opened.push(OpenFile {
                stream,
                file,
                stat: before,
                sparse,
            });
            return Ok(Seen::Large {
                stream,
                meta: before.metadata(xattrs),
                while_open: written,
                links: links_of(&before),
            });
        }
        let size = usize::try_from(before.size).expect("an inline file fits into memory");
        if self.buffer.capacity() < size {
            self.buffer = BytesMut::with_capacity(size.max(BUFFER_BYTES));
        }
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
        let content = self.buffer.split().freeze();
        Ok(Seen::Is {
            state: State::Present(before.metadata(xattrs), Body::Content(content)),
            while_open: written,
            links: links_of(&before),
        })
    }
}

/// Where and how a look is made.
struct Place<'a, F: Fs> {
    fs: &'a F,
    now: Time,
    dir: &'a F::Dir,
    path: &'a RelPath,
    content: bool,
    streams: usize,
}

/// An operation that failed.
type Step = (&'static str, io::Error);

fn failed(operation: &'static str, error: &io::Error) -> Seen {
    Seen::Failed {
        operation,
        errno: error.raw_os_error().unwrap_or(0),
    }
}

/// Of an entry with several names, what they mean.
fn links_of(stat: &Stat) -> Option<Links> {
    (stat.kind != Kind::Dir && stat.nlink > 1).then_some(Links {
        inode: Inode {
            dev: stat.dev,
            ino: stat.ino,
        },
        count: stat.nlink,
        changed: Some(stat.ctime),
    })
}

/// Says that an entry is the same inode as another name, if it is.
fn further_name<F: Fs>(
    place: &Place<'_, F>,
    name: &Name,
    (stat, links): (&Stat, Links),
    other: &RelPath,
) -> Result<Seen, Step> {
    let Place { fs, dir, .. } = *place;
    let is_same = matches!(stat_path(fs, other), Ok(Some(there)) if there.same_inode(stat));
    if !is_same {
        return Ok(Seen::Linked(links));
    }
    let xattrs = fs
        .xattrs(dir, name)
        .map_err(|error| ("read attributes", error))?;
    let body = Body::Link {
        to: other.clone(),
        links: None,
    };
    Ok(Seen::Is {
        state: State::Present(stat.metadata(xattrs), body),
        while_open: false,
        links: Some(links),
    })
}

/// True if a file has holes. One that has as much allocated as it is long is taken to have none, and
/// written in full: what was allocated for it and never written is not lost with the holes.
fn has_holes<F: Fs>(fs: &F, file: &F::File, stat: &Stat) -> io::Result<bool> {
    if stat.allocated >= stat.size {
        return Ok(false);
    }
    // Compression, too, allocates less than the size.
    let first = fs.next_data(file, 0)?;
    Ok(first.is_none_or(|data| data.start > 0 || data.end < stat.size))
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
        match fs.open_dir(dir, name) {
            // A mount point is an entry like others, with what is mounted on it left alone.
            Err(error) if error.raw_os_error() == Some(libc::EXDEV) => fs.xattrs(dir, name),
            opened => fs.dir_xattrs(&opened.map_err(|e| ("open", e))?),
        }
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
        links: links_of(stat),
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

fn look_dir<F: Fs>(fs: &F, path: &RelPath, filter: &Filter) -> Result<Finding, Finding> {
    if filter.excludes(path, true) {
        return Ok(Finding::Excluded);
    }
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

/// Which names of a directory are listed, and what is wanted of each.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Names after this one.
    pub after: Option<&'a Name>,
    /// At most so many.
    pub names_max: usize,
    /// What of each.
    pub detail: Detail,
    /// Which of them to name as suspects, directories never.
    pub is_suspect: &'a dyn Fn(&Stat) -> bool,
    /// How they look where everything is wanted of them.
    pub view: &'a View,
}

/// One page of a directory, without what is excluded; shared with the sink, which compares it with its
/// own.
///
/// # Errors
/// What stands in the way, as a finding.
pub fn list<F: Fs>(
    fs: &F,
    windows: &Windows,
    filter: &Filter,
    path: &RelPath,
    asked: &Asked<'_>,
) -> Result<Finding, Finding> {
    if filter.excludes(path, true) {
        return Ok(Finding::Excluded);
    }
    let dir = way(fs, path)?;
    let excludes = |name: &Name, kind: Kind| {
        !filter.is_empty() && filter.excludes_entry(&path.join(name), kind == Kind::Dir)
    };
    // Where the file system does not tell the kind, the stat below decides.
    let wanted = |name: &[u8], kind: Option<Kind>| match kind {
        Some(kind) if !filter.is_empty() => {
            Name::new(name).is_ok_and(|name| !excludes(&name, kind))
        }
        _ => true,
    };
    let dirs_only = asked.detail == Detail::Dirs;
    let (names, more) = if dirs_only && !fs.may_hold_dirs(&dir).map_err(problem(path, "stat"))? {
        (Vec::new(), false)
    } else {
        windows
            .page(fs, &dir, path, asked.after, asked.names_max, &wanted)
            .map_err(problem(path, "list"))?
    };
    let last = names.last().map(|(name, _)| name.clone());
    let own = fs.stat_dir(&dir).map_err(problem(path, "stat"))?;
    let mut own = own.metadata(Vec::new());
    asked.view.show(None, &mut own);
    let mut listed = Listed {
        mtime: own.mtime,
        upto: last.filter(|_| more),
        ..Listed::default()
    };
    for (name, kind) in names {
        if dirs_only && kind.is_some_and(|kind| kind != Kind::Dir) {
            continue;
        }
        match list_name(fs, &dir, &name, kind, asked) {
            Ok(Found { entry, .. }) if excludes(&entry.name, entry.kind) => {}
            Ok(Found { entry, stat, met }) => {
                listed.met.add(met);
                if let Some(links) = stat.as_ref().and_then(links_of) {
                    listed.linked.push((name.clone(), links));
                }
                if entry.kind != Kind::Dir && stat.as_ref().is_some_and(asked.is_suspect) {
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
    Ok(Finding::Listed(Box::new(listed)))
}

/// What is wanted of one name.
struct Found {
    entry: ListEntry,
    /// If it was needed.
    stat: Option<Stat>,
    /// The limits of the view that it met.
    met: LimitSet,
}

impl Found {
    fn bare(name: &Name, kind: Kind, stat: Option<Stat>) -> Self {
        Self {
            entry: ListEntry::bare(name.clone(), kind),
            stat,
            met: LimitSet::default(),
        }
    }
}

fn list_name<F: Fs>(
    fs: &F,
    dir: &F::Dir,
    name: &Name,
    kind: Option<Kind>,
    asked: &Asked<'_>,
) -> io::Result<Found> {
    match (asked.detail, kind) {
        (Detail::Dirs | Detail::Kind, Some(kind)) | (Detail::Links, Some(kind @ Kind::Dir)) => {
            Ok(Found::bare(name, kind, None))
        }
        (Detail::Dirs | Detail::Kind | Detail::Links, _) => {
            let stat = fs.stat(dir, name)?;
            Ok(Found::bare(name, stat.kind, Some(stat)))
        }
        (Detail::Everything, _) => list_entry(fs, dir, name, asked.view),
    }
}

/// What is compared of one name.
fn list_entry<F: Fs>(fs: &F, dir: &F::Dir, name: &Name, view: &View) -> io::Result<Found> {
    let stat = fs.stat(dir, name)?;
    let target = if stat.kind == Kind::Symlink {
        fs.read_link(dir, name)?
    } else {
        Vec::new()
    };
    let mut meta = stat.metadata(fs.xattrs(dir, name)?);
    let is_linked = links_of(&stat).is_some();
    let met = view.show_name(Some(name), &mut meta, is_linked);
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
        linked: is_linked && view.keeps(LimitKind::HardLinks),
    };
    Ok(Found {
        entry,
        stat: Some(stat),
        met,
    })
}

/// Reads the next piece of a streamed file: at most so many bytes of the first data from `offset` on. To be
/// hashed, it ends where its block does, if the file is cut into blocks of `bytes`, and a hole comes alone.
pub fn read_chunk<F: Fs>(fs: &F, open: &OpenFile<F::File>, span: Span) -> Finding {
    let Span {
        offset,
        bytes,
        hashed,
    } = span;
    let size = open.stat.size;
    let (start, end) = match next_piece(fs, open, offset) {
        Ok(Some(piece)) => piece,
        Ok(None) => return Finding::StreamEnded { whole: false },
        Err(error) => return stream_failed("find data", &error),
    };
    let most = match hashed {
        false => bytes,
        true if start > offset => 0,
        true => bytes - start % bytes,
    };
    let wanted = most.min(end.min(size).saturating_sub(start));
    let wanted = usize::try_from(wanted).expect("a chunk fits into memory");
    match fs.read_piece(&open.file, start, wanted) {
        Ok(data) if data.len() == wanted => Finding::Chunk {
            offset: start.min(size),
            hash: (hashed && !data.is_empty()).then(|| BlockHash::of(&data)),
            data: data.into(),
        },
        Ok(_) => Finding::StreamEnded { whole: false },
        Err(error) => stream_failed("read", &error),
    }
}

fn stream_failed(operation: &'static str, error: &io::Error) -> Finding {
    match error.raw_os_error() {
        // The file is gone, which the look that follows finds out.
        Some(libc::ESTALE) => Finding::StreamEnded { whole: false },
        errno => Finding::StreamFailed {
            operation,
            errno: errno.unwrap_or(0),
        },
    }
}

/// Where the next data of a streamed file begins and ends; `None` if the file became shorter.
fn next_piece<F: Fs>(
    fs: &F,
    open: &OpenFile<F::File>,
    offset: u64,
) -> io::Result<Option<(u64, u64)>> {
    let size = open.stat.size;
    if !open.sparse {
        return Ok(Some((offset, size)));
    }
    Ok(match fs.next_data(&open.file, offset)? {
        Some(data) => Some((data.start, data.end)),
        // What was cut off looks like a hole.
        None => (fs.stat_file(&open.file)?.size >= size).then_some((size, size)),
    })
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

#[cfg(test)]
mod tests;
