//! What is looked up in memory before a task starts: the search, and the arguments that wait for it.
//!
//! The look-up belongs to the attempt: it runs inside the first call of a batch, on the thread that
//! makes the call (for coroutines, on a thread of the loop's), so timeouts and cancellation reach it.
//! All calls of the batch share what was found. A worker process asks the engine, where the results
//! are that a query may refer to.

use std::any::Any;
use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use super::executor::Core;
use super::memory::{Desk, PyMemory};
use super::object::{self, Mode};
use super::scope::{Scope, Site};
use super::{call as python, errors, failure};
use crate::agent::wire::{Answer, Ask};
use crate::agent::{Batch, NodeCall, Outcome, Report};
use crate::model::{Error, Expr, Failure, Opaque, Payload, TaskRef};
use crate::plan;

/// Where an agent finds the engine's memory when it is another process's.
pub(super) trait Distant: Send + Sync {
    /// Asks the engine on behalf of a call, and waits for the answer without the GIL.
    ///
    /// # Errors
    /// `memory.ended` where the call is over; `goclaw.Cancelled` where it is to stop.
    fn ask(&self, py: Python<'_>, batch: &Batch, child: u32, ask: Ask) -> PyResult<Answer>;
}

/// What was found for a batch.
pub(super) struct Recalled {
    /// A `goclaw.Recalled`.
    pub(super) memories: Py<PyAny>,
    /// Arguments that refer to it, by parameter.
    pub(super) args: Vec<(String, Py<PyAny>)>,
}

impl Opaque for Recalled {
    fn as_any(&self) -> &dyn Any {
        self
    }
}

/// `(found, latest, warning, arguments that are all of it, other arguments)`.
type Parts<'py> =
    (Bound<'py, PyAny>, Bound<'py, PyAny>, Bound<'py, PyAny>, Vec<String>, Bound<'py, PyDict>);

/// Why nothing could be looked up.
pub(super) enum Trouble {
    /// As if the agent had raised it.
    Raised(PyErr),
    /// As an argument that cannot be evaluated.
    Refused(Box<Failure>),
}

impl From<PyErr> for Trouble {
    fn from(raised: PyErr) -> Self {
        Self::Raised(raised)
    }
}

impl From<Box<Failure>> for Trouble {
    fn from(failure: Box<Failure>) -> Self {
        Self::Refused(failure)
    }
}

impl Trouble {
    pub(super) fn outcome(self, py: Python<'_>, stopping: bool) -> Outcome {
        match self {
            Self::Raised(raised) => failure::outcome(py, raised, stopping),
            Self::Refused(failure) => Outcome::Failed(failure),
        }
    }
}

/// True where something is to be looked up before the node's calls.
pub(super) fn is_wanted(call: &NodeCall) -> bool {
    call.plan.recalls(call.node)
}

/// The arguments of a node that wait for what is looked up.
pub(super) fn waits(call: &NodeCall, expr: &Expr) -> bool {
    is_wanted(call) && plan::mentions_memory(expr)
}

/// What was found for the batch, if it was looked up already.
pub(super) fn found(batch: &Batch) -> Option<&Recalled> {
    batch.recalled.get()?.as_ref().as_any().downcast_ref()
}

/// Looks up what the batch's calls are given, unless that was done. Waits without the GIL.
pub(super) fn look_up(
    py: Python<'_>,
    core: &Core,
    batch: &Arc<Batch>,
    child: u32,
) -> Result<(), Trouble> {
    if batch.recalled.get().is_some() {
        return Ok(());
    }
    let recalled = match &core.distant {
        None => here(py, core, batch, child)?,
        Some(distant) => match distant.ask(py, batch, child, Ask::LookUp)? {
            Answer::Value(payload) => arrived(py, &core.mode, &payload)?,
            other => return Err(refusal(py, other)),
        },
    };
    // Another call of the batch may have been first: both looked a moment ago.
    let _ = batch.recalled.set(Arc::new(recalled));
    Ok(())
}

/// The look-up in the engine's own process.
pub(super) fn here(
    py: Python<'_>,
    core: &Core,
    batch: &Arc<Batch>,
    child: u32,
) -> Result<Recalled, Trouble> {
    let call = &batch.call;
    let task = call.plan.task(call.node);
    let scope = Scope::new(py, call, &core.mode);
    let wanted = PyDict::new(py);
    if let Some(retrieve) = call.plan.retrieve(call.node) {
        for (name, expr) in retrieve.expressions() {
            let param = format!("memory.{name}");
            let value = scope.eval(expr, Site { task: &task.id, param: &param })?;
            wanted.set_item(name, value)?;
        }
        wanted.set_item("top_k", retrieve.top_k)?;
        wanted.set_item("min_strength", retrieve.min_strength)?;
    }
    let memory = memory_of(py, core, batch, child, false)?;
    let look_up = py.import("goclaw._recalling")?.getattr(intern!(py, "look_up"))?;
    let last = call.plan.retrieve_last().into_pyobject(py).map_err(PyErr::from)?;
    let memories = python::call(&look_up, &[&memory, wanted.as_any(), &last])?;
    let warning = memories.getattr(intern!(py, "warning"))?;
    if let Ok(reason) = warning.extract::<String>() {
        let task = TaskRef { node: call.node, index: child };
        let (run, attempt, code) = (call.run, batch.attempt, "memory.embedder".into());
        core.reports.report(vec![Report::Warning { run, task, attempt, code, reason }]);
    }
    let scope = scope.with_memory(&memories);
    let mut args = Vec::new();
    for (name, expr) in task.args.iter().filter(|(_, expr)| plan::mentions_memory(expr)) {
        let value = scope.eval(expr, Site { task: &task.id, param: name })?;
        let value = value.unwrap_or_else(|| py.None().into_bound(py));
        args.push((name.clone(), value.unbind()));
    }
    Ok(Recalled { memories: memories.unbind(), args })
}

/// The session of a call's run, whose memory it is given.
///
/// # Errors
/// `memory.no_session`.
pub(super) fn session_of(py: Python<'_>, batch: &Batch) -> PyResult<Arc<str>> {
    batch.call.session.clone().ok_or_else(|| {
        let run = batch.call.run;
        let message = format!("run `{run}` has no session, so nobody remembers for it");
        let help = "submit it with session=\"…\", or use engine.memory and name the session";
        errors::raised(py, &Error::new("memory.no_session", message, help))
    })
}

/// A call has ended, or was given up: what it would write could not last with it.
pub(super) fn ended(task: &str) -> Error {
    let message = format!("the call of `{task}` is over, and so is its memory");
    let help = "use ctx.memory before the agent returns, and await or join what it begins";
    Error::new("memory.ended", message, help)
}

/// The memory of a task, as agents hold it.
///
/// # Errors
/// `memory.no_session`.
pub(super) fn of_task<'py>(
    py: Python<'py>,
    core: &Core,
    batch: &Arc<Batch>,
    child: u32,
) -> PyResult<Bound<'py, PyAny>> {
    memory_of(py, core, batch, child, true)
}

/// The memory of a call, or of a look-up that the call began.
fn memory_of<'py>(
    py: Python<'py>,
    core: &Core,
    batch: &Arc<Batch>,
    child: u32,
    is_call: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let session = session_of(py, batch)?;
    let Some(recall) = &core.recall else {
        return Err(pyo3::exceptions::PyRuntimeError::new_err("there is no engine here"));
    };
    let desk = Desk { batch: Arc::clone(batch), child, task: batch.name(child), is_call };
    let native = PyMemory::new(Arc::clone(&recall.memory), Some(desk));
    let make = py.import("goclaw.memory")?.getattr(intern!(py, "_of_task"))?;
    let embedder = recall.embedder.as_ref().map(|embedder| embedder.clone_ref(py));
    make.call1((native, &*session, embedder))
}

/// What was found, as a worker process gets it: `(found, latest, warning, whole, args)`. `whole` are
/// the arguments that are all of it.
pub(super) fn packed(py: Python<'_>, mode: &Mode, recalled: &Recalled) -> Result<Payload, Trouble> {
    let memories = recalled.memories.bind(py);
    let (whole, args) = (PyList::empty(py), PyDict::new(py));
    for (name, value) in &recalled.args {
        if value.is(&recalled.memories) {
            whole.append(name)?;
        } else {
            args.set_item(name, value)?;
        }
    }
    let part = |name: &str| memories.getattr(name);
    let parts =
        [part("found")?, part("latest")?, part("warning")?, whole.into_any(), args.into_any()];
    let packed = PyTuple::new(py, parts)?;
    Ok(object::to_payload(packed.as_any(), &Mode { memory: false, ..*mode })?)
}

fn arrived(py: Python<'_>, mode: &Mode, payload: &Payload) -> Result<Recalled, Trouble> {
    let parts = object::to_object(py, payload, mode)?.into_bound(py);
    let (found, latest, warning, whole, args): Parts<'_> = parts.extract()?;
    let make = py.import("goclaw.recalled")?.getattr(intern!(py, "Recalled"))?;
    let memories = python::call(&make, &[&found, &latest, &warning])?.unbind();
    let mut values: Vec<_> = whole.into_iter().map(|name| (name, memories.clone_ref(py))).collect();
    for (name, value) in args {
        values.push((name.extract()?, value.unbind()));
    }
    Ok(Recalled { memories, args: values })
}

/// What the engine refused, as the agent is to see it.
pub(super) fn refusal(py: Python<'_>, answer: Answer) -> Trouble {
    match answer {
        Answer::Failed(failure) => Trouble::Refused(failure),
        Answer::Refused { class, code, message, help } => {
            let raised = || -> PyResult<PyErr> {
                let rebuild = py.import("goclaw._recalling")?.getattr(intern!(py, "refusal"))?;
                let text = |text: &str| PyString::new(py, text).into_any();
                let said = PyTuple::new(py, [text(&message), text(&help)])?;
                let made = python::call(&rebuild, &[&text(&class), &text(&code), said.as_any()]);
                Ok(PyErr::from_value(made?))
            };
            Trouble::Raised(raised().unwrap_or_else(|error| error))
        }
        Answer::Value(_) => Trouble::Raised(pyo3::exceptions::PyRuntimeError::new_err(
            "the engine answered something else",
        )),
    }
}
