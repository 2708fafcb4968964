//! A channel inside one process, for tests: the same contract as [`super::zmtp`], without sockets.
//!
//! Everything that connections send arrives at the listener in the order in which it was sent. What
//! has not been read counts as queued, so a peer that does not read is disconnected after exactly
//! [`OUTGOING_PACKETS_MAX`] packets.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;

use tokio::sync::mpsc::{self, Receiver, Sender, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Channel, ChannelError, Incoming, OUTGOING_PACKETS_MAX, Peer};
use crate::wire::Frames;

/// A listener, and the means to connect to it.
#[must_use]
pub fn pair() -> (Listener, Dialer) {
    let (dialer, inbox) = mpsc::unbounded_channel();
    let listener = Listener {
        inbox,
        links: BTreeMap::new(),
        gone: VecDeque::new(),
        oversized: None,
    };
    (listener, Dialer(dialer))
}

/// What connections tell the listener. Packets are limited per connection, by their permits.
enum Event {
    Connected(Peer, Sender<Frames>),
    Packet(Peer, Frames, OwnedSemaphorePermit),
    Left(Peer),
}

/// Connects to a listener.
#[derive(Debug, Clone)]
pub struct Dialer(UnboundedSender<Event>);

impl Dialer {
    /// A new connection.
    ///
    /// # Errors
    /// [`ChannelError::Refused`] if the listener has ended.
    pub fn connect(&self) -> Result<(Connection, Peer), ChannelError> {
        let peer = Peer::next();
        let (sender, inbox) = mpsc::channel(OUTGOING_PACKETS_MAX);
        self.0
            .send(Event::Connected(peer, sender))
            .map_err(|_| ChannelError::Refused {
                address: "memory".to_owned(),
            })?;
        let link = Link {
            peer,
            listener: self.0.clone(),
            room: Arc::new(Semaphore::new(OUTGOING_PACKETS_MAX)),
            inbox,
        };
        Ok((
            Connection {
                peer,
                link: Some(link),
                reported: false,
            },
            peer,
        ))
    }
}

/// The listening end.
pub struct Listener {
    inbox: UnboundedReceiver<Event>,
    links: BTreeMap<Peer, Inward>,
    gone: VecDeque<Peer>,
    /// Has sent too much, which was reported.
    oversized: Option<Peer>,
}

/// A connected peer, as the listener sees it.
struct Inward {
    sender: Sender<Frames>,
    /// It has sent something, so its end will be reported.
    spoke: bool,
}

impl Listener {
    /// Ends the connection of a peer; what it has not read yet stays readable.
    fn remove(&mut self, peer: Peer) {
        if self.links.remove(&peer).is_some_and(|link| link.spoke) {
            self.gone.push_back(peer);
        }
    }

    /// What to report for an event, if anything.
    fn happened(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::Connected(peer, sender) => {
                self.links.insert(
                    peer,
                    Inward {
                        sender,
                        spoke: false,
                    },
                );
                None
            }
            Event::Packet(peer, frames, permit) => {
                drop(permit);
                self.links.get_mut(&peer)?.spoke = true;
                let incoming = Incoming::received(peer, frames);
                if matches!(incoming, Incoming::Oversized(_)) {
                    self.oversized = Some(peer);
                }
                Some(incoming)
            }
            Event::Left(peer) => {
                self.remove(peer);
                None
            }
        }
    }
}

impl Channel for Listener {
    fn send(&mut self, peer: Peer, frames: Frames) {
        // A peer that has left, too, reads no more; its `Left` follows.
        if let Some(link) = self.links.get(&peer).filter(|link| link.spoke)
            && !frames.is_empty()
            && matches!(
                link.sender.try_send(frames),
                Err(mpsc::error::TrySendError::Full(_))
            )
        {
            self.remove(peer);
        }
    }

    async fn recv(&mut self) -> Incoming {
        if let Some(peer) = self.oversized.take() {
            self.remove(peer);
        }
        loop {
            if let Some(peer) = self.gone.pop_front() {
                return Incoming::Gone(peer);
            }
            match self.inbox.recv().await {
                Some(event) => {
                    if let Some(incoming) = self.happened(event) {
                        return incoming;
                    }
                }
                // No connection is left, and nobody can make another.
                None => pending().await,
            }
        }
    }

    fn disconnect(&mut self, peer: Peer) {
        self.remove(peer);
    }

    /// Takes no time: what is queued is where the peers read it.
    async fn close(self) {}
}

/// The connecting end.
pub struct Connection {
    peer: Peer,
    link: Option<Link>,
    reported: bool,
}

/// What there is while the connection lives. Dropping it tells the listener.
struct Link {
    peer: Peer,
    listener: UnboundedSender<Event>,
    /// Places for packets that the listener has not read.
    room: Arc<Semaphore>,
    inbox: Receiver<Frames>,
}

impl Link {
    /// Queues a packet; false if the queue is full.
    fn send(&self, frames: Frames) -> bool {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return false;
        };
        // A listener that has ended reads no more; that is noticed when receiving.
        let _ = self.listener.send(Event::Packet(self.peer, frames, permit));
        true
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.listener.send(Event::Left(self.peer));
    }
}

impl Channel for Connection {
    fn send(&mut self, peer: Peer, frames: Frames) {
        if let Some(link) = &self.link
            && peer == self.peer
            && !frames.is_empty()
            && !link.send(frames)
        {
            self.link = None;
        }
    }

    async fn recv(&mut self) -> Incoming {
        if let Some(link) = &mut self.link {
            let received = link.inbox.recv().await;
            let incoming = received.map(|frames| Incoming::received(self.peer, frames));
            if !matches!(incoming, Some(Incoming::Packet(..))) {
                self.link = None;
            }
            if let Some(incoming) = incoming {
                return incoming;
            }
        }
        if self.reported {
            pending().await
        }
        self.reported = true;
        Incoming::Closed
    }

    fn disconnect(&mut self, peer: Peer) {
        if peer == self.peer {
            self.link = None;
        }
    }

    /// Takes no time: what is queued is where the listener reads it.
    async fn close(self) {}
}
