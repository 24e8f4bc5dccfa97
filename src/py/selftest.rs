//! Drives the executor without an engine: one node, its batches, their outcomes. For tests and
//! measurements of this half only; nothing else uses it.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyTimeoutError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use super::executor::PythonExecutor;
use super::object::{self, Mode};
use crate::agent::{Batch, Executor, NodeCall, Outcome, Report, Reports, Resolution, TaskResult};
use crate::model::{
    BatchId, Failure, Isolation, Millis, RunId, Span, Style, Task, Timestamp, Workflow,
};
use crate::plan;

#[derive(Default)]
struct Inbox {
    reports: Mutex<Vec<Report>>,
    /// Outcomes that came.
    count: AtomicUsize,
    ended: Condvar,
    woken: Mutex<Option<Box<dyn Fn() + Send + Sync>>>,
}

impl Reports for Inbox {
    fn report(&self, reports: Vec<Report>) {
        let mut all = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        self.count.fetch_add(ended(&reports), Ordering::Release);
        all.extend(reports);
        drop(all);
        self.ended.notify_all();
        if let Some(wake) = &*self.woken.lock().unwrap_or_else(PoisonError::into_inner) {
            wake();
        }
    }
}

#[pyclass(frozen)]
struct Driver {
    inbox: Arc<Inbox>,
    executor: Arc<PythonExecutor>,
    mode: Mode,
    batches: Mutex<Vec<Arc<Batch>>>,
    ids: AtomicU64,
}

#[pymethods]
impl Driver {
    #[new]
    #[pyo3(signature = (memory=true, payload_max=1 << 24))]
    fn new(memory: bool, payload_max: usize) -> Self {
        let mode = Mode { memory, payload_max, allow_pickle: false };
        let inbox = Arc::new(Inbox::default());
        let reports: Arc<dyn Reports> = Arc::clone(&inbox) as _;
        let executor = PythonExecutor::new(reports, mode);
        Self { inbox, executor, mode, batches: Mutex::default(), ids: AtomicU64::new(0) }
    }

    /// Runs the task over its items in batches; answers with outcomes in order and nanoseconds.
    #[pyo3(signature = (task, input=None, items=None, results=None, batch=64, timeout_ms=None, help=false, wait=true, width=4))]
    #[expect(clippy::too_many_arguments, reason = "one keyword each, for tests")]
    fn run<'py>(
        &self,
        py: Python<'py>,
        task: &str,
        input: Option<Bound<'py, PyAny>>,
        items: Option<Bound<'py, PyList>>,
        results: Option<Bound<'py, PyDict>>,
        batch: u32,
        timeout_ms: Option<Millis>,
        help: bool,
        wait: bool,
        width: usize,
    ) -> PyResult<(Bound<'py, PyList>, u64)> {
        let count = items.as_ref().map_or(1, |items| items.len() as u32);
        let call = self.call(py, task, input, items, results)?;
        let agent = &call.plan.task(call.node).agent;
        let style = self.executor.style(agent, Isolation::Auto).unwrap_or(Style::Thread);
        let mut span = Some(Span::new(call.node, 0, count));
        let mut batches = Vec::new();
        while let Some(rest) = span {
            let (head, tail) = rest.split_at(batch);
            let id = BatchId(self.ids.fetch_add(1, Ordering::Relaxed));
            batches.push(Arc::new(Batch::new(id, Arc::clone(&call), head, 1, style, timeout_ms)));
            span = tail;
        }
        self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.inbox.count.store(0, Ordering::Release);
        *self.batches.lock().unwrap_or_else(PoisonError::into_inner) = batches.clone();
        let began = Instant::now();
        if help {
            self.help(py, &call, batches, count as usize)?;
        } else {
            py.detach(|| self.dispatch(batches, width));
        }
        if wait {
            self.await_outcomes(py, count as usize)?;
        }
        let elapsed = began.elapsed().as_nanos() as u64;
        Ok((self.outcomes(py)?, elapsed))
    }

    /// Waits for outcomes of calls that `run(wait=False)` started.
    fn wait<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyList>> {
        self.await_outcomes(py, count)?;
        self.outcomes(py)
    }

    /// Gives up children of the batches that run.
    fn abandon(&self, py: Python<'_>, lo: u32, len: u32) {
        let batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner).clone();
        py.detach(|| {
            for batch in batches {
                let first = batch.span.lo.max(lo);
                let end = batch.span.hi().min(lo + len);
                if first < end {
                    self.executor.abandon(&batch, Span::new(batch.span.node, first, end - first));
                }
            }
        });
    }

    /// Sets the run's cancellation flag.
    fn cancel(&self) {
        for batch in &*self.batches.lock().unwrap_or_else(PoisonError::into_inner) {
            batch.call.cancelled.store(true, Ordering::Release);
        }
    }

    #[pyo3(signature = (task, input=None, results=None))]
    fn resolve<'py>(
        &self,
        py: Python<'py>,
        task: &str,
        input: Option<Bound<'py, PyAny>>,
        results: Option<Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let call = self.call(py, task, input, None, results)?;
        self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner).clear();
        py.detach(|| self.executor.resolve(call));
        let resolved = |reports: &[Report]| {
            reports.iter().find_map(|report| match report {
                Report::Resolved { resolution, .. } => Some(resolution.clone()),
                _ => None,
            })
        };
        self.until(py, |reports| resolved(reports).is_some())?;
        let reports = self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let resolution = resolved(&reports).expect("waited for");
        drop(reports);
        match resolution {
            Resolution::Go { .. } => Ok(("go",).into_pyobject(py)?.into_any()),
            Resolution::Skip => Ok(("skip",).into_pyobject(py)?.into_any()),
            Resolution::Items { items, count, .. } => {
                let items = object::to_object(py, &items, &self.mode).map_err(refusal)?;
                Ok(("items", items, count).into_pyobject(py)?.into_any())
            }
            Resolution::Failed(failure) => failed(py, &failure),
        }
    }

    /// Progress that was reported: `(child, done, total, text)`.
    fn progress(&self) -> Vec<(u32, f64, Option<f64>, Option<String>)> {
        let reports = self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let progress = reports.iter().filter_map(|report| match report {
            Report::Progress { span, done, total, text, .. } => {
                Some((span.lo, *done, *total, text.clone()))
            }
            _ => None,
        });
        progress.collect()
    }

    /// How many reports came, and the nanoseconds they say the calls took.
    fn busy(&self) -> (usize, u64) {
        let reports = self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = reports.iter().map(|report| match report {
            Report::Done { busy_ns, .. } => *busy_ns,
            _ => 0,
        });
        (reports.len(), busy.sum())
    }

    /// Wakes the loop, or a thread, this often with a single call, and answers with the nanoseconds
    /// from `execute` to the report of each.
    fn latencies(&self, py: Python<'_>, task: &str, count: usize) -> PyResult<Vec<u64>> {
        (0..count)
            .map(|_| Ok(self.run(py, task, None, None, None, 1, None, false, true, 1)?.1))
            .collect()
    }

    #[getter]
    fn stuck(&self) -> usize {
        self.executor.stuck()
    }

    fn style(&self, agent: &str) -> Option<String> {
        self.executor.style(agent, Isolation::Auto).map(|style| format!("{style:?}"))
    }

    fn close(&self, py: Python<'_>, grace_ms: Millis) -> usize {
        py.detach(|| self.executor.close(grace_ms))
    }
}

impl Driver {
    fn call(
        &self,
        py: Python<'_>,
        task: &str,
        input: Option<Bound<'_, PyAny>>,
        items: Option<Bound<'_, PyList>>,
        results: Option<Bound<'_, PyDict>>,
    ) -> PyResult<Arc<NodeCall>> {
        let bad = |error: serde_json::Error| PyValueError::new_err(error.to_string());
        let payload =
            |value: &Bound<'_, PyAny>| object::to_payload(value, &self.mode).map_err(refusal);
        let mut tasks: Vec<Task> = Vec::new();
        let mut values: Vec<TaskResult> = Vec::new();
        for (id, value) in results.into_iter().flatten() {
            let id: String = id.extract()?;
            let source = serde_json::json!({"id": id, "agent": "source"});
            tasks.push(serde_json::from_value(source).map_err(bad)?);
            values.push(if value.is_none() {
                TaskResult::Missing
            } else {
                TaskResult::One(payload(&value)?)
            });
        }
        let mut last: Task = serde_json::from_str(task).map_err(bad)?;
        last.deps = tasks.iter().map(|task| task.id.clone()).collect();
        tasks.push(last);
        let node = tasks.len() as u32 - 1;
        let workflow = Workflow { name: "selftest".into(), tasks, ..Workflow::default() };
        let plan = plan::restore(Arc::new(workflow))
            .map_err(|error| PyValueError::new_err(error.message))?;
        let input = input.unwrap_or_else(|| py.None().into_bound(py));
        Ok(Arc::new(NodeCall {
            run: RunId::from_u128(7),
            plan: Arc::new(plan),
            node,
            input: payload(&input)?,
            results: values,
            items: items.map(|items| payload(items.as_any())).transpose()?,
            memory: Default::default(),
            trace_id: "0123456789abcdef0123456789abcdef".into(),
            session: None,
            letters: None,
            submitted: Timestamp(1_000),
            cancelled: Arc::new(AtomicBool::new(false)),
            memo: OnceLock::new(),
        }))
    }

    /// Keeps `width` batches out, as an engine with that many permits would.
    fn dispatch(&self, batches: Vec<Arc<Batch>>, width: usize) {
        let mut given = 0;
        for (at, batch) in batches.iter().enumerate() {
            if at >= width {
                given += batches[at - width].span.len as usize;
                let reports = self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner);
                let behind = |_: &mut Vec<Report>| self.inbox.count.load(Ordering::Acquire) < given;
                drop(self.inbox.ended.wait_while(reports, behind));
            }
            self.executor.execute(Arc::clone(batch));
        }
    }

    fn help(
        &self,
        py: Python<'_>,
        call: &Arc<NodeCall>,
        batches: Vec<Arc<Batch>>,
        count: usize,
    ) -> PyResult<()> {
        let (executor, run) = (Arc::clone(&self.executor), call.run);
        let wake = Box::new(move || executor.nudge(run));
        *self.inbox.woken.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
        let executor = Arc::clone(&self.executor);
        // The engine's part: batches come from another thread, one after the other.
        let owner = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            batches.into_iter().for_each(|batch| executor.execute(batch));
        });
        let all = || self.inbox.count.load(Ordering::Acquire) >= count;
        let helped = self.executor.help_until(py, run, all);
        py.detach(|| owner.join()).expect("the owner does not panic");
        *self.inbox.woken.lock().unwrap_or_else(PoisonError::into_inner) = None;
        helped
    }

    fn await_outcomes(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        self.until(py, |_| self.inbox.count.load(Ordering::Acquire) >= count)
    }

    fn until(&self, py: Python<'_>, done: impl Fn(&[Report]) -> bool + Sync) -> PyResult<()> {
        let late = Instant::now() + Duration::from_secs(60);
        loop {
            let over = py.detach(|| {
                let reports = self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner);
                let waited = self.inbox.ended.wait_timeout_while(
                    reports,
                    Duration::from_millis(100),
                    |reports| !done(reports),
                );
                !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
            });
            py.check_signals()?;
            if over {
                return Ok(());
            }
            if Instant::now() > late {
                return Err(PyTimeoutError::new_err("no outcome within a minute"));
            }
        }
    }

    fn outcomes<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let mut all: Vec<(u32, Outcome)> = Vec::new();
        for report in &*self.inbox.reports.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Report::Done { lo, outcomes, .. } = report {
                all.extend((*lo..).zip(outcomes.iter().cloned()));
            }
        }
        all.sort_by_key(|(child, _)| *child);
        let list = PyList::empty(py);
        for (_, outcome) in all {
            list.append(match outcome {
                Outcome::Completed(payload) | Outcome::Memorized { output: payload, .. } => {
                    let value = object::to_object(py, &payload, &self.mode).map_err(refusal)?;
                    ("completed", value).into_pyobject(py)?.into_any()
                }
                Outcome::Returned => ("returned",).into_pyobject(py)?.into_any(),
                Outcome::Crashed(failure) => {
                    ("crashed", failure.message.as_str()).into_pyobject(py)?.into_any()
                }
                Outcome::Interrupted => ("interrupted",).into_pyobject(py)?.into_any(),
                Outcome::Cancelled => ("cancelled",).into_pyobject(py)?.into_any(),
                Outcome::Failed(failure) => failed(py, &failure)?,
            })?;
        }
        Ok(list)
    }
}

fn ended(reports: &[Report]) -> usize {
    let count = |report: &Report| match report {
        Report::Done { outcomes, .. } => outcomes.len(),
        _ => 0,
    };
    reports.iter().map(count).sum()
}

fn failed<'py>(py: Python<'py>, failure: &Failure) -> PyResult<Bound<'py, PyAny>> {
    let fields = PyDict::new(py);
    fields.set_item("kind", format!("{:?}", failure.kind))?;
    fields.set_item("code", &failure.code)?;
    fields.set_item("types", &failure.types)?;
    fields.set_item("message", &failure.message)?;
    fields.set_item("traceback", &failure.traceback)?;
    fields.set_item("retry_after", failure.retry_after)?;
    let origin = failure.origin.as_ref().and_then(object::PyObj::of);
    fields.set_item("origin", origin.map(|origin| origin.bind(py)))?;
    Ok(("failed", fields).into_pyobject(py)?.into_any())
}

#[expect(clippy::boxed_local, reason = "what `map_err` hands over")]
fn refusal(failure: Box<Failure>) -> PyErr {
    PyValueError::new_err(format!("{}: {}", failure.code, failure.message))
}

/// Runs an agent over items and answers with outcomes and nanoseconds, in one call.
#[pyfunction]
#[pyo3(signature = (agent, param, items, batch, memory=true))]
fn drive<'py>(
    py: Python<'py>,
    agent: &str,
    param: &str,
    items: Bound<'py, PyList>,
    batch: u32,
    memory: bool,
) -> PyResult<(Bound<'py, PyList>, u64)> {
    let driver = Driver::new(memory, 1 << 24);
    let each = serde_json::json!({"param": param, "items": {"value": []}});
    let task = serde_json::json!({"id": "task", "agent": agent, "each": each}).to_string();
    let ended = driver.run(py, &task, None, Some(items), None, batch, None, false, true, 4)?;
    driver.close(py, 1000);
    Ok(ended)
}

/// What extensions written in Rust may do to an agent.
#[pyfunction]
fn panic() {
    panic!("an extension panicked");
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let own = PyModule::new(module.py(), "_selftest")?;
    own.add_class::<Driver>()?;
    own.add_function(wrap_pyfunction!(drive, &own)?)?;
    own.add_function(wrap_pyfunction!(panic, &own)?)?;
    module.add_submodule(&own)
}
