//! What a handle and the owner share of one run: its state, its end, who waits for it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::handle::Shared;
use super::inbox::Message;
use super::refusal;
use crate::model::{Durability, Error, Growth, Result, RunId, RunState, Timestamp};
use crate::plan::Known;
use crate::run::Run;

/// Shared by the owner and all handles of one run.
pub(super) struct Cell {
    pub(super) id: RunId,
    pub(super) durability: Durability,
    state: AtomicU8,
    /// The submitter gave up before the run was accepted.
    pub(super) given_up: AtomicBool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    /// `None` inside: this very cell, which must not hold itself.
    acceptance: Option<Result<Option<Arc<Cell>>>>,
    end: Option<End>,
    at_end: Vec<Box<dyn FnOnce() + Send>>,
}

/// Where an ended run's results are.
#[derive(Clone)]
pub(super) enum End {
    Kept(Arc<Run>),
    Stored,
    /// The engine closed first; the run is not over.
    Closed,
}

impl Cell {
    pub(super) fn new(id: RunId, durability: Durability, state: RunState) -> Arc<Self> {
        Arc::new(Self {
            id,
            durability,
            state: AtomicU8::new(state as u8),
            given_up: AtomicBool::new(false),
            inner: Mutex::default(),
            changed: Condvar::new(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn state(&self) -> RunState {
        RunState::ALL[usize::from(self.state.load(Ordering::Acquire))]
    }

    pub(super) fn set_state(&self, state: RunState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// Answers the submitter: this run, another one that exists already, or a refusal.
    pub(super) fn accept(&self, answer: Result<Arc<Cell>>) {
        let answer = answer.map(|cell| (!std::ptr::eq(self, Arc::as_ptr(&cell))).then_some(cell));
        self.lock().acceptance = Some(answer);
        self.changed.notify_all();
    }

    /// True for a run that ended before `before`, where its end is kept in memory.
    pub(super) fn ended_before(&self, before: Timestamp) -> bool {
        match &self.lock().end {
            Some(End::Kept(run)) => run.ended_at().is_some_and(|ended| ended < before),
            _ => false,
        }
    }

    /// Releases every waiter.
    pub(super) fn finish(&self, end: End) {
        let mut inner = self.lock();
        if inner.end.is_none() {
            // A store that refuses may have kept the run from being accepted: its submitter waits, too.
            if matches!(end, End::Closed) && inner.acceptance.is_none() {
                inner.acceptance = Some(Err(refusal::closed()));
            }
            inner.end = Some(end);
        }
        let at_end = std::mem::take(&mut inner.at_end);
        drop(inner);
        self.changed.notify_all();
        at_end.into_iter().for_each(|call| call());
    }

    fn wait_until<T>(
        &self,
        timeout: Option<Duration>,
        mut ready: impl FnMut(&Inner) -> Option<T>,
    ) -> Option<T> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut inner = self.lock();
        loop {
            if let Some(value) = ready(&inner) {
                return Some(value);
            }
            inner = match deadline {
                None => self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    let woken = self.changed.wait_timeout(inner, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

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
        let answer = self.cell.wait_until(timeout, |inner| inner.acceptance.clone())?;
        Some(answer.map(|other| Handle {
            cell: other.unwrap_or_else(|| Arc::clone(&self.cell)),
            shared: Arc::clone(&self.shared),
        }))
    }

    /// Withdraws the submit if the run is not accepted yet.
    pub fn give_up(&self) {
        self.cell.given_up.store(true, Ordering::Release);
    }
}

/// One run, as its holders see it. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) cell: Arc<Cell>,
    pub(super) shared: Arc<Shared>,
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
    /// when it is opened again.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        match self.cell.wait_until(timeout, |inner| inner.end.clone()) {
            None => Ok(false),
            Some(End::Kept(_) | End::Stored) => Ok(true),
            Some(End::Closed) => Err(closed_first(self.cell.id)),
        }
    }

    /// Calls `f` once, at the end of the run or of the engine. It may be called on the owner thread:
    /// it must be cheap, must not block and must not attach to Python.
    pub fn on_end(&self, f: Box<dyn FnOnce() + Send>) {
        let mut inner = self.cell.lock();
        if inner.end.is_none() {
            inner.at_end.push(f);
        } else {
            drop(inner);
            f();
        }
    }

    /// Looks at the run's state: a live one between two turns of the owner, an ended one as it ended.
    ///
    /// # Errors
    /// `engine.closed`, `run.unknown`, `store.*`.
    pub fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Run) -> T + Send + 'static,
    ) -> Result<T> {
        let end = self.cell.lock().end.clone();
        match end {
            Some(End::Kept(run)) => return Ok(look(&run)),
            Some(End::Stored) => return Ok(look(&*self.stored()?)),
            Some(End::Closed) if self.shared.is_memory() => return Err(closed_first(self.cell.id)),
            Some(End::Closed) => return Ok(look(&*self.shared.load(self.cell.id)?)),
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
            // It ended in between, so its end is known by now.
            Err(look) => match self.cell.lock().end.clone() {
                Some(End::Kept(run)) => Ok(look(&run)),
                Some(End::Stored) => Ok(look(&*self.stored()?)),
                Some(End::Closed) | None => Err(refusal::unknown_run(self.cell.id)),
            },
        }
    }

    /// Loads an ended run once and keeps it for as long as a handle lives.
    fn stored(&self) -> Result<Arc<Run>> {
        let run = self.shared.load(self.cell.id)?;
        self.cell.lock().end = Some(End::Kept(Arc::clone(&run)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submitter_that_was_never_answered_is_told_that_the_engine_closed() {
        let cell = Cell::new(RunId::from_u128(1), Durability::Strict, RunState::Pending);
        cell.finish(End::Closed);
        let answer = cell.wait_until(Some(Duration::ZERO), |inner| inner.acceptance.clone());
        let refusal = answer.expect("an answer").err().expect("a refusal");
        assert_eq!(refusal.code, "engine.closed");
    }

    #[test]
    fn an_accepted_run_stays_accepted_when_the_engine_closes() {
        let cell = Cell::new(RunId::from_u128(1), Durability::Strict, RunState::Pending);
        cell.accept(Ok(Arc::clone(&cell)));
        cell.finish(End::Closed);
        let answer = cell.wait_until(Some(Duration::MAX), |inner| inner.acceptance.clone());
        assert!(answer.expect("an answer").is_ok());
    }
}
