//! The nouns of a tree: paths, entries and listings.
//!
//! Everything here is plain data that is validated once, when it is made, and can then not be wrong.
//! Names are bytes, as they are to the kernel: nothing in osync assumes that they are text.

mod acl;
mod block;
mod entry;
mod filter;
mod limits;
mod listing;
mod owners;
mod path;
mod view;

pub use block::{BLOCK_BYTES_MAX, BLOCK_HASH_BYTES, BLOCKS_MAX, BlockHash, ContentHasher};
pub use entry::{Body, Entry, Kind, Metadata, State, Time, XATTRS_BYTES_MAX, Xattrs};
pub use filter::{Filter, InvalidRule, PATTERN_BYTES_MAX, RULES_BYTES_MAX, RULES_MAX, Rule};
pub use limits::{
    FixedMode, FixedOwner, GROUPS_MAX, LimitCounts, LimitKind, LimitSet, TIME_STEP_NANOS_MAX,
    TargetLimits, TimeRange,
};
pub use listing::{Digest, ListEntry, NameRange};
pub use owners::{OWNERS_BYTES_MAX, OWNERS_MAX, OwnerMap, OwnerTables};
pub use path::{Escaped, InvalidPath, NAME_BYTES_MAX, Name, PATH_BYTES_MAX, RelPath};
pub use view::View;
