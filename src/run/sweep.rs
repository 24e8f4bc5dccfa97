//! Forgetting at the end of a run: once, in the record that ends it.
//!
//! Who knows the memory finds what is weak; what comes of it stands beside the run's end. So a crash
//! before that has forgotten nothing, and the search is made again; after it, all is done.

use super::{Run, follow};
use crate::model::{CancelCause, EntryId, Event, MemoryOp};

/// True where the session is to forget before the run ends: the run came to its end by itself.
pub(super) fn is_due(run: &Run) -> bool {
    let policy = run.plan.workflow.memory.as_ref();
    policy.is_some_and(|policy| policy.forget_below.is_some())
        && run.submitted.session.is_some()
        && matches!(run.cause(), None | Some(CancelCause::Failure))
        && run.absorbed_into().is_none()
}

/// The session's weak memories are known: they go, and the run ends.
pub(super) fn swept(
    run: &Run,
    ids: Vec<EntryId>,
    left: u64,
    failure: Option<String>,
) -> Vec<Event> {
    let Some(session) = run.submitted.session.clone().filter(|_| run.sweeping) else {
        return Vec::new();
    };
    let forgotten = ids.len() as u64;
    let mut events = Vec::new();
    if !ids.is_empty() {
        events.push(Event::Memory(vec![MemoryOp::Forget { session, ids }]));
    }
    events.push(Event::Swept { forgotten, left, failure });
    events.push(follow::end(run));
    events
}
