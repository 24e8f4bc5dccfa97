//! A worker's questions to its engine: one number each, answered in whatever order.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use pyo3::prelude::*;

use super::super::recall::{self, Distant};
use super::super::{batch, errors, failure};
use super::desk::{Current, lock};
use super::outbox::Outbox;
use crate::agent::Batch;
use crate::agent::wire::{Answer, Ask, News};
use crate::model::Error;

/// Questions that may wait for their answers; each takes a thread of the engine while it is worked on.
const ASKS_MAX: usize = 16;
/// How often who waits looks for signals, and whether its call is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) struct Asks {
    outbox: Arc<Outbox>,
    current: Arc<Mutex<Current>>,
    waiting: Mutex<HashMap<u64, SyncSender<Answer>>>,
    room: Condvar,
    last: AtomicU64,
}

/// A question's place; given back however the wait ends.
struct Place<'a>(&'a Asks, u64);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.waiting).remove(&self.1);
        self.0.room.notify_one();
    }
}

impl Asks {
    pub(super) fn new(outbox: Arc<Outbox>, current: Arc<Mutex<Current>>) -> Self {
        let (waiting, last) = (Mutex::default(), AtomicU64::new(0));
        Self { outbox, current, waiting, room: Condvar::new(), last }
    }

    /// The engine has answered. Who asked may have given up.
    pub(super) fn answered(&self, number: u64, answer: Answer) {
        if let Some(asker) = lock(&self.waiting).get(&number) {
            let _ = asker.try_send(answer);
        }
    }

    /// The batch under way, if the call is of it: a coroutine's call is a part of it.
    fn batch_of(&self, call: &Batch) -> Option<u64> {
        let current = lock(&self.current);
        let (batch, _) = current.as_ref()?;
        let is_it = Arc::ptr_eq(&batch.call, &call.call) && batch.attempt == call.attempt;
        is_it.then_some(batch.id.0)
    }

    /// Takes a place among those who wait, once there is room. False when the time is over first.
    fn place(&self, number: u64, sender: &SyncSender<Answer>) -> bool {
        let waiting = lock(&self.waiting);
        let full = |waiting: &mut HashMap<u64, _>| waiting.len() >= ASKS_MAX;
        let waited = self.room.wait_timeout_while(waiting, LOOK_EVERY, full);
        let mut waiting = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        if waiting.len() >= ASKS_MAX {
            return false;
        }
        waiting.insert(number, sender.clone());
        true
    }
}

impl Distant for Asks {
    fn ask(&self, py: Python<'_>, of: &Batch, child: u32, ask: Ask) -> PyResult<Answer> {
        let batch = self.batch_of(of).ok_or_else(|| ended(py, of, child))?;
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = mpsc::sync_channel(1);
        while !py.detach(|| self.place(number, &sender)) {
            look_up(py, of)?;
        }
        let _place = Place(self, number);
        self.outbox.tell(&News::Ask { batch, child, number, ask });
        // A receiver may not be shared, so it moves into each wait and back.
        let mut answer = answer;
        loop {
            let heard;
            (answer, heard) = py.detach(move || {
                let heard = answer.recv_timeout(LOOK_EVERY);
                (answer, heard)
            });
            match heard {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => {
                    look_up(py, of)?;
                    // A thread that the agent left behind: nobody answers it any more.
                    self.batch_of(of).ok_or_else(|| ended(py, of, child))?;
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(errors::raised(
                        py,
                        &Error::new(
                            "engine.closed",
                            "the engine does not answer any more",
                            "open a new one",
                        ),
                    ));
                }
            }
        }
    }
}

fn ended(py: Python<'_>, of: &Batch, child: u32) -> PyErr {
    errors::raised(py, &recall::ended(&of.name(child)))
}

/// Looks for signals, and whether the call is to stop.
fn look_up(py: Python<'_>, of: &Batch) -> PyResult<()> {
    py.check_signals()?;
    if batch::is_stopping(of) {
        let class = failure::cancelled_class(py)?;
        return Err(PyErr::from_value(class.call1(("the call was asked to stop",))?));
    }
    Ok(())
}
