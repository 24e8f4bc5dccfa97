//! The thread behind the line: has the next segment ready, moves sealed ones into LMDB.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::core::Core;
use crate::model::{Error, Result};

/// How long a waiting owner believes that news may still come without looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How the last checkpoint went, and a bell that rings after each.
#[derive(Default)]
pub(super) struct Progress {
    failure: Mutex<Option<Error>>,
    bell: Condvar,
}

impl Progress {
    pub(super) fn note(&self, failure: Option<Error>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        self.bell.notify_all();
    }

    /// Waits until `must_wait` says no, or a checkpoint fails.
    pub(super) fn wait_while(&self, must_wait: impl Fn() -> bool) -> Result<()> {
        while must_wait() {
            let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(failure) = &*failure {
                return Err(failure.clone());
            }
            drop(self.bell.wait_timeout(failure, LOOK_AGAIN));
        }
        Ok(())
    }
}

/// Works until the store goes away. A failure is kept in `progress` and tried again at the next bell
/// or after `idle`: when there is space again, the store heals.
pub(super) fn work(core: &Weak<Core>, bell: &Receiver<()>, idle: Duration) {
    let _goodbye = Goodbye(core);
    let mut seen = (0, 0);
    loop {
        let rung = bell.recv_timeout(idle);
        if rung == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let Some(core) = core.upgrade() else { return };
        if rung.is_err() {
            seen = seal_when_idle(&core, seen);
        }
        turn(&core);
    }
}

/// Tells a waiting owner when the thread ends by a panic: nobody will ring for it any more.
struct Goodbye<'a>(&'a Weak<Core>);

impl Drop for Goodbye<'_> {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(core) = self.0.upgrade()
        {
            let message = "the thread behind the journal panicked";
            let cure = "close the engine and open it again; nothing acknowledged is lost";
            core.progress.note(Some(Error::new("store.io", message, cure)));
        }
    }
}

/// Seals the active segment when nothing was appended since the last look.
fn seal_when_idle(core: &Arc<Core>, seen: (u64, u64)) -> (u64, u64) {
    // Whoever has it is not idle.
    let Some(mut writer) = core.try_writer() else { return seen };
    let now = (writer.number(), writer.offset);
    if now == seen
        && now.1 > 0
        && let Err(e) = writer.rotate(core, None)
    {
        tracing::warn!(code = e.code, "idle checkpoint: {e}");
    }
    (writer.number(), writer.offset)
}

fn turn(core: &Arc<Core>) {
    let wanted = core.wanted.load(Ordering::Relaxed);
    if wanted > 0
        && let Err(e) = core.stock().prepare(wanted)
    {
        tracing::warn!(code = e.code, "next segment: {e}");
    }
    if let Err(e) = core.checkpoint() {
        tracing::warn!(code = e.code, "checkpoint: {e}");
    }
}
