//! Nobody takes what the daemons log: standard error is full, closed, never read, or was a terminal that
//! is gone. Lines are lost then, and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;

use crate::endpoint::{Addresses, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;

/// Everything is logged, so that there is much to be lost.
const LOUD: [&str; 2] = ["--log-level", "trace"];

/// Starts osync with something else as its standard error.
fn with_stderr(redirection: &str) -> [String; 4] {
    let run = format!("exec \"$@\" {redirection}");
    ["bash", "-c", &run, "bash"].map(str::to_owned)
}

fn start<'a>(fixture: &'a Fixture, starter: &[String]) -> (Source<'a>, Sink) {
    let starter: Vec<&str> = starter.iter().map(String::as_str).collect();
    let source = Source::start_by_with(fixture, &starter, &Addresses::on_ports(0, 0), &LOUD);
    let sink = Sink::start_by(fixture, &starter, &source.addresses, &LOUD);
    source.wait_for_phase("transfer");
    (source, sink)
}

/// Gives both something to log, and sees that all goes on.
fn expect_work(fixture: &Fixture, source: &Source<'_>, round: u32) {
    for dir in 0..30 {
        let dir = fixture.source().join(format!("round{round}/dir{dir}"));
        fs::create_dir_all(&dir).unwrap();
        for file in 0..30 {
            fs::write(dir.join(format!("{file}")), format!("{round}")).unwrap();
        }
    }
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
}

/// A session is lost and found as well, which logs on both sides at the levels that are always on.
fn goes_on(redirection: &str) {
    let fixture = Fixture::new();
    let starter = with_stderr(redirection);
    let (source, mut sink) = start(&fixture, &starter);
    expect_work(&fixture, &source, 0);
    sink.process.kill();
    source.wait_for_phase("initialisation");
    let words: Vec<&str> = starter.iter().map(String::as_str).collect();
    let sink = Sink::start_by(&fixture, &words, &source.addresses, &LOUD);
    source.wait_for_phase("transfer");
    expect_work(&fixture, &source, 1);
    source.stop(sink);
}

#[test]
fn a_full_disk_for_logs() {
    goes_on("2>/dev/full");
}

#[test]
fn a_closed_pipe() {
    goes_on("2> >(exit 0)");
}

#[test]
fn no_standard_error_at_all() {
    goes_on("2>&-");
}

#[test]
fn a_reader_that_never_reads() {
    let fixture = Fixture::new();
    let pipe = fixture.path().join("never read");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let mut reader = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&pipe)
        .unwrap();
    // Full from the start: whoever writes one more line waits for ever.
    while reader.write(&[b'.'; 512]).is_ok() {}
    let (source, sink) = start(&fixture, &with_stderr("2>'never read'"));
    for round in 0..3 {
        expect_work(&fixture, &source, round);
    }
    source.stop(sink);
}

/// A terminal, and how a program finds it.
struct Terminal {
    _master: OwnedFd,
    path: String,
}

impl Terminal {
    fn open() -> Self {
        // SAFETY: without buffers for names or settings this only makes two descriptors.
        let (master, path) = unsafe {
            let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
            assert!(master >= 0, "{}", std::io::Error::last_os_error());
            let master = OwnedFd::from_raw_fd(master);
            let fd = std::os::fd::AsRawFd::as_raw_fd(&master);
            assert_eq!(libc::unlockpt(fd), 0);
            let mut name = [0; 64];
            assert_eq!(libc::ptsname_r(fd, name.as_mut_ptr(), name.len()), 0);
            let path = std::ffi::CStr::from_ptr(name.as_ptr());
            (master, path.to_str().unwrap().to_owned())
        };
        drop(File::open(&path).unwrap());
        Self {
            _master: master,
            path,
        }
    }

    /// Starts osync in a session of its own, whose terminal this is.
    fn starter(&self, first: &str) -> [String; 7] {
        let run = format!("{first} exec 3<>{0}; exec 2>&3 \"$@\"", self.path);
        // The tests themselves may run under nohup.
        let fresh = "--default-signal=HUP";
        ["setsid", "env", fresh, "bash", "-c", &run, "bash"].map(str::to_owned)
    }
}

/// Closing the terminal of a program in the foreground ends it, in order.
#[test]
fn a_closed_terminal_ends_in_order() {
    let fixture = Fixture::new();
    let terminals = [Terminal::open(), Terminal::open()];
    let [of_source, of_sink] = terminals.each_ref().map(|terminal| terminal.starter(""));
    let words: Vec<&str> = of_source.iter().map(String::as_str).collect();
    let mut source = Source::start_by(&fixture, &words, &Addresses::on_ports(0, 0));
    let words: Vec<&str> = of_sink.iter().map(String::as_str).collect();
    let mut sink = Sink::start_by(&fixture, &words, &source.addresses, &[]);
    source.wait_for_phase("transfer");
    expect_work(&fixture, &source, 0);
    let [of_source, of_sink] = terminals;
    drop(of_sink);
    sink.process.expect_success(PROMPT);
    assert!(!fixture.target().join(".osync-stage").exists());
    source.process.assert_running();
    drop(of_source);
    source.process.expect_success(PROMPT);
}

/// Whoever started it under nohup wants it to stay.
#[test]
fn a_closed_terminal_is_survived_under_nohup() {
    let fixture = Fixture::new();
    let terminal = Terminal::open();
    let ignored = "trap '' HUP;";
    let starter = terminal.starter(ignored);
    let (mut source, mut sink) = start(&fixture, &starter);
    expect_work(&fixture, &source, 0);
    drop(terminal);
    // From now on whatever they write there fails.
    for round in 1..3 {
        expect_work(&fixture, &source, round);
    }
    source.process.assert_running();
    sink.process.assert_running();
    source.stop(sink);
}
