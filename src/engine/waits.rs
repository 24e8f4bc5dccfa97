//! Agents that wait for runs, as the engine is told of them: it refuses those that wait for themselves.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::inbox::{Inbox, Message};
use super::ticket::Handle;
use crate::agent::Waker;
use crate::model::{BatchId, Error, RunId};

/// The call of an agent that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Waiter {
    pub run: RunId,
    pub batch: BatchId,
    pub child: u32,
}

/// Where the engine says that it refuses a wait.
pub(super) struct Refusal {
    error: OnceLock<Error>,
    wake: Mutex<Option<Waker>>,
}

impl Refusal {
    pub(super) fn refuse(&self, error: Error) {
        let _ = self.error.set(error);
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(wake) = wake {
            wake();
        }
    }
}

/// An agent waits for a run. Dropping it tells the engine that the wait is over.
pub struct Awaited {
    inbox: Arc<Inbox>,
    by: Waiter,
    on: RunId,
    refusal: Arc<Refusal>,
}

impl Awaited {
    /// Why the wait would never end, once the engine knows.
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.error.get()
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        // A closed engine has nobody to refuse.
        let _ = self.inbox.push(Message::AwaitsNoMore { by: self.by, on: self.on });
    }
}

impl Handle {
    /// Tells the engine that an agent of it is about to wait for the run, and does not wait for an
    /// answer. `wake` is called, perhaps on the owner's thread, where the engine refuses that.
    pub fn awaited(&self, by: Waiter, wake: Waker) -> Awaited {
        let refusal = Arc::new(Refusal { error: OnceLock::new(), wake: Mutex::new(Some(wake)) });
        let (inbox, on) = (Arc::clone(&self.shared.inbox), self.cell.id);
        // A closed engine is noticed by whoever waits.
        let _ = inbox.push(Message::Awaits { by, on, refusal: Arc::clone(&refusal) });
        Awaited { inbox, by, on, refusal }
    }
}
