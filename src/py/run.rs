//! Runs as Python sees them: state, waiting, results.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::lanes::LaneBook;
use super::notify::Notifier;
use super::object::{self, Mode, PyObj};
use super::output::{self, Wanted};
use super::plan::{World, parse, payloads};
use super::{context, errors, lend};
use crate::agent::Waker;
use crate::engine::{Awaited, Handle};
use crate::model::{
    CancelCause, Durability, Error, FailureKind, Growth, Payload, Task, TaskRef, TaskState,
};
use crate::plan::Plan;
use crate::run;

/// How often a blocked call looks for signals, such as Ctrl-C.
const SIGNALS_EVERY: Duration = Duration::from_millis(50);

/// Polls, detached from Python, until there is an answer or the time is over; lets signals through.
pub(super) fn wait<T: Send>(
    py: Python<'_>,
    timeout: Option<Duration>,
    mut poll: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    if let Some(answer) = poll(Duration::ZERO) {
        return Ok(Some(answer));
    }
    if timeout == Some(Duration::ZERO) {
        // Nobody waits: the permit stays where it is.
        return py.check_signals().map(|()| None);
    }
    let lent = lend::waits(py);
    let waited = wait_on(py, deadline, poll);
    // Whatever ended the wait: an agent runs on, be it to raise.
    let taken = lent.take_again(py);
    waited.and_then(|answer| taken.map(|()| answer))
}

fn wait_on<T: Send>(
    py: Python<'_>,
    deadline: Option<Instant>,
    mut poll: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let slice = left.map_or(SIGNALS_EVERY, |left| left.min(SIGNALS_EVERY));
        if let Some(answer) = py.detach(|| poll(slice)) {
            return Ok(Some(answer));
        }
        py.check_signals()?;
        if left.is_some_and(|left| left <= slice) {
            return Ok(None);
        }
    }
}

/// A handle on one run.
#[pyclass(frozen, name = "Run", module = "goclaw._goclaw")]
pub(super) struct PyRun {
    pub(super) handle: Handle,
    pub(super) mode: Mode,
    pub(super) notifier: Arc<Notifier>,
    pub(super) lanes: Arc<LaneBook>,
}

/// An agent waits for a run, for as long as this is entered.
#[pyclass(frozen, name = "_Waiting", module = "goclaw._goclaw")]
pub(super) struct PyWaiting(Mutex<Option<Awaited>>);

impl PyWaiting {
    fn awaited(&self) -> MutexGuard<'_, Option<Awaited>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PyWaiting {
    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }
    #[pyo3(signature = (*_error))]
    fn __exit__(&self, _error: &Bound<'_, PyTuple>) {
        *self.awaited() = None;
    }
    /// Raises where the engine refuses the wait.
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        let refusal = self.awaited().as_ref().and_then(|awaited| awaited.refusal().cloned());
        refusal.map_or(Ok(()), |error| Err(errors::raised(py, &error)))
    }
}

type TaskRow = (String, String, String, &'static str, u32, Option<u32>, Option<String>);
type PlaceRow = (Option<String>, &'static str, Option<String>);
type ChildRow = (&'static str, u32, Option<Py<PyAny>>, Option<String>);
type BeatRow = (f64, Option<String>);
type FailureRow = (
    String,
    u32,
    &'static str,
    String,
    Vec<String>,
    String,
    String,
    Option<String>,
    Option<Py<PyAny>>,
);

impl PyRun {
    /// The calling agent, where it is one of this engine, is about to wait for the run.
    pub(super) fn awaited_by_caller(&self, py: Python<'_>, wake: Waker) -> Option<Awaited> {
        let caller = context::caller(py, |reports| self.handle.is_of(reports))?;
        Some(self.handle.awaited(caller, wake))
    }

    fn waited(
        &self,
        py: Python<'_>,
        timeout: Option<Duration>,
        awaited: Option<&Awaited>,
    ) -> PyResult<bool> {
        let refused = || awaited.and_then(Awaited::refusal).map(|error| Err(error.clone()));
        let ended = wait(py, timeout, |slice| match self.handle.wait(Some(slice)) {
            Ok(false) => refused(),
            ended => Some(ended),
        })?;
        ended.transpose().map(|ended| ended.is_some()).map_err(|error| errors::raised(py, &error))
    }

    fn inspect<T: Send + 'static>(
        &self,
        py: Python<'_>,
        look: impl FnOnce(&run::Run) -> T + Send + 'static,
    ) -> PyResult<T> {
        let seen = py.detach(|| self.handle.inspect(look));
        seen.map_err(|error| errors::raised(py, &error))
    }
}

#[pymethods]
impl PyRun {
    #[getter]
    fn id(&self) -> String {
        self.handle.id().to_string()
    }
    #[getter]
    fn state(&self) -> &'static str {
        self.handle.state().as_str()
    }
    #[getter]
    fn durability(&self) -> &'static str {
        match self.handle.durability() {
            Durability::Strict => "strict",
            Durability::Relaxed => "relaxed",
            Durability::None => "none",
        }
    }
    fn tags(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.inspect(py, |run| run.submitted().tags.clone())
    }
    fn workflow(&self, py: Python<'_>) -> PyResult<String> {
        self.inspect(py, |run| run.plan().workflow.name.clone())
    }
    fn code(&self, py: Python<'_>) -> PyResult<Option<&'static str>> {
        self.inspect(py, run::Run::code)
    }
    fn reason(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.inspect(py, |run| run.reason().map(str::to_owned))
    }

    /// Its session, how its submit was met, and the run that took its message.
    fn place(&self, py: Python<'_>) -> PyResult<PlaceRow> {
        self.inspect(py, |run| {
            let submitted = run.submitted();
            let session = submitted.session.as_ref().map(ToString::to_string);
            let into = run.absorbed_into().map(|into| into.to_string());
            (session, submitted.conduct.admission.as_str(), into)
        })
    }

    /// Sessions beside its own whose memory it may read, and those that it may write.
    fn access(&self, py: Python<'_>) -> PyResult<(Vec<String>, Vec<String>)> {
        self.inspect(py, |run| {
            let keys = |keys: &[Arc<str>]| keys.iter().map(ToString::to_string).collect();
            let memory = &run.submitted().memory;
            (keys(&memory.read), keys(&memory.write))
        })
    }

    /// True where the workflow's own timeout stopped the run.
    fn timed_out(&self, py: Python<'_>) -> PyResult<bool> {
        self.inspect(py, |run| run.cause() == Some(CancelCause::Deadline))
    }

    /// Waits for the end of the run; false when the time (seconds) is over first.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let timeout =
            timeout.map(|s| Duration::try_from_secs_f64(s.max(0.0)).unwrap_or(Duration::MAX));
        if timeout == Some(Duration::ZERO) {
            return self.waited(py, timeout, None);
        }
        match self.handle.wait(Some(Duration::ZERO)) {
            Ok(false) => {
                let awaited = self.awaited_by_caller(py, Box::new(|| ()));
                self.waited(py, timeout, awaited.as_ref())
            }
            ended => ended.map_err(|error| errors::raised(py, &error)),
        }
    }

    /// Tells the engine, until it is left, that the calling agent waits for the run. Where the engine refuses,
    /// `callback` is called, on a thread of its own, and `check` raises.
    fn awaited(&self, py: Python<'_>, callback: Py<PyAny>) -> PyWaiting {
        let notifier = Arc::clone(&self.notifier);
        let awaited = self.awaited_by_caller(py, Box::new(move || notifier.call(callback)));
        PyWaiting(Mutex::new(awaited))
    }

    /// Calls `callback` without arguments, on a thread of its own, when the run or the engine ends.
    fn on_end(&self, callback: Py<PyAny>) {
        let notifier = Arc::clone(&self.notifier);
        self.handle.on_end(Box::new(move || notifier.call(callback)));
    }

    /// What the run results in.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let wanted = self.inspect(py, Wanted::of)?;
        let result = wanted.map_err(|error| errors::raised(py, &error))?;
        result.evaluate(py, &self.mode).map_err(|failure| errors::refused(py, &failure))
    }

    /// Results of the tasks that completed, by id.
    fn results<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let results = self.inspect(py, |run| {
            let completed = |node: &u32| run.node_state(*node) == TaskState::Completed;
            let nodes = (0..run.plan().nodes.len() as u32).filter(completed);
            nodes.map(|node| (node_id(run.plan(), node), run.result_of(node))).collect::<Vec<_>>()
        })?;
        let by_id = PyDict::new(py);
        for (id, result) in results {
            let value = output::value(py, &result, &self.mode)
                .map_err(|failure| errors::refused(py, &failure))?;
            by_id.set_item(id, value)?;
        }
        Ok(by_id)
    }

    fn tasks(&self, py: Python<'_>) -> PyResult<Vec<TaskRow>> {
        self.inspect(py, |run| {
            (0..run.plan().nodes.len() as u32).map(|node| task_row(run, node)).collect()
        })
    }

    /// The children of a map so far, each with its result where it completed. `None`: no such task.
    fn children(&self, py: Python<'_>, id: String) -> PyResult<Option<Vec<ChildRow>>> {
        let found = self.inspect(py, move |run| {
            let node = run.plan().node(&id)?;
            let children = (0..run.children(node).unwrap_or(0)).map(|index| {
                let child = TaskRef { node, index };
                let state = run.task_state(child).map_or("", TaskState::as_str);
                let error = run.failure_of(child).map(|failure| failure.message.clone());
                (state, run.attempt(child), run.output_of(child).cloned(), error)
            });
            Some(children.collect::<Vec<_>>())
        })?;
        let Some(children) = found else { return Ok(None) };
        let row = |(state, attempts, output, error): (_, _, Option<Payload>, _)| {
            let value = output.map(|output| object::to_object(py, &output, &self.mode)).transpose();
            let value = value.map_err(|failure| errors::refused(py, &failure))?;
            Ok((state, attempts, value, error))
        };
        children.into_iter().map(row).collect::<PyResult<_>>().map(Some)
    }

    /// The failure that ended the run.
    fn failure(&self, py: Python<'_>) -> PyResult<Option<FailureRow>> {
        let found = self.inspect(py, |run| {
            let (task, failure) = run.failure()?;
            Some((task_id(run.plan(), task), run.attempt(task), Arc::clone(failure)))
        })?;
        Ok(found.map(|(task, attempts, failure)| {
            let origin = failure.origin.as_ref().and_then(PyObj::of);
            (
                task,
                attempts,
                kind(failure.kind),
                failure.code.clone(),
                failure.types.clone(),
                failure.message.clone(),
                failure.help.clone(),
                failure.traceback.clone(),
                origin.map(|origin| origin.clone_ref(py)),
            )
        }))
    }

    fn cancel(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        py.detach(|| self.handle.cancel(reason)).map_err(|error| errors::raised(py, &error))
    }

    fn kill(&self, py: Python<'_>, reason: &str) -> PyResult<()> {
        py.detach(|| self.handle.kill(reason)).map_err(|error| errors::raised(py, &error))
    }

    /// The latest heartbeat by task: seconds ago and details; of a map, its children's latest.
    fn beats(&self, py: Python<'_>) -> PyResult<HashMap<String, BeatRow>> {
        let beats = py.detach(|| self.handle.beats());
        let beats = beats.map_err(|error| errors::raised(py, &error))?;
        if beats.is_empty() {
            return Ok(HashMap::new());
        }
        let plan = self.inspect(py, |run| Arc::clone(run.plan()))?;
        let mut latest: HashMap<String, BeatRow> = HashMap::new();
        for beat in beats {
            let row = (beat.ago as f64 / 1000.0, beat.details.map(|text| text.to_string()));
            let known = latest.entry(node_id(&plan, beat.task.node)).or_insert_with(|| row.clone());
            if row.0 < known.0 {
                *known = row;
            }
        }
        Ok(latest)
    }

    /// Adds tasks, given as a JSON list, to the run.
    fn add_tasks(
        &self,
        py: Python<'_>,
        tasks_json: &str,
        constants: Vec<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let tasks: Vec<Task> = parse(py, tasks_json)?;
        let growth = Growth { tasks, constants: payloads(&constants, &self.mode)? };
        let known = Arc::new(World { lanes: Some(self.lanes.specs()), named: Vec::new() });
        let grown = py.detach(|| self.handle.add_tasks(growth, known));
        grown.map_err(|error: Error| errors::raised(py, &error))
    }
}

fn task_row(run: &run::Run, node: u32) -> TaskRow {
    let task = run.plan().task(node);
    let alone = TaskRef { node, index: 0 };
    let is_map = task.each.is_some();
    let attempts = if is_map { 0 } else { run.attempt(alone) };
    let said = |index| run.failure_of(TaskRef { node, index }).map(|f| f.message.clone());
    let error = match run.children(node) {
        // Of a map, the first child that has something to say.
        Some(children) => {
            (0..children).find_map(|at| said(at).map(|text| format!("[{at}] {text}")))
        }
        None => said(0),
    };
    let state = run.node_state(node).as_str();
    (
        task.id.clone(),
        task.agent.clone(),
        task.lane.clone(),
        state,
        attempts,
        run.children(node),
        error,
    )
}

fn node_id(plan: &Plan, node: u32) -> String {
    plan.nodes[node as usize].id.to_string()
}

/// A task's id as users see it: children of a map are numbered.
fn task_id(plan: &Plan, task: TaskRef) -> String {
    let id = node_id(plan, task.node);
    match plan.task(task.node).each {
        Some(_) if task.index != crate::model::WHOLE => format!("{id}[{}]", task.index),
        _ => id,
    }
}

fn kind(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Exception => "exception",
        FailureKind::Timeout => "timeout",
        FailureKind::Crash => "crash",
        FailureKind::Payload => "payload",
        FailureKind::Binding => "binding",
        FailureKind::Refused => "refused",
        FailureKind::Dropped => "dropped",
    }
}
