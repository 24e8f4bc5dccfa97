//! Taking up what an earlier process left: the line, entered in the middle.

use std::collections::HashMap;

use super::Owner;
use super::session::Seat;
use crate::engine::cell::Cell;
use crate::engine::refusal;
use crate::engine::shared;
use crate::model::{Event, Record, Result, RunId};
use crate::run::{self, Run};

/// When a run came and when its first attempt began, in the order of all facts.
#[derive(Clone, Copy)]
struct Times {
    submitted: u64,
    begun: Option<u64>,
}

impl Owner {
    /// Loads every unfinished run. What they need is carried out in the first turn. One that this
    /// version cannot replay is parked, and holds up nobody of its session; damage to the store is
    /// not for one run to bear.
    pub(in crate::engine) fn resume(&mut self) -> Result<usize> {
        let mut found = Vec::new();
        for id in self.store.unfinished()? {
            let records = self.store.load(id)?.ok_or_else(|| refusal::unknown_run(id))?;
            match shared::replay(id, &records, &self.plans) {
                Ok(run) => found.push((times(&records), run)),
                Err(error) if error.code.starts_with("store.") => return Err(error),
                Err(error) => self.park_unreadable(id, &records, error),
            }
        }
        // Ids need not be in the order of the submits: users may bring their own, clocks go back.
        found.sort_by_key(|(times, _)| times.submitted);
        let times: HashMap<RunId, Times> =
            found.iter().map(|(times, run)| (run.id(), *times)).collect();
        let order: Vec<RunId> = found.iter().map(|(_, run)| run.id()).collect();
        found.into_iter().for_each(|(_, run)| self.readopt(run));
        self.reseat(&order);
        order.iter().for_each(|&run| self.take_up(run));
        // Only now: whoever goes on instead has been taken up, too.
        order.iter().for_each(|&run| self.park_if_backing_off(run));
        for &run in &order {
            self.repost(run, times[&run].submitted, |holder| times.get(&holder)?.begun);
        }
        if !order.is_empty() {
            tracing::info!(target: "goclaw.engine", runs = order.len(), "unfinished runs resumed");
        }
        Ok(order.len())
    }

    fn readopt(&mut self, run: Run) {
        // Without its lane the run waits for somebody to declare a sound one.
        if let Err(error) = self.lanes.declare(&run.plan().workflow.lanes) {
            tracing::warn!(target: "goclaw.engine", run = %run.id(), code = error.code, "the run's lanes are not declared: {}", error.message);
        }
        let cell = Cell::new(run.id(), run.submitted().durability, run.state());
        let seat = if run.submitted().session.is_some() { Seat::Waiting } else { Seat::Free };
        self.adopt(run, cell, seat);
    }

    /// Carries on what was under way; of a run that is held back only its timers.
    fn take_up(&mut self, run: RunId) {
        let Some(slot) = self.runs.get(&run).filter(|slot| !slot.run.state().is_terminal()) else {
            return;
        };
        let seat = slot.seat;
        let (inputs, mut effects) = run::outstanding(&slot.run, true);
        effects.retain(|effect| match seat {
            Seat::Free => true,
            Seat::Waiting => !effect.waits_its_turn(),
            Seat::Parked => !effect.starts_work(),
        });
        for input in inputs {
            self.advance(run, input);
        }
        self.staged.effects.extend(effects.into_iter().map(|effect| (run, effect)));
    }
}

fn times(records: &[Record]) -> Times {
    let begins = |record: &&Record| record.events.iter().any(|e| matches!(e, Event::RunStarted));
    let submitted = records.first().map_or(0, |first| first.seq);
    Times { submitted, begun: records.iter().find(begins).map(|record| record.seq) }
}
