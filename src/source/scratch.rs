//! The scratch file: names of linked inodes that found no room in memory, sorted by inode (rule 27).
//!
//! Names are collected in memory up to a limit, then written as a sorted run to a file in the state
//! directory that has no name there, so that nothing is left behind whatever happens. Taking them back
//! merges the runs. Files have the size of the names and 28 bytes for each.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::PathBuf;

use crate::engine::work::{Inode, Links, Spilled};
use crate::tree::{PATH_BYTES_MAX, RelPath};

/// Bytes of names that are kept in memory before they are written, each counted with its fixed part.
const RUN_BYTES: usize = 4 * 1024 * 1024;

/// Runs that are merged at once; with more, all are merged into one first.
const RUNS_MAX: usize = 64;

/// Fixed part of a record: device, inode, number of names, length of the path.
const FIXED_BYTES: usize = 8 + 8 + 8 + 4;

/// A record as it is sorted: by inode, then by name.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    inode: Inode,
    path: RelPath,
    count: u64,
}

/// The names of one sink.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    run_bytes: usize,
    collected: Vec<Record>,
    bytes: usize,
    runs: Vec<File>,
    taking: Option<Merge>,
}

impl Scratch {
    /// An empty scratch file, which will be in this directory once it is needed.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self::with_run_bytes(dir, RUN_BYTES)
    }

    fn with_run_bytes(dir: PathBuf, run_bytes: usize) -> Self {
        Self {
            dir,
            run_bytes,
            collected: Vec::new(),
            bytes: 0,
            runs: Vec::new(),
            taking: None,
        }
    }

    /// Adds names. They come after all that are being taken back at the moment.
    ///
    /// # Errors
    /// Those of writing to the state directory; the names of this run are lost then.
    pub fn add(&mut self, names: Vec<Spilled>) -> io::Result<()> {
        for Spilled { links, path } in names {
            self.bytes += FIXED_BYTES + path.len();
            self.collected.push(Record {
                inode: links.inode,
                path,
                count: links.count,
            });
        }
        if self.bytes >= self.run_bytes {
            self.write_run()?;
        }
        Ok(())
    }

    /// Takes up to so many names back. None at the end of those that were there when the taking began;
    /// then it may begin anew. A name that is there twice comes once.
    ///
    /// # Errors
    /// Those of reading and writing in the state directory; all names are lost then.
    pub fn take(&mut self, names_max: usize) -> io::Result<Vec<Spilled>> {
        let taken = self.try_take(names_max);
        if taken.is_err() {
            *self = Self::with_run_bytes(std::mem::take(&mut self.dir), self.run_bytes);
        }
        taken
    }

    fn try_take(&mut self, names_max: usize) -> io::Result<Vec<Spilled>> {
        let mut merge = match self.taking.take() {
            Some(merge) => merge,
            None => self.merge()?,
        };
        let mut names: Vec<Spilled> = Vec::new();
        while let Some(next) = merge.peek() {
            let again = names.last().is_some_and(|last| next.is_again(last));
            if names.len() >= names_max && !again {
                break;
            }
            let Some(record) = merge.pop()? else { break };
            if !again {
                names.push(record.into());
            }
        }
        self.taking = (!names.is_empty()).then_some(merge);
        Ok(names)
    }

    fn write_run(&mut self) -> io::Result<()> {
        self.bytes = 0;
        let mut records = std::mem::take(&mut self.collected);
        records.sort_unstable();
        let mut out = BufWriter::new(tempfile::tempfile_in(&self.dir)?);
        for record in &records {
            record.write(&mut out)?;
        }
        self.runs.push(out.into_inner()?);
        if self.runs.len() >= RUNS_MAX {
            let mut all = Merge::new(std::mem::take(&mut self.runs))?;
            let mut out = BufWriter::new(tempfile::tempfile_in(&self.dir)?);
            while let Some(record) = all.pop()? {
                record.write(&mut out)?;
            }
            self.runs.push(out.into_inner()?);
        }
        Ok(())
    }

    fn merge(&mut self) -> io::Result<Merge> {
        if !self.collected.is_empty() {
            self.write_run()?;
        }
        Merge::new(std::mem::take(&mut self.runs))
    }
}

/// Sorted runs, read as one.
#[derive(Debug)]
struct Merge {
    runs: Vec<BufReader<File>>,
    /// The next record of each run.
    next: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merge {
    fn new(runs: Vec<File>) -> io::Result<Self> {
        let mut merge = Self {
            runs: Vec::with_capacity(runs.len()),
            next: BinaryHeap::new(),
        };
        for (at, mut run) in runs.into_iter().enumerate() {
            run.seek(SeekFrom::Start(0))?;
            merge.runs.push(BufReader::new(run));
            merge.fetch(at)?;
        }
        Ok(merge)
    }

    fn fetch(&mut self, at: usize) -> io::Result<()> {
        if let Some(record) = Record::read(&mut self.runs[at])? {
            self.next.push(Reverse((record, at)));
        }
        Ok(())
    }

    fn peek(&self) -> Option<&Record> {
        self.next.peek().map(|Reverse((record, _))| record)
    }

    fn pop(&mut self) -> io::Result<Option<Record>> {
        let Some(Reverse((record, at))) = self.next.pop() else {
            return Ok(None);
        };
        self.fetch(at)?;
        Ok(Some(record))
    }
}

impl Record {
    fn is_again(&self, other: &Spilled) -> bool {
        self.inode == other.links.inode && self.path == other.path
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let path = self.path.as_bytes();
        out.write_all(&self.inode.dev.to_le_bytes())?;
        out.write_all(&self.inode.ino.to_le_bytes())?;
        out.write_all(&self.count.to_le_bytes())?;
        out.write_all(&(path.len() as u32).to_le_bytes())?;
        out.write_all(path)
    }

    /// The next record; `None` at the end of the run.
    fn read(run: &mut impl Read) -> io::Result<Option<Self>> {
        let mut dev = [0; 8];
        match run.read_exact(&mut dev) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let (mut ino, mut count, mut len) = ([0; 8], [0; 8], [0; 4]);
        for part in [&mut ino[..], &mut count[..], &mut len[..]] {
            run.read_exact(part)?;
        }
        let broken = || io::Error::from_raw_os_error(libc::EIO);
        let len = u32::from_le_bytes(len) as usize;
        if len > PATH_BYTES_MAX {
            return Err(broken());
        }
        let mut path = vec![0; len];
        run.read_exact(&mut path)?;
        Ok(Some(Self {
            inode: Inode {
                dev: u64::from_le_bytes(dev),
                ino: u64::from_le_bytes(ino),
            },
            path: RelPath::new(&path).map_err(|_| broken())?,
            count: u64::from_le_bytes(count),
        }))
    }
}

impl From<Record> for Spilled {
    fn from(record: Record) -> Self {
        Self {
            links: Links {
                inode: record.inode,
                count: record.count,
                changed: None,
            },
            path: record.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(ino: u64, path: &str) -> Spilled {
        Spilled {
            links: Links {
                inode: Inode { dev: 1, ino },
                count: 2,
                changed: None,
            },
            path: RelPath::new(path.as_bytes()).expect("a path"),
        }
    }

    fn taken(scratch: &mut Scratch, max: usize) -> Vec<Vec<Spilled>> {
        let mut all = Vec::new();
        loop {
            let names = scratch.take(max).expect("a temporary directory");
            if names.is_empty() {
                return all;
            }
            all.push(names);
        }
    }

    #[test]
    fn gives_back_sorted_by_inode() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // So small that there are more runs than can be merged at once.
        let mut scratch = Scratch::with_run_bytes(dir.path().to_owned(), 100);
        let inodes = 500;
        for round in ["b", "a"] {
            for ino in (0..inodes).rev() {
                let names = vec![name(ino, &format!("{round}/{ino}"))];
                scratch.add(names).expect("a temporary directory");
            }
        }
        let batches = taken(&mut scratch, 7);
        assert!(batches.iter().all(|batch| batch.len() <= 7));
        let all: Vec<Spilled> = batches.into_iter().flatten().collect();
        let expected = (0..inodes)
            .flat_map(|ino| ["a", "b"].map(|round| name(ino, &format!("{round}/{ino}"))));
        assert_eq!(all, expected.collect::<Vec<_>>());
        let left = std::fs::read_dir(dir.path()).expect("a directory").count();
        assert_eq!(left, 0, "nothing has a name in the state directory");
    }

    #[test]
    fn a_name_that_is_there_twice_comes_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut scratch = Scratch::with_run_bytes(dir.path().to_owned(), 1);
        for _ in 0..3 {
            scratch.add(vec![name(2, "b")]).expect("room");
        }
        assert_eq!(taken(&mut scratch, 1), [[name(2, "b")]]);
    }

    #[test]
    fn what_comes_while_names_are_taken_comes_afterwards() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut scratch = Scratch::new(dir.path().to_owned());
        scratch.add(vec![name(2, "b"), name(3, "c")]).expect("room");
        assert_eq!(scratch.take(1).expect("room"), [name(2, "b")]);
        scratch.add(vec![name(1, "a")]).expect("room");
        assert_eq!(taken(&mut scratch, 9), [[name(3, "c")]]);
        assert_eq!(taken(&mut scratch, 9), [[name(1, "a")]]);
        assert_eq!(taken(&mut scratch, 9), Vec::<Vec<Spilled>>::new());
    }

    #[test]
    fn says_that_the_disk_fails() {
        let mut scratch = Scratch::with_run_bytes("/nonexistent".into(), 1);
        assert!(scratch.add(vec![name(1, "a")]).is_err());
        assert_eq!(scratch.take(9).expect("nothing is left"), []);
    }
}
