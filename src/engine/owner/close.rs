//! Closing: refuse, drain, interrupt the rest, flush, release every waiter.

use std::sync::Arc;

use super::Owner;
use super::timers::Due;
use crate::agent::Batch;
use crate::engine::cell::End;
use crate::engine::inbox::{Message, Reply};
use crate::engine::options::Closed;
use crate::engine::refusal;
use crate::model::{Millis, Span};
use crate::run::Input;

/// How long threads and coroutines get to end once they are told to stop.
const STOP_GRACE_MS: Millis = 500;

/// A close under way.
pub(super) struct Closing {
    replies: Vec<Reply<Closed>>,
    /// The drain time is over.
    over: bool,
    done: bool,
}

impl Owner {
    pub(super) fn is_closed(&self) -> bool {
        self.closing.as_ref().is_some_and(|closing| closing.done)
    }

    pub(super) fn begin_closing(&mut self, drain: Millis, reply: Reply<Closed>) {
        self.timers.at(self.now.plus(drain), Due::Drained);
        match &mut self.closing {
            Some(closing) => closing.replies.push(reply),
            None => {
                self.closing = Some(Closing { replies: vec![reply], over: false, done: false });
                self.refuse_blocked(&refusal::closed());
            }
        }
    }

    pub(super) fn drain_is_over(&mut self) {
        if let Some(closing) = &mut self.closing {
            closing.over = true;
        }
    }

    pub(super) fn close_when_drained(&mut self) {
        let Some(closing) = &self.closing else { return };
        // A run whose tasks have ended is only a search away from its own end.
        let sweeps = self.runs.values().any(|slot| slot.run.is_sweeping());
        let settled = self.flights.is_empty() && !sweeps && self.staged.stall().is_none();
        if closing.over || settled {
            self.close_now();
        }
    }

    fn close_now(&mut self) {
        let mut closed = Closed::default();
        let batches: Vec<_> = self.flights.drain().collect();
        for batch in &batches {
            closed.interrupted += self.interrupt(batch);
        }
        self.commit();
        if let Some(error) = self.staged.stall() {
            tracing::error!(target: "goclaw.store", code = error.code, "closed while the store refuses: {}", error.message);
        }
        closed.stuck_threads = self.executor.close(STOP_GRACE_MS);
        // Nothing is memorized any more. What this leaves undone, the next opening does.
        self.shelves.close();
        if let Err(error) = self.store.close() {
            tracing::error!(target: "goclaw.store", code = error.code, "{}", error.message);
        }
        closed.unfinished = self.runs.len() + self.parked.unreadables();
        self.release();
        let Some(closing) = &mut self.closing else { return };
        closing.done = true;
        for reply in closing.replies.drain(..) {
            // The closer may have gone.
            let _ = reply.send(closed.clone());
        }
    }

    /// Ends a batch without an outcome for what is still under way; it costs no retry.
    fn interrupt(&mut self, batch: &Arc<Batch>) -> u64 {
        let (run, attempt) = (batch.call.run, batch.attempt);
        if let Some((lo, outcomes)) = batch.take_finished() {
            let span = Span::new(batch.span.node, lo, outcomes.len() as u32);
            self.step(run, Input::Done { span, attempt, outcomes });
        }
        let spans = self.still_running(batch);
        let tasks = spans.iter().map(|span| u64::from(span.len)).sum();
        for span in spans {
            self.step(run, Input::Lost { span, attempt, crash: false });
        }
        self.executor.abandon(batch, batch.span);
        tasks
    }

    /// Releases everybody who waits for anything of this engine.
    fn release(&mut self) {
        for slot in self.runs.values() {
            slot.cell.finish(End::Closed);
        }
        self.refuse_blocked(&refusal::closed());
        for message in self.inbox.close() {
            // Dropping a question lets its asker know that there is no answer.
            if let Message::Submit(submits) = message {
                submits.iter().for_each(|(_, cell)| cell.accept(Err(refusal::closed())));
            }
        }
    }
}

impl Drop for Owner {
    /// Also when the owner panics: no caller hangs.
    fn drop(&mut self) {
        if !self.is_closed() {
            self.shelves.close();
            self.release();
            self.executor.close(0);
        }
    }
}
