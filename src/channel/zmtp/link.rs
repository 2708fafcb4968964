//! A connection that was accepted and has done its handshake, and the task that serves it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, timeout_at};

use super::listener::Event;
use super::outlet::{Pongs, Queue, Written};
use super::reader::{End, Reader, Said};
use super::stream::Stream;
use crate::channel::Peer;

/// What a connection is served with.
pub(super) struct Service {
    pub(super) peer: Peer,
    pub(super) stream: Stream,
    pub(super) reader: Reader,
    pub(super) queue: Queue,
    pub(super) pongs: Pongs,
    /// Turns true when the listener's owner knows the peer.
    pub(super) kept: Arc<AtomicBool>,
    /// How long a stranger may take for one packet.
    pub(super) patience: std::time::Duration,
    pub(super) inbox: Sender<Event>,
}

impl Service {
    /// Serves the connection to its end. Reports its end unless the listener caused it.
    pub(super) async fn run(self) {
        let Self {
            peer,
            stream,
            mut reader,
            queue,
            pongs,
            kept,
            patience,
            inbox,
        } = self;
        let mut listening = Listening {
            peer,
            stream: &stream,
            reader: &mut reader,
            pongs: &pongs,
            kept: &kept,
            patience,
            inbox: &inbox,
        };
        let end = tokio::select! {
            // What was said before a connection broke is heard before a failed write is.
            biased;
            end = listening.run() => end,
            written = queue.write(&stream) => match written {
                Ok(Written::Finished(deadline)) => return farewell(&stream, deadline).await,
                Ok(Written::Abandoned) => return,
                Err(error) => End::Broken(error),
            },
        };
        // A listener that has ended needs not be told.
        let _ = inbox.send(Event::Ended(peer, end)).await;
    }
}

/// The reading half of a service.
struct Listening<'a> {
    peer: Peer,
    stream: &'a Stream,
    reader: &'a mut Reader,
    pongs: &'a Pongs,
    kept: &'a AtomicBool,
    patience: std::time::Duration,
    inbox: &'a Sender<Event>,
}

impl Listening<'_> {
    /// Hands on what the peer says, until it ends.
    async fn run(&mut self) -> End {
        loop {
            match self.next().await {
                Ok(Said::Packet(packet)) => self.tell(Event::Packet(self.peer, packet)).await,
                Ok(Said::Ping(context)) => self.pongs.answer(context),
                Ok(Said::Ready(_)) => unreachable!("READY came with the handshake"),
                Err(End::Oversized) => {
                    self.tell(Event::Oversized(self.peer)).await;
                    // The owner may say so to the peer; the listener ends the connection then. Unread
                    // bytes would make the kernel reset it before.
                    self.stream.discard().await;
                    return End::Oversized;
                }
                Err(end) => return end,
            }
        }
    }

    /// The next that is said. A stranger must end in time what it has begun.
    async fn next(&mut self) -> Result<Said, End> {
        let mut deadline = None;
        loop {
            let is_kept = self.kept.load(Ordering::Relaxed);
            if is_kept {
                self.reader.trust();
            }
            if let Some(said) = self.reader.take()? {
                return Ok(said);
            }
            if is_kept || !self.reader.is_inside() {
                // What was begun before has ended, and had nothing to say.
                deadline = None;
                self.reader.fill(self.stream).await?;
                continue;
            }
            let until = *deadline.get_or_insert_with(|| Instant::now() + self.patience);
            match timeout_at(until, self.reader.fill(self.stream)).await {
                Ok(filled) => filled?,
                // It may have been kept meanwhile.
                Err(_) if self.kept.load(Ordering::Relaxed) => {}
                Err(_) => return Err(End::Late),
            }
        }
    }

    async fn tell(&self, event: Event) {
        if self.inbox.send(event).await.is_err() {
            // The listener has ended and lets us write what is left. Reading on keeps the kernel from
            // resetting the connection before that was delivered.
            self.stream.discard().await;
        }
    }
}

/// Ends a connection to which everything was written: waits until the peer has seen the end, so that
/// nothing underway is lost, at most until the deadline.
pub(super) async fn farewell(stream: &Stream, deadline: Instant) {
    stream.finish();
    // Past the deadline the kernel delivers what it can.
    let _ = timeout_at(deadline, stream.discard()).await;
}
