//! Power cuts of the sink's host: what was reported durable is there.
//!
//! The target lies on a file system in an image, which a loop device writes past the page cache: what
//! the file system has not written yet is not in the image. The image lies on an XFS, where a reflink
//! copies it in one moment: that is what a cut leaves. Each copy is mounted, which replays its journal,
//! and judged by what was durable before it was made.
//!
//! Not shown this way: a disk that loses what it has taken into its own cache. For that a file system
//! needs flushes in the right places, which is its own business; osync asks for them with syncfs(2).

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::endpoint::{CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::rsync_difference;
use crate::mounts::with_mounts;
use crate::wait::{wait_for, wait_until};

/// How long the target is written before the last cut.
const CHURN: Duration = Duration::from_secs(6);
/// Copies made meanwhile, at random moments.
const COPIES: usize = 10;
/// Files that come and go.
const NAMES: usize = 60;
/// Size of the file system that holds the images; only what is written takes room.
const OUTER_BYTES: u64 = 8 << 30;
/// Past the page cache; what shares blocks can be written so in whole blocks only.
const LOOP: [&str; 3] = ["--direct-io=on", "--sector-size", "4096"];
/// Size of the target's file system; mkfs.xfs wants 300 MiB.
const IMAGE_BYTES: u64 = 320 << 20;

// ---- content that says whether it is whole ---------------------------------------------------------

/// The content of a file in its generation, from 1.
fn content(name: &str, generation: usize) -> Vec<u8> {
    let mut state = name
        .bytes()
        .fold(generation as u64 * 0x9e37_79b9, |state, byte| {
            state.rotate_left(7) ^ u64::from(byte)
        })
        | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    // Some are sent in pieces.
    let length = match next() % 16 {
        0 => 200_000 + next() % 400_000,
        1..=4 => 8_000 + next() % 24_000,
        _ => next() % 4_000,
    };
    let mut bytes = format!("{name} {generation}\n").into_bytes();
    while (bytes.len() as u64) < length {
        // Never zeros, which mean something else.
        bytes.extend((next() | 0x0101_0101_0101_0101).to_le_bytes());
    }
    bytes
}

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    /// Everything of this generation.
    Whole(usize),
    /// Nothing.
    Empty,
    /// The beginning of one generation, perhaps with zeros behind it.
    Short,
    /// Something that no file ever was.
    Mixed,
}

fn held(name: &str, bytes: &[u8]) -> Held {
    let data = &bytes[..bytes
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1)];
    if data.is_empty() {
        return Held::Empty;
    }
    let head = data.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let head = String::from_utf8_lossy(head).into_owned();
    let generation = head
        .strip_prefix(name)
        .and_then(|rest| rest.trim().parse().ok());
    let Some(generation) = generation else {
        return Held::Mixed;
    };
    let expected = content(name, generation);
    if bytes == expected {
        Held::Whole(generation)
    } else if expected.starts_with(data) {
        Held::Short
    } else {
        Held::Mixed
    }
}

// ---- users -----------------------------------------------------------------------------------------

/// What was done to each name: in each generation it is there, or not. The first is 1.
type History = BTreeMap<String, Vec<bool>>;
/// Up to which generation of each name something is known.
type Known = BTreeMap<String, usize>;

/// Users who publish and remove files whole, and what is known of their work.
struct Users {
    source: PathBuf,
    drafts: PathBuf,
    /// What they have begun, and what they have ended.
    begun: Mutex<History>,
    done: Mutex<Known>,
    /// What a flush has called durable.
    durable: Mutex<Known>,
    stop: AtomicBool,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Users {
    fn new(fixture: &Fixture) -> Self {
        let drafts = fixture.path().join("drafts");
        fs::create_dir(&drafts).unwrap();
        for dir in ["a", "b/c", "drafts"] {
            fs::create_dir_all(fixture.source().join(dir)).unwrap();
        }
        Self {
            source: fixture.source(),
            drafts,
            begun: Mutex::default(),
            done: Mutex::default(),
            durable: Mutex::default(),
            stop: AtomicBool::new(false),
        }
    }

    fn work(&self, mut seed: u64) {
        while !self.stop.load(Ordering::Relaxed) {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let choice = (seed >> 33) as usize;
            let name = format!("{}/file-{}", ["a", "b/c"][choice % 2], choice / 2 % NAMES);
            self.change(&name, !(choice / 1024).is_multiple_of(10));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Publishes the next generation of a file, or removes it.
    fn change(&self, name: &str, is_there: bool) {
        let generation = {
            let mut begun = lock(&self.begun);
            let history = begun.entry(name.to_owned()).or_default();
            history.push(is_there);
            history.len()
        };
        let path = self.source.join(name);
        if is_there {
            // From outside it is a new file to osync, from inside one that it has heard of.
            let inside = self.source.join("drafts");
            let drafts = [&self.drafts, &inside][generation % 2];
            let draft = drafts.join("draft");
            fs::write(&draft, content(name, generation)).unwrap();
            fs::rename(&draft, &path).unwrap();
        } else {
            // It may not be there.
            drop(fs::remove_file(&path));
        }
        lock(&self.done).insert(name.to_owned(), generation);
    }

    /// Has everything made durable that was done until now.
    fn flush(&self, source: &Source<'_>) {
        let before = lock(&self.done).clone();
        if source.run(&["flush", "--timeout", "60s"], CONVERGENCE).code == Some(0) {
            *lock(&self.durable) = before;
        }
    }
}

// ---- disks -----------------------------------------------------------------------------------------

fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("{program} {args:?}: {said}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The file system of a target, in an image behind a loop device.
struct Disk {
    kind: &'static str,
    at: PathBuf,
    /// The same for all images of one test: the target's identity holds its number.
    device: String,
}

impl Disk {
    /// Makes the XFS that holds the images, and a disk on it, mounted. Or says why that is impossible.
    fn make(fixture: &Fixture, kind: &'static str) -> Result<(Self, PathBuf), String> {
        let (outer, images) = (fixture.path().join("outer"), fixture.path().join("images"));
        sparse(&outer, OUTER_BYTES);
        run("mkfs.xfs", &["-q", "-m", "reflink=1", text(&outer)])?;
        fs::create_dir(&images).unwrap();
        run(
            "mount",
            &["-t", "xfs", "-o", "loop", text(&outer), text(&images)],
        )?;
        let image = images.join("disk");
        sparse(&image, IMAGE_BYTES);
        let options: &[&str] = match kind {
            "xfs" => &["-s", "size=4096", "-f"],
            _ => &["-b", "4096", "-F"],
        };
        run(
            &format!("mkfs.{kind}"),
            &[options, &["-q", text(&image)]].concat(),
        )?;
        let device = run(
            "losetup",
            &[&LOOP, &["--find", "--show", text(&image)][..]].concat(),
        )?;
        let at = fixture.path().join("disk");
        fs::create_dir(&at).unwrap();
        let disk = Self { kind, at, device };
        disk.mount_at(&disk.device, &disk.at)?;
        Ok((disk, image))
    }

    /// Mounts a device, which is freed by itself when it is unmounted.
    fn mount_at(&self, device: &str, at: &Path) -> Result<(), String> {
        let number = Path::new(device).file_name().unwrap().to_str().unwrap();
        let dio = fs::read_to_string(format!("/sys/block/{number}/loop/dio"));
        if dio.map_err(|error| error.to_string())?.trim() != "1" {
            return Err(format!("{device} does not write past the page cache"));
        }
        // Copies have the same id.
        let options = if self.kind == "xfs" { "nouuid" } else { "rw" };
        let mounted = run("mount", &["-t", self.kind, "-o", options, device, text(at)]);
        let freed = run("losetup", &["--detach", device]);
        mounted.and(freed).map(drop)
    }

    /// Puts another image in the place of the one that is mounted.
    fn exchange(&self, image: &Path) {
        unmount_idle(&self.at);
        // The device is freed a moment later.
        wait_for("the loop device", PROMPT, || {
            run(
                "losetup",
                &[&LOOP, &[&self.device, text(image)][..]].concat(),
            )
        });
        self.mount_at(&self.device, &self.at).unwrap();
    }

    /// What lies in an image.
    fn look_into<T>(&self, image: &Path, look: impl FnOnce(&Path) -> T) -> T {
        let at = image.with_extension("mount");
        fs::create_dir(&at).unwrap();
        let device = run(
            "losetup",
            &[&LOOP, &["--find", "--show", text(image)][..]].concat(),
        )
        .unwrap();
        self.mount_at(&device, &at).unwrap();
        let seen = look(&at);
        unmount_idle(&at);
        seen
    }
}

/// A process that another test starts holds all descriptors of this one until its program runs.
fn unmount_idle(at: &Path) {
    wait_for("the end of all use", PROMPT, || {
        unmount(at, UnmountFlags::empty()).map_err(|error| error.to_string())
    });
}

fn sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}

/// A copy of the disk as a cut of the power leaves it.
struct Cut {
    image: PathBuf,
    /// What was durable before, and all that had been begun after it.
    durable: Known,
    begun: History,
}

impl Cut {
    fn make(users: &Users, disk: &Path, number: usize) -> Self {
        let durable = lock(&users.durable).clone();
        let image = disk.with_file_name(format!("cut-{number}"));
        let copy = File::create(&image).unwrap();
        rustix::fs::ioctl_ficlone(&copy, File::open(disk).unwrap()).unwrap();
        Self {
            image,
            durable,
            begun: lock(&users.begun).clone(),
        }
    }

    /// Another copy, to be written to.
    fn copy(&self) -> PathBuf {
        let image = self.image.with_extension("copy");
        let copy = File::create(&image).unwrap();
        rustix::fs::ioctl_ficlone(&copy, File::open(&self.image).unwrap()).unwrap();
        image
    }

    /// Judges a target that came out of it. Returns how many files it held in each form.
    fn judge(&self, target: &Path) -> Forms {
        let mut forms = Forms::default();
        for (name, history) in &self.begun {
            let durable = self.durable.get(name).copied().unwrap_or(0);
            let found = fs::read(target.join(name)).ok();
            let found = found.map(|bytes| held(name, &bytes));
            // The last one that is known to be there, and those that may be.
            let mut later = history.iter().skip(durable);
            let may_be_absent = later.any(|there| !there) || durable == 0 || !history[durable - 1];
            match found {
                None => assert!(may_be_absent, "{name}: {durable} was durable and is gone"),
                Some(Held::Whole(generation)) => {
                    forms.whole += 1;
                    let known = (durable.max(1)..=history.len()).contains(&generation);
                    assert!(
                        known,
                        "{name}: {durable} was durable, {generation} is there"
                    );
                }
                Some(Held::Empty) => forms.empty += 1,
                Some(Held::Short) => forms.short += 1,
                Some(Held::Mixed) => panic!("{name} holds what it never was"),
            }
            // What is not durable yet must not cost what is, when it takes its name.
            let is_torn = matches!(found, Some(Held::Empty | Held::Short));
            assert!(
                !is_torn || may_be_absent,
                "{name}: {durable} was durable, and is {found:?} since {} came",
                history.len()
            );
        }
        forms
    }
}

/// How many files were found in which form.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Forms {
    whole: usize,
    empty: usize,
    short: usize,
}

impl std::ops::AddAssign for Forms {
    fn add_assign(&mut self, other: Self) {
        self.whole += other.whole;
        self.empty += other.empty;
        self.short += other.short;
    }
}

// ---- the test --------------------------------------------------------------------------------------

fn start_sink(fixture: &Fixture, disk: &Disk, source: &Source<'_>) -> Sink {
    let state = disk.at.join("state");
    let more = ["--state-dir", text(&state)];
    Sink::start_with(fixture, &disk.at.join("target"), &source.addresses, &more)
}

/// Waits until the target equals the source, which nobody changes.
fn converge(source: &Source<'_>, fixture: &Fixture, target: &Path) {
    wait_for("equal trees", CONVERGENCE, || {
        let flushed = source.run(&["flush", "--timeout", "60s"], CONVERGENCE);
        match flushed.code {
            Some(0) => Ok(()),
            _ => Err(flushed.stderr),
        }
    });
    assert_eq!(rsync_difference(&fixture.source(), target), "");
}

#[allow(clippy::print_stderr)]
fn power_cuts(kind: &'static str) {
    with_mounts(Fixture::new, |fixture| {
        let (disk, image) = match Disk::make(fixture, kind) {
            Ok(made) => made,
            Err(why) => return eprintln!("NOT TESTED: power cuts on {kind}: {why}"),
        };
        let target = disk.at.join("target");
        fs::create_dir(&target).unwrap();
        let users = Users::new(fixture);
        let source = Source::start(fixture);
        let mut sink = start_sink(fixture, &disk, &source);
        source.wait_for_phase("transfer");

        let cuts = std::thread::scope(|scope| {
            scope.spawn(|| users.work(1));
            let (users, image) = (&users, &image);
            let copying = scope.spawn(move || {
                let mut seed = 0x1234_5678u64;
                let copy = |number| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pause =
                        CHURN.mul_f64(2.0 / COPIES as f64 * (seed >> 33) as f64 / 2f64.powi(31));
                    std::thread::sleep(pause);
                    Cut::make(users, image, number)
                };
                (0..COPIES).map(copy).collect::<Vec<_>>()
            });
            let began = Instant::now();
            while began.elapsed() < CHURN || !copying.is_finished() {
                users.flush(&source);
            }
            let mut cuts = copying.join().unwrap();
            // The last one while the sink does nothing more: nobody has heard of anything later.
            let pid = Pid::from_raw(sink.process.id()).unwrap();
            kill_process(pid, Signal::STOP).unwrap();
            cuts.push(Cut::make(users, image, COPIES));
            sink.process.kill();
            users.stop.store(true, Ordering::Relaxed);
            cuts
        });
        let durable = cuts.iter().filter(|cut| !cut.durable.is_empty()).count();
        assert!(
            durable > COPIES / 2,
            "only {durable} cuts had anything durable"
        );

        let mut all = Forms::default();
        for cut in &cuts {
            let image = cut.copy();
            all += disk.look_into(&image, |at| cut.judge(&at.join("target")));
            fs::remove_file(image).unwrap();
        }
        eprintln!("{kind}: {} cuts: {all:?}", cuts.len());
        assert!(all.whole > NAMES, "{all:?}");

        // The host comes up again: first after the last cut, then from an old copy, as if somebody had
        // brought the disk back.
        for cut in [&cuts[COPIES], &cuts[COPIES / 2]] {
            disk.exchange(&cut.image);
            let mut sink = start_sink(fixture, &disk, &source);
            source.wait_for_phase("transfer");
            converge(&source, fixture, &target);
            assert_whole(&users, &target);
            sink.process.kill();
            wait_until("the end of the session", PROMPT, || {
                source.report(&["status"])["sinks"][0]["phase"] != "transfer"
            });
        }
    });
}

fn assert_whole(users: &Users, target: &Path) {
    for (name, history) in lock(&users.begun).iter() {
        let found = fs::read(target.join(name)).ok();
        let found = found.map(|bytes| held(name, &bytes));
        let last = history.last().is_some_and(|there| *there);
        assert_eq!(found, last.then_some(Held::Whole(history.len())), "{name}");
    }
}

#[test]
fn power_cuts_on_ext4() {
    power_cuts("ext4");
}

#[test]
fn power_cuts_on_xfs() {
    power_cuts("xfs");
}
