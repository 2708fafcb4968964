//! Removing a directory of the target and leaving what filters exclude.
//!
//! Directories are gone through one page of names at a time, so that memory is bounded by their depth.

use std::collections::VecDeque;
use std::io;

use crate::engine::work::{Detail, Finding};
use crate::fs::windows::Windows;
use crate::fs::{Fs, Way, open_way};
use crate::source::reader::{Asked, list};
use crate::tree::{Filter, Kind, Name, RelPath, View};

/// Names in one page. Each page costs a listing of the whole directory, so it is a large one.
const PAGE_NAMES: usize = 4096;

/// What removing a directory would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Survey {
    /// Entries that would go, the directory itself among them; counted up to a little more than asked.
    pub removable: u64,
    /// Something in it is excluded, so that it would stay.
    pub holds_excluded: bool,
}

/// Looks at a directory with all below, until more than `most` entries are known that would go.
///
/// # Errors
/// Those of reading a directory.
pub fn survey<F: Fs>(fs: &F, top: &RelPath, filter: &Filter, most: u64) -> io::Result<Survey> {
    let mut removable = 0;
    let excluded = |path: &RelPath, is_dir| filter.excludes_entry(path, is_dir);
    let ended = depth_first(fs, top, &excluded, &mut |_, _, _| {
        removable += 1;
        Ok(removable <= most)
    })?;
    Ok(Survey {
        removable,
        holds_excluded: ended == Ended::HoldsExcluded,
    })
}

/// Removes everything in a directory but what is excluded and the directories that hold it. True if
/// nothing is left, the directory itself included.
///
/// # Errors
/// Those of reading and removing; what was removed until then is gone.
pub fn prune<F: Fs>(fs: &F, top: &RelPath, filter: &Filter) -> io::Result<bool> {
    let excluded = |path: &RelPath, is_dir| filter.excludes_entry(path, is_dir);
    let ended = depth_first(fs, top, &excluded, &mut |dir, name, is_dir| {
        if is_dir {
            fs.remove_dir(dir, name)?;
        } else {
            fs.remove_file(dir, name)?;
        }
        Ok(true)
    })?;
    Ok(ended == Ended::Whole)
}

/// True if a directory can move to another path as it is: nothing in it is excluded under either.
///
/// # Errors
/// Those of reading a directory.
pub fn can_move<F: Fs>(fs: &F, from: &RelPath, to: &RelPath, filter: &Filter) -> io::Result<bool> {
    let excluded = |path: &RelPath, is_dir| {
        let moved = path.moved(from, to).expect("it lies below what moves");
        filter.excludes_entry(path, is_dir) || filter.excludes_entry(&moved, is_dir)
    };
    let ended = depth_first(fs, from, &excluded, &mut |_, _, _| Ok(true))?;
    Ok(ended == Ended::Whole)
}

/// How a walk through a directory ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Every entry was acted on, the directory itself last.
    Whole,
    /// Something is excluded: neither it nor the directories above it were acted on.
    HoldsExcluded,
    /// The caller had enough.
    Stopped,
}

/// Acts on an entry of an open directory, which is a directory itself or not, and says whether to go on.
type Act<'a, D> = dyn FnMut(&D, &Name, bool) -> io::Result<bool> + 'a;

/// A directory on the way from the top down to where we are.
struct Level {
    path: RelPath,
    /// Directories of the last page that are still to be gone through.
    dirs: VecDeque<Name>,
    /// The last name of the last page, and whether others follow it.
    after: Option<Name>,
    more: bool,
    holds_excluded: bool,
}

/// Acts on every entry below `top` that is not excluded, and then on `top`; a directory after all that
/// is in it. The caller says whether to go on.
fn depth_first<F: Fs>(
    fs: &F,
    top: &RelPath,
    excluded: &dyn Fn(&RelPath, bool) -> bool,
    act: &mut Act<'_, F::Dir>,
) -> io::Result<Ended> {
    let mut way = vec![Level::at(top.clone())];
    while let Some(here) = way.last_mut() {
        if let Some(name) = here.dirs.pop_front() {
            let below = here.path.join(&name);
            way.push(Level::at(below));
        } else if here.more {
            if !here.turn_page(fs, excluded, act)? {
                return Ok(Ended::Stopped);
            }
        } else {
            let done = way.pop().expect("the way has a last level");
            match way.last_mut() {
                _ if !done.holds_excluded => {
                    let (dir, name) = done.path.split().expect("the root is never removed");
                    if !act(&open(fs, &dir)?, &name, true)? {
                        return Ok(Ended::Stopped);
                    }
                }
                Some(above) => above.holds_excluded = true,
                None => return Ok(Ended::HoldsExcluded),
            }
        }
    }
    Ok(Ended::Whole)
}

impl Level {
    fn at(path: RelPath) -> Self {
        Self {
            path,
            dirs: VecDeque::new(),
            after: None,
            more: true,
            holds_excluded: false,
        }
    }

    /// Acts on what is no directory in the next page, and keeps its directories for later.
    fn turn_page<F: Fs>(
        &mut self,
        fs: &F,
        excluded: &dyn Fn(&RelPath, bool) -> bool,
        act: &mut Act<'_, F::Dir>,
    ) -> io::Result<bool> {
        let asked = Asked {
            after: self.after.as_ref(),
            names_max: PAGE_NAMES,
            detail: Detail::Kind,
            is_suspect: &|_| false,
            view: &View::default(),
        };
        let (windows, all) = (Windows::default(), Filter::default());
        let listed = match list(fs, &windows, &all, &self.path, &asked) {
            Ok(Finding::Listed(listed)) => listed,
            Ok(_) => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
            Err(finding) => return Err(error_of(&finding)),
        };
        if !listed.suspects.is_empty() {
            // Of a name that cannot be looked at nobody knows whether it is excluded.
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        self.more = listed.upto.is_some();
        self.after = listed.upto;
        let dir = open(fs, &self.path)?;
        for entry in listed.entries {
            let is_dir = entry.kind == Kind::Dir;
            if excluded(&self.path.join(&entry.name), is_dir) {
                self.holds_excluded = true;
            } else if is_dir {
                self.dirs.push_back(entry.name);
            } else if !act(&dir, &entry.name, false)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn open<F: Fs>(fs: &F, path: &RelPath) -> io::Result<F::Dir> {
    match open_way(fs, path) {
        Way::Open(dir) => Ok(dir),
        Way::Broken(_) => Err(io::Error::from_raw_os_error(libc::ENOENT)),
        Way::Failed(_, error) => Err(error),
    }
}

fn error_of(finding: &Finding) -> io::Error {
    io::Error::from_raw_os_error(match finding {
        Finding::Failed { errno, .. } => *errno,
        _ => libc::ENOENT,
    })
}
