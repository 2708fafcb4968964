//! A listening socket: a ROUTER with any number of peers.

use std::collections::{HashMap, VecDeque};
use std::future::pending;
use std::mem;
use std::sync::Arc;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};
use zeromq::util::PeerIdentity;
use zeromq::{
    MultiPeerBackend, RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketEvent,
    SocketRecv, ZmqMessage,
};

use super::outlet::Outlet;
use super::{Exposure, FAREWELL_MAX, Monitor, address, drain, written};
use crate::channel::{Channel, ChannelError, Incoming, Peer};
use crate::wire::Frames;

/// A listening socket. A peer gets its number with the first packet that it sends; peers that never
/// send are not reported.
pub struct Listener {
    receiver: RouterRecvHalf,
    sender: RouterSendHalf,
    /// Ends connections, which the halves of a socket cannot. Used only where the receiver is not
    /// being polled: the crate would bring back a connection that is removed under its hands.
    backend: Arc<dyn MultiPeerBackend>,
    monitor: Monitor,
    /// Accepts connections for the socket, as its halves cannot be told to stop.
    door: RouterSocket,
    /// The tasks of the outlets; each returns whose it was.
    outlets: JoinSet<PeerIdentity>,
    standings: HashMap<PeerIdentity, Standing>,
    links: HashMap<Peer, Link>,
    /// Peers whose end is still to be reported.
    gone: VecDeque<Peer>,
    failed: bool,
}

/// What there is for a peer while it is connected.
struct Link {
    identity: PeerIdentity,
    outlet: Outlet,
}

/// How a peer stands.
enum Standing {
    Connected(Peer),
    /// Reported gone; its outlet is still being emptied, and what it sends is ignored.
    Leaving,
}

impl Listener {
    /// Listens on an address and returns it as bound: with the port that was chosen for port 0, a
    /// free one between 1024 and 49151.
    ///
    /// The socket file of an `ipc://` address is readable and writable by its owner only; one that a
    /// dead process left behind is replaced.
    ///
    /// # Errors
    /// [`ChannelError`] if the address is none, in use, not permitted, or reachable from other hosts
    /// without [`Exposure::Anywhere`].
    pub async fn bind(address: &str, exposure: Exposure) -> Result<(Self, String), ChannelError> {
        let (listener, bound) = address::listen(address, exposure).await?;
        let mut socket = RouterSocket::new();
        let monitor = socket.monitor();
        socket
            .bind_listener(listener)
            .await
            .map_err(|error| ChannelError::Listen {
                address: bound.clone(),
                source: std::io::Error::other(error),
            })?;
        let mut door = RouterSocket::new();
        mem::swap(socket.binds(), door.binds());
        let backend = socket.backend();
        let (sender, receiver) = socket.split();
        let listener = Self {
            receiver,
            sender,
            backend,
            monitor,
            door,
            outlets: JoinSet::new(),
            standings: HashMap::new(),
            links: HashMap::new(),
            gone: VecDeque::new(),
            failed: false,
        };
        Ok((listener, bound))
    }

    /// What to report for a message of the socket, if anything.
    fn arrived(&mut self, message: ZmqMessage) -> Option<Incoming> {
        let mut frames = message.into_vecdeque();
        let identity = PeerIdentity::try_from(frames.pop_front()?).ok()?;
        let peer = match self.standings.get(&identity) {
            Some(Standing::Connected(peer)) => *peer,
            Some(Standing::Leaving) => return None,
            None => self.admit(identity),
        };
        Some(Incoming::received(peer, frames.into()))
    }

    /// Numbers a new peer and opens its outlet.
    fn admit(&mut self, identity: PeerIdentity) -> Peer {
        let peer = Peer::next();
        let (outlet, task) = Outlet::new(self.sender.clone(), Some(identity.clone()));
        let owner = identity.clone();
        self.outlets.spawn(async move {
            task.await;
            owner
        });
        self.standings
            .insert(identity.clone(), Standing::Connected(peer));
        self.links.insert(peer, Link { identity, outlet });
        peer
    }

    /// Reports a peer gone and returns its outlet, to be emptied or dropped; when that has ended, so
    /// does the connection.
    fn dismiss(&mut self, peer: Peer) -> Option<Outlet> {
        let link = self.links.remove(&peer)?;
        self.standings.insert(link.identity, Standing::Leaving);
        self.gone.push_back(peer);
        Some(link.outlet)
    }

    /// The connection of a peer has ended.
    fn departed(&mut self, identity: &PeerIdentity) {
        if let Some(Standing::Connected(peer)) = self.standings.remove(identity) {
            self.links.remove(&peer);
            self.gone.push_back(peer);
        }
    }

    /// An outlet was emptied, dropped, or refused by the crate: the connection ends with it.
    fn outlet_ended(&mut self, ended: Result<PeerIdentity, JoinError>) {
        match ended {
            Ok(identity) => {
                self.backend.peer_disconnected(&identity);
                self.departed(&identity);
            }
            // The tasks are never aborted while the listener lives.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

impl Channel for Listener {
    fn send(&mut self, peer: Peer, frames: Frames) {
        if let Some(link) = self.links.get(&peer)
            && link.outlet.send(frames).is_err()
        {
            tracing::warn!(
                peer = peer.0,
                "peer does not read what is sent to it: disconnected"
            );
            drop(self.dismiss(peer));
        }
    }

    async fn recv(&mut self) -> Incoming {
        while !self.failed {
            if let Some(peer) = self.gone.pop_front() {
                return Incoming::Gone(peer);
            }
            tokio::select! {
                biased;
                Some(ended) = self.outlets.join_next() => self.outlet_ended(ended),
                event = self.monitor.recv() => match event {
                    Ok(SocketEvent::Disconnected(identity)) => self.departed(&identity),
                    Ok(SocketEvent::AcceptFailed(error)) => {
                        tracing::debug!(%error, "a connection was not accepted");
                    }
                    Ok(_) => {}
                    Err(_) => self.failed = true,
                },
                message = self.receiver.recv() => match message {
                    Ok(message) => if let Some(incoming) = self.arrived(message) {
                        return incoming;
                    },
                    Err(_) => self.failed = true,
                },
            }
            if self.failed {
                return Incoming::Closed;
            }
        }
        pending().await
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(outlet) = self.dismiss(peer) {
            outlet.finish(Instant::now() + FAREWELL_MAX);
        }
    }

    async fn close(mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        // Also removes the file of an `ipc://` address; past the deadline that goes on by itself.
        let _ = timeout_at(deadline, self.door.unbind_all()).await;
        for (_, link) in self.links.drain() {
            link.outlet.finish(deadline);
        }
        drain(&mut self.outlets, &mut self.receiver).await;
        drop((self.receiver, self.sender, self.backend));
        written(self.monitor, deadline).await;
    }
}
