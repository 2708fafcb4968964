//! A user who exchanges directories for symlinks, on either side, while osync works below them: nothing
//! outside the roots is touched, and nothing from there arrives.
//!
//! The victim's tree has the same names as the one that is replicated, so that whoever follows a link
//! just once hits something. Its access times are old enough for any read to show.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use crate::endpoint::{CONVERGENCE, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::tree::is_root;
use crate::wait::wait_for;

/// How long the attack goes on.
const ATTACK: Duration = Duration::from_secs(5);
/// The directories that are exchanged, parents first.
const DIRS: [&str; 4] = ["d", "d/e", "d/e/f", "g"];
/// What users change in each of them; the victim has files of these names.
const FILES: [&str; 6] = ["f0", "f1", "f2", "f3", "f4", "f5"];
/// A directory in each of them that comes and goes with what is in it.
const SUB: &str = "sub";
/// Begins each file of the victim, and names of which the source has none.
const SECRET: &str = "VICTIM";

/// Random choices, from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count as u64) as usize
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

fn open_dir(at: impl AsFd, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

/// A directory below another, without following links.
fn open_below(top: &OwnedFd, path: &str) -> rustix::io::Result<OwnedFd> {
    let mut here = top
        .as_fd()
        .try_clone_to_owned()
        .expect("descriptors are left");
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = open_dir(&here, name)?;
    }
    Ok(here)
}

// ---- the victim ------------------------------------------------------------------------------------

/// Everything that can be known of an entry without changing it.
type Known = (u32, u32, u32, u64, u64, [(i64, i64); 3]);

struct Victim {
    top: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    content: BTreeMap<PathBuf, Vec<u8>>,
}

impl Victim {
    fn make(top: PathBuf) -> Self {
        for dir in DIRS {
            let dir = top.join(dir);
            fs::create_dir_all(dir.join(SUB)).unwrap();
            for name in FILES.iter().chain(&["VICTIM-only"]) {
                for at in [dir.join(name), dir.join(SUB).join(name)] {
                    fs::write(&at, format!("{SECRET} {}", at.display())).unwrap();
                    let flags = XattrFlags::empty();
                    rustix::fs::setxattr(&at, "user.victim", b"as it was", flags).unwrap();
                }
            }
        }
        let mut victim = Self {
            content: BTreeMap::new(),
            known: BTreeMap::new(),
            top,
        };
        victim.content = victim.read();
        let old = Timestamps {
            last_access: Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: 1_000_000_000,
                tv_nsec: 0,
            },
        };
        for path in victim.content.keys() {
            rustix::fs::utimensat(CWD, path, &old, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
        victim.known = victim.look();
        victim
    }

    /// Every path, with content and attributes of files. Changes access times.
    fn read(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut left = vec![self.top.clone()];
        while let Some(path) = left.pop() {
            let mut held = Vec::new();
            if path.is_dir() {
                left.extend(
                    fs::read_dir(&path)
                        .unwrap()
                        .map(|entry| entry.unwrap().path()),
                );
            } else {
                held = fs::read(&path).unwrap();
                let mut value = [0; 64];
                let length = rustix::fs::lgetxattr(&path, "user.victim", &mut value).unwrap();
                held.extend(&value[..length]);
            }
            found.insert(path, held);
        }
        found
    }

    /// What is known of the entries that were made, without reading one.
    fn look(&self) -> BTreeMap<PathBuf, Known> {
        let known = |path: &PathBuf| {
            let meta = fs::symlink_metadata(path).unwrap();
            let times = [
                (meta.atime(), meta.atime_nsec()),
                (meta.mtime(), meta.mtime_nsec()),
                (meta.ctime(), meta.ctime_nsec()),
            ];
            let owner = (meta.uid(), meta.gid());
            (
                meta.mode(),
                owner.0,
                owner.1,
                meta.ino(),
                meta.nlink(),
                times,
            )
        };
        self.content
            .keys()
            .map(|path| (path.clone(), known(path)))
            .collect()
    }

    #[track_caller]
    fn assert_untouched(&self) {
        for (path, now) in self.look() {
            assert_eq!(now, self.known[&path], "{}", path.display());
        }
        // Nothing was made there either.
        assert_eq!(self.read(), self.content);
    }
}

// ---- the attacker ----------------------------------------------------------------------------------

/// Exchanges the directories below `top` for links into the victim, one at a time, and back.
struct Attacker<'a> {
    top: OwnedFd,
    /// Where links wait, and directories while a link has their place.
    aside: OwnedFd,
    victim: &'a Path,
    dice: Dice,
    junk: usize,
}

impl<'a> Attacker<'a> {
    fn new(top: &Path, aside: &Path, victim: &'a Path) -> Self {
        fs::create_dir(aside).unwrap();
        Self {
            top: open_dir(CWD, top.to_str().unwrap()).unwrap(),
            aside: open_dir(CWD, aside.to_str().unwrap()).unwrap(),
            victim,
            dice: Dice(0x5eed),
            junk: 0,
        }
    }

    /// Counts in `swaps` how often a link had the place of a directory.
    fn attack(&mut self, stop: &AtomicBool, swaps: &AtomicUsize) {
        while !stop.load(Ordering::Relaxed) {
            let dir = self.dice.one(&DIRS);
            if self.exchange(dir) {
                swaps.fetch_add(1, Ordering::Relaxed);
                self.linger();
                self.put_back(dir);
            }
            self.linger();
        }
    }

    fn linger(&mut self) {
        match self.dice.below(4) {
            0 => {}
            1 => std::thread::yield_now(),
            2 => std::thread::sleep(Duration::from_micros(100)),
            _ => std::thread::sleep(Duration::from_millis(3)),
        }
    }

    fn exchange(&mut self, dir: &str) -> bool {
        let link = dir.replace('/', "-");
        if rustix::fs::readlinkat(&self.aside, &link, Vec::new()).is_err() {
            // What was made in the place of the link came here with the last exchange.
            self.junk += 1;
            let junk = format!("junk-{}", self.junk);
            let _ = rustix::fs::renameat(&self.aside, &link, &self.aside, junk);
            rustix::fs::symlinkat(self.victim.join(dir), &self.aside, &link).unwrap();
        }
        let Some((above, name)) = self.place(dir) else {
            return false;
        };
        // It must be a directory: nobody asks for links in the place of links.
        open_dir(&above, name).is_ok() && self.swap(&above, name, &link)
    }

    fn put_back(&self, dir: &str) {
        if let Some((above, name)) = self.place(dir)
            && rustix::fs::readlinkat(&above, name, Vec::new()).is_ok()
        {
            self.swap(&above, name, &dir.replace('/', "-"));
        }
    }

    fn place<'b>(&self, dir: &'b str) -> Option<(OwnedFd, &'b str)> {
        let (above, name) = dir.rsplit_once('/').unwrap_or(("", dir));
        Some((open_below(&self.top, above).ok()?, name))
    }

    fn swap(&self, above: &OwnedFd, name: &str, link: &str) -> bool {
        rustix::fs::renameat_with(above, name, &self.aside, link, RenameFlags::EXCHANGE).is_ok()
    }
}

// ---- the users -------------------------------------------------------------------------------------

/// Changes everything that osync then has to make, remove or set, through descriptors, so that no link
/// leads the users themselves astray.
struct Users {
    dirs: Vec<OwnedFd>,
    dice: Dice,
    written: u64,
}

impl Users {
    fn new(source: &Path) -> Self {
        let top = open_dir(CWD, source.to_str().unwrap()).unwrap();
        let open = |dir| open_below(&top, dir).unwrap();
        Self {
            dirs: DIRS.into_iter().map(open).collect(),
            dice: Dice(0xc4a5e),
            written: 0,
        }
    }

    fn work(&mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            // Much of it fails, as the names are few.
            let _ = self.change();
            std::thread::sleep(Duration::from_micros(300));
        }
    }

    fn change(&mut self) -> rustix::io::Result<()> {
        let (at, other) = (self.dice.below(DIRS.len()), self.dice.below(DIRS.len()));
        let (name, second) = (self.dice.one(&FILES), self.dice.one(&FILES));
        let action = self.dice.below(14);
        let mode = Mode::from_raw_mode(self.dice.one(&[0o600, 0o644, 0o4755, 0o666]));
        let owner = self.dice.one(&[0, 1234, 65534]);
        let dir = &self.dirs[at];
        match action {
            0..=2 => {
                self.written += 1;
                write(dir.as_fd(), name, &format!("written {}", self.written))
            }
            3 => rustix::fs::unlinkat(dir, name, AtFlags::empty()),
            4 => make_sub(dir),
            5 => remove_sub(dir),
            6 => set_mode_and_acl(&open_file(dir.as_fd(), name)?, mode),
            7 => {
                let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
                let nofollow = AtFlags::SYMLINK_NOFOLLOW;
                rustix::fs::chownat(dir, name, Some(uid), Some(gid), nofollow)
            }
            8 => {
                let (value, flags) = (owner.to_string(), XattrFlags::empty());
                let file = open_file(dir.as_fd(), name)?;
                rustix::fs::fsetxattr(&file, "user.test", value.as_bytes(), flags)
            }
            9 => rustix::fs::futimens(open_file(dir.as_fd(), name)?, &time(owner.into())),
            10 => {
                rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
                match second {
                    "f0" | "f1" => rustix::fs::symlinkat("/etc/passwd", dir, name),
                    "f2" => rustix::fs::mknodat(dir, name, FileType::Fifo, mode, 0),
                    _ => rustix::fs::linkat(dir, second, dir, name, AtFlags::empty()),
                }
            }
            11 => rustix::fs::renameat(dir, name, &self.dirs[other], second),
            12 => {
                rustix::fs::fchmod(dir, mode | Mode::RWXU)?;
                rustix::fs::futimens(dir, &time(owner.into()))
            }
            _ => {
                let flags = XattrFlags::empty();
                rustix::fs::fsetxattr(dir, "user.test", owner.to_string().as_bytes(), flags)
            }
        }
    }
}

fn time(secs: i64) -> Timestamps {
    let time = Timespec {
        tv_sec: 1_500_000_000 + secs,
        tv_nsec: 7,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn open_file(dir: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::empty())
}

fn write(dir: BorrowedFd<'_>, name: &str, text: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?;
    rustix::io::write(file, text.as_bytes()).map(drop)
}

fn make_sub(dir: &OwnedFd) -> rustix::io::Result<()> {
    rustix::fs::mkdirat(dir, SUB, Mode::RWXU)?;
    let sub = open_dir(dir, SUB)?;
    FILES
        .iter()
        .try_for_each(|name| write(sub.as_fd(), name, name))
}

fn remove_sub(dir: &OwnedFd) -> rustix::io::Result<()> {
    let sub = open_dir(dir, SUB)?;
    for name in FILES {
        // One that is not there need not go.
        let _ = rustix::fs::unlinkat(&sub, name, AtFlags::empty());
    }
    rustix::fs::unlinkat(dir, SUB, AtFlags::REMOVEDIR)
}

/// An ACL with an entry for one user, which lies in an attribute of its own.
fn set_mode_and_acl(file: &OwnedFd, mode: Mode) -> rustix::io::Result<()> {
    rustix::fs::fchmod(file, mode)?;
    const NOBODY_IN_PARTICULAR: u32 = u32::MAX;
    let entries = [
        (1u16, 6u16, NOBODY_IN_PARTICULAR),
        (2, 4, 1234),
        (4, 4, NOBODY_IN_PARTICULAR),
        (16, 6, NOBODY_IN_PARTICULAR),
        (32, 0, NOBODY_IN_PARTICULAR),
    ];
    let mut acl = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        acl.extend(tag.to_le_bytes());
        acl.extend(rights.to_le_bytes());
        acl.extend(id.to_le_bytes());
    }
    let flags = XattrFlags::empty();
    match rustix::fs::fsetxattr(file, "system.posix_acl_access", &acl, flags) {
        // The file system has none.
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        set => set,
    }
}

// ---- the reader of the target ----------------------------------------------------------------------

/// Looks through a tree, following no link, for anything of the victim's. Returns what it has found.
fn leaked(dir: &OwnedFd, at: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = rustix::fs::Dir::read_from(dir) else {
        return found;
    };
    for entry in entries.filter_map(Result::ok) {
        let Ok(name) = entry.file_name().to_str() else {
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let path = at.join(name);
        if name.contains(SECRET) {
            found.push(path.display().to_string());
        }
        if let Ok(below) = open_dir(dir, name) {
            found.extend(leaked(&below, &path));
        } else if let Ok(file) = open_file(dir.as_fd(), name) {
            let mut head = [0; 64];
            let length = rustix::io::read(&file, &mut head).unwrap_or(0);
            if head[..length].starts_with(SECRET.as_bytes()) {
                found.push(format!("the content of {}", path.display()));
            }
        }
    }
    found
}

// ---- the attack ------------------------------------------------------------------------------------

/// Which side the attacker can write to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Target,
}

#[allow(clippy::print_stderr)]
fn attack(side: Side) {
    if !is_root() {
        eprintln!("NOT TRIED: links in the place of directories: only root can change owners");
        return;
    }
    let fixture = Fixture::new();
    for dir in DIRS {
        let dir = open_made(&fixture.source().join(dir));
        FILES
            .iter()
            .for_each(|name| write(dir.as_fd(), name, name).unwrap());
    }
    let victim = Victim::make(fixture.path().join("victim"));
    let source = Source::start(&fixture);
    // Directories come and go more often than the brake would let them.
    let more = ["--set", "brake_floor_entries=1000000"];
    let mut sink = Sink::start_with(&fixture, &fixture.target(), &source.addresses, &more);
    source.wait_for_phase("transfer");
    source.flush();
    let applied = |source: &Source<'_>| source.transfer()["applied_entries"].as_u64().unwrap();
    let before = applied(&source);

    let top = match side {
        Side::Source => fixture.source(),
        Side::Target => fixture.target(),
    };
    let mut attacker = Attacker::new(&top, &fixture.path().join("aside"), &victim.top);
    let mut users = Users::new(&fixture.source());
    let target = open_dir(CWD, fixture.target().to_str().unwrap()).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicUsize::new(0));
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| users.work(&stop));
        scope.spawn(|| attacker.attack(&stop, &swaps));
        let began = Instant::now();
        let mut seen = Vec::new();
        while began.elapsed() < ATTACK && seen.is_empty() {
            seen = leaked(&target, Path::new(""));
        }
        stop.store(true, Ordering::Relaxed);
        seen
    });
    assert_eq!(
        seen,
        Vec::<String>::new(),
        "the target holds what is the victim's"
    );
    let swaps = swaps.into_inner();
    assert!(swaps > 200, "only {swaps} exchanges");
    sink.process.assert_running();
    let done = applied(&source) - before;
    assert!(done > 200, "only {done} entries were applied meanwhile");

    // Once it is over, both sides become equal; what was done to the target by others a walk finds.
    wait_for("equal trees", CONVERGENCE, || {
        source.expect(&["rescan", "."]);
        let flushed = source.run(&["flush", "--timeout", "30s"], CONVERGENCE);
        let difference = rsync_difference(&fixture.source(), &fixture.target());
        match (flushed.code, difference.is_empty()) {
            (Some(0), true) => Ok(()),
            _ => Err(format!("{}{difference}", flushed.stderr)),
        }
    });
    assert_eq!(leaked(&target, Path::new("")), Vec::<String>::new());
    victim.assert_untouched();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

fn open_made(dir: &Path) -> OwnedFd {
    fs::create_dir_all(dir).unwrap();
    open_dir(CWD, dir.to_str().unwrap()).unwrap()
}

#[test]
fn links_in_the_target_lead_the_sink_nowhere() {
    attack(Side::Target);
}

#[test]
fn links_in_the_source_lead_the_source_nowhere() {
    attack(Side::Source);
}
