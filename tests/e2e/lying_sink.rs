//! A sink that registers as it should and then lies to its source, beside one that is served.

use std::fs;

use bytes::Bytes;
use osync::channel::zmtp::Connection;
use osync::channel::{Channel, Incoming, Peer};
use osync::tree::Name;
use osync::wire::message::{
    Answer, Command, Credit, Outcome, Refusal, RegistrationRequest, ToSink, ToSource, VERSION,
};
use osync::wire::{decode_command, decode_to_sink, encode_command, encode_to_source};

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::{assert_equal, rsync_difference};
use crate::wait::wait_until;

/// What the source may take with a real sink and one that lies.
const RESIDENT_KIB_MAX: u64 = 128 * 1024;

/// Enough for everything that a small tree needs.
const CREDIT: Credit = Credit {
    bytes: 1 << 20,
    messages: 64,
};

/// One connection, with the peer at its other end.
struct End {
    connection: Connection,
    peer: Peer,
}

impl End {
    async fn connect(address: &str) -> Self {
        let (connection, peer) = Connection::connect(address, PROMPT).await.unwrap();
        Self { connection, peer }
    }

    fn say(&mut self, frames: Vec<Bytes>) {
        self.connection.send(self.peer, frames);
    }

    /// The next packet; `None` if the connection has ended.
    async fn hear(&mut self) -> Option<Vec<Bytes>> {
        match self.connection.recv().await {
            Incoming::Packet(_, frames) => Some(frames),
            _ => None,
        }
    }
}

/// What a sink is until it ends.
struct Liar {
    command: End,
    data: End,
    nonce: u64,
}

impl Liar {
    async fn connect(addresses: &Addresses, nonce: u64) -> Self {
        let mut data = End::connect(&addresses.data).await;
        data.say(encode_to_source(&ToSource::Announce { nonce }));
        Self {
            command: End::connect(&addresses.command).await,
            data,
            nonce,
        }
    }

    fn request(&mut self, nonces: Vec<u64>) {
        let request = RegistrationRequest {
            version: VERSION,
            sink_id: "liar".to_owned(),
            instance: 1,
            nonces,
            capabilities: Vec::new(),
            limits: Box::default(),
            owners: None,
            resume: None,
        };
        let request = Command::RegistrationRequest(request);
        self.command.say(encode_command(&request));
    }

    /// What the source answers, its heartbeat apart; `None` if it ends the connection.
    async fn answer(&mut self) -> Option<Command> {
        loop {
            let frames = self.command.hear().await?;
            match decode_command(&frames).unwrap() {
                Command::Ping { .. } => {}
                answer => return Some(answer),
            }
        }
    }

    /// Goes through the handshake. Returns the epoch, and the number of the first listing that it is sent.
    async fn register(&mut self) -> (u64, u64) {
        self.request(vec![self.nonce]);
        let answer = self.answer().await.unwrap();
        let Command::RegistrationRequestAcknowledgement { epoch, .. } = answer else {
            panic!("{answer:?}");
        };
        loop {
            let frames = self.data.hear().await.unwrap();
            if let ToSink::Synchronisation { .. } = decode_to_sink(&frames).unwrap() {
                break;
            }
        }
        let credit = CREDIT;
        let success = Command::RegistrationSuccess { epoch, credit };
        self.command.say(encode_command(&success));
        loop {
            let frames = self.data.hear().await.unwrap();
            if let ToSink::Change { number, .. } = decode_to_sink(&frames).unwrap() {
                return (epoch, number);
            }
        }
    }

    /// True if the source ends the session or answers with an error, false if it goes on.
    async fn is_refused(&mut self) -> bool {
        const TOKEN: u64 = 4711;
        let ping = Command::Ping { token: TOKEN };
        self.command.say(encode_command(&ping));
        loop {
            let frames = tokio::select! {
                heard = self.command.hear() => heard,
                heard = self.data.hear() => match heard {
                    Some(_) => continue,
                    None => return true,
                },
            };
            match frames.map(|frames| decode_command(&frames).unwrap()) {
                None | Some(Command::Error(_)) => return true,
                // Both channels are read in turn: what was said on the other has been heard by the second.
                Some(Command::Pong { token: TOKEN }) => {
                    let again = Command::Ping { token: TOKEN + 1 };
                    self.command.say(encode_command(&again));
                }
                Some(Command::Pong { .. }) => return false,
                Some(_) => {}
            }
        }
    }
}

fn acknowledgement(epoch: u64, outcomes: Vec<(u64, Outcome)>, marks: (u64, u64)) -> Vec<Bytes> {
    encode_to_source(&ToSource::Acknowledgement {
        epoch,
        outcomes,
        applied: marks.0,
        durable: marks.1,
        credit: CREDIT,
    })
}

/// An answer that names an entry in excess, which cannot be one of the source.
fn excess(epoch: u64, number: u64, name: &[u8; 3]) -> Vec<Bytes> {
    let answer = Answer::Names {
        lacks: Vec::new(),
        differs: Vec::new(),
        excess: vec![Name::new(b"xyz").unwrap()],
        more: false,
    };
    let outcome = Outcome {
        answer: Some(answer),
        ..Outcome::default()
    };
    let frames = acknowledgement(epoch, vec![(number, outcome)], (number, 0));
    let replaced = frames.into_iter().map(|frame| {
        let mut bytes = frame.to_vec();
        if let Some(at) = bytes.windows(3).position(|window| window == b"xyz") {
            bytes[at..at + 3].copy_from_slice(name);
        }
        Bytes::from(bytes)
    });
    replaced.collect()
}

/// A problem with each of so many entries of a message.
fn problems(count: u32) -> Outcome {
    let problem = Refusal::Problem {
        operation: "write".to_owned(),
        errno: libc::EIO,
    };
    Outcome {
        refused: (0..count).map(|at| (at, problem.clone())).collect(),
        ..Outcome::default()
    }
}

/// What is said on the data connection of a session, and whether the source ends it.
fn lies(epoch: u64, number: u64) -> Vec<(&'static str, Vec<Bytes>, bool)> {
    let never = u64::MAX;
    vec![
        (
            "numbers never sent",
            acknowledgement(epoch, vec![], (never, 0)),
            true,
        ),
        (
            "more durable than applied",
            acknowledgement(epoch, vec![], (0, number)),
            true,
        ),
        (
            "an outcome of nothing",
            acknowledgement(epoch, vec![(never, problems(1))], (0, 0)),
            true,
        ),
        (
            "problems of no entry",
            acknowledgement(epoch, vec![(number, problems(1000))], (0, 0)),
            true,
        ),
        (
            "an older epoch",
            acknowledgement(epoch ^ 1, vec![], (never, never)),
            false,
        ),
        ("excess above the root", excess(epoch, number, b"/.."), true),
        ("excess with a NUL", excess(epoch, number, b"a\0b"), true),
        ("excess with a slash", excess(epoch, number, b"a/b"), true),
        (
            "excess that the source has not",
            excess(epoch, number, b"abc"),
            false,
        ),
        ("no MessagePack", vec![Bytes::from_static(b"\xc1")], true),
        (
            "a second announcement",
            encode_to_source(&ToSource::Announce { nonce: 7 }),
            true,
        ),
    ]
}

async fn lie_to(addresses: &Addresses) {
    let cases = lies(0, 0).len();
    for case in 0..cases {
        let mut liar = Liar::connect(addresses, 1000 + case as u64).await;
        let (epoch, number) = liar.register().await;
        let (what, frames, ends) = lies(epoch, number).swap_remove(case);
        liar.data.say(frames);
        assert_eq!(liar.is_refused().await, ends, "{what}");
    }
}

/// What is said on the command connection before there is a session.
async fn lie_out_of_phase(addresses: &Addresses) {
    let epoch = 1;
    let credit = CREDIT;
    for message in [
        Command::RegistrationSuccess { epoch, credit },
        Command::Unregister { epoch },
        Command::ServiceTermination { epoch },
        Command::ReleaseBrake { epoch },
    ] {
        let mut liar = Liar::connect(addresses, 1).await;
        liar.command.say(encode_command(&message));
        assert!(liar.is_refused().await, "{message:?}");
    }
    for nonces in [vec![], vec![2], vec![1, 1], vec![1, 2]] {
        let mut liar = Liar::connect(addresses, 1).await;
        liar.request(nonces.clone());
        // An announcement may still be on its way, so the source waits for it a little.
        let answer = liar.answer().await;
        let is_refused = matches!(answer, None | Some(Command::Error(_)));
        assert!(is_refused, "nonces {nonces:?}: {answer:?}");
    }
}

#[test]
fn a_source_serves_its_sink_beside_one_that_lies() {
    let fixture = Fixture::populated(50, 45);
    let source = Source::start(&fixture);
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    source.flush();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let lying = async {
            lie_out_of_phase(&source.addresses).await;
            lie_to(&source.addresses).await;
        };
        tokio::time::timeout(CONVERGENCE, lying).await.unwrap();
    });
    let resident = source.process.resident_kib_max();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
    fs::write(fixture.source().join("after"), "served on").unwrap();
    // A flush would wait for the sink that lied and has gone.
    wait_until("the sink to be served", CONVERGENCE, || {
        rsync_difference(&fixture.source(), &fixture.target()).is_empty()
    });
    let log = sink.process.stderr();
    assert_eq!(log.matches("registered, session").count(), 1, "{log}");
    source.stop(sink);
    assert_equal(&fixture.source(), &fixture.target());
}
