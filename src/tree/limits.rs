//! What a target cannot hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Kind, Metadata, Name, Time};

/// Most groups that an unprivileged sink may name as its own.
pub const GROUPS_MAX: usize = 1024;

/// Coarsest time step that a target may have, in nanoseconds.
pub const TIME_STEP_NANOS_MAX: u64 = 60 * NANOS_PER_SEC;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// One thing that a target cannot hold. The order is that of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LimitKind {
    /// Owners other than the sink's own.
    Owners,
    /// Users or groups of the source that have one and the same number on the target.
    SharedOwners,
    /// Permission bits.
    Modes,
    /// Times finer or further away than the target's.
    Times,
    /// POSIX ACLs.
    Acls,
    /// Extended attributes in `user.`.
    UserXattrs,
    /// Extended attributes in `trusted.`.
    TrustedXattrs,
    /// Extended attributes in `security.`, capabilities among them.
    SecurityXattrs,
    /// Character and block devices.
    Devices,
    /// Symbolic links.
    Symlinks,
    /// Named pipes and sockets.
    Pipes,
    /// Names longer than the target allows.
    LongNames,
    /// Names that are not UTF-8.
    NonUtf8Names,
    /// Names that differ only in case or in their Unicode form.
    FoldedNames,
    /// Several names for one file.
    HardLinks,
    /// Holes in files.
    Holes,
}

impl LimitKind {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Owners,
        Self::SharedOwners,
        Self::Modes,
        Self::Times,
        Self::Acls,
        Self::UserXattrs,
        Self::TrustedXattrs,
        Self::SecurityXattrs,
        Self::Devices,
        Self::Symlinks,
        Self::Pipes,
        Self::LongNames,
        Self::NonUtf8Names,
        Self::FoldedNames,
        Self::HardLinks,
        Self::Holes,
    ];

    /// The word for it, as in reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Owners => "owners",
            Self::SharedOwners => "shared owners",
            Self::Modes => "modes",
            Self::Times => "times",
            Self::Acls => "ACLs",
            Self::UserXattrs => "user attributes",
            Self::TrustedXattrs => "trusted attributes",
            Self::SecurityXattrs => "capabilities",
            Self::Devices => "devices",
            Self::Symlinks => "symlinks",
            Self::Pipes => "pipes and sockets",
            Self::LongNames => "long names",
            Self::NonUtf8Names => "names not in UTF-8",
            Self::FoldedNames => "folded names",
            Self::HardLinks => "hard links",
            Self::Holes => "holes",
        }
    }

    /// True if it shows in an entry by itself, so that entries can be counted.
    #[must_use]
    pub fn is_countable(self) -> bool {
        !matches!(self, Self::FoldedNames | Self::Holes)
    }

    /// The beginning of the names of the extended attributes that it is about.
    #[must_use]
    pub fn xattr_prefix(self) -> Option<&'static [u8]> {
        Some(match self {
            Self::Acls => b"system.posix_acl_",
            Self::UserXattrs => b"user.",
            Self::TrustedXattrs => b"trusted.",
            Self::SecurityXattrs => b"security.",
            _ => return None,
        })
    }
}

/// A set of limits, such as those that one entry met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LimitSet(u16);

impl LimitSet {
    /// Puts one in.
    pub fn insert(&mut self, kind: LimitKind) {
        self.0 |= 1 << kind as u16;
    }

    /// Puts all of another set in.
    pub fn merge(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// True if it holds this one.
    #[must_use]
    pub fn contains(self, kind: LimitKind) -> bool {
        self.0 & 1 << kind as u16 != 0
    }

    /// True if it holds none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// How many entries met each limit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LimitCounts(BTreeMap<LimitKind, u64>);

impl LimitCounts {
    /// Counts an entry that met these.
    pub fn add(&mut self, met: LimitSet) {
        if met.is_empty() {
            return;
        }
        for kind in LimitKind::ALL
            .into_iter()
            .filter(|&kind| met.contains(kind))
        {
            *self.0.entry(kind).or_default() += 1;
        }
    }

    /// Adds other entries.
    pub fn merge(&mut self, other: &Self) {
        for (&kind, more) in &other.0 {
            *self.0.entry(kind).or_default() += more;
        }
    }

    /// How many met this one.
    #[must_use]
    pub fn get(&self, kind: LimitKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or_default()
    }
}

/// What a target cannot hold, found out by its sink. The default can hold everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TargetLimits {
    /// Whom everything belongs to, if that cannot be chosen.
    pub owner: Option<FixedOwner>,
    /// The permission bits that everything has, if they cannot be chosen.
    pub mode: Option<FixedMode>,
    /// Which times there are.
    pub time: TimeRange,
    /// Longest name in bytes, if below [`super::NAME_BYTES_MAX`].
    pub name_bytes_max: Option<u8>,
    /// What else it lacks, each once, in order; none of those that have a field of their own.
    pub lacks: Vec<LimitKind>,
}

/// The owner of everything on a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedOwner {
    /// The user.
    pub uid: u32,
    /// Groups that may be given; the first is the one that new entries get. At least one, at most
    /// [`GROUPS_MAX`].
    pub groups: Vec<u32>,
}

/// The permission bits of everything on a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedMode {
    /// Of files and everything else.
    pub file: u32,
    /// Of directories.
    pub dir: u32,
}

/// The times that a target can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TimeRange {
    /// Distance of two neighbouring times in nanoseconds, 1 to [`TIME_STEP_NANOS_MAX`]; a whole number
    /// of seconds above one second.
    pub step_nanos: u64,
    /// Earliest second.
    pub first_secs: i64,
    /// Last second.
    pub last_secs: i64,
}

impl Default for TimeRange {
    fn default() -> Self {
        Self {
            step_nanos: 1,
            first_secs: i64::MIN,
            last_secs: i64::MAX,
        }
    }
}

impl TimeRange {
    /// The time that the kernel gives a file of the target that is to have this one.
    #[must_use]
    pub fn nearest(&self, time: Time) -> Time {
        let whole = |secs| Time { secs, nanos: 0 };
        if time.secs >= self.last_secs && self.last_secs != i64::MAX {
            return whole(self.last_secs);
        }
        if time.secs <= self.first_secs && self.first_secs != i64::MIN {
            return whole(self.first_secs);
        }
        let step_secs = (self.step_nanos / NANOS_PER_SEC) as i64;
        if step_secs > 0 {
            return whole(time.secs - time.secs.rem_euclid(step_secs));
        }
        let step = self.step_nanos.max(1) as u32;
        Time {
            secs: time.secs,
            nanos: time.nanos - time.nanos % step,
        }
    }

    /// True if it holds every time that a clock shows today, as those of common file systems do. That is
    /// no limit worth a word, unless a file does have another time.
    fn is_ordinary(&self) -> bool {
        const YEAR_2400: i64 = 13_569_465_600;
        let Self {
            step_nanos,
            first_secs,
            last_secs,
        } = *self;
        step_nanos == 1 && first_secs <= i32::MIN.into() && last_secs >= YEAR_2400
    }

    fn is_sound(&self) -> bool {
        let step = self.step_nanos;
        let divides = NANOS_PER_SEC.is_multiple_of(step) || step.is_multiple_of(NANOS_PER_SEC);
        (1..=TIME_STEP_NANOS_MAX).contains(&step) && divides && self.first_secs < self.last_secs
    }
}

impl TargetLimits {
    /// Whether a peer may say this.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), &'static str> {
        if let Some(FixedOwner { groups, .. }) = &self.owner
            && !(1..=GROUPS_MAX).contains(&groups.len())
        {
            return Err("the target's owner has no group or too many");
        }
        if !self.time.is_sound() {
            return Err("the target's range of times is none");
        }
        if !self.lacks.is_sorted_by(|a, b| a < b) {
            return Err("what the target lacks is not sorted");
        }
        Ok(())
    }

    /// Every limit that there is, in order.
    pub fn kinds(&self) -> impl Iterator<Item = LimitKind> {
        LimitKind::ALL.into_iter().filter(|&kind| self.has(kind))
    }

    /// True if the target has this limit.
    #[must_use]
    pub fn has(&self, kind: LimitKind) -> bool {
        match kind {
            LimitKind::Owners => self.owner.is_some(),
            LimitKind::Modes => self.mode.is_some(),
            LimitKind::Times => !self.time.is_ordinary(),
            LimitKind::LongNames => self.name_bytes_max.is_some(),
            other => self.lacks.contains(&other),
        }
    }

    /// What a limit means for what is replicated, for people.
    #[must_use]
    pub fn consequence(&self, kind: LimitKind) -> String {
        match kind {
            LimitKind::Owners => self.owner.as_ref().map_or_else(String::new, |owner| {
                format!(
                    "everything belongs to user {}, set-user-id and set-group-id of others are \
                     dropped; run the sink as root to keep them",
                    owner.uid
                )
            }),
            LimitKind::SharedOwners => {
                "users or groups that are different on the source have one number here".into()
            }
            LimitKind::Modes => self.mode.map_or_else(String::new, |mode| {
                format!(
                    "files have mode {:04o}, directories {:04o}",
                    mode.file, mode.dir
                )
            }),
            LimitKind::Times => self.times_consequence(),
            LimitKind::Acls => "ACLs are dropped; the group keeps only its own rights".into(),
            LimitKind::UserXattrs => "attributes in user. are dropped".into(),
            LimitKind::TrustedXattrs => "attributes in trusted. are dropped".into(),
            LimitKind::SecurityXattrs => {
                "capabilities and other attributes in security. are dropped".into()
            }
            LimitKind::Devices => "devices cannot be made: each is a problem".into(),
            LimitKind::Symlinks => "symlinks cannot be made: each is a problem".into(),
            LimitKind::Pipes => "pipes and sockets cannot be made: each is a problem".into(),
            LimitKind::LongNames => format!(
                "names have at most {} bytes: a longer one is a problem",
                self.name_bytes_max.unwrap_or_default()
            ),
            LimitKind::NonUtf8Names => "names must be UTF-8: another one is a problem".into(),
            LimitKind::FoldedNames => {
                "of names that differ only in case or Unicode form, one is held: the others are \
                 problems"
                    .into()
            }
            LimitKind::HardLinks => "each name of a file becomes a file of its own".into(),
            LimitKind::Holes => "holes in files are filled and take space".into(),
        }
    }

    fn times_consequence(&self) -> String {
        let TimeRange {
            step_nanos,
            first_secs,
            last_secs,
        } = self.time;
        let mut parts = Vec::new();
        match step_nanos {
            1 => {}
            NANOS_PER_SEC.. => parts.push(format!(
                "times are rounded down to {} s",
                step_nanos / NANOS_PER_SEC
            )),
            _ => parts.push(format!("times are rounded down to {step_nanos} ns")),
        }
        if first_secs != i64::MIN {
            parts.push(format!("times before {} become that", day(first_secs)));
        }
        if last_secs != i64::MAX {
            parts.push(format!("times after {} become that", day(last_secs)));
        }
        parts.join("; ")
    }

    /// The limits because of which this entry cannot be made at all.
    pub(super) fn forbids(&self, name: Option<&Name>, meta: &Metadata) -> LimitSet {
        let mut met = LimitSet::default();
        let kind = match meta.kind {
            Kind::CharDevice | Kind::BlockDevice => Some(LimitKind::Devices),
            Kind::Symlink => Some(LimitKind::Symlinks),
            Kind::Fifo | Kind::Socket => Some(LimitKind::Pipes),
            Kind::File | Kind::Dir => None,
        };
        if let Some(kind) = kind.filter(|&kind| self.has(kind)) {
            met.insert(kind);
        }
        if let Some(bytes) = name.map(Name::as_bytes) {
            if self
                .name_bytes_max
                .is_some_and(|max| bytes.len() > usize::from(max))
            {
                met.insert(LimitKind::LongNames);
            }
            if self.has(LimitKind::NonUtf8Names) && std::str::from_utf8(bytes).is_err() {
                met.insert(LimitKind::NonUtf8Names);
            }
        }
        met
    }
}

/// The day of a second, or the second itself where the calendar ends.
fn day(secs: i64) -> String {
    jiff::Timestamp::from_second(secs).map_or_else(
        |_| format!("second {secs} from 1970"),
        |time| time.strftime("%F").to_string(),
    )
}
