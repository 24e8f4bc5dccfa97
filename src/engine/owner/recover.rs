//! Taking up what an earlier process left: the line, entered in the middle.

use super::Owner;
use crate::engine::cell::Cell;
use crate::engine::refusal;
use crate::engine::shared;
use crate::model::Result;
use crate::run;

impl Owner {
    /// Loads every unfinished run. What they need is carried out in the first turn. One that this
    /// version cannot replay is parked; damage to the store is not for one run to bear.
    pub(in crate::engine) fn resume(&mut self) -> Result<usize> {
        let mut resumed = 0;
        for id in self.store.unfinished()? {
            let records = self.store.load(id)?.ok_or_else(|| refusal::unknown_run(id))?;
            let run = match shared::replay(id, &records, &self.plans) {
                Ok(run) => run,
                Err(error) if error.code.starts_with("store.") => return Err(error),
                Err(error) => {
                    self.park_unreadable(id, &records, error);
                    continue;
                }
            };
            resumed += 1;
            // Without its lane the run waits for somebody to declare a sound one.
            if let Err(error) = self.lanes.declare(&run.plan().workflow.lanes) {
                tracing::warn!(target: "goclaw.engine", run = %id, code = error.code, "the run's lanes are not declared: {}", error.message);
            }
            let (inputs, effects) = run::outstanding(&run, true);
            let cell = Cell::new(id, run.submitted().durability, run.state());
            self.adopt(run, cell);
            for input in inputs {
                self.step(id, input);
            }
            self.staged.effects.extend(effects.into_iter().map(|effect| (id, effect)));
        }
        if resumed > 0 {
            tracing::info!(target: "goclaw.engine", runs = resumed, "unfinished runs resumed");
        }
        Ok(resumed)
    }
}
