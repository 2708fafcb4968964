//! A listening socket: a ROUTER with any number of peers.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout_at};

use super::door::{Door, Opened};
use super::link::Service;
use super::outlet::{Outlet, outlet};
use super::reader::{End, Packet};
use super::{Exposure, FAREWELL_MAX, address};
use crate::channel::{Channel, ChannelError, Incoming, Peer};
use crate::wire::Frames;

/// Packets that have come and that the owner has not taken; further ones stay in the kernel.
const INBOX_MAX: usize = 128;

/// How many strangers a listener bears, and for how long. A stranger is a peer that was not
/// [kept](Listener::keep); in each class the one that comes when all places are taken gets that of the
/// one that has been there for longest.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections that do their handshake.
    pub opening_max: usize,
    /// Most connections that have done it, and said nothing that was understood.
    pub silent_max: usize,
    /// Most strangers that were understood: operators, and sinks before they are registered.
    pub strangers_max: usize,
    /// How long a stranger may take for each of these: its handshake, its first packet that is
    /// understood, the rest of a packet that it has begun.
    pub patience: Duration,
    /// Most memory for packets of more than 4 KiB, before they are taken, of all strangers together, in
    /// bytes. Who needs more loses its connection.
    pub stranger_bytes_max: usize,
    /// Bytes that wait to be sent to a stranger; with so many waiting, another packet ends its
    /// connection.
    pub stranger_queue_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            opening_max: 256,
            silent_max: 128,
            strangers_max: 128,
            patience: Duration::from_secs(10),
            stranger_bytes_max: 16 * 1024 * 1024,
            stranger_queue_bytes_max: 256 * 1024,
        }
    }
}

/// A listening socket. Peers that never send are not reported.
///
/// Its owner says of each peer what it knows: that it was [understood](Self::understood), and that it is
/// to be [kept](Self::keep). Peers of which nothing is said are strangers, within [`Limits`].
pub struct Listener {
    limits: Limits,
    inbox: mpsc::Receiver<Event>,
    /// Handed to each task.
    outbox: mpsc::Sender<Event>,
    /// The only task in here accepts connections; it ends if that is not possible any more.
    door: JoinSet<io::Error>,
    /// The tasks of the connections.
    services: JoinSet<()>,
    links: HashMap<Peer, Link>,
    /// Strangers that have said nothing that was understood, since when.
    silent: BTreeMap<Peer, Instant>,
    /// Strangers that were understood.
    strangers: BTreeSet<Peer>,
    /// Looks for strangers that are late.
    rounds: Interval,
    /// Peers whose end is still to be reported.
    gone: VecDeque<Peer>,
    /// Has sent too much, which was reported; is disconnected when the owner comes back.
    oversized: Option<Peer>,
    failed: bool,
    /// Removes the file of a Unix socket.
    file: Option<address::SocketFile>,
}

/// What the tasks of a listener report.
pub(super) enum Event {
    Opened(Opened),
    Packet(Peer, Packet),
    Oversized(Peer),
    Ended(Peer, End),
}

/// What there is for a peer while it is connected.
struct Link {
    outlet: Outlet,
    /// It has sent something, so its end will be reported.
    spoke: bool,
    kept: Arc<AtomicBool>,
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
        Self::bind_within(address, exposure, Limits::default()).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As [`Self::bind`].
    pub async fn bind_within(
        address: &str,
        exposure: Exposure,
        limits: Limits,
    ) -> Result<(Self, String), ChannelError> {
        let (listener, file, bound) = address::listen(address, exposure).await?;
        let (outbox, inbox) = mpsc::channel(INBOX_MAX);
        let mut door = JoinSet::new();
        door.spawn(Door::new(listener, limits, outbox.clone()).keep());
        let mut rounds = interval(limits.patience / 8);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let listener = Self {
            limits,
            inbox,
            outbox,
            door,
            services: JoinSet::new(),
            links: HashMap::new(),
            silent: BTreeMap::new(),
            strangers: BTreeSet::new(),
            rounds,
            gone: VecDeque::new(),
            oversized: None,
            failed: false,
            file,
        };
        Ok((listener, bound))
    }

    /// This peer has said something that makes sense: it need not hurry any more.
    pub fn understood(&mut self, peer: Peer) {
        if self.silent.remove(&peer).is_none() {
            return;
        }
        self.strangers.insert(peer);
        if self.strangers.len() > self.limits.strangers_max
            && let Some(oldest) = self.strangers.pop_first()
        {
            self.give_up(oldest, "another took its place");
        }
    }

    /// This peer is no stranger: none of [`Limits`] applies to it any more. The owner bounds how many
    /// there are.
    pub fn keep(&mut self, peer: Peer) {
        let was_stranger = self.silent.remove(&peer).is_some() | self.strangers.remove(&peer);
        if let Some(link) = self.links.get(&peer)
            && was_stranger
        {
            link.kept.store(true, Ordering::Relaxed);
        }
    }

    /// Ends every connection as [`Channel::disconnect`] does, waiting at most a second, and reports none of
    /// these ends: for another owner, who knows none of the peers. Whoever connects meanwhile is served.
    pub async fn disconnect_all(&mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        for (_, link) in self.links.drain() {
            link.outlet.finish(deadline);
        }
        self.silent.clear();
        self.strangers.clear();
        self.gone.clear();
        self.oversized = None;
        let ended = async {
            while let Some(ended) = self.services.join_next().await {
                unharmed(ended);
            }
        };
        let _ = timeout_at(deadline, ended).await;
    }

    fn happened(&mut self, event: Event) -> Option<Incoming> {
        match event {
            Event::Opened(opened) => {
                self.serve(opened);
                None
            }
            Event::Packet(peer, packet) => {
                let Packet { frames, share } = packet;
                // The owner has it from now on.
                drop(share);
                self.links.get_mut(&peer)?.spoke = true;
                Some(Incoming::Packet(peer, frames))
            }
            Event::Oversized(peer) => {
                self.links.get_mut(&peer)?.spoke = true;
                self.oversized = Some(peer);
                Some(Incoming::Oversized(peer))
            }
            Event::Ended(peer, end) => {
                let link = self.dismiss(peer)?;
                let is_known = link.kept.load(Ordering::Relaxed);
                if is_known && !matches!(end, End::Left) {
                    tracing::warn!("the connection of a registered sink has ended: {end}");
                } else {
                    tracing::debug!(peer = peer.0, "a connection has ended: {end}");
                }
                None
            }
        }
    }

    /// Numbers a new peer and begins to serve it.
    fn serve(&mut self, Opened { stream, reader }: Opened) {
        let peer = Peer::next();
        let (outlet, queue, pongs) = outlet();
        let kept = Arc::new(AtomicBool::new(false));
        let service = Service {
            peer,
            stream,
            reader,
            queue,
            pongs,
            kept: Arc::clone(&kept),
            patience: self.limits.patience,
            inbox: self.outbox.clone(),
        };
        self.services.spawn(service.run());
        let link = Link {
            outlet,
            spoke: false,
            kept,
        };
        self.links.insert(peer, link);
        self.silent.insert(peer, Instant::now());
        if self.silent.len() > self.limits.silent_max
            && let Some((oldest, _)) = self.silent.pop_first()
        {
            self.give_up(oldest, "another took its place");
        }
    }

    /// Ends strangers that have said nothing sensible for too long.
    fn look_around(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.silent.first_entry()
            && now >= *entry.get() + self.limits.patience
        {
            let peer = *entry.key();
            self.give_up(peer, "it has said nothing that is understood");
        }
    }

    /// Ends the connection of a peer at once.
    fn give_up(&mut self, peer: Peer, why: &str) {
        if self.dismiss(peer).is_some() {
            tracing::debug!(peer = peer.0, "a connection was ended: {why}");
        }
    }

    /// Forgets a peer and reports it gone. Its connection ends with the outlet returned: at once if that
    /// is dropped.
    fn dismiss(&mut self, peer: Peer) -> Option<Link> {
        let link = self.links.remove(&peer)?;
        self.silent.remove(&peer);
        self.strangers.remove(&peer);
        if link.spoke {
            self.gone.push_back(peer);
        }
        Some(link)
    }
}

impl Channel for Listener {
    fn send(&mut self, peer: Peer, frames: Frames) {
        let Some(link) = self.links.get(&peer).filter(|link| link.spoke) else {
            return;
        };
        let is_kept = link.kept.load(Ordering::Relaxed);
        let bytes_max = if is_kept {
            usize::MAX
        } else {
            self.limits.stranger_queue_bytes_max
        };
        if link.outlet.send(frames, bytes_max).is_err() {
            if is_kept {
                tracing::warn!("a registered sink does not read what is sent to it: disconnected");
            }
            self.give_up(peer, "it does not read what is sent to it");
        }
    }

    async fn recv(&mut self) -> Incoming {
        if let Some(peer) = self.oversized.take() {
            self.disconnect(peer);
        }
        while !self.failed {
            if let Some(peer) = self.gone.pop_front() {
                return Incoming::Gone(peer);
            }
            tokio::select! {
                // The listener has a sender of its own, so that this never ends.
                Some(event) = self.inbox.recv() => if let Some(incoming) = self.happened(event) {
                    return incoming;
                },
                Some(ended) = self.services.join_next() => unharmed(ended),
                _ = self.rounds.tick() => self.look_around(),
                error = self.door.join_next() => {
                    tracing::error!("no connections can be accepted any more: {error:?}");
                    self.failed = true;
                    return Incoming::Closed;
                }
            }
        }
        pending().await
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(link) = self.dismiss(peer) {
            link.outlet.finish(Instant::now() + FAREWELL_MAX);
        }
    }

    async fn close(self) {
        let Self {
            inbox,
            mut door,
            mut services,
            links,
            file,
            ..
        } = self;
        let deadline = Instant::now() + FAREWELL_MAX;
        // Nobody is let in any more, and what still comes is not wanted.
        drop((inbox, file));
        door.shutdown().await;
        for (_, link) in links {
            link.outlet.finish(deadline);
        }
        let ended = async { while services.join_next().await.is_some() {} };
        let _ = timeout_at(deadline, ended).await;
    }
}

/// Services are never aborted while the listener lives, so only a bug ends one otherwise.
fn unharmed(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}
