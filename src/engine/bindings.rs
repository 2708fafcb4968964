//! Which watch descriptor means which directory, and what a raw event therefore says about paths.
//!
//! A descriptor names an inode, the map names a path: they part company when an event is lost or read
//! late (rule 31). So binding is always repeated and the descriptor returned is believed; only
//! `Ignored` frees a binding, and only its own.

use std::collections::{BTreeMap, HashMap};

use super::Now;
use crate::source::watch::{RawEvent, Wd, What};
use crate::tree::{Name, RelPath};

/// How long the first half of a rename waits for the second, in milliseconds. Both are queued by one
/// system call; a wrong guess costs a transfer, nothing else.
pub const HALF_WAIT_MS: u64 = 20;

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// The name means something else than before: made, removed, moved out.
    Name,
    /// It came from another name that nobody has told. What happened to it there may not have been seen.
    Arrived,
    /// Its metadata changed.
    Attributes,
    /// Its content changed.
    Content,
    /// A writer has closed the file: its content may have changed, and it may be whole now.
    Closed,
}

/// What an event means for paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEvent {
    /// Look at this path again.
    Touched {
        /// The path.
        path: RelPath,
        /// How.
        touch: Touch,
        /// It is a directory.
        is_dir: bool,
    },
    /// A directory appeared: by mkdir, or from outside the watched directories.
    DirAppeared(RelPath),
    /// A directory went away, by removal or to somewhere that is not watched.
    DirVanished(RelPath),
    /// An entry changed its name.
    Renamed {
        /// The old path.
        from: RelPath,
        /// The new path.
        to: RelPath,
        /// A directory with everything below.
        is_dir: bool,
    },
    /// What is below this path may have moved without being told: compare it again.
    Suspect(RelPath),
    /// Names that take no part came or went in this directory: its own times changed.
    NamesChanged(RelPath),
    /// Events were lost.
    Overflow,
    /// The file system of the root was unmounted.
    Unmounted,
}

#[derive(Debug)]
struct Node {
    /// `None` for the root.
    parent: Option<Wd>,
    name: Option<Name>,
}

#[derive(Debug)]
struct Half {
    cookie: u32,
    path: RelPath,
    place: Option<(Wd, Name)>,
    is_dir: bool,
    until_ms: u64,
}

/// The map of watched directories. Memory: about 100 bytes and its name for each.
#[derive(Debug)]
pub struct Bindings {
    nodes: HashMap<Wd, Node>,
    children: BTreeMap<(Wd, Name), Wd>,
    root: Option<Wd>,
    halves: Vec<Half>,
    /// Directories whose move was told by a pair; their MOVE_SELF, which follows, adds nothing.
    explained: Vec<Wd>,
    halves_max: usize,
}

impl Bindings {
    /// No directory is watched yet. At most `halves_max` halves of renames wait; above it the oldest counts as
    /// moved out of the tree.
    #[must_use]
    pub fn new(halves_max: usize) -> Self {
        Self {
            nodes: HashMap::new(),
            children: BTreeMap::new(),
            root: None,
            halves: Vec::new(),
            explained: Vec::new(),
            halves_max,
        }
    }

    /// How many directories are watched.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// True before the root is bound.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Records that the watch just added at `path` is `wd`. Returns the path that `wd` had before, if
    /// another: what is below it there is suspect.
    ///
    /// # Errors
    /// The descriptor back, if the directory above is not bound, so that no path could be told for it.
    pub fn bind(&mut self, path: &RelPath, wd: Wd) -> Result<Option<RelPath>, Wd> {
        let before = self.path(wd);
        if before.as_ref() == Some(path) {
            return Ok(None);
        }
        let Some((dir, name)) = path.split() else {
            self.root = Some(wd);
            self.nodes.insert(
                wd,
                Node {
                    parent: None,
                    name: None,
                },
            );
            return Ok(before);
        };
        let Some(parent) = self.find(&dir) else {
            return Err(wd);
        };
        if parent == wd {
            return Err(wd);
        }
        self.detach(wd);
        self.attach(wd, parent, name);
        Ok(before)
    }

    fn attach(&mut self, wd: Wd, parent: Wd, name: Name) {
        if let Some(other) = self.children.insert((parent, name.clone()), wd)
            && let Some(node) = self.nodes.get_mut(&other)
            && other != wd
        {
            // The former directory of this name is gone or elsewhere; its `Ignored` frees it.
            node.parent = None;
            node.name = None;
        }
        self.nodes.insert(
            wd,
            Node {
                parent: Some(parent),
                name: Some(name),
            },
        );
    }

    fn detach(&mut self, wd: Wd) {
        if let Some(Node {
            parent: Some(parent),
            name: Some(name),
        }) = self.nodes.get(&wd)
        {
            let place = (*parent, name.clone());
            if self.children.get(&place) == Some(&wd) {
                self.children.remove(&place);
            }
        }
    }

    /// The path of a descriptor; `None` if it is not bound or its directory left the tree.
    #[must_use]
    pub fn path(&self, wd: Wd) -> Option<RelPath> {
        let mut names = Vec::new();
        let mut at = wd;
        while Some(at) != self.root {
            let node = self.nodes.get(&at)?;
            names.push(node.name.as_ref()?);
            at = node.parent?;
            // A cycle cannot be built by renames that the kernel allows, but late events could.
            if names.len() > self.nodes.len() {
                return None;
            }
        }
        Some(
            names
                .iter()
                .rev()
                .fold(RelPath::root(), |path, name| path.join(name)),
        )
    }

    fn find(&self, path: &RelPath) -> Option<Wd> {
        let mut at = self.root?;
        for part in path.components() {
            let name = Name::new(part).ok()?;
            at = *self.children.get(&(at, name))?;
        }
        Some(at)
    }

    /// The descriptors of a directory and of all below it, to end their watches after it left the tree.
    #[must_use]
    pub fn below(&self, path: &RelPath) -> Vec<Wd> {
        let Some(top) = self.find(path) else {
            return Vec::new();
        };
        let mut found = vec![top];
        let mut next = 0;
        while let Some(&wd) = found.get(next) {
            let first = (wd, Name::new(b"\x01").expect("one byte is a name"));
            found.extend(
                self.children
                    .range(first..)
                    .take_while(|((parent, _), _)| *parent == wd)
                    .map(|(_, &child)| child),
            );
            next += 1;
        }
        found
    }

    /// Translates one raw event. Rename halves are kept back until their other half arrives or
    /// [`Bindings::expire`] gives them up.
    pub fn translate(&mut self, now: Now, event: &RawEvent, out: &mut Vec<PathEvent>) {
        match event.what {
            What::Overflow => {
                // The MOVE_SELF of a pair that was told may be among what was lost.
                self.explained.clear();
                return out.push(PathEvent::Overflow);
            }
            What::Unmounted => return out.push(PathEvent::Unmounted),
            What::Ignored => return self.forget(event.wd),
            What::MoveSelf => return self.moved_self(event.wd, out),
            _ => {}
        }
        let Some(dir) = self.path(event.wd) else {
            return;
        };
        let Some(name) = &event.name else {
            // About the directory itself; its parent's watch tells the same, but the root has none.
            if dir.is_root() && event.what == What::Attributes {
                out.push(PathEvent::Touched {
                    path: dir,
                    touch: Touch::Attributes,
                    is_dir: true,
                });
            }
            return;
        };
        let path = dir.join(name);
        let is_dir = event.is_dir;
        match event.what {
            What::Created if is_dir => out.push(PathEvent::DirAppeared(path)),
            What::Deleted if is_dir => out.push(PathEvent::DirVanished(path)),
            What::MovedFrom(cookie) => {
                if self.halves.len() >= self.halves_max {
                    let oldest = self.halves.remove(0);
                    self.gave_up(oldest, out);
                }
                let place = Some((event.wd, name.clone()));
                self.halves.push(Half {
                    cookie,
                    path,
                    place,
                    is_dir,
                    until_ms: now.ms + HALF_WAIT_MS,
                });
            }
            What::MovedTo(cookie) => self.moved_to(cookie, event.wd, name, path, is_dir, out),
            what => out.push(PathEvent::Touched {
                path,
                touch: match what {
                    What::Attributes => Touch::Attributes,
                    What::Modified => Touch::Content,
                    What::Closed => Touch::Closed,
                    _ => Touch::Name,
                },
                is_dir,
            }),
        }
    }

    fn moved_to(
        &mut self,
        cookie: u32,
        wd: Wd,
        name: &Name,
        to: RelPath,
        is_dir: bool,
        out: &mut Vec<PathEvent>,
    ) {
        let Some(at) = self.halves.iter().position(|half| half.cookie == cookie) else {
            out.push(if is_dir {
                PathEvent::DirAppeared(to)
            } else {
                PathEvent::Touched {
                    path: to,
                    touch: Touch::Arrived,
                    is_dir,
                }
            });
            return;
        };
        let half = self.halves.remove(at);
        if is_dir
            && let Some(place) = &half.place
            && let Some(&moved) = self.children.get(place)
            && moved != wd
        {
            self.detach(moved);
            self.attach(moved, wd, name.clone());
            if self.explained.len() >= self.halves_max {
                self.explained.remove(0);
            }
            self.explained.push(moved);
        }
        out.push(PathEvent::Renamed {
            from: half.path,
            to,
            is_dir,
        });
    }

    fn moved_self(&mut self, wd: Wd, out: &mut Vec<PathEvent>) {
        // A waiting half tells more. Without a pair, the directory is somewhere that nobody told: its
        // parent is compared again.
        if let Some(at) = self.explained.iter().position(|&moved| moved == wd) {
            self.explained.swap_remove(at);
            return;
        }
        let Some(path) = self.path(wd) else { return };
        let paired = self.halves.iter().any(|half| half.path == path);
        if !paired && let Some(parent) = path.parent() {
            out.push(PathEvent::Suspect(parent));
        }
    }

    /// Frees the binding of a watch that has ended.
    fn forget(&mut self, wd: Wd) {
        self.detach(wd);
        self.nodes.remove(&wd);
        self.explained.retain(|&moved| moved != wd);
        if self.root == Some(wd) {
            self.root = None;
        }
    }

    /// Gives up halves that waited long enough.
    pub fn expire(&mut self, now: Now, out: &mut Vec<PathEvent>) {
        while let Some(at) = self.halves.iter().position(|half| half.until_ms <= now.ms) {
            let half = self.halves.remove(at);
            self.gave_up(half, out);
        }
    }

    fn gave_up(&mut self, half: Half, out: &mut Vec<PathEvent>) {
        out.push(if half.is_dir {
            PathEvent::DirVanished(half.path)
        } else {
            PathEvent::Touched {
                path: half.path,
                touch: Touch::Name,
                is_dir: false,
            }
        });
    }

    /// When the next half must be given up.
    #[must_use]
    pub fn deadline(&self) -> Option<u64> {
        self.halves.iter().map(|half| half.until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What a raw event says.
    fn said(bindings: &mut Bindings, wd: Wd, what: What, name: Option<&str>) -> Vec<PathEvent> {
        let event = RawEvent {
            wd,
            what,
            name: name.map(|name| Name::new(name.as_bytes()).unwrap()),
            is_dir: true,
        };
        let mut out = Vec::new();
        bindings.translate(Now::default(), &event, &mut out);
        out
    }

    #[test]
    fn a_move_after_an_overflow_is_not_explained_by_one_before() {
        let (root, dir) = (Wd(1), Wd(2));
        let mut bindings = Bindings::new(8);
        bindings.bind(&RelPath::root(), root).unwrap();
        bindings.bind(&RelPath::new(b"a").unwrap(), dir).unwrap();
        assert_eq!(said(&mut bindings, root, What::MovedFrom(7), Some("a")), []);
        let told = said(&mut bindings, root, What::MovedTo(7), Some("b"));
        assert!(matches!(told[..], [PathEvent::Renamed { .. }]), "{told:?}");
        said(&mut bindings, root, What::Overflow, None);
        let moved = said(&mut bindings, dir, What::MoveSelf, None);
        assert_eq!(moved, [PathEvent::Suspect(RelPath::root())]);
    }
}
