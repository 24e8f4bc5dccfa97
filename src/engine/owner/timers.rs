//! Everything that is due at a moment: retries, deadlines, checks on batches, blocked submits.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::Owner;
use crate::model::{BatchId, RunId, Timestamp};
use crate::run::{Input, Timer};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    Run(RunId, Timer),
    /// Look after a batch: timeouts, calls that hold up the rest.
    Batch(BatchId),
    /// Attempts that were told to stop and have not are given up.
    Fence(BatchId),
    /// A submit has waited for this lane as long as it may.
    Blocked(usize),
    Drained,
    /// The relaxed window is over.
    Sync,
}

#[derive(Debug, Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Timestamp, Due)>>);

impl Timers {
    pub(super) fn at(&mut self, at: Timestamp, due: Due) {
        self.0.push(Reverse((at, due)));
    }
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }
    fn pop(&mut self, now: Timestamp) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, due))| due)
    }
}

impl Owner {
    pub(super) fn fire_timers(&mut self) {
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::Run(run, Timer::Retry(task)) => drop(self.step(run, Input::RetryDue { task })),
                Due::Run(run, Timer::Deadline) => drop(self.step(run, Input::Deadline)),
                Due::Batch(batch) => self.look_after(batch),
                Due::Fence(batch) => self.fence(batch),
                Due::Blocked(lane) => self.refuse_overdue(lane),
                Due::Drained => self.drain_is_over(),
                Due::Sync => self.staged.sync_is_due(),
            }
        }
    }
}
