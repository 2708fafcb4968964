//! Of a changed large file only what differs is sent, as the bytes on the wire show.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use crate::disk::Disk;
use crate::endpoint::{Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::mounts::with_mounts;
use crate::proxy::Proxy;
use crate::seed::Seed;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Bytes of a block that is compared.
const BLOCK: u64 = 128 * KIB;

/// Bytes of the file.
const SIZE: u64 = 200 * MIB + 12_345;

/// What a flush and everything but content may cost on the wire: hashes are an 8192nd of the file.
const REST: u64 = SIZE / 8192 + 64 * KIB;

/// Both endpoints with a large file in both trees, and a link that counts.
struct Pair<'a> {
    fixture: &'a Fixture,
    source: Source<'a>,
    sink: Sink,
    proxy: Proxy,
}

impl<'a> Pair<'a> {
    fn start(fixture: &'a Fixture) -> Self {
        let large = fixture.source().join("large");
        fill(&large, SIZE, &mut Seed::new(1));
        let source = Source::start(fixture);
        let proxy = Proxy::to(&source.addresses);
        let sink = Sink::start(fixture, proxy.addresses());
        source.wait_for_phase("transfer");
        source.flush();
        Self {
            fixture,
            source,
            sink,
            proxy,
        }
    }

    /// Changes the file, and returns the bytes that it costs until both trees are equal.
    fn cost(&self, change: impl FnOnce(&File)) -> u64 {
        let before = self.proxy.bytes_passed();
        let large = self.fixture.source().join("large");
        let file = OpenOptions::new().write(true).open(large).unwrap();
        change(&file);
        drop(file);
        self.source.flush();
        let passed = self.proxy.bytes_passed() - before;
        assert_equal(&self.fixture.source(), &self.fixture.target());
        passed
    }

    fn stop(self) {
        self.source.stop(self.sink);
    }
}

fn random(bytes: u64, seed: &mut Seed) -> Vec<u8> {
    let words = (0..bytes.div_ceil(8)).flat_map(|_| seed.below(u64::MAX).to_le_bytes());
    words.take(bytes as usize).collect()
}

fn fill(at: &Path, bytes: u64, seed: &mut Seed) {
    let mut file = File::create(at).unwrap();
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(MIB);
        file.write_all(&random(piece, seed)).unwrap();
        left -= piece;
    }
}

/// An append, pages written in place as by a database, an end cut off, and nothing but the times.
fn only_what_differs_is_sent(fixture: &Fixture) {
    let pair = Pair::start(fixture);
    let mut seed = Seed::new(2);
    let tail = random(MIB, &mut seed);
    let passed = pair.cost(|file| file.write_all_at(&tail, SIZE).unwrap());
    assert!(passed <= MIB + BLOCK + REST, "{passed} bytes for an append");

    let pages: Vec<u64> = (0..20).map(|_| seed.below(SIZE / 8192)).collect();
    let passed = pair.cost(|file| {
        for page in &pages {
            let content = random(8192, &mut seed);
            file.write_all_at(&content, page * 8192).unwrap();
        }
    });
    assert!(passed <= 20 * BLOCK + REST, "{passed} bytes for 20 pages");

    let passed = pair.cost(|file| file.set_len(SIZE / 2).unwrap());
    assert!(passed <= REST, "{passed} bytes for an end that was cut off");

    let passed = pair.cost(|file| {
        let same = fs::read(fixture.source().join("large")).unwrap();
        file.write_all_at(&same[..100], 0).unwrap();
    });
    assert!(passed <= REST, "{passed} bytes for nothing");
    pair.stop();
}

#[test]
fn only_what_differs_is_sent_in_memory() {
    only_what_differs_is_sent(&Fixture::in_memory());
}

#[test]
fn what_is_kept_is_shared_on_xfs() {
    with_mounts(Fixture::new, |fixture| {
        let target = fixture.target();
        let disk = Disk::of(&fixture.path().join("image"), 1024 * MIB);
        disk.mount_sharing(&target);
        let pair = Pair::start(fixture);
        // Somebody has the old file open, so that it keeps its room.
        let held = File::open(target.join("large")).unwrap();
        let before = used(&target);
        let passed = pair.cost(|file| file.write_all_at(&[1; 8192], SIZE / 2).unwrap());
        assert!(passed <= 2 * BLOCK + REST, "{passed} bytes for a page");
        let more = used(&target).saturating_sub(before);
        assert!(more < SIZE / 4, "{more} bytes were copied");
        drop(held);
        pair.stop();
        disk.unmount(&target);
    });
    with_mounts(Fixture::new, |fixture| {
        let target = fixture.target();
        let disk = Disk::of(&fixture.path().join("image"), 1024 * MIB);
        disk.mount_sharing(&target);
        only_what_differs_is_sent(fixture);
        disk.unmount(&target);
    });
}

/// Bytes in use on the file system.
fn used(at: &Path) -> u64 {
    let space = rustix::fs::statvfs(at).unwrap();
    (space.f_blocks - space.f_bfree) * space.f_frsize
}

/// An image with holes, as virtual machines have them.
#[test]
fn holes_and_data_take_each_others_place() {
    let fixture = Fixture::in_memory();
    let pair = Pair::start(&fixture);
    let punch = |file: &File, at: u64, bytes: u64| {
        let flags = rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE;
        rustix::fs::fallocate(file, flags, at, bytes).unwrap();
    };
    let passed = pair.cost(|file| {
        punch(file, 10 * MIB, 30 * MIB);
        punch(file, 50 * MIB + 4096, 4096);
    });
    assert!(passed <= 4 * BLOCK + REST, "{passed} bytes for holes");
    let room = |name: &Path| fs::metadata(name).unwrap().blocks() * 512;
    let (here, there) = (
        fixture.source().join("large"),
        fixture.target().join("large"),
    );
    assert_eq!(room(&here), room(&there));

    let content = random(MIB, &mut Seed::new(3));
    let passed = pair.cost(|file| file.write_all_at(&content, 20 * MIB).unwrap());
    assert!(passed <= MIB + 6 * BLOCK + REST, "{passed} bytes for data");
    assert_eq!(room(&here), room(&there));
    pair.stop();
}

/// A new version is written beside the old one, and takes its name.
#[test]
fn a_file_that_takes_the_place_of_another_is_compared_with_it() {
    let fixture = Fixture::in_memory();
    let pair = Pair::start(&fixture);
    let (old, new) = (fixture.source().join("large"), fixture.path().join("new"));
    let copied = Command::new("cp").arg(&old).arg(&new).status().unwrap();
    assert!(copied.success());
    OpenOptions::new()
        .write(true)
        .open(&new)
        .unwrap()
        .write_all_at(b"changed", SIZE / 3)
        .unwrap();
    let passed = pair.cost(|_| fs::rename(&new, &old).unwrap());
    assert!(passed <= BLOCK + REST, "{passed} bytes for a new version");
    pair.stop();
}

#[test]
fn a_sink_that_was_away_gets_what_differs() {
    let fixture = Fixture::in_memory();
    let pair = Pair::start(&fixture);
    let Pair {
        source,
        mut sink,
        proxy,
        ..
    } = pair;
    sink.process.kill();
    let large = OpenOptions::new()
        .write(true)
        .open(fixture.source().join("large"))
        .unwrap();
    large.write_all_at(b"changed", SIZE / 3).unwrap();
    let before = proxy.bytes_passed();
    let sink = Sink::start(&fixture, proxy.addresses());
    source.wait_for_phase("transfer");
    source.flush();
    let passed = proxy.bytes_passed() - before;
    assert!(passed <= BLOCK + REST, "{passed} bytes for a page");
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}
