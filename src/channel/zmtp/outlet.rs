//! The way out to one peer: a bounded queue, and its end that writes to the connection in batches.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Buf, Bytes, BytesMut};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::frame;
use super::stream::Stream;
use crate::channel::OUTGOING_PACKETS_MAX;
use crate::wire::Frames;

/// Most packets written in one go.
const BATCH_PACKETS_MAX: usize = 64;
/// Most bytes written in one go, up to the last packet.
const BATCH_BYTES_MAX: usize = 512 * 1024;

/// Parts up to this length are copied together with their heads; longer ones are written from where
/// they are.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// Slices that one call writes.
const SLICES_MAX: usize = 64;

/// The queue of one peer. Dropping it discards what is queued.
#[derive(Debug)]
pub(super) struct Outlet {
    packets: mpsc::Sender<Frames>,
    deadline: oneshot::Sender<Instant>,
    waiting_bytes: Arc<AtomicUsize>,
}

/// The queue of a peer is full: it does not read.
#[derive(Debug)]
pub(super) struct QueueFull;

/// The other end of an [`Outlet`]: what there is to write.
#[derive(Debug)]
pub(super) struct Queue {
    packets: mpsc::Receiver<Frames>,
    deadline: oneshot::Receiver<Instant>,
    waiting_bytes: Arc<AtomicUsize>,
    pongs: mpsc::Receiver<Bytes>,
}

/// Answers heartbeats. While an answer waits to be written, further ones are left out.
#[derive(Debug)]
pub(super) struct Pongs(mpsc::Sender<Bytes>);

impl Pongs {
    pub(super) fn answer(&self, context: Bytes) {
        let _ = self.0.try_send(context);
    }
}

/// A queue, its end that is written, and the way to answer heartbeats.
pub(super) fn outlet() -> (Outlet, Queue, Pongs) {
    let (packets, queue) = mpsc::channel(OUTGOING_PACKETS_MAX);
    let (deadline, ending) = oneshot::channel();
    let (pongs, answers) = mpsc::channel(1);
    let waiting_bytes = Arc::new(AtomicUsize::new(0));
    let outlet = Outlet {
        packets,
        deadline,
        waiting_bytes: Arc::clone(&waiting_bytes),
    };
    let queue = Queue {
        packets: queue,
        deadline: ending,
        waiting_bytes,
        pongs: answers,
    };
    (outlet, queue, Pongs(pongs))
}

impl Outlet {
    /// Queues a packet, unless `bytes_max` or more wait already. One that nobody will write any more,
    /// as the connection has ended, is dropped: that end is what reports the loss. One without parts,
    /// which ZeroMQ cannot express, is dropped too.
    pub(super) fn send(&self, frames: Frames, bytes_max: usize) -> Result<(), QueueFull> {
        if frames.is_empty() {
            return Ok(());
        }
        if self.waiting_bytes.load(Ordering::Relaxed) >= bytes_max {
            return Err(QueueFull);
        }
        let bytes = bytes_of(&frames);
        self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        match self.packets.try_send(frames) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(QueueFull),
        }
    }

    /// Takes no more packets; what is queued may be written until the deadline.
    pub(super) fn finish(self, deadline: Instant) {
        // A connection that has ended already needs no deadline.
        let _ = self.deadline.send(deadline);
    }
}

fn bytes_of(frames: &Frames) -> usize {
    frames.iter().map(Bytes::len).sum()
}

/// How writing ended without an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The outlet was finished; everything is written, or this deadline has passed.
    Finished(Instant),
    /// The outlet was dropped.
    Abandoned,
}

impl Queue {
    /// Writes what is queued until the outlet ends.
    pub(super) async fn write(mut self, stream: &Stream) -> io::Result<Written> {
        let mut ending = Ending {
            deadline: self.deadline,
            known: None,
        };
        let mut batch = Batch::default();
        loop {
            tokio::select! {
                biased;
                written = ending.passed() => return Ok(written),
                more = batch.collect(&mut self.packets, &mut self.pongs) => if !more {
                    return Ok(ending.told().await);
                },
            }
            tokio::select! {
                biased;
                written = ending.passed() => return Ok(written),
                written = batch.write(stream) => written?,
            }
            let bytes = std::mem::take(&mut batch.packet_bytes);
            self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

/// How and when the outlet ends.
struct Ending {
    deadline: oneshot::Receiver<Instant>,
    known: Option<Instant>,
}

impl Ending {
    /// Comes when the outlet has ended, in whichever way.
    async fn told(&mut self) -> Written {
        if self.known.is_none() {
            match (&mut self.deadline).await {
                Ok(deadline) => self.known = Some(deadline),
                Err(_) => return Written::Abandoned,
            }
        }
        self.known.map_or(Written::Abandoned, Written::Finished)
    }

    /// Comes when nothing may be written any more. Safe to cancel.
    async fn passed(&mut self) -> Written {
        let written = self.told().await;
        if let Written::Finished(deadline) = written {
            sleep_until(deadline).await;
        }
        written
    }
}

/// What is written in one go. Short parts and heads are put together in one buffer, so that many small
/// packets cost one call; long parts are not copied.
#[derive(Default)]
struct Batch {
    segments: VecDeque<Bytes>,
    /// Becomes the last segment when nothing more is added.
    short: BytesMut,
    packets: usize,
    /// Bytes of the packets, as the queue counts them.
    packet_bytes: usize,
}

impl Batch {
    /// Waits for something to write and takes all of it that fits; false when the outlet has ended and
    /// nothing is left. Safe to cancel.
    async fn collect(
        &mut self,
        packets: &mut mpsc::Receiver<Frames>,
        pongs: &mut mpsc::Receiver<Bytes>,
    ) -> bool {
        tokio::select! {
            biased;
            Some(context) = pongs.recv() => frame::put_pong(&mut self.short, &context),
            frames = packets.recv() => match frames {
                Some(frames) => self.add(frames),
                None => return false,
            },
        }
        while self.packets < BATCH_PACKETS_MAX
            && self.packet_bytes < BATCH_BYTES_MAX
            && let Ok(frames) = packets.try_recv()
        {
            self.add(frames);
        }
        self.seal();
        true
    }

    fn add(&mut self, frames: Frames) {
        self.packets += 1;
        let last = frames.len() - 1;
        for (index, part) in frames.into_iter().enumerate() {
            self.packet_bytes += part.len();
            frame::put_head(&mut self.short, index < last, part.len());
            if part.len() <= COPIED_BYTES_MAX {
                self.short.extend_from_slice(&part);
            } else {
                self.seal();
                self.segments.push_back(part);
            }
        }
    }

    fn seal(&mut self) {
        if !self.short.is_empty() {
            self.segments.push_back(self.short.split().freeze());
        }
    }

    /// Writes everything. Cancelled, it has written some of it: nothing may follow then.
    async fn write(&mut self, stream: &Stream) -> io::Result<()> {
        while !self.segments.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(segment);
            }
            let count = self.segments.len().min(SLICES_MAX);
            match stream.write(&slices[..count]).await? {
                0 => return Err(ErrorKind::WriteZero.into()),
                written => self.advance(written),
            }
        }
        self.packets = 0;
        Ok(())
    }

    /// Drops what was written.
    fn advance(&mut self, mut written: usize) {
        while let Some(front) = self.segments.front_mut() {
            if front.len() > written {
                return front.advance(written);
            }
            written -= front.len();
            self.segments.pop_front();
        }
    }
}
