//! The command and data channels: packets between peers, over ZeroMQ's protocol or in memory.
//!
//! A channel carries multipart messages and notices when a peer is gone. It knows nothing of sessions,
//! credit or heartbeats: those are the engine's, and they keep every queue in here short. What a peer
//! may do to this process before the engine knows it is bounded in [`zmtp`].

pub mod error;
pub mod memory;
#[cfg(test)]
mod tests;
pub mod zmtp;

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

pub use error::ChannelError;

use crate::wire::{FRAMES_MAX, Frames, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// A peer of a channel: one connection, never the same number twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(pub u64);

impl Peer {
    /// The next number, for a new connection.
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// Most packets that wait to be sent to one peer. The engine's credit and its limits on control
/// messages stay below it; a peer that reaches it is disconnected.
pub const OUTGOING_PACKETS_MAX: usize = 2048;

/// What a channel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A packet came from this peer.
    Packet(Peer, Frames),
    /// This peer sends more parts or bytes than a packet may have. Nothing follows from it: it may be told
    /// why until the channel is asked again, which disconnects it.
    Oversized(Peer),
    /// This peer is gone: nothing from it follows, nothing reaches it any more.
    Gone(Peer),
    /// The channel itself has ended and must be made anew: an outgoing connection is lost, or a
    /// listening socket failed. Reported once; after that nothing ever comes, and the channel is to
    /// be dropped.
    Closed,
}

impl Incoming {
    /// What to report for parts that came from a peer: the packet, if it is within the limits.
    fn received(peer: Peer, frames: Frames) -> Self {
        let bytes: usize = frames.iter().map(bytes::Bytes::len).sum();
        if frames.len() > FRAMES_MAX || bytes > HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX {
            Self::Oversized(peer)
        } else {
            Self::Packet(peer, frames)
        }
    }
}

/// One end of a channel: a listener with many peers, or a connection with one.
///
/// The owner keeps calling [`Channel::recv`]: only that notices peers that are gone. A listener
/// reports every peer that ever sent something as [`Incoming::Gone`] exactly once, whoever ended it;
/// a connection reports [`Incoming::Closed`] instead. A channel that is dropped rather than closed may
/// lose what is queued.
pub trait Channel: Send {
    /// Queues a packet for a peer, never waiting. Unknown and gone peers are ignored: their `Gone` is
    /// reported. A peer whose queue is full is disconnected and reported gone.
    fn send(&mut self, peer: Peer, frames: Frames);
    /// The next thing that happened. Safe to cancel.
    fn recv(&mut self) -> impl Future<Output = Incoming> + Send;
    /// Ends the connection of one peer, after what is queued for it was handed to the network, which
    /// takes at most a second. Its end is reported at once, and nothing from it follows.
    fn disconnect(&mut self, peer: Peer);
    /// Ends the channel after what is queued was handed to the network, waiting at most a second.
    fn close(self) -> impl Future<Output = ()> + Send;
}
