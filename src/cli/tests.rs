#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::CommandFactory;

use super::*;

/// A stream that keeps what was printed, or fails.
#[derive(Clone, Default)]
struct Printed(Rc<RefCell<Vec<u8>>>, Option<io::ErrorKind>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.1 {
            Some(kind) => Err(kind.into()),
            None => self.0.borrow_mut().write(bytes),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn osync_printing(output: Printed, args: &[&str]) -> (u8, String, String) {
    let error = Printed::default();
    let mut console = Console {
        input: Box::new(io::empty()),
        output: Box::new(output.clone()),
        error: Box::new(error.clone()),
        is_terminal: false,
    };
    let args = ["osync"].iter().chain(args).map(OsString::from);
    let code = run(args, &mut console, |_| {});
    let text = |printed: Printed| String::from_utf8(printed.0.borrow().clone()).unwrap();
    (code, text(output), text(error))
}

/// Exit code, standard output and standard error of a command.
fn osync(args: &[&str]) -> (u8, String, String) {
    osync_printing(Printed::default(), args)
}

/// Exit code and standard error of a command that must fail.
fn failed(args: &[&str]) -> (u8, String) {
    let (code, output, error) = osync(args);
    assert_ne!(code, 0, "{args:?}");
    assert_eq!(output, "", "{args:?}");
    (code, error)
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_short() {
    let (code, help, _) = osync(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.lines().count() <= 30);
    insta::assert_snapshot!(help);
}

#[test]
fn every_subcommand_has_help_with_an_example() {
    let mut text = String::new();
    for command in Cli::command().get_subcommands() {
        let (code, help, _) = osync(&[command.get_name(), "--help"]);
        assert_eq!(code, 0);
        assert!(help.contains(&format!("Example:\n  ")), "{help}");
        text.push_str(&format!("$ osync {} --help\n{help}\n", command.get_name()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_reports_speaks_json() {
    for name in
        ["status", "report", "flush", "pause", "resume", "rescan", "enqueue", "stop"]
    {
        let command = Cli::command();
        let command = command.find_subcommand(name).unwrap();
        assert!(command.get_arguments().any(|arg| arg.get_id() == "json"), "{name}");
    }
}

#[test]
fn usage_errors_exit_with_64() {
    for args in [
        &[][..],
        &["frobnicate"],
        &["status", "--frobnicate"],
        &["source"],
        &["push", "/src"],
        &["report", "everything"],
        &["flush", "--timeout", "soon"],
        &["enqueue"],
        &["status", "--command", "tcp://127.0.0.1:65536"],
        &["source", "/", "--data", "tcp://127.0.0.1:x"],
        &["source", "/", "--watch", "fanotify"],
        &["source", "/", "--set", "colour=red"],
        &["source", "/", "--set", "window_messages=1"],
        &["push", "/src", "user@host:/dst"],
    ] {
        let (code, error) = failed(args);
        assert_eq!(code, 64, "{args:?}: {error}");
        assert_ne!(error, "", "{args:?}");
    }
}

#[test]
fn a_wrong_configuration_exits_with_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("osync.toml");
    std::fs::write(&file, "watch = 'inotify'\ncolour = 'red'\n").unwrap();
    for args in [&["source", "/"][..], &["sink", "/"], &["status"]] {
        let (code, error) = failed(&[args, &["--config", file.to_str().unwrap()]].concat());
        assert_eq!(code, 78, "{error}");
        assert!(error.contains("osync.toml:2: unknown field `colour`"), "{error}");
    }
    let (code, error) = failed(&["status", "--config", "/nowhere/osync.toml"]);
    assert_eq!(code, 78);
    assert!(error.contains("/nowhere/osync.toml"), "{error}");
    let (code, error) = failed(&["source", "/", "--command", "tcp://0.0.0.0:7440"]);
    assert_eq!(code, 78);
    assert!(error.contains("--insecure-bind"), "{error}");
    let (code, error) = failed(&["sink", "/", "--data", "tcp://127.0.0.1:0"]);
    assert_eq!(code, 78);
    assert!(error.contains("data: tcp://127.0.0.1:0 is no port"), "{error}");
}

#[test]
fn nobody_there_exits_with_69_and_a_hint() {
    let (code, error) = failed(&["status", "--command", "ipc:///nowhere/osync"]);
    assert_eq!(code, 69, "{error}");
    assert!(error.contains("hint: is 'osync source' running there?"), "{error}");
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
    let closed = Printed(Rc::default(), Some(io::ErrorKind::BrokenPipe));
    assert_eq!(osync_printing(closed, &["--help"]).0, 0);
    let full = Printed(Rc::default(), Some(io::ErrorKind::StorageFull));
    assert_eq!(osync_printing(full, &["--version"]).0, 1);
}
