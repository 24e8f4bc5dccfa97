//! Taking up what an earlier process left: the line, entered in the middle.

use super::Owner;
use crate::engine::cell::Cell;
use crate::engine::refusal;
use crate::engine::shared::Plans;
use crate::model::Result;
use crate::run;

impl Owner {
    /// Loads every unfinished run. What they need is carried out in the first turn.
    pub(in crate::engine) fn resume(&mut self, plans: &Plans) -> Result<usize> {
        let unfinished = self.store.unfinished()?;
        for &id in &unfinished {
            let records = self.store.load(id)?.ok_or_else(|| refusal::unknown_run(id))?;
            let run = run::replay(&records, |submitted| plans.of(submitted))?;
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
        if !unfinished.is_empty() {
            tracing::info!(target: "goclaw.engine", runs = unfinished.len(), "unfinished runs resumed");
        }
        Ok(unfinished.len())
    }
}
