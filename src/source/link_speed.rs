//! How fast a connection is while it is what everything waits for.

use std::collections::VecDeque;

/// A connection is asked again after so many bytes.
const ASK_BYTES: u64 = 1 << 20;

/// Or, if anything was sent, after so many milliseconds.
const ASK_MS: u64 = 100;

/// Most questions without an answer; no further ones are asked.
const ASKED_MAX: usize = 256;

/// An answer that takes so much longer than the shortest has waited for the link, in milliseconds.
const LATE_MS: u64 = 20;

/// How long what was measured counts, in milliseconds.
const KEEP_MS: u64 = 5_000;

/// What was sent until then.
#[derive(Debug, Clone, Copy, Default)]
struct Mark {
    ms: u64,
    bytes: u64,
}

/// The speed of one connection, measured by questions that travel behind what was sent before them.
///
/// An answer is late if its question had to wait for the link. If the link was busy from one late answer to the
/// next, it has carried what was sent between both questions. A connection that keeps nobody waiting has no
/// speed, however little it carries.
#[derive(Debug, Default)]
pub(super) struct LinkSpeed {
    sent: u64,
    /// The last question.
    last: Mark,
    /// Those without an answer, in order.
    asked: VecDeque<Mark>,
    /// The shortest time that an answer took, in milliseconds.
    shortest_ms: Option<u64>,
    /// When the last answer came, if that was late, and what was sent before its question.
    late: Option<Mark>,
    /// Bytes a second, and when that was measured.
    measured: Option<(f64, u64)>,
}

impl LinkSpeed {
    /// So many bytes were given to the connection. True if a question is to follow them, with the time as
    /// its token.
    pub(super) fn sent(&mut self, now_ms: u64, bytes: u64) -> bool {
        let is_first = self.sent == 0;
        self.sent += bytes;
        let much = self.sent >= self.last.bytes + ASK_BYTES;
        let is_due = is_first || much || now_ms >= self.last.ms + ASK_MS;
        if !is_due || self.asked.len() >= ASKED_MAX {
            return false;
        }
        self.last = Mark {
            ms: now_ms,
            bytes: self.sent,
        };
        self.asked.push_back(self.last);
        true
    }

    /// The next question was answered, if this is its token.
    pub(super) fn answered(&mut self, now_ms: u64, token: u64) {
        let Some(asked) = self.asked.pop_front_if(|asked| asked.ms == token) else {
            return;
        };
        let took_ms = now_ms.saturating_sub(asked.ms);
        let shortest_ms = self.shortest_ms.map_or(took_ms, |ms| ms.min(took_ms));
        self.shortest_ms = Some(shortest_ms);
        let before = self.late.take();
        if took_ms < shortest_ms + LATE_MS {
            return;
        }
        self.late = Some(Mark {
            ms: now_ms,
            bytes: asked.bytes,
        });
        // It was asked before the link had carried all that was sent before the other question.
        let is_busy = |before: &Mark| asked.ms + shortest_ms <= before.ms && before.ms < now_ms;
        if let Some(before) = before.filter(is_busy) {
            let seconds = (now_ms - before.ms) as f64 / 1e3;
            let bytes = (asked.bytes - before.bytes) as f64;
            self.measured = Some((bytes / seconds, now_ms));
        }
    }

    /// Bytes a second that it carries, if anybody has had to wait for it in the last seconds.
    pub(super) fn get(&self, now_ms: u64) -> Option<f64> {
        let (speed, ms) = self.measured?;
        (now_ms < ms + KEEP_MS).then_some(speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that carries so many bytes a millisecond, and what it is given.
    struct Link {
        rate: u64,
        round_trip_ms: u64,
        speed: LinkSpeed,
        /// When all that was sent will have left.
        free_ms: f64,
        answers: Vec<(u64, u64)>,
    }

    impl Link {
        fn new(rate: u64, round_trip_ms: u64) -> Self {
            Self {
                rate,
                round_trip_ms,
                speed: LinkSpeed::default(),
                free_ms: 0.0,
                answers: Vec::new(),
            }
        }

        /// Sends so many bytes in each of these milliseconds, as far as 300 ms ahead of the link.
        fn send(&mut self, during: impl Iterator<Item = u64>, bytes: u64) {
            for ms in during {
                let due = self.answers.extract_if(.., |(at, _)| *at <= ms);
                due.for_each(|(at, token)| self.speed.answered(at, token));
                if self.free_ms > ms as f64 + 300.0 {
                    continue;
                }
                self.free_ms = self.free_ms.max(ms as f64) + bytes as f64 / self.rate as f64;
                if self.speed.sent(ms, bytes) {
                    let at = self.free_ms as u64 + self.round_trip_ms;
                    self.answers.push((at, ms));
                }
            }
        }
    }

    #[test]
    fn of_a_link_that_is_full_it_is_what_it_carries() {
        for (rate, round_trip_ms) in [(1_000, 0), (10_000, 100), (125_000, 1)] {
            let mut link = Link::new(rate, round_trip_ms);
            link.send(0..3_000, 4 * rate);
            let speed = link.speed.get(3_000).unwrap_or_default() / 1e3;
            let share = speed / rate as f64;
            assert!((0.8..1.25).contains(&share), "{speed} bytes/ms of {rate}");
        }
    }

    #[test]
    fn a_link_that_keeps_nobody_waiting_has_none() {
        let mut link = Link::new(10_000, 100);
        link.send(0..3_000, 5_000);
        assert_eq!(link.speed.get(3_000), None);
    }

    #[test]
    fn pauses_between_bursts_are_not_taken_for_slowness() {
        let mut link = Link::new(100_000, 1);
        link.send((0..10_000).step_by(500), 5_000_000);
        assert_eq!(link.speed.get(10_000), None);
    }

    #[test]
    fn is_forgotten_when_nobody_waits_any_more() {
        let mut link = Link::new(10_000, 10);
        link.send(0..2_000, 40_000);
        assert!(link.speed.get(2_000).is_some());
        link.send(2_000..3_000 + KEEP_MS, 100);
        assert_eq!(link.speed.get(3_000 + KEEP_MS), None);
    }

    #[test]
    fn is_asked_once_in_a_while_and_not_without_an_end() {
        let mut speed = LinkSpeed::default();
        assert!(speed.sent(0, 1));
        assert!(!speed.sent(ASK_MS - 1, ASK_BYTES - 1));
        assert!(speed.sent(ASK_MS - 1, 1));
        assert!(speed.sent(2 * ASK_MS - 1, 1));
        speed.answered(2 * ASK_MS, 7);
        assert_eq!(speed.asked.len(), 3, "an answer to another question");
        let asked = (0..1000).filter(|_| speed.sent(2 * ASK_MS, ASK_BYTES));
        assert_eq!(asked.count(), ASKED_MAX - 3);
    }
}
