//! A short run of `scripts/chaos`: faults of every kind at random, from a seed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::fixture::{Fixture, OSYNC};

/// Longest time for the run and for its end, on a machine that is busy with other things.
const LIMIT: Duration = Duration::from_secs(300);

#[test]
fn a_short_run_of_one_seed() {
    let fixture = Fixture::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/chaos");
    let mut chaos = Command::new(script);
    chaos.args(["--seed", "7", "--minutes", "0.15", "--osync", OSYNC]);
    chaos
        .arg("--place")
        .arg(fixture.path())
        .stdin(Stdio::null());
    let finished = fixture.start("chaos", &mut chaos).expect_success(LIMIT);
    assert!(finished.stdout.contains("equal after each"), "{finished:?}");
}
