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
    /// Attempts that were asked to stop and have not are asked firmly.
    Press(BatchId),
    /// Attempts that were told to stop and have not are given up.
    Fence(BatchId),
    /// A submit has waited for this lane as long as it may.
    Blocked(usize),
    Drained,
    /// Messages are not merged yet.
    Merge(u64),
    /// No more messages come to the group that begins with this run, unless one did.
    Session(RunId),
    /// The relaxed window is over.
    Sync,
}

/// Below this many timers nobody looks for dead ones.
const SWEEP_MIN: usize = 4_096;

/// A heap of what is due. Timers are not cancelled one by one: those of ended runs and landed
/// batches do nothing when they fire, and are swept out when half of the heap may be dead.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Timestamp, Due)>>,
    /// Timers that the last sweep left.
    kept: usize,
}

impl Timers {
    pub(super) fn at(&mut self, at: Timestamp, due: Due) {
        self.heap.push(Reverse((at, due)));
    }
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }
    fn wants_sweep(&self) -> bool {
        self.heap.len() > SWEEP_MIN.max(2 * self.kept)
    }
    fn sweep(&mut self, alive: impl Fn(Due) -> bool) {
        self.heap.retain(|Reverse((_, due))| alive(*due));
        self.kept = self.heap.len();
    }
    fn pop(&mut self, now: Timestamp) -> Option<Due> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, due))| due)
    }
}

impl Owner {
    pub(super) fn fire_timers(&mut self) {
        if self.timers.wants_sweep() {
            let (runs, flights, blocked) = (&self.runs, &self.flights, &self.blocked);
            let merges = &self.merges;
            self.timers.sweep(|due| match due {
                Due::Run(run, _) | Due::Session(run) => runs.contains_key(&run),
                Due::Batch(batch) | Due::Press(batch) | Due::Fence(batch) => {
                    flights.contains(batch)
                }
                Due::Blocked(lane) => blocked.is_armed(lane),
                Due::Merge(number) => merges.is_under_way(number),
                Due::Drained | Due::Sync => true,
            });
        }
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::Run(run, Timer::Retry(task)) => {
                    if !self.is_parked_run_due(run) {
                        self.step(run, Input::RetryDue { task });
                    }
                }
                Due::Session(first) => self.session_rang(first),
                Due::Run(run, Timer::Deadline) => drop(self.step(run, Input::Deadline)),
                Due::Run(run, Timer::Queue(span)) => {
                    self.step(run, Input::QueueOver { span });
                }
                Due::Run(run, Timer::Total(node)) => self.total_is_over(run, node),
                Due::Batch(batch) => self.look_after(batch),
                Due::Press(batch) => self.press(batch),
                Due::Fence(batch) => self.fence(batch),
                Due::Blocked(lane) => self.refuse_overdue(lane),
                Due::Merge(number) => self.merge_is_over(number),
                Due::Drained => self.drain_is_over(),
                Due::Sync => self.staged.sync_is_due(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_of_what_has_ended_are_swept_out() {
        let mut timers = Timers::default();
        for n in 0..=SWEEP_MIN as u64 {
            timers.at(Timestamp(n), Due::Batch(BatchId(n)));
        }
        assert!(timers.wants_sweep());
        timers.sweep(|due| due == Due::Batch(BatchId(7)));
        assert_eq!(timers.next(), Some(Timestamp(7)));
        assert!(!timers.wants_sweep());
        assert_eq!(timers.pop(Timestamp(6)), None);
        assert_eq!(timers.pop(Timestamp(7)), Some(Due::Batch(BatchId(7))));
    }
}
