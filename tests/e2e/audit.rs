//! Changes that no event reports are found by the audit, repaired and counted.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::wait::wait_for;

fn start<'a>(fixture: &'a Fixture, more: &[&str]) -> (Source<'a>, Sink) {
    let source = Source::start_with(fixture, &Addresses::on_ports(0, 0), more);
    let sink = Sink::start(fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    (source, sink)
}

fn audit(source: &Source<'_>, key: &str) -> u64 {
    source.report(&["status"])["audit"][key].as_u64().unwrap()
}

/// Waits until both trees are equal, though nothing was flushed, and this much was counted.
fn wait_until_found(source: &Source<'_>, fixture: &Fixture, found: u64) {
    wait_for("what the audit has found", CONVERGENCE, || {
        let difference = rsync_difference(&fixture.source(), &fixture.target());
        let counted = audit(source, "found");
        match difference.is_empty() && counted >= found {
            true => Ok(()),
            false => Err(format!("{counted} found; {difference}")),
        }
    });
}

/// A file that is written through a shared mapping. Only its end is reported, by inotify as a file that
/// was closed.
struct Mapped {
    at: *mut libc::c_void,
    len: usize,
}

impl Mapped {
    fn write(path: &Path, content: &[u8]) -> Self {
        let file = OpenOptions::new().read(true).write(true).open(path);
        let (file, len) = (file.unwrap(), content.len());
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        let none = std::ptr::null_mut();
        // SAFETY: the mapping is as long as the file, and nothing else knows of it.
        unsafe {
            let at = libc::mmap(none, len, rights, libc::MAP_SHARED, file.as_raw_fd(), 0);
            assert_ne!(at, libc::MAP_FAILED);
            std::ptr::copy_nonoverlapping(content.as_ptr(), at.cast(), len);
            assert_eq!(libc::msync(at, len, libc::MS_SYNC), 0);
            Self { at, len }
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: it was mapped like this, and nobody uses it any more.
        unsafe { libc::munmap(self.at, self.len) };
    }
}

#[test]
fn what_no_event_reports_is_found_and_counted() {
    let fixture = Fixture::new();
    let (root, outside) = (fixture.source(), fixture.path().join("outside"));
    fs::create_dir_all(root.join("a/b")).unwrap();
    fs::write(root.join("a/b/linked"), "old").unwrap();
    fs::hard_link(root.join("a/b/linked"), &outside).unwrap();
    fs::write(root.join("a/mapped"), "old content").unwrap();
    fs::write(root.join("plain"), "1").unwrap();
    let (source, sink) = start(&fixture, &["--audit-interval", "1s"]);
    let completed = audit(&source, "completed");
    wait_for("an audit", CONVERGENCE, || {
        match audit(&source, "completed") {
            now if now > completed => Ok(()),
            now => Err(now.to_string()),
        }
    });
    assert_eq!(audit(&source, "found"), 0, "nothing is to be found yet");

    let mut file = OpenOptions::new().append(true).open(&outside).unwrap();
    file.write_all(b" and new").unwrap();
    drop(file);
    wait_until_found(&source, &fixture, 1);
    let mapped = Mapped::write(&root.join("a/mapped"), b"new content");
    wait_until_found(&source, &fixture, 2);
    drop(mapped);
    let text = source.expect(&["status"]).stdout;
    assert!(text.contains("2 changes found by"), "{text}");
    source.stop(sink);
}

/// A program that shows one directory under another name stands for another host that has it mounted.
#[test]
fn network_file_systems_are_told_of_and_audited() {
    let fixture = Fixture::new();
    let behind = fixture.path().join("behind");
    fs::create_dir(&behind).unwrap();
    if File::open("/dev/fuse").is_err() {
        let said = b"NOT TESTED: audits of FUSE: /dev/fuse cannot be opened\n";
        return std::io::stderr().write_all(said).unwrap();
    }
    let mut bindfs = Command::new("bindfs");
    bindfs.arg(&behind).arg(fixture.source());
    fixture.start("bindfs", &mut bindfs).expect_success(PROMPT);
    let _mounted = Mounted(fixture.source());
    fs::write(fixture.source().join("file"), "1").unwrap();
    let (mut source, _sink) = start(&fixture, &["--set", "audit_interval=\"1s\""]);
    let told = source.process.stderr();
    assert!(told.contains("lies on FUSE"), "{told}");
    fs::write(behind.join("file"), "changed behind its back").unwrap();
    fs::write(behind.join("new"), "2").unwrap();
    wait_until_found(&source, &fixture, 1);
    source.process.kill();

    let source = Source::start(&fixture);
    let status: Value = source.report(&["status"]);
    assert_eq!(
        status["audit"]["interval_ms"], 600_000,
        "more often than each day"
    );
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let flags = rustix::mount::UnmountFlags::DETACH;
        let _ = rustix::mount::unmount(&self.0, flags);
    }
}
