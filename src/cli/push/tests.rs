#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use tokio::sync::watch;

use super::*;
use crate::channel::zmtp::{Exposure, Listener};
use crate::channel::{Channel, Incoming};
use crate::cli::render::tests::sample_status;
use crate::cli::tests::console;
use crate::report::Status;
use crate::wire::message::{Command, FlushResult};
use crate::wire::{decode_command, encode_command};

#[test]
fn a_colon_before_a_slash_names_a_host() {
    for dst in ["host:/srv", "user@host:path", "host:"] {
        let error = local_target(OsStr::new(dst)).expect_err(dst);
        assert_eq!(error.exit_code(), 64);
        assert!(
            error.to_string().contains("over ssh comes later"),
            "{error}"
        );
    }
    for dst in ["/srv/a:b", "./a:b", "plain"] {
        assert_eq!(
            local_target(OsStr::new(dst)).expect(dst),
            PathBuf::from(dst)
        );
    }
}

/// A source that answers the first flush with "not yet" and every later one with its problems.
struct Source {
    address: mpsc::Sender<String>,
    stop: watch::Receiver<bool>,
    problems: u64,
    halted: Option<String>,
}

async fn serve(source: Source) -> Result<(), Error> {
    let Source {
        address,
        mut stop,
        problems,
        halted,
    } = source;
    let (mut listener, bound) = Listener::bind("tcp://127.0.0.1:0", Exposure::Loopback).await?;
    address.send(bound).unwrap();
    let flushes = AtomicU64::new(0);
    loop {
        let incoming = tokio::select! {
            incoming = listener.recv() => incoming,
            _ = stop.wait_for(|&stop| stop) => return Ok(()),
        };
        let Incoming::Packet(peer, frames) = incoming else {
            continue;
        };
        let Ok(Command::Request { id, request }) = decode_command(&frames) else {
            continue;
        };
        let reply = match request {
            Request::Flush { .. } => Reply::Flush(FlushResult {
                complete: flushes.fetch_add(1, Ordering::Relaxed) > 0,
                problems,
                waiting_for: "the first walk".into(),
                limits: Vec::new(),
            }),
            Request::Status => Reply::Status(Box::new(Status {
                halted: halted.clone(),
                ..sample_status()
            })),
            _ => continue,
        };
        listener.send(peer, encode_command(&Command::Reply { id, reply }));
    }
}

async fn wait(mut stop: watch::Receiver<bool>) -> Result<(), Error> {
    let _ = stop.wait_for(|&stop| stop).await;
    Ok(())
}

async fn fail(_stop: watch::Receiver<bool>) -> Result<(), Error> {
    Err(Error::NotEmpty {
        path: "/target".into(),
    })
}

/// The exit code of a push with this sink.
fn push<F>(once: bool, problems: u64, sink: fn(watch::Receiver<bool>) -> F) -> Result<(), u8>
where
    F: Future<Output = Result<(), Error>> + 'static,
{
    push_from(None, once, problems, sink)
}

/// The same with a source that may have halted.
fn push_from<F>(
    halted: Option<&str>,
    once: bool,
    problems: u64,
    sink: fn(watch::Receiver<bool>) -> F,
) -> Result<(), u8>
where
    F: Future<Output = Result<(), Error>> + 'static,
{
    let stop = Stop::unattended();
    let (address, bound) = mpsc::channel();
    let options = Source {
        address,
        stop: stop.subscribe(),
        problems,
        halted: halted.map(str::to_owned),
    };
    let source = Endpoint::start("source", serve, options).unwrap();
    let (sink_stop, sink_stops) = watch::channel(false);
    let sink = Endpoint::start("sink", sink, sink_stops).unwrap();
    let command = bound.recv().unwrap().parse().unwrap();
    let push = Push {
        command,
        once,
        stop,
        sink_stop,
    };
    let (mut console, _, _) = console([]);
    crate::cli::block_on(push.attend(source, sink, &mut console)).map_err(|error| error.exit_code())
}

#[test]
fn once_ends_as_soon_as_both_are_equal() {
    assert_eq!(push(true, 0, wait), Ok(()));
}

#[test]
fn once_does_not_claim_success_with_problems_left() {
    assert_eq!(push(true, 3, wait), Err(2));
}

#[test]
fn once_does_not_wait_for_an_operator() {
    assert_eq!(push_from(Some("the root is empty"), true, 0, wait), Err(75));
}

#[test]
fn the_end_of_one_ends_the_other() {
    assert_eq!(push(false, 0, fail), Err(78));
    assert_eq!(push(true, 0, fail), Err(78));
}
