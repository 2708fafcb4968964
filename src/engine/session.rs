//! Registration, heartbeat and termination of sinks, as the source keeps them.
//!
//! The handshake is the one of `proto/PROTOCOL.md`: announcements on the data connections, then
//! `RegistrationRequest`, `Synchronisation` on each data connection together with the
//! acknowledgement, `RegistrationSuccess`, and its acknowledgement. Every state has a deadline.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Now;
use crate::channel::Peer;
use crate::tree::View;
use crate::wire::message::{ErrorCode, RegistrationRequest, ResumePoint, VERSION};

/// Data connections that have announced themselves and belong to no session yet; more are refused.
pub const ANNOUNCED_MAX: usize = 256;
/// Sinks that a source serves or knows.
pub const SINKS_MAX: usize = 64;
/// How long each state of the handshake may take, in milliseconds. A sink syncs its file system in
/// between, which can take long on a busy disk.
pub const HANDSHAKE_MS: u64 = 60_000;
/// How long an announcement or a request without its announcements is kept, in milliseconds.
pub const ANNOUNCE_MS: u64 = 10_000;
/// How often Synchronisation is repeated, in milliseconds.
pub const SYNCHRONISATION_MS: u64 = 100;

/// Periods of the heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Heartbeat {
    /// A ping is sent after so many milliseconds of silence.
    pub period_ms: u64,
    /// A connection that was silent for so many milliseconds is dead.
    pub dead_after_ms: u64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self {
            period_ms: 5_000,
            dead_after_ms: 15_000,
        }
    }
}

/// One connection, for its heartbeat.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    heard_ms: u64,
    pinged_ms: u64,
}

impl Pulse {
    /// Heard just now.
    #[must_use]
    pub fn new(now: Now) -> Self {
        Self {
            heard_ms: now.ms,
            pinged_ms: now.ms,
        }
    }

    /// Something came.
    pub fn heard(&mut self, now: Now) {
        self.heard_ms = now.ms;
    }

    /// True once a period: a ping is due.
    pub fn ping_due(&mut self, now: Now, heartbeat: Heartbeat) -> bool {
        let due = now.ms >= self.pinged_ms + heartbeat.period_ms;
        if due {
            self.pinged_ms = now.ms;
        }
        due
    }

    /// Nothing came for too long.
    #[must_use]
    pub fn dead(&self, now: Now, heartbeat: Heartbeat) -> bool {
        now.ms >= self.heard_ms + heartbeat.dead_after_ms
    }

    /// When something is to be done.
    #[must_use]
    pub fn deadline(&self, heartbeat: Heartbeat) -> u64 {
        (self.pinged_ms + heartbeat.period_ms).min(self.heard_ms + heartbeat.dead_after_ms)
    }
}

/// Where a session stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its data connections have not all announced themselves yet.
    Announcing {
        /// Given up then.
        deadline_ms: u64,
    },
    /// Synchronisation is being sent on each data connection.
    Synchronising {
        /// When to send the next.
        next_ms: u64,
        /// Given up then.
        deadline_ms: u64,
    },
    /// Changes flow.
    Transfer,
    /// The sink has asked to be let go; what it was sent becomes durable.
    Unregistering,
    /// `ServiceTermination` was sent.
    Terminating,
}

/// One registered sink, or one on its way to be.
#[derive(Debug)]
pub struct Session {
    /// Who it says it is.
    pub sink_id: String,
    /// Its process.
    pub instance: u64,
    /// Its replica.
    pub key: u64,
    /// The session's epoch.
    pub epoch: u64,
    /// Where it stands.
    pub state: State,
    /// Its data connections with their nonces and heartbeat.
    pub data: Vec<(Peer, u64, Pulse)>,
    /// Heartbeat of the command connection.
    pub pulse: Pulse,
    /// Nonces of the request.
    pub nonces: Vec<u64>,
    /// How entries look on its target.
    pub view: Arc<View>,
    /// Where it says that it stands.
    pub resume: Option<ResumePoint>,
}

impl Session {
    /// True while changes flow.
    #[must_use]
    pub fn in_transfer(&self) -> bool {
        self.state == State::Transfer
    }
}

/// All sessions, by the peer of their command connection.
#[derive(Debug, Default)]
pub struct Sessions {
    /// The sessions.
    pub by_command: BTreeMap<Peer, Session>,
    announced: BTreeMap<Peer, (u64, u64)>,
}

impl Sessions {
    /// A data connection has announced itself. False if there are too many of them.
    pub fn announce(&mut self, now: Now, peer: Peer, nonce: u64) -> bool {
        if self.announced.len() >= ANNOUNCED_MAX {
            return false;
        }
        self.announced.insert(peer, (nonce, now.ms + ANNOUNCE_MS));
        true
    }

    /// Checks a request against versions, limits and the sessions there are.
    ///
    /// # Errors
    /// The code and text of the error answer.
    pub fn check(&self, request: &RegistrationRequest) -> Result<(), (ErrorCode, String)> {
        if request.version != VERSION {
            let text = format!(
                "the sink speaks version {} of the protocol, this source speaks {VERSION}: install the same osync on both hosts",
                request.version
            );
            return Err((ErrorCode::Version, text));
        }
        let alive = self
            .by_command
            .values()
            .find(|session| session.sink_id == request.sink_id);
        if alive.is_some_and(|session| session.instance != request.instance) {
            let text = format!(
                "another process is registered as sink {}: stop it, or give this one its own state directory",
                request.sink_id
            );
            return Err((ErrorCode::Duplicate, text));
        }
        if self.by_command.len() >= SINKS_MAX {
            return Err((
                ErrorCode::Busy,
                format!("the source serves {SINKS_MAX} sinks already"),
            ));
        }
        Ok(())
    }

    /// When all places are taken, the session that has waited longest for its data connections: who sends
    /// requests and nothing else must not keep others out.
    #[must_use]
    pub fn place_of_unannounced(&self) -> Option<Peer> {
        if self.by_command.len() < SINKS_MAX {
            return None;
        }
        let waits = |session: &Session| matches!(session.state, State::Announcing { .. });
        let mut sessions = self.by_command.iter();
        sessions
            .find(|(_, session)| waits(session))
            .map(|(peer, _)| *peer)
    }

    /// The session of the same process, which a new request of it replaces.
    #[must_use]
    pub fn of_instance(&self, sink_id: &str, instance: u64) -> Option<Peer> {
        self.by_command
            .iter()
            .find(|(_, session)| session.sink_id == sink_id && session.instance == instance)
            .map(|(peer, _)| *peer)
    }

    /// Gives sessions the data connections that they wait for. Returns those that have all now.
    pub fn gather(&mut self, now: Now) -> Vec<Peer> {
        let mut complete = Vec::new();
        for (&command, session) in &mut self.by_command {
            if !matches!(session.state, State::Announcing { .. }) {
                continue;
            }
            for &nonce in &session.nonces {
                let known = session.data.iter().any(|(_, n, _)| *n == nonce);
                let peer = self
                    .announced
                    .iter()
                    .find(|(_, (n, _))| *n == nonce)
                    .map(|(peer, _)| *peer);
                if let (false, Some(peer)) = (known, peer) {
                    self.announced.remove(&peer);
                    session.data.push((peer, nonce, Pulse::new(now)));
                }
            }
            if session.data.len() == session.nonces.len() {
                session.state = State::Synchronising {
                    next_ms: now.ms,
                    deadline_ms: now.ms + HANDSHAKE_MS,
                };
                complete.push(command);
            }
        }
        complete
    }

    /// The session that a data connection belongs to.
    #[must_use]
    pub fn of_data(&self, peer: Peer) -> Option<Peer> {
        self.by_command
            .iter()
            .find(|(_, session)| session.data.iter().any(|(data, ..)| *data == peer))
            .map(|(command, _)| *command)
    }

    /// Forgets a data connection that belongs to no session.
    pub fn forget_announced(&mut self, peer: Peer) {
        self.announced.remove(&peer);
    }

    /// Announcements that nobody has claimed in time.
    pub fn stale_announcements(&mut self, now: Now) -> Vec<Peer> {
        let stale: Vec<Peer> = self
            .announced
            .iter()
            .filter(|(_, (_, deadline))| *deadline <= now.ms)
            .map(|(peer, _)| *peer)
            .collect();
        for peer in &stale {
            self.announced.remove(peer);
        }
        stale
    }

    /// When something is to be done.
    #[must_use]
    pub fn deadline(&self, heartbeat: Heartbeat) -> Option<u64> {
        let sessions = self.by_command.values().flat_map(|session| {
            let own = match session.state {
                State::Announcing { deadline_ms } => deadline_ms,
                State::Synchronising {
                    next_ms,
                    deadline_ms,
                } => next_ms.min(deadline_ms),
                _ => u64::MAX,
            };
            let data = session
                .data
                .iter()
                .map(|(_, _, pulse)| pulse.deadline(heartbeat))
                .min();
            [
                own,
                session.pulse.deadline(heartbeat),
                data.unwrap_or(u64::MAX),
            ]
        });
        sessions
            .chain(self.announced.values().map(|(_, deadline)| *deadline))
            .min()
    }
}
