//! Tests of the channels: the contract that all of them keep, what traps
//! there are, and what hostile peers can do.

#![allow(clippy::unwrap_used)]

mod address;
mod contract;
mod hostile;
mod process;
mod raw;
mod traps;

use std::future::{Future, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::zmtp::{Connection, Exposure, Limits, Listener};
use super::{Channel, Incoming, Peer};
use crate::wire::Frames;

/// A deadline that only a hang exceeds.
const HANG: Duration = Duration::from_secs(30);

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(HANG, future).await.expect("no hang")
}

async fn next(channel: &mut impl Channel) -> Incoming {
    within(channel.recv()).await
}

/// The next packet as peer and parts.
async fn packet(channel: &mut impl Channel) -> (Peer, Frames) {
    match next(channel).await {
        Incoming::Packet(peer, frames) => (peer, frames),
        other => panic!("a packet was expected, not {other:?}"),
    }
}

/// What is reported at once, if anything; receiving is cancelled otherwise.
async fn poll_once(channel: &mut impl Channel) -> Option<Incoming> {
    tokio::select! {
        biased;
        incoming = channel.recv() => Some(incoming),
        () = ready(()) => None,
    }
}

/// True if nothing is reported, however often it is asked.
async fn silent(channel: &mut impl Channel) -> bool {
    for _ in 0..100 {
        if poll_once(channel).await.is_some() {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

fn text(text: &'static str) -> Frames {
    vec![Bytes::from_static(text.as_bytes())]
}

fn number(number: u32) -> Frames {
    vec![Bytes::copy_from_slice(&number.to_be_bytes())]
}

/// Limits that nobody reaches who is no subject of the test.
fn generous() -> Limits {
    Limits {
        patience: HANG,
        stranger_queue_bytes_max: usize::MAX,
        ..Limits::default()
    }
}

/// A listener on a free port, and its address.
async fn listener() -> (Listener, String) {
    listener_within(generous()).await
}

async fn listener_within(limits: Limits) -> (Listener, String) {
    Listener::bind_within("tcp://127.0.0.1:0", Exposure::Loopback, limits)
        .await
        .unwrap()
}

async fn connection(address: &str) -> (Connection, Peer) {
    Connection::connect(address, HANG).await.unwrap()
}

/// Content that counts its living copies.
struct Counted {
    content: Bytes,
    alive: Arc<AtomicUsize>,
}

impl Counted {
    fn frames(content: &Bytes, alive: &Arc<AtomicUsize>) -> Frames {
        alive.fetch_add(1, Ordering::Relaxed);
        vec![Bytes::from_owner(Self {
            content: content.clone(),
            alive: alive.clone(),
        })]
    }
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.content
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
