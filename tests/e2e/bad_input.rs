//! Bad input gets a clear error, the exit code that says whose fault it is, and touches nothing.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::endpoint::{Addresses, PROMPT, Source, free_port};
use crate::fixture::Fixture;
use crate::process::Finished;
use crate::wait::wait_until;

/// Exit code for a wrong command line.
const USAGE: i32 = 64;
/// Exit code for settings and directories that cannot be used.
const CONFIGURATION: i32 = 78;

/// Runs a command that must end by itself with one of these codes and name what is wrong.
#[track_caller]
fn refused(fixture: &Fixture, command: &mut Command, codes: &[i32], named: &str) -> Finished {
    let finished = fixture.run("refused", command, PROMPT);
    assert!(
        finished.code.is_some_and(|code| codes.contains(&code)),
        "{command:?}: {finished:?}"
    );
    assert!(
        finished.stderr.contains(named),
        "{named:?} is not named: {finished:?}"
    );
    assert!(
        finished.stdout.is_empty(),
        "an error belongs on standard error: {finished:?}"
    );
    finished
}

fn source_of(fixture: &Fixture, root: &Path) -> Command {
    let mut command = fixture.osync("source");
    command.arg("source").arg(root);
    command.args([
        "--command",
        "tcp://127.0.0.1:0",
        "--data",
        "tcp://127.0.0.1:0",
    ]);
    command
}

fn sink_of(fixture: &Fixture, root: &Path) -> Command {
    let addresses = Addresses::free();
    let mut command = fixture.osync("sink");
    command.arg("sink").arg(root);
    command.args(["--command", &addresses.command, "--data", &addresses.data]);
    command
}

#[test]
fn unusable_roots_are_refused() {
    let fixture = Fixture::new();
    fs::write(fixture.path().join("a-file"), "").unwrap();
    symlink("/nonexistent", fixture.path().join("a-dangling-link")).unwrap();
    for name in ["missing", "a-file", "a-dangling-link"] {
        let root = fixture.path().join(name);
        refused(
            &fixture,
            &mut source_of(&fixture, &root),
            &[CONFIGURATION],
            name,
        );
        refused(
            &fixture,
            &mut sink_of(&fixture, &root),
            &[CONFIGURATION],
            name,
        );
        let mut push = fixture.osync("push");
        push.arg("push")
            .arg(&root)
            .arg(fixture.target())
            .arg("--once");
        refused(&fixture, &mut push, &[CONFIGURATION], name);
    }
}

#[test]
fn an_unreadable_root_is_refused() {
    let fixture = Fixture::of_nobody();
    let locked = fixture.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
    refused(
        &fixture,
        &mut source_of(&fixture, &locked),
        &[CONFIGURATION],
        "locked",
    );
}

#[test]
fn roots_within_each_other_are_refused() {
    let fixture = Fixture::new();
    let (outer, inner) = (fixture.source(), fixture.source().join("inner"));
    fs::create_dir(&inner).unwrap();
    // The same through another name: directories are compared, not paths.
    let alias = fixture.path().join("alias");
    symlink(&inner, &alias).unwrap();
    for (source, target) in [
        (&outer, &inner),
        (&inner, &outer),
        (&outer, &outer),
        (&outer, &alias),
    ] {
        let mut push = fixture.osync("push");
        push.arg("push")
            .arg(source)
            .arg(target)
            .args(["--once", "--adopt"]);
        refused(&fixture, &mut push, &[CONFIGURATION], "source");
    }
    assert_eq!(names(&outer), ["inner"]);
    assert!(names(&inner).is_empty());
}

#[test]
fn a_state_directory_inside_the_source_is_refused() {
    let fixture = Fixture::new();
    let mut source = source_of(&fixture, &fixture.source());
    source.env("OSYNC_STATE_DIR", fixture.source().join("state"));
    refused(&fixture, &mut source, &[CONFIGURATION], "state");
    assert!(
        names(&fixture.source()).is_empty(),
        "the source is read only"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let fixture = Fixture::new();
    let port = free_port();
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for (command, data) in [(port, 0), (0, port)] {
        let addresses = Addresses::on_ports(command, data);
        let mut source = fixture.osync("source");
        source.arg("source").arg(fixture.source());
        source.args(["--command", &addresses.command, "--data", &addresses.data]);
        refused(&fixture, &mut source, &[CONFIGURATION], &port.to_string());
    }
}

#[test]
fn bad_addresses_are_refused() {
    let fixture = Fixture::new();
    for address in [
        "tcp://127.0.0.1:70000",
        "tcp://127.0.0.1:x",
        "tcp://127.0.0.1",
        "127.0.0.1:-1",
    ] {
        for flag in ["--command", "--data"] {
            let mut source = fixture.osync("source");
            source
                .arg("source")
                .arg(fixture.source())
                .args([flag, address]);
            refused(&fixture, &mut source, &[USAGE, CONFIGURATION], address);
        }
    }
}

#[test]
fn a_port_outside_the_usual_range_draws_a_warning() {
    let fixture = Fixture::new();
    // From here on ports belong to clients.
    let high = (49_152..=u16::MAX).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    let high = high.expect("some port is free");
    let mut warned = Source::start_at(&fixture, &Addresses::on_ports(high, 0));
    assert!(
        warns_of(&warned.process.stderr(), high),
        "{}",
        warned.process.stderr()
    );
    warned.process.kill();

    let usual = free_port();
    let silent = Source::start_at(&fixture, &Addresses::on_ports(usual, 0));
    assert!(
        !warns_of(&silent.process.stderr(), usual),
        "{}",
        silent.process.stderr()
    );
}

/// Ports below 1024 need rights and may be taken, so the start may fail; the warning comes first.
#[test]
fn a_privileged_port_draws_a_warning() {
    let fixture = Fixture::new();
    let mut command = fixture.osync("source");
    command.arg("source").arg(fixture.source());
    command.args([
        "--command",
        "tcp://127.0.0.1:80",
        "--data",
        "tcp://127.0.0.1:0",
    ]);
    let source = fixture.start("source", &mut command);
    wait_until("the warning", PROMPT, || warns_of(&source.stderr(), 80));
}

fn warns_of(log: &str, port: u16) -> bool {
    let port = port.to_string();
    log.lines()
        .any(|line| line.to_lowercase().contains("warn") && line.contains(&port))
}

#[test]
fn unknown_words_are_usage_errors() {
    let fixture = Fixture::new();
    for args in [
        &["frobnicate"][..],
        &["report", "weather"],
        &["status", "--frobnicate"],
        &["sink"],
    ] {
        let finished = fixture.run("usage", fixture.osync("operator").args(args), PROMPT);
        assert_eq!(finished.code, Some(USAGE), "{args:?}: {finished:?}");
        assert!(
            !finished.stderr.is_empty(),
            "{args:?} is refused without a word"
        );
    }
    let help = fixture.run("help", fixture.osync("operator").arg("--help"), PROMPT);
    assert_eq!(help.code, Some(0), "{help:?}");
}

#[test]
fn an_unknown_configuration_key_is_named() {
    let fixture = Fixture::new();
    let config = fixture.path().join("osync.toml");
    fs::write(&config, "frobnication_bytes_max = 7\n").unwrap();
    let mut source = source_of(&fixture, &fixture.source());
    source.arg("--config").arg(&config);
    refused(
        &fixture,
        &mut source,
        &[CONFIGURATION],
        "frobnication_bytes_max",
    );
}

#[test]
fn a_target_with_foreign_entries_needs_adopt() {
    let fixture = Fixture::new();
    fs::write(fixture.target().join("precious"), "of somebody").unwrap();
    let finished = refused(
        &fixture,
        &mut sink_of(&fixture, &fixture.target()),
        &[CONFIGURATION],
        &fixture.target().display().to_string(),
    );
    assert!(
        finished.stderr.contains("--adopt"),
        "the way out is not named: {finished:?}"
    );
    let mut push = fixture.osync("push");
    push.arg("push")
        .arg(fixture.source())
        .arg(fixture.target())
        .arg("--once");
    refused(&fixture, &mut push, &[CONFIGURATION], "--adopt");
    assert_eq!(names(&fixture.target()), ["precious"]);
    assert_eq!(
        fs::read(fixture.target().join("precious")).unwrap(),
        b"of somebody"
    );
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}
