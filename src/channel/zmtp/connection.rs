//! An outgoing connection: a DEALER with one peer.

use std::future::pending;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::handshake::{CONNECTING, shake_hands};
use super::link::farewell;
use super::outlet::{Outlet, Pongs, Written, outlet};
use super::reader::{End, Reader, Said};
use super::stream::Stream;
use super::{FAREWELL_MAX, address};
use crate::channel::{Channel, ChannelError, Incoming, Peer};
use crate::wire::Frames;

/// A connection to a [`super::Listener`]. It never reconnects.
pub struct Connection {
    peer: Peer,
    state: State,
}

/// How far a connection has come.
enum State {
    Open(Link),
    /// Ended, which is still to be reported.
    Lost,
    Reported,
}

/// What there is while the connection lives.
struct Link {
    stream: Arc<Stream>,
    reader: Reader,
    outlet: Outlet,
    pongs: Pongs,
    /// The task that writes.
    writing: JoinSet<io::Result<Written>>,
}

impl Connection {
    /// Connects once; the caller tries again after a pause.
    ///
    /// # Errors
    /// [`ChannelError`] if the address is none, nothing listens there, the connection is refused or
    /// broken off, or the handshake is not done within `timeout`.
    pub async fn connect(
        address: &str,
        timeout_max: Duration,
    ) -> Result<(Self, Peer), ChannelError> {
        let endpoint = address::parse(address)?;
        let open = async {
            let stream = Stream::connect(&endpoint)
                .await
                .map_err(|error| unreachable(error, address))?;
            let mut reader = Reader::new();
            shake_hands(&stream, &mut reader, CONNECTING)
                .await
                .map_err(|end| broken_off(&end, address))?;
            Ok((stream, reader))
        };
        let (stream, reader) =
            timeout(timeout_max, open)
                .await
                .map_err(|_| ChannelError::Timeout {
                    address: address.to_owned(),
                    timeout: timeout_max,
                })??;
        let peer = Peer::next();
        let state = State::Open(Link::new(stream, reader));
        Ok((Self { peer, state }, peer))
    }

    /// The link, if it is open and belongs to this peer, taken out to be ended.
    fn take(&mut self, peer: Peer) -> Option<Link> {
        if peer != self.peer || !matches!(self.state, State::Open(_)) {
            return None;
        }
        match std::mem::replace(&mut self.state, State::Lost) {
            State::Open(link) => Some(link),
            State::Lost | State::Reported => None,
        }
    }
}

impl Channel for Connection {
    fn send(&mut self, peer: Peer, frames: Frames) {
        if let State::Open(link) = &self.state
            && peer == self.peer
            && link.outlet.send(frames, usize::MAX).is_err()
        {
            self.state = State::Lost;
        }
    }

    async fn recv(&mut self) -> Incoming {
        match &mut self.state {
            State::Open(link) => match link.recv().await {
                Ok(frames) => return Incoming::Packet(self.peer, frames),
                Err(End::Oversized) => {
                    self.state = State::Lost;
                    return Incoming::Oversized(self.peer);
                }
                Err(End::Left) => {}
                Err(end) => tracing::warn!("the connection is lost: {end}"),
            },
            State::Lost => {}
            State::Reported => pending().await,
        }
        self.state = State::Reported;
        Incoming::Closed
    }

    fn disconnect(&mut self, peer: Peer) {
        if let Some(link) = self.take(peer) {
            tokio::spawn(link.close());
        }
    }

    async fn close(mut self) {
        if let Some(link) = self.take(self.peer) {
            link.close().await;
        }
    }
}

impl Link {
    fn new(stream: Stream, reader: Reader) -> Self {
        let stream = Arc::new(stream);
        let (outlet, queue, pongs) = outlet();
        let mut writing = JoinSet::new();
        let output = Arc::clone(&stream);
        writing.spawn(async move { queue.write(&output).await });
        Self {
            stream,
            reader,
            outlet,
            pongs,
            writing,
        }
    }

    /// The next packet. Safe to cancel.
    async fn recv(&mut self) -> Result<Frames, End> {
        loop {
            match self.reader.take()? {
                Some(Said::Packet(packet)) => return Ok(packet.frames),
                Some(Said::Ping(context)) => self.pongs.answer(context),
                Some(Said::Ready(_)) => unreachable!("READY came with the handshake"),
                None => tokio::select! {
                    // What was said before a connection broke is heard before a failed write is.
                    biased;
                    filled = self.reader.fill(&self.stream) => filled?,
                    Some(Ok(Err(error))) = self.writing.join_next() => return Err(error.into()),
                },
            }
        }
    }

    /// Writes what is queued, for a second at most, and ends the connection.
    async fn close(mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        self.outlet.finish(deadline);
        let finished = async {
            // Reading keeps the kernel from resetting the connection before all was delivered, and
            // the other side from waiting for us to read.
            let discard = async {
                self.stream.discard().await;
                pending().await
            };
            tokio::select! {
                _ = self.writing.join_next() => {}
                () = discard => {}
            }
            farewell(&self.stream, deadline).await;
        };
        let _ = timeout_at(deadline, finished).await;
    }
}

/// Why there is no connection, in the operator's terms.
fn unreachable(source: io::Error, address: &str) -> ChannelError {
    let address = address.to_owned();
    match source.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => ChannelError::Refused { address },
        _ => ChannelError::Unreachable { address, source },
    }
}

/// Why there was no handshake.
fn broken_off(end: &End, address: &str) -> ChannelError {
    ChannelError::Handshake {
        address: address.to_owned(),
        problem: end.to_string(),
    }
}
