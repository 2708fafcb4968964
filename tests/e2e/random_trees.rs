//! Random trees under random changes, through the real program; both judges compare after each round.
//!
//! The seed is printed with a failure; `OSYNC_TREE_SEED=N` begins with that one, and
//! `OSYNC_TREE_SECONDS=N` goes on with new ones for so long. Needs root's rights, as the tree does.

use std::env;
use std::fs;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::endpoint::{Sink, Source};
use crate::fixture::Fixture;
use crate::tree::{assert_same, is_root, script};

/// How long new seeds are tried, in seconds, unless the environment says otherwise.
const SECONDS: u64 = 15;
/// Changes that make a tree, and changes of each round.
const CHANGES: u32 = 150;
/// Rounds of changes, each compared, with one pair of endpoints.
const ROUNDS: u64 = 3;
/// Longest time for one round of changes.
const CHANGES_LIMIT: Duration = Duration::from_secs(120);

// The tests' runner shows what a failing test has printed.
#[allow(clippy::print_stdout)]
#[test]
fn random_trees_under_random_changes() {
    if !is_root() {
        return;
    }
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut seed = number_from("OSYNC_TREE_SEED").unwrap_or(since_1970.as_secs() * 1000);
    let seconds = number_from("OSYNC_TREE_SECONDS").unwrap_or(SECONDS);
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        println!("OSYNC_TREE_SEED={seed}");
        let fixture = if seed.is_multiple_of(2) {
            Fixture::new()
        } else {
            Fixture::in_memory()
        };
        one_tree(&fixture, seed);
        seed += 1;
        if Instant::now() >= end {
            return;
        }
    }
}

fn number_from(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().expect("the variable is a number"))
}

fn one_tree(fixture: &Fixture, seed: u64) {
    fs::create_dir(fixture.path().join("outside")).unwrap();
    change(fixture, seed, &["--calm"]);
    let source = Source::start(fixture);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    for round in 1..=ROUNDS {
        change(fixture, seed + round * 1_000_000_007, &[]);
        source.flush();
        assert_same(fixture);
    }
    source.stop(sink);
    assert_same(fixture);
}

/// Users at work on the source.
fn change(fixture: &Fixture, seed: u64, more: &[&str]) {
    let mut random = script("random");
    random.arg(fixture.source());
    random.arg("--outside").arg(fixture.path().join("outside"));
    random.args(["--seed", &seed.to_string()]);
    random.args(["--changes", &CHANGES.to_string()]).args(more);
    fixture
        .start("random", &mut random)
        .expect_success(CHANGES_LIMIT);
}
