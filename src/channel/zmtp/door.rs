//! The door: accepts connections and does their handshakes, with a bound on how many are at it.
//!
//! Somebody who opens connections without end must not keep others out. So there are only so many
//! places for handshakes, and who comes last takes the place of who has been at it for longest. A
//! handshake is a matter of one round trip, so that an honest peer needs its place for a moment only.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, JoinError, JoinSet, yield_now};
use tokio::time::{Instant, sleep, timeout_at};

use super::address::Bound;
use super::handshake::{LISTENING, shake_hands};
use super::listener::{Event, Limits};
use super::reader::{End, Reader};
use super::stream::Stream;

/// How long nobody is let in after that was not possible, as when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that has done its handshake.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) reader: Reader,
}

/// The places for handshakes.
pub(super) struct Door {
    listener: Bound,
    limits: Limits,
    /// Memory for the larger packets of strangers.
    pool: Arc<Semaphore>,
    inbox: Sender<Event>,
    /// Handshakes being done; each returns its number.
    opening: JoinSet<(u64, Result<Opened, End>)>,
    /// The same by number: in the order of their coming.
    places: BTreeMap<u64, AbortHandle>,
    accepted: u64,
    /// Nobody could be let in the last time, which was told.
    is_stuck: bool,
}

impl Door {
    pub(super) fn new(listener: Bound, limits: Limits, inbox: Sender<Event>) -> Self {
        Self {
            listener,
            limits,
            pool: Arc::new(Semaphore::new(limits.stranger_bytes_max)),
            inbox,
            opening: JoinSet::new(),
            places: BTreeMap::new(),
            accepted: 0,
            is_stuck: false,
        }
    }

    /// Lets connections in until the listening socket fails, or nobody waits for them.
    pub(super) async fn keep(mut self) -> io::Error {
        loop {
            tokio::select! {
                // Those that have ended do not pile up, however many come.
                biased;
                Some(done) = self.opening.join_next() => if !self.opened(done).await {
                    return ErrorKind::BrokenPipe.into();
                },
                accepted = self.listener.accept() => match accepted {
                    Ok(stream) => self.admit(stream).await,
                    Err(error) if is_final(&error) => return error,
                    Err(error) => self.pause(&error).await,
                },
            }
        }
    }

    /// Gives a connection a place, that of the oldest if there is no other.
    async fn admit(&mut self, stream: Stream) {
        self.is_stuck = false;
        // Until it has done its handshake, its end shall leave nothing behind.
        if stream.reset_at_end(true).is_err() {
            return;
        }
        if self.places.len() >= self.limits.opening_max {
            self.evict_oldest().await;
        }
        self.accepted += 1;
        let number = self.accepted;
        let pool = Arc::clone(&self.pool);
        let deadline = Instant::now() + self.limits.patience;
        let place = self
            .opening
            .spawn(async move { (number, open(stream, pool, deadline).await) });
        self.places.insert(number, place);
    }

    async fn evict_oldest(&mut self) {
        if let Some((_, place)) = self.places.pop_first() {
            place.abort();
            // Its descriptor is free when its task has had a turn.
            yield_now().await;
        }
    }

    /// A handshake has ended; false if nobody wants to know any more.
    async fn opened(&mut self, done: Result<(u64, Result<Opened, End>), JoinError>) -> bool {
        let (number, result) = match done {
            Ok(done) => done,
            Err(error) if error.is_cancelled() => return true,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.places.remove(&number);
        match result {
            Ok(opened) => self.inbox.send(Event::Opened(opened)).await.is_ok(),
            Err(end) => {
                tracing::debug!("a connection was not let in: {end}");
                true
            }
        }
    }

    /// Waits for better times. The older half of the handshakes is given up, as they hold descriptors.
    async fn pause(&mut self, error: &io::Error) {
        if error.kind() == ErrorKind::ConnectionAborted {
            return;
        }
        if !std::mem::replace(&mut self.is_stuck, true) {
            tracing::warn!(
                "connections cannot be accepted: {error}; trying again until it works. If descriptors \
                 have run out, raise their limit (ulimit -n, LimitNOFILE)"
            );
        }
        for _ in 0..self.places.len().div_ceil(2) {
            self.evict_oldest().await;
        }
        sleep(PAUSE).await;
    }
}

/// True for errors that say that there is no listening socket any more.
fn is_final(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK)
    )
}

async fn open(stream: Stream, pool: Arc<Semaphore>, deadline: Instant) -> Result<Opened, End> {
    let mut reader = Reader::of_stranger(pool);
    timeout_at(deadline, shake_hands(&stream, &mut reader, LISTENING))
        .await
        .map_err(|_| End::Late)??;
    stream.reset_at_end(false)?;
    Ok(Opened { stream, reader })
}
