//! Filters: the same options mean the same to rsync, and what they exclude is left alone.

use std::fs;
use std::path::Path;

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::rsync_difference_with;
use crate::wait::wait_until;

/// Excluded entries in a directory of the target, which are nobody's but the target's.
fn plant(dir: &Path) {
    fs::create_dir_all(dir.join("dir.own/sub")).unwrap();
    fs::write(dir.join("dir.own/sub/file"), "the target's").unwrap();
    fs::write(dir.join("file.own"), "the target's").unwrap();
}

fn assert_planted(dir: &Path) {
    for at in ["dir.own/sub/file", "file.own"] {
        let content = fs::read_to_string(dir.join(at)).unwrap();
        assert_eq!(content, "the target's", "{at}");
    }
}

/// Everything below a directory, relative to it.
fn names(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        found.push(entry.path());
        if entry.file_type().unwrap().is_dir() {
            names(&entry.path(), found);
        }
    }
}

#[test]
fn the_same_options_leave_rsync_nothing_to_do() {
    let fixture = Fixture::populated(2_000, 31);
    let (source, target) = (fixture.source(), fixture.target());
    let rules = fixture.path().join("rules");
    fs::write(
        &rules,
        "# ours\n- *.own\n\n; theirs\n- /d*1/f*\n+ d*9\n- d*/d*[68]/\n",
    )
    .unwrap();
    let from = rules.to_str().unwrap();
    let given = [
        "--include",
        "c*13",
        "--exclude",
        "*3",
        "--filter-from",
        from,
    ];
    let rsync = [
        "--include=c*13".to_owned(),
        "--exclude=*3".to_owned(),
        format!("--filter=. {from}"),
    ];
    plant(&target);

    let endpoint = Source::start_with(&fixture, &Addresses::on_ports(0, 0), &given);
    // Many renames have one excluded end, so that they are removals, of more than the brake would admit.
    let more = ["--adopt", "--set", "brake_floor_entries=1000000"];
    let sink = Sink::start_with(&fixture, &target, &endpoint.addresses, &more);
    endpoint.wait_for_phase("transfer");
    fixture.churn(5, 32).finish();
    // Beside each other in one directory, after the users who would remove it.
    fs::create_dir(source.join("stays")).unwrap();
    fs::write(source.join("stays/own.own"), "the source's").unwrap();
    endpoint.flush();
    plant(&target.join("stays"));
    endpoint.expect(&["rescan", "stays"]);
    endpoint.flush();
    assert_eq!(rsync_difference_with(&rsync, &source, &target), "");
    assert_planted(&target);
    assert_planted(&target.join("stays"));
    assert!(!fs::exists(target.join("stays/own.own")).unwrap());

    let mut found = Vec::new();
    names(&source, &mut found);
    let theirs = found.len();
    found.clear();
    names(&target, &mut found);
    assert!(
        found.len() < theirs * 9 / 10,
        "{} of {theirs} were copied",
        found.len()
    );
    endpoint.stop(sink);
}

#[test]
fn a_removed_directory_keeps_what_is_excluded() {
    let fixture = Fixture::new();
    let (source, target) = (fixture.source(), fixture.target());
    fs::create_dir_all(source.join("a/b/c")).unwrap();
    fs::write(source.join("a/b/c/file"), "1").unwrap();
    let endpoint = Source::start_with(
        &fixture,
        &Addresses::on_ports(0, 0),
        &["--exclude", "*.own"],
    );
    let sink = Sink::start(&fixture, &endpoint.addresses);
    endpoint.wait_for_phase("transfer");
    endpoint.flush();
    plant(&target.join("a/b"));
    fs::remove_dir_all(source.join("a")).unwrap();
    endpoint.flush();
    assert_planted(&target.join("a/b"));
    assert!(!fs::exists(target.join("a/b/c")).unwrap());
    assert!(endpoint.transfer()["kept_dirs"].as_u64() > Some(0));
    // rsync has nothing to do either, and says why.
    let said = rsync_difference_with(&["--exclude=*.own".to_owned()], &source, &target);
    for line in said.lines() {
        // In a dry run it believes that a directory goes before it finds that it does not.
        let named = line
            .trim_start_matches("*deleting")
            .trim_end_matches('/')
            .trim();
        let kept = named.trim_start_matches("cannot delete non-empty directory: ");
        assert!(["a", "a/b"].contains(&kept), "{said}");
    }
    // It is no reason not to be equal.
    wait_until("a sink that is equal", PROMPT, || {
        endpoint.report(&["status"])["sinks"][0]["converged"] == true
    });
    endpoint.stop(sink);
}

#[test]
fn an_operator_is_told_that_a_path_is_excluded() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.source().join("out")).unwrap();
    let endpoint = Source::start_with(&fixture, &Addresses::on_ports(0, 0), &["--exclude", "/out"]);
    for args in [["rescan", "out/sub"], ["enqueue", "out"]] {
        let refused = endpoint.run(&args, PROMPT);
        assert_eq!(refused.code, Some(64), "{refused:?}");
        assert!(
            refused.stderr.contains("is excluded by the rule '- /out'"),
            "{refused:?}"
        );
    }
    endpoint.expect(&["enqueue", "in"]);
    endpoint.expect(&["stop"]);
}

#[test]
fn a_push_is_filtered_and_a_wrong_rule_starts_nothing() {
    let fixture = Fixture::new();
    let (source, target) = (fixture.source(), fixture.target());
    for name in ["a", "b"] {
        fs::write(source.join(name), name).unwrap();
    }
    let push = |args: &[&str]| {
        let mut command = fixture.osync("push");
        command
            .arg("push")
            .arg(&source)
            .arg(&target)
            .arg("--once")
            .args(args);
        fixture.run("push", &mut command, CONVERGENCE)
    };
    let rules = fixture.path().join("rules");
    fs::write(&rules, "- b\n.  other\n").unwrap();
    let refused = push(&["--filter-from", rules.to_str().unwrap()]);
    assert_eq!(refused.code, Some(78), "{refused:?}");
    assert!(
        refused
            .stderr
            .contains("rules:2: a rule is '+ PATTERN' or '- PATTERN'")
    );
    assert_eq!(push(&["--exclude", ""]).code, Some(64));

    assert_eq!(push(&["--exclude", "b"]).code, Some(0));
    assert!(fs::exists(target.join("a")).unwrap() && !fs::exists(target.join("b")).unwrap());
    // From the configuration file, which the command line replaces; the rest is compared as a whole.
    let config = fixture.path().join("osync.toml");
    fs::write(&config, "filter = ['- a']\n").unwrap();
    assert_eq!(push(&["--config", config.to_str().unwrap()]).code, Some(0));
    assert!(fs::exists(target.join("a")).unwrap() && fs::exists(target.join("b")).unwrap());
    fs::remove_file(source.join("a")).unwrap();
    fs::remove_file(source.join("b")).unwrap();
    // An empty root would be taken for a missing mount.
    fs::write(source.join("c"), "3").unwrap();
    assert_eq!(push(&["--config", config.to_str().unwrap()]).code, Some(0));
    assert!(fs::exists(target.join("a")).unwrap() && !fs::exists(target.join("b")).unwrap());
}
