//! Finds what sessions are to forget when their runs end, on a thread of its own.
//!
//! The owner never works on an index; it asks here, and is told through its inbox. The thread starts
//! with the first question and ends with the owner.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::mpsc::{self, TrySendError};
use std::thread::{self, JoinHandle};

use super::inbox::{Inbox, Message};
use crate::memory::{Forget, Memory};
use crate::model::RunId;

/// Memories that one run forgets at its end; what is left goes at the end of the next.
const SWEPT_MAX: usize = 10_000;
/// Runs that wait to be swept for; of more the sessions forget at the end of their next run.
const WAITING_MAX: usize = 4_096;

/// A run that ends, and what its session forgets.
pub(super) struct Sweep {
    pub(super) run: RunId,
    pub(super) session: Arc<str>,
    /// Strength, 0 to 1.
    pub(super) below: f64,
}

pub(super) struct Sweeper {
    memory: Arc<Memory>,
    inbox: Arc<Inbox>,
    thread: Option<(mpsc::SyncSender<Sweep>, JoinHandle<()>)>,
}

impl Sweeper {
    pub(super) fn new(memory: Arc<Memory>, inbox: Arc<Inbox>) -> Self {
        Self { memory, inbox, thread: None }
    }

    /// Has the run's weak memories found; answered by `Message::Swept`. Never blocks.
    pub(super) fn find(&mut self, sweep: Sweep) {
        if self.thread.is_none() {
            let (sender, sweeps) = mpsc::sync_channel(WAITING_MAX);
            let (memory, inbox) = (Arc::clone(&self.memory), Arc::clone(&self.inbox));
            let work = move || sweeps.iter().for_each(|sweep| answer(&memory, &inbox, &sweep));
            match thread::Builder::new().name("goclaw-sweep".into()).spawn(work) {
                Ok(thread) => self.thread = Some((sender, thread)),
                Err(error) => return tell(&self.inbox, sweep.run, Err(error.to_string())),
            }
        }
        if let Some((sender, _)) = &self.thread {
            let run = sweep.run;
            if let Err(refused) = sender.try_send(sweep) {
                let why = match refused {
                    TrySendError::Full(_) => "too many runs wait to be swept for",
                    TrySendError::Disconnected(_) => "the sweeper has ended",
                };
                tell(&self.inbox, run, Err(why.into()));
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It survives panics of a search; a panic beyond that has nobody left to hear of it.
            let _ = thread.join();
        }
    }
}

fn answer(memory: &Memory, inbox: &Inbox, sweep: &Sweep) {
    let weak = Forget::Below { strength: sweep.below, grace: 0 };
    let doomed = || memory.doomed(&sweep.session, &weak, SWEPT_MAX);
    // Whatever happens in the search: the run must end.
    let found = match panic::catch_unwind(AssertUnwindSafe(doomed)) {
        Ok(Ok(doomed)) => Ok((doomed.ids, doomed.left)),
        Ok(Err(error)) => Err(format!("{}: {}", error.code, error.message)),
        Err(_) => Err("the search panicked".into()),
    };
    tell(inbox, sweep.run, found);
}

fn tell(inbox: &Inbox, run: RunId, found: Result<(Vec<crate::model::EntryId>, u64), String>) {
    let (ids, left, failure) = match found {
        Ok((ids, left)) => (ids, left, None),
        Err(why) => {
            tracing::warn!(target: "goclaw.memory", run = %run, "nothing is forgotten: {why}");
            (Vec::new(), 0, Some(why))
        }
    };
    // Where the engine has closed, the run goes on when it is opened again.
    let _ = inbox.push(Message::Swept { run, ids, left, failure });
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::memory::Shelves;
    use crate::model::Timestamp;
    use crate::store::RamStore;

    /// Every run ends, whether its session could be looked at or not.
    #[test]
    fn runs_beyond_those_that_may_wait_end_without_a_sweep() {
        let inbox = Arc::new(Inbox::default());
        let (go, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        // The first look stands still until the test says so; with the sender the wait ends for good.
        let clock = move || {
            let _ = gate.lock().expect("sound").recv();
            Timestamp(0)
        };
        let store = Arc::new(RamStore::default());
        let memory = Memory::new(store, Arc::clone(&inbox) as _, Arc::<Shelves>::default(), clock);
        let mut sweeper = Sweeper::new(Arc::new(memory.expect("a memory")), Arc::clone(&inbox));
        let all = WAITING_MAX + 10;
        for n in 0..all {
            let (run, session) = (RunId::from_u128(n as u128), "s".into());
            sweeper.find(Sweep { run, session, below: 0.3 });
        }
        drop(go);
        drop(sweeper);
        let failures: Vec<_> = inbox
            .close()
            .into_iter()
            .map(|message| match message {
                Message::Swept { failure, .. } => failure,
                _ => panic!("another message"),
            })
            .collect();
        assert_eq!(failures.len(), all);
        let refused: Vec<_> = failures.into_iter().flatten().collect();
        // The thread may have taken one before there were too many.
        assert!((9..=10).contains(&refused.len()), "{}", refused.len());
        assert!(refused.iter().all(|why| why.contains("too many runs")), "{refused:?}");
    }
}
