//! The operator's end of the command channel: requests out, replies in.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::channel::{Channel, Incoming, Peer};
use crate::engine::source::TERMINATION_MS;
use crate::error::Error;
use crate::wire::message::{Command, FlushResult, Reply, Request};
use crate::wire::{decode_command, encode_command};

/// How long a source may take to answer, beyond what a request itself allows.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// A conversation with one source. Requests are answered one by one.
pub(super) struct Operator<C> {
    channel: C,
    source: Peer,
    /// For messages.
    address: String,
    last_id: u64,
}

impl<C: Channel> Operator<C> {
    pub(super) fn new(channel: C, source: Peer, address: String) -> Self {
        Self {
            channel,
            source,
            address,
            last_id: 0,
        }
    }

    /// Sends a request and returns the reply, which is never [`Reply::Refused`].
    ///
    /// # Errors
    /// [`Error::Refused`] in the words of the source, [`Error::Unavailable`] if it does not answer
    /// within [`ANSWER_TIMEOUT`] and what the request allows, [`Error::Protocol`] if it speaks another
    /// language.
    pub(super) async fn ask(&mut self, request: Request) -> Result<Reply, Error> {
        let patience = patience(&request);
        self.ask_within(request, patience).await
    }

    /// A flush, which may take so long.
    pub(super) async fn flush(&mut self, timeout: Duration) -> Result<FlushResult, Error> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        match self.ask(Request::Flush { timeout_ms }).await? {
            Reply::Flush(result) => Ok(result),
            other => Err(self.unexpected(&other)),
        }
    }

    /// A request that is answered by "done".
    pub(super) async fn order(&mut self, request: Request) -> Result<(), Error> {
        match self.ask(request).await? {
            Reply::Done => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    /// The error for a reply that does not belong to the request.
    pub(super) fn unexpected(&self, reply: &Reply) -> Error {
        self.protocol(format!("the answer to another question: {reply:?}"))
    }

    /// Ends the conversation.
    pub(super) async fn close(self) {
        self.channel.close().await;
    }

    async fn ask_within(&mut self, request: Request, patience: Duration) -> Result<Reply, Error> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&Command::Request { id, request });
        let deadline = Instant::now() + patience;
        loop {
            let Ok(incoming) = timeout_at(deadline, self.channel.recv()).await else {
                return Err(self.unavailable(format!("no answer within {} s", patience.as_secs())));
            };
            if let Some(reply) = self.answer(id, incoming)? {
                return Ok(reply);
            }
        }
    }

    /// The reply to a request, if this is it.
    fn answer(&mut self, id: u64, incoming: Incoming) -> Result<Option<Reply>, Error> {
        let frames = match incoming {
            Incoming::Packet(_, frames) => frames,
            Incoming::Oversized(_) => {
                return Err(self.protocol("a message above the limits".into()));
            }
            Incoming::Gone(_) | Incoming::Closed => {
                return Err(self.unavailable("it closed the connection".into()));
            }
        };
        let command = decode_command(&frames).map_err(|error| self.protocol(error.to_string()))?;
        match command {
            Command::Reply { id: of, reply } if of == id => match reply {
                Reply::Refused(error) => Err(self.refused(error)),
                reply => Ok(Some(reply)),
            },
            Command::Error(error) => Err(self.refused(error)),
            Command::Ping { token } => {
                self.send(&Command::Pong { token });
                Ok(None)
            }
            // The answer to a request that was given up, or nothing that concerns an operator.
            _ => Ok(None),
        }
    }

    fn send(&mut self, command: &Command) {
        self.channel.send(self.source, encode_command(command));
    }

    fn refused(&self, error: crate::wire::message::ErrorAnswer) -> Error {
        Error::Refused {
            peer: self.address.clone(),
            code: error.code,
            message: error.message,
        }
    }

    fn unavailable(&self, reason: String) -> Error {
        Error::Unavailable {
            peer: self.address.clone(),
            reason,
        }
    }

    fn protocol(&self, reason: String) -> Error {
        Error::Protocol {
            peer: self.address.clone(),
            reason,
        }
    }
}

/// How long the answer to a request may take.
fn patience(request: &Request) -> Duration {
    let allowed_ms = match request {
        Request::Flush { timeout_ms } => *timeout_ms,
        // What was sent becomes durable, then every sink agrees.
        Request::Stop => 2 * TERMINATION_MS,
        _ => 0,
    };
    Duration::from_millis(allowed_ms).saturating_add(ANSWER_TIMEOUT)
}

#[cfg(test)]
mod tests;
