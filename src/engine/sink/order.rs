//! The order of application: numbers restored over all data connections, conflicts kept in order,
//! everything else in parallel.

use std::collections::{BTreeMap, VecDeque};

use crate::engine::footprint::Footprint;
use crate::lanes::Turn;
use crate::wire::message::{Answer, Change, Credit, Lane, Outcome};

/// Numbers with an outcome that was more than "done" that are remembered for a resume; of what lies
/// before them nothing is claimed.
const EXCEPTIONS_MAX: usize = 4096;

#[derive(Debug)]
struct Work {
    footprint: Footprint,
    lane: Lane,
    /// `None` once it was handed out.
    change: Option<Change>,
    cost: u64,
    /// Earlier work that must end first.
    waits_for: u32,
    /// Later work that waits for this.
    waiters: Vec<u64>,
}

/// Changes from their arrival until their outcome.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// The last number that arrived with all before it.
    arrived: u64,
    early: BTreeMap<u64, (Lane, Change)>,
    work: BTreeMap<u64, Work>,
    /// What may start, of each lane. Live changes do not wait for a backlog that came before them (I5).
    ready: [VecDeque<u64>; 2],
    turn: Turn,
    running: usize,
    /// What everything that is here costs of the credit.
    cost: u64,
    outcomes: VecDeque<(u64, Outcome)>,
    exceptions: VecDeque<u64>,
    exceptions_from: u64,
    /// Credit that ended work has given back.
    pub(super) freed: Credit,
}

impl Order {
    /// Takes a numbered change. False if the number was there already or there is no room for it.
    pub(super) fn take(&mut self, number: u64, lane: Lane, change: Change, room: Credit) -> bool {
        let known = number <= self.arrived || self.early.contains_key(&number);
        let messages = (self.early.len() + self.work.len()) as u64;
        let cost = self.cost + change.cost();
        if known || messages >= room.messages || cost > room.bytes {
            return false;
        }
        self.cost = cost;
        self.early.insert(number, (lane, change));
        while let Some((lane, change)) = self.early.remove(&(self.arrived + 1)) {
            self.arrived += 1;
            self.enter(self.arrived, lane, change);
        }
        true
    }

    fn enter(&mut self, number: u64, lane: Lane, change: Change) {
        let footprint = Footprint::of(&change);
        let mut waits_for = 0;
        for earlier in self.work.values_mut() {
            if footprint.waits_for(&earlier.footprint) {
                earlier.waiters.push(number);
                waits_for += 1;
            }
        }
        if waits_for == 0 {
            self.ready[lane as usize].push_back(number);
        }
        let cost = change.cost();
        self.work.insert(
            number,
            Work {
                footprint,
                lane,
                change: Some(change),
                cost,
                waits_for,
                waiters: Vec::new(),
            },
        );
    }

    /// Hands out what may start now.
    pub(super) fn start(&mut self, running_max: usize) -> Vec<(u64, Lane, Change)> {
        let mut started = Vec::new();
        while self.running < running_max
            && let Some(number) = self.next_ready()
        {
            if let Some(work) = self.work.get_mut(&number)
                && let Some(change) = work.change.take()
            {
                self.running += 1;
                started.push((number, work.lane, change));
            }
        }
        started
    }

    fn next_ready(&mut self) -> Option<u64> {
        self.turn.lanes().into_iter().find_map(|lane| {
            let number = self.ready[lane as usize].pop_front()?;
            self.turn.took(lane);
            Some(number)
        })
    }

    /// A change has ended.
    pub(super) fn done(&mut self, number: u64, outcome: Outcome) {
        let Some(work) = self.work.remove(&number) else {
            return;
        };
        self.running -= 1;
        self.cost -= work.cost;
        self.freed.bytes += work.cost;
        self.freed.messages += 1;
        for waiter in work.waiters {
            if let Some(waiting) = self.work.get_mut(&waiter) {
                waiting.waits_for -= 1;
                if waiting.waits_for == 0 {
                    self.ready[waiting.lane as usize].push_back(waiter);
                }
            }
        }
        if outcome == Outcome::default() {
            return;
        }
        if outcome.answer.is_none() {
            if self.exceptions.len() >= EXCEPTIONS_MAX {
                self.exceptions_from = self
                    .exceptions_from
                    .max(self.exceptions.pop_front().unwrap_or_default());
            }
            self.exceptions.push_back(number);
        }
        self.outcomes.push_back((number, outcome));
    }

    /// Everything up to this number has its outcome.
    pub(super) fn applied(&self) -> u64 {
        self.work
            .first_key_value()
            .map_or(self.arrived, |(number, _)| self.arrived.min(number - 1))
    }

    /// Nothing is here that could still take effect.
    pub(super) fn is_idle(&self) -> bool {
        self.work.is_empty() && self.early.is_empty()
    }

    /// What was not begun never will be: the session is over.
    pub(super) fn forget_waiting(&mut self) {
        self.early.clear();
        self.ready.iter_mut().for_each(VecDeque::clear);
        let applied = self.applied();
        self.work.retain(|_, work| work.change.is_none());
        self.cost = self.work.values().map(|work| work.cost).sum();
        for work in self.work.values_mut() {
            work.waiters.clear();
        }
        // What is still running may end with a gap before it, so the mark stays where it was.
        self.arrived = applied;
    }

    pub(super) fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty()
    }

    /// Takes outcomes for one message: at most so many, and no more once their names are many, since
    /// a header is bounded. One alone always fits.
    pub(super) fn take_outcomes(&mut self, most: usize, names_max: usize) -> Vec<(u64, Outcome)> {
        let mut taken = Vec::new();
        let mut names = 0;
        while taken.len() < most
            && let Some((_, outcome)) = self.outcomes.front()
        {
            names += names_in(outcome);
            if names > names_max && !taken.is_empty() {
                break;
            }
            taken.extend(self.outcomes.pop_front());
        }
        taken
    }

    /// Since which number the exceptions are known, and the exceptions up to `durable`.
    pub(super) fn exceptions(&self, durable: u64) -> (u64, Vec<u64>) {
        let mut known: Vec<u64> = self
            .exceptions
            .iter()
            .copied()
            .filter(|number| (self.exceptions_from + 1..=durable).contains(number))
            .collect();
        known.sort_unstable();
        (self.exceptions_from, known)
    }
}

fn names_in(outcome: &Outcome) -> usize {
    let answer = match &outcome.answer {
        Some(Answer::Names {
            lacks,
            differs,
            excess,
            ..
        }) => lacks.len() + differs.len() + excess.len(),
        _ => 0,
    };
    answer + outcome.refused.len() + outcome.made.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{Entry, Name, RelPath, State};
    use crate::wire::message::Refusal;

    fn touching(names: &[&str]) -> Change {
        let entry = |name: &&str| Entry {
            name: Name::new(name.as_bytes()).expect("a name"),
            state: State::Absent,
        };
        Change::Entries {
            dir: RelPath::root(),
            entries: names.iter().map(entry).collect(),
        }
    }

    #[test]
    fn what_is_live_starts_before_a_backlog_that_came_first() {
        let mut order = Order::default();
        let room = Credit {
            bytes: u64::MAX,
            messages: 100,
        };
        let changes = [
            (Lane::Backlog, "a"),
            (Lane::Backlog, "b"),
            (Lane::Backlog, "c"),
            (Lane::Live, "d"),
            (Lane::Live, "c"),
        ];
        for (number, (lane, name)) in (1..).zip(changes) {
            assert!(order.take(number, lane, touching(&[name]), room));
        }
        let mut starts = |done: u64| {
            if done > 0 {
                order.done(done, Outcome::default());
            }
            let started = order.start(1).into_iter();
            started.map(|(number, ..)| number).collect::<Vec<_>>()
        };
        // The fifth waits for the third, whatever their lanes.
        assert_eq!(starts(0), [4]);
        assert_eq!(starts(4), [1]);
        assert_eq!(starts(1), [2]);
        assert_eq!(starts(2), [3]);
        assert_eq!(starts(3), [5]);
    }

    #[test]
    fn of_outcomes_beyond_those_remembered_nothing_is_claimed() {
        let mut order = Order::default();
        let last = EXCEPTIONS_MAX as u64 + 1;
        let room = Credit {
            bytes: u64::MAX,
            messages: 1,
        };
        for number in 1..=last {
            assert!(order.take(number, Lane::Live, touching(&[]), room));
            assert_eq!(order.start(1).len(), 1);
            order.done(
                number,
                Outcome {
                    refused: vec![(0, Refusal::ParentMissing)],
                    ..Outcome::default()
                },
            );
            let (from, exceptions) = order.exceptions(number);
            assert_eq!(
                (from, exceptions.len() as u64),
                (number / last, number - number / last)
            );
        }
    }
}
