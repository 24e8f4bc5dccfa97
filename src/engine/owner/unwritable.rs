//! Records that cannot be written down: their run fails, everything else goes on.
//!
//! A store that is full heals when there is room, so the same records are tried again. A record that
//! has no form never will: trying it again would hold up every run of the engine.

use std::collections::VecDeque;
use std::slice;

use super::Owner;
use crate::engine::cell::End;
use crate::engine::shared;
use crate::model::{Error, Result, RunId, Stats};
use crate::run::{self, Input};

/// The store's word for a record that it will never take.
pub(super) const UNWRITABLE: &str = "store.unwritable";

impl Owner {
    /// Writes the turn's records one by one; runs whose record is refused fail.
    ///
    /// # Errors
    /// Why the store takes nothing now; what is left is staged still.
    pub(super) fn write_each(&mut self) -> Result<()> {
        let mut refused: Vec<(RunId, Error)> = Vec::new();
        let mut rest = VecDeque::from(self.staged.take_records());
        let mut stalled = None;
        while let Some(record) = rest.pop_front() {
            let of_refused = refused.iter().any(|(run, _)| *run == record.run);
            if of_refused {
                // It goes on from what is not written.
                continue;
            }
            match self.store.append(slice::from_ref(&record)) {
                Ok(()) => Stats::add(&self.stats.journal_records, 1),
                Err(error) if error.code == UNWRITABLE => refused.push((record.run, error)),
                Err(error) => {
                    rest.push_front(record);
                    stalled = Some(error);
                    break;
                }
            }
        }
        rest.retain(|record| refused.iter().all(|(run, _)| *run != record.run));
        self.staged.put_records(rest.into());
        for (run, error) in refused {
            Stats::add(&self.stats.store_errors, 1);
            tracing::error!(target: "goclaw.store", run = %run, code = error.code, "{}", error.message);
            self.fail_unwritten(run, error);
        }
        stalled.map_or(Ok(()), Err)
    }

    /// Takes a run back to what is written of it, and fails it from there.
    fn fail_unwritten(&mut self, run: RunId, error: Error) {
        self.staged.drop_run(run);
        self.lanes.withdraw(run);
        let out: Vec<_> = self.flights.of(run).cloned().collect();
        for batch in out {
            self.landed(batch.id);
            self.executor.abandon(&batch, batch.span);
        }
        let written = self.store.load(run).and_then(|records| {
            records.map(|records| shared::replay(run, &records, &self.plans)).transpose()
        });
        let written = match written {
            Ok(Some(written)) => written,
            unknown => {
                // Not even its submit is written (or the store cannot tell): there is no run to fail.
                let Some(slot) = self.part(run) else { return };
                self.unpark_run(run);
                self.leave_session(&slot.run);
                let error = unknown.err().unwrap_or(error);
                slot.cell.accept(Err(error.clone()));
                return slot.cell.finish(End::Unreadable(error));
            }
        };
        let (lost, _) = run::outstanding(&written, false);
        if let Some(slot) = self.runs.get_mut(&run) {
            slot.run = written;
            slot.calls.clear();
        }
        self.unpark_run(run);
        self.step(run, Input::Unwritable { reason: error.message });
        // Their batches are gone, so nobody will report them.
        for input in lost {
            self.step(run, input);
        }
    }
}
