//! Times the ways to make a small file that appears whole, by single system calls, on two threads:
//! `cargo run --release --example stages -- DIR`, best on an empty file system of the kind that matters.
//!
//! Prints microseconds of wall time and of processor time for each file: the median of several rounds, the least and
//! the most. Two of the ways show what nobody may see, and are there for comparison.

#![allow(clippy::print_stdout)]

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};
use rustix::time::{ClockId, clock_gettime};

const THREADS: usize = 2;
const DIRS: usize = 500;
const FILES: usize = 100;
const CONTENT: [u8; 4340] = [7; 4340];
const ROUNDS: usize = 5;

/// A way to make a file.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// Without a name, near the root, then linked.
    UnnamedAtRoot,
    /// Without a name, near the directory, then linked.
    UnnamedNear,
    /// Under a name in a directory for stages, then renamed.
    Named,
    /// Under its name, in a directory that takes its place as a whole.
    WholeDirectory,
    /// Under its name, where a reader sees it half written.
    Straight,
}

const WAYS: [(Way, &str); 5] = [
    (Way::UnnamedAtRoot, "unnamed at the root, linked"),
    (Way::UnnamedNear, "unnamed near its directory, linked"),
    (Way::Named, "named in a stage, renamed"),
    (Way::WholeDirectory, "in a directory that is renamed"),
    (Way::Straight, "under its name, for all to see"),
];

fn main() -> io::Result<()> {
    let Some(at) = std::env::args_os().nth(1) else {
        return Err(io::Error::other("usage: stages DIR"));
    };
    let mut took = WAYS.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for turn in 0..WAYS.len() {
            let which = (round + turn) % WAYS.len();
            let top = PathBuf::from(&at).join(format!("stages-{}-{which}", std::process::id()));
            took[which].push(timed(&top, WAYS[which].0)?);
            std::fs::remove_dir_all(&top)?;
            rustix::fs::sync();
        }
    }
    println!("{:36} {:>22}   processor time", "", "wall time, us a file");
    for ((_, name), took) in WAYS.iter().zip(took) {
        let [wall, cpu] = [0, 1].map(|which| spread(took.iter().map(|pair| pair[which]).collect()));
        println!("{name:36} {wall:>22}   {cpu}");
    }
    Ok(())
}

fn spread(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let [least, median, most] = [0, took.len() / 2, took.len() - 1]
        .map(|at| took[at].as_secs_f64() * 1e6 / (DIRS * FILES) as f64);
    format!("{median:.1} ({least:.1} .. {most:.1})")
}

/// Wall and processor time of all files together.
fn timed(top: &Path, way: Way) -> io::Result<[Duration; 2]> {
    std::fs::create_dir(top)?;
    let root = open_dir(rustix::fs::CWD, top)?;
    rustix::fs::mkdirat(&root, "stage", Mode::RWXU)?;
    let stage = open_dir(&root, Path::new("stage"))?;
    let (began, before) = (Instant::now(), processor_time());
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let (root, stage) = (&root, &stage);
                    move || make(root, stage, thread, way)
                })
            })
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("no thread panics"))
    })?;
    Ok([began.elapsed(), processor_time() - before])
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn open_dir(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(at, path, flags, Mode::empty())?)
}

/// Makes every other directory, with its files.
fn make(root: &OwnedFd, stage: &OwnedFd, thread: usize, way: Way) -> io::Result<()> {
    for number in (thread..DIRS).step_by(THREADS) {
        let name = number.to_string();
        rustix::fs::mkdirat(root, &name, Mode::RWXU)?;
        let above = match way {
            Way::WholeDirectory => {
                rustix::fs::mkdirat(stage, &name, Mode::RWXU)?;
                stage
            }
            _ => root,
        };
        let dir = open_dir(above, Path::new(&name))?;
        for file in 0..FILES {
            make_file(root, stage, &dir, &format!("{number}-{file}"), way)?;
        }
        if way == Way::WholeDirectory {
            rustix::fs::renameat(stage, &name, root, &name)?;
        }
    }
    Ok(())
}

fn make_file(
    root: &OwnedFd,
    stage: &OwnedFd,
    dir: &OwnedFd,
    name: &str,
    way: Way,
) -> io::Result<()> {
    let unnamed = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let named = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let (at, path, flags) = match way {
        Way::UnnamedAtRoot => (root, ".", unnamed),
        Way::UnnamedNear => (dir, ".", unnamed),
        Way::Named => (stage, name, named),
        Way::WholeDirectory | Way::Straight => (dir, name, named),
    };
    let file = rustix::fs::openat(at, path, flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::pwrite(&file, &CONTENT, 0)?;
    rustix::fs::fstat(&file)?;
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    rustix::fs::futimens(
        &file,
        &Timestamps {
            last_access: time(0, UTIME_OMIT),
            last_modification: time(1_000_000_000, 0),
        },
    )?;
    match way {
        Way::UnnamedAtRoot | Way::UnnamedNear => {
            rustix::fs::linkat(&file, "", dir, name, AtFlags::EMPTY_PATH)?;
        }
        Way::Named => rustix::fs::renameat(stage, name, dir, name)?,
        Way::WholeDirectory | Way::Straight => {}
    }
    Ok(())
}
