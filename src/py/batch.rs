//! The hot path: the calls of one batch, one after the other, on this thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyKeyboardInterrupt;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use super::bind::{self, Args};
use super::context::{Context, Entered};
use super::executor::Core;
use super::slot::Slot;
use super::{failure, object, recall};
use crate::agent::{Batch, Outcome, Report, Reports};
use crate::model::{Failure, FailureKind, Style};

/// Outcomes are reported when the first of them is this old.
const CHUNK_AGE_MAX: Duration = Duration::from_millis(1);
/// Outcomes are reported when their payloads have this many bytes together.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// What was finished since the last report. The outcomes are in the batch, where the engine can take
/// them while a later call hangs.
struct Chunk<'a> {
    core: &'a Core,
    batch: &'a Batch,
    bytes: usize,
    began: Instant,
}

impl Chunk<'_> {
    fn push(&mut self, child: u32, outcome: Outcome) {
        if let Outcome::Completed(payload) | Outcome::Memorized { output: payload, .. } = &outcome {
            self.bytes += payload.len();
        } else {
            self.batch.drop_memorized(child);
        }
        self.batch.finish(outcome);
    }

    fn is_due(&self, now: Instant) -> bool {
        self.bytes > CHUNK_BYTES_MAX || now.duration_since(self.began) >= CHUNK_AGE_MAX
    }

    fn report(&mut self, now: Instant) {
        let busy_ns = now.duration_since(self.began).as_nanos() as u64;
        self.began = now;
        self.bytes = 0;
        if let Some((lo, outcomes)) = self.batch.take_finished() {
            let report = Report::Done { batch: self.batch.id, lo, outcomes, busy_ns };
            self.core.reports.report(vec![report]);
        }
    }
}

/// Runs what is left of a batch. Returns the `KeyboardInterrupt` that ended it early, for a helper.
pub(super) fn run(
    py: Python<'_>,
    core: &Arc<Core>,
    slot: &Slot,
    batch: &Arc<Batch>,
    helping: bool,
) -> Option<PyErr> {
    let binding = match caught(|| bind::node(py, &batch.call, &core.mode)).and_then(|bound| bound) {
        Ok(binding) => binding,
        Err(failure) => {
            fail(core, batch, &failure);
            return None;
        }
    };
    let mut args = binding.args(py);
    if let Err(failure) = args.take_items(py, batch, &core.mode) {
        fail(core, batch, &failure);
        return None;
    }
    let here = Entered::new(batch, core);
    let recalls = recall::is_wanted(&batch.call);
    let mut worker = Worker { py, core, slot, batch, args, here, recalls };
    let mut now = Instant::now();
    let mut chunk = Chunk { core, batch, bytes: 0, began: now };
    let mut interrupt = None;
    while interrupt.is_none() && !batch.abandoned.load(Ordering::Acquire) {
        let Some(child) = batch.claim() else { break };
        batch.begin(child);
        let mut outcome = if batch.abandoned.load(Ordering::SeqCst) {
            Outcome::Cancelled
        } else {
            worker.here.0.child.set(child);
            worker.here.0.began.set(now);
            caught(|| worker.one(child, now)).unwrap_or_else(Outcome::Failed)
        };
        if helping && let Some(raised) = keyboard_interrupt(py, &outcome) {
            // Ctrl-C, or SIGTERM, is meant for the caller whose thread this is, not for the agent.
            interrupt = Some(raised);
            outcome = Outcome::Interrupted;
        }
        now = Instant::now();
        chunk.push(child, outcome);
        if chunk.is_due(now) {
            chunk.report(now);
        }
    }
    chunk.report(now);
    interrupt
}

struct Worker<'a, 'b, 'py> {
    py: Python<'py>,
    core: &'a Arc<Core>,
    slot: &'a Slot,
    batch: &'a Arc<Batch>,
    args: Args<'b, 'py>,
    here: Entered,
    /// Memories are to be looked up before the next call.
    recalls: bool,
}

impl Worker<'_, '_, '_> {
    /// One call, from its item to its outcome.
    #[inline]
    fn one(&mut self, child: u32, now: Instant) -> Outcome {
        let py = self.py;
        if let Err(failure) = self.args.set_item(&self.batch.call, child) {
            return Outcome::Failed(failure);
        }
        if self.recalls
            && let Err(outcome) = self.recall(child)
        {
            return outcome;
        }
        if self.args.wants_context() {
            let context = Context::new(self.batch, self.core, child, now, Style::Thread);
            match Bound::new(py, context) {
                Ok(context) => self.args.set_context(context.into_any()),
                Err(raised) => return Outcome::Failed(failure::from_exception(py, raised)),
            }
        }
        // Coercing the item ran Python: whoever gave up meanwhile found no call to stop.
        if self.batch.abandoned.load(Ordering::SeqCst) {
            return Outcome::Cancelled;
        }
        let args = &mut self.args;
        match self.slot.calling(py, self.batch, child, || args.call()) {
            Ok(result) => completed(self.core, self.batch, child, &result),
            Err(raised) => failure::outcome(py, raised, is_stopping(self.batch)),
        }
    }
}

impl Worker<'_, '_, '_> {
    /// Looks up what the batch's calls are given, as a part of the child's call.
    #[cold]
    fn recall(&mut self, child: u32) -> Result<(), Outcome> {
        let (py, core, batch) = (self.py, self.core, self.batch);
        let looked =
            self.slot.calling(py, batch, child, || recall::look_up(py, core, batch, child));
        looked.map_err(|trouble| trouble.outcome(py, is_stopping(batch)))?;
        let task = batch.name(child);
        if let Some(recalled) = recall::found(batch) {
            self.args.take_recalled(py, &task, recalled).map_err(Outcome::Failed)?;
        }
        self.recalls = false;
        Ok(())
    }
}

/// True when the cancellation of the batch's calls was asked for.
pub(super) fn is_stopping(batch: &Batch) -> bool {
    batch.abandoned.load(Ordering::Acquire) || batch.call.cancelled.load(Ordering::Acquire)
}

/// The outcome of a call that returned.
pub(super) fn completed(
    core: &Core,
    batch: &Batch,
    child: u32,
    result: &Bound<'_, PyAny>,
) -> Outcome {
    let refused = match unfinished(result) {
        None => match object::to_payload(result, &core.mode) {
            Ok(payload) => return batch.completed(child, payload),
            Err(failure) => failure,
        },
        Some(what) => Box::new(Failure::new(FailureKind::Payload, "payload.unsupported", what)),
    };
    let mut failure = refused;
    let task = batch.call.plan.task(batch.call.node);
    failure.message = format!("task `{}`, agent `{}`: {}", task.id, task.agent, failure.message);
    Outcome::Failed(failure)
}

/// What is wrong with a result that is a computation yet to be done. It is closed here, so that
/// Python does not warn of a coroutine that nobody awaited.
fn unfinished(result: &Bound<'_, PyAny>) -> Option<String> {
    static CLASSES: PyOnceLock<[Py<PyType>; 3]> = PyOnceLock::new();
    let py = result.py();
    let load = || -> PyResult<[Py<PyType>; 3]> {
        let types = py.import("types")?;
        let class = |name| PyResult::Ok(types.getattr(name)?.cast_into::<PyType>()?.unbind());
        Ok([class("CoroutineType")?, class("GeneratorType")?, class("AsyncGeneratorType")?])
    };
    let classes = CLASSES.get_or_try_init(py, load).ok()?;
    let class = result.get_type_ptr();
    let at = classes.iter().position(|known| known.as_ptr().cast() == class)?;
    if at < 2 {
        let _ = result.call_method0(intern!(py, "close"));
    }
    Some(match at {
        0 => "it returned a coroutine; declare it with `async def`".into(),
        _ => "it returned a generator; build the list and return it".into(),
    })
}

/// Fails every child of the batch that nobody has begun.
pub(super) fn fail(core: &Core, batch: &Batch, failure: &Failure) {
    fail_all(&*core.reports, batch, failure);
}

/// As [`fail`], without an executor.
pub(super) fn fail_all(reports: &dyn Reports, batch: &Batch, failure: &Failure) {
    while let Some(child) = batch.claim() {
        batch.begin(child);
        batch.finish(Outcome::Failed(Box::new(failure.clone())));
    }
    if let Some((lo, outcomes)) = batch.take_finished() {
        reports.report(vec![Report::Done { batch: batch.id, lo, outcomes, busy_ns: 0 }]);
    }
}

/// A failure of the machinery rather than of the agent.
pub(super) fn crash(message: String) -> Box<Failure> {
    Box::new(Failure::new(FailureKind::Crash, "task.crash", message))
}

/// Runs our own code so that a panic in it fails the call and not the thread.
pub(super) fn caught<R>(code: impl FnOnce() -> R) -> Result<R, Box<Failure>> {
    // Nothing half-changed stays behind: buffers are refilled, locks recover from poison.
    catch_unwind(AssertUnwindSafe(code)).map_err(|payload| failure::panicked(&*payload))
}

fn keyboard_interrupt(py: Python<'_>, outcome: &Outcome) -> Option<PyErr> {
    let Outcome::Failed(failure) = outcome else { return None };
    let origin = object::PyObj::of(failure.origin.as_ref()?)?.bind(py);
    let interrupt =
        origin.is_instance_of::<PyKeyboardInterrupt>() || failure::is_termination(py, origin);
    interrupt.then(|| PyErr::from_value(origin.clone()))
}
