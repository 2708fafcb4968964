//! The independent judge: two trees are equal if rsync would change nothing.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

/// How many differing paths a failing test shows.
const SHOWN_MAX: usize = 40;

/// What rsync would change to make `target` equal `source`: empty if they are equal.
///
/// Content is compared by checksum and times in nanoseconds (rsync alone compares whole seconds).
pub fn rsync_difference(source: &Path, target: &Path) -> String {
    rsync_difference_with(&[], source, target)
}

/// The same, leaving out what these patterns of rsync match.
pub fn rsync_difference_except(source: &Path, target: &Path, excluded: &[&str]) -> String {
    let patterns = excluded
        .iter()
        .map(|pattern| format!("--exclude={pattern}"));
    rsync_difference_with(&patterns.collect::<Vec<_>>(), source, target)
}

/// The same with more options, such as filters.
pub fn rsync_difference_with(more: &[String], source: &Path, target: &Path) -> String {
    let output = Command::new("rsync")
        .args([
            "-aHAXSn",
            "--checksum",
            "--delete",
            "-i",
            "--modify-window=-1",
        ])
        .args(more)
        .args([contents_of(source), contents_of(target)])
        .output()
        .expect("rsync is installed; scripts/test installs it");
    let mut difference = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        difference += &format!("rsync: {}\n", output.status);
        difference += &String::from_utf8_lossy(&output.stderr);
    }
    difference
}

/// Asserts that the trees are equal.
#[track_caller]
pub fn assert_equal(source: &Path, target: &Path) {
    assert_no_difference("rsync", &rsync_difference(source, target));
}

/// Asserts that a judge said nothing.
#[track_caller]
pub fn assert_no_difference(judge: &str, difference: &str) {
    let count = difference.lines().count();
    let shown: Vec<&str> = difference.lines().take(SHOWN_MAX).collect();
    assert!(
        count == 0,
        "{judge} sees {count} differences between source and target:\n{}",
        shown.join("\n")
    );
}

/// The trailing slash that makes rsync compare the directories themselves.
fn contents_of(path: &Path) -> OsString {
    let mut path = path.as_os_str().to_owned();
    path.push("/");
    path
}

/// A judge that sees nothing would let everything pass: each kind of difference must be seen.
mod tests {
    use std::fs::{self, File, FileTimes, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::rsync_difference;
    use crate::fixture::Fixture;

    /// Something done to one of two equal trees.
    type Change = fn(&Path);

    #[test]
    fn equal_trees_have_no_difference() {
        let fixture = twins();
        assert_eq!(rsync_difference(&fixture.source(), &fixture.target()), "");
    }

    #[test]
    fn every_difference_is_seen() {
        let changes: [(&str, Change); 8] = [
            ("content", |top| rewrite_keeping_times(&top.join("file"))),
            ("one nanosecond", |top| {
                set_time(&top.join("file"), Duration::new(5, 8))
            }),
            ("mode", |top| {
                fs::set_permissions(top.join("file"), Permissions::from_mode(0o600)).unwrap()
            }),
            ("xattr", |top| set_xattr(&top.join("file"))),
            ("missing", |top| remove(&top.join("dir/file"))),
            ("excess", |top| {
                fs::create_dir(top.join("dir/excess")).unwrap()
            }),
            ("excess stage", |top| {
                fs::create_dir(top.join(".osync-stage")).unwrap()
            }),
            ("symlink", |top| {
                fs::remove_file(top.join("link")).unwrap();
                symlink("elsewhere", top.join("link")).unwrap();
            }),
        ];
        for (what, change) in changes {
            let fixture = twins();
            change(&fixture.target());
            let difference = rsync_difference(&fixture.source(), &fixture.target());
            assert_ne!(difference, "", "{what} was not seen");
        }
    }

    #[test]
    fn a_failing_judge_is_no_verdict() {
        let fixture = twins();
        assert_ne!(
            rsync_difference(&fixture.path().join("nowhere"), &fixture.target()),
            ""
        );
    }

    /// The same small tree on both sides.
    fn twins() -> Fixture {
        let fixture = Fixture::new();
        for top in [fixture.source(), fixture.target()] {
            fs::create_dir(top.join("dir")).unwrap();
            symlink("somewhere", top.join("link")).unwrap();
            for path in ["file", "dir/file"] {
                fs::write(top.join(path), "content").unwrap();
                set_time(&top.join(path), Duration::new(5, 7));
            }
            let link = rustix::fs::Timestamps {
                last_access: rustix::fs::Timespec {
                    tv_sec: 5,
                    tv_nsec: 7,
                },
                last_modification: rustix::fs::Timespec {
                    tv_sec: 5,
                    tv_nsec: 7,
                },
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::utimensat(rustix::fs::CWD, top.join("link"), &link, flags).unwrap();
            set_time(&top.join("dir"), Duration::new(5, 7));
            set_time(&top, Duration::new(5, 7));
        }
        fixture
    }

    fn set_time(path: &Path, since_1970: Duration) {
        let time = SystemTime::UNIX_EPOCH + since_1970;
        File::open(path)
            .unwrap()
            .set_times(FileTimes::new().set_modified(time))
            .unwrap();
    }

    fn rewrite_keeping_times(path: &Path) {
        fs::write(path, "CONTENT").unwrap();
        set_time(path, Duration::new(5, 7));
    }

    fn set_xattr(path: &Path) {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, "user.judge", b"seen", flags).unwrap();
    }

    fn remove(path: &Path) {
        fs::remove_file(path).unwrap();
    }
}
