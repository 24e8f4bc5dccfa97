//! Engines as Python sees them: open, submit, look, close.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::executor::{PythonExecutor, Recall};
use super::facts::{self, FactRow};
use super::guest::PyPass;
use super::lanes::{LaneBook, PyLanes};
use super::memory::PyMemory;
use super::notify::Notifier;
use super::object::{self, Mode};
use super::plan::{PyPlan, parse};
use super::process::ProcessOptions;
use super::run::{PyRun, wait};
use super::session::{ModeRow, PlaceRow, Places, SessionRow};
use super::submit::PyTickets;
use super::vectors::PyVectors;
use super::words::{SummaryRow, level, run_of, run_state, summary_row};
use super::{
    errors, explain, guest, health, incidents, logging, registry, session, tiers, watchdog,
};
use crate::agent::Executor;
use crate::engine::{self, Awaited, Engine, OnConflict, Options, Submit, all_lanes};
use crate::model::{Error, LaneSpec, RunId, Style, Task, Timestamp};
use crate::plan::Plan;
use crate::store::Filter;

/// Plans of recent runs, for the names of tasks in events.
const PLANS_MAX: usize = 16_384;

/// A handle on an open engine.
#[pyclass(frozen, name = "Engine", module = "goclaw._goclaw")]
pub(super) struct PyEngine {
    engine: Arc<Engine>,
    executor: Arc<PythonExecutor>,
    notifier: Arc<Notifier>,
    mode: Mode,
    lanes: Arc<LaneBook>,
    plans: Mutex<Plans>,
}

#[derive(Default)]
struct Plans {
    by_run: HashMap<RunId, Arc<Plan>>,
    order: VecDeque<RunId>,
}

impl Plans {
    /// Returns what had to go, to be dropped without the lock: constants may have finalisers.
    #[must_use]
    fn insert(&mut self, run: RunId, plan: Arc<Plan>) -> [Option<Arc<Plan>>; 2] {
        let replaced = self.by_run.insert(run, plan);
        if replaced.is_none() {
            self.order.push_back(run);
        }
        let is_full = self.order.len() > PLANS_MAX;
        let oldest = if is_full { self.order.pop_front() } else { None };
        [replaced, oldest.and_then(|oldest| self.by_run.remove(&oldest))]
    }
}

impl PyEngine {
    fn wrap(&self, handle: engine::Handle) -> PyRun {
        PyRun {
            handle,
            mode: self.mode,
            notifier: Arc::clone(&self.notifier),
            lanes: Arc::clone(&self.lanes),
        }
    }

    fn plans(&self) -> std::sync::MutexGuard<'_, Plans> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The plan of a run, with at least `nodes` nodes where it has grown so far.
    /// `None` where the run was forgotten.
    fn plan_of(&self, run: RunId, nodes: usize) -> crate::model::Result<Option<Arc<Plan>>> {
        let known = self.plans().by_run.get(&run).cloned();
        if known.as_ref().is_some_and(|plan| plan.nodes.len() >= nodes) {
            return Ok(known);
        }
        let found =
            self.engine.get(run).and_then(|handle| handle.inspect(|run| Arc::clone(run.plan())));
        let plan = match found {
            Ok(plan) => plan,
            Err(error) if error.code == "run.unknown" => return Ok(known),
            // Never a made-up name: whoever watches asks again, or hears that the engine is closed.
            Err(error) => return Err(error),
        };
        let gone = self.plans().insert(run, Arc::clone(&plan));
        drop(gone);
        Ok(Some(plan))
    }

    pub(super) fn notifier(&self) -> &Arc<Notifier> {
        &self.notifier
    }

    /// The run of an accepted submit.
    pub(super) fn started(&self, handle: engine::Handle, plan: &Arc<Plan>) -> PyRun {
        let gone = self.plans().insert(handle.id(), Arc::clone(plan));
        drop(gone);
        self.wrap(handle)
    }
}

#[pymethods]
impl PyEngine {
    #[new]
    #[expect(clippy::too_many_arguments, reason = "the Python half names them")]
    fn open(
        py: Python<'_>,
        path: Option<PathBuf>,
        lanes_json: &str,
        concurrency: Option<u32>,
        durability: &str,
        relaxed_window_ms: u64,
        payload_max: usize,
        when_busy: ModeRow,
        cancel_grace: u64,
        stuck_threads_max: u32,
        processes_json: Option<&str>,
        embedder: Option<Py<PyAny>>,
        cold_json: Option<&str>,
    ) -> PyResult<Self> {
        logging::install(py)?;
        watchdog::ensure(py);
        let lanes: Vec<LaneSpec> = parse(py, lanes_json)?;
        let book = LaneBook::new(all_lanes(&lanes));
        let mode = Mode { memory: path.is_none(), payload_max, ..Mode::default() };
        let options = Options {
            path,
            lanes,
            global: concurrency,
            durability: level(py, durability)?,
            relaxed_window: relaxed_window_ms,
            when_busy: session::mode(py, when_busy)?,
            cancel_grace,
            stuck_threads_max,
            cold: cold_json.map(|json| tiers::open(py, json)).transpose()?,
        };
        let processes = match processes_json {
            Some(json) => parse(py, json)?,
            None => ProcessOptions::default(),
        };
        let mut executor = None;
        let opened = py.detach(|| {
            Engine::open_with(options, |reports, memory| {
                let recall = Recall { memory: Arc::clone(memory), embedder };
                let made = PythonExecutor::with_processes(reports, mode, processes, Some(recall));
                executor = Some(Arc::clone(&made));
                made as Arc<dyn Executor>
            })
        });
        let engine = Arc::new(opened.map_err(|error| errors::raised(py, &error))?);
        let executor = executor.expect("an open engine asked for its executor");
        // Weak: the engine holds the executor.
        let woken = Arc::downgrade(&engine);
        executor.on_registered(move || {
            if let Some(engine) = woken.upgrade() {
                engine.wake();
            }
        });
        Ok(Self {
            engine,
            executor,
            notifier: Arc::default(),
            mode,
            lanes: Arc::new(book),
            plans: Mutex::default(),
        })
    }

    /// The lanes as `compile` takes them.
    fn lane_specs(&self, py: Python<'_>) -> Py<PyString> {
        self.lanes.told(py)
    }
    #[getter]
    fn recovered(&self) -> usize {
        self.engine.recovered()
    }

    /// Asks for one run per input. `block`: a full lane makes it wait; `soon`: even where the engine has
    /// no room for the question, this call does not.
    #[expect(clippy::too_many_arguments, reason = "the Python half names them")]
    fn submit(
        this: Bound<'_, Self>,
        plan: &PyPlan,
        inputs: Vec<Bound<'_, PyAny>>,
        run_id: Option<&str>,
        existing: bool,
        priority: i32,
        tags: Vec<String>,
        durability: Option<&str>,
        block: bool,
        soon: bool,
        place: PlaceRow,
    ) -> PyResult<PyTickets> {
        let py = this.py();
        let own = this.get();
        refuse_processes(py, &plan.0)?;
        let id = run_id.map(|id| run_of(py, id)).transpose()?;
        let durability = durability.map(|name| level(py, name)).transpose()?;
        let on_conflict = if existing { OnConflict::Existing } else { OnConflict::Error };
        let places = Places::read(py, place)?;
        let mut requests = Vec::with_capacity(inputs.len());
        for (at, input) in inputs.iter().enumerate() {
            let input = object::to_payload(input, &own.mode);
            requests.push(Submit {
                id,
                plan: Arc::clone(&plan.0),
                input: input.map_err(|failure| errors::refused(py, &failure))?,
                priority,
                session: places.session(at),
                when_busy: places.when_busy.clone(),
                on_retry: places.on_retry,
                weight: places.weight,
                tags: tags.clone(),
                durability,
                memory: places.memory.clone(),
                trace_id: None,
                on_conflict,
                block,
            });
        }
        let tickets = py.detach(|| match soon {
            true => own.engine.offer_many(requests),
            false => own.engine.submit_many(requests),
        });
        let tickets = tickets.map_err(|error| errors::raised(py, &error))?;
        Ok(PyTickets { engine: this.unbind(), tickets, plan: Arc::clone(&plan.0) })
    }

    /// Works on the run's tasks with the calling thread until the run has ended.
    fn help(&self, py: Python<'_>, run: &PyRun) -> PyResult<()> {
        let (id, executor) = (run.handle.id(), Arc::downgrade(&self.executor));
        run.handle.on_end(Box::new(move || {
            if let Some(executor) = executor.upgrade() {
                executor.nudge(id);
            }
        }));
        // An error is an end too: the engine closed first. Whoever reads the result is told.
        let awaited = run.awaited_by_caller(py, Box::new(|| ()));
        let refusal = || awaited.as_ref().and_then(Awaited::refusal);
        let ended = || run.handle.wait(Some(Duration::ZERO)).unwrap_or(true);
        self.executor.help_until(py, id, || ended() || refusal().is_some())?;
        refusal().map_or(Ok(()), |error| Err(errors::raised(py, error)))
    }

    fn get(&self, py: Python<'_>, run: &str) -> PyResult<PyRun> {
        let id = run_of(py, run)?;
        let found = py.detach(|| self.engine.get(id));
        found.map(|handle| self.wrap(handle)).map_err(|error| errors::raised(py, &error))
    }

    #[expect(clippy::too_many_arguments, reason = "the Python half names them")]
    fn list(
        &self,
        py: Python<'_>,
        state: Option<&str>,
        workflow: Option<String>,
        tag: Option<String>,
        session: Option<&str>,
        after: Option<&str>,
        limit: usize,
    ) -> PyResult<Vec<SummaryRow>> {
        let state = state.map(|name| run_state(py, name)).transpose()?;
        let after = after.map(|id| run_of(py, id)).transpose()?;
        let filter =
            Filter { state, workflow, tag, session: session.map(Into::into), after, limit };
        let found = py.detach(|| self.engine.list(&filter));
        let found = found.map_err(|error| errors::raised(py, &error))?;
        Ok(found.into_iter().map(summary_row).collect())
    }

    /// Up to `limit` facts from `start` on; waits up to `seconds` for news.
    fn facts<'py>(
        &self,
        py: Python<'py>,
        run: Option<&str>,
        start: u64,
        limit: usize,
        seconds: f64,
    ) -> PyResult<Vec<FactRow<'py>>> {
        let run = run.map(|id| run_of(py, id)).transpose()?;
        let patience = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
        let found =
            wait(py, Some(patience), |slice| match self.engine.facts(run, start, limit, slice) {
                Ok(facts) if facts.is_empty() => None,
                answer => Some(answer),
            })?;
        let found = found.transpose().map_err(|error| errors::raised(py, &error))?;
        let found = found.unwrap_or_default();
        let plan = |run, nodes| {
            py.detach(|| self.plan_of(run, nodes)).map_err(|error| errors::raised(py, &error))
        };
        found.iter().map(|fact| facts::row(py, fact, plan)).collect()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.engine.stats();
        // What only the executor and the watchdog know. The latter is of the whole process.
        let (blocked, hogs) = incidents::counts();
        stats.heartbeats.store(self.executor.heartbeats(), Ordering::Relaxed);
        self.executor.workers().tell(&stats);
        let tally = self.engine.memory().tally();
        stats.memory_sweeps.store(tally.sweeps.load(Ordering::Relaxed), Ordering::Relaxed);
        stats.memory_sweep_ms.store(tally.sweep_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        stats.loop_blocked.store(blocked, Ordering::Relaxed);
        stats.gil_hogs.store(hogs, Ordering::Relaxed);
        let by_name = PyDict::new(py);
        for (name, value) in stats.read() {
            by_name.set_item(name, value)?;
        }
        Ok(by_name)
    }

    /// How the engine is, by the names of `goclaw.Health`.
    fn health<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        health::of(py, &self.engine, self.executor.workers().live())
    }

    /// The lanes, to be looked at and handled.
    fn lanes(&self) -> PyLanes {
        PyLanes { engine: Arc::clone(&self.engine), book: Arc::clone(&self.lanes) }
    }

    /// Why a live run, or a task of it, is not running, as JSON; `None` where the run has ended.
    fn explain(&self, py: Python<'_>, run: &str, task: Option<&str>) -> PyResult<Option<String>> {
        let id = run_of(py, run)?;
        let found = py.detach(|| self.engine.explain(id, task));
        let found = found.map_err(|error| errors::raised(py, &error))?;
        Ok(found.as_ref().map(explain::written))
    }

    /// What agents remember in this engine's store.
    fn memory(&self) -> PyMemory {
        PyMemory::new(Arc::clone(self.engine.memory()), None)
    }

    /// What makes the vectors of that memory talks to this.
    fn vectors(&self) -> PyVectors {
        PyVectors(Arc::clone(self.engine.memory()))
    }

    /// Waits up to so many seconds for the right to do work of a lane outside of any run; where it is
    /// paused, only if told so.
    fn enter_lane(
        &self,
        py: Python<'_>,
        lane: &str,
        cost: u32,
        seconds: Option<f64>,
        waits_for_resume: bool,
    ) -> PyResult<Option<PyPass>> {
        guest::enter(py, &self.engine, lane, cost, seconds, waits_for_resume)
    }

    fn session(&self, py: Python<'_>, key: &str) -> PyResult<SessionRow> {
        session::look(py, &self.engine, key)
    }
    fn session_keys(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        session::keys(py, &self.engine)
    }
    fn set_up_session(
        &self,
        py: Python<'_>,
        key: &str,
        when_busy: Option<ModeRow>,
        weight: Option<u32>,
    ) -> PyResult<()> {
        session::set_up(py, &self.engine, key, when_busy, weight)
    }

    fn purge(&self, py: Python<'_>, run: Option<&str>, before_ms: u64) -> PyResult<u64> {
        let run = run.map(|id| run_of(py, id)).transpose()?;
        let purged = py.detach(|| self.engine.purge(run, Timestamp(before_ms)));
        purged.map_err(|error| errors::raised(py, &error))
    }

    /// Looks again at runs that wait for an agent.
    fn wake(&self, py: Python<'_>) {
        py.detach(|| self.engine.wake());
    }

    /// Refuses new work and waits up to `drain_ms` for running work; lets signals through.
    fn close(&self, py: Python<'_>, drain_ms: u64) -> PyResult<(usize, u64, usize)> {
        let engine = Arc::clone(&self.engine);
        let (reply, answer) = mpsc::sync_channel(1);
        // On a thread of its own, so that Ctrl-C ends the wait and not the closing.
        let closing = thread::Builder::new().name("goclaw-close".into()).spawn(move || {
            let _ = reply.send(engine.close(drain_ms));
        });
        if closing.is_err() {
            let closed = py.detach(|| self.engine.close(drain_ms));
            return Ok((closed.stuck_threads, closed.interrupted, closed.unfinished));
        }
        // The receiver moves into the closure: it may not be shared.
        let closed = wait(py, None, move |slice| match answer.recv_timeout(slice) {
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            closed => Some(closed.unwrap_or_default()),
        })?;
        let closed = closed.expect("there is no time limit");
        Ok((closed.stuck_threads, closed.interrupted, closed.unfinished))
    }

    /// Keeps the engine for ever: in a forked child nothing of it may be dropped.
    fn leak(&self) {
        mem::forget(Arc::clone(&self.engine));
        mem::forget(Arc::clone(&self.executor));
        mem::forget(Arc::clone(&self.notifier));
    }
}

/// Where there are no worker processes a task that asks for one is refused, its lane's wish included.
fn refuse_processes(py: Python<'_>, plan: &Plan) -> PyResult<()> {
    if cfg!(target_os = "linux") {
        return Ok(());
    }
    let styled = |task: &Task| registry::find(&task.agent).map(|found| found.style(task.isolation));
    let refused = plan.workflow.tasks.iter().find(|task| styled(task) == Some(Style::Process));
    let Some(task) = refused else { return Ok(()) };
    let message = format!("task `{}` asks for a process of its own", task.id);
    let help = "leave isolation=\"process\" out, or run on Linux";
    Err(errors::raised(py, &Error::new("agent.isolation", message, help)))
}
