//! Answering questions about runs: users see what is as durable as the run was promised to be.

use std::sync::Arc;

use super::Owner;
use crate::engine::cell::Cell;
use crate::engine::explain::Explanation;
use crate::engine::inbox::{Look, Reply};
use crate::model::{Result, RunId};

/// A question that waits for the end of the turn.
pub(super) enum Question {
    Inspect(RunId, Look),
    Find(RunId, Reply<Option<Arc<Cell>>>),
    Explain(RunId, Option<String>, Reply<Result<Option<Explanation>>>),
}

impl Owner {
    /// Answers what was asked in this turn, now that its decisions are durable. While the store
    /// refuses, runs in memory may be ahead of it: then askers read the store instead.
    pub(super) fn answer_questions(&mut self) {
        let ahead = self.staged.stall().is_some();
        for question in std::mem::take(&mut self.questions) {
            match question {
                Question::Inspect(run, look) => {
                    let live = self.runs.get(&run).filter(|_| !ahead);
                    look(live.map(|slot| &slot.run));
                }
                // The asker may have gone.
                Question::Explain(run, task, reply) => {
                    drop(reply.send(self.explained(run, task.as_deref())));
                }
                Question::Find(run, reply) => drop(reply.send(self.find(run, ahead))),
            }
        }
    }

    fn find(&self, run: RunId, ahead: bool) -> Option<Arc<Cell>> {
        if let Some(slot) = self.runs.get(&run) {
            let visible = || self.store.summary(run, self.watch.visible());
            // A submit that is not durable yet may still be forgotten.
            let there = !ahead || visible().is_ok_and(|line| line.is_some());
            return there.then(|| Arc::clone(&slot.cell));
        }
        self.parked.unreadable(run).or_else(|| self.kept_by_id.get(&run)).cloned()
    }
}
