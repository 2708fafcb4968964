//! Hosts that number their users differently: each endpoint sees its own `/etc/passwd` and `/etc/group`.
//! Needs root's rights, to mount them.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use crate::endpoint::{Addresses, Sink, Source};
use crate::fixture::Fixture;

/// Starts a program in a mount namespace with these two files.
const ON_A_HOST: [&str; 5] = [
    "unshare",
    "--mount",
    "sh",
    "-c",
    "mount --bind \"$0\" /etc/passwd && mount --bind \"$1\" /etc/group && shift && exec \"$@\"",
];

/// Writes the tables of a host; returns what starts a program there.
fn host(fixture: &Fixture, name: &str, users: &str, groups: &str) -> Vec<String> {
    let file = |what: &str, text: &str| {
        let path = fixture.path().join(format!("{name}-{what}"));
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let files = [file("passwd", users), file("group", groups)];
    ON_A_HOST
        .into_iter()
        .map(str::to_owned)
        .chain(files)
        .collect()
}

fn words(starter: &[String]) -> Vec<&str> {
    starter.iter().map(String::as_str).collect()
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = path.symlink_metadata().unwrap();
    (metadata.uid(), metadata.gid())
}

/// The entries of an ACL that name somebody, with numbers.
fn named(path: &Path) -> Vec<String> {
    let output = Command::new("getfacl")
        .args(["-nEp"])
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let is_named = |line: &&str| {
        let who = line.trim_start_matches("default:");
        (who.starts_with("user:") || who.starts_with("group:")) && !who.contains("::")
    };
    text.lines().filter(is_named).map(str::to_owned).collect()
}

fn allow(args: &[&str], path: &Path) {
    let done = Command::new("setfacl")
        .args(args)
        .arg(path)
        .status()
        .unwrap();
    assert!(done.success());
}

#[test]
#[allow(clippy::print_stderr)]
fn owners_are_matched_by_name_where_that_is_wanted() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("NOT TRIED: other hosts: only root can mount their tables");
        return;
    }
    let fixture = Fixture::new();
    let old = host(
        &fixture,
        "old",
        "root:x:0:0::/:\nann:x:7001:7001::/:\nbob:x:7002:7002::/:\n",
        "root:x:0:\nann:x:7001:\nbob:x:7002:\nstaff:x:7100:\n",
    );
    // Here ann has the number that bob has there, and staff another one.
    let new = host(
        &fixture,
        "new",
        "root:x:0:0::/:\nann:x:7002:7002::/:\nbob:x:7001:7001::/:\n",
        "root:x:0:\nann:x:7002:\nbob:x:7001:\nstaff:x:7200:\n",
    );
    let (from, to) = (fixture.source(), fixture.target());
    fs::create_dir(from.join("dir")).unwrap();
    for (path, uid, gid) in [
        ("dir/ann", 7001, 7001),
        ("dir/bob", 7002, 7100),
        ("dir/stranger", 7999, 7999),
    ] {
        fs::write(from.join(path), path).unwrap();
        chown(from.join(path), Some(uid), Some(gid)).unwrap();
    }
    symlink("nowhere", from.join("dir/link")).unwrap();
    lchown(from.join("dir/link"), Some(7001), Some(7100)).unwrap();
    chown(from.join("dir"), Some(7002), Some(7002)).unwrap();
    allow(
        &["-m", "u:7001:r,u:7002:rw,g:7100:rwx,u:7999:r"],
        &from.join("dir/bob"),
    );
    allow(&["-d", "-m", "u:7001:rwx,g:7100:r"], &from.join("dir"));

    let source = Source::start_by(&fixture, &words(&old), &Addresses::on_ports(0, 0));
    let sink = Sink::start_by(
        &fixture,
        &words(&new),
        &source.addresses,
        &["--owners", "names"],
    );
    source.wait_for_phase("transfer");
    source.flush();
    let check = || {
        assert_eq!(owner(&to.join("dir")), (7001, 7001));
        assert_eq!(owner(&to.join("dir/ann")), (7002, 7002));
        assert_eq!(owner(&to.join("dir/bob")), (7001, 7200));
        assert_eq!(owner(&to.join("dir/link")), (7002, 7200));
        assert_eq!(owner(&to.join("dir/stranger")), (7999, 7999));
        assert_eq!(
            named(&to.join("dir/bob")),
            [
                "user:7001:rw-",
                "user:7002:r--",
                "user:7999:r--",
                "group:7200:rwx"
            ]
        );
        assert_eq!(
            named(&to.join("dir")),
            ["default:user:7002:rwx", "default:group:7200:r--"]
        );
    };
    check();

    // A comparison takes them for the same, and nothing is sent again.
    let before = source.transfer()["sent_mark"].as_u64().unwrap();
    source.expect(&["rescan", "."]);
    source.flush();
    let sent = source.transfer()["sent_mark"].as_u64().unwrap() - before;
    assert!(sent <= 4, "{sent} messages for two directories");
    check();

    // The live lane does the same.
    chown(from.join("dir/stranger"), Some(7001), Some(7100)).unwrap();
    source.flush();
    assert_eq!(owner(&to.join("dir/stranger")), (7002, 7200));
    source.stop(sink);
}
