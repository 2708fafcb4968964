//! The sink machine: registration, order of application, outcomes, marks and credit.

mod order;
mod window;

use super::Now;
use super::session::{Heartbeat, Pulse};
use crate::tree::{Filter, OwnerTables, TargetLimits};
use crate::wire::message::{
    Change, Command, Credit, ENTRY_COST, ErrorAnswer, ErrorCode, Lane, Outcome,
    RegistrationRequest, ResumePoint, ToSink, ToSource, VERSION,
};
use order::Order;
use window::Window;

/// Settings of the sink machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Random per state directory.
    pub sink_id: String,
    /// Random per process.
    pub instance: u64,
    /// Credit granted ahead of what has been applied when a session begins.
    pub window: Credit,
    /// As far as it may grow, where the link needs it.
    pub window_max: Credit,
    /// Changes that may be under way at once.
    pub applying_max: usize,
    /// Heartbeat of all connections.
    pub heartbeat: Heartbeat,
    /// What the target cannot hold.
    pub limits: TargetLimits,
    /// The users and groups of this host, if owners are to be matched by name.
    pub owners: Option<OwnerTables>,
    /// Shortest time between two syncs while changes come, in milliseconds; a fifth of it once all are applied.
    /// A slow file system lengthens both.
    pub sync_interval_ms: u64,
}

/// What the sink keeps in its state directory. It saves time and proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// The source of the last session.
    pub source_id: String,
    /// The last session.
    pub epoch: u64,
    /// Everything up to this number is durable.
    pub durable: u64,
    /// See [`ResumePoint::exceptions`].
    pub exceptions: Vec<u64>,
    /// See [`ResumePoint::known_from`].
    pub known_from: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The command connection and all data connections are there; fresh random nonces for the latter.
    Connected(Vec<u64>),
    /// A message on the command channel.
    Command(Command),
    /// A message on this data connection.
    Data(usize, ToSink),
    /// Bytes that are no message: why.
    Malformed(String),
    /// A connection is lost.
    Lost(String),
    /// A change was applied.
    Applied(u64, Outcome),
    /// [`Action::Sync`] has ended, after so many milliseconds.
    Synced {
        /// True if everything applied before it is durable and recorded.
        ok: bool,
        /// How long it took.
        took_ms: u64,
    },
    /// A signal asks for the end.
    Stop,
    /// Time has passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Drop all connections and make them anew, after a delay that grows with the attempts.
    Connect {
        /// Attempts in a row that failed.
        attempt: u32,
    },
    /// Send on the command channel.
    SendCommand(Command),
    /// Send on this data connection.
    SendData(usize, ToSource),
    /// Apply this; answer with [`Event::Applied`].
    Apply {
        /// Its number.
        number: u64,
        /// What it was sent for.
        lane: Lane,
        /// What to do.
        change: Change,
    },
    /// Free the stages of all streams: the session they belong to is over.
    FreeStages,
    /// From now on, leave alone what this filter excludes.
    Filter(Filter),
    /// Make everything applied so far durable, record the standing, answer with [`Event::Synced`].
    Sync {
        /// What to record once the sync has succeeded.
        standing: Standing,
        /// Nothing is being applied: the stage can be put away.
        tidy: bool,
    },
    /// The operator has agreed to the removals that the brake holds back.
    ReleaseBrake,
    /// Tell the operator.
    Log {
        /// A human must act.
        urgent: bool,
        /// What happened.
        text: String,
    },
    /// The sink has ended: in order, or because it was refused for good.
    Exit {
        /// Why it was refused; `None` after an orderly end.
        refused: Option<ErrorAnswer>,
    },
}

/// Syncs in an interval of which each finds all that came applied.
const IDLE_SYNCS: u64 = 5;

/// Such a sync begins so many times the duration of the last one after it, so that small changes without end
/// do not keep the disk busy.
const SYNC_REST: u64 = 10;

/// How long a sync that has failed is not tried again, in milliseconds.
const SYNC_RETRY_MS: u64 = 1_000;

/// How long the handshake may take, in milliseconds.
const HANDSHAKE_MS: u64 = 60_000;
/// How long an orderly end waits for the source's agreement, in milliseconds.
const LEAVE_MS: u64 = 30_000;
/// What a source may send beyond the window: messages that give up streams are not held back.
const SLACK: Credit = Credit {
    messages: 64,
    bytes: 64 * ENTRY_COST as u64,
};
/// Sessions in a row that ended with nonsense and make the next pause longer; further ones do not.
const NONSENSE_MAX: u32 = 16;
/// Outcomes in one acknowledgement.
const OUTCOMES_MAX: usize = 256;
/// Names in the answers and places in the outcomes of one acknowledgement; a name has at most 255
/// bytes, and a header 1 MiB.
const NAMES_MAX: usize = 2048;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Waiting for [`Event::Connected`].
    Connecting,
    /// The request was sent.
    Registering { deadline_ms: u64 },
    /// Success was sent, its acknowledgement is awaited; changes may come before it.
    Confirming { since_ms: u64, deadline_ms: u64 },
    /// Changes flow.
    Transfer,
    /// The sink asked to be let go.
    Leaving { deadline_ms: u64, agreed: bool },
    /// The source ends the service.
    Terminating,
}

/// The sink machine.
#[derive(Debug)]
pub struct Sink {
    settings: Settings,
    phase: Phase,
    attempt: u32,
    /// Sessions in a row that ended because of what the source said.
    nonsense: u32,
    /// Heartbeat of the command connection, then of the data connections.
    pulses: Vec<Pulse>,
    seen: Vec<Option<u64>>,
    nonces: Vec<u64>,
    epoch: Option<u64>,
    /// Changes of this session may have come. Its epoch alone would not tell: a source may use one again.
    begun: bool,
    source_id: String,
    /// What the source says that takes part.
    filter: Filter,
    order: Order,
    /// Nothing of an older epoch can take effect any more, and it was synced.
    clean: bool,
    /// The sync under way began when nothing of an older epoch was left to take effect.
    preparing: bool,
    standing: Standing,
    /// The standing was made by this process without a break.
    continuous: bool,
    /// What was applied when the sync under way began, and the standing it will make true.
    syncing: Option<(u64, Standing)>,
    sync_failed: bool,
    synced_to: u64,
    /// When the next sync may begin, while changes come and when all of them are applied.
    sync_after_ms: u64,
    sync_idle_after_ms: u64,
    acknowledged: (u64, u64),
    window: Window,
    granted: Credit,
    stop: bool,
}

impl Sink {
    /// A sink that has just started; its first action is to connect.
    pub fn new(settings: Settings, standing: Standing, out: &mut Vec<Action>) -> Self {
        out.push(Action::Connect { attempt: 0 });
        Self {
            window: Window::new(settings.window, settings.window_max),
            settings,
            phase: Phase::Connecting,
            attempt: 0,
            nonsense: 0,
            pulses: Vec::new(),
            seen: Vec::new(),
            nonces: Vec::new(),
            epoch: None,
            begun: false,
            source_id: String::new(),
            filter: Filter::default(),
            order: Order::default(),
            clean: false,
            preparing: false,
            standing,
            continuous: false,
            syncing: None,
            sync_failed: false,
            synced_to: 0,
            sync_after_ms: 0,
            sync_idle_after_ms: 0,
            acknowledged: (0, 0),
            granted: Credit::default(),
            stop: false,
        }
    }

    /// Takes one event and adds what is to be done.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Connected(nonces) => self.connected(now, nonces, out),
            Event::Command(message) => self.command(now, message, out),
            Event::Data(connection, message) => self.data(now, connection, message, out),
            Event::Malformed(why) => self.distrust(&format!("the source sent {why}"), out),
            Event::Lost(why) => self.reset(&why, out),
            Event::Applied(number, outcome) => self.order.done(number, outcome),
            Event::Synced { ok, took_ms } => self.synced(now, ok, took_ms, out),
            Event::Stop => self.stop(now, out),
            Event::Tick => self.tick(now, out),
        }
    }

    /// Starts what can start and reports what is new, after a batch of events was handled.
    pub fn advance(&mut self, now: Now, out: &mut Vec<Action>) {
        for (number, lane, change) in self.order.start(self.settings.applying_max) {
            out.push(Action::Apply {
                number,
                lane,
                change,
            });
        }
        self.prepare(now, out);
        self.confirm(now, out);
        self.begin_sync(now, out);
        self.acknowledge(out);
        self.end(now, out);
    }

    /// When [`Event::Tick`] is needed at the latest.
    #[must_use]
    pub fn deadline(&self) -> u64 {
        let phase = match self.phase {
            Phase::Registering { deadline_ms }
            | Phase::Confirming { deadline_ms, .. }
            | Phase::Leaving { deadline_ms, .. } => deadline_ms,
            _ => u64::MAX,
        };
        let pulses = self
            .pulses
            .iter()
            .map(|pulse| pulse.deadline(self.settings.heartbeat))
            .min();
        // Until what is being applied has ended, there is nothing to wake up for.
        let can_prepare = self.is_preparing() && self.syncing.is_none() && self.order.is_idle();
        let sync = if self.sync_wanted() {
            self.sync_due_ms()
        } else if can_prepare && self.sync_failed {
            self.sync_after_ms
        } else {
            u64::MAX
        };
        phase.min(pulses.unwrap_or(u64::MAX)).min(sync)
    }

    /// True if everything that was applied is durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let all_synced = self.syncing.is_none() && self.order.applied() <= self.synced_to;
        all_synced && self.order.is_idle() && !self.sync_failed
    }

    /// True while changes flow.
    #[must_use]
    pub fn in_transfer(&self) -> bool {
        self.phase == Phase::Transfer
    }

    /// The source has said that the session has begun, and neither side that it is over.
    fn is_confirmed(&self) -> bool {
        matches!(
            self.phase,
            Phase::Transfer | Phase::Leaving { .. } | Phase::Terminating
        )
    }

    // ---- registration ------------------------------------------------------------------------------

    fn connected(&mut self, now: Now, nonces: Vec<u64>, out: &mut Vec<Action>) {
        self.phase = Phase::Registering {
            deadline_ms: now.ms + HANDSHAKE_MS,
        };
        self.pulses = vec![Pulse::new(now); nonces.len() + 1];
        self.seen = vec![None; nonces.len()];
        for (connection, &nonce) in nonces.iter().enumerate() {
            out.push(Action::SendData(connection, ToSource::Announce { nonce }));
        }
        let resume = (self.standing.epoch != 0).then(|| ResumePoint {
            source_id: self.standing.source_id.clone(),
            epoch: self.standing.epoch,
            durable: self.standing.durable,
            exceptions: self.standing.exceptions.clone(),
            known_from: self.standing.known_from,
            continuous: self.continuous,
        });
        out.push(Action::SendCommand(Command::RegistrationRequest(
            RegistrationRequest {
                version: VERSION,
                sink_id: self.settings.sink_id.clone(),
                instance: self.settings.instance,
                nonces: nonces.clone(),
                capabilities: Vec::new(),
                limits: Box::new(self.settings.limits.clone()),
                owners: self.settings.owners.clone().map(Box::new),
                resume,
            },
        )));
        self.nonces = nonces;
    }

    /// Before a session: what is being applied ends, stages are freed, everything is synced (rules 14
    /// and 22).
    fn prepare(&mut self, now: Now, out: &mut Vec<Action>) {
        if !self.is_preparing() || self.syncing.is_some() || !self.order.is_idle() {
            return;
        }
        // One that has failed is not tried again at once.
        if self.sync_failed && now.ms < self.sync_after_ms {
            return;
        }
        out.push(Action::FreeStages);
        self.preparing = true;
        self.start_sync(out);
    }

    fn is_preparing(&self) -> bool {
        let between = matches!(self.phase, Phase::Connecting | Phase::Registering { .. });
        between && !self.clean
    }

    /// Success is said when Synchronisation was seen everywhere and nothing older can take effect.
    fn confirm(&mut self, now: Now, out: &mut Vec<Action>) {
        let Phase::Registering { .. } = self.phase else {
            return;
        };
        let seen = self
            .seen
            .iter()
            .zip(&self.nonces)
            .all(|(seen, nonce)| *seen == Some(*nonce));
        let (true, true, Some(epoch)) = (seen, self.clean, self.epoch) else {
            return;
        };
        self.window = Window::new(self.settings.window, self.settings.window_max);
        self.granted = self.window.size();
        self.begun = false;
        // Nothing is being applied now, and nothing is until the source knows of the success.
        out.push(Action::Filter(self.filter.clone()));
        out.push(Action::SendCommand(Command::RegistrationSuccess {
            epoch,
            credit: self.granted,
        }));
        self.phase = Phase::Confirming {
            since_ms: now.ms,
            deadline_ms: now.ms + HANDSHAKE_MS,
        };
    }

    /// The source has agreed, or sends already. Until then the last session is what a resume point tells of:
    /// if the link is cut now, nothing of this one has taken place.
    fn begin(&mut self, epoch: u64) {
        if std::mem::replace(&mut self.begun, true) {
            return;
        }
        self.order = Order::default();
        self.synced_to = 0;
        self.acknowledged = (0, 0);
        self.continuous = true;
        self.standing = Standing {
            source_id: self.source_id.clone(),
            epoch,
            ..Standing::default()
        };
    }

    fn command(&mut self, now: Now, message: Command, out: &mut Vec<Action>) {
        if let Some(pulse) = self.pulses.first_mut() {
            pulse.heard(now);
        }
        let ours = |epoch: u64| self.epoch == Some(epoch);
        match message {
            Command::RegistrationRequestAcknowledgement {
                epoch,
                source_id,
                filter,
                ..
            } => {
                if matches!(self.phase, Phase::Registering { .. }) {
                    self.epoch = Some(epoch);
                    self.source_id = source_id;
                    self.filter = filter;
                }
            }
            Command::RegistrationSuccessAcknowledgement { epoch } if ours(epoch) => {
                if let Phase::Confirming { since_ms, .. } = self.phase {
                    self.window.answered(now.ms.saturating_sub(since_ms));
                    self.begin(epoch);
                    self.phase = Phase::Transfer;
                    // A source that registers us and then talks nonsense is met with a pause that grows.
                    self.attempt = 1 + self.nonsense;
                    out.push(Action::Log {
                        urgent: false,
                        text: format!("registered, session {epoch:016x}"),
                    });
                }
            }
            Command::UnregisterAcknowledgement { epoch } if ours(epoch) => {
                if let Phase::Leaving { agreed, .. } = &mut self.phase {
                    *agreed = true;
                }
            }
            Command::ServiceTermination { epoch } if ours(epoch) && self.is_confirmed() => {
                self.phase = Phase::Terminating;
            }
            Command::ReleaseBrake { epoch } if ours(epoch) && self.is_confirmed() => {
                out.push(Action::ReleaseBrake);
            }
            Command::Ping { token } => out.push(Action::SendCommand(Command::Pong { token })),
            Command::Pong { token } => self.window.answered(now.ms.saturating_sub(token)),
            Command::Error(error) => self.refused(error, out),
            _ => self.distrust("the source sent a message out of phase", out),
        }
    }

    fn refused(&mut self, error: ErrorAnswer, out: &mut Vec<Action>) {
        match error.code {
            ErrorCode::Version => out.push(Action::Exit {
                refused: Some(error),
            }),
            // A sink that was killed and starts again may come before the source knows that the first
            // is dead, so even the answer that there is another is tried again.
            _ => self.reset(&format!("the source answers: {}", error.message), out),
        }
    }

    /// The source said what no source says: the session is over, and the next one begins later.
    fn distrust(&mut self, why: &str, out: &mut Vec<Action>) {
        let nonsense = (self.nonsense + 1).min(NONSENSE_MAX);
        self.reset(why, out);
        self.nonsense = nonsense;
    }

    /// The session is over; another is tried for, as long as it takes.
    fn reset(&mut self, why: &str, out: &mut Vec<Action>) {
        if self.phase == Phase::Connecting {
            return;
        }
        let ending = matches!(self.phase, Phase::Leaving { .. } | Phase::Terminating);
        if self.epoch.is_some() {
            let text = format!("{why}: the session is over, connecting again");
            out.push(Action::Log {
                urgent: false,
                text,
            });
        }
        if self.is_confirmed() {
            self.nonsense = 0;
        }
        self.order.forget_waiting();
        // Nothing is applied while it registers: a sync that takes longer than that serves the next attempt.
        if !matches!(self.phase, Phase::Registering { .. }) {
            self.clean = false;
            self.preparing = false;
        }
        self.epoch = None;
        self.pulses.clear();
        self.phase = Phase::Connecting;
        if ending || self.stop {
            self.stop = true;
            return;
        }
        out.push(Action::Connect {
            attempt: self.attempt,
        });
        self.attempt = self.attempt.saturating_add(1);
    }

    // ---- changes -----------------------------------------------------------------------------------

    fn data(&mut self, now: Now, connection: usize, message: ToSink, out: &mut Vec<Action>) {
        if let Some(pulse) = self.pulses.get_mut(connection + 1) {
            pulse.heard(now);
        }
        match message {
            ToSink::Synchronisation { nonce } => {
                if let Some(seen) = self.seen.get_mut(connection) {
                    *seen = Some(nonce);
                }
            }
            ToSink::Ping { token } => {
                out.push(Action::SendData(connection, ToSource::Pong { token }))
            }
            ToSink::Change {
                epoch,
                number,
                lane,
                change,
            } => {
                let flowing = matches!(
                    self.phase,
                    Phase::Confirming { .. }
                        | Phase::Transfer
                        | Phase::Leaving { .. }
                        | Phase::Terminating
                );
                if !flowing || self.epoch != Some(epoch) {
                    return;
                }
                self.begin(epoch);
                let (freed, cost) = (self.order.freed, change.cost());
                let room = Credit {
                    messages: (self.granted.messages + SLACK.messages) - freed.messages,
                    bytes: (self.granted.bytes + SLACK.bytes) - freed.bytes,
                };
                if !self.order.take(number, lane, change, room) {
                    self.distrust("the source sent a number twice or beyond its credit", out);
                }
                self.window.came(now, cost);
            }
        }
    }

    fn acknowledge(&mut self, out: &mut Vec<Action>) {
        let Some(epoch) = self.epoch.filter(|_| self.is_confirmed()) else {
            return;
        };
        let (applied, freed) = (self.order.applied(), self.order.freed);
        let window = self.window.size();
        let credit = Credit {
            bytes: window.bytes + freed.bytes,
            messages: window.messages + freed.messages,
        };
        let refill = credit.bytes - self.granted.bytes >= window.bytes / 8
            || credit.messages - self.granted.messages >= window.messages / 8;
        let marks = (applied, self.standing.durable);
        let news = self.order.has_outcomes()
            || refill
            || (marks != self.acknowledged && self.worth_telling(marks));
        if !news {
            return;
        }
        loop {
            let outcomes = self.order.take_outcomes(OUTCOMES_MAX, NAMES_MAX);
            let more = self.order.has_outcomes();
            // Marks count only once every outcome they cover was sent.
            let (applied, durable) = if more { self.acknowledged } else { marks };
            out.push(Action::SendData(
                0,
                ToSource::Acknowledgement {
                    epoch,
                    outcomes,
                    applied,
                    durable,
                    credit,
                },
            ));
            if !more {
                break;
            }
        }
        self.acknowledged = marks;
        self.granted = credit;
    }

    /// The durable mark is always told; the applied one when nothing else is on its way to carry it.
    fn worth_telling(&self, marks: (u64, u64)) -> bool {
        marks.1 != self.acknowledged.1 || self.order.is_idle()
    }

    // ---- durability --------------------------------------------------------------------------------

    fn sync_wanted(&self) -> bool {
        self.is_confirmed() && self.syncing.is_none() && self.order.applied() > self.synced_to
    }

    /// When there is nothing more to come for the sync that is wanted, whoever waits for it is not kept waiting
    /// for others.
    fn sync_due_ms(&self) -> u64 {
        match self.order.is_idle() {
            true => self.sync_idle_after_ms,
            false => self.sync_after_ms,
        }
    }

    fn begin_sync(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.sync_wanted() && now.ms >= self.sync_due_ms() {
            self.start_sync(out);
        }
    }

    /// A sync makes durable what was applied when it began, and nothing later (rule 24).
    fn start_sync(&mut self, out: &mut Vec<Action>) {
        let applied = self.order.applied();
        let mut standing = self.standing.clone();
        // Numbers of a session that another process began, or that a sync that failed has ended, say nothing.
        if self.continuous {
            standing.durable = applied.max(standing.durable);
            (standing.known_from, standing.exceptions) = self.order.exceptions(standing.durable);
        }
        out.push(Action::Sync {
            standing: standing.clone(),
            tidy: self.order.is_idle(),
        });
        self.syncing = Some((applied, standing));
    }

    fn synced(&mut self, now: Now, ok: bool, took_ms: u64, out: &mut Vec<Action>) {
        let Some((applied, standing)) = self.syncing.take() else {
            return;
        };
        let interval_ms = self.settings.sync_interval_ms;
        self.sync_after_ms = now.ms + interval_ms.max(2 * took_ms);
        let idle_ms = (interval_ms / IDLE_SYNCS).max(SYNC_REST * took_ms);
        self.sync_idle_after_ms = self.sync_after_ms.min(now.ms + idle_ms);
        if !ok {
            // What was applied may be lost: another session sends it again, with content (rule 24).
            self.sync_failed = true;
            self.preparing = false;
            self.continuous = false;
            self.sync_after_ms = now.ms + SYNC_RETRY_MS.max(2 * took_ms);
            self.sync_idle_after_ms = self.sync_after_ms;
            self.reset("a failed sync", out);
            if self.stop {
                // Nobody knows when it will work again.
                out.push(Action::Exit { refused: None });
            }
            return;
        }
        self.standing = standing;
        self.synced_to = applied;
        if std::mem::take(&mut self.preparing) {
            self.clean = true;
            self.sync_failed = false;
        }
    }

    // ---- the end -----------------------------------------------------------------------------------

    fn stop(&mut self, now: Now, out: &mut Vec<Action>) {
        self.stop = true;
        match (self.phase, self.epoch) {
            (Phase::Transfer, Some(epoch)) => {
                self.phase = Phase::Leaving {
                    deadline_ms: now.ms + LEAVE_MS,
                    agreed: false,
                };
                out.push(Action::SendCommand(Command::Unregister { epoch }));
            }
            (Phase::Leaving { .. } | Phase::Terminating, _) => {}
            _ => self.reset("stopped", out),
        }
    }

    /// An end in agreement: everything applied, durable, told.
    fn end(&mut self, now: Now, out: &mut Vec<Action>) {
        let finished = self.order.is_idle()
            && self.syncing.is_none()
            && self.order.applied() <= self.synced_to;
        let told = self.acknowledged == (self.order.applied(), self.standing.durable);
        match self.phase {
            Phase::Terminating if finished && told => {
                let epoch = self.epoch.unwrap_or_default();
                out.push(Action::SendCommand(
                    Command::ServiceTerminationAcknowledgement { epoch },
                ));
                out.push(Action::Exit { refused: None });
            }
            Phase::Leaving {
                agreed,
                deadline_ms,
            } if (agreed && finished && told) || now.ms >= deadline_ms => {
                out.push(Action::Exit { refused: None });
            }
            // Cut off while ending, or never registered: what was applied is synced before the end.
            Phase::Connecting if self.stop && self.clean => {
                out.push(Action::Exit { refused: None })
            }
            _ => {}
        }
    }

    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let late = match self.phase {
            Phase::Registering { deadline_ms } | Phase::Confirming { deadline_ms, .. } => {
                deadline_ms <= now.ms
            }
            _ => false,
        };
        let heartbeat = self.settings.heartbeat;
        if late {
            return self.reset("the registration took too long", out);
        }
        if self.pulses.iter().any(|pulse| pulse.dead(now, heartbeat)) {
            return self.reset("the source is silent", out);
        }
        if let Some(pulse) = self.pulses.first_mut()
            && pulse.ping_due(now, heartbeat)
        {
            out.push(Action::SendCommand(Command::Ping { token: now.ms }));
        }
        for pulse in self.pulses.iter_mut().skip(1) {
            // The source pings the data connections; this only keeps the deadline moving.
            pulse.ping_due(now, heartbeat);
        }
    }
}

#[cfg(test)]
mod tests;
