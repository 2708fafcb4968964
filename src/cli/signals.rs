//! INT and TERM: the first ends in order, the second at once.

use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::error::{Error, exit};

/// Tells the endpoints of this process to end.
#[derive(Clone)]
pub(super) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    /// Listens for signals from now on, on a thread of its own, so that the second one works whatever
    /// the endpoints are busy with.
    pub(super) fn on_signals() -> Result<Self, Error> {
        let stop = Self(Arc::new(watch::Sender::new(false)));
        let told = stop.clone();
        let failed = |error| Error::Unexpected(format!("cannot listen for signals: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        let entered = runtime.enter();
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        drop(entered);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    either(&mut interrupt, &mut terminate).await;
                    tracing::info!("terminating; a second signal ends at once");
                    told.tell();
                    either(&mut interrupt, &mut terminate).await;
                    std::process::exit(exit::TEMPORARY.into());
                });
            })
            .map_err(failed)?;
        Ok(stop)
    }

    /// Tells nobody by itself.
    #[cfg(test)]
    pub(super) fn unattended() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    /// Tells them.
    pub(super) fn tell(&self) {
        self.0.send_replace(true);
    }

    /// Turns true once they are told.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.subscribe()
    }
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
