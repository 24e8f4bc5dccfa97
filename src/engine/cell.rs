//! What a handle and the owner share of one run: its state, its end, who waits for it.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::refusal;
use crate::model::{Durability, Error, Result, RunId, RunState, Timestamp};
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

type Acceptance = Result<Option<Arc<Cell>>>;

#[derive(Default)]
struct Inner {
    /// `None` inside: this very cell, which must not hold itself.
    acceptance: Option<Acceptance>,
    at_answer: Vec<Box<dyn FnOnce() + Send>>,
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
    /// The run cannot be replayed, for this reason.
    Unreadable(Error),
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

    /// Answers the submitter: this run, another one that exists already, or a refusal. The first
    /// answer stands.
    pub(super) fn accept(&self, answer: Result<Arc<Cell>>) {
        let answer = answer.map(|cell| (!std::ptr::eq(self, Arc::as_ptr(&cell))).then_some(cell));
        let mut inner = self.lock();
        inner.acceptance.get_or_insert(answer);
        self.answered(inner);
    }

    fn answered(&self, mut inner: MutexGuard<'_, Inner>) {
        let at_answer = std::mem::take(&mut inner.at_answer);
        drop(inner);
        self.changed.notify_all();
        at_answer.into_iter().for_each(|call| call());
    }

    /// Calls `f` when the submitter has an answer; at once where there is one.
    pub(super) fn at_answer(&self, f: Box<dyn FnOnce() + Send>) {
        let mut inner = self.lock();
        if inner.acceptance.is_none() {
            inner.at_answer.push(f);
        } else {
            drop(inner);
            f();
        }
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
        if inner.acceptance.is_some() {
            self.answered(inner);
        } else {
            drop(inner);
            self.changed.notify_all();
        }
        at_end.into_iter().for_each(|call| call());
    }

    /// Tells a submitter who has had no answer yet that the engine closed.
    pub(super) fn refuse_unanswered(&self) {
        let mut inner = self.lock();
        if inner.acceptance.is_none() {
            inner.acceptance = Some(Err(refusal::closed()));
            self.answered(inner);
        }
    }

    /// Where the results are, once the run or the engine has ended.
    pub(super) fn end(&self) -> Option<End> {
        self.lock().end.clone()
    }

    /// Keeps an ended run that was loaded, for as long as the cell lives.
    pub(super) fn keep(&self, run: Arc<Run>) {
        self.lock().end = Some(End::Kept(run));
    }

    /// Calls `f` at the end; at once where that is past.
    pub(super) fn at_end(&self, f: Box<dyn FnOnce() + Send>) {
        let mut inner = self.lock();
        if inner.end.is_none() {
            inner.at_end.push(f);
        } else {
            drop(inner);
            f();
        }
    }

    /// The answer to the submitter; `None` inside: this very run.
    pub(super) fn wait_accepted(&self, timeout: Option<Duration>) -> Option<Acceptance> {
        self.wait_until(timeout, |inner| inner.acceptance.clone())
    }

    pub(super) fn wait_end(&self, timeout: Option<Duration>) -> Option<End> {
        self.wait_until(timeout, |inner| inner.end.clone())
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
