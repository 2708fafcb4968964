//! What is mounted below the root: entered or left alone (rule 32).
//!
//! The root is read through a clone in which every mount stays as it was at the start. What an operator
//! sees at their places is compared with that, and told to him where it differs.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::engine::source::REPORT_PATHS_MAX;
use crate::error::Error;
use crate::fs::real::{MountTable, Reading, RealFs, RootIdentity, SourceNotes, mounted_at};
use crate::fs::{Fs, Way, open_way};
use crate::report::MountsNotEntered;
use crate::root;
use crate::state::KnownRoot;
use crate::tree::{Escaped, Filter, RelPath};

/// Mounts that may be entered. Each is looked at once a second.
const ENTERED_MAX: usize = 1024;

/// The mounts below a root.
#[derive(Debug)]
pub(super) struct Mounts {
    root: PathBuf,
    /// The root as readers see it.
    fs: RealFs,
    /// Readers see all mounts as they were at the start.
    is_clone: bool,
    filter: Filter,
    table: MountTable,
    /// The table has changed since it was read.
    is_stale: bool,
    /// The table has changed since what was entered was last compared.
    is_unchecked: bool,
    entered: Vec<Entered>,
    /// Where something is mounted that is not entered. The kernel limits how many (fs.mount-max).
    left: BTreeSet<PathBuf>,
}

/// A mount that is read.
#[derive(Debug)]
struct Entered {
    path: PathBuf,
    identity: RootIdentity,
}

impl Mounts {
    /// Enters the mounts below a root that was opened, as far as they are asked for and it shows them.
    ///
    /// # Errors
    /// [`Error::Root`] if there are too many; [`Error::Io`] if the table of mounts cannot be read.
    pub(super) fn open(
        fs: &RealFs,
        root: &Path,
        notes: &SourceNotes,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let unread = |error| Error::io("read the mounts below", root, error);
        let mut mounts = Self {
            root: root.to_owned(),
            fs: fs.same_source().map_err(unread)?,
            is_clone: matches!(notes.reading, Reading::PrivateClone),
            filter: settings.filter.clone(),
            table: MountTable::open().map_err(unread)?,
            is_stale: false,
            is_unchecked: true,
            entered: Vec::new(),
            left: BTreeSet::new(),
        };
        if settings.cross_mounts {
            for path in &notes.mounts_below {
                if mounts.takes_part(path) {
                    mounts.enter(path)?;
                }
            }
            mounts.refuse_twice(unread)?;
        }
        mounts.left = mounts.not_entered().map_err(unread)?;
        root::tell_not_entered(mounts.left.iter());
        Ok(mounts)
    }

    /// Enters a mount that the opened root shows. It does not show one that another hides, or one that
    /// is marked as not to be cloned.
    fn enter(&mut self, path: &Path) -> Result<(), Error> {
        let identity = match mounted_at(path) {
            Ok(Some(identity)) => identity,
            Ok(None) => return Ok(()),
            Err(error) if hidden(&error) => return Ok(()),
            Err(error) => {
                let at = Escaped::path(path);
                return Err(self.unusable(format!(
                    "what is mounted at '{at}' cannot be entered: {error}; leave it out with --exclude"
                )));
            }
        };
        if !self.shows(path, identity) {
            return Ok(());
        }
        if self.entered.len() == ENTERED_MAX {
            return Err(self.unusable(format!(
                "more than {ENTERED_MAX} mounts lie below it; leave some out with --exclude"
            )));
        }
        tracing::info!(
            "'{}' is another file system and entered",
            Escaped::path(path)
        );
        self.entered.push(Entered {
            path: path.to_owned(),
            identity,
        });
        Ok(())
    }

    /// Refuses to reach directories twice: each has one watch, and names of its files would be counted
    /// that they do not have.
    fn refuse_twice(&mut self, unread: impl Fn(io::Error) -> Error) -> Result<(), Error> {
        let entered = self.entered.iter().map(|mount| mount.path.as_path());
        let paths: Vec<&Path> = entered.chain([self.root.as_path()]).collect();
        match self.table.shown_twice(&paths).map_err(unread)? {
            None => Ok(()),
            Some((outer, inner)) => Err(self.unusable(format!(
                "'{}' is also seen within '{}'; leave a mount of it out with \
                 --exclude",
                Escaped::path(&inner),
                Escaped::path(&outer)
            ))),
        }
    }

    fn unusable(&self, reason: String) -> Error {
        Error::Root {
            path: self.root.clone(),
            reason,
        }
    }

    /// Where something was entered.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.entered.iter().map(|mount| mount.path.as_path())
    }

    /// What was entered, to be remembered.
    pub(super) fn known(&self) -> Vec<KnownRoot> {
        let entered = self.entered.iter();
        entered
            .map(|mount| KnownRoot::new(&mount.path, mount.identity))
            .collect()
    }

    /// Compares with what an earlier process had entered. True if something else is mounted in the place
    /// of one of them.
    ///
    /// # Errors
    /// Why nothing may be read: what was entered is missing, and would be taken for removed.
    pub(super) fn replaced(&self, before: &[KnownRoot]) -> Result<bool, String> {
        let mut replaced = false;
        for known in before.iter().filter(|known| !self.is_excluded_now(known)) {
            let is_known = |mount: &&Entered| Escaped::path(&mount.path).to_string() == known.path;
            let Some(now) = self.entered.iter().find(is_known) else {
                return Err(format!(
                    "what was mounted at '{}' was entered before and is missing; mount it and give \
                     --cross-mounts",
                    known.path
                ));
            };
            if known.is(&KnownRoot::new(&now.path, now.identity)) {
                continue;
            }
            let is_empty = root::is_empty(&now.path);
            if is_empty.map_err(|error| format!("'{}' cannot be listed: {error}", known.path))? {
                return Err(format!(
                    "what is mounted at '{}' is empty and not what was entered before; mount the right \
                     file system",
                    known.path
                ));
            }
            replaced = true;
        }
        Ok(replaced)
    }

    /// True if filters exclude by now what an earlier process had entered. A path that had to be escaped
    /// counts as one that they do not.
    fn is_excluded_now(&self, known: &KnownRoot) -> bool {
        !known.path.contains('\\') && !self.takes_part(Path::new(&known.path))
    }

    /// True if a directory lies beyond a mount that is not entered, where there is nothing to watch:
    /// that it is unmounted would be taken for the end of the root.
    pub(super) fn leads_away(&self, path: &RelPath) -> bool {
        if self.is_clone {
            return false;
        }
        match open_way(&self.fs, path) {
            Way::Failed(_, error) => error.raw_os_error() == Some(libc::EXDEV),
            Way::Open(_) | Way::Broken(_) => false,
        }
    }

    fn takes_part(&self, path: &Path) -> bool {
        relative(&self.root, path).is_none_or(|path| !self.filter.excludes(&path, true))
    }

    /// True if readers see this directory at a path.
    fn shows(&self, path: &Path, identity: RootIdentity) -> bool {
        let Some(path) = relative(&self.root, path) else {
            return false;
        };
        match open_way(&self.fs, &path) {
            Way::Open(dir) => {
                let seen = self.fs.stat_dir(&dir);
                seen.is_ok_and(|seen| identity.is_of(seen.dev, seen.ino))
            }
            Way::Broken(_) | Way::Failed(..) => false,
        }
    }

    /// Makes sure that everything entered is still mounted where it was, and that readers still see it:
    /// whoever removes a directory takes along what is mounted on it in other tables of mounts.
    ///
    /// # Errors
    /// What is there instead, for people.
    pub(super) fn still_there(&self) -> Result<(), String> {
        self.entered.iter().try_for_each(|mount| {
            let at = Escaped::path(&mount.path);
            match mounted_at(&mount.path) {
                Ok(Some(now)) if now == mount.identity => {}
                Ok(Some(_)) => return Err(format!("something else is now mounted at '{at}'")),
                Ok(None) => return Err(format!("what was mounted at '{at}' is gone")),
                Err(error) if root::tells_nothing(&error) => return Ok(()),
                Err(error) => {
                    return Err(format!(
                        "what was mounted at '{at}' cannot be reached any more: {error}"
                    ));
                }
            }
            if !self.shows(&mount.path, mount.identity) {
                return Err(format!("what is mounted at '{at}' was mounted again"));
            }
            Ok(())
        })
    }

    /// The same, if anything was mounted or unmounted since it was last found so.
    ///
    /// # Errors
    /// As [`Mounts::still_there`].
    pub(super) fn still_there_if_changed(&mut self) -> Result<(), String> {
        if self.entered.is_empty() {
            return Ok(());
        }
        self.ask_for_changes();
        if self.is_unchecked {
            self.still_there()?;
            self.is_unchecked = false;
        }
        Ok(())
    }

    fn ask_for_changes(&mut self) {
        let changed = self.table.has_changed().unwrap_or(true);
        self.is_stale |= changed;
        self.is_unchecked |= changed;
    }

    /// Reads the table again if it has changed, and tells which mounts have appeared. True if
    /// [`Mounts::report`] has.
    pub(super) fn look_again(&mut self) -> bool {
        self.ask_for_changes();
        if !self.is_stale {
            return false;
        }
        // What cannot be read now is read a second later.
        let Ok(left) = self.not_entered() else {
            return false;
        };
        self.is_stale = false;
        root::tell_not_entered(left.difference(&self.left));
        std::mem::replace(&mut self.left, left) != self.left
    }

    fn not_entered(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut left: BTreeSet<PathBuf> = self.table.below(&self.root)?.into_iter().collect();
        left.retain(|path| self.takes_part(path));
        for mount in &self.entered {
            left.remove(&mount.path);
        }
        Ok(left)
    }

    /// What is not entered.
    pub(super) fn report(&self) -> MountsNotEntered {
        let paths = self.left.iter().take(REPORT_PATHS_MAX);
        MountsNotEntered {
            paths: paths.map(|path| Escaped::path(path).to_string()).collect(),
            total: self.left.len() as u64,
        }
    }
}

/// True if a mount is not reached by its path, because another one lies over it.
fn hidden(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR))
}

/// The path of a mount within the root.
fn relative(root: &Path, path: &Path) -> Option<RelPath> {
    let below = path.strip_prefix(root).ok()?;
    RelPath::new(below.as_os_str().as_bytes()).ok()
}
