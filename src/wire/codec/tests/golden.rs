//! Golden bytes: what version 1 of the protocol looks like on the wire, for ever.
//!
//! `OSYNC_BLESS=1 cargo test golden` writes the files anew. A difference in an existing file is a
//! break of the protocol.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::{env, fs};

use super::samples::samples;
use super::{Bytes, Frames, forms};
use crate::wire::message::VERSION;

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("proto/golden/v{VERSION}"))
}

fn blessing() -> bool {
    env::var_os("OSYNC_BLESS").is_some_and(|value| value == "1")
}

/// One line of hexadecimal digits a frame.
fn to_hex(frames: &Frames) -> String {
    let mut text = String::new();
    for frame in frames {
        text.extend(frame.iter().map(|byte| format!("{byte:02x}")));
        text.push('\n');
    }
    text
}

fn from_hex(text: &str) -> Frames {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    text.lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect::<Bytes>())
        .collect()
}

#[test]
fn every_form_has_a_sample() {
    let sampled: BTreeSet<_> = samples()
        .iter()
        .flat_map(|(_, sample)| forms::of(sample))
        .collect();
    let missing: Vec<_> = forms::all()
        .filter(|form| !sampled.contains(form))
        .collect();
    assert!(
        missing.is_empty(),
        "add a sample with each of these: {missing:?}"
    );
}

#[test]
fn golden_bytes() {
    for (name, sample) in samples() {
        let path = directory().join(format!("{name}.hex"));
        let encoded = to_hex(&sample.encode());
        if blessing() {
            fs::create_dir_all(directory()).unwrap();
            fs::write(&path, &encoded).unwrap();
        }
        let golden = fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; OSYNC_BLESS=1 writes it", path.display()));
        assert_eq!(
            encoded, golden,
            "{name} is encoded to other bytes than before"
        );
        let decoded = sample.decode_alike(&from_hex(&golden));
        assert_eq!(
            decoded.as_ref(),
            Ok(&sample),
            "{name} is decoded to another message"
        );
    }
}

#[test]
fn golden_files_have_samples() {
    let named: BTreeSet<_> = samples()
        .into_iter()
        .map(|(name, _)| format!("{name}.hex"))
        .collect();
    assert_eq!(named.len(), samples().len(), "two samples share a name");
    for file in fs::read_dir(directory()).unwrap() {
        let file = file.unwrap();
        let known = named.contains(file.file_name().to_str().unwrap());
        assert!(known, "{} belongs to no sample", file.path().display());
    }
}

#[test]
fn the_specification_names_every_golden_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/proto/PROTOCOL.md");
    let specification = fs::read_to_string(path).unwrap();
    let words: BTreeSet<_> = specification.split([' ', ',', '|', '\n']).collect();
    for (name, _) in samples() {
        assert!(words.contains(name), "{name} is not in proto/PROTOCOL.md");
    }
}
