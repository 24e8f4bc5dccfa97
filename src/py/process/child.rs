//! The worker's side: a reader thread that needs no GIL, and the main thread, which runs the agents.
//!
//! Agents run on the main thread, as in `multiprocessing`: signal handlers and libraries that insist on
//! it work. Coroutines run on the worker's own event loop, one call of a batch after the other. The
//! reader ends the process at once when the engine is gone, whatever an agent does with the GIL.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::super::executor::PythonExecutor;
use super::super::object::{Mode, Withheld};
use super::super::slot::Slot;
use super::super::{batch, call as python, registry};
use super::inherit::{first_frame, take_socket};
use super::mark::Mark;
use super::outbox::{ENGINE_GONE, Outbox, SOCKET_GONE, die};
use super::ship::refusal;
use crate::agent::wire::{Call, Framer, NODES_KEPT, News, Order, Recipe, Work};
use crate::agent::{Batch, Executor, Gauge, NodeCall, Outcome, Report, Reports, Rung};
use crate::model::{BatchId, Failure, Millis, Payload, RunId, Span, Style, Workflow};
use crate::plan;

/// How often the reader looks whether the engine is still there.
const LOOK_MS: i64 = 250;
/// How long one call may hold up those behind it before they go back to the lane.
const HOLD_UP_MS: u64 = 5;

static OUTBOX: OnceLock<Arc<Outbox>> = OnceLock::new();

/// A node as the worker knows it.
struct Node {
    call: Result<Arc<NodeCall>, Box<Failure>>,
    agent: String,
    recipe: Recipe,
}

/// One batch for the main thread.
struct Task {
    batch: Arc<Batch>,
    node: Arc<Node>,
}

/// The batch under way, and the part of it that the event loop has.
type Current = Option<(Arc<Batch>, Option<Arc<Batch>>)>;

/// What reader and main thread share.
struct Desk {
    outbox: Arc<Outbox>,
    executor: Arc<PythonExecutor>,
    current: Mutex<Current>,
    mark: Arc<Mark>,
}

impl Desk {
    fn current(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mark of a batch, for the part of it that the event loop has.
struct Stand {
    mark: Arc<Mark>,
    batch: BatchId,
}

impl Gauge for Stand {
    /// The batch itself notes its calls.
    fn begin(&self, _: BatchId, _: u32) {}
    fn under_way(&self, _: BatchId) -> Option<(u32, Millis)> {
        self.mark.under_way(self.batch)
    }
    fn beat(&self, _: BatchId, details: Option<&str>) {
        self.mark.beat(self.batch, details);
    }
    fn silent_for(&self, _: BatchId) -> Option<Millis> {
        self.mark.silent_for(self.batch)
    }
    fn details(&self, _: BatchId) -> Option<Arc<str>> {
        self.mark.details(self.batch)
    }
}

/// Where the executor of the worker reports: to the engine, save for the coroutine that the main
/// thread waits for.
struct Mouth {
    outbox: Arc<Outbox>,
    ended: Mutex<Sender<Outcome>>,
}

impl Reports for Mouth {
    fn report(&self, reports: Vec<Report>) {
        let mut rest = Vec::new();
        for report in reports {
            match report {
                Report::Done { batch: ALONE, outcomes, .. } => {
                    let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
                    // Nobody waits where the main thread has ended.
                    outcomes.into_iter().for_each(|outcome| drop(ended.send(outcome)));
                }
                other => rest.push(other),
            }
        }
        if !rest.is_empty() {
            self.outbox.report(rest);
        }
    }
}

/// Stands for the batch of one coroutine. Engines count theirs from 1.
const ALONE: BatchId = BatchId(0);

/// Lives as a worker of the process `parent` until it is told to end. `setup` prepares Python,
/// `load` makes an agent known.
#[pyfunction]
fn _work(
    py: Python<'_>,
    parent: i32,
    setup: &Bound<'_, PyAny>,
    load: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let failed = |error: io::Error| PyOSError::new_err(error.to_string());
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from).map_err(failed)?;
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        die(ENGINE_GONE);
    }
    let socket = Arc::new(take_socket().map_err(failed)?);
    let outbox = Outbox::new(Arc::clone(&socket)).map_err(failed)?;
    let _ = OUTBOX.set(Arc::clone(&outbox));
    let mut framer = Framer::default();
    let mark = Arc::new(py.detach(|| first_frame(&socket, &mut framer)).map_err(failed)?);
    let Ok(Some(Order::Set { setup: how, payload_max, allow_pickle })) = framer.take() else {
        return Err(PyOSError::new_err("the engine did not say how to begin"));
    };
    setup.call1((how,))?;
    let mode = Mode { memory: false, payload_max: payload_max as usize, allow_pickle };
    let (ended, outcomes) = mpsc::channel();
    let mouth = Arc::new(Mouth { outbox: Arc::clone(&outbox), ended: Mutex::new(ended) });
    let executor = PythonExecutor::new(mouth, mode);
    let desk = Arc::new(Desk { outbox, executor, current: Mutex::default(), mark });
    let (sender, tasks) = mpsc::channel();
    let reader =
        Reader { desk: Arc::clone(&desk), socket, framer, nodes: VecDeque::new(), sender, parent };
    let thread = thread::Builder::new().name("goclaw-in".into());
    thread.spawn(move || reader.run()).map_err(failed)?;
    desk.outbox.tell(&News::Ready);
    work(py, &desk, &Mutex::new(tasks), &Mutex::new(outcomes), load);
    py.detach(|| desk.executor.close(0));
    Ok(())
}

/// The main thread: one batch after the other, until no more will come.
fn work(
    py: Python<'_>,
    desk: &Arc<Desk>,
    tasks: &Mutex<Receiver<Task>>,
    outcomes: &Mutex<Receiver<Outcome>>,
    load: &Bound<'_, PyAny>,
) {
    let slot = Slot::own(true);
    let mut beats = 0;
    let next = || py.detach(|| lock(tasks).recv().ok());
    while let Some(task) = next() {
        let (batch, node) = (task.batch, task.node);
        match known(py, &node, load) {
            Err(failure) => batch::fail_all(&*desk.outbox, &batch, &failure),
            Ok(true) => one_by_one(py, desk, &batch, outcomes),
            Ok(false) => desk.executor.run_here(py, &slot, &batch),
        }
        *desk.current() = None;
        let now = desk.executor.heartbeats();
        desk.outbox.tell(&News::Rested { batch: batch.id.0, beats: now - beats });
        beats = now;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the node's agent known; true where it is a coroutine function.
fn known(py: Python<'_>, node: &Node, load: &Bound<'_, PyAny>) -> Result<bool, Box<Failure>> {
    node.call.as_ref().map_err(Clone::clone)?;
    let text = |text: &str| PyString::new(py, text).into_any();
    let recipe = match &node.recipe {
        Recipe::Import { module, path } => [text("import"), text(module), text(path)],
        Recipe::Pickle { hash, bytes } => {
            let bytes: &[u8] = if let Payload::Bytes(bytes) = bytes { bytes } else { &[] };
            [text("pickle"), text(hash), PyBytes::new(py, bytes).into_any()]
        }
    };
    PyTuple::new(py, recipe)
        .and_then(|recipe| python::call(load, &[&text(&node.agent), recipe.as_any()]))
        .map_err(|raised| refusal(py, &raised))?;
    let agent = registry::find(&node.agent).ok_or_else(|| {
        let message = format!("agent `{}` is not there in the worker process", node.agent);
        super::super::failure::binding("agent.not_importable", message)
    })?;
    Ok(agent.is_coroutine())
}

/// The calls of a batch of coroutines, each on the loop, each once the one before has ended.
fn one_by_one(
    py: Python<'_>,
    desk: &Desk,
    batch: &Arc<Batch>,
    outcomes: &Mutex<Receiver<Outcome>>,
) {
    while let Some(child) = batch.claim() {
        batch.begin(child);
        let span = Span::one(batch.span.node, child);
        let (call, attempt) = (Arc::clone(&batch.call), batch.attempt);
        let mut part = Batch::new(ALONE, call, span, attempt, Style::Loop, batch.timeout);
        part.items.clone_from(&batch.items);
        part.items_lo = batch.items_lo;
        part.lane.clone_from(&batch.lane);
        part.rate_key.clone_from(&batch.rate_key);
        part.measure(Arc::new(Stand { mark: Arc::clone(&desk.mark), batch: batch.id }));
        let part = Arc::new(part);
        if let Some(current) = &mut *desk.current() {
            current.1 = Some(Arc::clone(&part));
        }
        let outcome = if batch::is_stopping(batch) {
            Some(Outcome::Cancelled)
        } else {
            desk.executor.execute(part);
            py.detach(|| lock(outcomes).recv().ok())
        };
        let Some(outcome) = outcome else { return };
        batch.finish(outcome);
        report_finished(desk, batch);
    }
}

fn report_finished(desk: &Desk, batch: &Batch) {
    if let Some((lo, outcomes)) = batch.take_finished() {
        let report = Report::Done { batch: batch.id, lo, outcomes, busy_ns: batch.busy_ns() };
        desk.outbox.report(vec![report]);
    }
}

/// Gives the calls that nobody has begun back to the engine.
fn give_back(desk: &Desk, batch: &Batch) {
    if let Some(rest) = batch.take_back() {
        let outcomes = (0..rest.len).map(|_| Outcome::Returned).collect();
        let report = Report::Done { batch: batch.id, lo: rest.lo, outcomes, busy_ns: 0 };
        desk.outbox.report(vec![report]);
    }
}

/// The thread that hears the engine.
struct Reader {
    desk: Arc<Desk>,
    socket: Arc<UnixStream>,
    framer: Framer,
    /// The latest nodes, as the engine counts them.
    nodes: VecDeque<(u64, Arc<Node>)>,
    sender: Sender<Task>,
    parent: i32,
}

impl Reader {
    fn run(mut self) {
        let mut bytes = vec![0; 64 << 10];
        while self.orders() {
            if !self.wait() {
                continue;
            }
            match rustix::net::recv(&*self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
                Ok((_, 0)) => die(ENGINE_GONE),
                Ok((_, n)) => self.framer.feed(&bytes[..n]),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => die(SOCKET_GONE),
            }
        }
    }

    /// Waits for the socket; meanwhile looks after the batch under way and the engine.
    fn wait(&self) -> bool {
        let behind = self.desk.current().as_ref().is_some_and(|(batch, _)| batch.span.len > 1);
        let ms = if behind { HOLD_UP_MS as i64 } else { LOOK_MS };
        let mut fds = [PollFd::new(&*self.socket, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: ms * 1_000_000 };
        let heard = poll(&mut fds, Some(&wait)).unwrap_or(0) > 0;
        if fds[0].revents().contains(PollFlags::NVAL) {
            die(SOCKET_GONE);
        }
        if getppid().map(Pid::as_raw_pid) != Some(self.parent) {
            die(ENGINE_GONE);
        }
        if behind {
            self.look_after();
        }
        heard
    }

    /// A call that takes long must not hold up those behind it, nor the outcomes before it.
    fn look_after(&self) {
        let Some((batch, _)) = self.desk.current().clone() else { return };
        if batch.under_way().is_some_and(|(_, held)| held >= HOLD_UP_MS) {
            give_back(&self.desk, &batch);
            report_finished(&self.desk, &batch);
        }
    }

    /// Carries out what came whole; false when no more will come.
    fn orders(&mut self) -> bool {
        loop {
            match self.framer.take() {
                Ok(Some(Order::Node { key, call })) => self.learn(key, *call),
                Ok(Some(Order::Work(work))) => self.begin(work),
                Ok(Some(Order::Cancel { batch, rung })) => self.stop(batch, Some(rung)),
                Ok(Some(Order::Abandon { batch })) => self.stop(batch, None),
                Ok(Some(Order::Set { .. })) => {}
                Ok(Some(Order::Close)) => return false,
                Ok(None) => return true,
                Err(error) => die(&format!("the engine sent what is no frame: {error}")),
            }
        }
    }

    fn learn(&mut self, key: u64, call: Call) {
        let (agent, recipe) = (call.task.agent.clone(), call.recipe.clone());
        let call = rebuild(call).map(Arc::new);
        self.nodes.push_back((key, Arc::new(Node { call, agent, recipe })));
        if self.nodes.len() > NODES_KEPT {
            self.nodes.pop_front();
        }
    }

    fn begin(&self, work: Work) {
        let node = self.nodes.iter().find(|(key, _)| *key == work.node);
        // Both ends count nodes alike; a worker that lost count is no use.
        let Some((_, node)) = node else { die("an unknown node") };
        let call = match &node.call {
            Ok(call) => Arc::clone(call),
            Err(_) => Arc::new(nothing()),
        };
        let span = Span::new(call.node, work.lo, work.len);
        let id = BatchId(work.batch);
        let mut batch = Batch::new(id, call, span, work.attempt, Style::Thread, work.timeout);
        batch.items = work.items;
        batch.items_lo = work.lo;
        (batch.lane, batch.rate_key) = (work.lane, work.rate_key);
        batch.measure(Arc::clone(&self.desk.mark) as _);
        let batch = Arc::new(batch);
        *self.desk.current() = Some((Arc::clone(&batch), None));
        // The main thread has ended only where the process ends.
        let _ = self.sender.send(Task { batch, node: Arc::clone(node) });
    }

    fn stop(&self, id: u64, rung: Option<Rung>) {
        let Some((batch, part)) = self.desk.current().clone() else { return };
        if batch.id.0 != id {
            return;
        }
        give_back(&self.desk, &batch);
        for batch in [Some(batch), part].into_iter().flatten() {
            match rung {
                Some(rung) => {
                    // The run's own flag is the token, and this is its copy.
                    batch.call.cancelled.store(true, Ordering::Release);
                    self.desk.executor.cancel(&batch, batch.span, rung);
                }
                None => self.desk.executor.abandon(&batch, batch.span),
            }
        }
    }
}

/// The call of a node that could not be rebuilt; only its failure is ever read.
fn nothing() -> NodeCall {
    let workflow = Workflow { tasks: vec![crate::model::Task::default()], ..Workflow::default() };
    let plan = plan::restore(Arc::new(workflow)).expect("one task without dependencies is a plan");
    call_of(
        plan,
        RunId::from_u128(0),
        Payload::bytes(vec![]),
        String::new(),
        None,
        crate::model::Timestamp(0),
    )
}

fn call_of(
    plan: plan::Plan,
    run: RunId,
    input: Payload,
    trace_id: String,
    session: Option<String>,
    submitted: crate::model::Timestamp,
) -> NodeCall {
    NodeCall {
        run,
        plan: Arc::new(plan),
        node: 0,
        input,
        results: Vec::new(),
        items: None,
        trace_id: trace_id.into(),
        session: session.map(Into::into),
        letters: None,
        submitted,
        cancelled: Arc::default(),
        memo: OnceLock::new(),
    }
}

fn rebuild(call: Call) -> Result<NodeCall, Box<Failure>> {
    let workflow = Workflow {
        name: call.workflow,
        tasks: vec![call.task],
        constants: call.constants,
        timeout_ms: call.timeout_ms,
        ..Workflow::default()
    };
    let plan = plan::restore(Arc::new(workflow))
        .map_err(|error| super::super::failure::binding("task.binding", error.message))?;
    let input = call.input.unwrap_or_else(|why| Payload::Object(Arc::new(Withheld(why))));
    Ok(call_of(plan, call.run, input, call.trace_id, call.session, call.submitted))
}

/// Sends a log record to the engine. In workers only.
#[pyfunction]
fn _relay(logger: String, level: u8, text: String, extra: Vec<(String, String)>) {
    if let Some(outbox) = OUTBOX.get() {
        outbox.tell(&News::Log { logger, level, text, extra });
    }
}

pub(in crate::py) fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(_work, module)?)?;
    module.add_function(wrap_pyfunction!(_relay, module)?)
}
