//! The reconciler: compares a page of the source's listing with the target.

use std::io;

use crate::engine::walk::Suspicion;
use crate::engine::work::Finding;
use crate::fs::{Fs, Stat};
use crate::source::reader::list;
use crate::tree::{Digest, Kind, ListEntry, Name, NameRange, RelPath, View};
use crate::wire::message::{Answer, ENTRIES_MAX, Page};

/// Files that a power cut may have left without their content: those whose change time lies between
/// the start of the last sync that succeeded and the start of this process (rule 22).
pub type Distrust = Suspicion;

/// Compares a page with what is here.
pub fn compare<F: Fs>(
    fs: &F,
    dir: &RelPath,
    range: &NameRange,
    page: &Page,
    distrust: Option<Distrust>,
) -> Answer {
    // One name more than may be answered tells whether there is more in excess.
    let theirs = match page {
        Page::Digest(_, count) => *count as usize,
        Page::Entries(entries) => entries.len(),
    };
    let most = theirs + ENTRIES_MAX;
    let all = View::default();
    let (mine, more, suspects) =
        match list(fs, dir, range.after.as_ref(), most, Some(&all), distrust) {
            Ok(Finding::Listed(listed)) => (listed.entries, listed.upto.is_some(), listed.suspects),
            Ok(_) => return Answer::Failed(0),
            Err(Finding::Broken(_)) => return Answer::Missing,
            Err(Finding::Failed { errno, .. }) => return Answer::Failed(errno),
            Err(_) => return Answer::Failed(0),
        };
    let inside = mine
        .iter()
        .take_while(|entry| range.contains(entry.name.as_bytes()))
        .count();
    let more = more && inside == mine.len();
    let mine = &mine[..inside];
    match page {
        Page::Digest(digest, count) => {
            let trusted = !suspects.iter().any(|name| range.contains(name.as_bytes()));
            if trusted && *count as usize == mine.len() && Digest::of(mine) == *digest {
                Answer::Equal
            } else {
                Answer::Different
            }
        }
        Page::Entries(theirs) => names(theirs, mine, &suspects, more),
    }
}

fn names(theirs: &[ListEntry], mine: &[ListEntry], suspects: &[Name], mut more: bool) -> Answer {
    let (mut lacks, mut differs, mut excess) = (Vec::new(), Vec::new(), Vec::new());
    let mut mine = mine.iter().peekable();
    for entry in theirs {
        while let Some(other) = mine.next_if(|other| other.name < entry.name) {
            excess.push(other.name.clone());
        }
        match mine.next_if(|other| other.name == entry.name) {
            Some(other) if other == entry && !suspects.contains(&entry.name) => {}
            Some(_) => differs.push(entry.name.clone()),
            None => lacks.push(entry.name.clone()),
        }
    }
    excess.extend(mine.map(|other| other.name.clone()));
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
