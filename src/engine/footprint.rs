//! Which two pieces of work must not overtake each other.
//!
//! The sink applies messages in parallel, the source reads in parallel. Both ask the same question:
//! may a later piece of work start before an earlier one has ended? At most a few hundred pieces are
//! under way (the credit in messages bounds them), so the answer is a plain comparison of footprints,
//! without any index.

use crate::tree::{Body, Entry, Name, NameRange, RelPath, State};
use crate::wire::message::Change;

/// What a piece of work touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Footprint {
    /// Whole entries: sorted names, grouped by their directory. An entry may be, or become, a
    /// directory with everything below.
    Entries(Vec<(RelPath, Vec<Name>)>),
    /// Metadata of one directory: after everything earlier below it, holding nothing back.
    DirMeta(RelPath),
    /// Comparison of a range of names in one directory.
    Listing(RelPath, NameRange),
    /// A stage, which no path shows.
    Stage(u64),
    /// What is at a path is looked at for a stage: after everything earlier there, holding nothing back.
    Base(u64, RelPath, Name),
    /// Publication of a stage under a path.
    Publish(u64, RelPath, Name),
}

impl Footprint {
    /// The footprint of a single entry; of the root, its metadata.
    #[must_use]
    pub fn entry(path: &RelPath) -> Self {
        match path.split() {
            Some((dir, name)) => Self::Entries(vec![(dir, vec![name])]),
            None => Self::DirMeta(path.clone()),
        }
    }

    /// What a message touches on the sink.
    #[must_use]
    pub fn of(change: &Change) -> Self {
        match change {
            Change::Entries { dir, entries } => {
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                let mut groups = vec![(dir.clone(), names)];
                groups.extend(entries.iter().filter_map(built_on));
                Self::Entries(groups)
            }
            Change::DirMeta { dir, .. } => Self::DirMeta(dir.clone()),
            Change::Rename { from, to, .. } => Self::Entries(
                [from, to]
                    .iter()
                    .filter_map(|p| p.split())
                    .map(|(d, n)| (d, vec![n]))
                    .collect(),
            ),
            Change::Listing { dir, range, .. } => Self::Listing(dir.clone(), range.clone()),
            Change::Base { stream, path, .. } => match path.split() {
                Some((dir, name)) => Self::Base(*stream, dir, name),
                // The decoder admits none in the place of the root; the applier has none there.
                None => Self::Stage(*stream),
            },
            Change::Chunk { stream, .. } | Change::Abandon { stream } => Self::Stage(*stream),
            Change::Publish { stream, path, .. } => match path.split() {
                Some((dir, name)) => Self::Publish(*stream, dir, name),
                // The decoder admits no file in the place of the root; the applier refuses it.
                None => Self::Stage(*stream),
            },
        }
    }

    /// True if this piece of work must wait until `earlier` has ended.
    #[must_use]
    pub fn waits_for(&self, earlier: &Self) -> bool {
        if let (Some(mine), Some(theirs)) = (self.stage(), earlier.stage())
            && mine == theirs
        {
            return true;
        }
        match (self, earlier) {
            (Self::Stage(_), _) | (_, Self::Stage(_) | Self::Listing(..) | Self::Base(..)) => false,
            (Self::DirMeta(dir), Self::DirMeta(other)) => dir == other,
            (Self::DirMeta(dir), _) => earlier
                .groups()
                .any(|(d, names)| entries_relate(d, names, dir)),
            (Self::Listing(dir, range), Self::DirMeta(other)) => {
                dir.covers(other)
                    && other.component_below(dir).is_none_or(|name| {
                        dir.len() + 1 + name.len() >= other.len() && range.contains(name)
                    })
            }
            (Self::Listing(dir, range), _) => earlier.groups().any(|(d, names)| {
                (d == dir && names.iter().any(|name| range.contains(name.as_bytes())))
                    || covered_by(d, names, dir)
            }),
            // Metadata of a directory holds back only what replaces the directory itself or a
            // directory above it.
            (_, Self::DirMeta(other)) => {
                self.groups().any(|(d, names)| covered_by(d, names, other))
            }
            _ => self.groups().any(|(d, names)| {
                earlier
                    .groups()
                    .any(|(other, theirs)| groups_relate(d, names, other, theirs))
            }),
        }
    }

    /// True if one of these entries is `path` or a directory above it.
    #[must_use]
    pub fn covers(&self, path: &RelPath) -> bool {
        matches!(self, Self::DirMeta(dir) if dir == path)
            || self
                .groups()
                .any(|(dir, names)| covered_by(dir, names, path))
    }

    fn stage(&self) -> Option<u64> {
        match self {
            Self::Stage(stream) | Self::Base(stream, ..) | Self::Publish(stream, ..) => {
                Some(*stream)
            }
            _ => None,
        }
    }

    /// The entries, grouped by directory.
    pub fn groups(&self) -> impl Iterator<Item = (&RelPath, &[Name])> {
        let (many, one) = match self {
            Self::Entries(groups) => (groups.as_slice(), None),
            Self::Base(_, dir, name) | Self::Publish(_, dir, name) => {
                (&[][..], Some((dir, std::slice::from_ref(name))))
            }
            _ => (&[][..], None),
        };
        many.iter()
            .map(|(dir, names)| (dir, names.as_slice()))
            .chain(one)
    }
}

/// The other name that a further name of an inode builds on.
fn built_on(entry: &Entry) -> Option<(RelPath, Vec<Name>)> {
    let State::Present(_, Body::Link { to, .. }) = &entry.state else {
        return None;
    };
    to.split().map(|(dir, name)| (dir, vec![name]))
}

fn holds(names: &[Name], name: &[u8]) -> bool {
    names.binary_search_by(|n| n.as_bytes().cmp(name)).is_ok()
}

/// True if one of the entries `dir/names` is `path` or above it.
fn covered_by(dir: &RelPath, names: &[Name], path: &RelPath) -> bool {
    path.component_below(dir)
        .is_some_and(|name| holds(names, name))
}

/// True if one of the entries `dir/names` is `path`, above it or below it.
fn entries_relate(dir: &RelPath, names: &[Name], path: &RelPath) -> bool {
    path.covers(dir) || covered_by(dir, names, path)
}

/// True if an entry of one group is the same as, above or below one of the other.
fn groups_relate(a: &RelPath, a_names: &[Name], b: &RelPath, b_names: &[Name]) -> bool {
    if a == b {
        // Pages of one large directory follow each other, and most pairs of them have no name between.
        let before = |one: &[Name], other: &[Name]| one.last() < other.first();
        if before(a_names, b_names) || before(b_names, a_names) {
            return false;
        }
        let (few, many) = if a_names.len() < b_names.len() {
            (a_names, b_names)
        } else {
            (b_names, a_names)
        };
        return few.iter().any(|name| holds(many, name.as_bytes()));
    }
    covered_by(a, a_names, b) || covered_by(b, b_names, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RelPath {
        RelPath::new(text.as_bytes()).expect("a valid path")
    }

    fn entry(text: &str) -> Footprint {
        Footprint::entry(&path(text))
    }

    #[test]
    fn entries_wait_for_the_same_above_and_below() {
        for (later, earlier, waits) in [
            ("d/a", "d/a", true),
            ("d/a", "d/b", false),
            ("d/a", "d", true),
            ("d", "d/a/b", true),
            ("d/a", "e", false),
            ("d/ab", "d/a", false),
        ] {
            assert_eq!(
                entry(later).waits_for(&entry(earlier)),
                waits,
                "{later} after {earlier}"
            );
        }
    }

    #[test]
    fn directory_metadata_waits_below_and_holds_nothing_back() {
        let meta = Footprint::DirMeta(path("d"));
        assert!(meta.waits_for(&entry("d/a/b")) && meta.waits_for(&entry("d")));
        assert!(!meta.waits_for(&entry("e")) && !meta.waits_for(&Footprint::DirMeta(path("d/a"))));
        assert!(!entry("d/a").waits_for(&meta));
        assert!(entry("d").waits_for(&meta));
        let root = Footprint::DirMeta(RelPath::root());
        assert!(root.waits_for(&entry("d/a")) && !entry("d").waits_for(&root));
    }

    #[test]
    fn a_listing_waits_for_its_directory_and_its_names() {
        let listing = |upto: &str| {
            Footprint::Listing(
                path("d"),
                NameRange {
                    after: None,
                    upto: Name::new(upto.as_bytes()).ok(),
                },
            )
        };
        assert!(listing("z").waits_for(&entry("d/a")) && listing("z").waits_for(&entry("d")));
        assert!(!listing("a").waits_for(&entry("d/b")) && !listing("z").waits_for(&entry("d/a/b")));
        assert!(listing("z").waits_for(&Footprint::DirMeta(path("d/a"))));
        assert!(!listing("z").waits_for(&Footprint::DirMeta(path("d/a/b"))));
        assert!(!entry("d/a").waits_for(&listing("z")));
    }

    #[test]
    fn stages_know_only_their_stream() {
        let publish = Footprint::Publish(1, path("d"), Name::new(b"a").expect("a name"));
        assert!(
            publish.waits_for(&Footprint::Stage(1)) && !publish.waits_for(&Footprint::Stage(2))
        );
        assert!(!Footprint::Stage(1).waits_for(&entry("d")));
        assert!(publish.waits_for(&entry("d")) && entry("d").waits_for(&publish));
    }
}
