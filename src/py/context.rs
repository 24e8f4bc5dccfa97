//! What a running agent may ask: who it is, whether it should stop, how far it got.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::distant::PyDistantMemory;
use super::executor::Core;
use super::lend::Lending;
use super::session::PyLetters;
use super::{errors, failure, object, recall};
use crate::agent::{Batch, Report, Reports};
use crate::engine::Waiter;
use crate::model::{Error, Span, Style};

/// Shortest time between two progress reports of one call; what comes sooner is left out, save
/// the last one (`done >= total`).
const PROGRESS_PAUSE: Duration = Duration::from_millis(10);
/// Bound of the details of a heartbeat, bytes.
const DETAILS_BYTES_MAX: usize = 4 << 10;
/// How often a sleeping agent looks whether it was cancelled.
const SLEEP_SLICE: Duration = Duration::from_millis(20);

/// The batch that a thread works on. Set once per batch; only the child changes call by call.
pub(super) struct Here {
    pub(super) batch: Arc<Batch>,
    pub(super) core: Arc<Core>,
    pub(super) child: Cell<u32>,
    pub(super) began: Cell<Instant>,
    /// What `current()` answered, and for which child: asked again, it is the same call.
    asked: RefCell<Option<(u32, Py<PyAny>)>>,
}

impl Here {
    fn context<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let child = self.child.get();
        let known = self.asked.borrow().as_ref().map(|(of, made)| (*of, made.clone_ref(py)));
        if let Some((of, made)) = known
            && of == child
        {
            return Ok(made.into_bound(py));
        }
        let made = Context::new(&self.batch, &self.core, child, self.began.get(), Style::Thread);
        let made = Bound::new(py, made)?.into_any();
        let replaced = self.asked.replace(Some((child, made.clone().unbind())));
        drop(replaced);
        Ok(made)
    }
}

thread_local! {
    static HERE: RefCell<Vec<Rc<Here>>> = const { RefCell::new(Vec::new()) };
}

/// Makes a batch the current one of this thread until it is dropped.
pub(super) struct Entered(pub(super) Rc<Here>);

impl Entered {
    pub(super) fn new(batch: &Arc<Batch>, core: &Arc<Core>) -> Self {
        let here = Rc::new(Here {
            batch: Arc::clone(batch),
            core: Arc::clone(core),
            child: Cell::new(batch.span.lo),
            began: Cell::new(Instant::now()),
            asked: RefCell::default(),
        });
        HERE.with_borrow_mut(|stack| stack.push(Rc::clone(&here)));
        Self(here)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let left = HERE.with_borrow_mut(Vec::pop);
        drop(left);
    }
}

/// The call that an agent is in. Agents get it by annotating a parameter, or from `goclaw.current()`.
#[pyclass(frozen, module = "goclaw", name = "Context")]
pub(super) struct Context {
    pub(super) batch: Arc<Batch>,
    pub(super) core: Arc<Core>,
    child: u32,
    began: Instant,
    style: Style,
    input: PyOnceLock<Py<PyAny>>,
    log: PyOnceLock<Py<PyAny>>,
    signals: PyOnceLock<Py<PyAny>>,
    /// Its permit, once somebody asked for it.
    lending: OnceLock<Arc<Lending>>,
    /// When progress was passed on, and whether it was the last.
    reported: std::sync::Mutex<Option<(Instant, bool)>>,
}

impl Context {
    pub(super) fn new(
        batch: &Arc<Batch>,
        core: &Arc<Core>,
        child: u32,
        began: Instant,
        style: Style,
    ) -> Self {
        Self {
            batch: Arc::clone(batch),
            core: Arc::clone(core),
            child,
            began,
            style,
            input: PyOnceLock::new(),
            log: PyOnceLock::new(),
            signals: PyOnceLock::new(),
            lending: OnceLock::new(),
            reported: std::sync::Mutex::new(None),
        }
    }

    /// The permit of the call; None where there is no engine to lend it to.
    pub(super) fn lending(&self) -> Option<Arc<Lending>> {
        let make = || Lending::new(&self.batch, &self.core, self.child);
        self.core.recall.as_ref().map(|_| Arc::clone(self.lending.get_or_init(make)))
    }

    /// The call, as the engine knows it.
    pub(super) fn waiter(&self) -> Waiter {
        Waiter { run: self.batch.call.run, batch: self.batch.id, child: self.child }
    }

    fn stopped(&self) -> bool {
        self.batch.abandoned.load(Ordering::Relaxed)
            || self.batch.call.cancelled.load(Ordering::Relaxed)
    }
}

#[pymethods]
impl Context {
    /// The run's id.
    #[getter]
    fn run_id(&self) -> String {
        self.batch.call.run.to_string()
    }

    /// The task's id; a map's child carries its index: `fetch[3]`.
    #[getter]
    fn task_id(&self) -> String {
        let task = self.batch.call.plan.task(self.batch.call.node);
        match task.each {
            Some(_) => format!("{}[{}]", task.id, self.child),
            None => task.id.clone(),
        }
    }

    /// Which try this is, from 1 on.
    #[getter]
    fn attempt(&self) -> u32 {
        self.batch.attempt
    }

    /// The same for every try of the task, on every machine: hand it to services that can refuse
    /// what they did already.
    #[getter]
    fn idempotency_key(&self) -> String {
        format!("{}/{}", self.run_id(), self.task_id())
    }

    /// The run's trace id, 32 hexadecimal digits.
    #[getter]
    fn trace_id(&self) -> &str {
        &self.batch.call.trace_id
    }

    /// When the attempt or the run times out, whichever is sooner: seconds since the epoch, as
    /// `time.time()` counts them; None without a timeout.
    #[getter]
    fn deadline(&self) -> Option<f64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let attempt = self
            .batch
            .timeout
            .map(|timeout| now - self.began.elapsed().as_secs_f64() + timeout as f64 / 1000.0);
        let call = &self.batch.call;
        let run = call
            .plan
            .workflow
            .timeout_ms
            .map(|timeout| call.submitted.plus(timeout).0 as f64 / 1000.0);
        match (attempt, run) {
            (Some(attempt), Some(run)) => Some(attempt.min(run)),
            (attempt, run) => attempt.or(run),
        }
    }

    /// True once the run was cancelled or the attempt given up.
    #[getter]
    fn cancelled(&self) -> bool {
        self.stopped()
    }

    /// The run's input.
    #[getter]
    fn input<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(input) = self.input.get(py) {
            return Ok(input.bind(py).clone());
        }
        let input = object::to_object(py, &self.batch.call.input, &self.core.mode)
            .map_err(|failure| PyValueError::new_err(failure.message))?;
        Ok(self.input.get_or_init(py, || input).bind(py).clone())
    }

    /// The key of the run's session; None where it has none.
    #[getter]
    fn session(&self) -> Option<&str> {
        self.batch.call.session.as_deref()
    }

    /// Messages to the session that came since this was asked last, oldest first; waits for none.
    /// What is read here is done, and runs no more as a message of its own.
    fn poll_signals<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::signals(slf)?.call_method0(intern!(slf.py(), "poll"))
    }

    /// Messages to the session as they come: for `async for`, and for `for` in plain functions.
    fn signals<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let (py, this) = (slf.py(), slf.get());
        if let Some(signals) = this.signals.get(py) {
            return Ok(signals.bind(py).clone());
        }
        let letters = Bound::new(py, PyLetters::of(&this.batch, &this.core))?;
        let make = py.import("goclaw.session")?.getattr(intern!(py, "Signals"))?;
        let made = make.call1((letters,))?.unbind();
        Ok(this.signals.get_or_init(py, || made).bind(py).clone())
    }

    /// What the messages to the session say by name, later ones over earlier ones; reads all there are.
    #[getter]
    fn params<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::signals(slf)?.call_method0(intern!(slf.py(), "_params"))
    }

    /// A logger under "goclaw.agent" whose records carry run, task and trace.
    #[getter]
    fn log<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        if let Some(log) = slf.get().log.get(py) {
            return Ok(log.bind(py).clone());
        }
        let make = py.import("goclaw.context")?.getattr(intern!(py, "_logger"))?;
        let log = make.call1((slf,))?.unbind();
        Ok(slf.get().log.get_or_init(py, || log).bind(py).clone())
    }

    /// What the run's session remembers. What the task memorizes lasts from its completion on, and is
    /// dropped if the attempt fails.
    #[getter]
    fn memory<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(distant) = &self.core.distant {
            return PyDistantMemory::of(py, distant, &self.batch, self.child);
        }
        recall::of_task(py, &self.core, &self.batch, self.child)
    }

    /// What was looked up in memory before the attempt: a `goclaw.Recalled`, empty where nothing was
    /// asked for.
    #[getter]
    fn recalled<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match recall::found(&self.batch) {
            Some(recalled) => Ok(recalled.memories.bind(py).clone()),
            None => py.import("goclaw.recalled")?.getattr(intern!(py, "Recalled"))?.call0(),
        }
    }

    /// What makes the engine's vectors; for agents of goclaw's own.
    #[getter]
    fn _embeddings(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let recall = self.core.recall.as_ref()?;
        recall.embedder.as_ref().map(|embedder| embedder.clone_ref(py))
    }

    /// A sign of life: holds off the task's `idle_timeout`. `details` are for whoever looks at the
    /// task, as text. Raises `goclaw.Cancelled` when the agent should stop.
    #[pyo3(signature = (details=None))]
    fn heartbeat(&self, py: Python<'_>, details: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        match details {
            None => self.batch.beat(self.child),
            Some(details) => {
                let text = failure::bounded(details.str()?.to_string(), DETAILS_BYTES_MAX);
                self.batch.beat_with(self.child, text.into());
            }
        }
        self.core.heartbeats.fetch_add(1, Ordering::Relaxed);
        self.checkpoint(py)
    }

    /// Tells watchers how far the agent got. At most one report in 10 ms is passed on, and the last.
    #[pyo3(signature = (done, total=None, text=None))]
    fn progress(&self, done: f64, total: Option<f64>, text: Option<String>) {
        self.batch.beat(self.child);
        let now = Instant::now();
        let last = total.is_some_and(|total| done >= total);
        {
            let mut reported =
                self.reported.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let soon = reported.filter(|(at, _)| now.duration_since(*at) < PROGRESS_PAUSE);
            if soon.is_some_and(|(_, was_last)| was_last || !last) {
                return;
            }
            *reported = Some((now, last));
        }
        let call = &self.batch.call;
        let span = Span::one(call.node, self.child);
        let attempt = self.batch.attempt;
        let report = Report::Progress { run: call.run, span, attempt, done, total, text };
        self.core.reports.report(vec![report]);
    }

    /// Charges `n` units to a budget of the task's lane, such as the tokens that a call has used. What
    /// is over the budget is a debt: the lane begins no task of the same key until it is paid.
    ///
    /// Raises `goclaw.ChargeRefused` for a unit that the lane has no budget of, and for what is no number
    /// of units.
    fn charge(&self, py: Python<'_>, unit: &str, n: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(n) = n.extract::<u64>() else {
            let error = Error::new(
                "lane.charge",
                format!(
                    "{} is no number of units to charge",
                    failure::bounded(n.repr()?.to_string(), 80)
                ),
                "charge whole units, from 0 on: ctx.charge(\"tokens\", 250)",
            );
            return Err(errors::raised(py, &error));
        };
        let card = self.batch.lane.as_ref();
        let Some(lane) = card.and_then(|card| card.payer(unit)) else {
            let name = card.map_or("?", |card| card.lane.as_str());
            let error = Error::new(
                "lane.budget",
                format!("lane `{name}` has no budget of `{unit}`"),
                "declare it with the lane: Lane(…, budgets={\"tokens\": \"90000/m\"})",
            );
            return Err(errors::raised(py, &error));
        };
        let (lane, key) = (lane.into(), self.batch.rate_key.clone());
        let report = Report::Charge { lane, key, unit: unit.into(), n };
        self.core.reports.report(vec![report]);
        Ok(())
    }

    /// A safe point, and a sign of life: raises `goclaw.Cancelled` when the agent should stop.
    fn checkpoint(&self, py: Python<'_>) -> PyResult<()> {
        if self.batch.idle().is_some() {
            self.batch.beat(self.child);
        }
        if !self.stopped() {
            return Ok(());
        }
        let class = failure::cancelled_class(py)?;
        let message = format!("task `{}` was cancelled", self.task_id());
        Err(PyErr::from_value(class.call1((message,))?))
    }

    /// Pauses; to be awaited in a coroutine, blocks in a plain function. Raises `goclaw.Cancelled`
    /// when the agent is cancelled meanwhile. Takes seconds, a timedelta, or text such as "2m".
    fn sleep<'py>(slf: &Bound<'py, Self>, t: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let helpers = py.import("goclaw.context")?;
        let seconds: f64 = helpers.getattr(intern!(py, "_seconds"))?.call1((t,))?.extract()?;
        if this.style == Style::Loop {
            return helpers.getattr(intern!(py, "_sleep"))?.call1((slf, seconds));
        }
        let length = Duration::try_from_secs_f64(seconds)
            .map_err(|error| PyValueError::new_err(error.to_string()))?;
        let until = Instant::now()
            .checked_add(length)
            .ok_or_else(|| PyValueError::new_err("nobody sleeps that long"))?;
        loop {
            this.checkpoint(py)?;
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(py.None().into_bound(py));
            }
            py.detach(|| std::thread::sleep(rest.min(SLEEP_SLICE)));
            py.check_signals()?;
        }
    }

    fn __repr__(&self) -> String {
        format!("<goclaw.Context {} attempt {}>", self.idempotency_key(), self.batch.attempt)
    }
}

/// The agent call that this code runs in, where its reports go to the engine that is meant.
pub(super) fn caller(
    py: Python<'_>,
    is_meant: impl FnOnce(&Arc<dyn Reports>) -> bool,
) -> Option<Waiter> {
    let caller = current(py).ok()?;
    let caller = caller.cast::<Context>().ok()?.get();
    is_meant(&caller.core.reports).then(|| caller.waiter())
}

static VARIABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// The context variable in which coroutines find their call; made by `goclaw.context`. The loop asks
/// for it before it starts the first of them.
pub(super) fn variable(py: Python<'_>) -> PyResult<&Bound<'_, PyAny>> {
    VARIABLE.import(py, "goclaw.context", "_CURRENT")
}

/// The context of the agent call that this code runs in.
///
/// # Errors
/// `RuntimeError` outside of an agent.
#[pyfunction]
pub(super) fn current(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let here = HERE.with_borrow(|stack| stack.last().cloned());
    if let Some(here) = here {
        return here.context(py);
    }
    // Never imported here: every wait asks, in signal handlers too, and asyncio's import may be under way.
    let found = match VARIABLE.get(py) {
        Some(variable) => variable.bind(py).call_method1(intern!(py, "get"), (py.None(),))?,
        None => py.None().into_bound(py),
    };
    if found.is_none() {
        return Err(PyRuntimeError::new_err("goclaw.current() works inside a running agent only"));
    }
    Ok(found)
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Context>()?;
    module.add_function(wrap_pyfunction!(current, module)?)
}
