//! The brake on removals (I7): a wiped source must not wipe the target.
//!
//! Entries are counted before they go, in both lanes alike. What is removed beyond the limit within an
//! hour is refused until the operator agrees.

use std::sync::Mutex;

use crate::wire::message::Refusal;

/// Removals are forgiven over this time, in milliseconds.
const FORGIVE_MS: u64 = 3_600_000;

/// The brake.
#[derive(Debug)]
pub struct Brake {
    state: Mutex<State>,
    floor: u64,
    share: f64,
}

#[derive(Debug, Default)]
struct State {
    removed: f64,
    now_ms: u64,
    /// Entries in the target, as far as counted.
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
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The numbers are valid after every statement, so a panic elsewhere leaves them usable.
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells the time; removals of long ago are forgiven.
    pub fn tick(&self, now_ms: u64) {
        let limit = self.limit() as f64;
        let mut state = self.lock();
        let passed = now_ms.saturating_sub(state.now_ms) as f64 / FORGIVE_MS as f64;
        state.removed = (state.removed - limit * passed).max(0.0);
        state.now_ms = now_ms;
    }

    /// Tells of entries that the target holds, as they are counted or made; the share is taken of
    /// them all.
    pub fn add(&self, entries: u64) {
        self.lock().entries += entries;
    }

    fn limit(&self) -> u64 {
        let entries = self.lock().entries;
        self.floor.max((entries as f64 * self.share) as u64)
    }

    /// How many entries may be removed now.
    #[must_use]
    pub fn room(&self) -> u64 {
        let limit = self.limit();
        let state = self.lock();
        if state.released {
            u64::MAX
        } else {
            limit.saturating_sub(state.removed as u64)
        }
    }

    /// Takes entries that are about to be removed.
    ///
    /// # Errors
    /// [`Refusal::Halted`] if they are more than there is room for.
    pub fn admit(&self, entries: u64) -> Result<(), Box<Refusal>> {
        if entries > self.room() {
            return Err(Box::new(Refusal::Halted));
        }
        let mut state = self.lock();
        state.removed += entries as f64;
        state.entries = state.entries.saturating_sub(entries);
        Ok(())
    }

    /// The operator has agreed: what is held back may go, and the count begins anew after it.
    pub fn release(&self) {
        let mut state = self.lock();
        state.removed = 0.0;
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
        assert!(brake.admit(10).is_ok());
        assert_eq!(*brake.admit(1).unwrap_err(), Refusal::Halted);
        brake.tick(FORGIVE_MS / 2);
        assert!(brake.admit(5).is_ok() && brake.admit(1).is_err());
        brake.add(1000);
        assert!(brake.admit(80).is_ok() && brake.admit(20).is_err());
        brake.release();
        assert!(brake.admit(1_000_000).is_ok());
        brake.engage();
        assert!(brake.admit(1).is_err());
    }
}
