//! The engine decides: events in, actions out. It is pure and synchronous: no I/O, no clock, no
//! threads, no random numbers. Whoever drives it (the daemons, or the simulated world of the tests)
//! tells it the time with every event and carries out the actions it returns, in their order.
//!
//! - [`bindings`]: which watch descriptor means which directory.
//! - [`footprint`]: which two pieces of work must not overtake each other.
//! - [`queue`], [`walk`]: what waits to be looked at, and the walks that find more.
//! - [`scan`]: walks of the source alone.
//! - [`replica`]: one sink as the source sees it; [`ledger`]: its problems; [`links`]: which names mean
//!   the same inode.
//! - [`work`]: what readers are asked; [`throttle`]: how much of it the backlog may do in a second.
//! - [`session`]: registration, heartbeat and termination, as the source keeps them.
//! - [`carryover`]: what outlives a process of the source.
//! - [`source`], [`sink`]: the two machines that put these together.

pub mod bindings;
pub mod carryover;
pub mod footprint;
pub mod ledger;
pub mod links;
pub mod meter;
pub mod queue;
pub mod replica;
pub mod scan;
pub mod session;
pub mod sink;
pub mod source;
pub mod throttle;
pub mod walk;
pub mod wall;
pub mod work;

use crate::tree::Time;

/// The time of an event, as the driver of the engine knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Now {
    /// Milliseconds on a clock that never goes back, since the process started.
    pub ms: u64,
    /// The wall clock, comparable only with times of the local file system.
    pub wall: Time,
}

/// When something was asked for. What is found through it inherits its stamp, so that a flush can wait
/// for everything up to a position and lag counts from the first cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Place in the source's one order of causes.
    pub pos: u64,
    /// [`Now::ms`] when the event was read.
    pub since_ms: u64,
    /// Since when that which is to be told may have happened.
    pub made: Since,
}

/// Since when something may have happened. Where it is forgotten, size and time of what has changed since
/// prove nothing (rule 21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Since {
    /// At any time: the sink may hold another file altogether.
    Ever,
    /// Since this moment of the wall clock, as an earlier process of the source noted it.
    Earlier(Time),
    /// Since this moment of [`Now::ms`].
    Ms(u64),
}

impl Stamp {
    /// The stamp that covers both.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        Self {
            pos: self.pos.min(other.pos),
            since_ms: self.since_ms.min(other.since_ms),
            made: self.made.min(other.made),
        }
    }
}

/// Names one piece of work that the engine has handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);
