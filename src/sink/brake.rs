//! The brake on removals (I7): a wiped source must not wipe the target.
//!
//! Entries are counted before they go. What is removed beyond the limit within an hour is refused until
//! the operator agrees. Removals that a walk has found count against a tighter share as well: nobody saw
//! them happen, and a source that is not what it was is found by a walk.

use std::sync::Mutex;

use crate::wire::message::{Lane, Refusal};

/// Removals are forgiven over this time, in milliseconds.
const FORGIVE_MS: u64 = 3_600_000;

/// The brake.
#[derive(Debug)]
pub struct Brake {
    state: Mutex<State>,
    floor: u64,
    share: f64,
    walk_share: f64,
}

#[derive(Debug, Default)]
struct State {
    removed: f64,
    /// Those of them that walks have found.
    removed_by_walks: f64,
    now_ms: u64,
    /// Entries in the target, as far as counted or made since.
    entries: u64,
    released: bool,
}

impl Brake {
    /// Admits `floor` entries, or `share` (0.0 to 1.0) of the entries in the target if that is more,
    /// within an hour.
    #[must_use]
    pub fn new(floor: u64, share: f64) -> Self {
        Self {
            state: Mutex::new(State::default()),
            floor,
            share,
            walk_share: share,
        }
    }

    /// The same, but of what walks have found only this share is admitted.
    #[must_use]
    pub fn with_walk_share(self, walk_share: f64) -> Self {
        Self { walk_share, ..self }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The numbers are valid after every statement, so a panic elsewhere leaves them usable.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the time; removals of long ago are forgiven.
    pub fn tick(&self, now_ms: u64) {
        let mut state = self.lock();
        let [limit, walk_limit] =
            [self.share, self.walk_share].map(|share| self.limit(&state, share) as f64);
        let passed = now_ms.saturating_sub(state.now_ms) as f64 / FORGIVE_MS as f64;
        state.removed = (state.removed - limit * passed).max(0.0);
        state.removed_by_walks = (state.removed_by_walks - walk_limit * passed).max(0.0);
        state.now_ms = now_ms;
    }

    /// Tells of entries that were made in the target.
    pub fn add(&self, entries: u64) {
        self.lock().entries += entries;
    }

    /// Tells how many entries the target holds at least; the share is taken of them.
    pub fn counted(&self, entries: u64) {
        let mut state = self.lock();
        state.entries = state.entries.max(entries);
    }

    fn limit(&self, state: &State, share: f64) -> u64 {
        self.floor.max((state.entries as f64 * share) as u64)
    }

    /// How many entries may be removed now for this lane.
    #[must_use]
    pub fn room(&self, lane: Lane) -> u64 {
        self.room_in(&self.lock(), lane)
    }

    fn room_in(&self, state: &State, lane: Lane) -> u64 {
        let [limit, walk_limit] =
            [self.share, self.walk_share].map(|share| self.limit(state, share));
        let room = limit.saturating_sub(state.removed as u64);
        match lane {
            _ if state.released => u64::MAX,
            Lane::Live => room,
            Lane::Backlog => room.min(walk_limit.saturating_sub(state.removed_by_walks as u64)),
        }
    }

    /// Takes entries that are about to be removed for this lane.
    ///
    /// # Errors
    /// [`Refusal::Halted`] if they are more than there is room for.
    pub fn admit(&self, lane: Lane, entries: u64) -> Result<(), Box<Refusal>> {
        // Several appliers ask at once: what one has seen free must not go to another meanwhile.
        let mut state = self.lock();
        if entries > self.room_in(&state, lane) {
            return Err(Box::new(Refusal::Halted));
        }
        state.removed += entries as f64;
        if lane == Lane::Backlog {
            state.removed_by_walks += entries as f64;
        }
        state.entries = state.entries.saturating_sub(entries);
        Ok(())
    }

    /// Takes back entries that were admitted for this lane and could not be removed: they are still there,
    /// and will be tried again.
    pub fn give_back(&self, lane: Lane, entries: u64) {
        let mut state = self.lock();
        state.removed = (state.removed - entries as f64).max(0.0);
        if lane == Lane::Backlog {
            state.removed_by_walks = (state.removed_by_walks - entries as f64).max(0.0);
        }
        state.entries += entries;
    }

    /// The operator has agreed: what is held back may go, and the count begins anew after it.
    pub fn release(&self) {
        let mut state = self.lock();
        state.removed = 0.0;
        state.removed_by_walks = 0.0;
        state.released = true;
    }

    /// What was held back is gone: from now on removals count again.
    pub fn engage(&self) {
        self.lock().released = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn admits_the_floor_or_the_share_and_forgives_with_time() {
        let brake = Brake::new(10, 0.1);
        let admit = |entries| brake.admit(Lane::Live, entries);
        assert!(admit(10).is_ok());
        assert_eq!(*admit(1).unwrap_err(), Refusal::Halted);
        brake.tick(FORGIVE_MS / 2);
        assert!(admit(5).is_ok() && admit(1).is_err());
        brake.add(1000);
        assert!(admit(80).is_ok() && admit(20).is_err());
        brake.release();
        assert!(admit(1_000_000).is_ok());
        brake.engage();
        assert!(admit(1).is_err());
    }

    #[test]
    fn admits_no_more_to_many_at_once() {
        const APPLIERS: usize = 4;
        let brakes: Vec<_> = (0..5_000).map(|_| Brake::new(1, 0.0)).collect();
        let together = std::sync::Barrier::new(APPLIERS);
        let admit_each = || {
            let admitted = brakes.iter().filter(|brake| {
                together.wait();
                brake.admit(Lane::Live, 1).is_ok()
            });
            admitted.count()
        };
        let admitted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..APPLIERS).map(|_| scope.spawn(admit_each)).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum()
        });
        assert_eq!(admitted, brakes.len());
    }

    #[test]
    fn what_could_not_be_removed_does_not_count() {
        let brake = Brake::new(10, 0.5).with_walk_share(0.1);
        brake.add(100);
        for _ in 0..1000 {
            assert!(brake.admit(Lane::Backlog, 10).is_ok());
            brake.give_back(Lane::Backlog, 10);
        }
        assert_eq!(brake.room(Lane::Backlog), 10);
        assert_eq!(brake.room(Lane::Live), 50);
    }

    #[test]
    fn admits_less_of_what_walks_have_found() {
        let brake = Brake::new(10, 0.5).with_walk_share(0.1);
        brake.add(1000);
        assert!(brake.admit(Lane::Backlog, 101).is_err());
        assert!(brake.admit(Lane::Backlog, 100).is_ok());
        assert_eq!(brake.room(Lane::Backlog), 0);
        assert!(brake.admit(Lane::Live, 300).is_ok(), "live has the rest");
        brake.tick(FORGIVE_MS);
        assert_eq!(brake.room(Lane::Backlog), 20, "60 of 600 were forgiven");
        assert!(brake.admit(Lane::Live, 150).is_ok());
        assert_eq!(
            brake.room(Lane::Backlog),
            0,
            "live removals count for walks too"
        );
    }
}
