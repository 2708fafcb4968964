//! INT, TERM and HUP: the first ends in order, the second at once.
//!
//! HUP says that the terminal is gone. Whoever starts a daemon under `nohup` has it ignored, and then it
//! stays ignored.

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
        let mut signals = Signals {
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            hangup: if is_ignored(libc::SIGHUP) {
                None
            } else {
                Some(signal(SignalKind::hangup()).map_err(failed)?)
            },
        };
        drop(entered);
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                runtime.block_on(async {
                    signals.next().await;
                    tracing::info!("terminating; a second signal ends at once");
                    told.tell();
                    signals.next().await;
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

/// What ends this process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// None if it was ignored before.
    hangup: Option<Signal>,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = hung_up(&mut self.hangup) => {}
        }
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

/// True if this process was started with a signal ignored.
fn is_ignored(signal: libc::c_int) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action this only writes the present one to where it is told, and all bits of
    // that are zero if it does not.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}
