//! Files with holes: as much is allocated on the target as on the source, whatever happens to the holes.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};

use crate::endpoint::{CONVERGENCE, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Where there is data, by start and length.
type Pieces = [(u64, u64)];

/// A file of this size that would take minutes and all memory if its hole were read or sent.
const HUGE: u64 = 64 * GIB;
/// Longest time for it.
const HUGE_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn holes_are_kept_wherever_they_are() {
    let fixture = Fixture::new();
    let source = fixture.source();
    let layouts: [(&str, u64, &Pieces); 7] = [
        ("start", 8 * MIB, &[(6 * MIB, 2 * MIB)]),
        ("middle", 8 * MIB, &[(0, MIB), (7 * MIB, MIB)]),
        ("end", 8 * MIB, &[(0, 2 * MIB)]),
        ("all", 8 * MIB, &[]),
        ("small", 100_000, &[(32_768, 16_384)]),
        ("small-all", 10, &[]),
        ("dense", 2 * MIB, &[(0, 2 * MIB)]),
    ];
    for (name, size, data) in layouts {
        make(&source.join(name), size, data);
    }
    // Zeros that were written are data.
    fs::write(source.join("zeros"), vec![0; 2 * MIB as usize]).unwrap();
    let many: Vec<(u64, u64)> = (0..64).map(|at| (at * 256 * 1024, 64 * 1024)).collect();
    make(&source.join("many"), 16 * MIB, &many);
    // Allocated and never written, but not a hole.
    let reserved = File::create(source.join("reserved")).unwrap();
    fallocate(&reserved, FallocateFlags::empty(), 0, 4 * MIB).unwrap();

    fixture
        .start("push", &mut push_once(&fixture))
        .expect_success(CONVERGENCE);
    assert_equal(&source, &fixture.target());
    assert_allocated_alike(&source, &fixture.target());
}

#[test]
fn a_huge_file_takes_as_long_as_its_data() {
    let fixture = Fixture::new();
    let pieces = [(MIB, MIB), (HUGE / 2, MIB), (HUGE - 2 * MIB, MIB)];
    make(&fixture.source().join("huge"), HUGE, &pieces);
    make(&fixture.source().join("empty"), HUGE, &[]);
    fixture
        .start("push", &mut push_once(&fixture))
        .expect_success(HUGE_LIMIT);
    assert_allocated_alike(&fixture.source(), &fixture.target());
    let file = |top: &Path| File::open(top.join("huge")).unwrap();
    let (source, target) = (file(&fixture.source()), file(&fixture.target()));
    // Around every change from hole to data and back.
    for (start, len) in pieces {
        for edge in [start, start + len] {
            assert_eq!(window(&target, edge), window(&source, edge), "{edge}");
        }
    }
    let sizes = ["huge", "empty"].map(|name| size(&fixture.target().join(name)));
    assert_eq!(sizes, [HUGE; 2]);
}

#[test]
fn holes_are_punched_and_filled_live() {
    let fixture = Fixture::new();
    let top = fixture.source();
    make(&top.join("dense"), 4 * MIB, &[(0, 4 * MIB)]);
    make(&top.join("small"), 65_536, &[(0, 65_536)]);
    make(&top.join("sparse"), 4 * MIB, &[(MIB, MIB)]);
    make(&top.join("grows"), MIB, &[(0, MIB)]);
    let source = Source::start(&fixture);
    let mut sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_allocated_alike(&top, &fixture.target());

    let open = |name: &str| OpenOptions::new().write(true).open(top.join(name)).unwrap();
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(open("dense"), punch, MIB, 2 * MIB).unwrap();
    fallocate(open("small"), punch, 8192, 32_768).unwrap();
    open("sparse")
        .write_all_at(&vec![b'f'; 4 * MIB as usize], 0)
        .unwrap();
    open("grows").set_len(8 * MIB).unwrap();
    source.flush();
    assert_equal(&top, &fixture.target());
    assert_allocated_alike(&top, &fixture.target());
    assert!(allocated(&fixture.target().join("small")) < 65_536);

    // And back, with times that tell nothing.
    let before = fs::metadata(top.join("small")).unwrap().modified().unwrap();
    let small = open("small");
    small.write_all_at(&[0; 65_536], 0).unwrap();
    small.set_modified(before).unwrap();
    drop(small);
    fallocate(open("dense"), FallocateFlags::empty(), 0, 4 * MIB).unwrap();
    source.flush();
    sink.process.assert_running();
    assert_equal(&top, &fixture.target());
    assert_allocated_alike(&top, &fixture.target());
    source.stop(sink);
}

fn push_once(fixture: &Fixture) -> Command {
    let mut command = fixture.osync("push");
    command.arg("push").arg("--once");
    command.arg(fixture.source()).arg(fixture.target());
    command
}

/// A file of this size with data here alone.
fn make(path: &Path, size: u64, data: &Pieces) {
    let file = File::create(path).unwrap();
    file.set_len(size).unwrap();
    for (at, &(start, len)) in data.iter().enumerate() {
        let byte = b'a' + (at % 26) as u8;
        let bytes = vec![byte; len as usize];
        file.write_all_at(&bytes, start).unwrap();
    }
}

fn window(file: &File, edge: u64) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    file.read_exact_at(&mut bytes, edge - 4096).unwrap();
    bytes
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

/// Bytes allocated, when all is written out.
fn allocated(path: &Path) -> u64 {
    let file = File::open(path).unwrap();
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

/// Asserts that every file has as much allocated on both sides, within a tenth or a block.
#[track_caller]
fn assert_allocated_alike(source: &Path, target: &Path) {
    for entry in fs::read_dir(source).unwrap() {
        let name = entry.unwrap().file_name();
        let (wanted, got) = (
            allocated(&source.join(&name)),
            allocated(&target.join(&name)),
        );
        assert!(
            wanted.abs_diff(got) <= (wanted / 10).max(4096),
            "{name:?}: {wanted} bytes are allocated on the source, {got} on the target"
        );
    }
}
