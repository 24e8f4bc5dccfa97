//! The owner's inbox: many push, one drains; one wake-up brings many messages.

use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::cell::Cell;
use super::explain::Explanation;
use super::lanes::LaneAsk;
use super::options::{Closed, Submit};
use super::refusal;
use crate::agent::{Report, Reports};
use crate::lane::LaneView;
use crate::model::{Growth, Millis, Result, RunId, Timestamp};
use crate::plan::Known;
use crate::run::Run;

/// Submits that may wait in the inbox; more wait outside, or are refused.
const INBOX_SUBMITS_MAX: usize = 65_536;

/// Where the owner sends an answer.
pub(super) type Reply<T> = mpsc::SyncSender<T>;

/// A question about a run's state.
pub(super) type Look = Box<dyn FnOnce(Option<&Run>) + Send>;

/// New runs, each with what its handle will share.
pub(super) type Submits = Vec<(Submit, Arc<Cell>)>;

/// What the owner can be told.
pub(super) enum Message {
    Submit(Submits),
    Reports(Vec<Report>),
    Cancel {
        run: RunId,
        reason: String,
        reply: Reply<Result<()>>,
    },
    Grow {
        run: RunId,
        growth: Growth,
        known: Arc<dyn Known + Send + Sync>,
        reply: Reply<Result<()>>,
    },
    /// Runs a closure on a live run between two turns; `None` where the run is not live.
    Inspect {
        run: RunId,
        look: Look,
    },
    Find {
        run: RunId,
        reply: Reply<Option<Arc<Cell>>>,
    },
    Lanes {
        reply: Reply<Vec<LaneView>>,
    },
    Lane(LaneAsk),
    Explain {
        run: RunId,
        /// `None`: the whole run.
        task: Option<String>,
        reply: Reply<Result<Option<Explanation>>>,
    },
    /// Forgets ended runs that an engine in memory keeps: the one named, or all that ended before.
    Forget {
        run: Option<RunId>,
        before: Timestamp,
    },
    /// Agents that parked runs wait for.
    Missing {
        reply: Reply<Vec<String>>,
    },
    /// Agents were registered: look again at what is parked.
    Wake,
    Close {
        drain: Millis,
        reply: Reply<Closed>,
    },
}

#[derive(Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
    news: Condvar,
    room: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: Vec<Message>,
    submits: usize,
    parked: bool,
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves a message.
    ///
    /// # Errors
    /// `engine.closed`.
    pub(super) fn push(&self, message: Message) -> Result<()> {
        let queue = self.lock();
        if queue.closed {
            return Err(refusal::closed());
        }
        self.put(queue, message);
        Ok(())
    }

    fn put(&self, mut queue: MutexGuard<'_, Queue>, message: Message) {
        queue.messages.push(message);
        let parked = std::mem::take(&mut queue.parked);
        drop(queue);
        if parked {
            self.news.notify_one();
        }
    }

    /// Leaves submits, waiting up to `patience` for room. Gives them back when there is none.
    pub(super) fn push_submits(
        &self,
        submits: Submits,
        patience: Duration,
    ) -> Result<Option<Submits>> {
        let mut queue = self.lock();
        if queue.submits >= INBOX_SUBMITS_MAX {
            let full = |queue: &mut Queue| queue.submits >= INBOX_SUBMITS_MAX && !queue.closed;
            let waited = self.room.wait_timeout_while(queue, patience, full);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if queue.closed {
            return Err(refusal::closed());
        }
        if queue.submits >= INBOX_SUBMITS_MAX {
            return Ok(Some(submits));
        }
        queue.submits += submits.len();
        self.put(queue, Message::Submit(submits));
        Ok(None)
    }

    /// Takes everything; waits for the first message until `deadline` (for ever without one).
    pub(super) fn drain(&self, into: &mut Vec<Message>, deadline: Option<Instant>) {
        let mut queue = self.lock();
        while queue.messages.is_empty() {
            queue.parked = true;
            queue = match deadline {
                None => self.news.wait(queue).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let woken = self.news.wait_timeout(queue, left);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        queue.parked = false;
        std::mem::swap(&mut queue.messages, into);
        if std::mem::take(&mut queue.submits) >= INBOX_SUBMITS_MAX {
            self.room.notify_all();
        }
    }

    /// Refuses everything from now on; what is still in there is handed back.
    pub(super) fn close(&self) -> Vec<Message> {
        let mut queue = self.lock();
        queue.closed = true;
        self.room.notify_all();
        std::mem::take(&mut queue.messages)
    }
}

impl Reports for Inbox {
    fn report(&self, reports: Vec<Report>) {
        // After the end nobody needs reports any more.
        let _ = self.push(Message::Reports(reports));
    }
}
