//! Handing out work: places in queues, permits, batches.

use std::sync::Arc;

use super::flight::Flight;
use super::{Owner, admissible};
use crate::agent::Batch;
use crate::lane::{Entry, Permit};
use crate::model::{Delivery, Style, TaskState};
use crate::run::Input;

impl Owner {
    /// Lets lanes admit and grant for as long as there are places and permits.
    pub(super) fn dispatch(&mut self) {
        // Before anything else: a moment that has passed would keep the owner awake.
        self.paces.look_again();
        if self.staged.stall().is_some() {
            return;
        }
        for lane in 0..self.lanes.len() {
            self.admit(lane);
            if self.closing.is_none() {
                while self.grant(lane) {
                    self.admit(lane);
                }
            }
        }
    }

    fn admit(&mut self, lane: usize) {
        while let Some(entry) = self.lanes.lane_mut(lane).next_admission() {
            if self.admitted(&entry) {
                self.lanes.lane_mut(lane).enqueue(entry);
            }
        }
    }

    fn admitted(&mut self, entry: &Entry) -> bool {
        let state = self.runs.get(&entry.run).and_then(|slot| slot.run.span_state(entry.span));
        if !admissible(state) {
            return false;
        }
        state == Some(TaskState::Scheduled)
            || self.step(entry.run, Input::Admitted { span: entry.span })
    }

    /// Starts the next batch of a lane. False where nothing can start now.
    fn grant(&mut self, lane: usize) -> bool {
        for front in self.lanes.lane(lane).fronts() {
            if front.style == Style::Thread && self.stuck.holds(lane) {
                continue;
            }
            let Some(slot) = self.runs.get(&front.run) else {
                self.lanes.discard(lane, front.style);
                return true;
            };
            let task = slot.run.plan().task(front.span.node);
            let calls = match task.delivery {
                Delivery::AtMostOnce => 1,
                Delivery::AtLeastOnce => self.paces.batch(&task.agent, front.style),
            };
            if let Some((entry, permit)) = self.lanes.grant(lane, front.style, calls) {
                self.launch(lane, entry, permit);
                return true;
            }
        }
        false
    }

    fn launch(&mut self, lane: usize, entry: Entry, permit: Permit) {
        if !self.step(entry.run, Input::Claimed { span: entry.span }) {
            // Cancelled in between: dropping the permit gives it back.
            return;
        }
        let Some(call) = self.call(entry.run, entry.span.node) else { return };
        let task = call.plan.task(call.node);
        let (timeout, delivery) = (task.timeout_ms, task.delivery);
        let id = self.flights.next_id();
        let attempt = entry.attempts + 1;
        let batch = Arc::new(Batch::new(id, call, entry.span, attempt, entry.style, timeout));
        let flight = Flight::new(Arc::clone(&batch), permit, entry.style, lane, self.now);
        self.paces.went_out(flight.agent(), entry.style, entry.span.len);
        if let Some(check) = flight.first_check(self.now) {
            self.timers.at(check, super::timers::Due::Batch(id));
        }
        self.flights.insert(flight);
        match delivery {
            Delivery::AtLeastOnce => self.staged.launches.push(batch),
            Delivery::AtMostOnce => {
                self.staged.gated = true;
                self.staged.launches_durable.push(batch);
            }
        }
    }
}
