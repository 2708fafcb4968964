//! An outgoing connection: a DEALER with one peer.

use std::future::pending;
use std::io::ErrorKind;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use zeromq::{
    DealerRecvHalf, DealerSocket, Endpoint, Socket, SocketEvent, SocketOptions, SocketRecv,
    ZmqError,
};

use super::outlet::Outlet;
use super::{FAREWELL_MAX, Monitor, address, drain, written};
use crate::channel::{Channel, ChannelError, Incoming, Peer};
use crate::wire::Frames;

/// How long the crate, which tries again and again where nothing listens, is left alone before the
/// address is probed for exactly that.
const REFUSAL_PROBE_DELAY: Duration = Duration::from_millis(200);

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
    receiver: DealerRecvHalf,
    monitor: Monitor,
    outlet: Outlet,
    /// The task of the outlet.
    sending: JoinSet<()>,
}

impl Connection {
    /// Connects once; the caller tries again after a pause.
    ///
    /// # Errors
    /// [`ChannelError`] if the address is none, nothing listens there, the connection is refused or
    /// broken off, or the handshake is not done within `timeout`.
    pub async fn connect(address: &str, timeout: Duration) -> Result<(Self, Peer), ChannelError> {
        let endpoint = address::parse(address)?;
        let mut options = SocketOptions::default();
        options.connect_timeout(timeout);
        let mut socket = DealerSocket::with_options(options);
        // Before connecting, so that an early end is not missed.
        let monitor = socket.monitor();
        tokio::select! {
            connected = socket.connect(address) => {
                connected.map_err(|error| explain(error, address))?;
            }
            () = refusal(&endpoint) => {
                return Err(ChannelError::Refused { address: address.to_owned() });
            }
        }
        let (sender, receiver) = socket.split();
        let (outlet, task) = Outlet::new(sender, None);
        let mut sending = JoinSet::new();
        sending.spawn(task);
        let peer = Peer::next();
        let link = Link {
            receiver,
            monitor,
            outlet,
            sending,
        };
        Ok((
            Self {
                peer,
                state: State::Open(link),
            },
            peer,
        ))
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
            && link.outlet.send(frames).is_err()
        {
            self.state = State::Lost;
        }
    }

    async fn recv(&mut self) -> Incoming {
        match &mut self.state {
            State::Open(link) => {
                if let Some(frames) = link.recv().await {
                    return Incoming::received(self.peer, frames);
                }
            }
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
    /// The next packet; none when the connection has ended, in whichever way.
    async fn recv(&mut self) -> Option<Frames> {
        loop {
            tokio::select! {
                biased;
                _ = self.sending.join_next() => return None,
                event = self.monitor.recv() => match event {
                    Ok(SocketEvent::Disconnected(_)) | Err(_) => return None,
                    Ok(_) => {}
                },
                // Any error is final: the crate would repeat that of a connection which broke inside
                // a message for ever.
                message = self.receiver.recv() => return message.ok().map(zeromq::ZmqMessage::into_vec),
            }
        }
    }

    /// Writes what is queued, for a second at most, and ends the connection.
    async fn close(mut self) {
        let deadline = Instant::now() + FAREWELL_MAX;
        self.outlet.finish(deadline);
        drain(&mut self.sending, &mut self.receiver).await;
        drop(self.receiver);
        written(self.monitor, deadline).await;
    }
}

/// Comes when it is certain that nothing listens at the address, and never otherwise.
async fn refusal(endpoint: &Endpoint) {
    sleep(REFUSAL_PROBE_DELAY).await;
    let probe = match endpoint {
        Endpoint::Tcp(host, port) => TcpStream::connect((host.to_string().as_str(), *port))
            .await
            .map(drop),
        Endpoint::Ipc(Some(path)) => UnixStream::connect(path).await.map(drop),
        _ => Ok(()),
    };
    match probe.map_err(|error| error.kind()) {
        Err(ErrorKind::ConnectionRefused | ErrorKind::NotFound) => {}
        _ => pending().await,
    }
}

/// An error of the crate in the operator's terms.
fn explain(error: ZmqError, address: &str) -> ChannelError {
    let address = address.to_owned();
    match error {
        ZmqError::ConnectTimeout(timeout) => ChannelError::Timeout { address, timeout },
        ZmqError::Network(source) => ChannelError::Unreachable { address, source },
        other => ChannelError::Handshake {
            address,
            problem: other.to_string(),
        },
    }
}
