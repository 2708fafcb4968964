#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;

use super::*;
use crate::wire::message::{ErrorAnswer, ErrorCode};

/// A source that answers as scripted and remembers what it was sent.
struct Script {
    incoming: VecDeque<Incoming>,
    sent: Vec<Command>,
}

impl Channel for &mut Script {
    fn send(&mut self, peer: Peer, frames: crate::wire::Frames) {
        assert_eq!(peer, Peer(7));
        self.sent.push(decode_command(&frames).unwrap());
    }
    async fn recv(&mut self) -> Incoming {
        match self.incoming.pop_front() {
            Some(incoming) => incoming,
            None => std::future::pending().await,
        }
    }
    fn disconnect(&mut self, _peer: Peer) {}
    async fn close(self) {}
}

fn packet(command: &Command) -> Incoming {
    Incoming::Packet(Peer(7), encode_command(command))
}

fn reply(id: u64, reply: Reply) -> Incoming {
    packet(&Command::Reply { id, reply })
}

/// Asks for a pause and returns what came of it, and what was sent. Time does not pass by itself.
fn pause(incoming: impl IntoIterator<Item = Incoming>) -> (Result<(), Error>, Vec<Command>) {
    let mut script = Script {
        incoming: incoming.into_iter().collect(),
        sent: Vec::new(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let mut operator = Operator::new(&mut script, Peer(7), "tcp://x:1".into());
        match operator
            .ask_within(Request::Pause, Duration::from_millis(20))
            .await?
        {
            Reply::Done => Ok(()),
            other => Err(operator.unexpected(&other)),
        }
    });
    (result, script.sent)
}

fn code(incoming: Incoming) -> u8 {
    pause([incoming]).0.unwrap_err().exit_code()
}

#[test]
fn takes_the_reply_to_its_own_request() {
    let stale = reply(
        99,
        Reply::Flush(FlushResult {
            complete: false,
            problems: 0,
            waiting_for: "x".into(),
            limits: Vec::new(),
        }),
    );
    let (result, sent) = pause([
        stale,
        packet(&Command::Ping { token: 5 }),
        reply(1, Reply::Done),
    ]);
    assert!(result.is_ok());
    assert_eq!(
        sent,
        [
            Command::Request {
                id: 1,
                request: Request::Pause
            },
            Command::Pong { token: 5 }
        ]
    );
}

#[test]
fn silence_and_a_lost_connection_are_unavailable() {
    let (silence, _) = pause([]);
    let silence = silence.unwrap_err();
    assert_eq!(silence.exit_code(), 69);
    assert!(silence.hint().unwrap().contains("OSYNC_COMMAND"));
    assert_eq!(code(Incoming::Closed), 69);
    assert_eq!(code(Incoming::Gone(Peer(7))), 69);
}

#[test]
fn errors_of_the_source_are_temporary_or_not() {
    let error = |code| ErrorAnswer {
        code,
        message: "no".into(),
    };
    assert_eq!(code(reply(1, Reply::Refused(error(ErrorCode::Busy)))), 75);
    assert_eq!(
        code(reply(1, Reply::Refused(error(ErrorCode::Terminating)))),
        75
    );
    assert_eq!(
        code(packet(&Command::Error(error(ErrorCode::Malformed)))),
        1
    );
}

#[test]
fn nonsense_is_told_apart_from_silence() {
    let nonsense = Incoming::Packet(Peer(7), vec![bytes::Bytes::from_static(b"\xc1")]);
    assert_eq!(code(nonsense), 1);
    assert_eq!(code(Incoming::Oversized(Peer(7))), 1);
}

#[test]
fn waits_for_as_long_as_the_source_may_take() {
    let allowed = |request| patience(&request) - ANSWER_TIMEOUT;
    assert_eq!(allowed(Request::Status), Duration::ZERO);
    let timeout_ms = 90_000;
    assert_eq!(
        allowed(Request::Flush { timeout_ms }),
        Duration::from_secs(90)
    );
    assert_eq!(allowed(Request::Stop), Duration::from_secs(60));
}
