//! Connecting to a source as an operator.

use super::operator::Operator;
use crate::channel::{Channel, Incoming, Peer};
use crate::config::Address;
use crate::error::Error;
use crate::wire::Frames;

/// Connects to the command channel of a source.
///
/// # Errors
/// [`Error::Unavailable`] if nobody listens there.
pub(super) async fn connect(address: &Address) -> Result<Operator<Connection>, Error> {
    let connected: Result<(Connection, Peer), _> = Err("there is no network channel yet");
    let (connection, source) = connected.map_err(|error: &str| Error::Unavailable {
        peer: address.to_string(),
        reason: error.to_string(),
    })?;
    Ok(Operator::new(connection, source, address.to_string()))
}

/// Stands for the connection over the network, which cannot be made yet.
pub(super) enum Connection {}

impl Channel for Connection {
    fn send(&mut self, _peer: Peer, _frames: Frames) {
        match *self {}
    }
    async fn recv(&mut self) -> Incoming {
        match *self {}
    }
    fn disconnect(&mut self, _peer: Peer) {
        match *self {}
    }
    async fn close(self) {
        match self {}
    }
}
