//! Letters for a batch in a worker process: put into bytes on a thread with the GIL, sent by the supervisor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::prelude::*;

use super::super::object::{self, Mode};
use super::pool::Pool;
use crate::agent::{Batch, Letter, Letters, Postman};
use crate::model::RunId;

/// What is on its way to a batch.
#[derive(Default)]
pub(super) struct Bag {
    pub(super) put: Vec<Letter>,
    pub(super) withdrawn: Vec<RunId>,
    /// Who brought what was put in, and not withdrawn.
    known: Vec<RunId>,
}

/// The postman of one batch. Lives as long as the batch is queued or at a worker.
pub(in crate::py) struct Post {
    pool: Weak<Pool>,
    letters: Arc<Letters>,
    bag: Mutex<Bag>,
}

impl Postman for Post {
    fn changed(self: Arc<Self>) {
        if let Some(pool) = self.pool.upgrade() {
            pool.has_post(self);
        }
    }
}

impl Post {
    /// A postman for the letters of the batch's run, if it may have any.
    pub(super) fn hired(pool: &Arc<Pool>, batch: &Batch) -> Option<Arc<Self>> {
        let letters = batch.call.letters.as_ref()?;
        let (letters, bag) = (Arc::clone(letters), Mutex::default());
        let post = Arc::new(Self { pool: Arc::downgrade(pool), letters, bag });
        // Before it looks for the first time: what comes from now on is told.
        post.letters.hire(&post);
        Some(post)
    }

    fn bag(&self) -> MutexGuard<'_, Bag> {
        self.bag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts what is new into the bag. A letter that cannot be put into bytes stays with those behind it:
    /// unread, they run as messages of their own.
    pub(super) fn collect(&self, py: Python<'_>, mode: &Mode) {
        let encoded = Mode { memory: false, ..*mode };
        let mut bag = self.bag();
        let all = self.letters.all();
        let is_there = |run: &RunId| all.iter().any(|(from, _)| from == run);
        let (known, gone) = std::mem::take(&mut bag.known).into_iter().partition(is_there);
        bag.known = known;
        bag.put.retain(|(from, _)| is_there(from));
        bag.withdrawn.extend::<Vec<_>>(gone);
        for (from, message) in all {
            if bag.known.contains(&from) {
                continue;
            }
            let bytes = object::to_object(py, &message, mode)
                .and_then(|message| object::to_payload(message.bind(py), &encoded));
            match bytes {
                Ok(bytes) => {
                    bag.known.push(from);
                    bag.put.push((from, bytes));
                }
                Err(why) => {
                    tracing::warn!(target: "goclaw.engine", run = %from, "a message does not reach the worker process: {}", why.message);
                    break;
                }
            }
        }
    }

    /// What is to be sent, once.
    pub(super) fn take(&self) -> (Vec<Letter>, Vec<RunId>) {
        let mut bag = self.bag();
        (std::mem::take(&mut bag.put), std::mem::take(&mut bag.withdrawn))
    }

    /// The batch's calls have read these.
    pub(super) fn read(&self, by_run: &[RunId]) {
        self.letters.read_elsewhere(by_run);
    }
}
