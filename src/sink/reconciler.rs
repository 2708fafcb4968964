//! The reconciler: compares a page of the source's listing with the target.

use std::io;

use crate::engine::work::{Detail, Finding};
use crate::fs::windows::Windows;
use crate::fs::{Fs, Stat};
use crate::sink::distrust::Distrust;
use crate::sink::removal::survey;
use crate::source::reader::{Asked, list};
use crate::tree::{Digest, Filter, Kind, ListEntry, Name, NameRange, RelPath, View};
use crate::wire::message::{Answer, ENTRIES_MAX, Page};

/// Compares a page with what is here.
pub fn compare<F: Fs>(
    fs: &F,
    windows: &Windows,
    dir: &RelPath,
    range: &NameRange,
    page: &Page,
    distrust: &Distrust,
    filter: &Filter,
) -> Answer {
    let target = Target {
        fs,
        windows,
        dir,
        range,
        distrust,
        filter,
    };
    let compared = match page {
        Page::Digest(digest, count) => target.digest(digest, *count),
        Page::Entries(theirs) => target.names(theirs),
    };
    compared.unwrap_or_else(|failed| failed)
}

/// A range of names in one directory of the target.
struct Target<'a, F: Fs> {
    fs: &'a F,
    windows: &'a Windows,
    dir: &'a RelPath,
    range: &'a NameRange,
    distrust: &'a Distrust,
    filter: &'a Filter,
}

/// What the target holds of a range, as far as it was listed.
#[derive(Default)]
struct Mine {
    entries: Vec<ListEntry>,
    suspects: Vec<Name>,
    /// Where the next page begins, if there is one.
    next_after: Option<Name>,
}

impl<F: Fs> Target<'_, F> {
    fn digest(&self, digest: &Digest, count: u32) -> Result<Answer, Answer> {
        // One name more shows whether the range ends here.
        let mine = self.page(self.range.after.as_ref(), count as usize + 1)?;
        let trusted = mine.suspects.is_empty() && mine.next_after.is_none();
        let same = count as usize == mine.entries.len() && Digest::of(&mine.entries) == *digest;
        Ok(if trusted && same {
            Answer::Equal
        } else {
            Answer::Different
        })
    }

    fn names(&self, theirs: &[ListEntry]) -> Result<Answer, Answer> {
        // One name more than may be answered tells whether there is more in excess.
        let most = theirs.len() + ENTRIES_MAX;
        let mut mine = self.page(self.range.after.as_ref(), most)?;
        self.drop_kept(theirs, &mut mine.entries);
        while let Some(after) = mine.next_after.take_if(|_| mine.entries.len() < most) {
            let mut next = self.page(Some(&after), most)?;
            self.drop_kept(theirs, &mut next.entries);
            mine.entries.append(&mut next.entries);
            mine.suspects.append(&mut next.suspects);
            mine.next_after = next.next_after;
        }
        let more = mine.next_after.is_some();
        Ok(names(theirs, &mine.entries, &mine.suspects, more))
    }

    fn page(&self, after: Option<&Name>, most: usize) -> Result<Mine, Answer> {
        let asked = Asked {
            after,
            names_max: most,
            detail: Detail::Everything,
            is_suspect: &|stat| self.distrust.holds(stat),
            view: &View::default(),
        };
        let listed = list(self.fs, self.windows, self.filter, self.dir, &asked);
        let mut listed = match listed {
            Ok(Finding::Listed(listed)) => listed,
            Err(Finding::Broken(_)) => return Err(Answer::Missing),
            Err(Finding::Failed { errno, .. }) => return Err(Answer::Failed(errno)),
            Ok(_) | Err(_) => return Err(Answer::Failed(0)),
        };
        let inside = |name: &Name| self.range.contains(name.as_bytes());
        let next_after = listed.upto.filter(inside);
        listed.entries.retain(|entry| inside(&entry.name));
        listed.suspects.retain(inside);
        Ok(Mine {
            entries: listed.entries,
            suspects: listed.suspects,
            next_after,
        })
    }

    /// Leaves out directories that the source does not have and that are here only because excluded
    /// entries lie in them: there is nothing to do about them.
    fn drop_kept(&self, theirs: &[ListEntry], mine: &mut Vec<ListEntry>) {
        if self.filter.is_empty() {
            return;
        }
        let is_theirs = |name: &Name| {
            theirs
                .binary_search_by(|entry| entry.name.cmp(name))
                .is_ok()
        };
        mine.retain(|entry| {
            entry.kind != Kind::Dir || is_theirs(&entry.name) || !self.is_kept(&entry.name)
        });
    }

    fn is_kept(&self, name: &Name) -> bool {
        let found = survey(self.fs, &self.dir.join(name), self.filter, 0);
        found.is_ok_and(|found| found.holds_excluded && found.removable == 0)
    }
}

fn names(theirs: &[ListEntry], all: &[ListEntry], suspects: &[Name], mut more: bool) -> Answer {
    let (mut lacks, mut differs, mut excess) = (Vec::new(), Vec::new(), Vec::new());
    let mut mine = all.iter().peekable();
    for entry in theirs {
        while let Some(other) = mine.next_if(|other| other.name < entry.name) {
            excess.push(other.name.clone());
        }
        match mine.next_if(|other| other.name == entry.name) {
            Some(other) if entry.is_held_as(other) && !suspects.contains(&entry.name) => {}
            Some(_) => differs.push(entry.name.clone()),
            None => lacks.push(entry.name.clone()),
        }
    }
    excess.extend(mine.map(|other| other.name.clone()));
    excess.extend(unread(theirs, all, suspects));
    excess.sort();
    if excess.len() > ENTRIES_MAX {
        excess.truncate(ENTRIES_MAX);
        more = true;
    }
    Answer::Names {
        lacks,
        differs,
        excess,
        more,
    }
}

/// Names that are here although they could not be looked at, and that the source does not have.
fn unread<'a>(
    theirs: &'a [ListEntry],
    mine: &'a [ListEntry],
    suspects: &'a [Name],
) -> impl Iterator<Item = Name> + 'a {
    let holds = |entries: &[ListEntry], name: &Name| entries.iter().any(|e| e.name == *name);
    let unread = suspects.iter().filter(move |name| !holds(mine, name));
    unread.filter(move |name| !holds(theirs, name)).cloned()
}

/// Counts the directory `name` in `dir` (or `dir` itself) with all below, up to a little more than
/// `most`, so that the brake can decide before anything goes. Remembers at most as many directories.
///
/// # Errors
/// Those of reading a directory.
pub fn count<F: Fs>(fs: &F, dir: &F::Dir, name: Option<&Name>, most: u64) -> io::Result<u64> {
    let mut total = 1;
    // Directories still to be counted, as paths below the first: they are opened one at a time.
    let mut left: Vec<Vec<Name>> = vec![name.into_iter().cloned().collect()];
    while let Some(way) = left.pop() {
        let mut opened: Option<F::Dir> = None;
        for name in &way {
            opened = Some(fs.open_dir(opened.as_ref().unwrap_or(dir), name)?);
        }
        let here = opened.as_ref().unwrap_or(dir);
        let mut dirs = Vec::new();
        let mut failed = None;
        fs.list(here, &mut |name, kind| {
            total += 1;
            if total <= most && kind.is_none_or(|kind| kind == Kind::Dir) {
                match Name::new(name) {
                    Ok(name) => dirs.push((name, kind)),
                    Err(_) => failed = Some(libc::EINVAL),
                }
            }
        })?;
        if let Some(errno) = failed {
            return Err(io::Error::from_raw_os_error(errno));
        }
        if total > most {
            return Ok(total);
        }
        for (name, kind) in dirs {
            let is_dir = |stat: Stat| stat.kind == Kind::Dir;
            if kind.is_some() || fs.stat(here, &name).is_ok_and(is_dir) {
                left.push(way.iter().cloned().chain([name]).collect());
            }
        }
    }
    Ok(total)
}
