//! What the event loop is doing, as the watchdog sees it from outside.
//!
//! While the loop's thread starts coroutines it says which, so that even who cannot attach to Python
//! can tell. A coroutine that goes on later is stepped by asyncio; which one that is asyncio knows.

use std::ffi::c_ulong;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pyo3::intern;
use pyo3::prelude::*;

use super::looper::{Course, Feeder, Suspended, lock};
use super::mailbox::mailbox;
use super::slot::Slot;
use super::watchdog::{Sight, Suspect};

/// The loop of this process and its thread, for the watchdog.
pub(super) struct Equipped {
    feeder: Py<Feeder>,
    slot: Arc<Slot>,
}

/// The loop's thread is ready to run coroutines.
pub(super) fn equip(feeder: Py<Feeder>, slot: Arc<Slot>) {
    let replaced = lock(&mailbox().watched.equipped).replace(Equipped { feeder, slot });
    drop(replaced);
}

pub(super) fn is_equipped() -> bool {
    lock(&mailbox().watched.equipped).is_some()
}

/// Address of the loop's thread state.
pub(super) fn thread_state() -> Option<usize> {
    lock(&mailbox().watched.equipped).as_ref().map(|equipped| equipped.slot.state)
}

fn suspect(course: &Arc<Course>, child: u32) -> Suspect {
    Suspect { core: Arc::clone(&course.core), batch: Arc::clone(&course.batch), child }
}

/// The call whose first step runs now.
pub(super) fn stepping() -> Option<Suspect> {
    let equipped = lock(&mailbox().watched.equipped);
    let course = lock(&equipped.as_ref()?.feeder.get().starting).clone()?;
    let child = course.stepping.load(Ordering::Relaxed).checked_sub(1)?;
    Some(suspect(&course, child))
}

/// A call of the one agent that has calls on the loop, where there is only one.
pub(super) fn only_one() -> Option<Suspect> {
    let equipped = lock(&mailbox().watched.equipped);
    let suspended = lock(&equipped.as_ref()?.feeder.get().suspended);
    let agent = |call: &Suspended| call.course.binding.agent.info.name.clone();
    let first = suspended.values().next()?;
    let alone = suspended.values().all(|call| agent(call) == agent(first));
    alone.then(|| suspect(&first.course, first.child))
}

/// What the loop is doing, seen from another thread.
pub(super) fn sight(py: Python<'_>) -> Option<Sight> {
    let (feeder, ident) = {
        let equipped = lock(&mailbox().watched.equipped);
        let equipped = equipped.as_ref()?;
        (equipped.feeder.clone_ref(py), equipped.slot.ident)
    };
    let feeder = feeder.get();
    let tools = feeder.tools().ok()?;
    let task = tools.current_task(py);
    let suspect = task.and_then(|task| {
        let suspended = lock(&feeder.suspended);
        let call = suspended.get(&(task.as_ptr() as usize))?;
        Some(suspect(&call.course, call.child))
    });
    Some(Sight { suspect, place: place(py, ident).ok().flatten() })
}

/// Where a thread stands: `file:line in function`.
fn place(py: Python<'_>, ident: c_ulong) -> PyResult<Option<String>> {
    let frames = py.import("sys")?.call_method0(intern!(py, "_current_frames"))?;
    let Ok(frame) = frames.get_item(ident) else { return Ok(None) };
    let code = frame.getattr(intern!(py, "f_code"))?;
    let file: String = code.getattr(intern!(py, "co_filename"))?.extract()?;
    let function: String = code.getattr(intern!(py, "co_name"))?.extract()?;
    let line: Option<u32> = frame.getattr(intern!(py, "f_lineno"))?.extract()?;
    Ok(Some(format!("{file}:{} in {function}", line.unwrap_or_default())))
}
