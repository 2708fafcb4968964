//! Bytes as choices: what a source may say, and users may do, in a small tree.

use std::collections::BTreeSet;

use bytes::Bytes;
use osync::tree::{
    BLOCKS_MAX, BlockHash, Body, Digest, Entry, Filter, Kind, ListEntry, Metadata, Name, NameRange,
    RelPath, Rule, State, Time, Xattrs,
};
use osync::wire::message::{Change, Page};

/// Largest file that a source announces here: in memory holes take room as well.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

const PATHS: [&str; 9] = [
    "", "a", "a/b", "a/b/c", "keep", "keep/x", "d", "d/keep", "a/keep/y",
];
const NAMES: [&str; 6] = ["a", "b", "c", "keep", "x", "y"];
pub const FILTERS: [&[&str]; 4] = [&[], &["- keep"], &["- /keep/"], &["+ a/***", "+ d/", "- *"]];

/// Bytes as choices; 0 for ever at the end.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&first, rest)) => {
                self.0 = rest;
                first
            }
            None => 0,
        }
    }

    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    pub fn bytes(&mut self) -> Vec<u8> {
        let count = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken.to_vec()
    }

    pub fn path(&mut self) -> RelPath {
        path(self.one(&PATHS))
    }

    pub fn name(&mut self) -> Name {
        name(self.one(&NAMES))
    }

    fn meta(&mut self, kind: Kind, size: u64) -> Metadata {
        let xattrs: Xattrs = match self.below(8) {
            0 => vec![(b"user.a".to_vec().into(), self.bytes().into())],
            _ => Vec::new(),
        };
        Metadata {
            kind,
            mode: self.one(&[0o644, 0o4755, 0, 0o7777]),
            uid: self.one(&[0, 7, u32::MAX]),
            gid: self.one(&[0, 7]),
            size,
            mtime: self.time(),
            rdev: 0,
            xattrs,
        }
    }

    fn time(&mut self) -> Time {
        Time {
            secs: self.one(&[0, 1, -1, i64::MAX]),
            nanos: self.one(&[0, 999_999_999]),
        }
    }

    fn kind(&mut self) -> Kind {
        self.one(&[Kind::File, Kind::Dir, Kind::Symlink, Kind::Fifo])
    }

    fn state(&mut self) -> State {
        let size = self.below(4) as u64;
        match self.below(8) {
            0 | 1 => State::Absent,
            2 | 3 => State::Present(self.meta(Kind::Dir, 0), Body::Empty),
            4 => {
                let content = Bytes::from(self.bytes());
                State::Present(
                    self.meta(Kind::File, content.len() as u64),
                    Body::Content(content),
                )
            }
            5 => {
                let links = self.one(&[0, 1, 2]);
                State::Present(self.meta(Kind::File, size), Body::Unchanged { links })
            }
            6 => {
                let (to, links) = (self.path(), self.one(&[None, Some(0), Some(2)]));
                let kind = self.kind();
                State::Present(self.meta(kind, size), Body::Link { to, links })
            }
            _ => State::Present(
                self.meta(Kind::Symlink, 2),
                Body::Target(Bytes::from_static(b"..")),
            ),
        }
    }

    fn range(&mut self) -> NameRange {
        NameRange {
            after: (self.below(3) == 0).then(|| self.name()),
            upto: (self.below(3) == 0).then(|| self.name()),
        }
    }

    fn page(&mut self) -> Page {
        if self.below(2) == 0 {
            return Page::Digest(Digest::from_bytes([self.byte(); 16]), self.below(3) as u32);
        }
        let names: BTreeSet<Name> = (0..self.below(3)).map(|_| self.name()).collect();
        let entries = names.into_iter().map(|name| ListEntry {
            mode: 0o644,
            ..ListEntry::bare(name, self.kind())
        });
        Page::Entries(entries.collect())
    }

    pub fn change(&mut self) -> Change {
        let (stream, size) = (self.below(3) as u64, self.one(&[1, 8, 300, FILE_BYTES_MAX]));
        match self.below(11) {
            0..=3 => {
                let dir = self.path();
                let names: BTreeSet<Name> = (0..=self.below(3)).map(|_| self.name()).collect();
                let entries = names.into_iter().map(|name| Entry {
                    name,
                    state: self.state(),
                });
                let entries = entries.collect();
                Change::Entries { dir, entries }
            }
            4 => Change::DirMeta {
                dir: self.path(),
                meta: self.meta(Kind::Dir, 0),
            },
            5 => Change::Rename {
                from: self.path(),
                to: self.path(),
                kind: self.kind(),
                size: self.below(4) as u64,
                mtime: self.time(),
            },
            6 => Change::Listing {
                dir: self.path(),
                range: self.range(),
                page: self.page(),
            },
            7 => Change::Chunk {
                stream,
                offset: self.one(&[0, 0, 4, 8]),
                kept: self.one(&[0, 0, 4, 8]),
                hole: self.one(&[0, 0, 4, 300]),
                data: Bytes::from(self.bytes()),
                size,
            },
            8 => Change::Publish {
                stream,
                path: self.path(),
                meta: self.meta(Kind::File, size),
                hash: match self.below(2) {
                    0 => None,
                    _ => Some(BlockHash::from_bytes([self.byte(); 16])),
                },
            },
            9 => {
                let (block, offset) = (self.one(&[1, 4]), self.one(&[0, 0, 4, 8]));
                Change::Base {
                    stream,
                    path: self.path(),
                    offset,
                    bytes: size.saturating_sub(offset).clamp(1, BLOCKS_MAX as u64),
                    block,
                    size,
                }
            }
            _ => Change::Abandon { stream },
        }
    }
}

pub fn path(text: &str) -> RelPath {
    RelPath::new(text.as_bytes()).expect("the paths here are valid")
}

pub fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("the names here are valid")
}

pub fn filter(rules: &[&str]) -> Filter {
    let rules = rules.iter().map(|rule| Rule::parse(rule.as_bytes()));
    let rules = rules.collect::<Result<_, _>>();
    Filter::new(rules.expect("the rules here are valid")).expect("they are few")
}
