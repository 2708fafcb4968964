//! How far ahead a source may send: as far as its link needs it, within a limit.

use crate::engine::Now;
use crate::wire::message::Credit;

/// The credit that is granted ahead of what has its outcome.
///
/// To keep a link busy, as much must be allowed as comes in one round trip, and as much again while the
/// grant is on its way. What comes in a round trip is measured; a link that brings more than half of what
/// is granted has that doubled. A target that is slower than the link makes less come, so that no more
/// waits for it than it needs.
#[derive(Debug)]
pub(super) struct Window {
    /// Granted whatever the link is like: the source reserves some of it for what a look may bring back.
    least: Credit,
    /// Never more.
    most: Credit,
    size: Credit,
    /// The shortest that was seen, in milliseconds; unknown before the first.
    round_trip_ms: Option<u64>,
    /// What has come since one round trip before this time.
    came: Credit,
    ends_ms: u64,
}

impl Window {
    /// Of a session that begins.
    pub(super) fn new(least: Credit, most: Credit) -> Self {
        Self {
            least,
            most,
            size: least,
            round_trip_ms: None,
            came: Credit::default(),
            ends_ms: 0,
        }
    }

    /// What is granted ahead now. It never shrinks.
    pub(super) fn size(&self) -> Credit {
        self.size
    }

    /// A question was answered after so many milliseconds.
    pub(super) fn answered(&mut self, took_ms: u64) {
        let shortest = self.round_trip_ms.unwrap_or(u64::MAX);
        self.round_trip_ms = Some(shortest.min(took_ms.max(1)));
    }

    /// One message has come, which cost so many bytes.
    pub(super) fn came(&mut self, now: Now, bytes: u64) {
        let Some(round_trip_ms) = self.round_trip_ms else {
            return;
        };
        if now.ms >= self.ends_ms {
            self.came = Credit::default();
            self.ends_ms = now.ms + round_trip_ms;
        }
        self.came.bytes += bytes;
        self.came.messages += 1;
        let wanted = |least: u64, came: u64, most: u64| least.saturating_add(2 * came).min(most);
        let bytes = wanted(self.least.bytes, self.came.bytes, self.most.bytes);
        let messages = wanted(self.least.messages, self.came.messages, self.most.messages);
        self.size.bytes = self.size.bytes.max(bytes);
        self.size.messages = self.size.messages.max(messages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Credit = Credit {
        bytes: 8 << 20,
        messages: 512,
    };
    const MOST: Credit = Credit {
        bytes: 64 << 20,
        messages: 1024,
    };
    const MESSAGE_BYTES: u64 = 128 << 10;
    /// One message more or less falls into a round trip.
    const TOLERANCE: u64 = 2 * MESSAGE_BYTES;

    /// The window after a while on a link of such a rate, in bytes a millisecond.
    fn on_link(round_trip_ms: u64, rate: u64) -> Credit {
        let mut window = Window::new(LEAST, MOST);
        window.answered(round_trip_ms);
        let mut sent = 0;
        for ms in 0..20 * round_trip_ms {
            // As much comes as the link carries, and as was granted for a round trip.
            let most = window.size().bytes / round_trip_ms;
            sent += rate.min(most);
            while sent >= MESSAGE_BYTES {
                sent -= MESSAGE_BYTES;
                window.came(
                    Now {
                        ms,
                        ..Now::default()
                    },
                    MESSAGE_BYTES,
                );
            }
        }
        window.size()
    }

    #[test]
    fn grows_to_twice_what_a_long_link_carries_in_a_round_trip() {
        let rate = 125_000;
        let carried = 100 * rate;
        let bytes = on_link(100, rate).bytes;
        assert!(bytes >= LEAST.bytes + 19 * carried / 10, "{bytes}");
        assert!(bytes <= LEAST.bytes + 2 * carried + TOLERANCE, "{bytes}");
    }

    #[test]
    fn stays_within_its_limit() {
        assert_eq!(on_link(1000, 1_250_000).bytes, MOST.bytes);
    }

    #[test]
    fn hardly_grows_on_a_short_link() {
        let bytes = on_link(1, 1_000_000).bytes;
        assert!(bytes <= LEAST.bytes + 2 * 1_000_000 + TOLERANCE, "{bytes}");
    }

    #[test]
    fn stays_small_while_no_round_trip_is_known() {
        let mut window = Window::new(LEAST, MOST);
        window.came(Now::default(), 1 << 30);
        assert_eq!(window.size(), LEAST);
    }

    #[test]
    fn takes_the_shortest_round_trip() {
        let mut window = Window::new(LEAST, MOST);
        for took_ms in [900, 0, 500] {
            window.answered(took_ms);
        }
        assert_eq!(window.round_trip_ms, Some(1));
    }
}
