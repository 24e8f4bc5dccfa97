//! Handing out work: places in queues, permits, batches.

use std::sync::Arc;

use super::flight::Flight;
use super::{Owner, admissible};
use crate::agent::Batch;
use crate::lane::{Admission, Entry, Permit};
use crate::model::{Delivery, RunId, Span, Style, TaskState};
use crate::run::Input;

impl Owner {
    /// Lets lanes admit and grant for as long as there are places and permits.
    pub(super) fn dispatch(&mut self) {
        // Before anything else: a moment that has passed would keep the owner awake.
        self.paces.look_again();
        if self.staged.stall().is_some() {
            return;
        }
        // Agents that go on take their permits before anything new begins.
        self.bring_back();
        // What finds no room may find it once the permits that are free are given away.
        loop {
            (0..self.lanes.len()).for_each(|lane| self.let_in(lane));
            if self.closing.is_none() {
                self.grant_all();
            }
            if !(0..self.lanes.len()).any(|lane| self.overflow(lane)) {
                return;
            }
        }
    }

    /// Grants for as long as there are permits, and lets in what finds room by that.
    fn grant_all(&mut self) {
        // Where the global lane bounds, lanes take turns grant by grant.
        let once = self.lanes.is_bounded();
        let mut more = true;
        while std::mem::take(&mut more) {
            for lane in self.lanes.turns() {
                while self.grant(lane) {
                    self.let_in(lane);
                    more |= once;
                    if once {
                        break;
                    }
                }
            }
        }
    }

    /// Lets in what there is room for.
    fn let_in(&mut self, lane: usize) {
        while let Some(admission) = self.lanes.lane_mut(lane).next_place() {
            self.carried_out(lane, admission);
        }
    }

    /// Carries out what a lane decides on tasks that found no room in it. True where another lane got some
    /// of them, which may have permits for them, or one that others made room for could begin.
    fn overflow(&mut self, lane: usize) -> bool {
        let mut elsewhere = false;
        while let Some(admission) = self.lanes.lane_mut(lane).next_admission() {
            let placed = matches!(admission, Admission::Place(_));
            elsewhere |= self.carried_out(lane, admission);
            if placed && self.could_begin(lane) {
                // Before the next to come takes its place away.
                return true;
            }
        }
        elsewhere
    }

    fn could_begin(&mut self, lane: usize) -> bool {
        let held = self.stuck.holds(lane);
        let mut fronts = self.lanes.fronts(lane, self.now);
        let free = |style| self.lanes.free(lane, style) > 0 && !(style == Style::Thread && held);
        self.closing.is_none() && fronts.any(|front| free(front.style))
    }

    /// Journals a decision and carries it out. True where another lane got the tasks instead.
    fn carried_out(&mut self, lane: usize, admission: Admission) -> bool {
        let entry = admission.entry();
        let (run, span) = (entry.run, entry.span);
        let name = || self.lanes.lane(lane).spec().name.as_str().into();
        let wanted = match &admission {
            Admission::Place(_) => self.admitted(run, span),
            Admission::Drop(_) => {
                let lane = name();
                self.step(run, Input::Dropped { span, lane })
            }
            Admission::Redirect(_, to) => {
                let from = name();
                self.step(run, Input::Redirected { span, from, to: to.as_str().into() })
            }
        };
        if !wanted {
            self.lanes.lane_mut(lane).retract(&admission);
            return false;
        }
        match admission {
            Admission::Place(entry) => self.lanes.lane_mut(lane).enqueue(entry),
            Admission::Drop(_) => {}
            Admission::Redirect(entry, to) => {
                let target = self.lanes.index(&to).expect("lanes redirect to lanes that are there");
                self.lanes.lane_mut(target).offer(entry);
                return true;
            }
        }
        false
    }

    fn admitted(&mut self, run: RunId, span: Span) -> bool {
        let state = self.runs.get(&run).and_then(|slot| slot.run.span_state(span));
        if !admissible(state) {
            return false;
        }
        state == Some(TaskState::Scheduled) || self.step(run, Input::Admitted { span })
    }

    /// Starts the next batch of a lane. False where nothing can start now.
    fn grant(&mut self, lane: usize) -> bool {
        for front in self.lanes.fronts(lane, self.now) {
            if front.style == Style::Thread && self.stuck.holds(lane) {
                continue;
            }
            let Some(slot) = self.runs.get(&front.run) else {
                self.lanes.withdraw(front.run);
                return true;
            };
            let task = slot.run.plan().task(front.node);
            let calls = match task.delivery {
                Delivery::AtMostOnce => 1,
                Delivery::AtLeastOnce => {
                    // Free permits are given before anything is dropped or goes elsewhere.
                    let hurry = self.lanes.lane(lane).is_overflowing();
                    self.paces.batch(&task.agent, front.style, hurry)
                }
            };
            // What a call charges holds up the next: it must not have gone out with it.
            let one_by_one = !self.lanes.lane(lane).spec().budgets.is_empty();
            let calls = if one_by_one { calls.min(1) } else { calls };
            if let Some((entry, permit)) = self.lanes.grant(lane, front.style, calls, self.now) {
                self.launch(lane, entry, permit);
                return true;
            }
        }
        false
    }

    fn launch(&mut self, lane: usize, entry: Entry, permit: Permit) {
        if !self.step(entry.run, Input::Claimed { span: entry.span }) {
            // Cancelled in between: the permit goes back, first to those who wait to go on.
            drop(permit);
            return self.bring_back();
        }
        let Some(call) = self.call(entry.run, entry.span.node) else { return };
        let task = call.plan.task(call.node);
        let (timeout, delivery) = (task.timeout_ms, task.delivery);
        let id = self.flights.next_id();
        let attempt = entry.attempts + 1;
        let batch = Batch::new(id, call, entry.span, attempt, entry.style, timeout);
        let (style, calls) = (entry.style, entry.span.len);
        let card = self.lanes.card(lane, &batch.call.plan.task(entry.span.node).lane);
        let batch = Arc::new(batch.in_lane(card, entry.key));
        let flight = Flight::new(Arc::clone(&batch), permit, style, self.now, lane);
        self.paces.went_out(flight.agent(), style, calls);
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
