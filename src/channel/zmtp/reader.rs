//! Packets out of the bytes of a connection.

use std::io;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::frame::{self, COMMAND_BYTES_MAX, Command, Head, Violation};
use super::stream::Stream;
use crate::wire::{FRAMES_MAX, Frames, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};

/// Most bytes of a packet, all parts together.
pub(super) const PACKET_BYTES_MAX: usize = HEADER_BYTES_MAX + PAYLOAD_BYTES_MAX;

/// Bytes of a stranger's packet that need no share of the pool.
pub(super) const STRANGER_BYTES_FREE: usize = 4 * 1024;

/// Bytes read ahead of a peer that is kept, where no large part is being read.
const AHEAD_BYTES: usize = 32 * 1024;
/// The same of a stranger.
const STRANGER_AHEAD_BYTES: usize = 1024;

/// Why nothing more comes from a peer.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    #[error("it closed the connection")]
    Left,
    #[error("it closed the connection inside a message")]
    Cut,
    #[error(transparent)]
    Broken(#[from] io::Error),
    #[error("a packet of more than {FRAMES_MAX} parts or {PACKET_BYTES_MAX} bytes")]
    Oversized,
    #[error("strangers have no memory left for a packet of {0} bytes")]
    NoShare(usize),
    #[error(transparent)]
    Violation(#[from] Violation),
    #[error("it took too long")]
    Late,
}

/// What a peer has said.
#[derive(Debug)]
pub(super) enum Said {
    Packet(Packet),
    /// A heartbeat, to be answered with its context.
    Ping(Bytes),
    /// Its socket is ready, and of this type.
    Ready(String),
}

/// A packet, with the stranger's share that it takes.
#[derive(Debug)]
pub(super) struct Packet {
    pub(super) frames: Frames,
    pub(super) share: Option<OwnedSemaphorePermit>,
}

/// Reads one connection. Nothing is reserved for a length that is not within the limits.
#[derive(Debug)]
pub(super) struct Reader {
    buffer: BytesMut,
    /// READY has come: messages may follow, and no other READY.
    is_ready: bool,
    /// The frame whose body is being read.
    head: Option<Head>,
    /// The parts of the packet that have come.
    parts: Frames,
    /// Bytes of the packet, as announced so far.
    packet_bytes: usize,
    /// What a stranger may use of all strangers' memory, and what it does.
    pool: Option<Arc<Semaphore>>,
    share: Option<OwnedSemaphorePermit>,
}

impl Reader {
    /// A reader of a peer that is trusted with whole packets.
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            is_ready: false,
            head: None,
            parts: Frames::new(),
            packet_bytes: 0,
            pool: None,
            share: None,
        }
    }

    /// A reader of a stranger, whose larger packets take bytes of this pool.
    pub(super) fn of_stranger(pool: Arc<Semaphore>) -> Self {
        Self {
            pool: Some(pool),
            ..Self::new()
        }
    }

    /// Its peer is no stranger any more.
    pub(super) fn trust(&mut self) {
        self.pool = None;
    }

    /// True between the first byte and the last of a packet or command.
    pub(super) fn is_inside(&self) -> bool {
        self.head.is_some() || !self.parts.is_empty() || !self.buffer.is_empty()
    }

    /// The greeting, if it has come; anything else is an error as soon as it can be told.
    pub(super) fn take_greeting(&mut self) -> Result<bool, Violation> {
        let come = self.buffer.len().min(frame::GREETING_BYTES);
        frame::check_greeting(&self.buffer[..come])?;
        let whole = come == frame::GREETING_BYTES;
        if whole {
            self.buffer.advance(come);
        }
        Ok(whole)
    }

    /// What has come; none if more bytes are needed.
    pub(super) fn take(&mut self) -> Result<Option<Said>, End> {
        loop {
            let head = match self.head {
                Some(head) => head,
                None => match frame::head(&self.buffer)? {
                    Some((head, length)) => {
                        self.begin(head)?;
                        self.buffer.advance(length);
                        self.head = Some(head);
                        head
                    }
                    None => return Ok(None),
                },
            };
            let length = body_bytes(head);
            if self.buffer.len() < length {
                return Ok(None);
            }
            self.head = None;
            let body = self.buffer.split_to(length).freeze();
            if head.is_command {
                if let Some(said) = self.obey(frame::command(&body)?)? {
                    return Ok(Some(said));
                }
            } else {
                self.parts.push(body);
                if !head.more {
                    return Ok(Some(Said::Packet(self.finish())));
                }
            }
        }
    }

    /// What a command says to the owner, if anything: one READY, before anything else.
    fn obey(&mut self, command: Command) -> Result<Option<Said>, Violation> {
        match command {
            Command::Ready(_) if self.is_ready => Err(Violation::ReadyTwice),
            Command::Ready(socket_type) => {
                self.is_ready = true;
                Ok(Some(Said::Ready(socket_type)))
            }
            Command::Ping(_) | Command::Pong if !self.is_ready => Err(Violation::NotReady),
            Command::Ping(context) => Ok(Some(Said::Ping(context))),
            Command::Pong => Ok(None),
        }
    }

    /// Judges a frame by what it announces.
    fn begin(&mut self, head: Head) -> Result<(), End> {
        if head.is_command {
            return match usize::try_from(head.bytes) {
                Ok(0..=COMMAND_BYTES_MAX) => Ok(()),
                _ => Err(Violation::CommandTooLong(head.bytes).into()),
            };
        }
        if !self.is_ready {
            return Err(Violation::NotReady.into());
        }
        let bytes = usize::try_from(head.bytes)
            .ok()
            .and_then(|bytes| self.packet_bytes.checked_add(bytes))
            .filter(|bytes| *bytes <= PACKET_BYTES_MAX && self.parts.len() < FRAMES_MAX)
            .ok_or(End::Oversized)?;
        self.packet_bytes = bytes;
        self.claim(bytes)
    }

    /// Takes a stranger's share for a packet of so many bytes.
    fn claim(&mut self, bytes: usize) -> Result<(), End> {
        let Some(pool) = &self.pool else {
            return Ok(());
        };
        let has = self
            .share
            .as_ref()
            .map_or(STRANGER_BYTES_FREE, OwnedSemaphorePermit::num_permits);
        if bytes <= has {
            return Ok(());
        }
        let missing = match &self.share {
            Some(_) => bytes - has,
            None => bytes,
        };
        let missing = u32::try_from(missing).map_err(|_| End::Oversized)?;
        let more = Arc::clone(pool)
            .try_acquire_many_owned(missing)
            .map_err(|_| End::NoShare(bytes))?;
        match &mut self.share {
            Some(share) => share.merge(more),
            None => self.share = Some(more),
        }
        Ok(())
    }

    fn finish(&mut self) -> Packet {
        self.packet_bytes = 0;
        Packet {
            frames: std::mem::take(&mut self.parts),
            share: self.share.take(),
        }
    }

    /// Reads once. Safe to cancel.
    pub(super) async fn fill(&mut self, stream: &Stream) -> Result<(), End> {
        let ahead = match self.pool {
            Some(_) => STRANGER_AHEAD_BYTES,
            None => AHEAD_BYTES,
        };
        let missing = self
            .head
            .map_or(0, |head| body_bytes(head) - self.buffer.len());
        let read = if missing > ahead {
            // Exactly the rest, so that nothing behind it has to be moved out of this buffer later.
            self.buffer.reserve(missing);
            stream.read(&mut (&mut self.buffer).limit(missing)).await?
        } else {
            if self.buffer.capacity() - self.buffer.len() < missing.max(ahead / 4) {
                self.buffer.reserve(ahead);
            }
            stream.read(&mut self.buffer).await?
        };
        match read {
            0 if self.is_inside() => Err(End::Cut),
            0 => Err(End::Left),
            _ => Ok(()),
        }
    }
}

/// The length of a body whose head was judged: that of a packet or a command at most.
fn body_bytes(head: Head) -> usize {
    usize::try_from(head.bytes).expect("the length is within the limits")
}
