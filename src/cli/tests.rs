#![allow(clippy::unwrap_used)]

use std::cell::RefCell;
use std::io::{self, Write};
use std::rc::Rc;

use clap::CommandFactory;

use super::*;

/// A stream that keeps what was printed, or fails.
#[derive(Clone, Default)]
pub(super) struct Printed(Rc<RefCell<Vec<u8>>>, Option<io::ErrorKind>);

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

/// A console with this input; what is printed to standard output and error is kept.
pub(super) fn console(input: impl Into<Vec<u8>>) -> (Console, Printed, Printed) {
    let (output, error) = (Printed::default(), Printed::default());
    let console = Console {
        input: Box::new(io::Cursor::new(input.into())),
        output: Box::new(output.clone()),
        error: Box::new(error.clone()),
        is_terminal: false,
    };
    (console, output, error)
}

fn osync_on(console: &mut Console, args: &[&str]) -> u8 {
    run(
        ["osync"].iter().chain(args).map(OsString::from),
        console,
        |_| {},
    )
}

fn osync_with(input: impl Into<Vec<u8>>, args: &[&str]) -> (u8, String, String) {
    let (mut console, output, error) = console(input);
    let code = osync_on(&mut console, args);
    let text = |printed: Printed| String::from_utf8(printed.0.borrow().clone()).unwrap();
    (code, text(output), text(error))
}

/// Exit code, standard output and standard error of a command.
fn osync(args: &[&str]) -> (u8, String, String) {
    osync_with([], args)
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
        assert!(help.contains("Example:\n  "), "{help}");
        text.push_str(&format!("$ osync {} --help\n{help}\n", command.get_name()));
    }
    insta::assert_snapshot!(text);
}

#[test]
fn what_reports_speaks_json() {
    for name in [
        "status", "report", "flush", "pause", "resume", "limit", "rescan", "enqueue", "stop",
    ] {
        let command = Cli::command();
        let command = command.find_subcommand(name).unwrap();
        assert!(
            command.get_arguments().any(|arg| arg.get_id() == "json"),
            "{name}"
        );
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
        &["limit", "fast"],
        &["limit", "1KB/s"],
        &["limit", "--iops", "0"],
        &["source", "/", "--limit-bandwidth", "0"],
        &["source", "/", "--limit-iops", "many"],
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
        assert!(
            error.contains("osync.toml:2: unknown field `colour`"),
            "{error}"
        );
    }
    let (code, error) = failed(&["status", "--config", "/nowhere/osync.toml"]);
    assert_eq!(code, 78);
    assert!(error.contains("/nowhere/osync.toml"), "{error}");
    let (code, error) = failed(&["source", "/", "--command", "tcp://0.0.0.0:7440"]);
    assert_eq!(code, 78);
    assert!(error.contains("--insecure-bind"), "{error}");
    let (code, error) = failed(&["sink", "/", "--data", "tcp://127.0.0.1:0"]);
    assert_eq!(code, 78);
    assert!(
        error.contains("data: tcp://127.0.0.1:0 is no port"),
        "{error}"
    );
}

#[test]
fn nobody_there_exits_with_69_and_a_hint() {
    let (code, error) = failed(&["status", "--command", "ipc:///nowhere/osync"]);
    assert_eq!(code, 69, "{error}");
    assert!(
        error.contains("hint: is 'osync source' running there?"),
        "{error}"
    );
}

#[test]
fn a_reader_that_went_away_is_no_error_and_a_full_disk_is_one() {
    for (failure, args, code) in [
        (io::ErrorKind::BrokenPipe, &["--help"], 0),
        (io::ErrorKind::StorageFull, &["--version"], 1),
    ] {
        let (mut console, _, _) = console([]);
        console.output = Box::new(Printed(Rc::default(), Some(failure)));
        assert_eq!(osync_on(&mut console, args), code);
    }
}

/// Commands against a source that answers as told, over the real channel.
mod with_a_source {
    use std::sync::mpsc;
    use std::thread::JoinHandle;

    use tokio::sync::oneshot;

    use super::*;
    use crate::channel::zmtp::{Exposure, Listener};
    use crate::channel::{Channel, Incoming};
    use crate::cli::render::tests::{
        sample_problems, sample_queue, sample_status, sample_transfer,
    };
    use crate::report::RateLimits;
    use crate::wire::message::{
        Command, ENTRIES_MAX, ErrorAnswer, ErrorCode, FlushResult, Reply, Request,
    };
    use crate::wire::{decode_command, encode_command};

    /// A source on a port of its own, until it is told to end.
    struct Source {
        address: String,
        end: oneshot::Sender<()>,
        serving: JoinHandle<Vec<Request>>,
    }

    fn source(answer: fn(&Request) -> Reply) -> Source {
        let (tell, told) = mpsc::channel();
        let (end, mut ended) = oneshot::channel();
        let serving = std::thread::spawn(move || {
            let serve = async {
                let (mut listener, address) =
                    Listener::bind("tcp://127.0.0.1:0", Exposure::Loopback).await?;
                tell.send(address).unwrap();
                let mut asked = Vec::new();
                loop {
                    let incoming = tokio::select! {
                        incoming = listener.recv() => incoming,
                        _ = &mut ended => return Ok(asked),
                    };
                    let Incoming::Packet(peer, frames) = incoming else {
                        continue;
                    };
                    if let Ok(Command::Request { id, request }) = decode_command(&frames) {
                        let reply = answer(&request);
                        listener.send(peer, encode_command(&Command::Reply { id, reply }));
                        asked.push(request);
                    }
                }
            };
            block_on(serve).unwrap()
        });
        Source {
            address: told.recv().unwrap(),
            end,
            serving,
        }
    }

    /// What the sample source says.
    fn sample(request: &Request) -> Reply {
        match request {
            Request::Status => Reply::Status(Box::new(sample_status())),
            Request::ReportQueue => Reply::Queue(Box::new(sample_queue())),
            Request::ReportTransfer => Reply::Transfer(Box::new(sample_transfer())),
            Request::ReportProblems => Reply::Problems(Box::new(sample_problems())),
            Request::Flush { .. } => Reply::Flush(FlushResult {
                complete: true,
                problems: 0,
                waiting_for: String::new(),
                limits: Vec::new(),
            }),
            _ => Reply::Done,
        }
    }

    /// Exit code, standard output and requests of a command.
    fn ask(
        answer: fn(&Request) -> Reply,
        args: &[&str],
        input: &[u8],
    ) -> (u8, String, Vec<Request>) {
        let source = source(answer);
        let args = [args, &["--command", &source.address]].concat();
        let (code, output, _) = osync_with(input, &args);
        source.end.send(()).unwrap();
        (code, output, source.serving.join().unwrap())
    }

    #[test]
    fn reports_for_people_and_as_json() {
        for (args, first, key) in [
            (&["status"][..], "osync 0.1.0", "sinks"),
            (&["report", "queue"], "  events", "events"),
            (&["report", "transfer"], "sink 9f3c", "sinks"),
            (&["report", "problems"], "sink  side", "total"),
        ] {
            let (code, text, _) = ask(sample, args, b"");
            assert_eq!(code, 0);
            assert!(text.starts_with(first), "{text}");
            let (code, json, _) = ask(sample, &[args, &["--json"]].concat(), b"");
            assert_eq!(code, 0);
            let json: serde_json::Value = serde_json::from_str(&json).unwrap();
            assert!(json.get(key).is_some(), "{json}");
        }
    }

    #[test]
    fn limits_are_shown() {
        let (code, text, asked) = ask(sample, &["limit"], b"");
        assert_eq!((code, asked), (0, vec![Request::Status]));
        assert_eq!(text, "backlog limited to 10.0 MiB/s and 500 operations/s\n");
        let (_, json, _) = ask(sample, &["limit", "--json"], b"");
        assert_eq!(
            json,
            "{\"bytes_per_s\":10485760,\"operations_per_s\":500}\n"
        );
    }

    #[test]
    fn orders_are_passed_on() {
        let limit = |bytes_per_s, operations_per_s| {
            Request::Limit(RateLimits {
                bytes_per_s,
                operations_per_s,
            })
        };
        for (args, request) in [
            (&["pause"][..], Request::Pause),
            (&["resume"], Request::Resume { accept: false }),
            (&["resume", "--accept"], Request::Resume { accept: true }),
            (&["stop"], Request::Stop),
            (&["limit", "10MB/s"], limit(Some(10_000_000), None)),
            (
                &["limit", "1MiB", "--iops", "500"],
                limit(Some(1 << 20), Some(500)),
            ),
            (&["limit", "--iops", "500"], limit(None, Some(500))),
            (&["limit", "none"], limit(None, None)),
            (
                &["flush", "--timeout", "2m"],
                Request::Flush {
                    timeout_ms: 120_000,
                },
            ),
        ] {
            let (code, output, asked) = ask(sample, args, b"");
            assert_eq!((code, output.as_str()), (0, ""));
            assert_eq!(asked, [request]);
        }
        assert_eq!(
            ask(sample, &["pause", "--json"], b"").1,
            "{\"reply\":\"done\"}\n"
        );
    }

    #[test]
    fn rescan_takes_absolute_paths_inside_the_root() {
        // The sample's root has a newline, which it shows as an escape.
        let (code, _, asked) = ask(sample, &["rescan", "/srv/pool\n/a"], b"");
        assert_eq!(code, 0);
        let path = crate::tree::RelPath::new(b"a").unwrap();
        assert_eq!(asked.last(), Some(&Request::Rescan { path }));
        assert_eq!(ask(sample, &["rescan", "/srv/other"], b"").0, 64);
    }

    #[test]
    fn enqueue_sends_batches() {
        let input: Vec<u8> = (0..1000)
            .flat_map(|i| format!("dir/{i}\0").into_bytes())
            .collect();
        let (code, json, asked) = ask(sample, &["enqueue", "-0", "first", "-", "--json"], &input);
        assert_eq!((code, json.as_str()), (0, "{\"enqueued\":1001}\n"));
        let batches: Vec<_> = asked
            .iter()
            .filter_map(|request| match request {
                Request::Enqueue { paths } => Some(paths.len()),
                _ => None,
            })
            .collect();
        assert_eq!(batches, [ENTRIES_MAX, 1001 - ENTRIES_MAX]);
        assert_eq!(ask(sample, &["enqueue", "-"], b"a\n../b\n").0, 64);
    }

    #[test]
    fn a_flush_with_something_left_fails() {
        let problems = |_: &Request| {
            let waiting_for = String::new();
            Reply::Flush(FlushResult {
                complete: true,
                problems: 1,
                waiting_for,
                limits: Vec::new(),
            })
        };
        let (code, json, _) = ask(problems, &["flush", "--json"], b"");
        assert_eq!(code, 2);
        assert_eq!(
            json,
            "{\"complete\":true,\"problems\":1,\"waiting_for\":\"\",\"limits\":[]}\n"
        );
        let waiting = |_: &Request| {
            let waiting_for = "the first walk".into();
            Reply::Flush(FlushResult {
                complete: false,
                problems: 0,
                waiting_for,
                limits: Vec::new(),
            })
        };
        assert_eq!(ask(waiting, &["flush"], b"").0, 75);
    }

    #[test]
    fn a_refusal_fails() {
        let busy = |_: &Request| {
            Reply::Refused(ErrorAnswer {
                code: ErrorCode::Busy,
                message: "later".into(),
            })
        };
        assert_eq!(ask(busy, &["pause"], b"").0, 75);
        assert_eq!(ask(|_| Reply::Done, &["status"], b"").0, 1);
    }
}
