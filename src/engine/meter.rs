//! Rates over the last seconds and minutes, from counters.

use std::collections::VecDeque;

use crate::report::Rate;

/// Longest time over which a rate can be told, in seconds.
const SECONDS_MAX: usize = 300;

/// Counts entries and bytes and tells their rates.
#[derive(Debug, Default)]
pub struct Meter {
    /// Entries in all.
    pub entries: u64,
    /// Bytes in all.
    pub bytes: u64,
    /// The totals at the start of each of the last seconds, as (second, entries, bytes).
    marks: VecDeque<(u64, u64, u64)>,
}

impl Meter {
    /// Counts.
    pub fn add(&mut self, now_ms: u64, entries: u64, bytes: u64) {
        let second = now_ms / 1000;
        if self.marks.back().is_none_or(|(last, ..)| *last < second) {
            self.marks.push_back((second, self.entries, self.bytes));
            if self.marks.len() > SECONDS_MAX {
                self.marks.pop_front();
            }
        }
        self.entries += entries;
        self.bytes += bytes;
    }

    /// The rate over the last `seconds` (at most 300), or since the first count if that is later.
    #[must_use]
    pub fn rate(&self, now_ms: u64, seconds: u64) -> Rate {
        let since = (now_ms / 1000).saturating_sub(seconds);
        let Some(&(second, entries, bytes)) =
            self.marks.iter().find(|(second, ..)| *second >= since)
        else {
            return Rate::default();
        };
        let span = (now_ms as f64 / 1000.0 - second.max(since) as f64).max(1.0);
        Rate {
            entries: (self.entries - entries) as f64 / span,
            bytes: (self.bytes - bytes) as f64 / span,
        }
    }
}
