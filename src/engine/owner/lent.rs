//! Permits that are lent: an agent that waits for a run gives its own back, and takes one again.
//!
//! Whoever is needed for what the agent waits for must not find the lane full of waiting parents.
//! Before the agent goes on it takes a permit again, ahead of everything that has not begun, so the
//! bound holds. Threads wait for that in `Batch::may_go_on`, coroutines are woken by it.

use std::sync::Arc;

use super::Owner;
use crate::model::{BatchId, Style, TaskRef};

impl Owner {
    /// The agent of a call waits.
    pub(super) fn waits(&mut self, id: BatchId, child: u32) {
        let Some(flight) = self.flights.out.get_mut(&id) else { return };
        let batch = Arc::clone(&flight.batch);
        let task = TaskRef { node: batch.span.node, index: child };
        // What an agent left behind may wait on when its call has ended, and holds nothing.
        let run = self.runs.get(&batch.call.run).map(|slot| &slot.run);
        let counts = run.is_some_and(|run| run.is_running(task, batch.attempt));
        if !counts || flight.has_given_up(child) || flight.lent.contains_key(&child) {
            return;
        }
        flight.lent.insert(child, self.lanes.lend(flight.lane, &mut flight.permit));
        if flight.style != Style::Loop {
            // The calls behind it would wait with its thread.
            self.take_back(&batch);
        }
    }

    /// Gives agents that go on a permit again, first come first, as far as there are any.
    pub(super) fn bring_back(&mut self) {
        for (id, child) in std::mem::take(&mut self.returning) {
            // A batch that was given up has let its agents go.
            let Some(flight) = self.flights.out.get_mut(&id) else { continue };
            if flight.lent.contains_key(&child) {
                let Some(permit) = self.lanes.retake(flight.lane, flight.style) else {
                    self.returning.push_back((id, child));
                    continue;
                };
                flight.permit.join(permit);
                flight.lent.remove(&child);
            }
            flight.batch.go_on(child);
        }
    }
}
