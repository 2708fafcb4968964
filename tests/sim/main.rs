//! The simulated world: both engines, readers, appliers and the wire between two file systems in
//! memory, driven by one seed. Users act between any two steps; connections are cut, processes die,
//! power fails, events are lost. After every step the invariants are checked; at the end all faults
//! heal and both trees must become equal.
//!
//! `OSYNC_SIM_SECONDS` runs fresh seeds for so long, `OSYNC_SIM_SEED` replays one with its trace.

#![allow(
    clippy::print_stdout,
    reason = "the trace of a failing seed and the count of those that hold"
)]

mod faults;
mod planted;
mod rng;
mod scenarios;
mod users;
mod world;

use std::time::{Duration, Instant, SystemTime};

use faults::Faults;
use world::World;

/// Seeds of the fixed run.
const FIXED_SEEDS: u64 = 10_000;

/// Seeds in which the loss of a rule must show itself.
const RULE_SEEDS: u64 = 30_000;

fn run(seed: u64, trace: bool) -> Result<u64, String> {
    let faults = Faults::of_seed(seed);
    let world = std::panic::catch_unwind(|| World::new(seed, faults, trace).run());
    world.unwrap_or_else(|_| Err("a panic".to_owned()))
}

fn check(seed: u64) {
    let first = run(seed, false);
    if let Err(why) = &first {
        let _ = run(seed, true);
        panic!("seed {seed} fails: {why}\nreplay: scripts/sim --seed {seed}");
    }
}

#[test]
fn fixed_histories() {
    for seed in 1..=FIXED_SEEDS {
        check(seed);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 1..=50 {
        assert_eq!(
            run(seed, false),
            run(seed, false),
            "seed {seed} ran differently the second time"
        );
    }
}

/// Shows that the simulation can see: with any one rule off, some history breaks.
#[test]
fn every_rule_is_needed() {
    use osync::engine::replica::Rule;
    let rules = [
        Rule::Claim,
        Rule::EventDuringRead,
        Rule::Suspicion,
        Rule::Links,
        Rule::ParentMetadata,
        Rule::PutBack,
        Rule::RefusedWaits,
        Rule::SameHash,
    ];
    let mut unseen = Vec::new();
    for rule in rules {
        let broken = (1..=RULE_SEEDS).find(|&seed| {
            let faults = Faults::without(rule, seed);
            let world = std::panic::catch_unwind(|| World::new(seed, faults, false).run());
            !matches!(world, Ok(Ok(_)))
        });
        match broken {
            Some(seed) => println!("without {rule:?} seed {seed} fails"),
            None => unseen.push(rule),
        }
    }
    assert!(
        unseen.is_empty(),
        "no history of {RULE_SEEDS} breaks without {unseen:?}"
    );
}

#[test]
fn random_histories() {
    if let Ok(seed) = std::env::var("OSYNC_SIM_SEED") {
        let seed = seed.parse().expect("OSYNC_SIM_SEED is a number");
        let result = run(seed, true);
        println!("seed {seed}: {result:?}");
        return assert!(result.is_ok(), "seed {seed} fails");
    }
    let seconds = std::env::var("OSYNC_SIM_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or(2);
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("a clock after 1970");
    let first = since.as_nanos() as u64 & 0xffff_ffff_ffff;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        check(first + count);
        count += 1;
    }
    let each = start.elapsed().as_secs_f64() * 1000.0 / count.max(1) as f64;
    println!("{count} seeds from {first} on hold, {each:.3} ms each");
}
