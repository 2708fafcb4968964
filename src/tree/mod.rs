//! The nouns of a tree: paths, entries and listings.
//!
//! Everything here is plain data that is validated once, when it is made, and can then not be wrong.
//! Names are bytes, as they are to the kernel: nothing in osync assumes that they are text.

mod entry;
mod filter;
mod listing;
mod path;

pub use entry::{Body, Entry, Kind, Metadata, State, Time, XATTRS_BYTES_MAX, Xattrs};
pub use filter::{Filter, InvalidRule, PATTERN_BYTES_MAX, RULES_BYTES_MAX, RULES_MAX, Rule};
pub use listing::{Digest, ListEntry, NameRange};
pub use path::{Escaped, InvalidPath, NAME_BYTES_MAX, Name, PATH_BYTES_MAX, RelPath};
