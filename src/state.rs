//! The state directory: the little that outlives a process. It saves time and proves nothing, so a
//! state that is lost or unreadable costs a comparison of everything, and no more.
//!
//! Each root has a directory of its own in it, for each role, so that any number of daemons share one
//! state directory; a lock keeps two of them from using the same root.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::rand::{GetRandomFlags, getrandom};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::engine::carryover::Carryover;
use crate::engine::sink::Standing;
use crate::error::Error;
use crate::fs::real::RootIdentity;
use crate::sink::distrust::LastEnd;
use crate::tree::{Escaped, TargetLimits};

/// Which end of a replication a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It reads.
    Source,
    /// It writes.
    Sink,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "source",
            Self::Sink => "sink",
        })
    }
}

/// Which directory a root was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownRoot {
    /// Its path, escaped for display.
    pub path: String,
    /// Device of its file system.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// When it was made, in ns since 1970; `None` if its file system does not tell.
    #[serde(default)]
    pub born: Option<i64>,
}

impl KnownRoot {
    /// The directory at this path.
    #[must_use]
    pub fn new(path: &Path, identity: RootIdentity) -> Self {
        Self {
            path: Escaped::path(path).to_string(),
            dev: identity.dev,
            ino: identity.ino,
            born: identity.born,
        }
    }

    /// True if it is what this directory was before, as far as anyone can tell: a kernel or a build of
    /// osync may be the first to tell when a directory was made.
    #[must_use]
    pub fn is(&self, now: &Self) -> bool {
        let are_known = self.born.is_some() && now.born.is_some();
        (&self.path, self.dev, self.ino) == (&now.path, now.dev, now.ino)
            && (!are_known || self.born == now.born)
    }
}

/// What a source remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// The root.
    pub root: KnownRoot,
    /// What is mounted below the root and was entered.
    #[serde(default)]
    pub mounts: Vec<KnownRoot>,
    /// Random; resume points of sinks hold for this source alone.
    pub source_id: String,
    /// What each sink has for good, by sink id.
    pub carryover: BTreeMap<String, Carryover>,
}

/// What a sink remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// The root. A target with a state is known: osync may remove from it.
    pub root: KnownRoot,
    /// Random; names this sink at its source.
    pub sink_id: String,
    /// What a resume point is made of.
    #[serde(with = "StandingForm")]
    pub standing: Standing,
    /// How the last process ended.
    #[serde(flatten)]
    pub end: LastEnd,
    /// What the target was last found not to be able to hold; `None` if that was never found out.
    #[serde(default)]
    pub limits: Option<TargetLimits>,
}

/// The form of a [`Standing`] in the state file.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Standing")]
struct StandingForm {
    source_id: String,
    epoch: u64,
    durable: u64,
    exceptions: Vec<u64>,
    known_from: u64,
}

const STATE_FILE: &str = "state.json";
const NEW_STATE_FILE: &str = "state.json.new";

/// The state of one root in one role, locked for this process.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    /// Locked for as long as it is open.
    _lock: File,
}

impl StateDir {
    /// Opens the state of a root below the state directory `base`, which is made if it has to be.
    ///
    /// # Errors
    /// [`Error::Root`] if another process has the same root in the same role; [`Error::Setting`] if the
    /// directory cannot be used.
    pub fn open(
        base: &Path,
        role: Role,
        root: &Path,
        identity: RootIdentity,
    ) -> Result<Self, Error> {
        let name = xxh3_64(root.as_os_str().as_bytes());
        let dir = base.join(format!("{role}-{name:016x}"));
        let unusable = |error: &io::Error| Error::Setting {
            place: "state_dir".into(),
            reason: format!("cannot use '{}': {error}", Escaped::path(&dir)),
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&dir)
            .map_err(|error| unusable(&error))?;
        // By identity: one directory can have several paths.
        let lock_name = format!("{role}-{:x}-{:x}.lock", identity.dev, identity.ino);
        let lock_path = base.join(lock_name);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| unusable(&error))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { dir, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(Error::Root {
                path: root.to_owned(),
                reason: format!(
                    "another {role} runs on it already and holds '{}'; stop that one first",
                    Escaped::path(&lock_path)
                ),
            }),
            Err(TryLockError::Error(error)) => Err(unusable(&error)),
        }
    }

    /// Where the state lies, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// What was saved last; `None` if nothing was, or if it cannot be understood.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be read.
    pub fn load<T: DeserializeOwned>(&self) -> Result<Option<T>, Error> {
        let path = self.dir.join(STATE_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read the state", path, error)),
        };
        match serde_json::from_slice(&bytes) {
            Ok(state) => Ok(Some(state)),
            Err(error) => {
                let path = Escaped::path(&path);
                tracing::warn!("the state in '{path}' is unreadable and counts as lost: {error}");
                Ok(None)
            }
        }
    }

    /// Replaces what is saved, atomically and durably.
    ///
    /// # Errors
    /// Those of writing, such as ENOSPC.
    pub fn save<T: Serialize>(&self, state: &T) -> io::Result<()> {
        let new = self.dir.join(NEW_STATE_FILE);
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(state)?)?;
        file.sync_all()?;
        std::fs::rename(&new, self.dir.join(STATE_FILE))?;
        File::open(&self.dir)?.sync_all()
    }
}

/// A random number, for ids, instances and nonces.
///
/// # Errors
/// [`Error::Unexpected`] if the kernel has none.
pub fn random() -> Result<u64, Error> {
    let mut bytes = [0; 8];
    let filled = getrandom(&mut bytes[..], GetRandomFlags::empty());
    match filled {
        Ok(8) => Ok(u64::from_ne_bytes(bytes)),
        _ => Err(Error::Unexpected("the kernel has no random numbers".into())),
    }
}

/// A random id.
///
/// # Errors
/// As [`random`].
pub fn random_id() -> Result<String, Error> {
    Ok(format!("{:016x}{:016x}", random()?, random()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::tree::Time;

    const IDENTITY: RootIdentity = RootIdentity {
        dev: 1,
        ino: 2,
        born: Some(3),
    };

    fn open(base: &Path, root: &str) -> Result<StateDir, Error> {
        StateDir::open(base, Role::Sink, Path::new(root), IDENTITY)
    }

    fn some_state() -> SinkState {
        SinkState {
            root: KnownRoot::new(Path::new("/srv/a"), IDENTITY),
            sink_id: random_id().unwrap(),
            standing: Standing {
                source_id: "s".into(),
                epoch: u64::MAX,
                durable: 7,
                exceptions: vec![3, 5],
                known_from: 2,
            },
            end: LastEnd::unknown(Time { secs: 5, nanos: 6 }),
            limits: Some(TargetLimits::default()),
        }
    }

    #[test]
    fn returns_what_was_saved_last() {
        let base = tempfile::tempdir().unwrap();
        let dir = open(base.path(), "/srv/a").unwrap();
        assert_eq!(dir.load::<SinkState>().unwrap(), None);
        for state in [some_state(), some_state()] {
            dir.save(&state).unwrap();
            assert_eq!(dir.load().unwrap(), Some(state));
        }
    }

    #[test]
    fn reads_a_source_that_knew_no_mounts() {
        let base = tempfile::tempdir().unwrap();
        let dir = open(base.path(), "/srv/a").unwrap();
        let text = r#"{"root":{"path":"/srv/a","dev":1,"ino":2},"source_id":"s","carryover":{}}"#;
        std::fs::write(dir.path().join(STATE_FILE), text).unwrap();
        let state: SourceState = dir.load().unwrap().unwrap();
        assert_eq!(state.mounts, []);
    }

    #[test]
    fn knows_a_root_by_its_birth_where_that_is_told() {
        let root = |born| KnownRoot::new(Path::new("/srv/a"), RootIdentity { born, ..IDENTITY });
        assert!(root(Some(3)).is(&root(Some(3))));
        assert!(!root(Some(3)).is(&root(Some(4))));
        assert!(root(None).is(&root(Some(4))));
        assert!(root(Some(3)).is(&root(None)));
    }

    #[test]
    fn counts_an_unreadable_state_as_lost() {
        let base = tempfile::tempdir().unwrap();
        let dir = open(base.path(), "/srv/a").unwrap();
        std::fs::write(dir.path().join(STATE_FILE), "{\"clean\":").unwrap();
        assert_eq!(dir.load::<SinkState>().unwrap(), None);
    }

    #[test]
    fn lets_one_process_use_a_root_by_whatever_path() {
        let base = tempfile::tempdir().unwrap();
        let first = open(base.path(), "/srv/a").unwrap();
        let error = open(base.path(), "/srv/alias").unwrap_err();
        assert_eq!(error.exit_code(), 78);
        drop(first);
        open(base.path(), "/srv/alias").unwrap();
    }
}
