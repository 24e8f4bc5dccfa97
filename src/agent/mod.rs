//! The seam between the engine and whatever runs agents: batches of calls out, reports back.
//!
//! Two executors stand behind it: the Python one (`py`) and closures on a thread (`local`, for tests
//! and Rust users). An executor never blocks the owner thread, and every call it accepts comes back
//! as exactly one outcome, or is fenced by the engine.

mod beats;
mod letters;
pub mod local;
mod memorized;
mod pause;
pub mod wire;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::beats::Beats;
use self::pause::Pause;
use crate::model::{
    BatchId, Collect, Failure, Isolation, LaneCard, MemoryAccess, Millis, NodeIx, Opaque, Payload,
    RunId, Span, Style, TaskRef, Timestamp,
};
use crate::plan::Plan;
pub use crate::run::{Outcome, Resolution, TaskResult};
pub use letters::{Letter, Letters, Postman};
pub use pause::Waker;

/// What the calls of one node share: its plan and everything its arguments may refer to.
///
/// One per node and run, made when the node becomes ready, shared by all batches of a map.
#[derive(Debug)]
pub struct NodeCall {
    pub run: RunId,
    pub plan: Arc<Plan>,
    pub node: NodeIx,
    /// The run's input.
    pub input: Payload,
    /// Results of the node's dependencies, in the order of `Node::deps`.
    pub results: Vec<TaskResult>,
    /// A map's items (a list); child `i` gets item `i`.
    pub items: Option<Payload>,
    pub trace_id: Arc<str>,
    pub session: Option<Arc<str>>,
    /// Sessions beside it whose memory the run may use.
    pub memory: MemoryAccess,
    /// Messages to the session that were put before the run; `None` without a session.
    pub letters: Option<Arc<Letters>>,
    /// When the run was submitted.
    pub submitted: Timestamp,
    /// Set when the run is cancelled; agents read it as `ctx.cancelled`.
    pub cancelled: Arc<AtomicBool>,
    /// Room for what the executor evaluates once per node (decoded items, bound arguments).
    pub memo: OnceLock<Arc<dyn Opaque>>,
}

/// Messages of one session that are to become one. Asked for by number, answered by number.
#[derive(Debug)]
pub struct MergeCall {
    pub session: Arc<str>,
    pub number: u64,
    /// The inputs of the runs, oldest first.
    pub inputs: Vec<Payload>,
    pub collect: Arc<Collect>,
}

/// Where a batch notes its progress so that others can read it, even once the process that ran it is dead.
pub trait Gauge: Send + Sync {
    fn begin(&self, batch: BatchId, index: u32);
    /// As [`Batch::under_way`].
    fn under_way(&self, batch: BatchId) -> Option<(u32, Millis)>;
    /// The call under way gives a sign of life, perhaps with something to tell.
    fn beat(&self, batch: BatchId, details: Option<&str>);
    /// As [`Batch::silent_for`], of the call under way.
    fn silent_for(&self, batch: BatchId) -> Option<Millis>;
    /// As [`Batch::details`], of the call under way.
    fn details(&self, batch: BatchId) -> Option<Arc<str>>;
}

/// A span of calls that holds its permits until the last outcome is reported.
#[derive(Debug)]
pub struct Batch {
    pub id: BatchId,
    pub call: Arc<NodeCall>,
    pub span: Span,
    pub attempt: u32,
    pub style: Style,
    /// Bound on each attempt of the span.
    pub timeout: Option<Millis>,
    /// The lane whose permits it holds, and whose budgets it charges.
    pub lane: Option<Arc<LaneCard>>,
    /// The key in it that it counts against.
    pub rate_key: Option<Arc<str>>,
    /// Next child that nobody has begun, counted from `span.lo`. Threads claim with `claim`; the
    /// engine takes the rest back with `take_back`.
    cursor: AtomicU32,
    /// First child that was taken back, counted from `span.lo`; those behind it were never begun.
    taken_back: AtomicU32,
    /// Child under way in the low half, the millisecond it began (since `origin`, plus 1) in the high
    /// half; 0 between calls.
    under_way: AtomicU64,
    origin: Instant,
    /// Set when the attempt is given up: the executor stops claiming, `ctx.cancelled` turns true.
    pub abandoned: AtomicBool,
    beats: Beats,
    /// Outcomes that nobody has taken yet. Shared, so that the engine gets at what is finished while
    /// a later call of the same batch hangs.
    finished: Mutex<Finished>,
    /// What calls under way have memorized: it lasts if they complete, else it is dropped.
    memory: Mutex<memorized::Kept>,
    /// What was looked up in memory for its calls, once it was.
    pub recalled: OnceLock<Arc<dyn Opaque>>,
    /// A map's items of this span alone: in a worker process, which has no others.
    pub items: Option<Payload>,
    /// The child that gets the first of them.
    pub items_lo: u32,
    /// The run's letters as a postman brings them: in a worker process.
    pub letters: Option<Arc<Letters>>,
    /// Where calls are noted, for batches in worker processes.
    gauge: OnceLock<Arc<dyn Gauge>>,
    pause: Pause,
}

impl std::fmt::Debug for dyn Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<gauge>")
    }
}

#[derive(Debug, Default)]
struct Finished {
    /// Children whose outcomes were taken.
    taken: u32,
    outcomes: Vec<Outcome>,
}

impl Batch {
    pub fn new(
        id: BatchId,
        call: Arc<NodeCall>,
        span: Span,
        attempt: u32,
        style: Style,
        timeout: Option<Millis>,
    ) -> Self {
        Self {
            id,
            call,
            span,
            attempt,
            style,
            timeout,
            lane: None,
            rate_key: None,
            cursor: AtomicU32::new(0),
            taken_back: AtomicU32::new(u32::MAX),
            under_way: AtomicU64::new(0),
            origin: Instant::now(),
            abandoned: AtomicBool::new(false),
            beats: Beats::default(),
            finished: Mutex::default(),
            memory: Mutex::default(),
            recalled: OnceLock::new(),
            items: None,
            items_lo: span.lo,
            letters: None,
            gauge: OnceLock::new(),
            pause: Pause::default(),
        }
    }

    /// From now on calls are noted there and read from there.
    pub fn measure(&self, gauge: Arc<dyn Gauge>) {
        // A batch runs in one process.
        let _ = self.gauge.set(gauge);
    }

    /// Messages to the session that its calls may read; `None` without a session.
    pub fn letters(&self) -> Option<&Arc<Letters>> {
        self.letters.as_ref().or(self.call.letters.as_ref())
    }

    /// The same, holding permits of a lane and counting against a key in it.
    pub fn in_lane(self, lane: Arc<LaneCard>, rate_key: Option<Arc<str>>) -> Self {
        Self { lane: Some(lane), rate_key, ..self }
    }

    /// True when a call that lent its permit may go on: once for each `Report::Returning`, and
    /// always when the engine is done with it.
    pub fn may_go_on(&self, child: u32) -> bool {
        self.pause.notices(child)
    }

    /// Waits until `may_go_on` would answer true, up to `patience`.
    pub fn wait_to_go_on(&self, child: u32, patience: Duration) {
        self.pause.wait(child, patience);
    }

    /// Calls `waker` when `may_go_on` would answer true; for those who cannot sit and wait.
    pub fn on_go_on(&self, child: u32, waker: Waker) {
        self.pause.at_end(child, waker);
    }

    /// A call that lent its permit has one again.
    pub fn go_on(&self, child: u32) {
        self.pause.give(child);
    }

    /// The engine is done with a call: it waits for no permit any more.
    pub fn let_go_of(&self, child: u32) {
        self.pause.let_go(Some(child));
    }

    /// The engine is done with the batch: nobody waits for a permit any more.
    pub fn let_go(&self) {
        self.pause.let_go(None);
    }

    /// Notes that the call of a child begins. For executors that call one after the other.
    pub fn begin(&self, index: u32) {
        let ms = self.origin.elapsed().as_millis() as u64 + 1;
        self.under_way.store((ms << 32) | u64::from(index), Ordering::Release);
        if let Some(gauge) = self.gauge.get() {
            gauge.begin(self.id, index);
        }
    }

    /// The child whose call is under way, and for how many milliseconds. `None` between calls.
    pub fn under_way(&self) -> Option<(u32, Millis)> {
        if let Some(gauge) = self.gauge.get() {
            return gauge.under_way(self.id);
        }
        let packed = self.under_way.load(Ordering::Acquire);
        let began = (packed >> 32).checked_sub(1)?;
        let held = (self.origin.elapsed().as_millis() as u64).saturating_sub(began);
        Some((packed as u32, held))
    }

    /// Nanoseconds since the last call began, for those who report calls one by one.
    pub fn busy_ns(&self) -> u64 {
        let began = (self.under_way.load(Ordering::Acquire) >> 32).saturating_sub(1);
        (self.origin.elapsed().as_nanos() as u64).saturating_sub(began * 1_000_000)
    }

    /// Bound on the silence of each attempt of the span.
    pub fn idle(&self) -> Option<Millis> {
        self.call.plan.task(self.span.node).idle_timeout_ms
    }

    /// A child gives a sign of life. Cheap, and waits for nobody.
    pub fn beat(&self, index: u32) {
        if let Some(gauge) = self.gauge.get() {
            return gauge.beat(self.id, None);
        }
        let now = self.origin.elapsed().as_millis() as Millis;
        self.beats.beat(index.wrapping_sub(self.span.lo), self.span.len, now);
    }

    /// As `beat`, with something to tell: whoever looks at the task sees the latest.
    pub fn beat_with(&self, index: u32, details: Arc<str>) {
        if let Some(gauge) = self.gauge.get() {
            return gauge.beat(self.id, Some(&details));
        }
        self.beats.tell(index.wrapping_sub(self.span.lo), details);
        self.beat(index);
    }

    /// For how many milliseconds a child has given no sign of life; `None` where it gave none yet.
    pub fn silent_for(&self, index: u32) -> Option<Millis> {
        if let Some(gauge) = self.gauge.get() {
            return gauge.silent_for(self.id).filter(|_| self.is_under_way(index));
        }
        let latest = self.beats.latest(index.wrapping_sub(self.span.lo))?;
        Some((self.origin.elapsed().as_millis() as Millis).saturating_sub(latest))
    }

    /// What a child told with its latest heartbeat.
    pub fn details(&self, index: u32) -> Option<Arc<str>> {
        if let Some(gauge) = self.gauge.get() {
            return gauge.details(self.id).filter(|_| self.is_under_way(index));
        }
        self.beats.details(index.wrapping_sub(self.span.lo))
    }

    fn is_under_way(&self, index: u32) -> bool {
        self.under_way().is_some_and(|(child, _)| child == index)
    }

    /// True for a child that somebody has claimed. A claim that was taken back does not count.
    pub fn has_begun(&self, index: u32) -> bool {
        self.span.lo + self.cursor.load(Ordering::Acquire).min(self.span.len) > index
            && self.taken_back.load(Ordering::Acquire) > index.wrapping_sub(self.span.lo)
    }

    /// Notes that the call begun last has ended, and keeps its outcome. For executors that call one after the other.
    pub fn finish(&self, outcome: Outcome) {
        self.under_way.store(0, Ordering::Release);
        self.lock().outcomes.push(outcome);
    }

    /// Takes the outcomes kept so far, with the index of the first; each is taken once.
    pub fn take_finished(&self) -> Option<(u32, Vec<Outcome>)> {
        let mut finished = self.lock();
        if finished.outcomes.is_empty() {
            return None;
        }
        let lo = self.span.lo + finished.taken;
        finished.taken += finished.outcomes.len() as u32;
        Some((lo, std::mem::take(&mut finished.outcomes)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of one of its tasks: `id`, or `id[index]` in a map.
    pub fn name(&self, index: u32) -> String {
        let id = &self.call.plan.nodes[self.span.node as usize].id;
        if self.call.items.is_some() { format!("{id}[{index}]") } else { id.to_string() }
    }

    /// Claims the next child: its index, or `None` when none is left. Each child is claimed once.
    pub fn claim(&self) -> Option<u32> {
        let at = self.cursor.fetch_add(1, Ordering::AcqRel);
        (at < self.span.len).then_some(self.span.lo + at)
    }

    /// Takes back the children that nobody has begun.
    pub fn take_back(&self) -> Option<Span> {
        let at = self.cursor.swap(self.span.len, Ordering::AcqRel).min(self.span.len);
        self.taken_back.fetch_min(at, Ordering::AcqRel);
        self.span.split_at(at).1.filter(|rest| rest.len > 0)
    }
}

/// How firmly calls are asked to stop before they are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rung {
    /// `ctx.cancelled` is true; coroutines are cancelled the way asyncio does it.
    Token,
    /// An exception is raised in their thread.
    Raise,
}

/// What an executor tells the engine.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// Consecutive children `lo ..` of a batch ended. `busy_ns` is the time the calls took together.
    Done {
        batch: BatchId,
        lo: u32,
        outcomes: Vec<Outcome>,
        busy_ns: u64,
    },
    /// The agent of a call waits for something other than itself: its permit is free.
    Waiting {
        batch: BatchId,
        child: u32,
    },
    /// The wait is over. The agent goes on when `Batch::may_go_on` says that it has a permit again.
    Returning {
        batch: BatchId,
        child: u32,
    },
    /// An agent used `n` units of its lane's budget. It names the lane, since what was used counts
    /// also where the batch has been given up meanwhile.
    Charge {
        lane: Arc<str>,
        key: Option<Arc<str>>,
        unit: Arc<str>,
        n: u64,
    },
    Resolved {
        run: RunId,
        node: NodeIx,
        resolution: Resolution,
    },
    /// An agent of the run has read a letter for the first time.
    LettersRead {
        run: RunId,
    },
    /// The answer to a `MergeCall`.
    Merged {
        session: Arc<str>,
        number: u64,
        result: Result<Payload, Box<Failure>>,
    },
    Progress {
        run: RunId,
        span: Span,
        attempt: u32,
        done: f64,
        total: Option<f64>,
        text: Option<String>,
    },
    /// Something about an attempt went another way than asked for, and it goes on.
    Warning {
        run: RunId,
        task: TaskRef,
        attempt: u32,
        code: String,
        reason: String,
    },
    /// A call holds up others: it blocks the event loop, or keeps the interpreter to itself.
    Blocking {
        run: RunId,
        task: TaskRef,
        attempt: u32,
        reason: String,
    },
}

/// Where executors report. The engine's inbox implements it; it never blocks.
pub trait Reports: Send + Sync {
    fn report(&self, reports: Vec<Report>);
}

/// Runs agents.
pub trait Executor: Send + Sync {
    /// How the agent runs where its task (or lane) asks for `isolation`, or `None` when no such agent
    /// is registered (yet).
    fn style(&self, agent: &str, isolation: Isolation) -> Option<Style>;
    /// Starts a batch. Must not block; every claimed child is reported once.
    fn execute(&self, batch: Arc<Batch>);
    /// Evaluates a node's `when` and `each`; answers with `Report::Resolved`.
    fn resolve(&self, call: Arc<NodeCall>);
    /// Merges messages; answers with `Report::Merged`.
    fn merge(&self, call: Arc<MergeCall>);
    /// The run of these children was cancelled: asks them to stop, first softly, then firmly. They
    /// still count, and report how they ended. What goes on all the same is abandoned in the end.
    fn cancel(&self, batch: &Arc<Batch>, span: Span, rung: Rung);
    /// The engine gave up these children of a batch (timeout, cancellation): stop them if possible.
    /// Their reports, if any still come, are dropped by the engine.
    fn abandon(&self, batch: &Arc<Batch>, span: Span);
    /// No more batches will come. Waits up to `grace` for threads to end; returns how many remain stuck.
    fn close(&self, grace: Millis) -> usize;
}
