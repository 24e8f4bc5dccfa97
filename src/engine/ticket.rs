//! A submit on its way, and the run that came of it, as users hold them.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use super::cell::{Cell, End};
use super::health::Beat;
use super::inbox::Message;
use super::refusal;
use super::shared::Shared;
use crate::agent::Reports;
use crate::model::{Durability, Error, Growth, Result, RunId, RunState};
use crate::plan::Known;
use crate::run::Run;

/// A submit that may not be accepted yet.
pub struct Ticket {
    pub(super) cell: Arc<Cell>,
    pub(super) shared: Arc<Shared>,
}

impl Ticket {
    /// The id that the run has, or will have.
    pub fn id(&self) -> RunId {
        self.cell.id
    }

    /// Waits until the run is durable at its level. `None` when the time is over: call again.
    ///
    /// # Errors
    /// `lane.full`, `run.conflict`, `engine.closed`, `store.*`.
    pub fn wait(&self, timeout: Option<Duration>) -> Option<Result<Handle>> {
        let answer = self.cell.wait_accepted(timeout)?;
        Some(answer.map(|other| Handle {
            cell: other.unwrap_or_else(|| Arc::clone(&self.cell)),
            shared: Arc::clone(&self.shared),
        }))
    }

    /// Calls `f` once there is an answer (`wait` then has it). It may be called on the owner thread:
    /// it must be cheap, must not block and must not attach to Python.
    pub fn on_answer(&self, f: Box<dyn FnOnce() + Send>) {
        self.cell.at_answer(f);
    }

    /// Withdraws the submit. Where its run was accepted in the meantime, the run is cancelled: nobody
    /// has a handle of it. One that interrupts its session goes on: it may be what cancelled who submitted it.
    pub fn give_up(&self) {
        self.cell.given_up.store(true, Ordering::Release);
        // Where it waits for a place it is to be forgotten; a full inbox, or a closed one, will do so anyway.
        let _ = self.shared.inbox.push(Message::Withdrawn);
        let (cell, inbox) = (Arc::downgrade(&self.cell), Arc::clone(&self.shared.inbox));
        self.cell.at_answer(Box::new(move || {
            let Some(cell) = cell.upgrade() else { return };
            // Only a run of this very submit: one that existed before belongs to somebody else.
            if let Some(Ok(None)) = cell.wait_accepted(Some(Duration::ZERO)) {
                // A closed engine has stopped the run already.
                let _ = inbox.push(Message::Forsaken { run: cell.id });
            }
        }));
    }
}

/// One run, as its holders see it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) cell: Arc<Cell>,
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// True for a run of the engine that takes these reports.
    pub fn is_of(&self, reports: &Arc<dyn Reports>) -> bool {
        self.shared.takes(reports)
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({} {})", self.cell.id, self.state().as_str())
    }
}

impl Handle {
    pub fn id(&self) -> RunId {
        self.cell.id
    }
    pub fn state(&self) -> RunState {
        self.cell.state()
    }
    pub fn durability(&self) -> Durability {
        self.cell.durability
    }

    /// Waits for the end of the run. False when the time is over first.
    ///
    /// # Errors
    /// `engine.closed` when the engine closes before the run ends; an engine with a path resumes it
    /// when it is opened again. `run.incompatible` when this version cannot replay the run.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        match self.cell.wait_end(timeout) {
            None => Ok(false),
            Some(End::Kept(_) | End::Stored) => Ok(true),
            Some(End::Closed) => Err(closed_first(self.cell.id)),
            Some(End::Unreadable(_)) if self.state().is_terminal() => Ok(true),
            Some(End::Unreadable(error)) => Err(error),
        }
    }

    /// Calls `f` once, at the end of the run or of the engine. It may be called on the owner thread:
    /// it must be cheap, must not block and must not attach to Python.
    pub fn on_end(&self, f: Box<dyn FnOnce() + Send>) {
        self.cell.at_end(f);
    }

    /// Looks at the run's state: a live one between two turns of the owner, an ended one as it ended.
    /// What is not as durable yet as the run was promised to be is not shown.
    ///
    /// # Errors
    /// `engine.closed`, `run.unknown`, `run.incompatible`, `store.*`.
    pub fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Run) -> T + Send + 'static,
    ) -> Result<T> {
        match self.cell.end() {
            Some(End::Kept(run)) => return Ok(look(&run)),
            Some(End::Stored) => return Ok(look(&*self.stored()?)),
            Some(End::Closed) if self.shared.is_memory() => return Err(closed_first(self.cell.id)),
            Some(End::Closed) => return Ok(look(&*self.shared.load(self.cell.id)?)),
            Some(End::Unreadable(error)) => return Err(error),
            None => {}
        }
        let (reply, answer) = mpsc::sync_channel(1);
        let look = Box::new(move |run: Option<&Run>| {
            // The asker may have gone.
            let _ = reply.send(match run {
                Some(run) => Ok(look(run)),
                None => Err(look),
            });
        });
        self.shared.inbox.push(Message::Inspect { run: self.cell.id, look })?;
        match answer.recv().map_err(|_| refusal::closed())? {
            Ok(value) => Ok(value),
            // It ended in between, so its end is known by now; or the store is behind.
            Err(look) => match self.cell.end() {
                Some(End::Kept(run)) => Ok(look(&run)),
                Some(End::Stored) => Ok(look(&*self.stored()?)),
                Some(End::Unreadable(error)) => Err(error),
                None if !self.shared.is_memory() => {
                    Ok(look(&self.shared.load_visible(self.cell.id)?))
                }
                Some(End::Closed) | None => Err(refusal::unknown_run(self.cell.id)),
            },
        }
    }

    /// Loads an ended run once and keeps it for as long as a handle lives.
    fn stored(&self) -> Result<Arc<Run>> {
        let run = self.shared.load(self.cell.id)?;
        self.cell.keep(Arc::clone(&run));
        Ok(run)
    }

    /// Asks the run to stop: what has not begun ends at once, what runs is told. A run that has
    /// ended stays as it is.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn cancel(&self, reason: &str) -> Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        let reason = reason.to_owned();
        self.shared.inbox.push(Message::Cancel { run: self.cell.id, reason, reply })?;
        answer.recv().map_err(|_| refusal::closed())?
    }

    /// Cancels the run and waits for nothing of it: what runs is given up at once.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn kill(&self, reason: &str) -> Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        let reason = reason.to_owned();
        self.shared.inbox.push(Message::Kill { run: self.cell.id, reason, reply })?;
        answer.recv().map_err(|_| refusal::closed())?
    }

    /// The latest heartbeats of the run's calls under way; none of a run that has ended.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn beats(&self) -> Result<Vec<Beat>> {
        if self.cell.end().is_some() {
            return Ok(Vec::new());
        }
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.inbox.push(Message::Beats { run: self.cell.id, reply })?;
        answer.recv().map_err(|_| refusal::closed())
    }

    /// Adds tasks to the run. Adding the same tasks again changes nothing.
    ///
    /// # Errors
    /// `workflow.*` as from the compiler, `workflow.task_conflict`, `run.sealed` where the run is
    /// over or being cancelled, `engine.closed`.
    pub fn add_tasks(&self, growth: Growth, known: Arc<dyn Known + Send + Sync>) -> Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.inbox.push(Message::Grow { run: self.cell.id, growth, known, reply })?;
        answer.recv().map_err(|_| refusal::closed())?
    }
}

fn closed_first(run: RunId) -> Error {
    let closed = refusal::closed();
    Error { message: format!("{} before run `{run}` ended", closed.message), ..closed }
}
