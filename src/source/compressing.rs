//! Compression of what is sent: where it helps, on a thread of its own.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::link_speed::LinkSpeed;
use crate::channel::Peer;
use crate::config::Compression;
use crate::error::Error;
use crate::wire::message::ToSink;
use crate::wire::{Compressor, Frames, encode_to_sink, encode_to_sink_compressed};

/// Levels to choose from, with their speed as a share of the first one's.
const LEVELS: [(u8, f64); 4] = [(1, 1.0), (3, 0.5), (6, 0.2), (9, 0.1)];

/// Share of the compressor's time that may be needed for what the links carry.
const EFFORT_MAX: f64 = 0.5;

/// How much the latest message counts for what is known of the compressor.
const LATEST: f64 = 0.05;

/// A message for the thread, with its level.
type Order = (Peer, ToSink, u8);

/// What the thread has made of a message.
pub(super) struct Packed {
    peer: Peer,
    frames: Frames,
    level: u8,
    /// Bytes of its content before.
    content: usize,
    took: Duration,
}

/// The thread, and what is known of connections and compressor. Dropping it ends the thread after what it
/// is doing.
pub(super) struct Compressing {
    how: Compression,
    links: HashMap<Peer, LinkSpeed>,
    compressor: Effort,
    /// What is chosen for connections that somebody waits for.
    level: Option<u8>,
    // The engine's credit bounds what is under way, so neither grows beyond that.
    orders: crossbeam_channel::Sender<Order>,
    packed: mpsc::UnboundedReceiver<Packed>,
}

impl Compressing {
    /// Starts the thread.
    pub(super) fn start(how: Compression) -> Result<Self, Error> {
        let failed = |error| Error::Unexpected(format!("cannot start the compressor: {error}"));
        let mut compressor = Compressor::new().map_err(failed)?;
        let (orders, to_do) = crossbeam_channel::unbounded();
        let (results, packed) = mpsc::unbounded_channel();
        std::thread::Builder::new()
            .name("compressor".into())
            .spawn(move || {
                for order in to_do {
                    if results.send(pack(&mut compressor, order)).is_err() {
                        return;
                    }
                }
            })
            .map_err(failed)?;
        Ok(Self {
            how,
            links: HashMap::new(),
            compressor: Effort::default(),
            level: None,
            orders,
            packed,
        })
    }

    /// The bytes of a message, unless they are to be compressed: then they come later.
    pub(super) fn encode(&mut self, now_ms: u64, peer: Peer, message: ToSink) -> Option<Frames> {
        let level = match self.how {
            Compression::Off => None,
            Compression::Level(level) => Some(level),
            Compression::Auto => {
                let link = self.links.entry(peer).or_default();
                self.level.filter(|_| link.get(now_ms).is_some())
            }
        };
        match level {
            Some(level) if message.content_bytes() > 0 => {
                // Without the thread nothing ever comes, which the loop notices.
                let _ = self.orders.send((peer, message, level));
                None
            }
            _ => Some(encode_to_sink(&message)),
        }
    }

    /// A message whose bytes come later; `None` if the thread broke down. Safe to cancel.
    pub(super) async fn packed(&mut self) -> Option<Packed> {
        self.packed.recv().await
    }

    /// One that has come already.
    pub(super) fn try_packed(&mut self) -> Option<Packed> {
        self.packed.try_recv().ok()
    }

    /// Where the bytes go.
    pub(super) fn take(&mut self, packed: Packed) -> (Peer, Frames) {
        let sent = packed.frames.get(1).map_or(0, bytes::Bytes::len);
        self.compressor.learn(&packed, sent);
        (packed.peer, packed.frames)
    }

    /// These bytes were given to a connection. Returns a question for it, if one is due.
    pub(super) fn sent(&mut self, now_ms: u64, peer: Peer, bytes: u64) -> Option<ToSink> {
        // What was being compressed may come when its connection has ended.
        let link = self.links.get_mut(&peer)?;
        let question = ToSink::Ping { token: now_ms };
        link.sent(now_ms, bytes).then_some(question)
    }

    /// A connection has answered.
    pub(super) fn answered(&mut self, now_ms: u64, peer: Peer, token: u64) {
        let Some(link) = self.links.get_mut(&peer) else {
            return;
        };
        link.answered(now_ms, token);
        let speeds = self.links.values().filter_map(|link| link.get(now_ms));
        let level = self.compressor.level(speeds.sum());
        if level != self.level {
            tracing::debug!("compression of what waits for a link: {level:?}");
            self.level = level;
        }
    }

    /// A connection has ended.
    pub(super) fn forget(&mut self, peer: Peer) {
        self.links.remove(&peer);
    }
}

fn pack(compressor: &mut Compressor, (peer, message, level): Order) -> Packed {
    let start = Instant::now();
    let frames = encode_to_sink_compressed(&message, compressor, level);
    Packed {
        peer,
        frames,
        level,
        content: message.content_bytes(),
        took: start.elapsed(),
    }
}

/// What the compressor can do.
#[derive(Debug)]
struct Effort {
    /// Bytes of content a second on the first level.
    speed: f64,
    /// How many times smaller what it sends is than the content.
    ratio: f64,
}

impl Default for Effort {
    fn default() -> Self {
        Self {
            speed: 300e6,
            ratio: 2.0,
        }
    }
}

impl Effort {
    fn learn(&mut self, packed: &Packed, sent: usize) {
        let (content, sent) = (packed.content as f64, sent.max(1) as f64);
        let blend = |old: f64, new: f64| old + LATEST * (new - old);
        self.ratio = blend(self.ratio, content / sent);
        let share = LEVELS.iter().find(|(level, _)| *level == packed.level);
        // What was not compressed at all tells nothing of how long that takes.
        if let Some((_, share)) = share
            && sent < content
        {
            let speed = content / packed.took.as_secs_f64().max(1e-6) / share;
            self.speed = blend(self.speed, speed);
        }
    }

    /// The level for links that carry so many bytes a second together: the highest that keeps them busy, and
    /// none if they are about as fast as the compressor, or nobody waits for them.
    fn level(&self, links: f64) -> Option<u8> {
        let can = |share: f64| self.speed * share * EFFORT_MAX;
        if links <= 0.0 || links > can(1.0) {
            return None;
        }
        let keeps_busy = |&&(_, share): &&(u8, f64)| links * self.ratio <= can(share);
        let highest = LEVELS.iter().rev().find(keeps_busy);
        Some(highest.unwrap_or(&LEVELS[0]).0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use bytes::Bytes;

    use super::*;
    use crate::wire::decode_to_sink;
    use crate::wire::message::{Change, Lane};

    fn effort(speed: f64, ratio: f64) -> Effort {
        Effort { speed, ratio }
    }

    #[test]
    fn the_slower_the_link_the_higher_the_level() {
        let compressor = effort(400e6, 3.0);
        for (link, level) in [
            (0.0, None),
            (1e6, Some(9)),
            (10e6, Some(6)),
            (30e6, Some(3)),
            (60e6, Some(1)),
            (199e6, Some(1)),
            (201e6, None),
            (2e9, None),
        ] {
            assert_eq!(compressor.level(link), level, "{link} bytes a second");
        }
    }

    #[test]
    fn a_slow_compressor_compresses_less() {
        assert_eq!(effort(400e6, 3.0).level(30e6), Some(3));
        assert_eq!(effort(150e6, 3.0).level(30e6), Some(1));
        assert_eq!(effort(50e6, 3.0).level(30e6), None);
    }

    #[test]
    fn learns_from_what_was_compressed() {
        let mut compressor = effort(400e6, 2.0);
        let packed = |took_us: u64| Packed {
            peer: Peer(1),
            frames: Vec::new(),
            level: 3,
            content: 100_000,
            took: Duration::from_micros(took_us),
        };
        for _ in 0..200 {
            compressor.learn(&packed(2_000), 20_000);
        }
        assert!((99e6..101e6).contains(&compressor.speed), "{compressor:?}");
        assert!((4.9..5.1).contains(&compressor.ratio), "{compressor:?}");
        for _ in 0..200 {
            compressor.learn(&packed(1), 100_000);
        }
        assert!((99e6..101e6).contains(&compressor.speed), "{compressor:?}");
        assert!((0.9..1.1).contains(&compressor.ratio), "{compressor:?}");
    }

    fn chunk(data: Vec<u8>) -> ToSink {
        let size = data.len() as u64;
        ToSink::Change {
            epoch: 1,
            number: 1,
            lane: Lane::Live,
            change: Change::Chunk {
                stream: 1,
                offset: 0,
                kept: 0,
                hole: 0,
                data: Bytes::from(data),
                size,
            },
        }
    }

    /// The connection has answered so late again and again that it is known to be slow.
    fn slow(compressing: &mut Compressing, peer: Peer) {
        for ms in [0, 100, 200, 300] {
            let question = compressing.sent(ms, peer, 100_000).unwrap();
            assert_eq!(question, ToSink::Ping { token: ms });
        }
        for (token, ms) in [(0, 1), (100, 400), (200, 500), (300, 600)] {
            compressing.answered(ms, peer, token);
        }
    }

    #[test]
    fn only_what_waits_for_a_slow_link_is_compressed() {
        let mut compressing = Compressing::start(Compression::Auto).unwrap();
        let message = chunk(vec![7; 10_000]);
        assert!(compressing.encode(0, Peer(1), message.clone()).is_some());
        slow(&mut compressing, Peer(1));
        assert!(compressing.encode(700, Peer(2), message.clone()).is_some());
        let ping = ToSink::Ping { token: 0 };
        assert!(compressing.encode(700, Peer(1), ping).is_some());

        assert!(compressing.encode(700, Peer(1), message.clone()).is_none());
        let packed = compressing.packed.blocking_recv().unwrap();
        let (peer, frames) = compressing.take(packed);
        assert_eq!(peer, Peer(1));
        assert!(frames[1].len() < 100);
        assert_eq!(decode_to_sink(&frames), Ok(message.clone()));

        compressing.forget(Peer(1));
        assert_eq!(compressing.sent(700, Peer(1), 1), None);
        assert!(!compressing.links.contains_key(&Peer(1)));
        assert!(compressing.encode(700, Peer(1), message).is_some());
    }

    #[test]
    fn what_was_asked_for_is_done() {
        let message = chunk(vec![7; 10_000]);
        let mut off = Compressing::start(Compression::Off).unwrap();
        assert!(off.encode(0, Peer(1), message.clone()).is_some());
        let mut always = Compressing::start(Compression::Level(9)).unwrap();
        assert!(always.encode(0, Peer(1), message).is_none());
        assert!(always.packed.blocking_recv().is_some());
        assert_eq!(always.sent(0, Peer(1), 1), None);
    }
}
