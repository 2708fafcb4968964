//! What events say about entries that take part (rule 35): what is excluded is neither sent nor said to
//! be absent, and a rename with one excluded end is a removal or an arrival.

use super::{Action, Source};
use crate::engine::bindings::{PathEvent, Touch};
use crate::tree::RelPath;

impl Source {
    /// True if an event that changes no name is about something that takes no part.
    pub(super) fn is_excluded(&self, event: &PathEvent) -> bool {
        matches!(event, PathEvent::Touched { path, is_dir, .. }
            if self.settings.filter.excludes(path, *is_dir))
    }

    /// The events that are left of one. A name that comes or goes changes its directory's time, whether it
    /// takes part or not.
    pub(super) fn included(&self, event: PathEvent, out: &mut Vec<Action>) -> Vec<PathEvent> {
        let (path, is_dir) = match &event {
            PathEvent::Renamed { from, to, is_dir } => {
                return self.included_rename(from.clone(), to.clone(), *is_dir, out);
            }
            PathEvent::Touched { path, is_dir, .. } => (path, *is_dir),
            PathEvent::DirAppeared(path) | PathEvent::DirVanished(path) => (path, true),
            PathEvent::Suspect(_)
            | PathEvent::NamesChanged(_)
            | PathEvent::Overflow
            | PathEvent::Unmounted => return vec![event],
        };
        if self.settings.filter.excludes(path, is_dir) {
            return self.names_changed_above(path).into_iter().collect();
        }
        vec![event]
    }

    fn names_changed_above(&self, path: &RelPath) -> Option<PathEvent> {
        let dir = path.parent()?;
        let takes_part = !self.settings.filter.excludes(&dir, true);
        takes_part.then_some(PathEvent::NamesChanged(dir))
    }

    fn included_rename(
        &self,
        from: RelPath,
        to: RelPath,
        is_dir: bool,
        out: &mut Vec<Action>,
    ) -> Vec<PathEvent> {
        let excluded = [&from, &to].map(|path| self.settings.filter.excludes(path, is_dir));
        if is_dir {
            // The watches went along. Those of directories that take no part any more end.
            let bound = self.bindings.below(&to).into_iter();
            let gone = bound.filter(|&wd| {
                let path = self.bindings.path(wd);
                path.is_none_or(|path| self.settings.filter.excludes(&path, true))
            });
            out.extend(gone.map(|wd| Action::Unbind { wd }));
        }
        let (event, other) = match excluded {
            [false, false] => return vec![PathEvent::Renamed { from, to, is_dir }],
            [true, true] => {
                let both = [&from, &to].map(|path| self.names_changed_above(path));
                return both.into_iter().flatten().collect();
            }
            [true, false] if is_dir => (PathEvent::DirAppeared(to), from),
            [false, true] if is_dir => (PathEvent::DirVanished(from), to),
            [true, false] => (touched(to, Touch::Arrived), from),
            [false, true] => (touched(from, Touch::Name), to),
        };
        [event]
            .into_iter()
            .chain(self.names_changed_above(&other))
            .collect()
    }
}

fn touched(path: RelPath, touch: Touch) -> PathEvent {
    PathEvent::Touched {
        path,
        touch,
        is_dir: false,
    }
}
