//! The Python executor: threads for functions, one event loop for coroutines, callers that help.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::notify::Notifier;
use super::object::Mode;
use super::recall::Distant;
use super::slot::Slot;
use super::threads::{Desk, Job, Order, Pool};
use super::{lend, mailbox, process, registry};
use crate::agent::{Batch, Executor, MergeCall, NodeCall, Reports, Rung};
use crate::memory::Memory;
use crate::model::{Isolation, Millis, RunId, Span, Style};

/// How often a helping thread looks for signals (Ctrl-C).
const SIGNALS_EVERY: Duration = Duration::from_millis(50);
/// How long a closing executor waits for cancelled coroutines.
const LOOP_STOP_WAIT: Duration = Duration::from_secs(1);

/// What `ctx.memory` is made of.
pub(crate) struct Recall {
    pub(super) memory: Arc<Memory>,
    /// What makes vectors; None without one.
    pub(super) embedder: Option<Py<PyAny>>,
}

/// What threads and loop share of one executor.
pub(super) struct Core {
    pub(super) reports: Arc<dyn Reports>,
    pub(super) mode: Mode,
    /// `None` where there is no engine: in worker processes, and in tests.
    pub(super) recall: Option<Recall>,
    /// In worker processes: the way to the engine's memory.
    pub(super) distant: Option<Arc<dyn Distant>>,
    /// Threads whose agent was given up and did not come back yet.
    pub(super) stuck: AtomicUsize,
    /// Batches that the loop has not ended.
    pub(super) loop_batches: AtomicUsize,
    /// Wakes coroutines that wait for a message.
    pub(super) notifier: Arc<Notifier>,
    pub(super) heartbeats: AtomicU64,
    on_registered: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Core {
    /// An import made an agent known.
    pub(super) fn registered(&self) {
        if let Some(tell) = self.on_registered.get() {
            tell();
        }
    }
}

/// Runs Python functions as agents.
pub(crate) struct PythonExecutor {
    core: Arc<Core>,
    pool: Arc<Pool>,
    processes: Arc<process::Pool>,
    /// Resting helpers by run.
    helpers: Mutex<HashMap<RunId, Vec<Arc<Desk>>>>,
    /// Agents whose import was tried.
    imported: Mutex<Vec<String>>,
}

impl PythonExecutor {
    /// An executor without threads; they come with work. `mode` is how the engine carries values.
    pub(crate) fn new(reports: Arc<dyn Reports>, mode: Mode) -> Arc<Self> {
        Self::with_processes(reports, mode, process::ProcessOptions::default(), None)
    }

    /// The executor of a worker process, whose agents find the engine's memory through `distant`.
    pub(super) fn away(
        reports: Arc<dyn Reports>,
        mode: Mode,
        distant: Arc<dyn Distant>,
    ) -> Arc<Self> {
        Self::made(reports, mode, process::ProcessOptions::default(), None, Some(distant))
    }

    /// As [`new`](Self::new), with something to say about worker processes, and with a memory.
    pub(super) fn with_processes(
        reports: Arc<dyn Reports>,
        mode: Mode,
        options: process::ProcessOptions,
        recall: Option<Recall>,
    ) -> Arc<Self> {
        Self::made(reports, mode, options, recall, None)
    }

    fn made(
        reports: Arc<dyn Reports>,
        mode: Mode,
        options: process::ProcessOptions,
        recall: Option<Recall>,
        distant: Option<Arc<dyn Distant>>,
    ) -> Arc<Self> {
        let core = Arc::new(Core {
            reports,
            mode,
            recall,
            distant,
            stuck: AtomicUsize::new(0),
            loop_batches: AtomicUsize::new(0),
            notifier: Arc::default(),
            heartbeats: AtomicU64::new(0),
            on_registered: OnceLock::new(),
        });
        let processes = process::Pool::new(Arc::clone(&core), options);
        let pool = Pool::new(Arc::clone(&core), Arc::clone(&processes));
        let (helpers, imported) = (Mutex::default(), Mutex::default());
        Arc::new(Self { core, pool, processes, helpers, imported })
    }

    /// Heartbeats so far.
    pub(crate) fn heartbeats(&self) -> u64 {
        self.core.heartbeats.load(Ordering::Relaxed)
    }

    /// What became of worker processes.
    pub(super) fn workers(&self) -> &process::Counts {
        self.processes.counts()
    }

    /// Called, on a worker thread, whenever importing a module made a missing agent known.
    pub(crate) fn on_registered(&self, tell: impl Fn() + Send + Sync + 'static) {
        let _ = self.core.on_registered.set(Box::new(tell));
    }

    /// Threads that do not come back from a timed-out or cancelled attempt.
    pub(crate) fn stuck(&self) -> usize {
        self.core.stuck.load(Ordering::Relaxed)
    }

    /// Runs a batch of plain functions on the calling thread: the main thread of a worker process.
    pub(super) fn run_here(&self, py: Python<'_>, slot: &Arc<Slot>, batch: &Arc<Batch>) {
        slot.begin(py);
        self.pool.run_batch(py, slot, batch, false);
        slot.end();
    }

    /// Lets the calling thread work on the run's thread-style batches until `until` is true.
    ///
    /// Between batches it rests without the GIL; [`nudge`](Self::nudge) makes it look at `until`.
    ///
    /// # Errors
    /// `KeyboardInterrupt`, also when it was raised inside an agent, or what another signal
    /// handler raised.
    pub(crate) fn help_until(
        &self,
        py: Python<'_>,
        run: RunId,
        until: impl Fn() -> bool,
    ) -> PyResult<()> {
        let lent = lend::waits(py);
        let helped = self.help(py, run, until);
        // Whatever ended the wait: the agent runs on, be it to raise.
        let taken = lent.take_again(py);
        helped.and(taken)
    }

    fn help(&self, py: Python<'_>, run: RunId, until: impl Fn() -> bool) -> PyResult<()> {
        let slot = Slot::own(false);
        let desk = Arc::new(Desk::default());
        loop {
            self.helpers().entry(run).or_default().push(Arc::clone(&desk));
            // Asked after the desk stands there: a nudge from now on reaches it.
            let order = if until() { None } else { py.detach(|| desk.wait(SIGNALS_EVERY)) };
            self.withdraw(run, &desk);
            // An order may have come between the wait's end and the withdrawal.
            if let Some(Order::Job(Job::Batch(batch))) = order.or_else(|| desk.take()) {
                let interrupt = self.pool.run_batch(py, &slot, &batch, true);
                slot.end();
                if let Some(interrupt) = interrupt {
                    return Err(interrupt);
                }
            }
            py.check_signals()?;
            if until() {
                return Ok(());
            }
        }
    }

    /// Wakes the threads that help a run, so that they look whether they are done. Never blocks.
    pub(crate) fn nudge(&self, run: RunId) {
        for desk in self.helpers().remove(&run).unwrap_or_default() {
            desk.put(Order::Leave);
        }
    }

    fn helpers(&self) -> std::sync::MutexGuard<'_, HashMap<RunId, Vec<Arc<Desk>>>> {
        self.helpers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn withdraw(&self, run: RunId, desk: &Arc<Desk>) {
        let mut helpers = self.helpers();
        if let Some(desks) = helpers.get_mut(&run) {
            desks.retain(|other| !Arc::ptr_eq(other, desk));
            if desks.is_empty() {
                helpers.remove(&run);
            }
        }
    }

    /// Gives the batch to a helper that rests; false where none does.
    fn helped(&self, batch: &Arc<Batch>) -> bool {
        // A caller's thread cannot be left behind when an attempt times out.
        if batch.timeout.is_some() {
            return false;
        }
        let mut helpers = self.helpers();
        let desk = helpers.get_mut(&batch.call.run).and_then(Vec::pop);
        // Under the lock: a helper that withdraws and leaves either finds the batch or was not chosen.
        desk.is_some_and(|desk| {
            desk.put(Order::Job(Job::Batch(Arc::clone(batch))));
            true
        })
    }
}

impl Executor for PythonExecutor {
    fn style(&self, agent: &str, isolation: Isolation) -> Option<Style> {
        if let Some(agent) = registry::find(agent) {
            return Some(agent.style(isolation));
        }
        // Once per name and engine: a module that does not bring the agent would not the next time.
        let mut imported = self.imported.lock().unwrap_or_else(PoisonError::into_inner);
        if agent.contains('.') && !imported.iter().any(|name| name == agent) {
            imported.push(agent.to_owned());
            drop(imported);
            self.pool.give(Job::Import(agent.to_owned()));
        }
        None
    }

    fn execute(&self, batch: Arc<Batch>) {
        if batch.style == Style::Process {
            self.pool.give(Job::Ship(batch));
        } else if batch.style == Style::Loop {
            self.core.loop_batches.fetch_add(1, Ordering::Relaxed);
            if mailbox::feed(mailbox::Feed::Start(batch, Arc::clone(&self.core))) {
                self.pool.give(Job::StartLoop);
            }
        } else if !self.helped(&batch) {
            self.pool.give(Job::Batch(batch));
        }
    }

    fn resolve(&self, call: Arc<NodeCall>) {
        self.pool.give(Job::Resolve(call));
    }

    fn merge(&self, call: Arc<MergeCall>) {
        self.pool.give(Job::Merge(call));
    }

    fn cancel(&self, batch: &Arc<Batch>, span: Span, rung: Rung) {
        match (batch.style, rung) {
            (Style::Loop, _) => {
                mailbox::feed(mailbox::Feed::Cancel(Arc::clone(batch), span));
            }
            // The run's own flag is the token, and it is set.
            (Style::Thread, Rung::Token) => {}
            (Style::Thread, Rung::Raise) => self.pool.press(batch, span),
            (Style::Process, _) => self.processes.cancel(batch, rung),
        }
    }

    fn abandon(&self, batch: &Arc<Batch>, span: Span) {
        batch.give_up_memorized(span);
        let on_loop = batch.style == Style::Loop;
        // The other calls of a loop's batch go on; a thread's batch has one call under way.
        if !on_loop || span == batch.span {
            batch.abandoned.store(true, Ordering::SeqCst);
        }
        if batch.style == Style::Process {
            self.processes.abandon(batch);
        } else if !self.pool.abandon(batch, span) {
            mailbox::feed(mailbox::Feed::Cancel(Arc::clone(batch), span));
        }
    }

    /// Must be called without the GIL.
    fn close(&self, grace: Millis) -> usize {
        let until = Instant::now() + Duration::from_millis(grace);
        self.processes.close(grace);
        let idle = || self.core.loop_batches.load(Ordering::Acquire) == 0;
        wait_for(until, idle);
        if !idle() {
            mailbox::feed(mailbox::Feed::Release(Arc::clone(&self.core)));
            wait_for(Instant::now() + LOOP_STOP_WAIT, idle);
        }
        let stuck = self.pool.close(until.saturating_duration_since(Instant::now()));
        stuck + usize::from(!idle())
    }
}

fn wait_for(until: Instant, done: impl Fn() -> bool) {
    while !done() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
}
