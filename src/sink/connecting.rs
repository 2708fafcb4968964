//! The connections to the source, made again and again until they are there.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::iter;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::channel::zmtp::Connection;
use crate::channel::{Channel, ChannelError, Incoming, Peer};
use crate::config::Settings;
use crate::error::Error;
use crate::state::random;
use crate::wire::Frames;

/// Longest pause between two attempts, in milliseconds.
const PAUSE_MS_MAX: u64 = 5_000;

/// Pause after the first attempt that failed, in milliseconds; each further one doubles it.
const PAUSE_MS_MIN: u64 = 100;

/// How long one connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Where the source is.
#[derive(Debug, Clone)]
pub(super) struct Route {
    command: String,
    data: String,
    data_connections: usize,
}

impl Route {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            command: settings.command.to_string(),
            data: settings.data.to_string(),
            data_connections: settings.data_connections,
        }
    }

    /// The source's address, for messages.
    pub(super) fn source(&self) -> &str {
        &self.command
    }

    /// Tries until all connections are there, beginning with the pause that belongs to `attempt`. Each
    /// new reason why they are not is logged once.
    pub(super) async fn connect(self, mut attempt: u32) -> Result<Links, Error> {
        let mut reason = String::new();
        loop {
            sleep(pause(attempt)?).await;
            match self.try_connect().await {
                Ok(links) => return Ok(links),
                Err(error) => {
                    let text = error.to_string();
                    if text != reason {
                        tracing::warn!("{text}; trying again until it works");
                        reason = text;
                    }
                }
            }
            attempt = attempt.saturating_add(1);
        }
    }

    async fn try_connect(&self) -> Result<Links, ChannelError> {
        // Each takes round trips of its own: they are made side by side.
        let mut making = JoinSet::new();
        let to = [&self.command].into_iter();
        let to = to.chain(iter::repeat_n(&self.data, self.data_connections));
        for (place, address) in to.cloned().enumerate() {
            making.spawn(async move { (place, Connection::connect(&address, CONNECT_MAX).await) });
        }
        let mut made = BTreeMap::new();
        while let Some(joined) = making.join_next().await {
            let (place, connection) = joined.expect("none is aborted, and none panics");
            made.insert(place, connection);
        }
        // Of several reasons the same is told each time.
        let all = made.into_values().collect::<Result<_, _>>()?;
        Ok(Links { all, turn: 0 })
    }
}

/// The pause before an attempt: none before the first, and never the same for many sinks at once.
fn pause(attempt: u32) -> Result<Duration, Error> {
    let Some(doublings) = attempt.checked_sub(1) else {
        return Ok(Duration::ZERO);
    };
    let longest = (PAUSE_MS_MIN << doublings.min(16)).min(PAUSE_MS_MAX);
    Ok(Duration::from_millis(
        longest / 2 + random()? % (longest / 2 + 1),
    ))
}

/// All connections of one session: the command connection, then the data connections.
pub(super) struct Links {
    all: Vec<(Connection, Peer)>,
    /// Which is asked first, so that a busy one does not starve the others.
    turn: usize,
}

/// Which connection of [`Links`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// The command connection.
    Command,
    /// The data connection of this number.
    Data(usize),
}

impl Links {
    /// How many data connections there are.
    pub(super) fn data_connections(&self) -> usize {
        self.all.len() - 1
    }

    /// Queues a packet, never waiting.
    pub(super) fn send(&mut self, link: Link, frames: Frames) {
        let index = match link {
            Link::Command => 0,
            Link::Data(number) => number + 1,
        };
        if let Some((connection, peer)) = self.all.get_mut(index) {
            connection.send(*peer, frames);
        }
    }

    /// The next thing that happens on any connection. Safe to cancel.
    pub(super) async fn recv(&mut self) -> (Link, Incoming) {
        let count = self.all.len();
        self.turn = (self.turn + 1) % count;
        let first = self.turn;
        let mut waiting: Vec<Pin<Box<dyn Future<Output = Incoming> + Send + '_>>> = Vec::new();
        for (connection, _) in &mut self.all {
            waiting.push(Box::pin(connection.recv()));
        }
        poll_fn(move |context| {
            for index in (first..count).chain(0..first) {
                if let Poll::Ready(incoming) = waiting[index].as_mut().poll(context) {
                    let link = index.checked_sub(1).map_or(Link::Command, Link::Data);
                    return Poll::Ready((link, incoming));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What has come already.
    pub(super) async fn waiting(&mut self) -> Option<(Link, Incoming)> {
        tokio::select! {
            biased;
            received = self.recv() => Some(received),
            () = std::future::ready(()) => None,
        }
    }

    /// Ends all connections after what is queued was handed to the network.
    pub(super) async fn close(self) {
        let mut closing = tokio::task::JoinSet::new();
        for (connection, _) in self.all {
            closing.spawn(connection.close());
        }
        closing.join_all().await;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        assert_eq!(pause(0).unwrap(), Duration::ZERO);
        for (attempt, longest) in [(1, 100), (2, 200), (6, 3200), (7, 5000), (u32::MAX, 5000)] {
            let pause = pause(attempt).unwrap();
            let most = Duration::from_millis(longest);
            assert!(most / 2 <= pause && pause <= most, "{attempt}: {pause:?}");
        }
    }
}
