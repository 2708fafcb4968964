//! A peer in another language, written from the protocol's document alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::endpoint::{PROMPT, Source};
use crate::fixture::Fixture;

#[test]
fn a_python_peer_reads_the_queue_report_and_registers() {
    let fixture = Fixture::new();
    fs::write(fixture.source().join("file"), "content").unwrap();
    let mut source = Source::start(&fixture);
    let addresses = source.addresses.clone();

    let mut report = peer();
    report.args(["report", "--command", &addresses.command]);
    let printed = fixture
        .start("peer-report", &mut report)
        .expect_success(PROMPT)
        .stdout;
    assert!(
        !printed.trim().is_empty(),
        "the peer printed no queue report"
    );

    let mut register = peer();
    register.args([
        "register",
        "--command",
        &addresses.command,
        "--data",
        &addresses.data,
    ]);
    fixture
        .start("peer-register", &mut register)
        .expect_success(PROMPT);

    // A sink that vanished in the middle of its handshake harms nobody.
    source.process.assert_running();
    source.expect(&["stop"]);
    source.process.expect_success(PROMPT);
}

fn peer() -> Command {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = package.join("target/python-venv/bin/python");
    assert!(
        python.exists(),
        "{} is missing: scripts/test makes it",
        python.display()
    );
    let mut command = Command::new(python);
    command.arg(package.join("tests/python/peer.py"));
    command
}
