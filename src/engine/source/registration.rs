//! Sinks come and go: the source's side of registration, heartbeat and termination.

use std::sync::Arc;

use super::{Action, Source, TERMINATION_MS};
use crate::channel::Peer;
use crate::engine::replica::Replica;
use crate::engine::session::{ANNOUNCE_MS, Pulse, SINKS_MAX, SYNCHRONISATION_MS, Session, State};
use crate::engine::{Now, Since, Stamp};
use crate::report::Phase;
use crate::tree::{OwnerMap, RelPath, View};
use crate::wire::PAYLOAD_BYTES_MAX;
use crate::wire::message::{
    Command, Credit, ErrorAnswer, ErrorCode, RegistrationRequest, Reply, ToSink, ToSource,
};

/// Sinks that have left of which is remembered since when; of others that come back the content is believed
/// to be equal where size and time are.
const LEFT_MAX: usize = 256;

impl Source {
    pub(super) fn command(
        &mut self,
        now: Now,
        peer: Peer,
        message: Command,
        out: &mut Vec<Action>,
    ) {
        if let Some(session) = self.sessions.by_command.get_mut(&peer) {
            session.pulse.heard(now);
        }
        match message {
            Command::RegistrationRequest(request) => {
                self.registration_request(now, peer, request, out)
            }
            Command::RegistrationSuccess { epoch, credit } => {
                self.registration_success(now, peer, epoch, credit, out);
            }
            Command::Unregister { epoch } => self.unregister(peer, epoch, out),
            Command::ServiceTerminationAcknowledgement { epoch } => {
                if self
                    .sessions
                    .by_command
                    .get(&peer)
                    .is_some_and(|session| session.epoch == epoch)
                {
                    self.end_session(now, peer, out);
                }
            }
            Command::Ping { token } => {
                out.push(Action::SendCommand {
                    peer,
                    message: Command::Pong { token },
                });
            }
            Command::Pong { .. } => {}
            Command::Request { id, request } => self.request(now, peer, id, request, out),
            Command::Error(error) => {
                // Strangers have no say in the log.
                if let Some(session) = self.sessions.by_command.get(&peer) {
                    let text = format!("sink {} reports: {}", session.sink_id, legible(&error));
                    out.push(Action::Log {
                        urgent: false,
                        text,
                    });
                }
                self.end_session(now, peer, out);
            }
            other => {
                let name = variant_name(&other);
                refuse(
                    peer,
                    ErrorCode::OutOfPhase,
                    format!("{name} is not for a source"),
                    out,
                );
                self.end_session(now, peer, out);
            }
        }
    }

    pub(super) fn data(&mut self, now: Now, peer: Peer, message: ToSource, out: &mut Vec<Action>) {
        if let ToSource::Announce { nonce } = message {
            if self.sessions.of_data(peer).is_none() && self.sessions.announce(now, peer, nonce) {
                self.gathered(now, out);
            } else {
                out.push(Action::DropData { peer });
            }
            return;
        }
        let Some(command) = self.sessions.of_data(peer) else {
            // A connection that has not announced itself has nothing to say.
            return out.push(Action::DropData { peer });
        };
        let session = self
            .sessions
            .by_command
            .get_mut(&command)
            .expect("the session was just found");
        if let Some((_, _, pulse)) = session.data.iter_mut().find(|(data, ..)| *data == peer) {
            pulse.heard(now);
        }
        let ToSource::Acknowledgement {
            epoch,
            outcomes,
            applied,
            durable,
            credit,
        } = message
        else {
            return;
        };
        let counts = matches!(
            session.state,
            State::Transfer | State::Unregistering | State::Terminating
        );
        if epoch != session.epoch || !counts {
            return;
        }
        let key = session.key;
        let sane = self.replicas.get_mut(&key).is_none_or(|(_, replica)| {
            replica.acknowledged(now, outcomes, applied, durable, credit)
        });
        if let Some((sink, replica)) = self.replicas.get_mut(&key)
            && let Some(text) = replica.tell_shortage(now)
        {
            out.push(Action::Log {
                urgent: replica.shortage(now).is_some(),
                text: format!("sink {sink}: {text}"),
            });
        }
        if !sane {
            refuse(
                command,
                ErrorCode::Malformed,
                "marks or outcomes of numbers never sent".to_owned(),
                out,
            );
            self.end_session(now, command, out);
        }
    }

    // ---- registration ------------------------------------------------------------------------------

    fn registration_request(
        &mut self,
        now: Now,
        peer: Peer,
        request: RegistrationRequest,
        out: &mut Vec<Action>,
    ) {
        if self.phase == Phase::Termination {
            return refuse(
                peer,
                ErrorCode::Terminating,
                "the source is terminating".to_owned(),
                out,
            );
        }
        if self.sessions.by_command.contains_key(&peer) {
            let text = "this connection has registered already".to_owned();
            refuse(peer, ErrorCode::OutOfPhase, text, out);
            return self.end_session(now, peer, out);
        }
        if let Some(oldest) = self.sessions.place_of_unannounced() {
            let text =
                "another took its place before its data connections were announced".to_owned();
            refuse(oldest, ErrorCode::Busy, text, out);
            self.end_session(now, oldest, out);
        }
        if let Err((code, text)) = self.sessions.check(&request) {
            out.push(Action::Log {
                urgent: true,
                text: format!("a sink was refused: {text}"),
            });
            return refuse(peer, code, text, out);
        }
        let view = match self.view_of(&request) {
            Ok(view) => Arc::new(view),
            Err(text) => {
                out.push(Action::Log {
                    urgent: true,
                    text: format!("sink {} was refused: {text}", request.sink_id),
                });
                return refuse(peer, ErrorCode::OutOfPhase, text, out);
            }
        };
        // The same process registers again: what it left behind is over.
        if let Some(older) = self
            .sessions
            .of_instance(&request.sink_id, request.instance)
        {
            self.end_session(now, older, out);
        }
        let Some(key) = self.replica_for(&request.sink_id) else {
            let text = format!("the source knows {SINKS_MAX} sinks already");
            return refuse(peer, ErrorCode::Busy, text, out);
        };
        self.epochs += 1;
        let session = Session {
            sink_id: request.sink_id,
            instance: request.instance,
            key,
            epoch: epoch_of(self.settings.instance, self.epochs),
            state: State::Announcing {
                deadline_ms: now.ms + ANNOUNCE_MS,
            },
            data: Vec::new(),
            pulse: Pulse::new(now),
            nonces: request.nonces,
            view,
            resume: request
                .resume
                .filter(|point| point.source_id == self.settings.source_id),
        };
        self.sessions.by_command.insert(peer, session);
        self.gathered(now, out);
    }

    /// How entries look on the target of this sink.
    fn view_of(&self, request: &RegistrationRequest) -> Result<View, String> {
        let own = self.settings.owners.as_ref();
        let owners = request.owners.as_ref().map(|theirs| match own {
            Ok(own) => Ok(OwnerMap::new(own, theirs)),
            Err(why) => Err(format!("owners cannot be matched by name: {why}")),
        });
        Ok(View::new((*request.limits).clone(), owners.transpose()?))
    }

    fn replica_for(&mut self, sink_id: &str) -> Option<u64> {
        if let Some((key, _)) = self.replicas.iter().find(|(_, (id, _))| id == sink_id) {
            return Some(*key);
        }
        if self.replicas.len() >= SINKS_MAX {
            return None;
        }
        self.next_key += 1;
        let mut replica = Replica::new(self.next_key, self.settings.limits, self.wall.clone());
        replica.set_watches_all(self.watches_all());
        self.replicas
            .insert(self.next_key, (sink_id.to_owned(), replica));
        Some(self.next_key)
    }

    fn gathered(&mut self, now: Now, out: &mut Vec<Action>) {
        for peer in self.sessions.gather(now) {
            let epoch = self.sessions.by_command[&peer].epoch;
            self.synchronise(now, peer, out);
            let message = Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id: self.settings.source_id.clone(),
                payload_bytes_max: PAYLOAD_BYTES_MAX as u64,
                root: self.settings.root_identity.clone(),
                filter: self.settings.filter.clone(),
            };
            out.push(Action::SendCommand { peer, message });
        }
    }

    fn synchronise(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        let Some(session) = self.sessions.by_command.get_mut(&peer) else {
            return;
        };
        if let State::Synchronising { next_ms, .. } = &mut session.state {
            *next_ms = now.ms + SYNCHRONISATION_MS;
            for &(peer, nonce, _) in &session.data {
                out.push(Action::SendData {
                    peer,
                    message: ToSink::Synchronisation { nonce },
                });
            }
        }
    }

    fn registration_success(
        &mut self,
        now: Now,
        peer: Peer,
        epoch: u64,
        credit: Credit,
        out: &mut Vec<Action>,
    ) {
        let session = self.sessions.by_command.get_mut(&peer);
        let Some(session) = session.filter(|session| {
            session.epoch == epoch && matches!(session.state, State::Synchronising { .. })
        }) else {
            return refuse(
                peer,
                ErrorCode::OutOfPhase,
                "no registration waits for success".to_owned(),
                out,
            );
        };
        session.state = State::Transfer;
        let (key, sink_id, resume) = (session.key, session.sink_id.clone(), session.resume.take());
        let peers = session.data.iter().map(|(peer, ..)| *peer).collect();
        let view = Arc::clone(&session.view);
        out.push(Action::SendCommand {
            peer,
            message: Command::RegistrationSuccessAcknowledgement { epoch },
        });
        out.push(Action::Log {
            urgent: false,
            text: format!("sink {sink_id} is registered, session {epoch:016x}"),
        });
        for kind in view.limits().kinds() {
            let consequence = view.limits().consequence(kind);
            let text = format!("limit of sink {sink_id}: {}: {consequence}", kind.word());
            out.push(Action::Log {
                urgent: false,
                text,
            });
        }
        let stamp = self.stamp(now);
        let left = self.settings.carryover.remove(&sink_id);
        let untold_since = self.left.remove(&sink_id);
        if let Some((_, replica)) = self.replicas.get_mut(&key) {
            replica.view = view;
            replica.attach(now, stamp, epoch, peers, credit, resume.as_ref());
            if let Some(left) = left {
                replica.resume(now, stamp, left);
            }
            if let Some(made) = untold_since {
                replica.owe_suspect(RelPath::root(), Stamp { made, ..stamp });
            }
        }
    }

    // ---- the end of sessions -------------------------------------------------------------------------

    /// Ends a session: its connections are dropped, what was not durable waits for the next one.
    pub(super) fn end_session(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        let Some(session) = self.sessions.by_command.remove(&peer) else {
            return;
        };
        out.push(Action::DropCommand { peer });
        for (data, ..) in &session.data {
            out.push(Action::DropData { peer: *data });
        }
        if session.state == State::Unregistering {
            self.remember_left(session.key);
        }
        let mut was_attached = false;
        if let Some((_, replica)) = self.replicas.get_mut(&session.key) {
            replica.detach(now, out);
            was_attached = replica.sessions > 0;
        }
        match session.state {
            // It asked to be let go, and nothing is owed to it.
            State::Unregistering => {
                self.drop_replica(session.key, out);
                out.push(Action::Log {
                    urgent: false,
                    text: format!("sink {} has left", session.sink_id),
                });
            }
            State::Terminating => {}
            // It was never a sink: nobody waits for it, and it takes nobody's place.
            State::Announcing { .. } | State::Synchronising { .. } if !was_attached => {
                self.drop_replica(session.key, out);
            }
            _ => {
                let text = format!(
                    "the session with sink {} is over; its changes are kept",
                    session.sink_id
                );
                out.push(Action::Log {
                    urgent: false,
                    text,
                });
            }
        }
    }

    fn drop_replica(&mut self, key: u64, out: &mut Vec<Action>) {
        if let Some((_, replica)) = self.replicas.remove(&key) {
            replica.close(out);
        }
        out.push(Action::DropSpilled { key });
    }

    /// Nothing more is collected for a sink that leaves. Since when it has not been told everything is all that
    /// is kept of it, so that it is not trusted by size and time when it is back (rule 21).
    fn remember_left(&mut self, key: u64) {
        let Some((sink, replica)) = self.replicas.get(&key) else {
            return;
        };
        let problems = replica.ledger.iter().map(|(_, problem)| problem.open_since);
        let untold = problems
            .chain(replica.ledger.unlisted_since())
            .chain(replica.oldest().map(|stamp| stamp.made))
            .fold(Since::Ms(self.heard_until_ms()), Since::min);
        self.left.insert(sink.clone(), untold);
        if self.left.len() > LEFT_MAX {
            let longest = self.left.iter().min_by_key(|(_, since)| **since);
            let longest = longest.map(|(sink, _)| sink.clone());
            if let Some(sink) = longest {
                self.left.remove(&sink);
            }
        }
    }

    fn unregister(&mut self, peer: Peer, epoch: u64, out: &mut Vec<Action>) {
        let Some(session) = self
            .sessions
            .by_command
            .get_mut(&peer)
            .filter(|session| session.epoch == epoch)
        else {
            return refuse(
                peer,
                ErrorCode::OutOfPhase,
                "no such session".to_owned(),
                out,
            );
        };
        session.state = State::Unregistering;
        out.push(Action::SendCommand {
            peer,
            message: Command::UnregisterAcknowledgement { epoch },
        });
        if let Some((_, replica)) = self.replicas.get_mut(&session.key) {
            replica.quiet = true;
        }
    }

    pub(super) fn command_gone(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        self.end_session(now, peer, out);
        self.flushes.retain(|flush| flush.peer != peer);
        self.stopping.retain(|(waiting, _)| *waiting != peer);
    }

    pub(super) fn data_gone(&mut self, now: Now, peer: Peer, out: &mut Vec<Action>) {
        self.sessions.forget_announced(peer);
        if let Some(command) = self.sessions.of_data(peer) {
            self.end_session(now, command, out);
        }
    }

    pub(super) fn malformed_command(
        &mut self,
        now: Now,
        peer: Peer,
        why: String,
        out: &mut Vec<Action>,
    ) {
        refuse(peer, ErrorCode::Malformed, why, out);
        self.end_session(now, peer, out);
    }

    pub(super) fn malformed_data(
        &mut self,
        now: Now,
        peer: Peer,
        why: &str,
        out: &mut Vec<Action>,
    ) {
        if let Some(command) = self.sessions.of_data(peer) {
            refuse(command, ErrorCode::Malformed, why.to_owned(), out);
            self.end_session(now, command, out);
        }
        self.sessions.forget_announced(peer);
        out.push(Action::DropData { peer });
    }

    // ---- time --------------------------------------------------------------------------------------

    pub(super) fn tick_sessions(&mut self, now: Now, out: &mut Vec<Action>) {
        for peer in self.sessions.stale_announcements(now) {
            out.push(Action::DropData { peer });
        }
        let heartbeat = self.settings.heartbeat;
        let mut over = Vec::new();
        let mut due = Vec::new();
        for (&peer, session) in &mut self.sessions.by_command {
            let late = match session.state {
                State::Announcing { deadline_ms } | State::Synchronising { deadline_ms, .. } => {
                    deadline_ms <= now.ms
                }
                _ => false,
            };
            let silent = session.pulse.dead(now, heartbeat)
                || session
                    .data
                    .iter()
                    .any(|(_, _, pulse)| pulse.dead(now, heartbeat));
            if late || silent {
                over.push((peer, late));
                continue;
            }
            if matches!(session.state, State::Synchronising { next_ms, .. } if next_ms <= now.ms) {
                due.push(peer);
            }
            if session.pulse.ping_due(now, heartbeat) {
                out.push(Action::SendCommand {
                    peer,
                    message: Command::Ping { token: now.ms },
                });
            }
            for (data, _, pulse) in &mut session.data {
                if pulse.ping_due(now, heartbeat) {
                    out.push(Action::SendData {
                        peer: *data,
                        message: ToSink::Ping { token: now.ms },
                    });
                }
            }
        }
        for peer in due {
            self.synchronise(now, peer, out);
        }
        for (peer, late) in over {
            if late {
                refuse(
                    peer,
                    ErrorCode::Timeout,
                    "the registration took too long".to_owned(),
                    out,
                );
            }
            self.end_session(now, peer, out);
        }
    }

    // ---- the end of the service ----------------------------------------------------------------------

    /// Begins the termination: nothing new is handed out, what was sent becomes durable.
    pub(super) fn stop(&mut self, now: Now, asked_by: Option<(Peer, u64)>, out: &mut Vec<Action>) {
        self.stopping.extend(asked_by);
        if self.phase != Phase::Termination {
            self.phase = Phase::Termination;
            self.terminate_by_ms = now.ms + TERMINATION_MS;
            out.push(Action::Log {
                urgent: false,
                text: "terminating".to_owned(),
            });
        }
    }

    /// When the termination takes its next step, if nobody answers: the service ends for the sinks, then
    /// without them.
    pub(super) fn next_of_termination(&self) -> u64 {
        let mut sessions = self.sessions.by_command.values();
        match sessions.any(Session::in_transfer) {
            true => self.terminate_by_ms,
            false => self.terminate_by_ms + TERMINATION_MS,
        }
    }

    pub(super) fn terminate(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.phase != Phase::Termination {
            return;
        }
        let is_late = now.ms >= self.terminate_by_ms || self.paused || self.halted.is_some();
        for (&peer, session) in &mut self.sessions.by_command {
            // What waits for room would keep everybody waiting.
            let drained = self
                .replicas
                .get(&session.key)
                .is_none_or(|(_, replica)| replica.drained() || replica.shortage(now).is_some());
            if session.state == State::Transfer && (drained || is_late) {
                session.state = State::Terminating;
                let message = Command::ServiceTermination {
                    epoch: session.epoch,
                };
                out.push(Action::SendCommand { peer, message });
            }
        }
        let waiting = self.sessions.by_command.values().any(|session| {
            matches!(
                session.state,
                State::Transfer | State::Terminating | State::Unregistering
            )
        });
        if !waiting || now.ms >= self.terminate_by_ms + TERMINATION_MS {
            for (peer, id) in std::mem::take(&mut self.stopping) {
                out.push(Action::SendCommand {
                    peer,
                    message: Command::Reply {
                        id,
                        reply: Reply::Done,
                    },
                });
            }
            out.push(Action::Exit);
        }
    }
}

/// Epochs of one process never repeat, and two processes have different ones (splitmix64).
fn epoch_of(instance: u64, count: u64) -> u64 {
    let mut z = instance.wrapping_add(count.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

pub(super) fn refuse(peer: Peer, code: ErrorCode, message: String, out: &mut Vec<Action>) {
    out.push(Action::SendCommand {
        peer,
        message: Command::Error(ErrorAnswer { code, message }),
    });
}

/// What a peer says, fit for a log: on one line, and not long.
fn legible(error: &ErrorAnswer) -> String {
    const CHARS_MAX: usize = 256;
    let start: String = error.message.chars().take(CHARS_MAX).collect();
    start.escape_debug().to_string()
}

fn variant_name(message: &Command) -> String {
    let text = format!("{message:?}");
    text.split([' ', '(', '{'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests;
