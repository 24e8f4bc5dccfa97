//! Sessions as Python sees them: modes on their way in, messages on their way to agents, merging.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple};

use super::executor::Core;
use super::object::{self, Mode, PyObj};
use super::{errors, failure};
use crate::agent::{Batch, Letters, MergeCall, Report};
use crate::engine::{Engine, SessionSetup};
use crate::model::{
    Collect, Error, Failure, Function, MemoryAccess, OnRetry, Overflow, Payload, WhenBusy,
};

/// A function: where to import it from, and itself.
type FunctionRow = (String, Py<PyAny>);
/// `(debounce ms, cap, overflow, merge, summarize, timeout ms)`.
type CollectRow = (u64, u32, String, Option<FunctionRow>, Option<FunctionRow>, u64);
/// The mode's name, and what only `collect` has.
pub(super) type ModeRow = (String, Option<CollectRow>);
/// Sessions beside its own that a run may read, and those that it may write.
pub(super) type AccessRow = (Vec<String>, Vec<String>);
/// `(session per input, when busy, whether it parks, weight, other sessions' memory)`.
pub(super) type PlaceRow =
    (Option<Vec<String>>, Option<ModeRow>, bool, Option<u32>, Option<AccessRow>);
/// `(holder, waiting, parked, when busy, weight)`.
pub(super) type SessionRow = (Option<String>, usize, usize, &'static str, u32);

/// Where runs stand in their sessions, for all inputs of one submit.
pub(super) struct Places {
    sessions: Option<Vec<Arc<str>>>,
    pub(super) when_busy: Option<WhenBusy>,
    pub(super) on_retry: OnRetry,
    pub(super) weight: Option<u32>,
    pub(super) memory: MemoryAccess,
}

impl Places {
    pub(super) fn read(py: Python<'_>, row: PlaceRow) -> PyResult<Self> {
        let (sessions, when_busy, parks, weight, access) = row;
        let keys = |keys: Vec<String>| keys.into_iter().map(Into::into).collect();
        let (read, write) = access.unwrap_or_default();
        Ok(Self {
            sessions: sessions.map(|keys| keys.into_iter().map(Into::into).collect()),
            when_busy: when_busy.map(|row| mode(py, row)).transpose()?,
            on_retry: if parks { OnRetry::Park } else { OnRetry::Hold },
            weight,
            memory: MemoryAccess { read: keys(read), write: keys(write) },
        })
    }

    /// The session of an input; one key alone is of all.
    pub(super) fn session(&self, at: usize) -> Option<Arc<str>> {
        let keys = self.sessions.as_ref()?;
        keys.get(at).or(keys.first()).cloned()
    }
}

/// The mode that Python names.
pub(super) fn mode(py: Python<'_>, (name, collect): ModeRow) -> PyResult<WhenBusy> {
    let unknown = |what: &str| {
        let message = format!("there is no {what}");
        errors::raised(py, &Error::new("config.choice", message, "see docs/sessions.md"))
    };
    Ok(match (name.as_str(), collect) {
        ("followup", None) => WhenBusy::Followup,
        ("reject", None) => WhenBusy::Reject,
        ("interrupt", None) => WhenBusy::Interrupt,
        ("steer", None) => WhenBusy::Steer,
        ("collect", Some((debounce_ms, cap, overflow, merge, summarize, timeout_ms))) => {
            let overflow = match overflow.as_str() {
                "old" => Overflow::Old,
                "new" => Overflow::New,
                "summarize" => Overflow::Summarize,
                other => return Err(unknown(&format!("overflow `{other}`"))),
            };
            let (merge, summarize) = (merge.map(function), summarize.map(function));
            let collect = Collect { debounce_ms, cap, overflow, merge, summarize, timeout_ms };
            WhenBusy::Collect(Arc::new(collect))
        }
        _ => return Err(unknown(&format!("mode `{name}` of a busy session"))),
    })
}

fn function((path, function): FunctionRow) -> Function {
    Function { path, live: Some(Arc::new(PyObj(function))) }
}

pub(super) fn look(py: Python<'_>, engine: &Engine, key: &str) -> PyResult<SessionRow> {
    let info = py.detach(|| engine.session(key)).map_err(|error| errors::raised(py, &error))?;
    let holder = info.view.holder.map(|run| run.to_string());
    let (waiting, parked) = (info.view.waiting, info.view.parked);
    Ok((holder, waiting, parked, info.when_busy.as_str(), info.weight))
}

pub(super) fn keys(py: Python<'_>, engine: &Engine) -> PyResult<Vec<String>> {
    let keys = py.detach(|| engine.sessions()).map_err(|error| errors::raised(py, &error))?;
    Ok(keys.iter().map(ToString::to_string).collect())
}

pub(super) fn set_up(
    py: Python<'_>,
    engine: &Engine,
    key: &str,
    when_busy: Option<ModeRow>,
    weight: Option<u32>,
) -> PyResult<()> {
    let when_busy = when_busy.map(|row| mode(py, row)).transpose()?;
    let setup = SessionSetup { when_busy, weight };
    py.detach(|| engine.set_up_session(key, setup)).map_err(|error| errors::raised(py, &error))
}

/// The letters of the run that an agent works for.
#[pyclass(frozen, name = "_Letters", module = "goclaw._goclaw")]
pub(super) struct PyLetters {
    batch: Arc<Batch>,
    core: Arc<Core>,
}

impl PyLetters {
    pub(super) fn of(batch: &Arc<Batch>, core: &Arc<Core>) -> Self {
        Self { batch: Arc::clone(batch), core: Arc::clone(core) }
    }

    fn letters(&self) -> Option<&Arc<Letters>> {
        self.batch.letters()
    }
}

#[pymethods]
impl PyLetters {
    /// Up to `limit` letters from the `start`-th on: who brought each, and what it says.
    fn read<'py>(
        &self,
        py: Python<'py>,
        start: usize,
        limit: usize,
    ) -> PyResult<Bound<'py, PyList>> {
        let list = PyList::empty(py);
        let Some(letters) = self.letters() else { return Ok(list) };
        let (found, first) = letters.read(start, limit);
        if first {
            self.core.reports.report(vec![Report::LettersRead { run: self.batch.call.run }]);
        }
        for (from, message) in found {
            let message = object::to_object(py, &message, &self.core.mode)
                .map_err(|failure| errors::refused(py, &failure))?;
            let from = from.to_string().into_pyobject(py)?.into_any();
            list.append(PyTuple::new(py, [from, message.into_bound(py)])?)?;
        }
        Ok(list)
    }

    /// True once the run was cancelled or the attempt given up.
    #[getter]
    fn stopped(&self) -> bool {
        self.batch.abandoned.load(Ordering::Relaxed)
            || self.batch.call.cancelled.load(Ordering::Relaxed)
    }

    /// Waits for a `start`-th letter; false when the seconds are over first.
    fn wait(&self, py: Python<'_>, start: usize, seconds: f64) -> bool {
        let at_most = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        py.detach(|| match self.letters() {
            Some(letters) => letters.wait(start, at_most),
            None => {
                std::thread::sleep(at_most);
                false
            }
        })
    }

    /// Calls `callback` without arguments, on a thread of its own, when there is a `start`-th letter.
    fn on_letter(&self, start: usize, callback: Py<PyAny>) {
        let Some(letters) = self.letters() else { return };
        let notifier = Arc::clone(&self.core.notifier);
        letters.on_letter(start, Box::new(move || notifier.call(callback)));
    }
}

/// Merges messages by calling into Python. What it raises is why the runs fail.
pub(super) fn merge(
    py: Python<'_>,
    call: &MergeCall,
    mode: &Mode,
) -> Result<Payload, Box<Failure>> {
    let inputs = PyList::empty(py);
    for input in &call.inputs {
        let input = object::to_object(py, input, mode)?;
        inputs.append(input).map_err(|raised| refused(py, call, &raised))?;
    }
    let merged = merged(py, &inputs, &call.collect).map_err(|raised| refused(py, call, &raised))?;
    object::to_payload(&merged, mode)
}

fn merged<'py>(
    py: Python<'py>,
    inputs: &Bound<'py, PyList>,
    collect: &Collect,
) -> PyResult<Bound<'py, PyAny>> {
    let find = |function: &Option<Function>| function.as_ref().map(|f| callable(py, f)).transpose();
    let (merge, summarize) = (find(&collect.merge)?, find(&collect.summarize)?);
    let helper = py.import("goclaw._merge")?.getattr("merged")?;
    helper.call1((inputs, collect.cap, merge, summarize))
}

/// The function itself, or what its path leads to.
fn callable<'py>(py: Python<'py>, function: &Function) -> PyResult<Bound<'py, PyAny>> {
    match function.live.as_ref().and_then(PyObj::of) {
        Some(live) => Ok(live.bind(py).clone()),
        None => py.import("goclaw._merge")?.getattr("found")?.call1((&function.path,)),
    }
}

fn refused(py: Python<'_>, call: &MergeCall, raised: &PyErr) -> Box<Failure> {
    let (n, key) = (call.inputs.len(), &call.session);
    let what = format!("the {n} messages of session `{key}` could not be merged");
    failure::caused_by(py, raised, "session.merge", &what)
}
