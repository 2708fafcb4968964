//! Whoever reaches a port: strangers that flood, lie and stall beside a real sink, and programs that
//! listen where the source should be.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use bytes::Bytes;
use osync::channel::zmtp::{Exposure, Listener};
use osync::channel::{Channel, Incoming, Peer};
use osync::wire::message::{Command, ToSink, ToSource};
use osync::wire::{decode_command, decode_to_source, encode_command, encode_to_sink};

use crate::endpoint::{Addresses, CONVERGENCE, PROMPT, Sink, Source};
use crate::fixture::Fixture;
use crate::judge::assert_equal;
use crate::wait::{wait_for, wait_until};

/// What strangers may add to the memory of a source, on both channels together, with what two
/// endpoints of so small a tree need: twice 16 MiB for packets, twice 32 MiB for answers, the rest small.
const RESIDENT_KIB_MAX: u64 = 128 * 1024;

/// Most connections of the flood, on both channels together, unless `OSYNC_FLOOD_CONNECTIONS` says
/// otherwise: with it the flood ends when it has opened so many, however long that takes.
const FLOOD_MAX: u32 = 40_000;

/// How many connections the flood must open, if somebody has said so.
fn flood_wanted() -> Option<u32> {
    let wanted = std::env::var("OSYNC_FLOOD_CONNECTIONS").ok()?;
    Some(wanted.parse().expect("OSYNC_FLOOD_CONNECTIONS is a number"))
}

fn port(address: &str) -> &str {
    address.strip_prefix("tcp://").unwrap()
}

fn greeting(socket_type: &str) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0x7F, 3, 1];
    bytes.extend(b"NULL");
    bytes.resize(64, 0);
    bytes.extend(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06");
    bytes.extend(socket_type.as_bytes());
    bytes
}

/// What nobody should say, behind greeting and READY or instead of them.
fn nonsense(socket_type: &str) -> Vec<Vec<u8>> {
    let opened = greeting(socket_type);
    let huge = (1_u64 << 46).to_be_bytes();
    let with = |end: &[u8]| [&opened, end].concat();
    let announced = |flags: u8| [&[flags][..], &huge].concat();
    vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        (0..200_u8).map(|n| n.wrapping_mul(37)).collect(),
        [&opened[..64], &announced(0x06)].concat(),
        [&opened[..64], &announced(0x02)].concat(),
        opened[..20].to_vec(),
        with(&announced(0x02)),
        with(&announced(0x06)),
        with(&b"\x01\x01x".repeat(100_000)),
        with(b"\x00\xC8half"),
        with(b"\x00\x05hello"),
        // As much as is allowed, and not the end of it.
        [
            &with(&[0x02, 0, 0, 0, 0, 0, 0x10, 0, 0]),
            &vec![7; 1_000_000][..],
        ]
        .concat(),
    ]
}

/// Opens connections that never say a word, as fast as it can, and holds the last of them.
fn flood(address: String, until: Arc<AtomicBool>) -> JoinHandle<u32> {
    let most = flood_wanted().unwrap_or(FLOOD_MAX) / 2;
    spawn(move || {
        let mut held = VecDeque::new();
        let mut opened = 0;
        while !until.load(Ordering::Relaxed) && opened < most {
            if let Ok(stream) = TcpStream::connect(port(&address)) {
                opened += 1;
                held.push_back(stream);
            }
            if held.len() > 300 {
                held.pop_front();
            }
        }
        opened
    })
}

/// Says all kinds of nonsense again and again, and asks for answers that it never reads.
fn pester(address: String, until: Arc<AtomicBool>) -> JoinHandle<()> {
    spawn(move || {
        let mut held = VecDeque::new();
        let request = br#"{"x":1}"#;
        while !until.load(Ordering::Relaxed) {
            for said in nonsense("DEALER") {
                let Ok(mut stream) = TcpStream::connect(port(&address)) else {
                    continue;
                };
                // It may be ended before it has said all of it.
                let _ = stream.write_all(&said);
                held.push_back(stream);
            }
            if let Ok(mut stuck) = TcpStream::connect(port(&address)) {
                let _ = stuck.set_nonblocking(true);
                let _ = stuck.write_all(&greeting("DEALER"));
                let packet = [&[0, request.len() as u8], &request[..]].concat();
                let _ = stuck.write_all(&packet.repeat(2_000));
                held.push_back(stuck);
            }
            while held.len() > 200 {
                held.pop_front();
            }
        }
    })
}

// What was measured is for whoever has asked for it.
#[allow(clippy::print_stdout)]
#[test]
fn a_source_serves_its_sink_while_strangers_flood_and_lie() {
    let fixture = Fixture::populated(500, 41);
    let source = Source::start(&fixture);
    let until = Arc::new(AtomicBool::new(false));
    let Addresses { command, data } = source.addresses.clone();
    let started = Instant::now();
    let floods = [&command, &data].map(|address| flood(address.clone(), Arc::clone(&until)));
    let pests = [&command, &data].map(|address| pester(address.clone(), Arc::clone(&until)));

    let sink = Sink::start(&fixture, &source.addresses);
    wait_for("a sink in transfer", CONVERGENCE, || {
        let asked = source.run(&["status", "--json"], PROMPT);
        if asked.stdout.contains("\"transfer\"") {
            Ok(())
        } else {
            Err(asked.stdout + &asked.stderr)
        }
    });
    fixture.churn(3, 42).finish();
    // An operator's connection may lose its place; the next has it.
    wait_until("a flush beside the flood", CONVERGENCE, || {
        source.run(&["flush", "--timeout", "60s"], CONVERGENCE).code == Some(0)
    });
    assert_equal(&fixture.source(), &fixture.target());

    let is_measured = flood_wanted().is_some();
    if !is_measured {
        until.store(true, Ordering::Relaxed);
    }
    let opened: u32 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    let took = started.elapsed();
    until.store(true, Ordering::Relaxed);
    pests.into_iter().for_each(|pest| pest.join().unwrap());
    assert!(opened > 1_000, "only {opened} connections were opened");
    let resident = source.process.resident_kib_max();
    assert!(
        resident < RESIDENT_KIB_MAX,
        "{resident} KiB, {opened} connections"
    );
    if is_measured {
        println!("{opened} connections in {took:?}; the source had at most {resident} KiB");
        let sessions = source
            .process
            .stderr()
            .matches("is registered, session")
            .count();
        assert_eq!(sessions, 1, "the sink had to register again");
    }
    fs::write(fixture.source().join("after"), "served on").unwrap();
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

#[test]
fn a_source_without_descriptors_waits_for_some() {
    let fixture = Fixture::populated(20, 43);
    let starter = ["prlimit", "--nofile=64:64"];
    let source = Source::start_by(&fixture, &starter, &Addresses::on_ports(0, 0));
    let mut idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(port(&source.addresses.command)).unwrap())
        .collect();
    wait_until("the source to run out of descriptors", PROMPT, || {
        source
            .process
            .stderr()
            .contains("connections cannot be accepted")
    });
    let sink = Sink::start(&fixture, &source.addresses);
    source.wait_for_phase("transfer");
    // What could not be opened meanwhile is a problem, named and tried again.
    wait_until("a flush without problems", CONVERGENCE, || {
        source.run(&["flush", "--timeout", "60s"], CONVERGENCE).code == Some(0)
    });
    assert_equal(&fixture.source(), &fixture.target());
    let mut scratch = [0; 256];
    let read_to_end =
        |stream: &mut TcpStream| while matches!(stream.read(&mut scratch), Ok(1..)) {};
    idle[..30].iter_mut().for_each(read_to_end);
    source.stop(sink);
}

/// Says nonsense to whoever connects, a different one each time.
fn liar(until: &Arc<AtomicBool>, met: &Arc<AtomicU32>) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (until, met) = (Arc::clone(until), Arc::clone(met));
    let serving = spawn(move || {
        let all = nonsense("ROUTER");
        for stream in listener.incoming() {
            if until.load(Ordering::Relaxed) {
                return;
            }
            let number = met.fetch_add(1, Ordering::Relaxed) as usize;
            let mut stream = stream.unwrap();
            let _ = stream.write_all(&all[number % all.len()]);
        }
    });
    (address, serving)
}

#[test]
fn a_sink_survives_a_stranger_in_the_place_of_its_source() {
    let fixture = Fixture::populated(100, 44);
    let until = Arc::new(AtomicBool::new(false));
    let met = Arc::new(AtomicU32::new(0));
    let (command, serving) = liar(&until, &met);
    // An attempt makes its connections side by side, and meets both.
    let (data, serving_data) = liar(&until, &Arc::default());
    let addresses = Addresses { command, data };
    let started = Instant::now();
    let mut sink = Sink::start(&fixture, &addresses);
    wait_until("several attempts", PROMPT, || {
        met.load(Ordering::Relaxed) >= 8
    });
    sink.process.assert_running();
    // With pauses that double from 50 ms, eight attempts take a second at least.
    assert!(started.elapsed() > Duration::from_millis(500), "no backoff");
    let resident = sink.process.resident_kib_max();
    assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");

    until.store(true, Ordering::Relaxed);
    for address in [&addresses.command, &addresses.data] {
        let _ = TcpStream::connect(port(address));
    }
    serving.join().unwrap();
    serving_data.join().unwrap();
    let source = Source::start_at(&fixture, &addresses);
    source.wait_for_phase("transfer");
    source.flush();
    assert_equal(&fixture.source(), &fixture.target());
    source.stop(sink);
}

/// A source that goes through the handshake and then sends some packets.
struct FakeSource {
    command: Listener,
    data: Listener,
    data_peer: Option<(Peer, u64)>,
}

const EPOCH: u64 = 0x0123_4567_89ab_cdef;

impl FakeSource {
    /// Registers a sink, sends the packets, and returns when the sink has ended the session.
    async fn session(&mut self, packets: &[Vec<Bytes>]) {
        loop {
            tokio::select! {
                incoming = self.data.recv() => match incoming {
                    Incoming::Packet(peer, frames) => match decode_to_source(&frames).unwrap() {
                        ToSource::Announce { nonce } => self.data_peer = Some((peer, nonce)),
                        ToSource::Pong { .. } | ToSource::Acknowledgement { .. } => {}
                    },
                    Incoming::Gone(peer) => if self.data_peer.is_some_and(|(known, _)| known == peer) {
                        return;
                    },
                    other => panic!("{other:?}"),
                },
                incoming = self.command.recv() => if let Incoming::Packet(peer, frames) = incoming {
                    self.answer(peer, decode_command(&frames).unwrap(), packets);
                },
            }
        }
    }

    fn answer(&mut self, peer: Peer, message: Command, packets: &[Vec<Bytes>]) {
        let Some((data_peer, nonce)) = self.data_peer else {
            // The announcement is still underway; the sink tries again.
            return self.command.disconnect(peer);
        };
        let answer = match message {
            Command::RegistrationRequest(_) => {
                let synchronisation = ToSink::Synchronisation { nonce };
                self.data.send(data_peer, encode_to_sink(&synchronisation));
                Command::RegistrationRequestAcknowledgement {
                    epoch: EPOCH,
                    source_id: "fake".to_owned(),
                    payload_bytes_max: 256 * 1024,
                    root: "0:0".to_owned(),
                    filter: Default::default(),
                }
            }
            Command::RegistrationSuccess { epoch, .. } => {
                for packet in packets {
                    self.data.send(data_peer, packet.clone());
                }
                Command::RegistrationSuccessAcknowledgement { epoch }
            }
            _ => return,
        };
        self.command.send(peer, encode_command(&answer));
    }
}

/// A file `hello.txt` in the root as the protocol's golden bytes have it, with another name of the same
/// length, and as the first number.
fn file_named(name: &[u8; 9]) -> Vec<Bytes> {
    file_numbered(1, name)
}

/// The same with any number below 128.
fn file_numbered(number: u8, name: &[u8; 9]) -> Vec<Bytes> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("proto/golden/v1/to-sink-entries-one-file-in-root.hex");
    let text = fs::read_to_string(golden).unwrap();
    let mut frames = text.lines().map(|line| {
        let digits = line.as_bytes().chunks(2);
        digits
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect::<Vec<u8>>()
    });
    let mut header = frames.next().unwrap();
    replace(&mut header, b"\xcd\x01\x2c", &[0xcd, 0, number]);
    replace(&mut header, b"hello.txt", name);
    std::iter::once(header)
        .chain(frames)
        .map(Bytes::from)
        .collect()
}

/// The same message as an earlier session would have it.
fn of_older_epoch(name: &[u8; 9]) -> Vec<Bytes> {
    let mut frames = file_named(name);
    let mut header = frames[0].to_vec();
    let epoch = EPOCH.to_be_bytes();
    replace(&mut header, &epoch, &(EPOCH - 1).to_be_bytes());
    frames[0] = Bytes::from(header);
    frames
}

fn replace(bytes: &mut [u8], old: &[u8], new: &[u8]) {
    let at = bytes.windows(old.len()).position(|window| window == old);
    let at = at.unwrap();
    bytes[at..at + old.len()].copy_from_slice(new);
}

#[test]
fn a_sink_stays_inside_its_root_whatever_a_source_says() {
    let fixture = Fixture::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let free = "tcp://127.0.0.1:0";
        let (command, command_at) = Listener::bind(free, Exposure::Loopback).await.unwrap();
        let (data, data_at) = Listener::bind(free, Exposure::Loopback).await.unwrap();
        let mut fake = FakeSource {
            command,
            data,
            data_peer: None,
        };
        let addresses = Addresses {
            command: command_at,
            data: data_at,
        };
        let mut sink = Sink::start(&fixture, &addresses);
        let without_content = [file_named(b"good-name")[0].clone(), Bytes::new()];
        let nonsense = || vec![Bytes::from_static(b"\xc1 no MessagePack")];
        let sessions = [
            vec![file_named(b"../escape")],
            vec![file_named(b"/tmp/oops")],
            vec![file_named(b"sub/slash")],
            vec![file_named(b"nul\0inside"[..9].try_into().unwrap())],
            vec![without_content.to_vec()],
            vec![nonsense()],
            vec![vec![Bytes::from_static(b"\xdd\xff\xff\xff\xff")]],
            // The same number twice; of a number beyond the first nothing is done before the first has come.
            vec![
                file_numbered(2, b"too-early"),
                file_numbered(2, b"twice-two"),
            ],
            // Another epoch is nobody's, whatever it says.
            vec![of_older_epoch(b"old-epoch"), nonsense()],
        ];
        for packets in sessions {
            tokio::time::timeout(CONVERGENCE, fake.session(&packets))
                .await
                .unwrap_or_else(|_| panic!("the session goes on after {packets:?}"));
            sink.process.assert_running();
            fake.data_peer = None;
        }
        let resident = sink.process.resident_kib_max();
        assert!(resident < RESIDENT_KIB_MAX, "{resident} KiB");
    });
    let names = |dir: &Path| {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&fixture.target()), Vec::<String>::new());
    assert!(!fixture.path().join("escape").exists());
    assert!(!Path::new("/tmp/oops").exists());
}
