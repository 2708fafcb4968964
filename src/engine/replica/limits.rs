//! How much a source remembers, and which rules it keeps.

use crate::engine::queue::HoldOff;
use crate::engine::walk::PAGE_NAMES_MAX;
use crate::tree::{BLOCK_BYTES_MAX, BLOCKS_MAX};

/// Limits of what is remembered: of each replica, but for the last ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Paths that wait in one lane; above it directories collapse into rescans.
    pub queue_entries_max: usize,
    /// Bytes of the paths that wait in one lane, that are in flight, or that are problems; above it the same
    /// happens as above the number of such paths.
    pub path_bytes_max: usize,
    /// Entries sent and not durable; above three quarters the backlog waits, above it everything.
    pub in_flight_entries_max: usize,
    /// Problems listed.
    pub problems_max: usize,
    /// Hold-off of hot and unsettled files.
    pub hold_off: HoldOff,
    /// Reads under way at once.
    pub readings_max: usize,
    /// Large files streamed at once, in each lane.
    pub streams_max: usize,
    /// Pages under way at once in each walk.
    pub visits_max: usize,
    /// Bytes in one piece of a large file.
    pub chunk_bytes: u64,
    /// Names that one look takes.
    pub look_names: usize,
    /// Files below this are not compared with what the sink holds of them, in bytes.
    pub base_bytes_min: u64,
    /// Bytes of a block that is compared by its hash, at most [`BLOCK_BYTES_MAX`].
    pub block_bytes: u64,
    /// Blocks that the sink is asked for at once, at most [`BLOCKS_MAX`].
    pub base_blocks: usize,
    /// Names in one page of a listing, at most [`PAGE_NAMES_MAX`].
    pub page_names: usize,
    /// Names of entries with several names that are remembered.
    pub links_max: usize,
    /// Rescans owed in one lane; above it they become one of the root.
    pub rescans_max: usize,
    /// Directories that a walk has found and not visited; above it the last names of a page are forgotten,
    /// and the page is listed again behind those that are left.
    pub walk_dirs_max: usize,
    /// Renames that wait to be sent, and halves of renames; above it both names are looked at.
    pub renames_max: usize,
    /// Files whose heat is known in one lane; above it further ones are not held off.
    pub hot_files_max: usize,
    /// Files named as never settling; above it further ones are not named.
    pub never_settling_max: usize,
    /// Directories without a watch that are known by name, of the source; above it the whole tree is
    /// compared.
    pub unwatched_max: usize,
    /// A rule that is not kept; `None` outside tests of the simulation.
    pub without: Option<Rule>,
}

/// Rules of order that a test can switch off, to show that the simulation sees what each is for. The
/// numbers are those of the histories behind the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// 1: a path is claimed until its message has its number.
    Claim,
    /// 2: an event during a read puts the path back.
    EventDuringRead,
    /// 21: what stands for lost events does not trust size and time.
    Suspicion,
    /// 27: the names of an inode are told as such.
    Links,
    /// 28: a child's message leaves its directory waiting for metadata.
    ParentMetadata,
    /// 13: what was in flight at a cut is looked at again.
    PutBack,
    /// 15: a refused entry waits again.
    RefusedWaits,
    /// 30: of a base is kept what has the hash of what was read.
    SameHash,
}

impl Limits {
    /// True if the rule is kept, as it always is outside tests.
    #[must_use]
    pub fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            queue_entries_max: 65_536,
            path_bytes_max: 16 * 1024 * 1024,
            in_flight_entries_max: 131_072,
            problems_max: 10_000,
            hold_off: HoldOff {
                min_ms: 200,
                max_ms: 30_000,
            },
            readings_max: 16,
            streams_max: 16,
            visits_max: 32,
            chunk_bytes: 256 * 1024,
            look_names: 128,
            base_bytes_min: 1024 * 1024,
            block_bytes: BLOCK_BYTES_MAX,
            base_blocks: BLOCKS_MAX,
            page_names: PAGE_NAMES_MAX,
            links_max: 32_768,
            rescans_max: 4096,
            walk_dirs_max: 65_536,
            renames_max: 1024,
            hot_files_max: 4096,
            never_settling_max: 256,
            unwatched_max: 4096,
            without: None,
        }
    }
}
