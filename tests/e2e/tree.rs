//! The tree that holds one of everything (`tests/tree`), and the judge that walks it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::Fixture;
use crate::judge::{assert_no_difference, rsync_difference_except};

/// Longest time for making or changing the tree.
const SCRIPT_LIMIT: Duration = Duration::from_secs(120);

/// What rsync cannot judge: it has no paths beyond PATH_MAX.
const BEYOND_RSYNC: &str = "/deep";

/// True if this process may make everything that the tree holds.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fills the fixture's source.
pub fn make(fixture: &Fixture) {
    let mut make = script("make");
    make.arg(fixture.source());
    fixture
        .start("make", &mut make)
        .expect_success(SCRIPT_LIMIT);
}

/// Changes everything in the fixture's source, once.
pub fn mutate(fixture: &Fixture) {
    let outside = fixture.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let mut mutate = script("mutate");
    mutate.arg(fixture.source()).arg("--outside").arg(outside);
    fixture
        .start("mutate", &mut mutate)
        .expect_success(SCRIPT_LIMIT);
}

/// What the own judge sees: nothing if the trees are equal.
pub fn difference(source: &Path, target: &Path) -> String {
    let output = script("judge").arg(source).arg(target).output().unwrap();
    let mut difference = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() && difference.is_empty() {
        difference = format!("{}\n", output.status);
    }
    difference + &String::from_utf8_lossy(&output.stderr)
}

/// Asserts that both judges find the fixture's trees equal.
#[track_caller]
pub fn assert_same(fixture: &Fixture) {
    let (source, target) = (fixture.source(), fixture.target());
    let by_rsync = rsync_difference_except(&source, &target, &[BEYOND_RSYNC]);
    assert_no_difference("rsync", &by_rsync);
    assert_no_difference("tests/tree/judge", &difference(&source, &target));
}

/// Inode and time of the last change of every entry below `top`: nothing can be done to an entry
/// without changing one of them.
pub fn traces(top: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let mut traces = BTreeMap::new();
    let mut left = vec![top.to_owned()];
    while let Some(dir) = left.pop() {
        // What lies beyond PATH_MAX cannot be named here.
        let Ok(entries) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.map(Result::unwrap) {
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            if meta.is_dir() {
                left.push(path.clone());
            }
            traces.insert(path, (meta.ino(), meta.ctime(), meta.ctime_nsec()));
        }
    }
    traces
}

/// A program of `tests/tree`.
pub fn script(name: &str) -> Command {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tree");
    let mut command = Command::new(dir.join(name));
    command
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null());
    command
}
