//! Channels over ZeroMQ's wire protocol, ZMTP 3.1: [`Listener`] is a ROUTER, [`Connection`] a DEALER.
//!
//! Spoken by ourselves, because whoever can reach a port must not be able to do more than speak
//! (`docs/decisions/0019-own-zmtp.md`). What is kept here:
//!
//! - nothing is allocated for a length before that length is known to be within the limits;
//! - a stranger has deadlines, a small share of memory, and a place among few that the next one takes;
//! - a queue to a peer is bounded, and only its own task writes;
//! - any error, end or breach of the protocol ends that connection and no other.
//!
//! A connection takes this way: a `Stream` is accepted by the `door` and does its `handshake` there, is
//! then served by a `link` with a `Reader` and an `Outlet`, and the [`Listener`] hears of what it says.
//! [`Connection`] has the same parts without the door.

mod address;
mod connection;
mod door;
mod frame;
mod handshake;
mod link;
mod listener;
mod outlet;
mod reader;
mod stream;

use std::time::Duration;

pub use address::{Exposure, PORTS};
pub use connection::Connection;
pub use listener::{Limits, Listener};

/// Longest time that what is queued may take to be handed to the network when a connection ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);
