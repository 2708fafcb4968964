//! Files with holes.

use std::ops::Range;

use super::*;

/// No file system here has larger blocks, and none keeps smaller holes than two of them.
const BLOCK: u64 = 64 * 1024;

/// Where there is data, by first block and end.
type Blocks = [(u64, u64)];

/// All data of a file, in blocks; ranges that touch each other count as one.
fn data_of<F: Fs>(on: &Fixture<F>, file: &F::File) -> Vec<Range<u64>> {
    let mut found: Vec<Range<u64>> = Vec::new();
    let mut at = 0;
    while let Some(data) = on.fs.next_data(file, at).unwrap() {
        assert!(data.start >= at && data.end > data.start, "{data:?}");
        at = data.end;
        let blocks = data.start / BLOCK..data.end.div_ceil(BLOCK);
        match found.last_mut() {
            Some(last) if last.end >= blocks.start => last.end = blocks.end,
            _ => found.push(blocks),
        }
    }
    found
}

/// Publishes a file of so many blocks with data in these of them alone.
fn sparse<F: Fs>(on: &Fixture<F>, called: &str, blocks: u64, data: &[u64]) -> Stat {
    let root = on.fs.root().unwrap();
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    let size = blocks * BLOCK;
    on.fs.set_len(&stage, size).unwrap();
    for at in data {
        on.fs
            .write_at(&stage, at * BLOCK, &[b'x'; BLOCK as usize])
            .unwrap();
    }
    let meta = Metadata {
        size,
        ..on.meta(Kind::File)
    };
    on.fs
        .publish(&mut stage, &root, &name(called), &meta)
        .unwrap();
    // Some file systems count what is allocated only when it is written out.
    on.fs.sync().unwrap();
    on.stat(&root, called)
}

pub(crate) fn holes_are_found<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let cases: [(&str, &[u64], &Blocks); 5] = [
        ("start", &[30, 31], &[(30, 32)]),
        ("middle", &[0, 31], &[(0, 1), (31, 32)]),
        ("end", &[0], &[(0, 1)]),
        ("several", &[3, 4, 10, 20], &[(3, 5), (10, 11), (20, 21)]),
        ("all", &[], &[]),
    ];
    for (called, data, expected) in cases {
        sparse(on, called, 32, data);
        let (file, _) = on.fs.open(&root, &name(called)).unwrap();
        let found = data_of(on, &file);
        let found: Vec<_> = found.iter().map(|data| (data.start, data.end)).collect();
        assert_eq!(found, expected, "{called}");
        // From within data, and at and behind the end.
        for inside in data {
            let at = inside * BLOCK + 1;
            let found = on.fs.next_data(&file, at).unwrap().unwrap();
            assert_eq!(found.start, at, "{called}");
        }
        for behind in [32 * BLOCK, 33 * BLOCK, u64::MAX / 2] {
            assert_eq!(on.fs.next_data(&file, behind).unwrap(), None, "{called}");
        }
        let content = on.read(&root, called);
        assert_eq!(content.len() as u64, 32 * BLOCK);
        for (at, block) in content.chunks(BLOCK as usize).enumerate() {
            let byte = if data.contains(&(at as u64)) { b'x' } else { 0 };
            assert!(block.iter().all(|&b| b == byte), "{called}, block {at}");
        }
    }
    on.write(&root, "empty", b"");
    let (file, _) = on.fs.open(&root, &name("empty")).unwrap();
    assert_eq!(on.fs.next_data(&file, 0).unwrap(), None);
    on.write(&root, "dense", &[b'x'; 3 * BLOCK as usize]);
    let (file, _) = on.fs.open(&root, &name("dense")).unwrap();
    let all = 0..3 * BLOCK;
    assert_eq!(on.fs.next_data(&file, 0).unwrap(), Some(all));
}

pub(crate) fn holes_take_no_room<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    // Metadata of some file systems counts as content.
    let close = |stat: Stat, blocks: u64| {
        let wanted = blocks * BLOCK;
        let range = wanted..=wanted + wanted / 10 + 4096;
        assert!(range.contains(&stat.allocated), "{stat:?}, not {wanted}");
    };
    close(sparse(on, "all", 64, &[]), 0);
    close(sparse(on, "sparse", 64, &[0, 9, 10, 63]), 4);
    let every: Vec<u64> = (0..64).collect();
    close(sparse(on, "dense", 64, &every), 64);
    on.mkdir(&root, "dir");
    on.symlink(&root, "link", "somewhere");
    for other in ["dir", "link"] {
        assert_eq!(on.stat(&root, other).allocated, 0, "{other}");
    }
}

pub(crate) fn a_stage_can_be_cut_off<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.write_at(&stage, 0, b"0123456789").unwrap();
    on.fs.set_len(&stage, 4).unwrap();
    on.fs.set_len(&stage, 6).unwrap();
    assert_eq!(on.fs.stat_file(&stage).unwrap().size, 6);
    let mut content = [b'x'; 8];
    assert_eq!(on.fs.read_at(&stage, 0, &mut content).unwrap(), 6);
    assert_eq!(&content[..6], b"0123\0\0");
    let too_long = code(on.fs.set_len(&stage, u64::MAX));
    assert!(
        [Some(libc::EFBIG), Some(libc::EINVAL)].contains(&too_long),
        "{too_long:?}"
    );
}

pub(crate) fn a_range_is_copied_once_and_for_all<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let base = on.fs.stage(&root, 0o600).unwrap();
    let size = 4 * BLOCK + 5;
    let content: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
    on.fs.write_at(&base, 0, &content).unwrap();
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    on.fs.set_len(&stage, size).unwrap();
    for range in [BLOCK..2 * BLOCK, 3 * BLOCK..size] {
        on.fs.copy_range(&base, &stage, range).unwrap();
    }
    // Behind the end there is nothing to be copied.
    assert!(
        on.fs
            .copy_range(&base, &stage, 4 * BLOCK..5 * BLOCK)
            .is_err()
    );
    on.fs.set_len(&stage, size).unwrap();
    // What becomes of the file does not show in the copy, nor the reverse.
    on.fs.write_at(&base, BLOCK, &[0xff; 9]).unwrap();
    on.fs.set_len(&base, 3 * BLOCK).unwrap();
    on.fs.write_at(&stage, 3 * BLOCK, b"new").unwrap();
    let meta = Metadata {
        size,
        ..on.meta(Kind::File)
    };
    on.fs
        .publish(&mut stage, &root, &name("copy"), &meta)
        .unwrap();
    let (copy, _) = on.fs.open(&root, &name("copy")).unwrap();
    assert_eq!(data_of(on, &copy), [1..2, 3..5]);
    let mut expected = content;
    expected[..BLOCK as usize].fill(0);
    expected[2 * BLOCK as usize..3 * BLOCK as usize].fill(0);
    expected[3 * BLOCK as usize..][..3].copy_from_slice(b"new");
    assert!(on.read(&root, "copy") == expected);
}

pub(crate) fn a_range_becomes_a_hole<F: Fs>(on: &Fixture<F>) {
    let root = on.fs.root().unwrap();
    let mut stage = on.fs.stage(&root, 0o600).unwrap();
    let size = 4 * BLOCK;
    on.fs
        .write_at(&stage, 0, &vec![b'x'; size as usize])
        .unwrap();
    on.fs.punch(&stage, BLOCK..3 * BLOCK).unwrap();
    let meta = Metadata {
        size,
        ..on.meta(Kind::File)
    };
    on.fs
        .publish(&mut stage, &root, &name("file"), &meta)
        .unwrap();
    let (file, _) = on.fs.open(&root, &name("file")).unwrap();
    assert_eq!(data_of(on, &file), [0..1, 3..4]);
    let content = on.read(&root, "file");
    assert_eq!(content.len() as u64, size);
    assert!(
        content[BLOCK as usize..3 * BLOCK as usize]
            .iter()
            .all(|&b| b == 0)
    );
}
