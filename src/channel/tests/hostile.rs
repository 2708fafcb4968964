//! Peers that break the protocol, announce what they never send, or take places and keep them.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{connection, generous, listener, listener_within, next, packet, raw, text, within};
use crate::channel::zmtp::{Limits, Listener};
use crate::channel::{Channel, Incoming, Peer};

/// Short enough to wait for, long enough for an honest peer.
const SOON: Duration = Duration::from_millis(500);

/// A head that announces 2^46 bytes, after its flags.
const HUGE: [u8; 8] = (1_u64 << 46).to_be_bytes();

/// Waits until the other side has ended the connection, while the listener runs; what the listener
/// reports meanwhile.
async fn ended(listener: &mut Listener, stream: &mut TcpStream) -> Vec<Incoming> {
    let mut reported = Vec::new();
    let mut scratch = [0; 1024];
    let end = async {
        loop {
            tokio::select! {
                read = stream.read(&mut scratch) => if !matches!(read, Ok(1..)) {
                    return;
                },
                incoming = listener.recv() => reported.push(incoming),
            }
        }
    };
    within(end).await;
    reported
}

async fn is_alive(listener: &mut Listener, address: &str) {
    let (mut peer, up) = connection(address).await;
    peer.send(up, text("alive"));
    let number = loop {
        match next(listener).await {
            Incoming::Packet(number, frames) => {
                assert_eq!(frames, text("alive"));
                break number;
            }
            Incoming::Gone(_) => {}
            other => panic!("{other:?}"),
        }
    };
    drop(peer);
    assert_eq!(next(listener).await, Incoming::Gone(number));
}

/// Flags, and 2^46 bytes announced.
fn announced(flags: u8) -> Vec<u8> {
    [&[flags][..], &HUGE].concat()
}

#[tokio::test]
async fn what_is_no_handshake_ends_the_connection_at_once() {
    let (mut listener, address) = listener().await;
    let greeting = raw::greeting();
    let after = |bytes: &[u8]| [&greeting[..], bytes].concat();
    let mut plain = greeting.clone();
    plain[12..17].copy_from_slice(b"PLAIN");
    let openings = [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        (0..64_u8)
            .map(|n| n.wrapping_mul(37).wrapping_add(5))
            .collect(),
        plain,
        after(&announced(0x02)),
        after(&announced(0x03)),
        after(&announced(0x06)),
        after(b"\x00\x05hello"),
        after(b"\x08\x00"),
        after(b"\x04\x05\x04PING"),
        after(raw::PING),
        after(b"\x04\x06\x05READY"),
        after(b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06ROUTER"),
        after(b"\x04\x1c\x05READY\x0bSocket-Type\xff\xff\xff\xffDEALER"),
        after(b"\x06\0\0\0\0\0\0\x04\x01"),
    ];
    for opening in openings {
        let mut peer = raw::connected(&address).await;
        // It may be ended before it has said all of it.
        let _ = peer.write_all(&opening).await;
        let reported = ended(&mut listener, &mut peer).await;
        assert_eq!(reported, [], "{}", opening.escape_ascii());
    }
    is_alive(&mut listener, &address).await;
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_at_once() {
    let (mut listener, address) = listener().await;
    let endless = b"\x01\x01x".repeat(10_000);
    let ready = b"\x04\x1c\x05READY\x0bSocket-Type\0\0\0\x06DEALER".to_vec();
    for (said, is_too_much) in [
        (announced(0x02), true),
        (announced(0x03), true),
        (announced(0x06), false),
        (announced(0x10), false),
        (endless, true),
        ([b"\x01\x01x".as_slice(), &announced(0x02)].concat(), true),
        (ready, false),
        (b"\x04\x0a\x09SUBSCRIBE".to_vec(), false),
        (b"\x04\x00".to_vec(), false),
    ] {
        let mut peer = raw::dealer(&address).await;
        let (number, _) = packet(&mut listener).await;
        // It may be ended before it has said all of it.
        let _ = peer.write_all(&said).await;
        let mut reported = ended(&mut listener, &mut peer).await;
        if reported.last() != Some(&Incoming::Gone(number)) {
            reported.push(next(&mut listener).await);
        }
        let expected = match is_too_much {
            true => vec![Incoming::Oversized(number), Incoming::Gone(number)],
            false => vec![Incoming::Gone(number)],
        };
        assert_eq!(
            reported,
            expected,
            "{}",
            said[..9.min(said.len())].escape_ascii()
        );
    }
    is_alive(&mut listener, &address).await;
}

#[tokio::test]
async fn who_does_not_go_on_is_ended_and_who_is_kept_is_not() {
    let (mut listener, address) = listener_within(Limits {
        patience: SOON,
        ..generous()
    })
    .await;
    let mut kept = raw::dealer(&address).await;
    let (kept_peer, _) = packet(&mut listener).await;
    listener.keep(kept_peer);
    kept.write_all(raw::FRAGMENT).await.unwrap();
    let mut operator = raw::dealer(&address).await;
    let (operator_peer, _) = packet(&mut listener).await;
    listener.understood(operator_peer);

    // Silent from the start, inside the greeting, inside READY, behind it, and inside a message.
    let mut silent = raw::connected(&address).await;
    ended(&mut listener, &mut silent).await;
    let mut slow = raw::connected(&address).await;
    for byte in &raw::greeting()[..20] {
        slow.write_all(&[*byte]).await.unwrap();
    }
    ended(&mut listener, &mut slow).await;
    let mut unready = raw::connected(&address).await;
    unready.write_all(&raw::greeting()).await.unwrap();
    unready.write_all(b"\x04\x1c\x05READY").await.unwrap();
    ended(&mut listener, &mut unready).await;
    let mut dumb = raw::opened(&address).await;
    assert_eq!(ended(&mut listener, &mut dumb).await, []);
    let mut babbling = raw::dealer(&address).await;
    let (babbling_peer, _) = packet(&mut listener).await;
    let mut reported = ended(&mut listener, &mut babbling).await;
    reported.extend(super::poll_once(&mut listener).await);
    assert_eq!(reported, [Incoming::Gone(babbling_peer)]);
    let mut halfway = raw::dealer(&address).await;
    let (halfway_peer, _) = packet(&mut listener).await;
    listener.understood(halfway_peer);
    halfway.write_all(raw::FRAGMENT).await.unwrap();
    let mut reported = ended(&mut listener, &mut halfway).await;
    if reported.is_empty() {
        reported.push(next(&mut listener).await);
    }
    assert_eq!(reported, [Incoming::Gone(halfway_peer)]);

    kept.write_all(&[b'x'; 197]).await.unwrap();
    assert_eq!(packet(&mut listener).await.0, kept_peer);
    operator.write_all(b"\x00\x05again").await.unwrap();
    assert_eq!(packet(&mut listener).await.0, operator_peer);
}

#[tokio::test]
async fn who_comes_last_takes_the_place_of_the_oldest_at_the_door() {
    let (mut listener, address) = listener_within(Limits {
        opening_max: 4,
        ..generous()
    })
    .await;
    let mut waiting = Vec::new();
    for _ in 0..50 {
        waiting.push(raw::connected(&address).await);
        is_alive(&mut listener, &address).await;
    }
    let mut latest = waiting.split_off(47);
    for oldest in &mut waiting {
        ended(&mut listener, oldest).await;
    }
    // The latest still may go on.
    let last = latest.last_mut().unwrap();
    raw::handshake(last, &[("Socket-Type", "DEALER")]).await;
    last.write_all(b"\x00\x05hello").await.unwrap();
    assert_eq!(packet(&mut listener).await.1, text("hello"));
}

#[tokio::test]
async fn places_for_strangers_are_few_and_those_who_are_kept_need_none() {
    let (mut listener, address) = listener_within(Limits {
        silent_max: 2,
        strangers_max: 2,
        ..generous()
    })
    .await;
    let mut kept = raw::dealer(&address).await;
    let (kept_peer, _) = packet(&mut listener).await;
    listener.keep(kept_peer);
    let mut silent = raw::opened(&address).await;
    let mut peers: Vec<(TcpStream, Peer)> = Vec::new();
    for _ in 0..4 {
        let peer = raw::dealer(&address).await;
        let (number, _) = packet(&mut listener).await;
        listener.understood(number);
        peers.push((peer, number));
        if let [.., (oldest, number), _, _] = &mut peers[..] {
            assert_eq!(next(&mut listener).await, Incoming::Gone(*number));
            assert_eq!(ended(&mut listener, oldest).await, []);
        }
    }
    for _ in 0..2 {
        let other = raw::opened(&address).await;
        std::mem::forget(other);
    }
    assert_eq!(ended(&mut listener, &mut silent).await, []);
    for (peer, number) in peers[2..].iter_mut().map(|(peer, number)| (peer, *number)) {
        peer.write_all(b"\x00\x05still").await.unwrap();
        assert_eq!(packet(&mut listener).await, (number, text("still")));
    }
    kept.write_all(b"\x00\x05still").await.unwrap();
    assert_eq!(packet(&mut listener).await, (kept_peer, text("still")));
}

#[tokio::test]
async fn strangers_share_little_memory_for_large_packets() {
    let (mut listener, address) = listener_within(Limits {
        stranger_bytes_max: 100_000,
        ..generous()
    })
    .await;
    let part = |bytes: u64| [&[0x02][..], &bytes.to_be_bytes()].concat();
    let mut first = raw::dealer(&address).await;
    let (first_peer, _) = packet(&mut listener).await;
    first.write_all(&part(60_000)).await.unwrap();
    first.write_all(&[1; 30_000]).await.unwrap();
    is_alive(&mut listener, &address).await;
    let mut second = raw::dealer(&address).await;
    let (second_peer, _) = packet(&mut listener).await;
    second.write_all(&part(60_000)).await.unwrap();
    let mut reported = ended(&mut listener, &mut second).await;
    if reported.is_empty() {
        reported.push(next(&mut listener).await);
    }
    assert_eq!(reported, [Incoming::Gone(second_peer)]);
    // What was taken by the owner is free for others; one who is kept needs none of it.
    first.write_all(&[1; 30_000]).await.unwrap();
    assert_eq!(
        packet(&mut listener).await,
        (first_peer, vec![Bytes::from(vec![1; 60_000])])
    );
    listener.keep(first_peer);
    for peer in [&mut first, &mut raw::dealer(&address).await] {
        peer.write_all(&part(60_000)).await.unwrap();
        peer.write_all(&[2; 60_000]).await.unwrap();
        let whole =
            async { while packet(&mut listener).await.1 != [Bytes::from(vec![2; 60_000])] {} };
        within(whole).await;
    }
}

#[tokio::test]
async fn a_stranger_that_never_reads_is_ended_early() {
    let (mut listener, address) = listener_within(Limits {
        stranger_queue_bytes_max: 64 * 1024,
        ..generous()
    })
    .await;
    let _stuck = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    let mut sent = 0;
    loop {
        sent += 1;
        assert!(sent < 1_000_000, "there is no limit");
        listener.send(peer, vec![Bytes::from_static(&[0; 16 * 1024])]);
        match super::poll_once(&mut listener).await {
            None => tokio::task::yield_now().await,
            Some(incoming) => break assert_eq!(incoming, Incoming::Gone(peer)),
        }
    }
}

/// The same limits hold for what a listener says, as the port may be another program's.
#[tokio::test]
async fn a_hostile_listener_ends_its_connection_only() {
    for said in [
        announced(0x02),
        announced(0x06),
        b"\x01\x01x".repeat(10_000),
    ] {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", server.local_addr().unwrap());
        let serve = async {
            let (mut stream, _) = server.accept().await.unwrap();
            raw::handshake(&mut stream, &[("Socket-Type", "ROUTER")]).await;
            stream.write_all(&said).await.unwrap();
            stream
        };
        let ((mut connection, up), _stream) =
            within(async { tokio::join!(connection(&address), serve) }).await;
        match next(&mut connection).await {
            Incoming::Oversized(peer) => {
                assert_eq!(peer, up);
                assert_eq!(next(&mut connection).await, Incoming::Closed);
            }
            other => assert_eq!(other, Incoming::Closed),
        }
    }
}

/// Sends the same bytes without a pause, from a thread of its own, until it is told to stop or cannot go
/// on; it gives up by itself, so that a test that it stops altogether fails instead of hanging.
struct Flood {
    until: Arc<AtomicBool>,
    stream: std::net::TcpStream,
    sending: JoinHandle<()>,
}

impl Flood {
    fn start(stream: TcpStream, bytes: &[u8]) -> Self {
        const GIVEN_UP: Duration = Duration::from_secs(60);
        let mut stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        let shared = stream.try_clone().unwrap();
        let bytes = bytes.repeat(64 * 1024 / bytes.len());
        let until = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&until);
        let sending = std::thread::spawn(move || {
            let started = Instant::now();
            while !stop.load(Ordering::Relaxed)
                && started.elapsed() < GIVEN_UP
                && stream.write_all(&bytes).is_ok()
            {}
        });
        Self {
            until,
            stream: shared,
            sending,
        }
    }

    /// Ends it; true if it still went on.
    fn stop(self) -> bool {
        let went_on = !self.sending.is_finished();
        self.until.store(true, Ordering::Relaxed);
        // It may wait until we read. It fails only if the other side has ended the connection.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        self.sending.join().unwrap();
        went_on
    }
}

#[tokio::test]
async fn heartbeats_without_end_leave_others_their_turn() {
    let (mut listener, address) = listener().await;
    let pest = raw::dealer(&address).await;
    let (number, _) = packet(&mut listener).await;
    listener.keep(number);
    let flood = Flood::start(pest, raw::PING);
    for _ in 0..20 {
        is_alive(&mut listener, &address).await;
    }
    assert!(flood.stop(), "others were served when the flood was over");
}

#[tokio::test]
async fn who_says_too_much_and_goes_on_is_ended() {
    let (mut listener, address) = listener().await;
    let mut pest = raw::dealer(&address).await;
    let (number, _) = packet(&mut listener).await;
    pest.write_all(&announced(0x02)).await.unwrap();
    let flood = Flood::start(pest, b"x");
    assert_eq!(next(&mut listener).await, Incoming::Oversized(number));
    assert!(flood.stop(), "it was noticed when the flood was over");
    assert_eq!(next(&mut listener).await, Incoming::Gone(number));
}

#[tokio::test]
async fn a_listener_that_sends_heartbeats_without_end_stops_nothing_else() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", server.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = server.accept().await.unwrap();
        raw::handshake(&mut stream, &[("Socket-Type", "ROUTER")]).await;
        stream
    };
    let ((mut connection, _), stream) =
        within(async { tokio::join!(connection(&address), serve) }).await;
    let flood = Flood::start(stream, raw::PING);
    let other = tokio::time::sleep(Duration::from_millis(100));
    tokio::select! {
        incoming = connection.recv() => panic!("{incoming:?}"),
        () = other => {}
    }
    assert!(
        flood.stop(),
        "nothing else happened until the flood was over"
    );
}

#[tokio::test]
async fn the_time_for_a_packet_begins_with_the_packet() {
    let (mut listener, address) = listener_within(Limits {
        patience: SOON,
        ..generous()
    })
    .await;
    let mut operator = raw::dealer(&address).await;
    let (number, _) = packet(&mut listener).await;
    listener.understood(number);
    // A command that says nothing, in two pieces.
    operator.write_all(b"\x04\x05").await.unwrap();
    is_alive(&mut listener, &address).await;
    operator.write_all(b"\x04PONG").await.unwrap();
    let mut silent = raw::connected(&address).await;
    ended(&mut listener, &mut silent).await;
    operator.write_all(raw::FRAGMENT).await.unwrap();
    is_alive(&mut listener, &address).await;
    operator.write_all(&[b'x'; 197]).await.unwrap();
    assert_eq!(packet(&mut listener).await.0, number);
}
