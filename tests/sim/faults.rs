//! The catalogue of faults: what may go wrong in one run.

use osync::engine::replica::{Limits, Rule};
use osync::report::RateLimits;
use osync::tree::{Filter, FixedOwner, LimitKind, TargetLimits, TimeRange};

use crate::rng::Rng;

/// Rules of the runs that have some. Patterns that do not look at the kind come most often, as only what
/// they exclude can be planted.
const FILTERS: [&str; 10] = [
    "- b",
    "- /b",
    "- a/b",
    "- /a/a\n- c",
    "+ /a/b\n- b",
    "+ a\n- /*/b",
    "- b/**",
    "- b/",
    "+ */\n- b",
    "- a/*/\n- /c",
];

/// A filter from its rules.
pub fn filter(rules: &str) -> Filter {
    let rules = osync::tree::Rule::parse_lines(rules.as_bytes()).expect("rules");
    Filter::new(rules).expect("few rules")
}

/// How often each fault strikes, once in so many steps; 0 is never. Small worlds meet each other most.
#[derive(Debug, Clone)]
pub struct Faults {
    pub user_acts: usize,
    pub names: usize,
    pub connection_cut: usize,
    pub sink_crash: usize,
    pub sink_power_cut: usize,
    /// The sink is told to end in order.
    pub sink_stop: usize,
    pub source_crash: usize,
    /// The source is told to end in order.
    pub source_stop: usize,
    /// The root seems to be lost: the source halts until an operator has it go on.
    pub root_lost: usize,
    /// An operator pauses the source, or has it go on.
    pub pause: usize,
    /// An operator limits what the backlog may use, or lifts that.
    pub limit: usize,
    pub sink_full: usize,
    pub unreadable: usize,
    /// The wall clock of the source's or the sink's host is set, by up to days.
    pub clock_set: usize,
    /// Nothing passes over the link for a while, though connections stay.
    pub link_stall: usize,
    /// A process is frozen for a while.
    pub freeze: usize,
    /// A system call of a reader fails.
    pub read_error: usize,
    /// A system call of an applier fails.
    pub write_error: usize,
    /// A sync fails, and content that was not durable is lost.
    pub sync_error: usize,
    /// The target is read-only, over quota or out of inodes for a while.
    pub target_closed: usize,
    pub flush: usize,
    pub events_max: usize,
    pub watches_max: usize,
    pub queue_entries_max: usize,
    pub in_flight_entries_max: usize,
    pub page_names: usize,
    pub look_names: usize,
    pub look_bytes_max: u64,
    pub links_max: usize,
    /// What the source remembers besides.
    pub remembered: Limits,
    pub stages_max: usize,
    pub listing_cache_bytes: usize,
    pub window_messages: u64,
    pub data_connections: usize,
    /// Messages overtake each other on the same connection.
    pub compressing: bool,
    pub sinks_away_at_start: bool,
    pub users_between_steps: bool,
    /// Users act mostly when everything has come to rest. Only then does the sink hold what a rename
    /// names.
    pub calm: bool,
    /// How often somebody puts something excluded into the target.
    pub planted: usize,
    pub filter: Filter,
    /// The target holds neither owners nor ACLs nor parts of a second.
    pub poor_target: bool,
    /// The target takes no name for a further one of a file.
    pub names_apart: bool,
    /// Milliseconds from one audit to the next; 0 for none.
    pub audit_ms: u64,
    /// What the backlog may use when the source starts.
    pub rate_limits: RateLimits,
    /// The target holds some files in another form at the start.
    pub older_target: bool,
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
            sink_stop: 0,
            source_stop: 0,
            root_lost: 0,
            pause: 0,
            limit: 0,
            sink_power_cut: 0,
            source_crash: 0,
            sink_full: 0,
            unreadable: 0,
            clock_set: 0,
            link_stall: 0,
            freeze: 0,
            read_error: 0,
            write_error: 0,
            sync_error: 0,
            target_closed: 0,
            flush: 40,
            events_max: 10_000,
            watches_max: usize::MAX,
            queue_entries_max: 1000,
            in_flight_entries_max: 1000,
            page_names: 512,
            look_names: 128,
            look_bytes_max: 192 * 1024,
            links_max: 1000,
            remembered: Limits::default(),
            stages_max: 64,
            listing_cache_bytes: 1 << 20,
            window_messages: 64,
            data_connections: 1,
            compressing: false,
            sinks_away_at_start: false,
            users_between_steps: true,
            calm: false,
            planted: 0,
            filter: Filter::default(),
            poor_target: false,
            names_apart: false,
            audit_ms: 0,
            rate_limits: RateLimits::default(),
            older_target: false,
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
        faults.clock_set = some(200);
        faults.link_stall = some(200);
        faults.freeze = some(200);
        faults.read_error = some(100);
        faults.write_error = some(100);
        faults.sync_error = some(100);
        faults.target_closed = some(200);
        faults.sink_stop = some(200);
        faults.pause = some(100);
        faults.source_stop = some(200);
        faults.root_lost = some(200);
        faults.limit = some(100);
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
        if rng.once_in(3) {
            faults.links_max = 2 + rng.below(4);
        }
        faults.window_messages = 12 + rng.below(40) as u64;
        faults.data_connections = 1 + rng.below(3);
        faults.sinks_away_at_start = rng.once_in(4);
        if rng.once_in(3) {
            faults.filter = filter(FILTERS[rng.below(FILTERS.len())]);
            faults.planted = 2 + rng.below(8);
        }
        if rng.once_in(3) {
            faults.calm = true;
            faults.users_between_steps = rng.once_in(4);
        }
        faults.poor_target = rng.once_in(4);
        faults.names_apart = rng.once_in(8);
        if faults.names_apart {
            // What happens by one name is told to the names that memory holds; walks alone see the others.
            faults.links_max = 1000;
        }
        if rng.once_in(4) {
            faults.audit_ms = 1 + rng.below(3000) as u64;
        }
        faults.compressing = rng.once_in(3);
        faults.older_target = faults.filter.is_empty() && Rng::new(seed ^ 0x01de).once_in(2);
        faults.remember_little(Rng::new(seed ^ 0x1177));
        if rng.once_in(2) {
            faults.look_names = 1 + rng.below(3);
            faults.look_bytes_max = 8 + rng.below(16) as u64;
        }
        faults
    }

    /// Sets limits of what is remembered as small as they can be, in some runs.
    fn remember_little(&mut self, mut rng: Rng) {
        if !rng.once_in(4) {
            return;
        }
        let mut few = |most: usize| 1 + rng.below(most);
        self.remembered = Limits {
            rescans_max: few(3),
            walk_dirs_max: few(3),
            renames_max: few(2),
            hot_files_max: few(2),
            never_settling_max: few(2),
            unwatched_max: few(2),
            streams_max: few(2),
            path_bytes_max: 10 * few(5),
            ..Limits::default()
        };
        // As many as the source sends in both lanes, at least, as settings allow.
        self.stages_max = 2 * self.remembered.streams_max + few(4) - 1;
        self.listing_cache_bytes = few(200);
    }

    /// What the target cannot hold.
    pub fn limits_of_target(&self) -> TargetLimits {
        let mut limits = match self.poor_target {
            true => poor_target(),
            false => TargetLimits::default(),
        };
        if self.names_apart {
            limits.lacks.push(LimitKind::HardLinks);
        }
        limits
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
