//! Channels over ZeroMQ: [`Listener`] is a ROUTER, [`Connection`] a DEALER.
//!
//! The `zeromq` crate moves messages fast and leaves the rest to its user. What is made up for here
//! (`docs/decisions/0010-zeromq-counter-measures.md` has the reasons):
//!
//! - its queues are unbounded for practical purposes, and deadlock when they do fill: an `Outlet`
//!   hands over no more than a small window, and learns when the crate has written it;
//! - its sends must not be cancelled: only the task of an outlet sends;
//! - it does not reconnect, and a broken DEALER repeats its error for ever: the first sign of trouble
//!   ends a [`Connection`], and the caller makes a new one;
//! - a fixed identity kills its successor: none is ever set;
//! - it keeps nothing for a peer that is slow to die: sockets accepted here time out in the kernel.

mod address;
mod connection;
mod listener;
mod outlet;

use std::future::pending;
use std::time::Duration;

pub use address::{Exposure, PORTS};
pub use connection::Connection;
pub use listener::Listener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use zeromq::{SocketEvent, SocketRecv};

/// Longest time that what is queued may take to be handed to the network when a connection ends.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// What the crate reports of a socket besides messages.
type Monitor = futures_channel::mpsc::Receiver<SocketEvent>;

/// Waits until every outlet has ended, reading and discarding meanwhile: unread bytes would make the
/// kernel reset the connection instead of delivering what was sent.
async fn drain<T: 'static>(outlets: &mut JoinSet<T>, receiver: &mut impl SocketRecv) {
    let ended = async { while outlets.join_next().await.is_some() {} };
    let discard = async {
        while receiver.recv().await.is_ok() {}
        pending().await
    };
    tokio::select! {
        () = ended => {}
        () = discard => {}
    }
}

/// Waits until the crate has written everything, at most until `deadline`. The crate's writers hold
/// the other end of the monitor, so it ends with the last of them; to be called when the socket itself
/// was dropped.
async fn written(mut monitor: Monitor, deadline: Instant) {
    let ended = async { while monitor.recv().await.is_ok() {} };
    // Past the deadline the writers go on by themselves for as long as the runtime lives.
    let _ = timeout_at(deadline, ended).await;
}
