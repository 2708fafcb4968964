//! The catalogue of faults: what may go wrong in one run.

use osync::engine::replica::Rule;
use osync::tree::{FixedOwner, LimitKind, TargetLimits, TimeRange};

use crate::rng::Rng;

/// How often each fault strikes, once in so many steps; 0 is never. Small worlds meet each other most.
#[derive(Debug, Clone)]
pub struct Faults {
    pub user_acts: usize,
    pub names: usize,
    pub connection_cut: usize,
    pub sink_crash: usize,
    pub sink_power_cut: usize,
    pub source_crash: usize,
    pub sink_full: usize,
    pub unreadable: usize,
    pub flush: usize,
    pub events_max: usize,
    pub watches_max: usize,
    pub queue_entries_max: usize,
    pub in_flight_entries_max: usize,
    pub page_names: usize,
    pub window_messages: u64,
    pub data_connections: usize,
    pub sinks_away_at_start: bool,
    pub users_between_steps: bool,
    /// The target holds neither owners nor ACLs nor parts of a second.
    pub poor_target: bool,
    pub without: Option<Rule>,
}

impl Faults {
    /// Nothing goes wrong; a user does up to `user_acts` things.
    pub fn none(user_acts: usize) -> Self {
        Self {
            user_acts,
            names: 3,
            connection_cut: 0,
            sink_crash: 0,
            sink_power_cut: 0,
            source_crash: 0,
            sink_full: 0,
            unreadable: 0,
            flush: 40,
            events_max: 10_000,
            watches_max: usize::MAX,
            queue_entries_max: 1000,
            in_flight_entries_max: 1000,
            page_names: 512,
            window_messages: 64,
            data_connections: 1,
            sinks_away_at_start: false,
            users_between_steps: true,
            poor_target: false,
            without: None,
        }
    }

    /// Where the loss of a rule shows soonest: faults of other kinds only hide it, since they owe walks
    /// that heal everything.
    pub fn without(rule: Rule, seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x0ff);
        let mut faults = match rule {
            Rule::PutBack | Rule::RefusedWaits => Self::of_seed(seed),
            _ => Self::none(4 + rng.below(30)),
        };
        faults.names = 2 + rng.below(2);
        if rule == Rule::Suspicion {
            faults.events_max = 2 + rng.below(4);
        }
        faults.without = Some(rule);
        faults
    }

    /// A random subset, so that every pair of faults meets in some run.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0xfa17);
        let acts = 4 + rng.below(24);
        let mut faults = Self::none(acts);
        faults.names = 2 + rng.below(3);
        let mut some = |often: usize| {
            if rng.once_in(3) {
                20 + rng.below(often)
            } else {
                0
            }
        };
        faults.connection_cut = some(150);
        faults.sink_crash = some(300);
        faults.sink_power_cut = some(300);
        faults.source_crash = some(300);
        faults.sink_full = some(200);
        faults.unreadable = some(200);
        if rng.once_in(4) {
            faults.events_max = 2 + rng.below(8);
        }
        if rng.once_in(6) {
            faults.watches_max = 1 + rng.below(3);
        }
        if rng.once_in(4) {
            faults.queue_entries_max = 2 + rng.below(6);
        }
        if rng.once_in(2) {
            faults.page_names = 1 + rng.below(3);
        }
        faults.window_messages = 12 + rng.below(40) as u64;
        faults.data_connections = 1 + rng.below(3);
        faults.sinks_away_at_start = rng.once_in(4);
        faults.poor_target = rng.once_in(4);
        faults
    }
}

/// A sink that is not root, on a file system with whole seconds and without ACLs.
pub fn poor_target() -> TargetLimits {
    TargetLimits {
        owner: Some(FixedOwner {
            uid: 1000,
            groups: vec![1000],
        }),
        time: TimeRange {
            step_nanos: 1_000_000_000,
            first_secs: -(1 << 31),
            last_secs: (1 << 31) - 1,
        },
        lacks: vec![LimitKind::Acls, LimitKind::TrustedXattrs],
        ..TargetLimits::default()
    }
}
