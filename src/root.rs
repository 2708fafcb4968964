//! Checks of the directories that an operator has named, before anything starts and while it runs.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::engine::source::REPORT_PATHS_MAX;
use crate::error::Error;
use crate::fs::real::{Nesting, RootIdentity, nested};
use crate::tree::Escaped;

/// What is done to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// It is read.
    Source,
    /// It is written.
    Sink,
}

/// The absolute path, without symlinks, of a root that can be used.
///
/// # Errors
/// [`Error::Root`] if it is missing, no directory, or not permitted; [`Error::Nested`] if it and the
/// state directory contain each other.
pub fn check(given: &Path, use_: Use, state_dir: &Path) -> Result<PathBuf, Error> {
    let unusable = |reason: String| Error::Root {
        path: given.to_owned(),
        reason,
    };
    let path = given
        .canonicalize()
        .map_err(|error| unusable(error.to_string()))?;
    let metadata = path
        .metadata()
        .map_err(|error| unusable(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(unusable("it is no directory".to_owned()));
    }
    let (needed, lacking) = match use_ {
        Use::Source => (Access::READ_OK | Access::EXEC_OK, "read"),
        Use::Sink => (
            Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK,
            "write",
        ),
    };
    rustix::fs::access(&path, needed)
        .map_err(|errno| unusable(format!("no permission to {lacking} it: {errno}")))?;
    apart(&path, state_dir)?;
    Ok(path)
}

/// Refuses two directories of which one contains the other.
///
/// # Errors
/// [`Error::Nested`], or [`Error::Root`] if a directory above them cannot be looked at.
pub fn apart(first: &Path, second: &Path) -> Result<(), Error> {
    let (inner, outer) = match nested(first, second) {
        Ok(None) => return Ok(()),
        Ok(Some(Nesting::FirstInSecond | Nesting::Same)) => (first, second),
        Ok(Some(Nesting::SecondInFirst)) => (second, first),
        Err(error) => {
            return Err(Error::Root {
                path: second.to_owned(),
                reason: error.to_string(),
            });
        }
    };
    Err(Error::Nested {
        inner: inner.to_owned(),
        outer: outer.to_owned(),
    })
}

/// Makes sure that a path still leads to the directory that was opened at the start.
///
/// # Errors
/// What is there instead, for people.
pub fn still_there(path: &Path, identity: RootIdentity) -> Result<(), String> {
    match path.metadata() {
        Ok(now) if identity.is_of(now.dev(), now.ino()) => Ok(()),
        Ok(_) => Err("another directory is now in the place of the root".to_owned()),
        // A host that is short of memory or descriptors says nothing about the root.
        Err(error) if tells_nothing(&error) => Ok(()),
        Err(error) => Err(format!("the root cannot be reached any more: {error}")),
    }
}

/// True if an error is about this host and not about what was looked at.
pub(crate) fn tells_nothing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOMEM | libc::ENFILE | libc::EMFILE | libc::EINTR)
    )
}

/// True if a directory holds nothing but what osync itself keeps in a target.
///
/// # Errors
/// Those of reading it.
pub fn is_empty(path: &Path) -> io::Result<bool> {
    for entry in path.read_dir()? {
        if entry?.file_name() != crate::fs::real::STAGE_NAME {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tells of mounts that are not entered, the first ones by name.
pub(crate) fn tell_not_entered<'a>(mut mounts: impl Iterator<Item = &'a PathBuf>) {
    for path in mounts.by_ref().take(REPORT_PATHS_MAX) {
        let path = Escaped::path(path);
        tracing::warn!("'{path}' is another file system and is not entered");
    }
    let more = mounts.count();
    if more > 0 {
        tracing::warn!("{more} more mounts are not entered");
    }
}
