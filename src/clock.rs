//! The one place where time is read for the engines.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::engine::Now;
use crate::tree::Time;

/// Tells the time since it was started, and the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock at zero.
    #[must_use]
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }

    /// The time of an event that happens now.
    #[must_use]
    pub fn now(&self) -> Now {
        let ms = self.started.elapsed().as_millis();
        Now {
            ms: u64::try_from(ms).expect("no process runs for so long"),
            wall: wall(),
        }
    }

    /// When [`Now::ms`] will be `ms`; far away if that is beyond what the system can tell.
    #[must_use]
    pub fn instant(&self, ms: u64) -> tokio::time::Instant {
        const FAR_MS: u64 = 24 * 3600 * 1000;
        let soonest = self.now().ms.saturating_add(FAR_MS);
        (self.started + Duration::from_millis(ms.min(soonest))).into()
    }
}

/// The wall clock, comparable with the times of local file systems.
#[must_use]
pub fn wall() -> Time {
    // A clock before 1970 is wrong anyway, and everything changed after it then.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time {
        secs: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos(),
    }
}
