//! What a service manager such as systemd is told (sd_notify(3)): that an endpoint serves, where it
//! stands, that its loop turns, and that it ends.
//!
//! The loop that owns an engine tells it by itself, once in each turn. So a loop that hangs misses the
//! watchdog, whatever other threads still do.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;

/// How often the line about where the endpoint stands is made anew.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// What is as good as never.
const FAR: Duration = Duration::from_secs(24 * 3600);

/// The service manager that started this process, or nobody.
#[derive(Debug)]
pub struct Supervisor {
    is_there: bool,
    /// Half the time after which the manager ends a process that is silent.
    ping_period: Option<Duration>,
    ping_at: Instant,
    status_at: Instant,
    status: String,
    is_ready: bool,
    is_stopping: bool,
    has_failed: bool,
}

impl Supervisor {
    /// Nobody is told anything.
    #[must_use]
    pub fn none() -> Self {
        Self {
            is_there: false,
            ping_period: None,
            ping_at: Instant::now(),
            status_at: Instant::now(),
            status: String::new(),
            is_ready: false,
            is_stopping: false,
            has_failed: false,
        }
    }

    /// Whom the environment names: `NOTIFY_SOCKET`, and for the watchdog `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`.
    #[must_use]
    pub fn of_environment() -> Self {
        let is_there = std::env::var_os("NOTIFY_SOCKET").is_some();
        let watchdog = sd_notify::watchdog_enabled().filter(|_| is_there);
        Self {
            is_there,
            ping_period: watchdog.map(|time| time / 2),
            ..Self::none()
        }
    }

    /// Says that the endpoint serves, once; where it stands, if that is news; and that its loop turns,
    /// if it is time to. To be called in each turn of the loop, the first time when it serves.
    pub fn turn(&mut self, status: impl FnOnce() -> String) {
        if !self.is_there {
            return;
        }
        let now = Instant::now();
        let mut news = Vec::new();
        if !std::mem::replace(&mut self.is_ready, true) {
            news.push(NotifyState::Ready);
        }
        if let Some(period) = self.ping_period
            && now >= self.ping_at
        {
            self.ping_at = now + period;
            news.push(NotifyState::Watchdog);
        }
        let mut line = None;
        if now >= self.status_at {
            self.status_at = now + STATUS_PERIOD;
            line = Some(status()).filter(|line| *line != self.status);
        }
        news.extend(line.as_deref().map(NotifyState::Status));
        let told = tell(&news);
        self.status = line.unwrap_or(std::mem::take(&mut self.status));
        self.note(told);
    }

    /// Says that an end in order has begun, once.
    pub fn stopping(&mut self) {
        if self.is_there && !std::mem::replace(&mut self.is_stopping, true) {
            let told = tell(&[NotifyState::Stopping]);
            self.note(told);
        }
    }

    /// When [`Supervisor::turn`] is needed at the latest; far away without a watchdog.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        match self.ping_period {
            Some(_) => self.ping_at,
            None => Instant::now() + FAR,
        }
    }

    /// Nobody can be told that nobody can be told, but the log.
    fn note(&mut self, told: std::io::Result<()>) {
        if let Err(error) = told
            && !std::mem::replace(&mut self.has_failed, true)
        {
            tracing::warn!("the service manager (NOTIFY_SOCKET) cannot be told anything: {error}");
        }
    }
}

fn tell(news: &[NotifyState<'_>]) -> std::io::Result<()> {
    if news.is_empty() {
        return Ok(());
    }
    sd_notify::notify(news)
}
