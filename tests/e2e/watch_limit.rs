//! More directories than the kernel lets one watch: those without a watch are counted, shown and
//! compared again. The limit is that of a user namespace, as a container has, so that nobody else is
//! concerned.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::wait::{wait_for, wait_until};

const DIRS: u64 = 500;
const WATCHES: u64 = 100;
const KEY: &str = "user.max_inotify_watches";

fn limited() -> [String; 7] {
    let limit = "echo 100 >/proc/sys/user/max_inotify_watches && exec \"$@\"";
    [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        limit,
    ]
    .map(str::to_owned)
}

/// Whether a namespace with a limit of its own can be made here.
#[allow(clippy::print_stderr)]
fn can_be_limited() -> bool {
    let [program, args @ ..] = limited();
    let made = Command::new(program)
        .args(args)
        .args(["sh", "true"])
        .output();
    let made = made.unwrap();
    if !made.status.success() {
        let why = String::from_utf8_lossy(&made.stderr);
        drop(writeln!(
            std::io::stderr(),
            "NOT TESTED: a limit of watches: {why}"
        ));
    }
    made.status.success()
}

fn unwatched(source: &Source<'_>) -> u64 {
    source.report(&["status"])["events"]["unwatched_dirs"]
        .as_u64()
        .unwrap()
}

fn write_everywhere(top: &Path, content: &str) {
    for dir in 0..DIRS {
        let dir = top.join(format!("dir{dir}"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("file"), content).unwrap();
    }
}

/// The number that the last line of the log with the sysctl names, if there is one.
fn advised(source: &Source<'_>) -> Option<u64> {
    let log = source.process.stderr();
    let (_, text) = log.rsplit_once(&format!("sysctl {KEY}="))?;
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[test]
fn directories_without_a_watch_are_compared_until_there_are_enough() {
    if !can_be_limited() {
        return;
    }
    let fixture = Fixture::new();
    write_everywhere(&fixture.source(), "as it was");
    let starter = limited();
    let mut starter: Vec<&str> = starter.iter().map(String::as_str).collect();
    starter.push("sh");
    let source = Source::start_by(&fixture, &starter, &Addresses::on_ports(0, 0));
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    // The root has a watch as well.
    assert_eq!(unwatched(&source), DIRS + 1 - WATCHES);
    let status = source.report(&["status"]);
    assert_eq!(status["sinks"][0]["converged"], false, "{status}");
    let text = source.expect(&["status"]).stdout;
    assert!(
        text.contains("401 unwatched and walked again instead"),
        "{text}"
    );

    // Of the same size, and most of them without any event.
    write_everywhere(&fixture.source(), "as it is.");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    assert_eq!(source.transfer()["sessions"], 1);

    // The operator does as told, and nothing has to be started again.
    let advised = wait_for("advice that suffices", PROMPT, || match advised(&source) {
        Some(watches) if watches > DIRS => Ok(watches),
        advised => Err(format!("{advised:?} was advised")),
    });
    let said = source.process.stderr();
    assert!(said.contains("all 100 watches are in use"), "{said}");
    let pid = source.process.pid().as_raw_pid().to_string();
    let raise = format!("echo {advised} >/proc/sys/user/max_inotify_watches");
    let enter = [
        "--user",
        "--preserve-credentials",
        "--target",
        &pid,
        "sh",
        "-c",
        &raise,
    ];
    let raised = Command::new("nsenter").args(enter).output().unwrap();
    assert!(raised.status.success(), "{raised:?}");
    wait_for("every directory to be watched", CONVERGENCE, || {
        source.flush();
        match unwatched(&source) {
            0 => Ok(()),
            left => Err(format!("{left} are not")),
        }
    });
    write_everywhere(&fixture.source(), "by event.");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    wait_until("a sink that is equal", PROMPT, || {
        source.report(&["status"])["sinks"][0]["converged"] == true
    });
    source.stop(sink);
}
