//! The reports: one vocabulary for the command line, JSON, logs and the wire.
//!
//! Ages and times to come are in milliseconds, sizes in bytes, rates per second. What is not known is
//! `None`, never a guess.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::tree::{LimitKind, RelPath};

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// No session yet, or again none.
    Initialisation,
    /// Changes flow.
    Transfer,
    /// The session or the service is being ended.
    Termination,
}

/// One screen: the source and each sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// The replicated directory, escaped for display.
    pub root: String,
    /// True while paused by the operator.
    pub paused: bool,
    /// What the backlog may use in a second.
    #[serde(default)]
    pub rate_limits: RateLimits,
    /// Why nothing may be sent or deleted until the operator agrees; `None` if nothing is halted.
    pub halted: Option<String>,
    /// Where the service as a whole stands.
    pub phase: Phase,
    /// Milliseconds since the source started.
    pub uptime_ms: u64,
    /// Fill of the kernel's event queue.
    pub events: EventQueue,
    /// What this source cannot read, so that nobody knows whether it is there.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// The slow walk that finds what no event reports.
    #[serde(default)]
    pub audit: AuditStatus,
    /// What is mounted below the root and not replicated.
    #[serde(default)]
    pub mounts_not_entered: MountsNotEntered,
    /// Each sink that the source knows.
    pub sinks: Vec<SinkStatus>,
}

/// What the backlog may use in a second; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RateLimits {
    /// Bytes of names, metadata and content that are sent, within [`RateLimits::BYTES_PER_S`].
    #[serde(default)]
    pub bytes_per_s: Option<u64>,
    /// Names looked at or listed and pieces of large files that are read, within
    /// [`RateLimits::OPERATIONS_PER_S`].
    #[serde(default)]
    pub operations_per_s: Option<u64>,
}

impl RateLimits {
    /// 16 KiB to 1 TiB.
    pub const BYTES_PER_S: RangeInclusive<u64> = 16 * 1024..=1 << 40;
    /// One to ten millions.
    pub const OPERATIONS_PER_S: RangeInclusive<u64> = 1..=10_000_000;

    /// True if each limit is within its range.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let within = |rate: Option<u64>, range: RangeInclusive<u64>| {
            rate.is_none_or(|rate| range.contains(&rate))
        };
        within(self.bytes_per_s, Self::BYTES_PER_S)
            && within(self.operations_per_s, Self::OPERATIONS_PER_S)
    }
}

/// The slow walk that finds what no event reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AuditStatus {
    /// Milliseconds from the beginning of one audit to that of the next; 0 if there is none.
    pub interval_ms: u64,
    /// True while one is under way.
    pub is_running: bool,
    /// Audits that went through the whole tree since the start.
    pub completed: u64,
    /// Entries found to differ on a sink although nobody had told, since the start; they are repaired.
    pub found: u64,
}

impl Status {
    /// Where it stands in one line, for a service manager.
    #[must_use]
    pub fn line(&self) -> String {
        if let Some(why) = &self.halted {
            return format!("halted: {why}");
        }
        let flowing = self.sinks.iter().filter(|s| s.phase == Phase::Transfer);
        let state = match (self.paused, self.phase, self.sinks.len()) {
            (true, ..) => "paused".to_owned(),
            (_, Phase::Termination, _) => "termination".to_owned(),
            (.., 0) => return "initialisation: no sink has registered".to_owned(),
            (.., all) => format!("transfer to {} of {all} sinks", flowing.count()),
        };
        let lag = match self.sinks.iter().filter_map(|sink| sink.lag_ms).max() {
            Some(lag_ms) => format!("lag {}.{} s", lag_ms / 1000, lag_ms % 1000 / 100),
            None => "no lag".to_owned(),
        };
        let sum = |count: fn(&SinkStatus) -> u64| self.sinks.iter().map(count).sum::<u64>();
        format!(
            "{state}, {lag}, {} entries pending, {} problems",
            sum(|sink| sink.pending_entries),
            sum(|sink| sink.problems)
        )
    }
}

/// Places below the root at which something is mounted that is not entered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MountsNotEntered {
    /// The first of them, escaped for display.
    pub paths: Vec<String>,
    /// How many there are in all.
    pub total: u64,
}

/// One sink in a [`Status`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// The sink's id.
    pub sink: String,
    /// Its phase; [`Phase::Initialisation`] while it is away.
    pub phase: Phase,
    /// True if the sink equals the source as far as the source can know: a whole walk has ended and
    /// nothing waits, is under way, is a problem, or was left out because of a limit.
    pub converged: bool,
    /// True if the sink holds all that its target can hold: converged, or short of that only by what
    /// `limits` counts.
    #[serde(default)]
    pub settled: bool,
    /// What the target cannot hold.
    #[serde(default)]
    pub limits: Vec<Limit>,
    /// Age of the oldest change not yet durable on this sink; `None` if there is none.
    pub lag_ms: Option<u64>,
    /// Entries waiting or in flight.
    pub pending_entries: u64,
    /// Paths that cannot be replicated now.
    pub problems: u64,
    /// Removals that the brake holds back.
    pub halted: u64,
    /// Files and bytes per second over the last 10 s.
    pub rate: Rate,
    /// Estimated milliseconds until the backlog is done; `None` if unknown.
    pub eta_ms: Option<u64>,
    /// True if the sink said lately that its target takes no more content.
    pub full: bool,
    /// What its target lacks then.
    #[serde(default)]
    pub shortage: Option<Shortage>,
}

/// What a target lacks that takes no more content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shortage {
    /// Space.
    Space,
    /// Inodes, while there may be space.
    Inodes,
    /// Quota of an owner or of a project.
    Quota,
    /// The right to write: it has become read-only.
    ReadOnly,
}

impl Shortage {
    /// For people.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Space => "no space left",
            Self::Inodes => "no inodes left",
            Self::Quota => "over quota",
            Self::ReadOnly => "read-only",
        }
    }
}

/// Something that cannot be preserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// What.
    pub kind: LimitKind,
    /// What it means for what is replicated, for people.
    pub consequence: String,
    /// Entries of the source that are concerned: those that the last whole walk met, and those sent
    /// since; one sent twice counts twice. `None` if it does not show in the entries.
    pub entries: Option<u64>,
}

impl Limit {
    /// "owners of 12 entries"; empty if no entry is known to be concerned.
    #[must_use]
    pub fn loss(&self) -> Option<String> {
        let entries = self.entries.filter(|&entries| entries > 0)?;
        Some(format!("{} of {entries} entries", self.kind.word()))
    }
}

/// The kernel's event queue and its thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EventQueue {
    /// Bytes waiting in the kernel when last asked.
    pub bytes: u64,
    /// Estimated share of the kernel's limit, 0.0 to 1.0.
    pub fill: f64,
    /// Share at which a warning is given.
    pub warning: f64,
    /// Share at which the critical action is taken.
    pub critical: f64,
    /// How often the kernel has lost events.
    pub overflows: u64,
    /// Directories whose changes are reported.
    pub watched_dirs: u64,
    /// Directories that could not be watched and are walked again instead.
    pub unwatched_dirs: u64,
}

/// What waits, for each sink and lane.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueReport {
    /// The event queue.
    pub events: EventQueue,
    /// Each sink.
    pub sinks: Vec<SinkQueue>,
}

/// One sink in a [`QueueReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkQueue {
    /// The sink's id.
    pub sink: String,
    /// Changes that the file system reported.
    pub live: LaneQueue,
    /// What walks and operators found.
    pub backlog: LaneQueue,
    /// Age of the oldest change not yet durable.
    pub lag_ms: Option<u64>,
    /// Directories that walks have compared.
    pub dirs_done: u64,
    /// Directories known to wait for a walk; a lower bound while a walk still finds more.
    pub dirs_pending: u64,
    /// Rescans owed and not begun.
    pub rescans_owed: u64,
    /// Files changed most often lately.
    pub hottest: Vec<HotFile>,
    /// Files that changed at every look and were sent while open.
    pub never_settling: Vec<HotFile>,
}

/// One lane of one sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LaneQueue {
    /// Entries that wait to be looked at.
    pub waiting_entries: u64,
    /// Entries sent and not yet durable.
    pub in_flight_entries: u64,
    /// Bytes sent and not yet durable, and bytes still to read of files being streamed. The sizes of
    /// waiting entries are not known before the look.
    pub in_flight_bytes: u64,
    /// Age of the oldest entry that waits or is under way.
    pub oldest_ms: Option<u64>,
}

/// A file that changes often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotFile {
    /// Its path.
    pub path: RelPath,
    /// How often it was sent since it became hot.
    pub sent: u64,
}

/// What was sent, for each sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferReport {
    /// Each sink.
    pub sinks: Vec<SinkTransfer>,
}

/// One sink in a [`TransferReport`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SinkTransfer {
    /// The sink's id.
    pub sink: String,
    /// Entries sent since the source started.
    pub sent_entries: u64,
    /// Bytes sent, headers included.
    pub sent_bytes: u64,
    /// Entries applied.
    pub applied_entries: u64,
    /// Bytes applied.
    pub applied_bytes: u64,
    /// Rates over the last 10 s.
    pub rate_10s: Rate,
    /// Rates over the last 5 min.
    pub rate_5min: Rate,
    /// Looks repeated because the entry changed, failed or was refused.
    pub retries: u64,
    /// Files sent although a writer had them open.
    pub read_while_open: u64,
    /// Directories that the sink could not remove, because excluded entries lie in them; counted each
    /// time that it was told to.
    #[serde(default)]
    pub kept_dirs: u64,
    /// Messages in flight.
    pub in_flight_messages: u64,
    /// Large files being streamed now.
    pub streams: Vec<RelPath>,
    /// The session, in hexadecimal; `None` while the sink is away.
    pub epoch: Option<String>,
    /// Last number sent in this session.
    pub sent_mark: u64,
    /// Last applied mark.
    pub applied_mark: u64,
    /// Last durable mark.
    pub durable_mark: u64,
    /// Sessions since the source started.
    pub sessions: u64,
}

/// Entries and bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rate {
    /// Entries per second.
    pub entries: f64,
    /// Bytes per second.
    pub bytes: f64,
}

/// Paths that cannot be replicated now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProblemsReport {
    /// Each problem, at most as many as one message holds.
    pub problems: Vec<Problem>,
    /// How many there are in all.
    pub total: u64,
}

/// One path (a directory: with all below) that cannot be replicated now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The sink it concerns.
    pub sink: String,
    /// The path.
    pub path: RelPath,
    /// On which side it failed: `source` or `sink`.
    pub side: String,
    /// What was tried.
    pub operation: String,
    /// Error number of Linux; 0 if the cause is none of the kernel's.
    pub errno: i32,
    /// For people.
    pub reason: String,
    /// Milliseconds since it first failed.
    pub since_ms: u64,
    /// How often it was tried.
    pub tries: u32,
}
