//! The worker's side: a reader thread that needs no GIL, and the main thread, which runs the agents.
//!
//! Agents run on the main thread, as in `multiprocessing`: signal handlers and libraries that insist on
//! it work. Coroutines run on the worker's own event loop, one call of a batch after the other. The
//! reader ends the process at once when the engine is gone, whatever an agent does with the GIL.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use super::super::executor::PythonExecutor;
use super::super::object::Mode;
use super::super::slot::Slot;
use super::super::{batch, call as python, registry};
use super::asks::Asks;
use super::desk::{ALONE, Current, Desk, Mouth, Node, Stand, Task, lock, report_finished};
use super::inherit::{first_frame, take_socket};
use super::outbox::{ENGINE_GONE, Outbox, die};
use super::reader::Reader;
use super::ship::refusal;
use crate::agent::wire::{Framer, News, Order, Recipe};
use crate::agent::{Batch, Executor, Outcome};
use crate::model::{Failure, Payload, Span, Style};

static OUTBOX: OnceLock<Arc<Outbox>> = OnceLock::new();

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
    let current: Arc<Mutex<Current>> = Arc::default();
    let ended = Mutex::new(ended);
    let mouth =
        Arc::new(Mouth { outbox: Arc::clone(&outbox), current: Arc::clone(&current), ended });
    let asks = Arc::new(Asks::new(Arc::clone(&outbox), Arc::clone(&current)));
    let executor = PythonExecutor::away(mouth, mode, Arc::clone(&asks) as _);
    let desk = Arc::new(Desk { outbox, executor, current, mark, asks });
    let (sender, tasks) = mpsc::channel();
    let reader =
        Reader { desk: Arc::clone(&desk), socket, framer, nodes: VecDeque::new(), sender, parent };
    let thread = thread::Builder::new().name("goclaw-in".into());
    thread.spawn(move || reader.run()).map_err(failed)?;
    // From here on the reader ends the worker, and what its agents start: the signal must not be faster. It
    // wakes a worker that was stopped, so that its reader can.
    set_parent_process_death_signal(Some(Signal::CONT)).map_err(io::Error::from).map_err(failed)?;
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
        part.letters.clone_from(&batch.letters);
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
