//! What strangers may say, at random: each target of `fuzz/` for a bounded time, from the corpus and the
//! golden bytes, with nothing but a stable compiler. `scripts/fuzz` searches longer, guided by coverage.
//!
//! `OSYNC_FUZZ_SECONDS` is how long each target is tried, `OSYNC_FUZZ_SEED` from where the random numbers
//! start. An input that fails is written to `target/fuzz/`, and played again by
//! `OSYNC_FUZZ_INPUT=FILE cargo test --test fuzz TARGET`.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod memory;
mod mutate;
mod targets {
    pub mod filter;
    pub mod sink;
    pub mod wire;
}

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;
use osync::wire::PAYLOAD_BYTES_MAX;

#[global_allocator]
static COUNTING: memory::Counting = memory::Counting;

/// How long a target is tried unless the environment says otherwise.
const SECONDS: u64 = 3;
/// Longest input.
const INPUT_BYTES_MAX: usize = 4096;
/// Inputs kept beside the corpus to be changed further.
const POOL_MAX: usize = 512;

type Target = fn(&[u8]);

#[test]
fn wire() {
    // A value that is decoded takes more than its bytes, by a factor that does not depend on what the
    // bytes announce; compressed content takes what it announces, up to what a frame may have.
    let most = |input: usize| (64 << 10) + PAYLOAD_BYTES_MAX + 256 * input;
    hunt("wire", targets::wire::run, golden(), most);
}

#[test]
fn filter() {
    let most = |input: usize| (256 << 10) + 2048 * input;
    hunt("filter", targets::filter::run, Vec::new(), most);
}

#[test]
fn sink() {
    // Files with holes take their length in memory: as many as there are stages and names.
    let most = |_| 512 << 20;
    hunt("sink", targets::sink::run, Vec::new(), most);
}

/// Tries a target with its corpus, then with changed inputs until the time is over.
fn hunt(name: &str, target: Target, mut pool: Vec<Vec<u8>>, bytes_max: fn(usize) -> usize) {
    if let Some(input) = std::env::var_os("OSYNC_FUZZ_INPUT") {
        return target(&fs::read(input).unwrap());
    }
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(name);
    for file in fs::read_dir(corpus).unwrap() {
        pool.push(fs::read(file.unwrap().path()).unwrap());
    }
    assert!(!pool.is_empty(), "the corpus of {name} is empty");
    for input in &pool {
        attempt(name, target, input, bytes_max);
    }
    let seed = number("OSYNC_FUZZ_SEED", 1);
    let time = Duration::from_secs(number("OSYNC_FUZZ_SECONDS", SECONDS));
    let mut mutator = Mutator::new(seed);
    let (began, mut tried) = (Instant::now(), 0u64);
    while began.elapsed() < time {
        let input = mutator.changed(&pool, INPUT_BYTES_MAX);
        attempt(name, target, &input, bytes_max);
        tried += 1;
        if pool.len() < POOL_MAX {
            pool.push(input);
        } else if tried.is_multiple_of(64) {
            let at = POOL_MAX / 2 + mutator.below(POOL_MAX / 2);
            pool[at] = input;
        }
    }
    assert!(tried > 0, "{name} was never tried");
    eprintln!(
        "{name}: {tried} inputs in {} s, seed {seed}",
        time.as_secs()
    );
}

fn attempt(name: &str, target: Target, input: &[u8], bytes_max: fn(usize) -> usize) {
    memory::begin();
    let ended = catch_unwind(AssertUnwindSafe(|| target(input)));
    let peak = memory::peak();
    let most = bytes_max(input.len());
    if ended.is_ok() && peak <= most {
        return;
    }
    let file = keep(name, input);
    eprintln!("{name} fails with the input {}", file.display());
    if let Err(panic) = ended {
        resume_unwind(panic);
    }
    panic!(
        "{peak} bytes of memory for {} bytes of input, at most {most}",
        input.len()
    );
}

fn keep(name: &str, input: &[u8]) -> PathBuf {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    fs::create_dir_all(&dir).unwrap();
    let file = dir.join(format!("{name}-{:016x}", mutate::hash(input)));
    fs::write(&file, input).unwrap();
    file
}

fn number(variable: &str, default: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(default, |text| text.parse().unwrap())
}

/// The golden bytes as inputs of the target `wire`.
fn golden() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/golden/v1");
    let files = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path());
    let inputs: Vec<_> = files
        .map(|file| packed(&fs::read_to_string(file).unwrap()))
        .collect();
    assert!(!inputs.is_empty(), "there are no golden bytes");
    inputs
}

/// Frames in hexadecimal, one a line, in the form that the target `wire` takes.
fn packed(hex: &str) -> Vec<u8> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let frames: Vec<Vec<u8>> = hex
        .lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect())
        .collect();
    let content = frames.get(1).map_or(0, Vec::len);
    let mut input = frames.concat();
    input.extend(u16::try_from(content).unwrap().to_le_bytes());
    input
}
