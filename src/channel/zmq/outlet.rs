//! The way out to one peer: a bounded queue, and a task that feeds the crate from it.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};
use zeromq::util::PeerIdentity;
use zeromq::{SocketSend, ZmqMessage};

use crate::channel::OUTGOING_PACKETS_MAX;
use crate::wire::Frames;

/// Most packets handed to the crate for one peer and not yet written.
pub(super) const WINDOW_PACKETS_MAX: u32 = 256;
/// Most bytes handed to the crate for one peer and not yet written, up to the last packet.
pub(super) const WINDOW_BYTES_MAX: usize = 16 * 1024 * 1024;

/// A packet takes one permit of the window for every started portion of this many bytes, so that one
/// semaphore enforces both limits.
const PERMIT_BYTES: usize = WINDOW_BYTES_MAX / WINDOW_PACKETS_MAX as usize;

/// The queue of one peer. Dropping it discards what is queued.
pub(super) struct Outlet {
    packets: mpsc::Sender<Frames>,
    deadline: oneshot::Sender<Instant>,
}

/// The queue of a peer is full: it does not read.
pub(super) struct QueueFull;

impl Outlet {
    /// A queue, and the task that empties it into the socket, for the caller to spawn. `identity` is
    /// put in front of every packet, as a ROUTER needs it. The task ends when the outlet does, or
    /// when the crate refuses a packet.
    pub(super) fn new(
        socket: impl SocketSend + Send,
        identity: Option<PeerIdentity>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (packets, queue) = mpsc::channel(OUTGOING_PACKETS_MAX);
        let (deadline, ending) = oneshot::channel();
        let task = feed(socket, identity.map(Bytes::from), queue, ending);
        (Self { packets, deadline }, task)
    }

    /// Queues a packet. One that the task will not take any more, as it has ended, is dropped: the
    /// end of the task is what reports the loss.
    pub(super) fn send(&self, frames: Frames) -> Result<(), QueueFull> {
        match self.packets.try_send(frames) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(QueueFull),
        }
    }

    /// Takes no more packets; what is queued may be written until the deadline.
    pub(super) fn finish(self, deadline: Instant) {
        // A task that has ended already needs no deadline.
        let _ = self.deadline.send(deadline);
    }
}

/// Feeds the crate within the window until the queue ends and everything is written.
///
/// This is the only place that sends. It is never cancelled inside a send: the crate would deliver
/// the packet nevertheless, outside of the window. The send does not wait either, as the window is far
/// smaller than the crate's queue of 100 000.
async fn feed(
    mut socket: impl SocketSend + Send,
    identity: Option<Bytes>,
    mut queue: mpsc::Receiver<Frames>,
    ending: oneshot::Receiver<Instant>,
) {
    let window = Arc::new(Semaphore::new(WINDOW_PACKETS_MAX as usize));
    let mut ending = pin!(over(ending));
    loop {
        let next = tokio::select! {
            biased;
            () = &mut ending => return,
            next = queue.recv() => next,
        };
        let Some(frames) = next else { break };
        let permit = tokio::select! {
            biased;
            () = &mut ending => return,
            permit = window.clone().acquire_many_owned(cost(&frames)) => permit,
        };
        let permit = permit.expect("the window is never closed");
        let Some(message) = message(identity.clone(), frames, permit) else {
            continue;
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    tokio::select! {
        () = ending => {}
        // All permits are back when all packets are written.
        _ = window.acquire_many(WINDOW_PACKETS_MAX) => {}
    }
}

/// Comes when the deadline has passed, or at once when the outlet was dropped without one.
async fn over(ending: oneshot::Receiver<Instant>) {
    if let Ok(deadline) = ending.await {
        sleep_until(deadline).await;
    }
}

/// How many permits a packet takes.
fn cost(frames: &Frames) -> u32 {
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    let permits = bytes.div_ceil(PERMIT_BYTES).max(1);
    u32::try_from(permits).map_or(WINDOW_PACKETS_MAX, |permits| {
        permits.min(WINDOW_PACKETS_MAX)
    })
}

/// The crate's form of a packet; none for a packet without parts, which ZeroMQ cannot express.
fn message(
    identity: Option<Bytes>,
    frames: Frames,
    permit: OwnedSemaphorePermit,
) -> Option<ZmqMessage> {
    let mut frames = frames.into_iter();
    let first = Held {
        bytes: frames.next()?,
        _permit: permit,
    };
    let mut parts = VecDeque::with_capacity(frames.len() + 2);
    parts.extend(identity);
    parts.push_back(Bytes::from_owner(first));
    parts.extend(frames);
    ZmqMessage::try_from(parts).ok()
}

/// A part that holds a place in the window. The crate drops a message when it has copied it to the
/// buffer of the connection, a buffer that it empties first when it is full: so the drop is the sign,
/// and the only one, that a message has left the crate's queue.
struct Held {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::pin::Pin;
    use std::sync::Mutex;

    use zeromq::ZmqResult;

    use super::*;

    /// A crate that writes nothing until it is told to.
    #[derive(Clone, Default)]
    struct Hoard(Arc<Mutex<VecDeque<ZmqMessage>>>);

    impl Hoard {
        fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }

        fn write_one(&self) -> Option<ZmqMessage> {
            self.0.lock().unwrap().pop_front()
        }
    }

    impl SocketSend for Hoard {
        fn send<'a, 'b>(
            &'a mut self,
            message: ZmqMessage,
        ) -> Pin<Box<dyn Future<Output = ZmqResult<()>> + Send + 'b>>
        where
            'a: 'b,
        {
            self.0.lock().unwrap().push_back(message);
            Box::pin(std::future::ready(Ok(())))
        }
    }

    /// Lets the task do what it can.
    async fn settle() {
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }

    async fn handed_over_at_once(packet_bytes: usize) -> usize {
        let hoard = Hoard::default();
        let (outlet, task) = Outlet::new(hoard.clone(), None);
        tokio::spawn(task);
        let content = Bytes::from(vec![0; packet_bytes]);
        for _ in 0..OUTGOING_PACKETS_MAX {
            assert!(outlet.send(vec![content.clone()]).is_ok());
        }
        settle().await;
        let at_once = hoard.len();
        drop(hoard.write_one());
        settle().await;
        assert_eq!(hoard.len(), at_once, "one written, one more handed over");
        at_once
    }

    #[tokio::test]
    async fn the_window_limits_packets_and_bytes() {
        assert_eq!(handed_over_at_once(0).await, 256);
        assert_eq!(handed_over_at_once(64 * 1024).await, 256);
        assert_eq!(handed_over_at_once(1024 * 1024).await, 16);
        assert_eq!(handed_over_at_once(100 * 1024 * 1024).await, 1);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_a_dropped_one_discards() {
        let hoard = Hoard::default();
        let (outlet, task) = Outlet::new(hoard.clone(), None);
        let task = tokio::spawn(task);
        for _ in 0..OUTGOING_PACKETS_MAX {
            assert!(outlet.send(vec![Bytes::new()]).is_ok());
        }
        assert!(outlet.send(vec![Bytes::new()]).is_err());
        drop(outlet);
        task.await.unwrap();
        assert_eq!(hoard.len(), 0);
    }

    #[tokio::test]
    async fn a_finished_outlet_waits_until_everything_is_written() {
        let hoard = Hoard::default();
        let (outlet, task) = Outlet::new(hoard.clone(), None);
        let task = tokio::spawn(task);
        for n in 0..1000_u32 {
            assert!(
                outlet
                    .send(vec![Bytes::copy_from_slice(&n.to_be_bytes())])
                    .is_ok()
            );
        }
        outlet.finish(Instant::now() + std::time::Duration::from_secs(60));
        for n in 0..1000_u32 {
            assert!(!task.is_finished());
            let message = loop {
                if let Some(message) = hoard.write_one() {
                    break message;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(
                message.into_vec(),
                vec![Bytes::copy_from_slice(&n.to_be_bytes())]
            );
        }
        task.await.unwrap();
    }

    #[tokio::test]
    async fn a_finished_outlet_gives_up_at_the_deadline() {
        let hoard = Hoard::default();
        let (outlet, task) = Outlet::new(hoard.clone(), None);
        let task = tokio::spawn(task);
        assert!(outlet.send(vec![Bytes::new()]).is_ok());
        outlet.finish(Instant::now() + std::time::Duration::from_millis(50));
        task.await.unwrap();
        assert_eq!(hoard.len(), 1);
    }

    #[test]
    fn the_identity_comes_first() {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        let frames = vec![Bytes::new(), Bytes::from_static(b"content")];
        let sent = message(Some(Bytes::from_static(b"id")), frames, permit).unwrap();
        assert_eq!(sent.into_vec(), [b"id".as_slice(), b"", b"content"]);
    }
}
