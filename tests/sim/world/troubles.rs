//! What goes wrong besides cuts and crashes: clocks, frozen processes, a stalled link, failing disks.

use osync::engine::{Now, sink};
use osync::fs::memory::{Call, Trouble};
use osync::report::RateLimits;
use osync::tree::Time;

use super::World;
use crate::rng::Rng;

/// A day in milliseconds.
const DAY_MS: i64 = 24 * 3600 * 1000;

/// A host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Source,
    Sink,
}

/// What is wrong now. Moments are milliseconds of the world.
#[derive(Debug, Default)]
pub struct Troubles {
    /// How far the wall clock of each host is ahead of the world.
    ahead_ms: [i64; 2],
    frozen_until: [u64; 2],
    stalled_until: u64,
    /// Which call of the next order to a reader fails.
    failing_call: Option<usize>,
    /// Until when the target takes nothing, the error number, and whether that is so only for new entries.
    closed: Option<(u64, i32, bool)>,
}

impl World {
    /// The time of the source's host.
    pub fn now(&self) -> Now {
        self.now_at(Side::Source)
    }

    /// The time of the sink's host.
    pub fn sink_now(&self) -> Now {
        self.now_at(Side::Sink)
    }

    fn now_at(&self, side: Side) -> Now {
        let wall_ms = self.ms as i64 + self.troubles.ahead_ms[side as usize];
        Now {
            ms: self.ms,
            wall: Time {
                secs: wall_ms.div_euclid(1000),
                nanos: wall_ms.rem_euclid(1000) as u32 * 1_000_000,
            },
        }
    }

    pub(super) fn set_clocks(&self) {
        for (fs, side) in [(&self.src, Side::Source), (&self.dst, Side::Sink)] {
            let mut disk = fs.disk();
            disk.now = disk.now.max(self.now_at(side).wall);
        }
    }

    /// The wall clock of a host is set.
    pub fn set_clock(&mut self, side: Side, ahead_ms: i64) {
        self.say(|| format!("CLOCK of the {side:?} is {ahead_ms} ms ahead"));
        self.troubles.ahead_ms[side as usize] = ahead_ms;
        let now = self.now_at(side).wall;
        let fs = match side {
            Side::Source => &self.src,
            Side::Sink => &self.dst,
        };
        fs.disk().now = now;
    }

    /// A process is frozen for so long.
    pub fn freeze(&mut self, side: Side, ms: u64) {
        self.say(|| format!("FROZEN {side:?} for {ms} ms"));
        self.troubles.frozen_until[side as usize] = self.ms + ms;
    }

    /// Nothing passes over the link for so long.
    pub fn stall(&mut self, ms: u64) {
        self.say(|| format!("STALLED for {ms} ms"));
        self.troubles.stalled_until = self.ms + ms;
    }

    /// The target takes nothing, or nothing new, for so long.
    pub fn close_target(&mut self, ms: u64, errno: i32, only_new: bool) {
        self.say(|| format!("CLOSED for {ms} ms with {errno}, only new: {only_new}"));
        self.troubles.closed = Some((self.ms + ms, errno, only_new));
    }

    pub(super) fn is_frozen(&self, side: Side) -> bool {
        self.ms < self.troubles.frozen_until[side as usize]
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.ms < self.troubles.stalled_until
    }

    pub(super) fn strike_troubles(&mut self) {
        let faults = self.faults.clone();
        let mut hits = |often: usize| often > 0 && self.rng.once_in(often * 5);
        let (clock, stall, freeze, closed) = (
            hits(faults.clock_set),
            hits(faults.link_stall),
            hits(faults.freeze),
            hits(faults.target_closed),
        );
        let limit = hits(faults.limit);
        let side = match self.rng.below(2) {
            0 => Side::Source,
            _ => Side::Sink,
        };
        let ms = 1_000 << self.rng.below(6);
        if limit && self.source.is_some() && !self.is_frozen(Side::Source) {
            let limits = self.some_limits();
            self.limit(limits);
        }
        if clock {
            let range_ms = [5_000, 3_600_000, 3 * DAY_MS][self.rng.below(3)];
            let ahead_ms = self.rng.next() as i64 % range_ms;
            self.set_clock(side, ahead_ms);
        }
        if stall {
            self.stall(ms);
        }
        if freeze {
            self.freeze(side, ms);
        }
        if closed {
            let (errno, only_new) = [
                (libc::EROFS, false),
                (libc::EDQUOT, false),
                (libc::ENOSPC, true),
            ][self.rng.below(3)];
            self.close_target(ms, errno, only_new);
        }
    }

    /// Limits under which a tree of some bytes takes seconds, or none.
    fn some_limits(&mut self) -> RateLimits {
        let mut some = |ranges: [u64; 3]| {
            let most = ranges[self.rng.below(3)];
            let is_limited = !self.rng.once_in(3);
            is_limited.then(|| 1 + self.rng.below(most as usize) as u64)
        };
        RateLimits {
            bytes_per_s: some([50, 1_000, 1_000_000]),
            operations_per_s: some([2, 20, 1_000]),
        }
    }

    /// All these end; clocks stay as they are.
    pub(super) fn end_troubles(&mut self) {
        self.troubles = Troubles {
            ahead_ms: self.troubles.ahead_ms,
            ..Troubles::default()
        };
    }

    /// One system call of the next order to a reader fails, counted from 0.
    pub fn fail_next_read(&mut self, call: usize) {
        self.troubles.failing_call = Some(call);
    }

    pub(super) fn trouble_of_reader(&mut self) -> Option<Trouble> {
        if let Some(mut left) = self.troubles.failing_call.take() {
            return Some(Box::new(move |_| {
                left = left.wrapping_sub(1);
                (left == usize::MAX).then_some(libc::EIO)
            }));
        }
        let often = self.faults.read_error;
        if self.healed || often == 0 {
            return None;
        }
        let mut rng = Rng::new(self.rng.next());
        Some(Box::new(move |_| rng.once_in(often).then_some(libc::EIO)))
    }

    pub(super) fn trouble_of_applier(&mut self) -> Option<Trouble> {
        let closed = self.troubles.closed;
        let closed = closed.filter(|(until, ..)| self.ms < *until);
        let often = match self.healed {
            true => 0,
            false => self.faults.write_error,
        };
        if often == 0 && closed.is_none() {
            return None;
        }
        let mut rng = Rng::new(self.rng.next());
        Some(Box::new(move |call| {
            if let Some((_, errno, only_new)) = closed
                && (call == Call::Create || (call == Call::Change && !only_new))
            {
                return Some(errno);
            }
            (often > 0 && rng.once_in(often)).then_some(libc::EIO)
        }))
    }

    /// The sync that was to end now may fail.
    pub(super) fn sync_fails(&mut self) -> bool {
        let often = self.faults.sync_error;
        if self.healed || often == 0 || !self.rng.once_in(often) {
            return false;
        }
        let mut rng = Rng::new(self.rng.next());
        self.fail_sync(|| rng.once_in(2));
        true
    }

    /// A sync fails; `keep` decides which files keep the content that it was to make durable.
    pub(super) fn fail_sync(&mut self, keep: impl FnMut() -> bool) {
        self.say(|| "SYNC FAILED".to_owned());
        self.dst.disk().fail_sync(keep);
        self.state.end.sync_failed = true;
        self.power_was_cut = true;
        self.sink_event(sink::Event::Synced {
            ok: false,
            took_ms: 1,
        });
    }
}
