//! Threads that carry out the engine's reads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::ahead::Stream;
use super::reader::{Reader, ReaderSettings, end_stream};
use crate::clock::wall;
use crate::engine::Ticket;
use crate::engine::work::{Finding, Order, Span};
use crate::error::Error;
use crate::fs::real::RealFs;
use crate::fs::windows::Windows;
use crate::lanes::{Work, Worker, lanes};
use crate::priority::give_way;
use crate::tree::Filter;
use crate::wire::message::Lane;

/// Findings that wait for the loop; readers wait when there are more.
const FINDINGS_MAX: usize = 256;

/// What all readers share.
struct Shared {
    fs: RealFs,
    settings: ReaderSettings,
    windows: Arc<Windows>,
    filter: Filter,
    streams: Mutex<HashMap<u64, Arc<Stream<RealFs>>>>,
    next_stream: AtomicU64,
}

/// The threads, and the files that they hold open for streaming. Dropping it ends the threads after
/// what they are doing.
pub(super) struct Readers {
    shared: Arc<Shared>,
    orders: Work<(Ticket, Order)>,
    found: mpsc::Receiver<(Ticket, Finding)>,
}

impl Readers {
    /// Starts so many threads, which are `nice` if they give way to whatever else the host has to do.
    pub(super) fn start(
        fs: RealFs,
        settings: ReaderSettings,
        filter: Filter,
        threads: usize,
        nice: bool,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            fs,
            settings,
            windows: Arc::new(Windows::keeping(settings.listing_cache_bytes)),
            filter,
            streams: Mutex::new(HashMap::new()),
            next_stream: AtomicU64::new(1),
        });
        // Live looks must not wait for all that the backlog has asked for before (I5).
        let (orders, to_do) = lanes();
        let (results, found) = mpsc::channel(FINDINGS_MAX);
        for number in 0..threads {
            let (shared, results) = (Arc::clone(&shared), results.clone());
            let to_do = to_do.another();
            std::thread::Builder::new()
                .name(format!("reader-{number}"))
                .spawn(move || {
                    if nice {
                        give_way();
                    }
                    shared.work(to_do, &results);
                })
                .map_err(|error| Error::Unexpected(format!("cannot start a reader: {error}")))?;
        }
        Ok(Self {
            shared,
            orders,
            found,
        })
    }

    /// Hands out work, never waiting.
    pub(super) fn read(&self, ticket: Ticket, lane: Lane, order: Order) {
        self.orders.put(lane, (ticket, order));
    }

    /// Closes a file that a look has opened.
    pub(super) fn close_stream(&self, stream: u64) {
        self.shared.lock().remove(&stream);
    }

    /// The next finding; `None` if all readers broke down. Safe to cancel.
    pub(super) async fn found(&mut self) -> Option<(Ticket, Finding)> {
        self.found.recv().await
    }

    /// A finding that is there already.
    pub(super) fn try_found(&mut self) -> Option<(Ticket, Finding)> {
        self.found.try_recv().ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Arc<Stream<RealFs>>>> {
        // The map is whole after every statement that changes it.
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, mut to_do: Worker<(Ticket, Order)>, results: &mpsc::Sender<(Ticket, Finding)>) {
        let mut reader =
            Reader::new(self.settings, self.filter.clone()).sharing(Arc::clone(&self.windows));
        while let Some((ticket, order)) = to_do.next() {
            let finding = self.carry_out(&mut reader, &order);
            let next = self.after(&order, &finding);
            if results.blocking_send((ticket, finding)).is_err() {
                return;
            }
            if let Some((stream, span)) = next.filter(|_| to_do.is_idle()) {
                stream.read_ahead(&self.fs, span);
            }
        }
    }

    fn carry_out(&self, reader: &mut Reader<RealFs>, order: &Order) -> Finding {
        match order {
            Order::ReadChunk { stream, span } => match self.stream(*stream) {
                Some(stream) => stream.read(&self.fs, *span),
                // Closed meanwhile: what it would have held counts for nobody.
                None => Finding::StreamEnded { whole: false },
            },
            Order::EndStream {
                stream,
                path,
                unsettled,
            } => match self.stream(*stream) {
                Some(stream) => end_stream(&self.fs, stream.open(), path, *unsettled),
                None => Finding::StreamEnded { whole: false },
            },
            Order::Look { .. }
            | Order::LookDir { .. }
            | Order::CheckRename { .. }
            | Order::List { .. } => {
                let mut next = || self.next_stream.fetch_add(1, Ordering::Relaxed);
                let finding = reader.read(&self.fs, wall(), order, &mut next);
                let mut streams = self.lock();
                for open in reader.take_opened() {
                    streams.insert(open.stream, Arc::new(Stream::new(open)));
                }
                finding
            }
        }
    }

    fn stream(&self, stream: u64) -> Option<Arc<Stream<RealFs>>> {
        self.lock().get(&stream).map(Arc::clone)
    }

    /// What will be asked for when this was found, if that is more of the same file.
    fn after(&self, order: &Order, found: &Finding) -> Option<(Arc<Stream<RealFs>>, Span)> {
        let Order::ReadChunk { stream, span } = order else {
            return None;
        };
        let stream = self.stream(*stream)?;
        let next = stream.after(*span, found)?;
        Some((stream, next))
    }
}
