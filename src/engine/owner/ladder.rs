//! Stopping what runs, rung by rung: the token, then an exception in the thread, then the fence.
//!
//! A fenced call counts no more: its permit goes back, its task ends, a late result is dropped. Its
//! thread may be stuck for ever; [`stuck`](super::stuck) keeps count of those.

use std::sync::Arc;

use super::Owner;
use super::timers::Due;
use crate::agent::{Batch, Rung};
use crate::engine::explain::Told;
use crate::model::{BatchId, Millis, NodeIx, RunId, Span};
use crate::run::Input;

/// How long an agent that runs on a thread gets to see the token by itself.
const SOFT_GRACE_MS: Millis = 250;

impl Owner {
    /// Asks attempts of a run to stop. They end when their agent ends, with their timeout, or with
    /// the grace.
    pub(super) fn abandon(&mut self, run: RunId, span: Span, attempt: u32) {
        let meant = |batch: &&Arc<Batch>| batch.attempt == attempt;
        let batches: Vec<_> = self
            .flights
            .of(run)
            .filter(meant)
            .filter_map(|batch| overlap(batch.span, span).map(|part| (Arc::clone(batch), part)))
            .collect();
        let soft = SOFT_GRACE_MS.min(self.cancel_grace / 2);
        for (batch, part) in batches {
            self.take_back(&batch);
            self.staged.again = true;
            self.executor.cancel(&batch, part, Rung::Token);
            let (since, until) = (self.now, self.now.plus(self.cancel_grace));
            self.timers.at(self.now.plus(soft), Due::Press(batch.id));
            self.timers.at(until, Due::Fence(batch.id));
            if let Some(flight) = self.flights.out.get_mut(&batch.id) {
                flight.told.get_or_insert(Told { rung: Rung::Token, since, until });
            }
        }
    }

    /// The soft grace is over: an exception in the thread.
    pub(super) fn press(&mut self, id: BatchId) {
        if let Some(flight) = self.flights.out.get_mut(&id) {
            if let Some(told) = &mut flight.told {
                (told.rung, told.since) = (Rung::Raise, self.now);
            }
            self.executor.cancel(&flight.batch, flight.batch.span, Rung::Raise);
        }
    }

    /// Gives up what is still under way in a batch that was told to stop.
    pub(super) fn fence(&mut self, id: BatchId) {
        let Some(batch) = self.batch(id) else { return };
        self.take_finished(id, &batch);
        self.take_back(&batch);
        let out = self.still_running(&batch);
        for &span in &out {
            tracing::warn!(
                target: "goclaw.engine", run = %batch.call.run, trace = %batch.call.trace_id,
                "task `{}` was told to stop and does not; its attempt is given up",
                batch.name(span.lo),
            );
            let attempt = batch.attempt;
            self.step(batch.call.run, Input::Lost { span, attempt, crash: false });
        }
        self.fenced(&batch, &out);
    }

    /// Cancels a run and waits for nothing of it.
    pub(super) fn kill(&mut self, run: RunId, reason: String) {
        self.step(run, Input::Kill { reason });
        let out: Vec<BatchId> = self.flights.of(run).map(|batch| batch.id).collect();
        // Of an ended run nothing is out that still counts.
        out.into_iter().for_each(|id| self.fence(id));
    }

    /// The tasks of a node have had all the time they get: what runs of them is fenced.
    pub(super) fn total_is_over(&mut self, run: RunId, node: NodeIx) {
        let of_node = |batch: &&Arc<Batch>| batch.span.node == node;
        let batches: Vec<_> = self.flights.of(run).filter(of_node).map(Arc::clone).collect();
        for batch in &batches {
            // What is finished came in time.
            self.take_finished(batch.id, batch);
        }
        let out: Vec<_> = batches.iter().map(|batch| self.still_running(batch)).collect();
        if self.step(run, Input::TotalOver { node }) {
            for (batch, out) in batches.iter().zip(out) {
                self.take_back(batch);
                self.fenced(batch, &out);
            }
        }
    }

    /// A batch counts no more, whatever its agent does; `out` are the calls whose end has not come.
    fn fenced(&mut self, batch: &Arc<Batch>, out: &[Span]) {
        self.leave_behind(batch, batch.span, out);
        self.landed(batch.id);
        self.forget_call(batch.call.run, batch.span.node);
    }

    fn batch(&self, id: BatchId) -> Option<Arc<Batch>> {
        self.flights.get(id).map(|flight| Arc::clone(flight.batch()))
    }
}

fn overlap(a: Span, b: Span) -> Option<Span> {
    let (lo, hi) = (a.lo.max(b.lo), a.hi().min(b.hi()));
    (a.node == b.node && lo < hi).then(|| Span::new(a.node, lo, hi - lo))
}
