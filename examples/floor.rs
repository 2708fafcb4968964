//! Measures what a comparison and a copy of a tree cost in system calls alone, on one thread: the floor that the
//! figures of `docs/benchmarks.md` are held against. Run by hand:
//! `cargo run --release --example floor SOURCE [TARGET]`. What it copies to TARGET, which must be an empty
//! directory, has no directories and is of no other use.

#![allow(clippy::print_stdout)]

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use osync::fs::real::{RealFs, SinkOptions};
use osync::fs::{Fs, Stat};
use osync::tree::{Kind, Name, Xattrs};

/// Files of at most this many bytes are copied.
const FILE_BYTES_MAX: u64 = 128 * 1024;

fn main() -> io::Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let source = arguments.next().expect("the path of a source");
    let (source, _) = RealFs::source(Path::new(&source))?;
    let mut floor = Floor::default();
    floor.compare(&source, &source.root()?)?;
    floor.print("list", floor.listing, floor.names);
    floor.print("stat", floor.stats, floor.names);
    floor.print("list extended attributes", floor.xattrs, floor.names);
    if let Some(target) = arguments.next() {
        let target = RealFs::sink(Path::new(&target), SinkOptions::default())?;
        floor.copy(&source, &source.root()?, &target)?;
        floor.print("open, stat, read, stat, close", floor.reading, floor.files);
        floor.print("make, write, publish", floor.making, floor.files);
    }
    Ok(())
}

#[derive(Default)]
struct Floor {
    names: u64,
    files: u64,
    listing: Duration,
    stats: Duration,
    xattrs: Duration,
    reading: Duration,
    making: Duration,
}

impl Floor {
    fn print(&self, what: &str, took: Duration, of: u64) {
        println!(
            "{:6.2} us  {what}",
            took.as_secs_f64() * 1e6 / of.max(1) as f64
        );
    }

    /// What each side does to compare a directory and all below.
    fn compare(&mut self, fs: &RealFs, dir: &<RealFs as Fs>::Dir) -> io::Result<()> {
        let began = Instant::now();
        let names = names(fs, dir)?;
        self.listing += began.elapsed();
        self.names += names.len() as u64;
        let began = Instant::now();
        for name in &names {
            fs.stat(dir, name)?;
        }
        self.stats += began.elapsed();
        let began = Instant::now();
        for name in &names {
            fs.xattrs(dir, name)?;
        }
        self.xattrs += began.elapsed();
        for name in &names {
            if fs.stat(dir, name)?.kind == Kind::Dir {
                self.compare(fs, &fs.open_dir(dir, name)?)?;
            }
        }
        Ok(())
    }

    /// What is done to copy the files of a directory and of all below.
    fn copy(&mut self, fs: &RealFs, dir: &<RealFs as Fs>::Dir, target: &RealFs) -> io::Result<()> {
        let top = target.root()?;
        for name in names(fs, dir)? {
            let stat = fs.stat(dir, &name)?;
            if stat.kind == Kind::Dir {
                self.copy(fs, &fs.open_dir(dir, &name)?, target)?;
            } else if stat.kind == Kind::File && stat.size <= FILE_BYTES_MAX {
                self.files += 1;
                let began = Instant::now();
                let (content, stat) = read(fs, dir, &name)?;
                self.reading += began.elapsed();
                let began = Instant::now();
                let mut stage = target.stage(&top, stat.mode)?;
                target.write_at(&stage, 0, &content)?;
                target.publish(&mut stage, &top, &name, &stat.metadata(Xattrs::new()))?;
                drop(stage);
                self.making += began.elapsed();
            }
        }
        Ok(())
    }
}

fn names(fs: &RealFs, dir: &<RealFs as Fs>::Dir) -> io::Result<Vec<Name>> {
    let mut names = Vec::new();
    fs.list(dir, &mut |name, _| names.extend(Name::new(name)))?;
    names.sort_unstable();
    Ok(names)
}

fn read(fs: &RealFs, dir: &<RealFs as Fs>::Dir, name: &Name) -> io::Result<(Vec<u8>, Stat)> {
    let (file, stat) = fs.open(dir, name)?;
    fs.file_xattrs(&file)?;
    let mut content = vec![0; stat.size as usize];
    fs.read_at(&file, 0, &mut content)?;
    fs.stat(dir, name)?;
    Ok((content, stat))
}
