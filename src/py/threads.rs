//! Worker threads: one Python thread state for life, calls made one after the other.
//!
//! A job lies on the counter, and a thread is on its way to it: one that rests (the one that rested
//! last), or a new one. Whoever comes first takes it, so a thread that has just finished goes on
//! without a pause; where more lies there, it first sends for one more. So nothing waits behind an
//! agent that hangs, and a burst of short jobs costs one wake-up instead of one each. The engine
//! bounds what runs by permits. A thread that rests too long retires. A thread whose agent does not
//! stop counts as stuck until it comes back.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use pyo3::prelude::*;

use super::executor::Core;
use super::slot::{self, Slot};
use super::watchdog::Suspect;
use super::{batch, bind, failure, looper, mailbox, process, registry, session};
use crate::agent::{Batch, MergeCall, NodeCall, Report};
use crate::model::{Failure, Payload, Span};

/// How long a thread rests before it retires.
const REST_MAX: Duration = Duration::from_secs(10);
/// How long a thread goes from job to job before it lets go of the GIL.
const TURN_MAX: Duration = Duration::from_micros(500);
/// How long a closing executor waits for threads that were told to stop.
const STOP_WAIT: Duration = Duration::from_secs(1);

/// Work for a thread.
pub(super) enum Job {
    Batch(Arc<Batch>),
    /// Put a batch into bytes for a worker process.
    Ship(Arc<Batch>),
    /// Put messages into bytes for a worker process.
    Post(Arc<process::Post>),
    /// Answer a worker process.
    Errand(Arc<process::Errand>),
    Resolve(Arc<NodeCall>),
    Merge(Arc<MergeCall>),
    /// Raise the cancellation in the thread that runs these children.
    Stop(Arc<Batch>, Span),
    Import(String),
    StartLoop,
}

/// Where one resting thread waits for its next job.
#[derive(Default)]
pub(super) struct Desk {
    order: Mutex<Option<Order>>,
    rung: Condvar,
}

pub(super) enum Order {
    Job(Job),
    /// Something lies on the counter.
    Come,
    Leave,
}

impl Desk {
    pub(super) fn put(&self, order: Order) {
        *self.order.lock().unwrap_or_else(PoisonError::into_inner) = Some(order);
        self.rung.notify_one();
    }

    /// Waits for an order, at most that long.
    pub(super) fn wait(&self, at_most: Duration) -> Option<Order> {
        let order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut order, _) = self
            .rung
            .wait_timeout_while(order, at_most, |order| order.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        order.take()
    }

    /// Takes what was put meanwhile.
    pub(super) fn take(&self) -> Option<Order> {
        self.order.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

struct Running {
    batch: Arc<Batch>,
    slot: Arc<Slot>,
    stuck: bool,
}

#[derive(Default)]
struct State {
    /// Jobs that nobody has taken yet.
    counter: VecDeque<Job>,
    /// A thread is on its way to the counter.
    coming: bool,
    resting: Vec<Arc<Desk>>,
    threads: usize,
    closing: bool,
    /// By the batch's address.
    running: HashMap<usize, Running>,
    handles: Vec<JoinHandle<()>>,
}

/// The pools of this process, for the watchdog.
pub(super) fn pools() -> Vec<Arc<Pool>> {
    let pools = mailbox::mailbox().watched.pools.lock().unwrap_or_else(PoisonError::into_inner);
    pools.iter().filter_map(Weak::upgrade).collect()
}

/// The calls under way on threads: address of the thread's state, milliseconds, and which call.
pub(super) fn suspects() -> Vec<(usize, u64, Suspect)> {
    let mut suspects = Vec::new();
    for pool in pools() {
        for Running { batch, slot, .. } in pool.state().running.values() {
            if let Some((child, held)) = batch.under_way() {
                let (core, batch) = (Arc::clone(&pool.core), Arc::clone(batch));
                suspects.push((slot.state, held, Suspect { core, batch, child }));
            }
        }
    }
    suspects
}

pub(super) struct Pool {
    core: Arc<Core>,
    processes: Arc<process::Pool>,
    state: Mutex<State>,
    changed: Condvar,
}

impl Pool {
    pub(super) fn new(core: Arc<Core>, processes: Arc<process::Pool>) -> Arc<Self> {
        let (state, changed) = (Mutex::default(), Condvar::new());
        let pool = Arc::new(Self { core, processes, state, changed });
        pool.processes.deliver_by(&pool);
        let mut pools =
            mailbox::mailbox().watched.pools.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        pools.push(Arc::downgrade(&pool));
        drop(pools);
        pool
    }

    /// True while an agent of this executor runs, or is about to.
    pub(super) fn is_busy(&self) -> bool {
        self.core.loop_batches.load(Ordering::Relaxed) > 0 || !self.state().running.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a job on the counter and sees to it that a thread comes. Never blocks.
    pub(super) fn give(self: &Arc<Self>, job: Job) {
        if slot::exiting() {
            return;
        }
        let mut state = self.state();
        state.counter.push_back(job);
        self.send_for(state);
    }

    /// Sends a thread to the counter, unless one is on its way or nothing lies there.
    fn send_for(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.coming || state.counter.is_empty() {
            return;
        }
        state.coming = true;
        if let Some(desk) = state.resting.pop() {
            drop(state);
            desk.put(Order::Come);
            return;
        }
        state.threads += 1;
        state.handles.retain(|handle| !handle.is_finished());
        let pool = Arc::clone(self);
        let spawned =
            std::thread::Builder::new().name("goclaw-worker".into()).spawn(move || pool.work());
        match spawned {
            Ok(handle) => state.handles.push(handle),
            Err(error) => {
                state.threads -= 1;
                state.coming = false;
                let left = std::mem::take(&mut state.counter);
                drop(state);
                left.into_iter().for_each(|job| self.refuse(job, &error));
            }
        }
    }

    /// Takes the next job from the counter, and sends for the next thread where more lies there.
    /// `arrived` is true for the thread that was sent for.
    fn take(self: &Arc<Self>, arrived: bool) -> Option<Job> {
        let mut state = self.state();
        state.coming &= !arrived;
        let job = state.counter.pop_front();
        self.send_for(state);
        job
    }

    /// The system gives no thread: what was to run fails, and is retried like a crash.
    fn refuse(&self, job: Job, error: &std::io::Error) {
        let message = format!("no thread could be started: {error}");
        match job {
            Job::Batch(batch) | Job::Ship(batch) => {
                batch::fail(&self.core, &batch, &batch::crash(message))
            }
            Job::Resolve(call) => {
                let resolution = crate::agent::Resolution::Failed(batch::crash(message));
                let (run, node) = (call.run, call.node);
                self.core.reports.report(vec![Report::Resolved { run, node, resolution }]);
            }
            Job::Merge(call) => self.report_merged(&call, Err(batch::crash(message))),
            Job::Errand(errand) => errand.refuse(message),
            Job::StartLoop => mailbox::refuse(&batch::crash(message)),
            // Unread, the messages run as they would without the agent.
            Job::Stop(..) | Job::Import(_) | Job::Post(_) => {}
        }
    }

    /// A thread's life.
    fn work(self: Arc<Self>) {
        // `None`: the interpreter is gone, and everything with it.
        let _ = Python::try_attach(|py| {
            let slot = Slot::own(true);
            let desk = Arc::new(Desk::default());
            loop {
                self.serve(py, &slot);
                if !py.detach(|| self.rest(&desk)) {
                    break;
                }
            }
        });
        self.state().threads -= 1;
        self.changed.notify_all();
    }

    /// Works until nothing lies on the counter. Jobs are taken with the GIL held, so that none is in
    /// the hands of a thread that cannot begin.
    fn serve(self: &Arc<Self>, py: Python<'_>, slot: &Arc<Slot>) {
        let mut next = self.take(true);
        let mut since = Instant::now();
        while let Some(job) = next {
            slot.begin(py);
            self.run(py, slot, job);
            slot.end();
            if since.elapsed() >= TURN_MAX {
                // Other threads of the program want to run, too.
                py.detach(|| ());
                since = Instant::now();
            }
            next = self.take(false);
        }
    }

    /// Rests until it is sent for; false when the thread is to end.
    fn rest(&self, desk: &Arc<Desk>) -> bool {
        {
            let mut state = self.state();
            if state.closing {
                return false;
            }
            state.resting.push(Arc::clone(desk));
        }
        let mut order = desk.wait(REST_MAX);
        if order.is_none() {
            let mut state = self.state();
            let at = state.resting.iter().position(|other| Arc::ptr_eq(other, desk));
            if let Some(at) = at {
                state.resting.remove(at);
                return false;
            }
            drop(state);
            // Somebody took the desk off the list just now: the order is on its way.
            while order.is_none() {
                order = desk.wait(REST_MAX);
            }
        }
        matches!(order, Some(Order::Come))
    }

    fn run(self: &Arc<Self>, py: Python<'_>, slot: &Arc<Slot>, job: Job) {
        match job {
            Job::Batch(batch) => {
                self.run_batch(py, slot, &batch, false);
            }
            Job::Ship(batch) => self.processes.ship(py, &batch),
            Job::Post(post) => self.processes.collect(py, &post),
            Job::Errand(errand) => slot.outside(py, || errand.run(py)),
            Job::Resolve(call) => {
                let resolution = batch::caught(|| bind::resolve(py, &call, &self.core.mode))
                    .unwrap_or_else(crate::agent::Resolution::Failed);
                let (run, node) = (call.run, call.node);
                self.core.reports.report(vec![Report::Resolved { run, node, resolution }]);
            }
            Job::Merge(call) => {
                let merge = || slot.outside(py, || session::merge(py, &call, &self.core.mode));
                let merged = batch::caught(merge).and_then(|merged| merged);
                self.report_merged(&call, merged);
            }
            Job::Stop(batch, span) => self.stop_now(py, &batch, span),
            Job::Import(name) => {
                // What an import raises is said where the user asks for the agent; here it stays unknown.
                if slot.outside(py, || registry::import(py, &name)).unwrap_or(false) {
                    self.core.registered();
                }
            }
            Job::StartLoop => {
                if let Err(raised) = slot.outside(py, || looper::start(py)) {
                    mailbox::refuse(&failure::caused_by(
                        py,
                        &raised,
                        "task.loop",
                        "goclaw's event loop did not start",
                    ));
                }
            }
        }
    }

    fn report_merged(&self, call: &MergeCall, result: Result<Payload, Box<Failure>>) {
        let (session, number) = (Arc::clone(&call.session), call.number);
        self.core.reports.report(vec![Report::Merged { session, number, result }]);
    }

    /// Runs a batch on this thread. A helper gets the `KeyboardInterrupt` that ended it early.
    pub(super) fn run_batch(
        self: &Arc<Self>,
        py: Python<'_>,
        slot: &Arc<Slot>,
        batch: &Arc<Batch>,
        helping: bool,
    ) -> Option<PyErr> {
        let key = Arc::as_ptr(batch) as usize;
        let running = Running { batch: Arc::clone(batch), slot: Arc::clone(slot), stuck: false };
        self.state().running.insert(key, running);
        let interrupt = batch::run(py, &self.core, slot, batch, helping);
        let ended = self.state().running.remove(&key);
        if ended.is_some_and(|running| running.stuck) {
            self.core.stuck.fetch_sub(1, Ordering::Relaxed);
        }
        self.changed.notify_all();
        if interrupt.is_some() {
            // The rest of the batch is still to be done, by somebody who was not interrupted.
            self.give(Job::Batch(Arc::clone(batch)));
        }
        interrupt
    }

    /// Gives a batch up; false where no thread runs it.
    pub(super) fn abandon(self: &Arc<Self>, batch: &Arc<Batch>, span: Span) -> bool {
        {
            let mut state = self.state();
            let Some(running) = state.running.get_mut(&(Arc::as_ptr(batch) as usize)) else {
                return false;
            };
            if !running.stuck {
                running.stuck = true;
                self.core.stuck.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.give(Job::Stop(Arc::clone(batch), span));
        true
    }

    /// Raises the cancellation in the thread that runs these children; they still count.
    pub(super) fn press(self: &Arc<Self>, batch: &Arc<Batch>, span: Span) {
        if self.state().running.contains_key(&(Arc::as_ptr(batch) as usize)) {
            self.give(Job::Stop(Arc::clone(batch), span));
        }
    }

    fn stop_now(&self, py: Python<'_>, batch: &Arc<Batch>, span: Span) {
        let Ok(class) = failure::cancelled_class(py) else { return };
        let slot = {
            let state = self.state();
            state.running.get(&(Arc::as_ptr(batch) as usize)).map(|run| Arc::clone(&run.slot))
        };
        if let Some(slot) = slot {
            slot.stop(batch, span, &class);
        }
    }

    /// Waits for what runs, then stops it; returns how many threads do not come back.
    pub(super) fn close(self: &Arc<Self>, grace: Duration) -> usize {
        let mut state = self.state();
        state.closing = true;
        for desk in state.resting.drain(..) {
            desk.put(Order::Leave);
        }
        let idle = |state: &State| state.running.is_empty() && state.counter.is_empty();
        let mut state = self.wait(state, grace, idle);
        let never_begun = std::mem::take(&mut state.counter);
        drop(state);
        drop(never_begun);
        let left: Vec<_> =
            self.state().running.values().map(|run| Arc::clone(&run.batch)).collect();
        for batch in left {
            batch.abandoned.store(true, Ordering::Release);
            self.abandon(&batch, batch.span);
        }
        let mut state = self.wait(self.state(), STOP_WAIT, |state| state.threads == 0);
        let stuck = state.running.len();
        let handles = std::mem::take(&mut state.handles);
        let all_ended = state.threads == 0;
        drop(state);
        for handle in handles {
            if all_ended || handle.is_finished() {
                // A worker's panic was reported as its call's outcome already.
                let _ = handle.join();
            }
        }
        stuck
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        at_most: Duration,
        done: impl Fn(&State) -> bool,
    ) -> MutexGuard<'a, State> {
        let until = Instant::now() + at_most;
        let mut state = state;
        while !done(&state) {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                break;
            }
            let waited = self.changed.wait_timeout(state, rest);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state
    }
}
