//! Endpoints that may not do everything: what cannot be preserved is said, counted, and not sent for
//! ever. Needs root's rights, to give them up.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;

use rustix::fs::{CWD, FileType, Mode, XattrFlags};
use serde_json::{Value, json};

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::wait::wait_for;

const NOBODY: u32 = 65_534;
const AS_NOBODY: [&str; 4] = [
    "setpriv",
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
];

/// A capability to bind any port, as the kernel stores it.
const CAPABILITY: &[u8] = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// A fixture whose target and state directories belong to an ordinary user, if we are root.
#[allow(clippy::print_stderr)]
fn for_nobody() -> Option<Fixture> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TRIED: another user: only root can become one");
        return None;
    }
    let fixture = Fixture::new();
    fs::set_permissions(fixture.path(), Permissions::from_mode(0o755)).unwrap();
    for role in ["sink", "push"] {
        let state = fixture.path().join(format!("state-{role}"));
        fs::create_dir(&state).unwrap();
        give(&state, NOBODY);
    }
    give(&fixture.target(), NOBODY);
    Some(fixture)
}

fn give(path: &Path, owner: u32) {
    chown(path, Some(owner), Some(owner)).unwrap();
}

fn make(path: &Path, owner: u32, content: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
    give(path, owner);
}

/// What rsync would change if owners and attributes did not count.
fn difference(source: &Path, target: &Path) -> String {
    let with_slash = |path: &Path| format!("{}/", path.display());
    let output = Command::new("rsync")
        .args([
            "-rlptSn",
            "--checksum",
            "--delete",
            "-i",
            "--modify-window=-1",
        ])
        .args([with_slash(source), with_slash(target)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// How many entries each limit of the only sink concerns.
fn counts(status: &Value) -> Value {
    let limits = status["sinks"][0]["limits"].as_array().unwrap();
    let count = |limit: &Value| {
        (
            limit["kind"].as_str().unwrap().to_owned(),
            limit["entries"].clone(),
        )
    };
    limits
        .iter()
        .map(count)
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn flush(source: &Source<'_>) -> (Option<i32>, String) {
    let finished = source.run(&["flush", "--timeout", "60s"], CONVERGENCE);
    (finished.code, finished.stderr)
}

#[test]
fn a_sink_that_is_not_root_says_what_it_cannot_keep() {
    let Some(fixture) = for_nobody() else { return };
    let tree = fixture.source();
    for number in 0..300 {
        make(
            &tree.join(format!("own/{number}")),
            NOBODY,
            &number.to_string(),
        );
    }
    for number in 0..20 {
        make(&tree.join(format!("foreign/{number}")), 1234, "not mine");
    }
    let server = tree.join("own/server");
    make(&server, NOBODY, "binds port 80");
    rustix::fs::setxattr(
        &server,
        "security.capability",
        CAPABILITY,
        XattrFlags::empty(),
    )
    .unwrap();
    for dir in [&tree, &tree.join("own")] {
        give(dir, NOBODY);
    }
    let source = Source::start(&fixture);
    let mut sink = Sink::start_by(&fixture, &AS_NOBODY, &source.addresses, &[]);
    source.wait_for_phase("transfer");

    // It ends, says so, and never claims success.
    let (code, said) = flush(&source);
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("equal except for what the target cannot hold: owners of 21 entries, capabilities of 1 entries"),
        "{said}"
    );
    let status = source.report(&["status"]);
    let expected = json!({
        "owners": 21, "trusted-xattrs": 0, "security-xattrs": 1, "devices": 0,
    });
    assert_eq!(counts(&status), expected);
    assert_eq!(status["sinks"][0]["settled"], true, "{status}");
    assert_eq!(status["sinks"][0]["converged"], false, "{status}");
    let text = source.expect(&["status"]).stdout;
    assert!(
        text.contains("owners (21 entries): everything belongs to user 65534"),
        "{text}"
    );
    assert!(text.contains("equal except for its limits"), "{text}");
    assert!(
        sink.process
            .stderr()
            .contains("limit of the target: devices"),
        "no word at the start"
    );
    assert_eq!(difference(&tree, &fixture.target()), "");

    // A comparison finds nothing that would have to be sent again.
    let before = source.transfer();
    source.expect(&["rescan", "."]);
    assert_eq!(flush(&source).0, Some(2));
    let after = source.transfer();
    let sent = after["sent_mark"].as_u64().unwrap() - before["sent_mark"].as_u64().unwrap();
    assert!(sent <= 10, "{sent} messages: {after}");
    assert_eq!(
        counts(&source.report(&["status"])),
        expected,
        "it counts the same again"
    );

    // What cannot be made at all is a problem with its reason.
    let null = rustix::fs::makedev(1, 3);
    rustix::fs::mknodat(
        CWD,
        tree.join("null"),
        FileType::CharacterDevice,
        Mode::RUSR,
        null,
    )
    .unwrap();
    give(&tree.join("null"), NOBODY);
    let problem = wait_for("the problem", PROMPT, || {
        let report = source.report(&["report", "problems"]);
        let first = report["problems"][0].clone();
        (!first.is_null())
            .then_some(first)
            .ok_or(report.to_string())
    });
    assert_eq!(
        (&problem["path"], &problem["errno"]),
        (&json!("null"), &json!(libc::EPERM))
    );
    assert_eq!(flush(&source).0, Some(2));

    // Once nothing is left that it cannot keep, it is equal.
    fs::remove_file(tree.join("null")).unwrap();
    rustix::fs::removexattr(&server, "security.capability").unwrap();
    give(&tree.join("foreign"), NOBODY);
    for entry in fs::read_dir(tree.join("foreign")).unwrap() {
        give(&entry.unwrap().path(), NOBODY);
    }
    source.expect(&["rescan", "."]);
    wait_for("equal trees", CONVERGENCE, || match flush(&source) {
        (Some(0), _) => Ok(()),
        (_, said) => Err(said),
    });
    crate::judge::assert_equal(&tree, &fixture.target());
    sink.process.assert_running();
    source.stop(sink);
}

#[test]
fn push_once_does_not_claim_success_over_a_limit() {
    let Some(fixture) = for_nobody() else { return };
    let tree = fixture.source();
    make(&tree.join("dir/mine"), NOBODY, "mine");
    for dir in [&tree, &tree.join("dir")] {
        give(dir, NOBODY);
    }
    let once = |name: &str| {
        let mut push = fixture.osync_by("push", &AS_NOBODY);
        push.arg("push")
            .arg(&tree)
            .arg(fixture.target())
            .arg("--once");
        fixture.run(name, &mut push, CONVERGENCE)
    };
    // A user's own tree can be held by the same user.
    let own = once("push-own");
    assert_eq!(own.code, Some(0), "{}", own.stderr);
    assert!(
        own.stderr
            .contains("limit of this source: trusted attributes"),
        "{}",
        own.stderr
    );
    crate::judge::assert_equal(&tree, &fixture.target());

    make(&tree.join("dir/foreign"), 0, "readable all the same");
    for name in ["push-foreign", "push-foreign-again"] {
        let foreign = once(name);
        assert_eq!(foreign.code, Some(2), "{}", foreign.stderr);
        assert!(
            foreign.stderr.contains("owners of 1 entries"),
            "{}",
            foreign.stderr
        );
    }
    assert_eq!(difference(&tree, &fixture.target()), "");
}

#[test]
fn a_source_that_is_not_root_says_what_it_cannot_see() {
    let Some(fixture) = for_nobody() else { return };
    let state = fixture.path().join("state-source");
    fs::create_dir(&state).unwrap();
    give(&state, NOBODY);
    make(&fixture.source().join("f"), NOBODY, "1");
    let source = Source::start_by(&fixture, &AS_NOBODY, &Addresses::on_ports(0, 0));
    let status = source.report(&["status"]);
    let limit = &status["limits"][0];
    assert_eq!(
        (&limit["kind"], &limit["entries"]),
        (&json!("trusted-xattrs"), &Value::Null)
    );
    let text = source.expect(&["status"]).stdout;
    assert!(
        text.contains("trusted attributes: they cannot be seen"),
        "{text}"
    );
}
