//! What operators ask, and the reports they get.

use std::collections::BTreeMap;

use super::{Action, Source};
use crate::channel::Peer;
use crate::engine::carryover::Carryover;
use crate::engine::replica::Replica;
use crate::engine::session::State;
use crate::engine::throttle::Throttle;
use crate::engine::walk::Rescan;
use crate::engine::{Now, Since, Stamp, Ticket};
use crate::report::{
    EventQueue, Limit, Phase, Problem, ProblemsReport, QueueReport, RateLimits, SinkQueue,
    SinkStatus, SinkTransfer, Status, TransferReport,
};
use crate::tree::{LimitKind, RelPath};
use crate::wire::HEADER_BYTES_MAX;
use crate::wire::message::{
    Command, ENTRIES_MAX, ErrorAnswer, ErrorCode, FlushResult, Reply, Request,
};

/// Operators that wait at once for a flush, and as many for the end of the service; more are refused.
const WAITING_MAX: usize = 64;

/// An operator who waits for everything that happened before.
#[derive(Debug)]
pub(super) struct Flush {
    pub(super) peer: Peer,
    id: u64,
    pub(super) deadline_ms: u64,
    /// The barrier asked for, until it has passed.
    barrier: Option<Ticket>,
    /// Everything up to here counts.
    pos: u64,
}

impl Source {
    pub(super) fn request(
        &mut self,
        now: Now,
        peer: Peer,
        id: u64,
        request: Request,
        out: &mut Vec<Action>,
    ) {
        let reply = match request {
            Request::Status => Reply::Status(Box::new(self.status(now))),
            Request::ReportQueue => Reply::Queue(Box::new(self.queue_report(now))),
            Request::ReportTransfer => Reply::Transfer(Box::new(self.transfer_report(now))),
            Request::ReportProblems => Reply::Problems(Box::new(self.problems_report(now))),
            Request::Flush { timeout_ms } => return self.flush(now, peer, id, timeout_ms, out),
            Request::Pause => {
                self.paused = true;
                Reply::Done
            }
            Request::Limit(limits) => {
                self.throttle = Throttle::new(now.ms, limits);
                Reply::Done
            }
            Request::Resume { accept } if self.halted.is_some() => {
                self.paused = false;
                return out.push(Action::Reopen { peer, id, accept });
            }
            Request::Resume { accept } => self.resume(now, accept, out),
            Request::Rescan { path } if self.settings.filter.excludes(&path, true) => {
                self.refuse_excluded(&path)
            }
            Request::Rescan { path } => {
                let stamp = self.stamp(now);
                for (_, replica) in self.replicas.values_mut() {
                    replica.owe(path.clone(), Rescan::compare(stamp));
                }
                Reply::Done
            }
            Request::Enqueue { paths } => match self.first_excluded(&paths) {
                Some(path) => self.refuse_excluded(path),
                None => {
                    self.enqueue(now, &paths);
                    Reply::Done
                }
            },
            Request::Stop if self.stopping.len() >= WAITING_MAX => {
                busy(format!("{WAITING_MAX} wait for the end already"))
            }
            Request::Stop => return self.stop(now, Some((peer, id)), out),
        };
        out.push(Action::SendCommand {
            peer,
            message: Command::Reply { id, reply },
        });
    }

    fn enqueue(&mut self, now: Now, paths: &[RelPath]) {
        let stamp = self.stamp(now);
        for (_, replica) in self.replicas.values_mut() {
            for path in paths {
                replica.enqueue(now, stamp, path.clone());
            }
        }
    }

    /// The first path at which nothing takes part, whatever is there.
    fn first_excluded<'a>(&self, paths: &'a [RelPath]) -> Option<&'a RelPath> {
        let filter = &self.settings.filter;
        paths.iter().find(|path| filter.excludes_all(path))
    }

    fn refuse_excluded(&self, path: &RelPath) -> Reply {
        let rule = self.settings.filter.why(path, true);
        let rule = rule.map(|rule| format!(" by the rule '{rule}'"));
        Reply::Refused(ErrorAnswer {
            code: ErrorCode::Excluded,
            message: format!("'{path}' is excluded{}", rule.unwrap_or_default()),
        })
    }

    fn resume(&mut self, now: Now, accept: bool, out: &mut Vec<Action>) -> Reply {
        self.paused = false;
        if !accept {
            return self.resumed();
        }
        for (&peer, session) in &self.sessions.by_command {
            let Some((_, replica)) = self.replicas.get_mut(&session.key) else {
                continue;
            };
            if session.in_transfer() && replica.ledger.halted() > 0 {
                replica.ledger.release(now);
                let message = Command::ReleaseBrake {
                    epoch: session.epoch,
                };
                out.push(Action::SendCommand { peer, message });
            }
        }
        Reply::Done
    }

    fn resumed(&self) -> Reply {
        let held: u64 = self.replicas.values().map(|(_, r)| r.ledger.halted()).sum();
        match held {
            0 => Reply::Done,
            _ => Reply::Refused(ErrorAnswer {
                code: ErrorCode::OutOfPhase,
                message: format!(
                    "changes flow, but {held} removals are held back: look at 'osync report problems', and \
                     agree to them with 'osync resume --accept'"
                ),
            }),
        }
    }

    // ---- flush -------------------------------------------------------------------------------------

    fn flush(&mut self, now: Now, peer: Peer, id: u64, timeout_ms: u64, out: &mut Vec<Action>) {
        if self.flushes.len() >= WAITING_MAX {
            let reply = busy(format!("{WAITING_MAX} flushes wait already"));
            return out.push(Action::SendCommand {
                peer,
                message: Command::Reply { id, reply },
            });
        }
        self.next_ticket += 1;
        let ticket = Ticket(super::ARMING << 40 | self.next_ticket);
        let deadline_ms = now.ms.saturating_add(timeout_ms);
        self.flushes.push(Flush {
            peer,
            id,
            deadline_ms,
            barrier: Some(ticket),
            pos: 0,
        });
        out.push(Action::Barrier { ticket });
    }

    /// Every event before the flush has been read: what it waits for is everything up to now.
    pub(super) fn flush_barrier_passed(&mut self, now: Now, ticket: Ticket, out: &mut Vec<Action>) {
        let mut given_up = Vec::new();
        self.bindings.expire(
            Now {
                ms: u64::MAX,
                ..now
            },
            &mut given_up,
        );
        for event in given_up {
            self.path_event(now, event, out);
        }
        if self.missed {
            // What it asks for will not come.
            let mut flushes = self.flushes.iter_mut();
            if let Some(flush) = flushes.find(|flush| flush.barrier == Some(ticket)) {
                flush.deadline_ms = now.ms;
            }
            return;
        }
        self.rewalk_unwatched(now, out);
        let pos = self.pos;
        for (_, replica) in self.replicas.values_mut() {
            replica.hurry(pos);
        }
        for flush in self
            .flushes
            .iter_mut()
            .filter(|flush| flush.barrier == Some(ticket))
        {
            flush.barrier = None;
            flush.pos = pos;
        }
    }

    pub(super) fn answer_flushes(&mut self, now: Now, out: &mut Vec<Action>) {
        for flush in std::mem::take(&mut self.flushes) {
            let waiting_for = self.waiting_for(&flush);
            if waiting_for.is_some() && now.ms < flush.deadline_ms {
                self.flushes.push(flush);
                continue;
            }
            let problems = self
                .replicas
                .values()
                .map(|(_, replica)| replica.ledger.len())
                .sum();
            let complete = waiting_for.is_none();
            let result = FlushResult {
                complete,
                problems,
                waiting_for: waiting_for.unwrap_or_default(),
                limits: self.losses(),
            };
            let message = Command::Reply {
                id: flush.id,
                reply: Reply::Flush(result),
            };
            out.push(Action::SendCommand {
                peer: flush.peer,
                message,
            });
        }
    }

    /// What all targets together cannot hold of what the source has.
    fn losses(&self) -> Vec<Limit> {
        let mut all: BTreeMap<LimitKind, Limit> = BTreeMap::new();
        for limit in self.replicas.values().flat_map(|(_, r)| r.limits()) {
            let Some(entries) = limit.entries.filter(|&entries| entries > 0) else {
                continue;
            };
            match all.get_mut(&limit.kind) {
                Some(known) => known.entries = known.entries.map(|known| known + entries),
                None => drop(all.insert(limit.kind, limit)),
            }
        }
        all.into_values().collect()
    }

    fn waiting_for(&self, flush: &Flush) -> Option<String> {
        if flush.barrier.is_some() && self.missed {
            return Some(
                "the next start: the source ends, and takes no changes any more".to_owned(),
            );
        }
        if flush.barrier.is_some() {
            return Some("events that wait in the kernel".to_owned());
        }
        if let Some(why) = &self.halted {
            return Some(format!("the operator: {why}"));
        }
        if self.replicas.is_empty() {
            return Some("a sink: none is registered".to_owned());
        }
        let late = self
            .replicas
            .values()
            .find(|(_, replica)| !replica.flushed(flush.pos));
        late.map(|(sink, replica)| match &replica.link {
            None => format!("sink {sink}, which is away"),
            Some(_) => format!("sink {sink}, with {} entries pending", replica.pending()),
        })
    }

    /// True if every sink equals the source as far as the source can know, and there is one. With
    /// directories that have no watch the source cannot know.
    #[must_use]
    pub fn converged(&self) -> bool {
        !self.replicas.is_empty()
            && self.sees_all()
            && self.replicas.values().all(|(_, r)| r.converged())
    }

    fn sees_all(&self) -> bool {
        // Half of a rename that was read says that something has changed, and not yet what.
        let knows_all = self.bindings.deadline().is_none();
        self.halted.is_none() && !self.missed && knows_all && self.watches_all()
    }

    /// What each sink that was registered with this process has for good, by sink id, for the state directory.
    #[must_use]
    pub fn carryover(&self, now: Now) -> BTreeMap<String, Carryover> {
        let sinks = self.replicas.values();
        let sinks = sinks.filter(|(_, replica)| replica.sessions > 0);
        let left = sinks.map(|(sink, replica)| (sink.clone(), self.carryover_of(now, replica)));
        left.collect()
    }

    /// Up to when everything that has changed was heard of, by [`Now::ms`]: in directories without a watch,
    /// up to the walk before.
    pub(super) fn heard_until_ms(&self) -> u64 {
        let more = (self.unwatched_more > 0).then_some(&self.unwatched_more_since_ms);
        let unwatched = self.unwatched.values().chain(more).min();
        unwatched.map_or(self.queue_empty_ms, |&since_ms| {
            since_ms.min(self.queue_empty_ms)
        })
    }

    fn carryover_of(&self, now: Now, replica: &Replica) -> Carryover {
        let mut left = replica.carryover(now, self.heard_until_ms());
        // What waits was made before it was heard of, even before this process. What may be of any age (a
        // directory in the place of another) is not said here, or the next process would send everything.
        let made = replica.oldest().map(|stamp| stamp.made);
        if let Some(made) = made.filter(|made| *made != Since::Ever) {
            left.durable_until = left.durable_until.min(self.wall.earliest(made));
        }
        left
    }

    // ---- reports -----------------------------------------------------------------------------------

    fn events(&self) -> EventQueue {
        EventQueue {
            bytes: self.fill.0,
            fill: self.fill.1,
            warning: self.settings.warning,
            critical: self.settings.critical,
            overflows: self.overflows,
            watched_dirs: self.bindings.len() as u64,
            unwatched_dirs: self.unwatched.len() as u64 + self.unwatched_more,
        }
    }

    fn phase_of(&self, key: u64) -> Phase {
        let session = self
            .sessions
            .by_command
            .values()
            .find(|session| session.key == key);
        match session.map(|session| &session.state) {
            Some(State::Transfer) => Phase::Transfer,
            Some(State::Unregistering | State::Terminating) => Phase::Termination,
            _ => Phase::Initialisation,
        }
    }

    /// What the backlog may use in a second now.
    #[must_use]
    pub fn rate_limits(&self) -> RateLimits {
        self.throttle.limits()
    }

    /// Where everything stands.
    #[must_use]
    pub fn status(&self, now: Now) -> Status {
        let sinks = self
            .replicas
            .iter()
            .map(|(&key, (sink, replica))| SinkStatus {
                sink: sink.clone(),
                phase: self.phase_of(key),
                converged: replica.converged() && self.sees_all(),
                settled: replica.holds_all_it_can() && self.sees_all(),
                limits: replica.limits(),
                lag_ms: age(now, replica.oldest()),
                pending_entries: replica.pending(),
                problems: replica.ledger.len(),
                halted: replica.ledger.halted(),
                rate: replica.applied_meter.rate(now.ms, 10),
                eta_ms: replica.eta_ms(now),
                full: replica.shortage(now).is_some(),
                shortage: replica.shortage(now),
            });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            root: self.settings.root.clone(),
            paused: self.paused,
            rate_limits: self.rate_limits(),
            halted: self.halted.clone(),
            phase: self.phase,
            uptime_ms: now.ms - self.started_ms,
            events: self.events(),
            limits: self.settings.limits_of_source.clone(),
            audit: self
                .audit
                .status(self.replicas.values().map(|(_, r)| r.audit_found).sum()),
            mounts_not_entered: self.mounts_not_entered.clone(),
            sinks: sinks.collect(),
        }
    }

    /// What waits.
    #[must_use]
    pub fn queue_report(&self, now: Now) -> QueueReport {
        let sinks = self.replicas.values().map(|(sink, replica)| SinkQueue {
            sink: sink.clone(),
            ..replica.queue_report(now)
        });
        QueueReport {
            events: self.events(),
            sinks: sinks.collect(),
        }
    }

    /// What was sent.
    #[must_use]
    pub fn transfer_report(&self, now: Now) -> TransferReport {
        let sinks = self.replicas.values().map(|(sink, replica)| SinkTransfer {
            sink: sink.clone(),
            ..replica.transfer_report(now)
        });
        TransferReport {
            sinks: sinks.collect(),
        }
    }

    /// What cannot be replicated.
    #[must_use]
    pub fn problems_report(&self, now: Now) -> ProblemsReport {
        let all = self.replicas.values().flat_map(|(sink, replica)| {
            replica.ledger.iter().map(move |(path, problem)| Problem {
                sink: sink.clone(),
                path: path.clone(),
                side: problem.side.word().to_owned(),
                operation: problem.operation.clone(),
                errno: problem.errno,
                reason: reason(problem.halted, problem.errno, &problem.operation),
                since_ms: now.ms.saturating_sub(problem.since_ms),
                tries: problem.tries,
            })
        });
        let total = self
            .replicas
            .values()
            .map(|(_, replica)| replica.ledger.len())
            .sum();
        ProblemsReport {
            problems: as_many_as_fit(all),
            total,
        }
    }
}

fn busy(message: String) -> Reply {
    Reply::Refused(ErrorAnswer {
        code: ErrorCode::Busy,
        message,
    })
}

fn age(now: Now, stamp: Option<Stamp>) -> Option<u64> {
    stamp.map(|stamp| now.ms.saturating_sub(stamp.since_ms))
}

/// The first problems, as many as fit into a message.
fn as_many_as_fit(problems: impl Iterator<Item = Problem>) -> Vec<Problem> {
    /// What a problem takes besides its path, at most.
    const OTHERS: usize = 512;
    let mut room = HEADER_BYTES_MAX - OTHERS;
    let fits = |problem: &Problem| {
        let rest = room.checked_sub(problem.path.len() + OTHERS);
        room = rest.unwrap_or(room);
        rest.is_some()
    };
    problems.take(ENTRIES_MAX).take_while(fits).collect()
}

fn reason(halted: bool, errno: i32, operation: &str) -> String {
    match (halted, errno) {
        (true, _) => {
            "held back by the brake on removals: agree with `osync resume --accept`".to_owned()
        }
        (_, 0) => "not possible here".to_owned(),
        // Some file systems refuse these within one mount.
        (_, libc::EXDEV) if !["rename", "link"].contains(&operation) => {
            "something is mounted there or below, and mounts are not entered here".to_owned()
        }
        (_, errno) => std::io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl Replica {
    /// The queue report of this sink, without its name.
    fn queue_report(&self, now: Now) -> SinkQueue {
        let [live, backlog] = self.lanes(now);
        SinkQueue {
            sink: String::new(),
            live,
            backlog,
            lag_ms: age(now, self.oldest()),
            dirs_done: self.walks().map(|walk| walk.dirs_done).sum(),
            dirs_pending: self.walks().map(|walk| walk.dirs_pending() as u64).sum(),
            rescans_owed: self.walks().map(|walk| walk.owed() as u64).sum(),
            hottest: self.hottest(now),
            never_settling: self.never_settling(),
        }
    }

    /// The transfer report of this sink, without its name.
    fn transfer_report(&self, now: Now) -> SinkTransfer {
        let link = self.link.as_ref();
        SinkTransfer {
            sink: String::new(),
            sent_entries: self.sent_meter.entries,
            sent_bytes: self.sent_meter.bytes,
            applied_entries: self.applied_meter.entries,
            applied_bytes: self.applied_meter.bytes,
            rate_10s: self.applied_meter.rate(now.ms, 10),
            rate_5min: self.applied_meter.rate(now.ms, 300),
            retries: self.retries,
            read_while_open: self.read_while_open,
            kept_dirs: self.kept_dirs,
            in_flight_messages: self.in_flight_messages(),
            streams: self.stream_paths(),
            epoch: link.map(|link| format!("{:016x}", link.epoch)),
            sent_mark: link.map_or(0, |link| link.sent),
            applied_mark: link.map_or(0, |link| link.applied),
            durable_mark: link.map_or(0, |link| link.durable),
            sessions: self.sessions,
        }
    }
}

/// The paths a report names are bounded.
#[must_use]
pub(crate) fn few(paths: impl Iterator<Item = RelPath>) -> Vec<RelPath> {
    paths.take(REPORT_PATHS_MAX).collect()
}

/// Paths in one list of a report.
pub(crate) const REPORT_PATHS_MAX: usize = 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::wire::encode_command;

    #[test]
    fn problems_with_long_paths_fit_into_a_message() {
        let problem = |number: usize| Problem {
            sink: "0123456789abcdef".to_owned(),
            path: RelPath::new(format!("{number:03}{}", "/0123456789".repeat(300)).as_bytes())
                .unwrap(),
            side: "source".to_owned(),
            operation: "o".repeat(64),
            errno: 5,
            reason: reason(true, 0, ""),
            since_ms: u64::MAX,
            tries: u32::MAX,
        };
        let problems = as_many_as_fit((0..2 * ENTRIES_MAX).map(problem));
        assert!(problems.len() > 200, "{}", problems.len());
        let total = u64::MAX;
        let reply = Reply::Problems(Box::new(ProblemsReport { problems, total }));
        let message = Command::Reply { id: 1, reply };
        let bytes = encode_command(&message)[0].len();
        assert!(bytes <= HEADER_BYTES_MAX, "{bytes}");
    }
}
