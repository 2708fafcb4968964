//! Traps into which an implementation of such a channel can fall, and that they stay shut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::{Counted, HANG, connection, listener, next, number, packet, raw, silent, text, within};
use crate::channel::zmtp::{Connection, Exposure, Listener};
use crate::channel::{Channel, ChannelError, Incoming, OUTGOING_PACKETS_MAX};

/// A listener changes hands: the next owner hears of new peers only, and those that were there get what was
/// queued for them, and an end.
#[tokio::test]
async fn a_listener_goes_on_without_the_peers_that_it_had() {
    let (mut listener, address) = listener().await;
    let (mut old, up) = connection(&address).await;
    old.send(up, text("old"));
    let (peer, _) = packet(&mut listener).await;
    listener.send(peer, text("farewell"));
    let waiting = async {
        assert_eq!(next(&mut old).await, Incoming::Packet(up, text("farewell")));
        assert_eq!(next(&mut old).await, Incoming::Closed);
    };
    tokio::join!(listener.disconnect_all(), waiting);
    let (mut new, up) = connection(&address).await;
    new.send(up, text("new"));
    assert_eq!(packet(&mut listener).await.1, text("new"));
    assert!(silent(&mut listener).await);
}

/// The peer's TCP window is full, and the peer never reads: `disconnect` works, and what was queued for
/// it is freed.
#[tokio::test]
async fn a_peer_that_never_answers_can_be_disconnected() {
    let (mut listener, address) = listener().await;
    let _stuck = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    let content = Bytes::from(vec![0; 256 * 1024]);
    let alive = Arc::new(AtomicUsize::new(0));
    for _ in 0..1000 {
        listener.send(peer, Counted::frames(&content, &alive));
    }
    listener.disconnect(peer);
    assert_eq!(next(&mut listener).await, Incoming::Gone(peer));
    let freed = async {
        while alive.load(Ordering::Relaxed) > 0 {
            let nothing = timeout(Duration::from_millis(10), listener.recv()).await;
            assert!(nothing.is_err(), "{nothing:?} after the peer was gone");
        }
    };
    within(freed).await;
}

#[tokio::test]
async fn a_peer_that_leaves_with_a_full_queue_blocks_nobody() {
    let (mut listener, address) = listener().await;
    let stuck = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    let (mut live, up) = connection(&address).await;
    live.send(up, text("hello"));
    let (live_peer, _) = packet(&mut listener).await;
    for _ in 0..OUTGOING_PACKETS_MAX {
        listener.send(peer, vec![Bytes::from_static(&[0; 64 * 1024])]);
    }
    // Its answer proves that the connections have had their turns.
    listener.send(live_peer, text("one"));
    assert_eq!(packet(&mut live).await.1, text("one"));
    drop(stuck);
    assert_eq!(next(&mut listener).await, Incoming::Gone(peer));
    listener.send(live_peer, text("two"));
    assert_eq!(packet(&mut live).await.1, text("two"));
    connection(&address).await;
}

/// An identity is accepted and means nothing: who somebody is stands in the messages.
#[tokio::test]
async fn peers_that_share_an_identity_do_not_disturb_each_other() {
    let (mut listener, address) = listener().await;
    let mut first = raw::named_dealer(&address, "the same").await;
    let (first_peer, _) = packet(&mut listener).await;
    let mut second = raw::named_dealer(&address, "the same").await;
    let (second_peer, _) = packet(&mut listener).await;
    assert_ne!(first_peer, second_peer);
    for (stream, peer) in [(&mut first, first_peer), (&mut second, second_peer)] {
        listener.send(peer, number(7));
        let mut answer = [0; 6];
        within(stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, [0, 4, 0, 0, 0, 7]);
    }
    drop(first);
    assert_eq!(next(&mut listener).await, Incoming::Gone(first_peer));
    second.write_all(b"\x00\x05again").await.unwrap();
    assert_eq!(packet(&mut listener).await, (second_peer, text("again")));
}

#[tokio::test]
async fn close_does_not_wait_long_for_a_peer_that_never_reads() {
    let (mut listener, address) = listener().await;
    let _stuck = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    for _ in 0..100 {
        listener.send(peer, vec![Bytes::from(vec![0; 256 * 1024])]);
    }
    let started = Instant::now();
    within(listener.close()).await;
    assert!(started.elapsed() < HANG / 3, "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_peer_that_closes_inside_a_message_leaves_the_listener_alive() {
    let (mut listener, address) = listener().await;
    for _ in 0..50 {
        let mut broken = raw::dealer(&address).await;
        let (peer, _) = packet(&mut listener).await;
        broken.write_all(raw::FRAGMENT).await.unwrap();
        drop(broken);
        assert_eq!(next(&mut listener).await, Incoming::Gone(peer));
    }
    // Also inside the handshake, and without a word.
    for opening in [b"".as_slice(), b"\xFF\0\0", b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stranger = TcpStream::connect(raw::host_and_port(&address))
            .await
            .unwrap();
        stranger.write_all(opening).await.unwrap();
    }
    let (mut peer, up) = connection(&address).await;
    peer.send(up, text("alive"));
    assert_eq!(packet(&mut listener).await.1, text("alive"));
    assert!(silent(&mut listener).await);
}

#[tokio::test]
async fn a_listener_that_closes_inside_a_message_ends_the_connection_once() {
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", server.local_addr().unwrap());
    let serve = async {
        let (mut stream, _) = server.accept().await.unwrap();
        raw::handshake(&mut stream, &[("Socket-Type", "ROUTER")]).await;
        stream.write_all(raw::FRAGMENT).await.unwrap();
    };
    let ((mut connection, _), ()) =
        within(async { tokio::join!(connection(&address), serve) }).await;
    assert_eq!(next(&mut connection).await, Incoming::Closed);
    assert!(silent(&mut connection).await);
}

/// Also between the parts of a message, where libzmq may send them.
#[tokio::test]
async fn heartbeats_of_libzmq_are_answered() {
    let (mut listener, address) = listener().await;
    let mut beating = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    let mut pong = [0; 10];
    for opening in [b"".as_slice(), b"\x01\x03one"] {
        beating.write_all(opening).await.unwrap();
        beating.write_all(raw::PING).await.unwrap();
        let answer = async {
            tokio::select! {
                read = beating.read_exact(&mut pong) => read.unwrap(),
                incoming = listener.recv() => panic!("{incoming:?}"),
            }
        };
        within(answer).await;
        assert_eq!(&pong, b"\x04\x08\x04PONGabc");
    }
    beating.write_all(b"\x00\x03two").await.unwrap();
    let expected = vec![Bytes::from_static(b"one"), Bytes::from_static(b"two")];
    assert_eq!(packet(&mut listener).await, (peer, expected));
}

/// What `ssh -L` looks like when nothing listens behind it.
#[tokio::test]
async fn a_tunnel_with_a_dead_far_end_fails_soon() {
    for say_something in [false, true] {
        let tunnel = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("tcp://{}", tunnel.local_addr().unwrap());
        let refuse = async {
            loop {
                let (mut stream, _) = tunnel.accept().await.unwrap();
                if say_something {
                    let _ = stream.read(&mut [0; 16]).await;
                }
            }
        };
        let connect = within(Connection::connect(&address, HANG));
        tokio::select! {
            connected = connect => match connected {
                Ok((mut connection, _)) => assert_eq!(next(&mut connection).await, Incoming::Closed),
                Err(error) => assert!(matches!(
                    error,
                    ChannelError::Handshake { .. } | ChannelError::Unreachable { .. }
                ), "{error}"),
            },
            () = refuse => {}
        }
    }
}

/// The listener is told of an end that it can only learn by reading, while it has nothing to read.
#[tokio::test]
async fn ends_are_noticed_without_traffic() {
    let (mut listener, address) = listener().await;
    let idle = raw::dealer(&address).await;
    let (peer, _) = packet(&mut listener).await;
    assert!(silent(&mut listener).await);
    drop(idle);
    assert_eq!(next(&mut listener).await, Incoming::Gone(peer));
}

/// With several threads the tasks of connections run beside their owner.
#[test]
fn many_peers_on_several_threads() {
    const PACKETS: u32 = 500;
    const PEERS: usize = 12;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_all()
        .build();
    runtime.unwrap().block_on(within(async {
        let (mut listener, address) = Listener::bind("tcp://127.0.0.1:0", Exposure::Loopback)
            .await
            .unwrap();
        let peers: Vec<_> = (0..PEERS)
            .map(|_| {
                let address = address.clone();
                tokio::spawn(async move {
                    let (mut peer, up) = connection(&address).await;
                    for n in 0..PACKETS {
                        peer.send(up, number(n));
                        assert_eq!(packet(&mut peer).await.1, number(n));
                    }
                    peer.close().await;
                })
            })
            .collect();
        let mut gone = 0;
        while gone < PEERS {
            match next(&mut listener).await {
                Incoming::Packet(peer, frames) => listener.send(peer, frames),
                Incoming::Gone(_) => gone += 1,
                other => panic!("{other:?}"),
            }
        }
        for peer in peers {
            peer.await.unwrap();
        }
    }));
}
