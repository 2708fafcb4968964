//! Both endpoints in one command.

use std::fs::{self, File};
use std::process::Command;

use crate::endpoint::{CONVERGENCE, PROMPT};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::wait::wait_until;

#[test]
fn once_ends_when_equal_and_again_when_nothing_changed() {
    let fixture = Fixture::populated(3_000, 8);
    let mut once = push(&fixture);
    once.arg("--once");
    fixture.start("push", &mut once).expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());

    // The second run knows the target: no --adopt is needed.
    fixture
        .start("push-again", &mut once)
        .expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());

    fixture.churn(2, 9).finish();
    fixture
        .start("push-changes", &mut once)
        .expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn once_adopts_what_another_tool_has_copied() {
    let fixture = Fixture::populated(1_000, 10);
    let mut copy = Command::new("cp");
    copy.arg("-a")
        .arg(fixture.source().join("."))
        .arg(fixture.target());
    fixture.start("cp", &mut copy).expect_success(CONVERGENCE);
    fixture.churn(2, 11).finish();
    let mut adopt = push(&fixture);
    adopt.args(["--once", "--adopt"]);
    fixture
        .start("push", &mut adopt)
        .expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());
}

#[test]
fn live_follows_changes_until_interrupted() {
    let fixture = Fixture::populated(500, 12);
    let (source, target) = (fixture.source(), fixture.target());
    let mut live = fixture.start("push", &mut push(&fixture));
    wait_until("equal trees", CONVERGENCE, || {
        live.assert_running();
        rsync_difference(&source, &target).is_empty()
    });
    fs::write(source.join("a change"), "made while it is live").unwrap();
    wait_until("the change", PROMPT, || {
        fs::exists(target.join("a change")).unwrap()
    });
    live.interrupt();
    live.expect_success(PROMPT);
    assert_equal(&source, &target);
}

fn push(fixture: &Fixture) -> Command {
    let mut command = fixture.osync("push");
    command
        .arg("push")
        .arg(fixture.source())
        .arg(fixture.target());
    command
}

#[test]
fn a_change_after_a_short_push_is_seen_though_size_and_time_stay() {
    let fixture = Fixture::new();
    let file = fixture.source().join("file");
    fs::write(&file, "before").unwrap();
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let mut once = push(&fixture);
    once.arg("--once");
    fixture.start("push", &mut once).expect_success(CONVERGENCE);

    fs::write(&file, "behind").unwrap();
    File::open(&file).unwrap().set_modified(time).unwrap();
    fixture
        .start("push-again", &mut once)
        .expect_success(CONVERGENCE);
    assert_equal(&fixture.source(), &fixture.target());
}
