//! What waits in a lane, and what decides its place.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::model::{Millis, NodeIx, Priority, RunId, Span, Style, Timestamp};

/// How much longer than a task of the next higher priority one has to have waited to go before it.
///
/// So nothing starves: a priority is worth a head start of so many milliseconds, and no more.
pub const AGING_MS: Millis = 30_000;

/// A session, or the key of a rate. `None`: all that have none.
pub(super) type Name = Option<Arc<str>>;

/// Tasks of one run that wait together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub run: RunId,
    pub span: Span,
    /// Attempts that the tasks have behind them.
    pub attempts: u32,
    pub priority: Priority,
    pub style: Style,
    /// Whose turn it takes where the lane is fair: the session of the run.
    pub flow: Name,
    /// Turns that the flow gets where others get one.
    pub weight: u32,
    /// Runs of one flow go in this order: that of their submits.
    pub order: u64,
    /// Inside a run the highest goes first: the longest remaining path.
    pub rank: u32,
    /// Whose rate the tasks count against.
    pub key: Name,
    /// Units of the rate that one task takes.
    pub cost: u32,
    /// When the tasks became ready.
    pub since: Timestamp,
    /// The tasks had a place before (a retry, a recovery): they wait for room and are never dropped.
    pub placed: bool,
}

impl Entry {
    /// Plain tasks of a run; everything else is as if nobody had said anything.
    pub fn new(run: RunId, span: Span, style: Style) -> Self {
        Self {
            run,
            span,
            attempts: 0,
            priority: 0,
            style,
            flow: None,
            weight: 1,
            order: 0,
            rank: 0,
            key: None,
            cost: 1,
            since: Timestamp(0),
            placed: false,
        }
    }

    pub(super) fn tasks(&self) -> u64 {
        self.span.len.into()
    }

    /// Takes up to `n` tasks off the front; true where none is left.
    pub(super) fn split_off(&mut self, n: u32) -> (Self, bool) {
        let (head, rest) = self.span.split_at(n);
        let taken = Self { span: head, ..self.clone() };
        if let Some(rest) = rest {
            self.span = rest;
        }
        (taken, rest.is_none())
    }

    /// The parts of it that do not lie in `span`.
    pub(super) fn without(self, span: Span) -> impl Iterator<Item = Self> {
        let own = self.span;
        let (lo, hi) = (span.lo.clamp(own.lo, own.hi()), span.hi().clamp(own.lo, own.hi()));
        let apart = own.node != span.node || lo >= hi;
        let ends =
            if apart { [(own.lo, own.hi()), (0, 0)] } else { [(own.lo, lo), (hi, own.hi())] };
        ends.into_iter().filter(|(lo, hi)| lo < hi).map(move |(lo, hi)| {
            let span = Span::new(own.node, lo, hi - lo);
            Self { span, ..self.clone() }
        })
    }
}

/// The place of an entry among those of its flow: run by run, longest remaining path first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) order: u64,
    rank: Reverse<u32>,
    pub(super) ticket: u64,
    lo: u32,
}

impl Place {
    pub(super) fn of(entry: &Entry, ticket: u64) -> Self {
        Self { order: entry.order, rank: Reverse(entry.rank), ticket, lo: entry.span.lo }
    }
    /// Its place among all entries of the lane, oldest first.
    pub(super) fn age(&self) -> Age {
        (self.ticket, self.lo)
    }
    /// Before everything of a run.
    pub(super) fn first_of(order: u64) -> Self {
        Self { order, rank: Reverse(u32::MAX), ticket: 0, lo: 0 }
    }
    /// Behind everything of a run.
    pub(super) fn last_of(order: u64) -> Self {
        Self { order, rank: Reverse(0), ticket: u64::MAX, lo: u32::MAX }
    }
}

/// A ticket, and the first task where an entry was cut into parts.
pub(super) type Age = (u64, u32);

/// What could be granted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    pub run: RunId,
    pub node: NodeIx,
    pub style: Style,
}
