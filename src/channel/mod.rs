//! The command and data channels: packets between peers, over ZeroMQ or in memory.
//!
//! A channel carries multipart messages and notices when a peer is gone. It knows nothing of sessions,
//! credit or heartbeats: those are the engine's, and they keep every queue in here short. What the
//! `zeromq` crate does not do, or does badly, is made up for in [`zmq`]; the rules are in
//! `docs/decisions/`.

pub mod memory;
pub mod zmq;

use std::future::Future;

use crate::wire::Frames;

/// A peer of a channel: one connection, never the same number twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

/// Most packets that wait to be sent to one peer. The engine's credit and its limits on control
/// messages stay below it; a peer that reaches it is disconnected.
pub const OUTGOING_PACKETS_MAX: usize = 2048;

/// What a channel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A packet came from this peer.
    Packet(Peer, Frames),
    /// This peer sent more parts or bytes than a packet may have; it is still connected.
    Oversized(Peer),
    /// This peer is gone: nothing from it follows, nothing reaches it any more.
    Gone(Peer),
    /// The channel itself has ended and must be made anew: an outgoing connection is lost, or a
    /// listening socket failed.
    Closed,
}

/// One end of a channel: a listener with many peers, or a connection with one.
pub trait Channel: Send {
    /// Queues a packet for a peer, never waiting. Unknown and gone peers are ignored: their `Gone` is
    /// reported. A peer whose queue is full is disconnected and reported gone.
    fn send(&mut self, peer: Peer, frames: Frames);
    /// The next thing that happened. Safe to cancel.
    fn recv(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Ends the connection of one peer, after what is queued for it was handed to the network.
    fn disconnect(&mut self, peer: Peer);
    /// Ends the channel after what is queued was handed to the network, waiting at most a second.
    fn close(self) -> impl Future<Output = ()> + Send;
}
