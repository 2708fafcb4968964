//! Files that say themselves what they should be, those who publish them, and one who looks.

use std::fs::{self, File};
use std::hash::Hasher;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::seed::Seed;

/// What a sink is told whose users remove more within an hour than an accident would.
pub const REMOVES_MUCH: [&str; 2] = ["--set", "brake_floor_entries=1000000"];
/// Directories that the writers use.
const DIRS: u64 = 8;
/// Names in each directory.
const NAMES: u64 = 60;
/// What files have while they are not finished, on the source too.
const UNFINISHED: &str = "unfinished-";

/// The content of a file with this name: a line that describes what follows it.
pub fn content(name: &str, body: &[u8]) -> Vec<u8> {
    let mut content = format!("{name} {} {:016x}\n", body.len(), sum(body)).into_bytes();
    content.extend_from_slice(body);
    content
}

/// What is wrong with a file that a reader has found under this name.
pub fn check(name: &str, content: &[u8]) -> Result<(), String> {
    let end = content.iter().position(|&byte| byte == b'\n');
    let Some(end) = end else {
        return Err(format!("no first line in {} bytes", content.len()));
    };
    let (line, body) = (&content[..end], &content[end + 1..]);
    let expected = format!("{name} {} {:016x}", body.len(), sum(body));
    if line == expected.as_bytes() {
        return Ok(());
    }
    let line = String::from_utf8_lossy(line);
    Err(format!("it says '{line}' and is '{expected}'"))
}

fn sum(body: &[u8]) -> u64 {
    // The same in every process of one build, which is all that is needed.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(body);
    hasher.finish()
}

/// Somebody at work on a thread, until told to stop.
pub struct Worker<T> {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Worker<T> {
    /// Begins. The work has to ask all the time whether it is over.
    pub fn start(work: impl FnOnce(&dyn Fn() -> bool) -> T + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || work(&|| told.load(Ordering::Relaxed)));
        Self { is_over, thread }
    }

    /// Ends the work and returns what came of it.
    pub fn finish(self) -> T {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the worker did not panic")
    }
}

/// Publishes files below `top` all the time, each complete from the moment at which it has its name;
/// removes some, and moves directories of them. Returns how many it has published.
pub fn publish(top: &Path, seed: Seed) -> Worker<u64> {
    let top = top.to_owned();
    Worker::start(move |is_over| {
        let (mut seed, mut published) = (seed, 0);
        for dir in 0..DIRS {
            fs::create_dir_all(top.join(format!("d{dir}"))).unwrap();
        }
        while !is_over() {
            let dir = top.join(format!("d{}", seed.below(DIRS)));
            let name = format!("f{}", seed.below(NAMES));
            match seed.below(100) {
                0 => move_away_and_back(&top, &dir),
                1..15 => drop(fs::remove_file(dir.join(&name))),
                _ => {
                    publish_one(&dir, &name, &mut seed);
                    published += 1;
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        }
        published
    })
}

fn publish_one(dir: &Path, name: &str, seed: &mut Seed) {
    let bytes = match seed.below(100) {
        // Beyond what goes in one message.
        0..3 => 200_000 + seed.below(2_000_000),
        3..20 => seed.below(100_000),
        _ => seed.below(3_000),
    };
    let byte = seed.below(256) as u8;
    let body: Vec<u8> = (0..bytes).map(|at| byte.wrapping_add(at as u8)).collect();
    let unfinished = dir.join(format!("{UNFINISHED}{name}"));
    fs::write(&unfinished, content(name, &body)).unwrap();
    fs::rename(unfinished, dir.join(name)).unwrap();
}

fn move_away_and_back(top: &Path, dir: &Path) {
    let away = top.join("moved");
    fs::rename(dir, &away).unwrap();
    fs::rename(away, dir).unwrap();
}

/// Reads everything below `top` all the time. Returns how many files it has read, or the first thing
/// that nobody may ever see there.
pub fn sample(top: &Path) -> Worker<Result<u64, String>> {
    let top = top.to_owned();
    Worker::start(move |is_over| {
        let read = AtomicU64::new(0);
        // Once more after the end, so that something is read in any case.
        loop {
            let is_last = is_over();
            sample_dir(&top, &read)?;
            if is_last {
                return Ok(read.into_inner());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    })
}

fn sample_dir(dir: &Path, read: &AtomicU64) -> Result<(), String> {
    // It may be moved or removed meanwhile.
    let Ok(entries) = fs::read_dir(dir) else {
        return Ok(());
    };
    for entry in entries.map_while(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && name == ".osync-stage" {
            continue;
        }
        if kind.is_dir() {
            sample_dir(&entry.path(), read)?;
        } else if is_ours(&name) {
            sample_file(&entry.path(), &name, read)?;
        } else if !name.starts_with(UNFINISHED) {
            return Err(format!("'{}' has leaked", entry.path().display()));
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    let number = name.strip_prefix('f');
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn sample_file(path: &PathBuf, name: &str, read: &AtomicU64) -> Result<(), String> {
    let mut content = Vec::new();
    let whole = File::open(path).and_then(|mut file| file.read_to_end(&mut content));
    match whole {
        Ok(_) => {
            read.fetch_add(1, Ordering::Relaxed);
            check(name, &content).map_err(|why| format!("'{}' is torn: {why}", path.display()))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(error) => Err(format!("'{}': {error}", path.display())),
    }
}

/// One who looks and sees nothing would let everything pass.
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    #[test]
    fn every_torn_file_is_seen() {
        let whole = content("f1", b"some body");
        assert_eq!(check("f1", &whole), Ok(()));
        assert!(check("f2", &whole).is_err(), "another name");
        assert!(check("f1", b"").is_err(), "empty");
        assert!(check("f1", &whole[..whole.len() - 1]).is_err(), "cut off");
        let mut mixed = whole.clone();
        *mixed.last_mut().unwrap() = 0;
        assert!(check("f1", &mixed).is_err(), "a hole");
        let longer = [&whole[..], b"x"].concat();
        assert!(check("f1", &longer).is_err(), "too long");
    }

    #[test]
    fn what_has_leaked_is_seen() {
        let fixture = Fixture::new();
        let dir = fixture.target().join("d1");
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("f7"), content("f7", b"body")).unwrap();
        assert_eq!(
            sample(&fixture.target()).finish().map(|read| read >= 1),
            Ok(true)
        );
        fs::write(dir.join("stage-of-f7"), "").unwrap();
        let said = sample(&fixture.target()).finish().unwrap_err();
        assert!(said.contains("has leaked"), "{said}");
    }
}
