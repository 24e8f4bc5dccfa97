//! Coroutines: one event loop for the process, fed in batches, rung by a byte on a socket.
//!
//! The owner thread has no GIL, so it cannot call `call_soon_threadsafe`; it pushes into a queue and,
//! where the loop does not know of news yet, writes one byte. Every coroutine's first step runs at
//! once inside a real task; one that ends in it costs the loop nothing. See `python/goclaw/_loop.py`.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyList;

use super::bind::{self, Binding};
use super::deferred::{Deferred, Looks};
use super::executor::Core;
use super::mailbox::{self, Feed, mailbox};
use super::slot::Slot;
use super::steps::{Steps, Tools};
use super::{batch, call, failure, lend, sight};
use crate::agent::{Batch, Outcome, Report};
use crate::model::Span;

/// Coroutines that are started together. More than this many live coroutines, tasks and contexts at a
/// time set off Python's garbage collector in every chunk (its youngest generation has 700 objects).
const CHUNK_CALLS_MAX: usize = 48;
/// How long the loop starts coroutines before it lets the others go on.
const TURN_MAX: Duration = Duration::from_millis(4);

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the loop's thread unless it runs. On a worker thread.
pub(super) fn start(py: Python<'_>) -> PyResult<()> {
    // Imports run long enough for the interpreter to end meanwhile: through guarded calls only.
    let import = py.import("importlib")?.getattr(intern!(py, "import_module"))?;
    let module = call::call(&import, &[intern!(py, "goclaw._loop").as_any()])?;
    call::call(&module.getattr(intern!(py, "ensure"))?, &[])?;
    Ok(())
}

/// A batch on the loop.
pub(super) struct Course {
    pub(super) batch: Arc<Batch>,
    pub(super) core: Arc<Core>,
    pub(super) binding: Arc<Binding>,
    /// Suspended tasks by child.
    tasks: Mutex<HashMap<u32, Py<PyAny>>>,
    /// Children that were given up one by one.
    given_up: Mutex<Vec<Span>>,
    /// The child whose first step runs, plus one; 0 between steps. The loop's thread writes.
    pub(super) stepping: AtomicU32,
    /// Children under way, plus one until all have been started.
    open: AtomicU32,
    /// Where memories are looked up first.
    pub(super) looks: Looks,
}

impl Course {
    /// True when the child's cancellation was asked for.
    pub(super) fn is_stopping(&self, child: u32) -> bool {
        batch::is_stopping(&self.batch)
            || lock(&self.given_up).iter().any(|span| (span.lo..span.hi()).contains(&child))
    }

    fn leave(&self) {
        if self.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.core.loop_batches.fetch_sub(1, Ordering::Release);
        }
    }
}

/// One suspended call.
pub(super) struct Suspended {
    pub(super) course: Arc<Course>,
    pub(super) child: u32,
    since: Instant,
}

/// The loop thread's side. Locks are held for moments only, never while Python runs.
#[pyclass(frozen, module = "goclaw._goclaw", name = "_Feeder")]
pub(super) struct Feeder {
    tools: OnceLock<Tools>,
    backlog: Mutex<VecDeque<Arc<Course>>>,
    /// By the address of the batch.
    courses: Mutex<HashMap<usize, Arc<Course>>>,
    /// By the address of the task.
    pub(super) suspended: Mutex<HashMap<usize, Suspended>>,
    /// The batch whose coroutines take their first steps.
    pub(super) starting: Mutex<Option<Arc<Course>>>,
}

#[pymethods]
impl Feeder {
    #[new]
    fn new() -> Self {
        Self {
            tools: OnceLock::new(),
            backlog: Mutex::default(),
            courses: Mutex::default(),
            suspended: Mutex::default(),
            starting: Mutex::default(),
        }
    }

    /// In a forked child: the loop is the parent's, and the next coroutine starts another.
    #[staticmethod]
    fn forked() {
        mailbox::forked();
    }

    /// The file descriptor that is readable when there is news.
    fn fileno(&self) -> PyResult<i64> {
        let bell = mailbox().bell.as_ref();
        let (ear, _) = bell.map_err(|error| PyRuntimeError::new_err(error.clone()))?;
        Ok(mailbox::number(ear))
    }

    /// Called once by the loop's thread, with what is needed to make tasks.
    fn equip(slf: &Bound<'_, Self>, tools: &Bound<'_, PyAny>) -> PyResult<()> {
        let _ = slf.get().tools.set(Tools::new(tools)?);
        sight::equip(slf.clone().unbind(), Slot::own(true));
        lend::on_loop();
        Ok(())
    }

    /// The loop's reader: takes the news and starts coroutines, for a few milliseconds at most.
    fn drain(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let slot = Slot::own(true);
        slot.begin(py);
        let again = slf.get().turn(py, &slot);
        slot.end();
        if again? {
            let tools = slf.get().tools()?;
            tools.call_soon.bind(py).call1((slf.getattr(intern!(py, "drain"))?,))?;
        }
        Ok(())
    }

    /// Takes the tasks that ended since; called once per iteration of the loop in which some did.
    fn flush(&self, done: &Bound<'_, PyList>) {
        let py = done.py();
        let slot = Slot::own(true);
        slot.begin(py);
        let tasks: Vec<_> = done.iter().collect();
        let _ = done.del_slice(0, tasks.len());
        let now = Instant::now();
        let mut ended: HashMap<usize, Ended> = HashMap::new();
        for task in tasks {
            let Some(call) = lock(&self.suspended).remove(&(task.as_ptr() as usize)) else {
                continue;
            };
            let kept = lock(&call.course.tasks).remove(&call.child);
            drop(kept);
            let outcome = outcome_of(&task, &call.course, call.child);
            let group = ended
                .entry(Arc::as_ptr(&call.course) as usize)
                .or_insert_with(|| Ended::new(Arc::clone(&call.course)));
            group.busy += now.duration_since(call.since);
            group.outcomes.push((call.child, outcome));
        }
        for group in ended.into_values() {
            self.report(group);
        }
        slot.end();
    }
}

impl Feeder {
    pub(super) fn tools(&self) -> PyResult<&Tools> {
        self.tools.get().ok_or_else(|| PyRuntimeError::new_err("the loop is not equipped"))
    }

    /// One turn of the loop for us; true when there is more to start.
    fn turn(&self, py: Python<'_>, slot: &Slot) -> PyResult<bool> {
        let mailbox = mailbox();
        if let Ok((ear, _)) = &mailbox.bell {
            let mut bytes = [0; 64];
            while matches!((&*ear).read(&mut bytes), Ok(64)) {}
        }
        // Silenced before the queue is taken: what comes later rings again.
        mailbox.silence();
        let news = mailbox.take();
        for news in news {
            self.take(py, news);
        }
        let tools = self.tools()?;
        let until = Instant::now() + TURN_MAX;
        loop {
            let Some(course) = lock(&self.backlog).front().cloned() else { return Ok(false) };
            if self.start_some(py, slot, tools, &course) {
                lock(&self.backlog).pop_front();
                self.left(&course);
            }
            if Instant::now() >= until {
                return Ok(!lock(&self.backlog).is_empty());
            }
        }
    }

    fn take(&self, py: Python<'_>, news: Feed) {
        match news {
            Feed::Start(batch, core) => {
                match batch::caught(|| bind::node(py, &batch.call, &core.mode))
                    .and_then(|binding| binding)
                {
                    Ok(binding) => {
                        let key = Arc::as_ptr(&batch) as usize;
                        let course = Arc::new(Course {
                            batch,
                            core,
                            binding,
                            tasks: Mutex::default(),
                            given_up: Mutex::default(),
                            stepping: AtomicU32::new(0),
                            open: AtomicU32::new(1),
                            looks: Looks::default(),
                        });
                        lock(&self.courses).insert(key, Arc::clone(&course));
                        lock(&self.backlog).push_back(course);
                    }
                    Err(failure) => {
                        batch::fail(&core, &batch, &failure);
                        core.loop_batches.fetch_sub(1, Ordering::Release);
                    }
                }
            }
            Feed::Cancel(batch, span) => {
                let course = lock(&self.courses).get(&(Arc::as_ptr(&batch) as usize)).cloned();
                if let Some(course) = course {
                    cancel(py, &course, span);
                }
            }
            Feed::Release(core) => {
                let courses: Vec<_> = lock(&self.courses).values().cloned().collect();
                for course in courses.iter().filter(|course| Arc::ptr_eq(&course.core, &core)) {
                    course.batch.abandoned.store(true, Ordering::Release);
                    cancel(py, course, course.batch.span);
                }
            }
        }
    }

    /// Starts the next children of a batch; true when none is left.
    fn start_some(&self, py: Python<'_>, slot: &Slot, tools: &Tools, course: &Arc<Course>) -> bool {
        let began = Instant::now();
        let mut ended = Ended::new(Arc::clone(course));
        *lock(&self.starting) = Some(Arc::clone(course));
        let mut steps = Steps::new(py, slot, tools, course, began);
        let mut all = false;
        for _ in 0..CHUNK_CALLS_MAX {
            let abandoned = course.batch.abandoned.load(Ordering::Acquire);
            let Some(child) = (if abandoned { None } else { course.batch.claim() }) else {
                all = true;
                break;
            };
            course.open.fetch_add(1, Ordering::Relaxed);
            if course.is_stopping(child) {
                ended.outcomes.push((child, Outcome::Cancelled));
            } else if let Some(outcome) = batch::caught(|| steps.begin(child))
                .unwrap_or_else(|failure| Some(Outcome::Failed(failure)))
            {
                ended.outcomes.push((child, outcome));
            }
        }
        steps.finish(|child, state| match state {
            Ok(outcome) => ended.outcomes.push((child, outcome)),
            Err(task) => self.suspend(course, child, began, task),
        });
        let started = lock(&self.starting).take();
        drop(started);
        ended.busy = began.elapsed();
        self.report(ended);
        all
    }

    /// The call goes on later: keep its task, and hear when it is done.
    fn suspend(&self, course: &Arc<Course>, child: u32, since: Instant, task: Bound<'_, PyAny>) {
        let py = task.py();
        let call = Suspended { course: Arc::clone(course), child, since };
        lock(&self.suspended).insert(task.as_ptr() as usize, call);
        lock(&course.tasks).insert(child, task.clone().unbind());
        let done = self.tools().map(|tools| tools.done.bind(py).clone());
        let heard =
            done.and_then(|done| task.call_method1(intern!(py, "add_done_callback"), (done,)));
        heard.expect("a task takes callbacks, and the tools made it");
        if course.is_stopping(child) {
            let _ = task.call_method0(intern!(py, "cancel"));
        }
    }

    fn left(&self, course: &Arc<Course>) {
        course.leave();
        self.forget(course);
    }

    fn forget(&self, course: &Arc<Course>) {
        if course.open.load(Ordering::Acquire) == 0 {
            let ended = lock(&self.courses).remove(&(Arc::as_ptr(&course.batch) as usize));
            drop(ended);
        }
    }

    /// Reports runs of consecutive children.
    fn report(&self, mut ended: Ended) {
        if ended.outcomes.is_empty() {
            return;
        }
        let course = ended.course;
        for (child, outcome) in &ended.outcomes {
            if !matches!(outcome, Outcome::Completed(_) | Outcome::Memorized { .. }) {
                course.batch.drop_memorized(*child);
            }
        }
        ended.outcomes.sort_by_key(|(child, _)| *child);
        let count = ended.outcomes.len();
        let mut reports: Vec<Report> = Vec::new();
        let mut next = None;
        for (child, outcome) in ended.outcomes {
            match reports.last_mut() {
                Some(Report::Done { outcomes, .. }) if next == Some(child) => {
                    outcomes.push(outcome)
                }
                _ => reports.push(Report::Done {
                    batch: course.batch.id,
                    lo: child,
                    outcomes: vec![outcome],
                    busy_ns: 0,
                }),
            }
            next = Some(child + 1);
        }
        let total = ended.busy.as_nanos() as u64;
        for report in &mut reports {
            if let Report::Done { outcomes, busy_ns, .. } = report {
                *busy_ns = total * outcomes.len() as u64 / count as u64;
            }
        }
        course.core.reports.report(reports);
        for _ in 0..count {
            course.leave();
        }
        self.forget(&course);
    }
}

/// Outcomes of one batch, in whatever order they came.
struct Ended {
    course: Arc<Course>,
    outcomes: Vec<(u32, Outcome)>,
    busy: Duration,
}

impl Ended {
    fn new(course: Arc<Course>) -> Self {
        Self { course, outcomes: Vec::new(), busy: Duration::ZERO }
    }
}

fn cancel(py: Python<'_>, course: &Course, span: Span) {
    lock(&course.given_up).push(span);
    let tasks: Vec<_> = {
        let tasks = lock(&course.tasks);
        let wanted = tasks.iter().filter(|(child, _)| (span.lo..span.hi()).contains(*child));
        wanted.map(|(_, task)| task.clone_ref(py)).collect()
    };
    for task in tasks {
        // A task that has ended meanwhile answers false.
        let _ = task.call_method0(py, intern!(py, "cancel"));
    }
}

/// How a task that is done has ended.
pub(super) fn outcome_of(task: &Bound<'_, PyAny>, course: &Course, child: u32) -> Outcome {
    let py = task.py();
    match task.call_method0(intern!(py, "result")) {
        Ok(result) => batch::completed(&course.core, &course.batch, child, &result),
        Err(raised) => match course.looks.refusal(child) {
            Some(failure) => Outcome::Failed(failure),
            None => failure::outcome(py, raised, course.is_stopping(child)),
        },
    }
}

pub(super) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Deferred>()?;
    module.add_class::<Feeder>()
}
