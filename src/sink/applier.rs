//! The applier: puts one change into the target tree. Appliers run in parallel; the engine hands out
//! only what may run at the same time.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use crate::engine::walk::Suspicion;
use crate::fs::windows::Windows;
use crate::fs::{Fs, Stat, Way, open_way, stat_if_there};
use crate::report::Shortage;
use crate::sink::basis::Basis;
use crate::sink::brake::Brake;
use crate::sink::distrust::Distrust;
use crate::sink::exact::{self, Held};
use crate::sink::exclusion::Exclusion;
use crate::sink::reconciler;
use crate::tree::{
    BlockHash, Body, Entry, Filter, Kind, Metadata, Name, NameRange, RelPath, State, Time,
};
use crate::wire::message::{Answer, Change, Lane, Outcome, Page, Refusal};

/// Stages of large files held at once, unless more are set: as many as a source sends at most.
pub const STAGES_MAX: usize = 64;

/// Entries of the target that are counted. In larger trees the brake takes its share of these, which is on
/// the safe side, until more have been made.
pub const COUNTED_MAX: u64 = 200_000;

/// Permissions of a file of which the others are not known yet.
const PRIVATE: u32 = 0o600;

/// What all appliers share.
#[derive(Debug)]
pub struct Applier<F: Fs> {
    fs: F,
    streams: Mutex<HashMap<u64, Streamed<F::File>>>,
    /// The brake on removals.
    pub brake: Brake,
    /// Set when the target has been counted for it.
    counted: OnceLock<()>,
    distrust: Distrust,
    /// What comparisons have read ahead. Whoever puts a name into a directory tells them behind it.
    windows: Windows,
    /// What takes part in the session; set between sessions only.
    filter: RwLock<Filter>,
    kept_told: AtomicBool,
    /// The target takes different names for one.
    folds: bool,
    /// Stages of large files held at once; further streams are refused.
    stages_max: usize,
}

#[derive(Debug)]
struct Stage<H> {
    file: H,
    /// Where the last piece has ended.
    end: u64,
    /// Bytes that the file will have.
    size: u64,
    /// What it builds on, if it does.
    basis: Option<Basis<H>>,
}

/// The next piece of a stream: what is kept of the base, a hole, data.
struct Piece<'a> {
    offset: u64,
    kept: u64,
    hole: u64,
    data: &'a [u8],
}

/// A stream of which a piece was refused stays refused until its end: its content has gaps.
type Streamed<H> = Result<Stage<H>, Refused>;

/// Why an entry was not done.
type Refused = Box<Refusal>;

fn refused(operation: &str, error: &io::Error) -> Refused {
    Box::new(match error.raw_os_error() {
        Some(libc::ENOSPC) => Refusal::Full(Shortage::Space),
        Some(libc::EDQUOT) => Refusal::Full(Shortage::Quota),
        Some(libc::EROFS) => Refusal::Full(Shortage::ReadOnly),
        Some(libc::ESTALE) => Refusal::Mismatch,
        errno => Refusal::Problem {
            operation: operation.to_owned(),
            errno: errno.unwrap_or(0),
        },
    })
}

fn step<T>(operation: &str, result: io::Result<T>) -> Result<T, Refused> {
    result.map_err(|error| refused(operation, &error))
}

fn is(error: &io::Error, errno: i32) -> bool {
    error.raw_os_error() == Some(errno)
}

impl<F: Fs> Applier<F> {
    /// An applier for this tree. Files that a power cut may have emptied, which changed within these times,
    /// are distrusted.
    pub fn new(fs: F, brake: Brake, distrust: impl IntoIterator<Item = Suspicion>) -> Self {
        Self {
            fs,
            streams: Mutex::new(HashMap::new()),
            brake,
            counted: OnceLock::new(),
            distrust: Distrust::new(distrust),
            windows: Windows::default(),
            filter: RwLock::default(),
            kept_told: AtomicBool::new(false),
            folds: false,
            stages_max: STAGES_MAX,
        }
    }

    /// The same that stages so many large files at once, and keeps so many bytes of names of huge directories.
    #[must_use]
    pub fn within(self, stages_max: usize, listing_cache_bytes: usize) -> Self {
        Self {
            stages_max,
            windows: Windows::keeping(listing_cache_bytes),
            ..self
        }
    }

    /// For a target that takes different names for one: no name is used for another one. Changes must
    /// then be applied one at a time.
    #[must_use]
    pub fn on_folding_target(mut self) -> Self {
        self.folds = true;
        self
    }

    /// From now on, distrusts what changed within these times, whoever wrote it.
    pub fn set_distrust(&self, times: impl IntoIterator<Item = Suspicion>) {
        self.distrust.set(times);
    }

    /// From now on, leaves alone what this filter excludes. Nothing may be being applied.
    pub fn set_filter(&self, filter: Filter) {
        *self.filter.write().unwrap_or_else(PoisonError::into_inner) = filter;
        // What was read ahead may lack names that take part now.
        self.windows.forget_below(&RelPath::root());
    }

    fn filter(&self) -> Filter {
        let filter = self.filter.read();
        filter.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file system.
    pub fn fs(&self) -> &F {
        &self.fs
    }

    /// Tries what the brake may halt. Its share is of no interest below its floor, so the target is counted when
    /// that has been reached for the first time; whoever else reaches it meanwhile waits.
    fn braked<T>(&self, attempt: impl Fn() -> Result<T, Refused>) -> Result<T, Refused> {
        let was_counted = self.counted.get().is_some();
        match attempt() {
            Err(why) if *why == Refusal::Halted && !was_counted => {
                self.counted.get_or_init(|| self.count_target());
                attempt()
            }
            done => done,
        }
    }

    fn count_target(&self) {
        let root = self.fs.root();
        match root.and_then(|root| reconciler::count(&self.fs, &root, None, COUNTED_MAX)) {
            Ok(entries) => self.brake.counted(entries),
            Err(error) => tracing::warn!(
                "the target could not be counted ({error}), so that removals halt after a share of what was made \
                 since the start"
            ),
        }
    }

    /// Frees the stages of all streams.
    pub fn free_stages(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Streamed<F::File>>> {
        // A panic elsewhere ends the process; the map itself is never left half changed.
        self.streams
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Applies one change.
    pub fn apply(&self, lane: Lane, change: Change) -> Outcome {
        let mut outcome = self.apply_now(lane, change);
        let is_full = |(_, why): &(u32, Refusal)| *why == Refusal::Full(Shortage::Space);
        // The kernel has one error for both.
        if outcome.refused.iter().any(is_full) && self.fs.is_out_of_inodes() {
            for (_, why) in outcome
                .refused
                .iter_mut()
                .filter(|refused| is_full(refused))
            {
                *why = Refusal::Full(Shortage::Inodes);
            }
        }
        outcome
    }

    fn apply_now(&self, lane: Lane, change: Change) -> Outcome {
        match change {
            Change::Entries { dir, entries } => self.entries(lane, &dir, entries),
            Change::DirMeta { dir, meta } => single(self.dir_meta(&dir, &meta)),
            Change::Rename {
                from,
                to,
                kind,
                size,
                mtime,
            } => single(self.rename(lane, (&from, &to), kind, size, mtime)),
            Change::Listing { dir, range, page } => Outcome {
                answer: Some(self.compare(&dir, &range, &page)),
                ..Outcome::default()
            },
            Change::Base {
                stream,
                path,
                offset,
                bytes,
                block,
                size,
            } => match self.base(stream, &path, offset..offset + bytes, block, size) {
                Ok(answer) => Outcome {
                    answer: Some(answer),
                    ..Outcome::default()
                },
                Err(why) => single(Err(why)),
            },
            Change::Chunk {
                stream,
                offset,
                kept,
                hole,
                data,
                size,
            } => {
                let piece = Piece {
                    offset,
                    kept,
                    hole,
                    data: &data,
                };
                single(self.chunk(stream, &piece, size))
            }
            Change::Publish {
                stream,
                path,
                meta,
                hash,
            } => single(self.publish(lane, stream, &path, &meta, hash)),
            Change::Abandon { stream } => {
                self.lock().remove(&stream);
                Outcome::default()
            }
        }
    }

    fn compare(&self, dir: &RelPath, range: &NameRange, page: &Page) -> Answer {
        match self.check_way(dir) {
            Ok(()) => reconciler::compare(
                &self.fs,
                &self.windows,
                dir,
                range,
                page,
                &self.distrust,
                &self.filter(),
            ),
            Err(why) => match *why {
                Refusal::Problem { errno, .. } => Answer::Failed(errno),
                _ => Answer::Missing,
            },
        }
    }

    // ---- folding targets ---------------------------------------------------------------------------

    /// Another directory that the target takes for this one is not it: this one is missing.
    fn check_way(&self, path: &RelPath) -> Result<(), Refused> {
        if self.folds && !step("open directory", exact::is_way_exact(&self.fs, path))? {
            return Err(Box::new(Refusal::ParentMissing));
        }
        Ok(())
    }

    /// True if the target takes the name of another entry for this one.
    fn is_taken(&self, dir: &F::Dir, name: &Name) -> Result<bool, Refused> {
        Ok(self.folds && step("list", exact::held(&self.fs, dir, name))? == Held::Another)
    }

    /// Refuses a name whose place another one has.
    fn check_free(&self, dir: &F::Dir, name: &Name) -> Result<(), Refused> {
        if self.is_taken(dir, name)? {
            return Err(refused(
                "create",
                &io::Error::from_raw_os_error(libc::EEXIST),
            ));
        }
        Ok(())
    }

    /// What has this name now.
    fn there(&self, dir: &F::Dir, name: &Name) -> Result<Option<Stat>, Refused> {
        step("stat", stat_if_there(&self.fs, dir, name))
    }

    fn open(&self, path: &RelPath) -> Result<F::Dir, Refused> {
        self.check_way(path)?;
        match open_way(&self.fs, path) {
            Way::Open(dir) => Ok(dir),
            Way::Broken(_) => Err(Box::new(Refusal::ParentMissing)),
            Way::Failed(_, error) => Err(refused("open directory", &error)),
        }
    }

    // ---- entries -----------------------------------------------------------------------------------

    fn entries(&self, lane: Lane, dir_path: &RelPath, entries: Vec<Entry>) -> Outcome {
        let mut outcome = Outcome::default();
        let dir = match self.open(dir_path) {
            Ok(dir) => dir,
            Err(why) => {
                // A missing directory is never made (rule 9); what is to be absent in it already is.
                let all = entries.iter().enumerate();
                let left =
                    all.filter(|(_, e)| *why != Refusal::ParentMissing || e.state != State::Absent);
                outcome.refused = left.map(|(at, _)| (at as u32, (*why).clone())).collect();
                return outcome;
            }
        };
        let mut created = Vec::new();
        let filter = self.filter();
        for (at, entry) in entries.into_iter().enumerate() {
            if entry.state != State::Absent {
                created.push(entry.name.clone());
            }
            let done = match self.make_way(lane, &filter, &dir, dir_path, &entry) {
                Ok(true) => self.entry(lane, &dir, &entry.name, entry.state),
                left => left.map(|_| false),
            };
            match done {
                Ok(true) => outcome.made.push(at as u32),
                Ok(false) => {}
                Err(why) => outcome.refused.push((at as u32, *why)),
            }
        }
        self.windows.created(dir_path, &created);
        outcome
    }

    /// Sees to it that neither another entry nor anything excluded goes with what is at the name now.
    /// False if nothing is left to do.
    fn make_way(
        &self,
        lane: Lane,
        filter: &Filter,
        dir: &F::Dir,
        dir_path: &RelPath,
        entry: &Entry,
    ) -> Result<bool, Refused> {
        let wanted = match &entry.state {
            State::Absent if self.is_taken(dir, &entry.name)? => return Ok(false),
            State::Absent => None,
            State::Present(meta, _) => {
                self.check_free(dir, &entry.name)?;
                Some(meta.kind)
            }
        };
        if filter.is_empty() {
            return Ok(true);
        }
        let path = dir_path.join(&entry.name);
        let exclusion = self.exclusion(lane, filter);
        let left = self.braked(|| exclusion.make_way(dir, &path, &entry.name, wanted));
        if left.as_ref().is_err_and(|why| **why == Refusal::Kept)
            && !self.kept_told.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                "'{path}' is not removed, as excluded entries lie in it; further directories of the kind \
                 are only counted, see 'osync report transfer'"
            );
        }
        left
    }

    fn exclusion<'a>(&'a self, lane: Lane, filter: &'a Filter) -> Exclusion<'a, F> {
        Exclusion {
            fs: &self.fs,
            filter,
            brake: &self.brake,
            lane,
        }
    }

    /// Brings one name to its state. True if a directory had to be made.
    fn entry(&self, lane: Lane, dir: &F::Dir, name: &Name, state: State) -> Result<bool, Refused> {
        match state {
            State::Absent => self.remove(lane, dir, name).map(|()| false),
            State::Present(meta, body) => match body {
                Body::Content(content) => {
                    let stage = step("create", self.fs.stage(dir, meta.mode))?;
                    step("write", self.fs.write_at(&stage, 0, &content))?;
                    self.place(lane, (dir, name), stage, &meta).map(|()| false)
                }
                Body::Unchanged { links } => {
                    self.metadata_alone(dir, name, &meta, links).map(|()| false)
                }
                Body::Link { to, links } => self
                    .further_name(lane, (dir, name), &meta, &to, links)
                    .map(|()| false),
                Body::Target(target) => self
                    .place_special(lane, (dir, name), &meta, &target)
                    .map(|()| false),
                Body::Empty if meta.kind == Kind::Dir => self.directory(dir, name, &meta),
                Body::Empty => self
                    .place_special(lane, (dir, name), &meta, &[])
                    .map(|()| false),
            },
        }
    }

    /// Sets the metadata of the file that the sink has. If other names share it than those meant, or
    /// it is not the file that was meant, the whole state comes instead (rule 29).
    fn metadata_alone(
        &self,
        dir: &F::Dir,
        name: &Name,
        meta: &Metadata,
        links: u64,
    ) -> Result<(), Refused> {
        let stat = self.fs.stat(dir, name);
        if stat.is_ok_and(|stat| self.is_distrusted(&stat)) {
            return Err(Box::new(Refusal::Mismatch));
        }
        match self.fs.set_file_meta(dir, name, meta, links) {
            Err(error)
                if [libc::EMLINK, libc::ENOENT, libc::EISDIR]
                    .iter()
                    .any(|&e| is(&error, e)) =>
            {
                Err(Box::new(Refusal::Mismatch))
            }
            set => {
                step("set metadata", set)?;
                self.wrote(dir, name);
                Ok(())
            }
        }
    }

    /// Makes `name` a further name of what `other` is, if that is what the source described (rule 27).
    fn further_name(
        &self,
        lane: Lane,
        (dir, name): (&F::Dir, &Name),
        meta: &Metadata,
        other: &RelPath,
        links: Option<u64>,
    ) -> Result<(), Refused> {
        let mismatch = || Box::new(Refusal::Mismatch);
        let (other_dir, other_name) = other.split().ok_or_else(mismatch)?;
        let from = self.open(&other_dir).map_err(|_| mismatch())?;
        if self.is_taken(&from, &other_name)? {
            return Err(mismatch());
        }
        let stat = self.fs.stat(&from, &other_name).map_err(|_| mismatch())?;
        let described = is_described(&stat, meta)
            && step("read attributes", self.fs.xattrs(&from, &other_name))? == meta.xattrs;
        if !described || self.is_distrusted(&stat) {
            return Err(mismatch());
        }
        let mut names = stat.nlink;
        match self.there(dir, name)? {
            Some(there) if there.same_inode(&stat) => {}
            Some(there) if there.kind == Kind::Dir => {
                self.remove(lane, dir, name)?;
                names += 1;
            }
            Some(_) => names += 1,
            None => {
                self.brake.add(1);
                names += 1;
            }
        }
        // More names than the source has: some of them mean something else there.
        if links.is_some_and(|links| names > links) {
            return Err(mismatch());
        }
        step("link", self.fs.link(&from, &other_name, dir, name, &stat))?;
        self.wrote(dir, name);
        Ok(())
    }

    fn place(
        &self,
        lane: Lane,
        (dir, name): (&F::Dir, &Name),
        mut stage: F::File,
        meta: &Metadata,
    ) -> Result<(), Refused> {
        let mut is_new = self.fs.publish(&mut stage, dir, name, meta);
        if is_new.as_ref().is_err_and(|error| is(error, libc::EISDIR)) {
            self.remove(lane, dir, name)?;
            is_new = self.fs.publish(&mut stage, dir, name, meta);
        }
        if step("publish", is_new)? {
            self.brake.add(1);
        }
        self.wrote(dir, name);
        Ok(())
    }

    fn place_special(
        &self,
        lane: Lane,
        (dir, name): (&F::Dir, &Name),
        meta: &Metadata,
        target: &[u8],
    ) -> Result<(), Refused> {
        match self.fs.publish_special(dir, name, meta, target) {
            Err(error) if is(&error, libc::EISDIR) => {
                self.remove(lane, dir, name)?;
                step("publish", self.fs.publish_special(dir, name, meta, target))?;
            }
            placed => step("publish", placed)?,
        }
        self.wrote(dir, name);
        Ok(())
    }

    fn directory(&self, dir: &F::Dir, name: &Name, meta: &Metadata) -> Result<bool, Refused> {
        let mut made = self.fs.make_dir(dir, name, meta);
        if made.as_ref().is_err_and(|error| is(error, libc::EEXIST)) {
            match self.fs.open_dir(dir, name) {
                Ok(opened) => {
                    let set = self.fs.set_dir_meta(&opened, meta);
                    return step("set metadata", set).map(|()| false);
                }
                Err(error) if is(&error, libc::ENOTDIR) => {
                    step("remove", self.fs.remove_file(dir, name))?;
                }
                Err(error) if is(&error, libc::ENOENT) => {}
                Err(error) => return Err(refused("open directory", &error)),
            }
            made = self.fs.make_dir(dir, name, meta);
        }
        step("make directory", made)?;
        self.brake.add(1);
        Ok(true)
    }

    fn remove(&self, lane: Lane, dir: &F::Dir, name: &Name) -> Result<(), Refused> {
        self.braked(|| self.try_remove(lane, dir, name))
    }

    fn try_remove(&self, lane: Lane, dir: &F::Dir, name: &Name) -> Result<(), Refused> {
        let Some(stat) = self.there(dir, name)? else {
            return Ok(());
        };
        if stat.kind != Kind::Dir {
            self.brake.admit(lane, 1)?;
            return step("remove", self.fs.remove_file(dir, name))
                .inspect_err(|_| self.brake.give_back(lane, 1));
        }
        let most = self.brake.room(lane);
        let count = step("count", reconciler::count(&self.fs, dir, Some(name), most))?;
        self.brake.admit(lane, count)?;
        step("remove", self.fs.remove_tree(dir, name)).inspect_err(|_| {
            let left = reconciler::count(&self.fs, dir, Some(name), count);
            self.brake
                .give_back(lane, left.map_or(0, |left| left.min(count)));
        })
    }

    /// A power cut or a failed sync may have taken the content. Nothing is built on it: a new change time would make it
    /// look trustworthy (rule 22).
    fn is_distrusted(&self, stat: &Stat) -> bool {
        self.distrust.holds(stat)
    }

    /// What this process has put there it trusts, whatever the clock says.
    fn wrote(&self, dir: &F::Dir, name: &Name) {
        if !self.distrust.is_empty()
            && let Ok(stat) = self.fs.stat(dir, name)
        {
            self.distrust.wrote(&stat);
        }
    }

    fn dir_meta(&self, path: &RelPath, meta: &Metadata) -> Result<(), Refused> {
        self.exclusion(Lane::Live, &self.filter())
            .admit(path, Kind::Dir)?;
        let dir = self.open(path)?;
        step("set metadata", self.fs.set_dir_meta(&dir, meta))
    }

    // ---- renames -----------------------------------------------------------------------------------

    fn rename(
        &self,
        lane: Lane,
        (from, to): (&RelPath, &RelPath),
        kind: Kind,
        size: u64,
        mtime: Time,
    ) -> Result<(), Refused> {
        let mismatch = || Box::new(Refusal::Mismatch);
        let ((from_dir, from_name), (to_dir, to_name)) = (
            from.split().ok_or_else(mismatch)?,
            to.split().ok_or_else(mismatch)?,
        );
        let old = self.open(&from_dir)?;
        let new = self.open(&to_dir)?;
        if self.is_taken(&old, &from_name)? || self.is_taken(&new, &to_name)? {
            return Err(mismatch());
        }
        let stat = self.fs.stat(&old, &from_name).map_err(|_| mismatch())?;
        let same =
            stat.kind == kind && (kind == Kind::Dir || (stat.size == size && stat.mtime == mtime));
        if !same || (kind != Kind::Dir && self.is_distrusted(&stat)) {
            return Err(mismatch());
        }
        let filter = self.filter();
        if !filter.is_empty() {
            let exclusion = self.exclusion(lane, &filter);
            self.braked(|| exclusion.admit_rename(from, (&new, to), kind))?;
        }
        if let Some(there) = self.there(&new, &to_name).map_err(|_| mismatch())? {
            // rename(2) puts a directory over an empty directory only, and a file over no directory.
            let fits = (kind == Kind::Dir) == (there.kind == Kind::Dir);
            if there.same_inode(&stat) {
                return Err(mismatch());
            }
            if !fits || kind == Kind::Dir {
                self.remove(lane, &new, &to_name)?;
            }
        }
        let renamed = self.fs.rename(&old, &from_name, &new, &to_name);
        self.windows.forget_below(from);
        self.windows.forget_below(to);
        self.windows.created(&to_dir, [&to_name]);
        step("rename", renamed)?;
        self.wrote(&new, &to_name);
        Ok(())
    }

    // ---- streams -----------------------------------------------------------------------------------

    /// Works on the stage of a stream, which is made for the first piece. Pieces of one stream come one at a
    /// time, so its stage can leave the map meanwhile.
    fn on_stage<T>(
        &self,
        stream: u64,
        make: impl FnOnce() -> Streamed<F::File>,
        work: impl FnOnce(&mut Stage<F::File>) -> Result<T, Refused>,
    ) -> Result<T, Refused> {
        let held = self.lock().remove(&stream);
        if held.is_none() && self.lock().len() >= self.stages_max {
            return Err(Box::new(Refusal::Problem {
                operation: "stage".to_owned(),
                errno: libc::EMFILE,
            }));
        }
        let mut held = held.unwrap_or_else(make);
        let worked = held.as_mut().map_err(|why| why.clone()).and_then(work);
        let held = match &worked {
            Ok(_) => held,
            Err(why) => Err(why.clone()),
        };
        self.lock().insert(stream, held);
        worked
    }

    fn chunk(&self, stream: u64, piece: &Piece<'_>, size: u64) -> Result<(), Refused> {
        let make = || self.stage(size);
        self.on_stage(stream, make, |stage| self.grow(stage, piece, size))
    }

    fn grow(
        &self,
        stage: &mut Stage<F::File>,
        piece: &Piece<'_>,
        size: u64,
    ) -> Result<(), Refused> {
        let kept = piece.offset..piece.offset + piece.kept;
        // What ends beyond the file was refused when it was decoded.
        let start = kept.end + piece.hole;
        if stage.end != piece.offset || stage.size != size {
            return Err(Box::new(Refusal::Mismatch));
        }
        match &mut stage.basis {
            None if piece.kept > 0 => return Err(Box::new(Refusal::Mismatch)),
            None => {}
            Some(basis) => {
                if !basis.keep(kept.clone()) {
                    return Err(Box::new(Refusal::Mismatch));
                }
                if piece.hole > 0 {
                    step("make hole", self.fs.punch(&stage.file, kept.end..start))?;
                    basis.hole(piece.hole);
                }
                if !piece.data.is_empty() {
                    basis.data(piece.data);
                }
            }
        }
        step("write", self.fs.write_at(&stage.file, start, piece.data))?;
        stage.end = start + piece.data.len() as u64;
        Ok(())
    }

    /// Copies a range of the file at a path to the stage that is to take its place, if there is one.
    fn base(
        &self,
        stream: u64,
        path: &RelPath,
        range: Range<u64>,
        block: u64,
        size: u64,
    ) -> Result<Answer, Refused> {
        if !self.lock().contains_key(&stream) {
            let Some(stage) = self.stage_on(path, block, size) else {
                return Ok(Answer::Missing);
            };
            self.lock().insert(stream, Ok(stage));
        }
        let begins = range.start == 0;
        let none = || Err(Box::new(Refusal::Mismatch));
        let answer = self.on_stage(stream, none, |stage| {
            let (end, basis) = (stage.end, stage.basis.as_mut());
            let Some(basis) = basis.filter(|_| stage.size == size) else {
                return Err(Box::new(Refusal::Mismatch));
            };
            if !basis.admits(end, &range, block) {
                return Err(Box::new(Refusal::Mismatch));
            }
            let blocks = basis.copy(&self.fs, &stage.file, range);
            Ok(blocks.map_or(Answer::Missing, Answer::Blocks))
        })?;
        if begins && answer == Answer::Missing {
            // Nothing is built on it: the stream is one like others.
            self.lock().remove(&stream);
        }
        Ok(answer)
    }

    /// A stage that builds on the file at a path; `None` if there is no such file, or no room for a stage, which
    /// whoever sends it whole is told.
    fn stage_on(&self, path: &RelPath, block: u64, size: u64) -> Option<Stage<F::File>> {
        if self.lock().len() >= self.stages_max {
            return None;
        }
        let base = self.open_base(path)?;
        let stage = self.stage(size).ok()?;
        Some(Stage {
            basis: Some(Basis::new(base, block, size)),
            ..stage
        })
    }

    fn open_base(&self, path: &RelPath) -> Option<F::File> {
        let (dir, name) = path.split()?;
        if self.filter().excludes(path, false) {
            return None;
        }
        let dir = self.open(&dir).ok()?;
        if self.is_taken(&dir, &name).ok()? {
            return None;
        }
        Some(self.fs.open(&dir, &name).ok()?.0)
    }

    /// A stage for a whole file. It has its length from the start, so that no file system allocates more
    /// behind each write in the hope for a next one: that would fill the holes.
    fn stage(&self, size: u64) -> Result<Stage<F::File>, Refused> {
        // Where it will be is told with its last piece.
        let root = step("open directory", self.fs.root())?;
        let file = step("create", self.fs.stage(&root, PRIVATE))?;
        step("set length", self.fs.set_len(&file, size))?;
        Ok(Stage {
            file,
            end: 0,
            size,
            basis: None,
        })
    }

    fn publish(
        &self,
        lane: Lane,
        stream: u64,
        path: &RelPath,
        meta: &Metadata,
        hash: Option<BlockHash>,
    ) -> Result<(), Refused> {
        let held = self.lock().remove(&stream);
        let stage = held.unwrap_or_else(|| Err(Box::new(Refusal::Mismatch)))?;
        let (dir_path, name) = path.split().ok_or_else(|| Box::new(Refusal::Mismatch))?;
        let is_right = stage.basis.as_ref().map(Basis::hash) == hash;
        if stage.end != stage.size || stage.size != meta.size || !is_right {
            return Err(Box::new(Refusal::Mismatch));
        }
        let dir = self.open(&dir_path)?;
        self.check_free(&dir, &name)?;
        let filter = self.filter();
        if !filter.is_empty() {
            let exclusion = self.exclusion(lane, &filter);
            self.braked(|| exclusion.make_way(&dir, path, &name, Some(meta.kind)))?;
        }
        let placed = self.place(lane, (&dir, &name), stage.file, meta);
        self.windows.created(&dir_path, [&name]);
        placed
    }
}

/// True if this is what the source saw, as far as a stat tells.
fn is_described(stat: &Stat, meta: &Metadata) -> bool {
    let same = |stat: &Stat| {
        (
            stat.kind, stat.mode, stat.uid, stat.gid, stat.mtime, stat.rdev,
        )
    };
    let described = (
        meta.kind, meta.mode, meta.uid, meta.gid, meta.mtime, meta.rdev,
    );
    same(stat) == described && (meta.kind != Kind::File || stat.size == meta.size)
}

fn single(result: Result<(), Refused>) -> Outcome {
    match result {
        Ok(()) => Outcome::default(),
        Err(why) => Outcome {
            refused: vec![(0, *why)],
            ..Outcome::default()
        },
    }
}

#[cfg(test)]
mod tests;
