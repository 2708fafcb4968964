//! What filters exclude is left alone at the target: checked before a name is changed, so that whatever
//! the source says, nothing excluded is made, replaced or removed.

use std::io;

use super::brake::Brake;
use super::removal::{can_move, prune, survey};
use crate::fs::{Fs, stat_if_there};
use crate::tree::{Filter, Kind, Name, RelPath};
use crate::wire::message::{Lane, Refusal};

/// Keeps changes away from what is excluded.
pub(super) struct Exclusion<'a, F: Fs> {
    pub(super) fs: &'a F,
    pub(super) filter: &'a Filter,
    pub(super) brake: &'a Brake,
    /// The lane that removals count for.
    pub(super) lane: Lane,
}

type Refused = Box<Refusal>;

impl<F: Fs> Exclusion<'_, F> {
    /// Refuses what the source should never have sent.
    pub(super) fn admit(&self, path: &RelPath, kind: Kind) -> Result<(), Refused> {
        if self.filter.excludes(path, kind == Kind::Dir) {
            return Err(problem("change an excluded entry", libc::EPERM));
        }
        Ok(())
    }

    /// Before a name is brought to a state of this kind, or is to be absent: sees to it that nothing
    /// excluded goes with what is there now. False if nothing is left to be done.
    ///
    /// What is not excluded in a directory that has to stay is removed here; that it stays is said by
    /// [`Refusal::Kept`], or a problem if something else must have its place.
    pub(super) fn make_way(
        &self,
        dir: &F::Dir,
        path: &RelPath,
        name: &Name,
        wanted: Option<Kind>,
    ) -> Result<bool, Refused> {
        if let Some(kind) = wanted {
            self.admit(path, kind)?;
        }
        // Whoever is about to change it may be able to look at it, and then does not ask again.
        let looked = stat_if_there(self.fs, dir, name);
        let looked = looked.map_err(|error| problem("stat", error.raw_os_error().unwrap_or(0)))?;
        let Some(there) = looked else {
            return Ok(true);
        };
        let is_dir = there.kind == Kind::Dir;
        if wanted.is_some_and(|kind| (kind == Kind::Dir) == is_dir) {
            return Ok(true);
        }
        match wanted {
            None if self.filter.excludes(path, is_dir) => return Ok(false),
            Some(_) if self.filter.excludes(path, is_dir) => {
                return Err(problem("replace an excluded entry", libc::EEXIST));
            }
            _ if !is_dir => return Ok(true),
            _ => {}
        }
        if !self.prune(path)? {
            return Ok(true);
        }
        Err(match wanted {
            None => Box::new(Refusal::Kept),
            Some(_) => problem(
                "replace a directory that holds excluded entries",
                libc::ENOTEMPTY,
            ),
        })
    }

    /// Removes what is not excluded in a directory that holds something excluded. False if it holds
    /// nothing excluded, so that it can go as a whole.
    fn prune(&self, path: &RelPath) -> Result<bool, Refused> {
        let failed = |error: io::Error| problem("remove", error.raw_os_error().unwrap_or(0));
        let most = self.brake.room(self.lane);
        let found = survey(self.fs, path, self.filter, most).map_err(failed)?;
        if found.removable > most {
            // Nobody knows yet what the rest of it holds.
            return Err(Box::new(Refusal::Halted));
        }
        if !found.holds_excluded {
            return Ok(false);
        }
        self.brake.admit(self.lane, found.removable)?;
        let pruned = prune(self.fs, path, self.filter).inspect_err(|_| {
            let left = survey(self.fs, path, self.filter, found.removable);
            let left = left.map_or(0, |left| left.removable.min(found.removable));
            self.brake.give_back(self.lane, left);
        });
        Ok(!pruned.map_err(failed)?)
    }

    /// Before a rename: refuses as a mismatch what would take excluded entries along, or bring included
    /// ones under an excluded name. Both names are then looked at, which moves what may move.
    pub(super) fn admit_rename(
        &self,
        from: &RelPath,
        (to_dir, to): (&F::Dir, &RelPath),
        kind: Kind,
    ) -> Result<(), Refused> {
        let mismatch = || Box::new(Refusal::Mismatch);
        let is_dir = kind == Kind::Dir;
        if self.filter.excludes(from, is_dir) || self.filter.excludes(to, is_dir) {
            return Err(mismatch());
        }
        if is_dir && !can_move(self.fs, from, to, self.filter).map_err(|_| mismatch())? {
            return Err(mismatch());
        }
        let (_, name) = to.split().ok_or_else(mismatch)?;
        let replaces_dir = |there: Kind| is_dir || there == Kind::Dir;
        match stat_if_there(self.fs, to_dir, &name).map_err(|_| mismatch())? {
            Some(there) if replaces_dir(there.kind) => {
                match self.make_way(to_dir, to, &name, None) {
                    Ok(true) => Ok(()),
                    Err(why) if *why == Refusal::Halted => Err(why),
                    _ => Err(mismatch()),
                }
            }
            _ => Ok(()),
        }
    }
}

fn problem(operation: &str, errno: i32) -> Refused {
    Box::new(Refusal::Problem {
        operation: operation.to_owned(),
        errno,
    })
}
