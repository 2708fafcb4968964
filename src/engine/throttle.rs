//! The throttle: how much the backlog may use in a second, so that a production host stays responsive.
//!
//! One token bucket for bytes and one for operations serve all sinks of a source together. The backlog waits
//! while either is empty. The live lane never waits; what it uses leaves so much less to the backlog, but
//! never less than a tenth of the limit.
//!
//! Each sink keeps an [`Account`] of what it has used, which [`Throttle::settle`] takes over before and after
//! work is handed out, so that no clock is needed between.

use std::ops::{Add, AddAssign, Neg};

use crate::report::RateLimits;
use crate::wire::message::Lane;

/// How much can be saved up while nothing happens, in milliseconds of the limit.
const BURST_MS: u64 = 100;

/// For how long the live lane can have used the limit in advance, in milliseconds.
const LIVE_MS: u64 = 1_000;

/// The part of the limit that the live lane can take from the backlog.
const LIVE_PART: u64 = 9;
const PARTS: u64 = 10;

/// Of the operations of a second, the part that one look or page may take: one in so many.
const STEPS_PER_S: u64 = 8;

/// Names in one look or page, however few operations are allowed.
const NAMES_MIN: u64 = 8;

/// What something uses, or gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes of messages: names, metadata and content.
    pub bytes: i64,
    /// Names looked at or listed, and pieces of large files.
    pub operations: i64,
}

impl Cost {
    /// Bytes alone.
    #[must_use]
    pub fn bytes(bytes: u64) -> Self {
        Self {
            bytes: bytes as i64,
            operations: 0,
        }
    }

    /// Operations alone.
    #[must_use]
    pub fn operations(operations: u64) -> Self {
        Self {
            bytes: 0,
            operations: operations as i64,
        }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            operations: self.operations.saturating_add(other.operations),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Neg for Cost {
    type Output = Self;

    fn neg(self) -> Self {
        Self {
            bytes: -self.bytes,
            operations: -self.operations,
        }
    }
}

/// What somebody has used since the throttle last took it over, and what the backlog may still use.
#[derive(Debug)]
pub struct Account {
    live: Cost,
    backlog: Cost,
    left: Cost,
    names_max: usize,
}

impl Default for Account {
    /// Nothing is limited before the throttle has said so.
    fn default() -> Self {
        Self {
            live: Cost::default(),
            backlog: Cost::default(),
            left: UNLIMITED,
            names_max: usize::MAX,
        }
    }
}

const UNLIMITED: Cost = Cost {
    bytes: i64::MAX,
    operations: i64::MAX,
};

impl Account {
    /// True if the backlog may begin something. What that takes may be more than is left: the debt is worked
    /// off before the next.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.left.bytes > 0 && self.left.operations > 0
    }

    /// Counts what was used.
    pub fn charge(&mut self, lane: Lane, cost: Cost) {
        match lane {
            Lane::Live => self.live += cost,
            Lane::Backlog => {
                self.backlog += cost;
                self.left += -cost;
            }
        }
    }

    /// Sets aside what the backlog may need at most, until it is known. The live lane needs no leave.
    pub fn hold(&mut self, lane: Lane, most: Cost) {
        if lane == Lane::Backlog {
            self.charge(lane, most);
        }
    }

    /// Gives back what was set aside.
    pub fn release(&mut self, lane: Lane, most: Cost) {
        self.hold(lane, -most);
    }

    /// Names in one look or page of the backlog, so that few operations a second come evenly.
    #[must_use]
    pub fn names_max(&self, lane: Lane) -> usize {
        match lane {
            Lane::Live => usize::MAX,
            Lane::Backlog => self.names_max,
        }
    }
}

/// Tokens of one kind.
#[derive(Debug)]
struct Bucket {
    per_s: u64,
    /// Thousandths of what the backlog may use; below zero while more was used than there was.
    level: i64,
    /// Thousandths of what the live lane may take from the backlog.
    live_share: i64,
    /// When both were filled last.
    at_ms: u64,
}

impl Bucket {
    fn new(now_ms: u64, per_s: u64) -> Self {
        Self {
            per_s,
            level: thousandths(per_s, BURST_MS),
            live_share: thousandths(per_s * LIVE_PART / PARTS, LIVE_MS),
            at_ms: now_ms,
        }
    }

    fn fill(&mut self, now_ms: u64) {
        let ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = self.at_ms.max(now_ms);
        let for_live = self.per_s * LIVE_PART / PARTS;
        self.level = self.level.saturating_add(thousandths(self.per_s, ms));
        self.live_share = self.live_share.saturating_add(thousandths(for_live, ms));
        self.level = self.level.min(thousandths(self.per_s, BURST_MS));
        self.live_share = self.live_share.min(thousandths(for_live, LIVE_MS));
    }

    fn take(&mut self, live: i64, backlog: i64) {
        let shared = live.saturating_mul(1000).min(self.live_share);
        self.live_share -= shared;
        let taken = shared.saturating_add(backlog.saturating_mul(1000));
        self.level = self.level.saturating_sub(taken);
    }

    /// What is left, rounded up, so that it is none only if the bucket is empty.
    fn left(&self) -> i64 {
        self.level.saturating_add(999).div_euclid(1000)
    }

    /// When something will be there; `None` if there is.
    fn ready_ms(&self) -> Option<u64> {
        let lacking = u64::try_from(-self.level).ok()?;
        Some(self.at_ms + lacking / self.per_s + 1)
    }
}

/// What a rate makes in so many milliseconds, in thousandths.
fn thousandths(per_s: u64, ms: u64) -> i64 {
    i64::try_from(per_s.saturating_mul(ms)).unwrap_or(i64::MAX)
}

/// The limits of a source, and what is left of them.
#[derive(Debug)]
pub struct Throttle {
    limits: RateLimits,
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Throttle {
    /// A throttle with these limits. They are within [`RateLimits`]'s ranges.
    #[must_use]
    pub fn new(now_ms: u64, limits: RateLimits) -> Self {
        let bucket = |rate: Option<u64>| rate.map(|per_s| Bucket::new(now_ms, per_s));
        Self {
            limits,
            bytes: bucket(limits.bytes_per_s),
            operations: bucket(limits.operations_per_s),
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> RateLimits {
        self.limits
    }

    /// Lets time pass.
    pub fn fill(&mut self, now_ms: u64) {
        let buckets = [&mut self.bytes, &mut self.operations];
        for bucket in buckets.into_iter().flatten() {
            bucket.fill(now_ms);
        }
    }

    /// Takes over what an account has used, and says what the backlog may use from now on.
    pub fn settle(&mut self, account: &mut Account) {
        let live = std::mem::take(&mut account.live);
        let backlog = std::mem::take(&mut account.backlog);
        account.left = UNLIMITED;
        if let Some(bucket) = &mut self.bytes {
            bucket.take(live.bytes, backlog.bytes);
            account.left.bytes = bucket.left();
        }
        if let Some(bucket) = &mut self.operations {
            bucket.take(live.operations, backlog.operations);
            account.left.operations = bucket.left();
        }
        account.names_max = self.names_max();
    }

    fn names_max(&self) -> usize {
        let names = |per_s: u64| (per_s / STEPS_PER_S).max(NAMES_MIN);
        let names = self.limits.operations_per_s.map(names);
        names.map_or(usize::MAX, |names| {
            usize::try_from(names).unwrap_or(usize::MAX)
        })
    }

    /// When the backlog may go on; `None` if it may now. An idle source wakes up for it once at most.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        let buckets = [&self.bytes, &self.operations];
        buckets
            .into_iter()
            .flatten()
            .filter_map(Bucket::ready_ms)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::*;

    fn limited(bytes_per_s: u64) -> Throttle {
        let limits = RateLimits {
            bytes_per_s: Some(bytes_per_s),
            operations_per_s: None,
        };
        Throttle::new(0, limits)
    }

    /// Bytes that the backlog uses in these milliseconds, each time as many as `piece`, while the live lane
    /// uses `live` in each of them.
    fn used(throttle: &mut Throttle, ms: Range<u64>, piece: u64, live: u64) -> u64 {
        let mut account = Account::default();
        let mut used = 0;
        for ms in ms {
            throttle.fill(ms);
            account.charge(Lane::Live, Cost::bytes(live));
            throttle.settle(&mut account);
            while account.is_free() {
                account.charge(Lane::Backlog, Cost::bytes(piece));
                used += piece;
            }
            throttle.settle(&mut account);
        }
        used
    }

    fn within(used: u64, expected: u64) {
        let range = expected * 95 / 100..=expected * 105 / 100;
        assert!(range.contains(&used), "{used}, not {expected}");
    }

    #[test]
    fn without_limits_everything_is_free() {
        let mut throttle = Throttle::new(0, RateLimits::default());
        let mut account = Account::default();
        account.charge(Lane::Backlog, Cost::bytes(u64::MAX >> 1));
        throttle.settle(&mut account);
        assert!(account.is_free());
        assert_eq!(throttle.deadline(), None);
        assert_eq!(account.names_max(Lane::Backlog), usize::MAX);
    }

    #[test]
    fn the_backlog_keeps_the_rate_whatever_the_pieces() {
        for piece in [1, 64, 4_000, 256 * 1024] {
            within(
                used(&mut limited(1_000_000), 0..60_000, piece, 0),
                60 * 1_000_000,
            );
        }
    }

    #[test]
    fn little_is_saved_up_while_nothing_happens() {
        let mut throttle = limited(1_000_000);
        let mut account = Account::default();
        throttle.fill(24 * 3_600_000);
        throttle.settle(&mut account);
        assert_eq!(account.left.bytes, 100_000);
    }

    #[test]
    fn the_live_lane_leaves_the_rest_of_the_limit_and_never_less_than_a_tenth() {
        for (live, left) in [(600, 400_000), (5_000, 100_000)] {
            let mut throttle = limited(1_000_000);
            // It begins with what it may take in advance.
            used(&mut throttle, 0..10_000, 1_000, live);
            within(used(&mut throttle, 10_000..70_000, 1_000, live), 60 * left);
        }
    }

    #[test]
    fn a_burst_of_the_live_lane_is_worked_off_within_a_second() {
        let mut throttle = limited(1_000_000);
        let mut account = Account::default();
        account.charge(Lane::Live, Cost::bytes(1 << 40));
        throttle.settle(&mut account);
        assert!(!account.is_free());
        let ready_ms = throttle.deadline().expect("a debt");
        assert!(ready_ms <= 1_000, "{ready_ms}");
    }

    #[test]
    fn the_deadline_is_when_it_is_free_again_and_not_before() {
        let mut throttle = limited(1_000);
        let mut account = Account::default();
        account.charge(Lane::Backlog, Cost::bytes(350));
        throttle.settle(&mut account);
        // 100 bytes were there; 250 are missing.
        assert_eq!(throttle.deadline(), Some(251));
        for (ms, is_free) in [(250, false), (251, true)] {
            throttle.fill(ms);
            throttle.settle(&mut account);
            assert_eq!(account.is_free(), is_free);
        }
        assert_eq!(throttle.deadline(), None);
    }

    #[test]
    fn both_limits_hold() {
        let limits = RateLimits {
            bytes_per_s: Some(1_000_000),
            operations_per_s: Some(80),
        };
        let mut throttle = Throttle::new(0, limits);
        let mut account = Account::default();
        throttle.settle(&mut account);
        account.charge(Lane::Backlog, Cost::operations(8));
        assert!(!account.is_free());
        throttle.settle(&mut account);
        assert!(throttle.deadline().is_some());
        assert_eq!(account.names_max(Lane::Backlog), 10);
        assert_eq!(account.names_max(Lane::Live), usize::MAX);
    }

    #[test]
    fn what_was_set_aside_comes_back() {
        let mut throttle = limited(1_000);
        let mut account = Account::default();
        let most = Cost::bytes(400_000);
        account.hold(Lane::Backlog, most);
        throttle.settle(&mut account);
        assert!(!account.is_free());
        account.release(Lane::Backlog, most);
        account.charge(Lane::Backlog, Cost::bytes(40));
        throttle.settle(&mut account);
        assert_eq!(account.left.bytes, 60);
        account.hold(Lane::Live, most);
        assert!(account.is_free(), "live sets nothing aside");
    }

    #[test]
    fn the_largest_limits_do_not_overflow() {
        let limits = RateLimits {
            bytes_per_s: Some(*RateLimits::BYTES_PER_S.end()),
            operations_per_s: Some(*RateLimits::OPERATIONS_PER_S.end()),
        };
        let mut throttle = Throttle::new(0, limits);
        let mut account = Account::default();
        account.charge(Lane::Live, Cost::bytes(u64::MAX >> 1));
        account.charge(Lane::Backlog, Cost::bytes(u64::MAX >> 1));
        throttle.settle(&mut account);
        throttle.fill(u64::MAX);
        throttle.settle(&mut account);
        let _ = throttle.deadline();
    }
}
