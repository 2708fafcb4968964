//! Whether the root was emptied (I7). A pool that is not mounted, or was wiped, looks like a directory
//! without names; that everything is gone is said only if it went bit by bit, or if the operator agrees.

use std::path::{Path, PathBuf};

use crate::engine::work::{Finding, Seen};
use crate::tree::State;

/// Names that make a root one that is not emptied by an everyday removal.
const MANY: usize = 2;

/// What the root held when it was looked at last.
#[derive(Debug)]
pub(super) struct Emptied {
    root: PathBuf,
    /// Names in the root, counted up to [`MANY`]; `None` if it has been empty since the start, so that
    /// nobody knows what it held before.
    names: Option<usize>,
}

impl Emptied {
    /// Looks at a root for the first time. `accepted` if the operator agrees to what it holds now.
    pub(super) fn new(root: &Path, accepted: bool) -> Self {
        let mut emptied = Self {
            root: root.to_owned(),
            names: accepted.then_some(0),
        };
        emptied.look();
        emptied
    }

    /// Looks again; to be called about once a second.
    pub(super) fn look(&mut self) {
        // What cannot be listed says nothing; that it is no directory any more is noticed elsewhere.
        let Some(names) = count(&self.root) else {
            return;
        };
        if names > 0 || self.names.is_some_and(|before| before < MANY) {
            self.names = Some(names);
        }
    }

    /// A name has come to the root.
    pub(super) fn name_came(&mut self) {
        self.names.get_or_insert(1);
    }

    /// To be asked before a finding is told.
    ///
    /// # Errors
    /// If it says that something is gone, and the root as a whole went empty: why nothing is told.
    pub(super) fn admit(&self, finding: &Finding) -> Result<(), String> {
        let Finding::Looked(seen) = finding else {
            return Ok(());
        };
        let is_absent =
            |seen: &Seen| matches!(seen, Seen::Is { state, .. } if *state == State::Absent);
        if !seen.iter().any(is_absent) || self.names.is_some_and(|names| names < MANY) {
            return Ok(());
        }
        match count(&self.root) {
            Some(0) => Err("the root is empty: everything in it is gone".to_owned()),
            _ => Ok(()),
        }
    }

    /// To be asked before going on after a halt.
    ///
    /// # Errors
    /// If the root is empty, and was not.
    pub(super) fn restored(&self) -> Result<(), String> {
        match count(&self.root) {
            Some(0) if self.names.is_none_or(|names| names >= MANY) => {
                Err("the root is empty".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// Names in a directory, counted up to [`MANY`].
fn count(root: &Path) -> Option<usize> {
    Some(root.read_dir().ok()?.take(MANY).count())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn gone() -> Finding {
        Finding::Looked(vec![Seen::Is {
            state: State::Absent,
            while_open: false,
            links: None,
        }])
    }

    #[test]
    fn all_at_once_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(root.path().join(name), "1").unwrap();
        }
        let mut emptied = Emptied::new(root.path(), false);
        fs::remove_file(root.path().join("a")).unwrap();
        assert!(emptied.admit(&gone()).is_ok(), "b is left");
        fs::remove_file(root.path().join("b")).unwrap();
        assert!(emptied.admit(&gone()).is_err());
        emptied.look();
        assert!(
            emptied.admit(&gone()).is_err(),
            "looking again changes nothing"
        );
        assert!(Emptied::new(root.path(), true).admit(&gone()).is_ok());
    }

    #[test]
    fn one_by_one_is_believed() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::write(root.path().join(name), "1").unwrap();
        }
        let mut emptied = Emptied::new(root.path(), false);
        fs::remove_file(root.path().join("a")).unwrap();
        emptied.look();
        fs::remove_file(root.path().join("b")).unwrap();
        assert!(emptied.admit(&gone()).is_ok());
    }

    #[test]
    fn a_root_that_was_always_empty_may_be_a_missing_mount() {
        let root = tempfile::tempdir().unwrap();
        let mut emptied = Emptied::new(root.path(), false);
        emptied.look();
        assert!(emptied.admit(&gone()).is_err());
        emptied.name_came();
        assert!(emptied.admit(&gone()).is_ok(), "what came may go");
    }
}
