//! Waiting for conditions of processes that cannot tell us.

use std::time::{Duration, Instant};

/// How often a condition is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Returns what `attempt` returns as soon as it succeeds. `what` completes "waiting for …".
///
/// # Panics
/// If it has not succeeded within `limit`, with the last reason why not.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(reason) if Instant::now() >= deadline => {
                panic!(
                    "waiting for {what}: nothing after {} s: {reason}",
                    limit.as_secs()
                )
            }
            Err(_) => std::thread::sleep(POLL_INTERVAL),
        }
    }
}

/// Returns as soon as `condition` holds. `what` completes "waiting for …".
///
/// # Panics
/// If it does not hold within `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    wait_for(what, limit, || {
        if condition() {
            Ok(())
        } else {
            Err("it does not hold".to_owned())
        }
    });
}
