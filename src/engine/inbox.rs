//! The owner's inbox: many push, one drains; one wake-up brings many messages.

use std::sync::Arc;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::cell::Cell;
use super::explain::Explanation;
use super::guests::GuestAsk;
use super::health::{Beat, Pulse};
use super::lanes::LaneAsk;
use super::options::{Closed, Submit};
use super::refusal;
use super::sessions::SessionAsk;
use super::waits::{Refusal, Waiter};
use crate::agent::{Report, Reports};
use crate::lane::LaneView;
use crate::memory::Journal;
use crate::model::{EntryId, Growth, MemoryOp, Millis, Result, RunId, Timestamp};
use crate::plan::Known;
use crate::run::Run;

/// Submits that may wait in the inbox; more wait outside, or are refused. One message may go over.
const INBOX_SUBMITS_MAX: usize = 65_536;

/// Reports of progress that may wait in the inbox; those that are too many are left out, as nothing
/// depends on them.
///
/// All other messages are bounded by who sends them: outcomes by the permits that are out, questions
/// by the threads that wait for their answers.
const INBOX_PROGRESS_MAX: usize = 16_384;

/// Where the owner sends an answer.
pub(super) type Reply<T> = mpsc::SyncSender<T>;

/// A question about a run's state.
pub(super) type Look = Box<dyn FnOnce(Option<&Run>) + Send>;

/// New runs, each with what its handle will share.
pub(super) type Submits = Vec<(Submit, Arc<Cell>)>;

/// What parked runs wait for, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub agents: Vec<String>,
    pub lanes: Vec<String>,
}

/// What the owner can be told.
pub(super) enum Message {
    Submit(Submits),
    Reports(Vec<Report>),
    Cancel {
        run: RunId,
        reason: String,
        reply: Reply<Result<()>>,
    },
    /// Whoever submitted an accepted run gave up before there was a handle of it.
    Forsaken {
        run: RunId,
    },
    /// As `Cancel`, and nothing of it is waited for.
    Kill {
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
    /// Runs a closure on a live run between two turns; `None` where the run is not live, or is ahead
    /// of a store that refuses.
    Inspect {
        run: RunId,
        look: Look,
    },
    Find {
        run: RunId,
        reply: Reply<Option<Arc<Cell>>>,
    },
    Pulse {
        reply: Reply<Pulse>,
    },
    /// Heartbeats of a run's calls under way.
    Beats {
        run: RunId,
        reply: Reply<Vec<Beat>>,
    },
    Lanes {
        reply: Reply<Vec<LaneView>>,
    },
    Lane(LaneAsk),
    /// Work outside of runs that goes through a lane.
    Guest(GuestAsk),
    Explain {
        run: RunId,
        /// `None`: the whole run.
        task: Option<String>,
        reply: Reply<Result<Option<Explanation>>>,
    },
    Sessions(SessionAsk),
    /// Forgets ended runs that an engine in memory keeps: the one named, or all that ended before.
    Forget {
        run: Option<RunId>,
        before: Timestamp,
    },
    /// What was memorized outside of any run.
    Memory {
        ops: Vec<MemoryOp>,
        reply: Reply<Result<()>>,
    },
    /// What a run's session is to forget before the run ends.
    Swept {
        run: RunId,
        ids: Vec<EntryId>,
        left: u64,
        failure: Option<String>,
    },
    /// What parked runs wait for.
    Missing {
        reply: Reply<Missing>,
    },
    /// A submit that may wait for a place was withdrawn.
    Withdrawn,
    /// A test looks at the owner, or moves its clock.
    #[cfg(test)]
    Probe(Box<dyn FnOnce(&mut super::owner::Owner) + Send>),
    /// An agent is about to wait for a run.
    Awaits {
        by: Waiter,
        on: RunId,
        refusal: Arc<Refusal>,
    },
    /// A wait is over, or given up.
    AwaitsNoMore {
        by: Waiter,
        on: RunId,
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
    progress: usize,
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
        queue.progress = 0;
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
    fn report(&self, mut reports: Vec<Report>) {
        let mut queue = self.lock();
        if queue.closed {
            // After the end nobody needs reports any more.
            return;
        }
        reports.retain(|report| {
            let is_progress = matches!(report, Report::Progress { .. });
            queue.progress += usize::from(is_progress);
            !is_progress || queue.progress <= INBOX_PROGRESS_MAX
        });
        if !reports.is_empty() {
            self.put(queue, Message::Reports(reports));
        }
    }
}

impl Journal for Inbox {
    fn commit(&self, ops: Vec<MemoryOp>) -> Result<()> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.push(Message::Memory { ops, reply })?;
        // The owner drops what it cannot answer any more.
        answer.recv().map_err(|_| refusal::closed())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BatchId, Span};

    #[test]
    fn progress_that_nobody_takes_up_is_left_out_and_outcomes_never_are() {
        let inbox = Inbox::default();
        let run = RunId::from_u128(1);
        let progress = |_| Report::Progress {
            run,
            span: Span::one(0, 0),
            attempt: 1,
            done: 0.5,
            total: None,
            text: None,
        };
        inbox.report((0..INBOX_PROGRESS_MAX).map(progress).collect());
        inbox.report(vec![
            progress(0),
            Report::Waiting { batch: BatchId(1), child: 0 },
            progress(1),
        ]);
        let mut messages = Vec::new();
        inbox.drain(&mut messages, None);
        let left: Vec<usize> = messages
            .iter()
            .map(|message| match message {
                Message::Reports(reports) => reports.len(),
                _ => panic!("only reports were sent"),
            })
            .collect();
        assert_eq!(left, [INBOX_PROGRESS_MAX, 1]);
        inbox.report(vec![progress(0)]);
        messages.clear();
        inbox.drain(&mut messages, None);
        assert_eq!(messages.len(), 1, "there is room again");
    }
}
