//! Settings: every default and limit in one place, each with its unit and with what happens when the
//! limit is reached.
//!
//! A setting comes from the command line, else from the environment, else from the configuration file
//! (TOML, `--config FILE`, keys named like the fields here), else from its default. [`load`] puts
//! these together.

mod address;
mod bounds;
mod layers;
mod rate;
mod state_dir;

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use self::address::{Address, InvalidAddress};
pub use self::layers::{Given, load};
pub use self::rate::{parse_bandwidth, parse_iops};
pub use self::state_dir::default_state_dir;

use self::bounds::{bytes_within, compression, interval, rules, share, within};
use self::rate::{bandwidth, iops};
use crate::engine::queue::HoldOff;
use crate::engine::replica::Limits;
use crate::error::Error;
use crate::fs::windows::KEPT_BYTES_MAX;
use crate::report::RateLimits;
use crate::sink::applier::STAGES_MAX;
use crate::tree::Filter;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;

/// Most messages that a sink lets a source send ahead.
pub const WINDOW_MESSAGES_MAX: u64 = 1024;

/// Which backend reports changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum WatchBackend {
    /// The kernel's inotify.
    Inotify,
    /// The `notify` crate: portable, dearer, and unable to follow a moved directory.
    Notify,
}

/// What happens when the kernel's event queue reaches [`Settings::events_critical`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum OnCritical {
    /// Keep going, and compare what may have been lost again.
    Rescan,
    /// Terminate in order.
    Terminate,
}

/// How owners of entries are matched between hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Owners {
    /// By number.
    Numeric,
    /// By name where both hosts know it, else by number.
    Names,
}

/// Whether content is compressed on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Where that makes a link faster.
    Auto,
    /// Never.
    Off,
    /// Always, on this level of zstd.
    Level(u8),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The least important kind of line that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Somebody must act.
    Error,
    /// Degraded, and handled.
    Warn,
    /// Changes of state: a few lines on a quiet day.
    Info,
    /// Each change.
    Debug,
    /// Each packet.
    Trace,
}

/// Every setting, validated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The source's command channel. Default `tcp://127.0.0.1:7440`; port 0 takes a free one.
    pub command: Address,
    /// The source's data channel. Default `tcp://127.0.0.1:7441`; port 0 takes a free one.
    pub data: Address,
    /// Allows the source to listen on addresses that other hosts reach, unencrypted and without
    /// authentication. Default false: such an address is refused.
    pub insecure_bind: bool,
    /// Where small durable state lies. Default: see [`default_state_dir`].
    pub state_dir: Option<PathBuf>,

    /// Which entries take part: rules `+ PATTERN` and `- PATTERN` as in rsync, of which the first that
    /// matches decides. Default none: everything. At most 1024 rules of 64 KiB together; beyond, it is
    /// refused. Rules on the command line stand in their place.
    #[serde(deserialize_with = "rules")]
    pub filter: Filter,
    /// Enters what is mounted below the source's root when it starts: at most 1024 mounts, with more it
    /// does not start. Default false: the root's own file system alone. Needs root's rights.
    pub cross_mounts: bool,
    /// Which backend reports changes. Default `inotify`.
    pub watch: WatchBackend,
    /// Share of the kernel's event queue at which the operator is warned, once per crossing.
    /// Default 0.5; above 0 and below [`Settings::events_critical`].
    pub events_warning: f64,
    /// Share of the kernel's event queue at which [`Settings::on_critical`] happens. Default 0.9;
    /// at most 1.
    pub events_critical: f64,
    /// What happens at [`Settings::events_critical`]. Default `rescan`.
    pub on_critical: OnCritical,

    /// Paths that wait, in each lane of a sink. Default 65 536, limits 1024 to 16 777 216. Beyond, those of
    /// the fullest directories collapse into rescans, until three quarters are left.
    #[serde(deserialize_with = "within::<_, _, 1024, 16_777_216>")]
    pub queue_entries_max: usize,
    /// Bytes of paths in one list of a sink: those waiting (in each lane), those in flight, those of
    /// problems. Default 16 MiB, limits 1 MiB to 16 GiB. Beyond, the same happens as beyond the number
    /// of entries in that list.
    #[serde(deserialize_with = "bytes_within::<_, MIB, { 16 * GIB }>")]
    pub path_bytes_max: u64,
    /// Entries sent to one sink and not yet durable there. Default 131 072, limits 1024 to
    /// 16 777 216. Beyond, nothing more is sent to that sink until it has synced; the backlog stops at three
    /// quarters.
    #[serde(deserialize_with = "within::<_, _, 1024, 16_777_216>")]
    pub in_flight_entries_max: usize,
    /// Problems remembered one by one for each sink. Default 10 000, limits 16 to 1 000 000. Beyond,
    /// they are counted, and a whole walk finds them again once there is room.
    #[serde(deserialize_with = "within::<_, _, 16, 1_000_000>")]
    pub problems_max: usize,
    /// Names of hard-linked files remembered for each sink. Default 32 768, limits 1024 to 16 777 216.
    /// Beyond, names wait in a file of the state directory until they have been sorted.
    #[serde(deserialize_with = "within::<_, _, 1024, 16_777_216>")]
    pub links_max: usize,
    /// Rescans owed to one sink, in each lane. Default 4096, limits 1 to 1 000 000. Beyond, they become
    /// one of the whole tree.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub rescans_max: usize,
    /// Directories that a walk has found and not visited yet, in each lane of a sink. Default 65 536,
    /// limits 1 to 16 777 216. Beyond, pages of listings are cut short and listed again behind the cut.
    #[serde(deserialize_with = "within::<_, _, 1, 16_777_216>")]
    pub walk_dirs_max: usize,
    /// Renames that wait to be sent to one sink, and halves of renames that wait for their other half.
    /// Default 1024, limits 1 to 1 000 000. Beyond, a rename is told by its names: content is sent again.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub renames_max: usize,
    /// Files of which is remembered how often they were sent lately, for each lane of a sink. Default
    /// 4096, limits 1 to 1 000 000. Beyond, further ones are not held off.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub hot_files_max: usize,
    /// Files that a report names as never settling, for each sink. Default 256, limits 1 to 1 000 000.
    /// Beyond, further ones are sent all the same, and not named.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub never_settling_max: usize,
    /// Directories without a watch that are known by name. Default 4096, limits 1 to 1 000 000. Beyond,
    /// the whole tree is compared instead.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub unwatched_max: usize,
    /// Large files that are sent at once to one sink, in each lane. Default 16, limits 1 to 32. Beyond,
    /// they wait.
    #[serde(deserialize_with = "within::<_, _, 1, 32>")]
    pub streams_max: usize,
    /// Names in one page of a listing. Default 512, limits 1 to 512. A larger directory takes several.
    #[serde(deserialize_with = "within::<_, _, 1, 512>")]
    pub page_names_max: usize,
    /// Milliseconds for which a file that has just been sent is left alone when it changes again.
    /// Default 200, limits 1 to 60 000. Doubles with each change, up to
    /// [`Settings::hold_off_ms_max`].
    #[serde(deserialize_with = "within::<_, _, 1, 60_000>")]
    pub hold_off_ms_min: u64,
    /// Longest hold-off in milliseconds. Default 30 000, limits 1 to 3 600 000, not below
    /// [`Settings::hold_off_ms_min`]. A file that reaches it is named as never settling.
    #[serde(deserialize_with = "within::<_, _, 1, 3_600_000>")]
    pub hold_off_ms_max: u64,
    /// Share of the entries of a sink's tree whose removal halts deleting until the operator agrees.
    /// Default 0.5; above 0, at most 1 (never).
    #[serde(deserialize_with = "share")]
    pub brake_share: f64,
    /// The same for removals that only a walk has found. Default 0.1; above 0, at most 1.
    #[serde(deserialize_with = "share")]
    pub walk_brake_share: f64,
    /// Removals that never halt, however small the tree. Default 1000 entries; 0 leaves the share
    /// alone to decide.
    pub brake_floor_entries: u64,
    /// How often the whole tree is audited for changes that no event reports, such as `24h`; `0s` for
    /// never. Default 24 h, or 10 min where not every change is reported (NFS, CIFS, FUSE and the like).
    /// Limits 1 s to 365 days.
    #[serde(deserialize_with = "interval")]
    pub audit_interval: Option<Duration>,
    /// Entries that an audit compares in a second. Default 1000, limits 1 to 1 000 000. An audit takes
    /// so much longer in a larger tree, and the next follows it at once if its time has come.
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    pub audit_entries_per_s: u64,
    /// Bytes that the backlog sends in a second, such as `10MB/s`, until an operator says otherwise. Default
    /// `none`; limits 16 KiB to 1 TiB. Beyond, the backlog waits. The live lane never does, and leaves less to
    /// the backlog, but always a tenth.
    #[serde(deserialize_with = "bandwidth")]
    pub limit_bandwidth: Option<u64>,
    /// The same in operations: names looked at or listed, and pieces of large files. Default `none`; limits
    /// 1 to 10 000 000.
    #[serde(deserialize_with = "iops")]
    pub limit_iops: Option<u64>,
    /// Gives the threads that read the source or write to the target the lowest priority on the processor, and
    /// the idle class of input and output. Default false.
    pub nice: bool,
    /// Proves by a read lease that nobody is writing to a file just changed. Default true. Without
    /// it such a file waits until it is closed or quiet, and is counted as read while open.
    pub read_lease: bool,
    /// Threads that read the source. Default 1, or 2 from four cores on; limits 1 to 64. Beyond,
    /// looks wait.
    #[serde(deserialize_with = "within::<_, _, 1, 64>")]
    pub readers: usize,

    /// Whether content is compressed on its way: `auto`, `off`, or a level from 1 to 19. Default `auto`: where a
    /// connection has kept others waiting in the last seconds, on a level that keeps it busy.
    #[serde(deserialize_with = "compression")]
    pub compression: Compression,

    /// Bytes of names of huge directories that are kept for later pages, on this side. Default 16 MiB,
    /// limits 64 KiB to 1 GiB. Beyond, such a directory is read again.
    #[serde(deserialize_with = "bytes_within::<_, { 64 * KIB }, GIB>")]
    pub listing_cache_bytes: u64,

    /// Large files that a sink stages at once. Default 64, which is as many as any source sends at once;
    /// limits 64 to 1024, since a sink with fewer would refuse again and again what it is sent. Beyond, a file
    /// is a problem and tried again.
    #[serde(deserialize_with = "within::<_, _, { STAGES_MAX as u64 }, 1024>")]
    pub stages_max: usize,
    /// How a sink wants owners, also those in ACLs, to be matched. Default `numeric`.
    pub owners: Owners,
    /// Allows a target that takes names for one that differ only in case or in their Unicode form.
    /// Default false: it is refused.
    pub allow_folding: bool,
    /// Data connections of a sink. Default 1, limits 1 to 16. Several help over links with a long
    /// round trip.
    #[serde(deserialize_with = "within::<_, _, 1, 16>")]
    pub data_connections: usize,
    /// Bytes that a sink lets the source send ahead when a session begins, as a number or with a unit.
    /// Default 8 MiB, limits 1 MiB to 1 GiB. Beyond, the source waits for credit.
    #[serde(deserialize_with = "bytes_within::<_, MIB, GIB>")]
    pub window_bytes: u64,
    /// As far as that grows where a link carries more in a round trip. Default 64 MiB, limits 1 MiB to
    /// 1 GiB; below [`Settings::window_bytes`] it means that nothing grows.
    #[serde(deserialize_with = "bytes_within::<_, MIB, GIB>")]
    pub window_bytes_max: u64,
    /// Messages that a sink lets the source send ahead when a session begins; up to 1024 where a link
    /// carries more in a round trip. Default 512, limits 16 to 1024. Beyond, the source waits for credit.
    #[serde(deserialize_with = "within::<_, _, 16, WINDOW_MESSAGES_MAX>")]
    pub window_messages: u64,
    /// Threads that write to the target. Default one for each core, 2 to 8; limits 1 to 64.
    /// Beyond, messages wait within the window.
    #[serde(deserialize_with = "within::<_, _, 1, 64>")]
    pub appliers: usize,
    /// Milliseconds between two syncs of the target while something is not durable; at least twice as
    /// long as the last one took. Once nothing is left to be applied, a fifth of it, and at least ten
    /// times as long as the last one took, are enough. Default 50, limits 10 to 60 000.
    #[serde(deserialize_with = "within::<_, _, 10, 60_000>")]
    pub sync_interval_ms: u64,
    /// Milliseconds between two questions whether a peer is there. Default 5000, limits
    /// 100 to 300 000.
    #[serde(deserialize_with = "within::<_, _, 100, 300_000>")]
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which a peer counts as gone and its session ends. Default
    /// 15 000, limits 200 to 900 000, at least twice [`Settings::heartbeat_ms`].
    #[serde(deserialize_with = "within::<_, _, 200, 900_000>")]
    pub dead_after_ms: u64,

    /// How log lines look. Default `text`.
    pub log_format: LogFormat,
    /// The least important kind of line that is logged. Default `info`.
    pub log_level: LogLevel,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let remembered = Limits::default();
        Self {
            command: Address::loopback(7440),
            data: Address::loopback(7441),
            insecure_bind: false,
            state_dir: None,
            filter: Filter::default(),
            cross_mounts: false,
            watch: WatchBackend::Inotify,
            events_warning: 0.5,
            events_critical: 0.9,
            on_critical: OnCritical::Rescan,
            queue_entries_max: remembered.queue_entries_max,
            path_bytes_max: remembered.path_bytes_max as u64,
            in_flight_entries_max: remembered.in_flight_entries_max,
            problems_max: remembered.problems_max,
            links_max: remembered.links_max,
            rescans_max: remembered.rescans_max,
            walk_dirs_max: remembered.walk_dirs_max,
            renames_max: remembered.renames_max,
            hot_files_max: remembered.hot_files_max,
            never_settling_max: remembered.never_settling_max,
            unwatched_max: remembered.unwatched_max,
            streams_max: remembered.streams_max,
            page_names_max: remembered.page_names,
            hold_off_ms_min: 200,
            hold_off_ms_max: 30_000,
            brake_share: 0.5,
            walk_brake_share: 0.1,
            brake_floor_entries: 1000,
            audit_interval: None,
            audit_entries_per_s: 1000,
            limit_bandwidth: None,
            limit_iops: None,
            nice: false,
            read_lease: true,
            readers: if cores >= 4 { 2 } else { 1 },
            compression: Compression::Auto,
            listing_cache_bytes: KEPT_BYTES_MAX as u64,
            stages_max: STAGES_MAX,
            owners: Owners::Numeric,
            allow_folding: false,
            data_connections: 1,
            window_bytes: 8 * MIB,
            window_bytes_max: 64 * MIB,
            window_messages: 512,
            appliers: cores.clamp(2, 8),
            sync_interval_ms: 50,
            heartbeat_ms: 5000,
            dead_after_ms: 15_000,
            log_format: LogFormat::Text,
            log_level: LogLevel::Info,
        }
    }
}

impl Settings {
    /// Checks what concerns several settings together. Returns which key is wrong, and how.
    fn check(&self) -> Result<(), (&'static str, String)> {
        // Written so that NaN is refused too.
        if !(self.events_critical > 0.0 && self.events_critical <= 1.0) {
            return Err(("events_critical", "must be above 0 and at most 1".into()));
        }
        if !(self.events_warning > 0.0 && self.events_warning < self.events_critical) {
            let reason = format!(
                "must be above 0 and below events_critical ({})",
                self.events_critical
            );
            return Err(("events_warning", reason));
        }
        if self.hold_off_ms_max < self.hold_off_ms_min {
            let reason = format!(
                "must not be below hold_off_ms_min ({})",
                self.hold_off_ms_min
            );
            return Err(("hold_off_ms_max", reason));
        }
        if self.dead_after_ms < 2 * self.heartbeat_ms {
            let reason = format!(
                "must be at least twice heartbeat_ms ({})",
                self.heartbeat_ms
            );
            return Err(("dead_after_ms", reason));
        }
        Ok(())
    }

    /// How much a source may remember.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            queue_entries_max: self.queue_entries_max,
            path_bytes_max: size(self.path_bytes_max),
            in_flight_entries_max: self.in_flight_entries_max,
            problems_max: self.problems_max,
            links_max: self.links_max,
            rescans_max: self.rescans_max,
            walk_dirs_max: self.walk_dirs_max,
            renames_max: self.renames_max,
            hot_files_max: self.hot_files_max,
            never_settling_max: self.never_settling_max,
            unwatched_max: self.unwatched_max,
            streams_max: self.streams_max,
            page_names: self.page_names_max,
            hold_off: HoldOff {
                min_ms: self.hold_off_ms_min,
                max_ms: self.hold_off_ms_max,
            },
            ..Limits::default()
        }
    }

    /// What the backlog may use in a second.
    #[must_use]
    pub fn rate_limits(&self) -> RateLimits {
        RateLimits {
            bytes_per_s: self.limit_bandwidth,
            operations_per_s: self.limit_iops,
        }
    }

    /// Limits the backlog so, whatever was set.
    pub fn limit(&mut self, limits: RateLimits) {
        self.limit_bandwidth = limits.bytes_per_s;
        self.limit_iops = limits.operations_per_s;
    }

    /// What is kept of the names of huge directories, in bytes.
    #[must_use]
    pub fn listing_cache(&self) -> usize {
        size(self.listing_cache_bytes)
    }

    /// Refuses addresses that other hosts could reach, unless that was asked for.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the address.
    pub fn check_listening(&self) -> Result<(), Error> {
        for (place, address) in [("command", &self.command), ("data", &self.data)] {
            if !self.insecure_bind && !address.is_local() {
                return Err(Error::Setting {
                    place: place.into(),
                    reason: format!(
                        "{address} can be reached from other hosts, without encryption or \
                         authentication; forward a loopback port with ssh, or allow it with \
                         --insecure-bind"
                    ),
                });
            }
        }
        Ok(())
    }

    /// Refuses addresses that nobody can listen on.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the address.
    pub fn check_connecting(&self) -> Result<(), Error> {
        for (place, address) in [("command", &self.command), ("data", &self.data)] {
            if address.is_any_port() {
                return Err(Error::Setting {
                    place: place.into(),
                    reason: format!("{address} is no port; 'osync source' prints the one it has"),
                });
            }
        }
        Ok(())
    }

    /// What is unusual about the addresses, for a warning.
    pub fn warnings(&self) -> impl Iterator<Item = String> {
        [("command", &self.command), ("data", &self.data)]
            .into_iter()
            .filter_map(|(place, address)| Some(format!("{place}: {}", address.warning()?)))
    }

    /// The state directory: the one that is set, else the default for this process.
    ///
    /// # Errors
    /// [`Error::Setting`] if the environment names none.
    pub fn state_dir(&self) -> Result<PathBuf, Error> {
        if let Some(dir) = &self.state_dir {
            return Ok(dir.clone());
        }
        let is_root = rustix::process::geteuid().is_root();
        default_state_dir(is_root, |name| std::env::var_os(name)).ok_or_else(|| Error::Setting {
            place: "state_dir".into(),
            reason: "neither STATE_DIRECTORY, XDG_STATE_HOME nor HOME is set; give --state-dir"
                .into(),
        })
    }
}

/// A number of bytes in memory; more than there can be is as good as no limit.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
