//! What every channel keeps, over TCP, over Unix sockets and in memory.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tempfile::TempDir;

use super::{Counted, HANG, next, number, packet, poll_once, silent, text, within};
use crate::channel::zmtp::{self, Exposure};
use crate::channel::{Channel, Incoming, OUTGOING_PACKETS_MAX, Peer, memory};
use crate::wire::{FRAMES_MAX, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// A way to make a listener and connections to it.
trait Rig: Sized {
    type Listener: Channel;
    type Connection: Channel + 'static;
    fn listen() -> impl Future<Output = (Self::Listener, Self)>;
    fn dial(&self) -> impl Future<Output = (Self::Connection, Peer)>;
}

struct Memory(memory::Dialer);

impl Rig for Memory {
    type Listener = memory::Listener;
    type Connection = memory::Connection;
    async fn listen() -> (memory::Listener, Self) {
        let (listener, dialer) = memory::pair();
        (listener, Self(dialer))
    }
    async fn dial(&self) -> (memory::Connection, Peer) {
        self.0.connect().unwrap()
    }
}

struct Tcp(String);

impl Rig for Tcp {
    type Listener = zmtp::Listener;
    type Connection = zmtp::Connection;
    async fn listen() -> (zmtp::Listener, Self) {
        let (listener, address) = super::listener().await;
        (listener, Self(address))
    }
    async fn dial(&self) -> (zmtp::Connection, Peer) {
        super::connection(&self.0).await
    }
}

struct Ipc(
    String,
    #[expect(dead_code, reason = "holds the directory of the socket")] TempDir,
);

impl Rig for Ipc {
    type Listener = zmtp::Listener;
    type Connection = zmtp::Connection;
    async fn listen() -> (zmtp::Listener, Self) {
        let dir = TempDir::new().unwrap();
        let address = format!("ipc://{}/socket", dir.path().display());
        let (listener, address) =
            zmtp::Listener::bind_within(&address, Exposure::Loopback, super::generous())
                .await
                .unwrap();
        (listener, Self(address, dir))
    }
    async fn dial(&self) -> (zmtp::Connection, Peer) {
        zmtp::Connection::connect(&self.0, HANG).await.unwrap()
    }
}

/// A connection that has said hello, with its number on both sides.
struct Met<C> {
    connection: C,
    /// The listener, for the connection.
    up: Peer,
    /// The connection, for the listener.
    down: Peer,
}

async fn meet<R: Rig>(rig: &R, listener: &mut R::Listener) -> Met<R::Connection> {
    let (mut connection, up) = rig.dial().await;
    connection.send(up, text("hello"));
    let (down, _) = packet(listener).await;
    Met {
        connection,
        up,
        down,
    }
}

async fn packets_arrive_in_order_both_ways<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    for n in 0..400 {
        met.connection.send(met.up, number(n));
        listener.send(
            met.down,
            vec![Bytes::new(), Bytes::from(vec![7; n as usize])],
        );
    }
    for n in 0..400 {
        assert_eq!(packet(&mut listener).await, (met.down, number(n)));
        let (peer, frames) = packet(&mut met.connection).await;
        assert_eq!(peer, met.up);
        assert_eq!(frames, vec![Bytes::new(), Bytes::from(vec![7; n as usize])]);
    }
}

async fn connections_live_and_die_apart<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut first = meet(&rig, &mut listener).await;
    let second = meet(&rig, &mut listener).await;
    assert_ne!(first.down, second.down);
    drop(second.connection);
    assert_eq!(next(&mut listener).await, Incoming::Gone(second.down));
    first.connection.send(first.up, text("alive"));
    assert_eq!(packet(&mut listener).await, (first.down, text("alive")));
    listener.send(second.down, text("lost"));
    listener.send(first.down, text("answer"));
    assert_eq!(packet(&mut first.connection).await.1, text("answer"));
    assert!(silent(&mut listener).await);
}

async fn closed_is_reported_once<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    drop(listener);
    assert_eq!(next(&mut met.connection).await, Incoming::Closed);
    met.connection.send(met.up, text("lost"));
    met.connection.disconnect(met.up);
    assert!(silent(&mut met.connection).await);
}

async fn own_disconnect_of_a_connection_is_closed<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    met.connection.send(met.up, text("last"));
    met.connection.disconnect(met.up);
    assert_eq!(next(&mut met.connection).await, Incoming::Closed);
    assert_eq!(packet(&mut listener).await.1, text("last"));
    assert_eq!(next(&mut listener).await, Incoming::Gone(met.down));
}

async fn disconnect_hands_over_what_is_queued<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    let mut other = meet(&rig, &mut listener).await;
    for n in 0..500 {
        listener.send(met.down, number(n));
    }
    listener.disconnect(met.down);
    listener.disconnect(met.down);
    assert_eq!(next(&mut listener).await, Incoming::Gone(met.down));
    met.connection.send(met.up, text("ignored"));
    let read = async {
        for n in 0..500 {
            assert_eq!(packet(&mut met.connection).await.1, number(n));
        }
        assert_eq!(next(&mut met.connection).await, Incoming::Closed);
    };
    tokio::select! {
        () = read => {}
        incoming = listener.recv() => panic!("{incoming:?} from a peer that is gone"),
    }
    other.connection.send(other.up, text("alive"));
    assert_eq!(packet(&mut listener).await, (other.down, text("alive")));
}

async fn close_of_a_connection_hands_over_what_is_queued<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    let content = Bytes::from(vec![1; 64 * 1024]);
    for _ in 0..400 {
        met.connection.send(met.up, vec![content.clone()]);
    }
    let read = async {
        for _ in 0..400 {
            assert_eq!(packet(&mut listener).await.1, vec![content.clone()]);
        }
        assert_eq!(next(&mut listener).await, Incoming::Gone(met.down));
    };
    tokio::join!(within(met.connection.close()), read);
}

async fn close_of_a_listener_hands_over_what_is_queued<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    let content = Bytes::from(vec![1; 64 * 1024]);
    for _ in 0..400 {
        listener.send(met.down, vec![content.clone()]);
    }
    let read = async {
        for _ in 0..400 {
            assert_eq!(packet(&mut met.connection).await.1, vec![content.clone()]);
        }
        assert_eq!(next(&mut met.connection).await, Incoming::Closed);
    };
    tokio::join!(within(listener.close()), read);
}

async fn the_largest_packet_passes_and_a_larger_one_ends_its_connection<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let largest = vec![
        Bytes::from(vec![0; HEADER_BYTES_MAX]),
        Bytes::from(vec![0; PAYLOAD_BYTES_MAX]),
    ];
    let mut other = meet(&rig, &mut listener).await;
    let mut too_large = largest.clone();
    too_large[1] = Bytes::from(vec![0; PAYLOAD_BYTES_MAX + 1]);
    for broken in [vec![Bytes::new(); FRAMES_MAX + 1], too_large] {
        let mut met = meet(&rig, &mut listener).await;
        met.connection.send(met.up, largest.clone());
        met.connection.send(met.up, broken.clone());
        met.connection.send(met.up, text("ignored"));
        assert_eq!(packet(&mut listener).await, (met.down, largest.clone()));
        assert_eq!(next(&mut listener).await, Incoming::Oversized(met.down));
        listener.send(met.down, text("this is why"));
        assert_eq!(next(&mut listener).await, Incoming::Gone(met.down));
        assert_eq!(packet(&mut met.connection).await.1, text("this is why"));
        assert_eq!(next(&mut met.connection).await, Incoming::Closed);

        let mut met = meet(&rig, &mut listener).await;
        listener.send(met.down, broken);
        assert_eq!(next(&mut met.connection).await, Incoming::Oversized(met.up));
        assert_eq!(next(&mut met.connection).await, Incoming::Closed);
        assert_eq!(next(&mut listener).await, Incoming::Gone(met.down));
    }
    other.connection.send(other.up, text("alive"));
    assert_eq!(packet(&mut listener).await, (other.down, text("alive")));
}

async fn cancelled_receiving_loses_nothing<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let mut met = meet(&rig, &mut listener).await;
    for n in 0..3000 {
        // Cancelled with nothing to receive, and then again and again while the packet travels.
        let mut received = poll_once(&mut listener).await;
        assert_eq!(received, None);
        met.connection.send(met.up, number(n));
        while received.is_none() {
            tokio::task::yield_now().await;
            received = poll_once(&mut listener).await;
        }
        assert_eq!(received, Some(Incoming::Packet(met.down, number(n))));
    }
}

async fn a_peer_that_never_reads_disturbs_nobody<R: Rig>() {
    let (mut listener, rig) = R::listen().await;
    let stuck = meet(&rig, &mut listener).await;
    let mut live = meet(&rig, &mut listener).await;
    let content = Bytes::from(vec![1; 64 * 1024]);
    let alive = Arc::new(AtomicUsize::new(0));
    let mut most = 0;
    let mut sent = 0;
    loop {
        assert!(sent < 10 * OUTGOING_PACKETS_MAX, "the queue is unbounded");
        sent += 1;
        listener.send(stuck.down, Counted::frames(&content, &alive));
        listener.send(live.down, text("go on"));
        assert_eq!(packet(&mut live.connection).await.1, text("go on"));
        most = most.max(alive.load(Ordering::Relaxed));
        live.connection.send(live.up, text("going on"));
        match next(&mut listener).await {
            Incoming::Gone(peer) => {
                assert_eq!(peer, stuck.down);
                break;
            }
            incoming => assert_eq!(incoming, Incoming::Packet(live.down, text("going on"))),
        }
    }
    assert!(
        most <= OUTGOING_PACKETS_MAX + 256 + 1,
        "{most} packets were kept"
    );
    assert_eq!(packet(&mut listener).await, (live.down, text("going on")));
}

/// The whole contract for one kind of channel.
macro_rules! contract {
    ($name:ident, $rig:ty, $($test:ident),+ $(,)?) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test::<$rig>().await;
                }
            )+
        }
    };
    ($($name:ident: $rig:ty),+ $(,)?) => {
        $(contract!(
            $name,
            $rig,
            packets_arrive_in_order_both_ways,
            connections_live_and_die_apart,
            closed_is_reported_once,
            own_disconnect_of_a_connection_is_closed,
            disconnect_hands_over_what_is_queued,
            close_of_a_connection_hands_over_what_is_queued,
            close_of_a_listener_hands_over_what_is_queued,
            the_largest_packet_passes_and_a_larger_one_ends_its_connection,
            cancelled_receiving_loses_nothing,
            a_peer_that_never_reads_disturbs_nobody,
        );)+
    };
}

contract!(over_tcp: super::Tcp, over_ipc: super::Ipc, in_memory: super::Memory);
