//! The handle users hold.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::cell::{Cell, End, Handle, Ticket};
use super::inbox::{Inbox, Message};
use super::options::{OnConflict, Options, builtin_lanes};
use super::owner::Owner;
use super::refusal;
use super::watch::Watch;
use crate::agent::{Executor, Reports};
use crate::lane::{LaneView, Lanes};
use crate::model::{
    BlobHash, Durability, Error, Fact, LaneSpec, Millis, Payload, Priority, Result, RunId,
    RunState, Stats, Submitted, Timestamp,
};
use crate::plan::{self, Plan};
use crate::run::{self, Run};
use crate::store::{self, Filter, Store, Summary};

/// How long a submit without patience tries to get into the inbox.
const NO_PATIENCE: Duration = Duration::ZERO;

/// Longest wait for news, so that adding it to the clock cannot overflow: 34 years.
const WAIT_MAX: Duration = Duration::from_secs(1 << 30);

/// What a new run is made of.
#[derive(Clone, Debug)]
pub struct Submit {
    /// `None`: the engine makes one.
    pub id: Option<RunId>,
    pub plan: Arc<Plan>,
    pub input: Payload,
    pub priority: Priority,
    pub tags: Vec<String>,
    /// `None`: as the engine.
    pub durability: Option<Durability>,
    /// 32 hexadecimal digits; `None`: derived from the run id.
    pub trace_id: Option<String>,
    pub on_conflict: OnConflict,
    /// Wait for a place in a full lane, instead of being refused at once.
    pub block: bool,
}

/// What was left when an engine closed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// Threads that did not come back from their agent.
    pub stuck_threads: usize,
    /// Attempts that were interrupted; they cost no retry.
    pub interrupted: u64,
    /// Runs that had not ended. With a path they go on when it is opened again.
    pub unfinished: usize,
}

/// What all handles of an engine share.
pub(super) struct Shared {
    pub(super) inbox: Arc<Inbox>,
    pub(super) store: Arc<dyn Store>,
    pub(super) stats: Arc<Stats>,
    pub(super) watch: Arc<Watch>,
    path: Option<PathBuf>,
    durability: Durability,
    recovered: usize,
    /// Plans by definition, so that runs of one workflow share theirs.
    plans: Plans,
    ids: Mutex<ulid::Generator>,
    owner: Mutex<Option<thread::JoinHandle<()>>>,
    closed: Mutex<Option<Closed>>,
}

/// Plans by definition. Weak: a plan lives as long as a run needs it.
#[derive(Clone, Default)]
pub(super) struct Plans(Arc<Mutex<HashMap<BlobHash, Weak<Plan>>>>);

impl Plans {
    /// The plan of a stored definition.
    pub(super) fn of(&self, submitted: &Submitted) -> Result<Arc<Plan>> {
        let mut plans = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&submitted.definition).and_then(Weak::upgrade) {
            return Ok(plan);
        }
        let workflow = submitted.workflow.as_ref().ok_or_else(|| {
            Error::new(
                "store.corrupt",
                "a run's workflow definition is missing",
                "restore the store from a backup",
            )
        })?;
        let plan = Arc::new(plan::restore(Arc::clone(workflow))?);
        plans.retain(|_, plan| plan.strong_count() > 0);
        plans.insert(submitted.definition, Arc::downgrade(&plan));
        Ok(plan)
    }
}

impl Shared {
    pub(super) fn is_memory(&self) -> bool {
        self.path.is_none()
    }

    /// Loads a run from the store.
    pub(super) fn load(&self, id: RunId) -> Result<Arc<Run>> {
        let records =
            unless_closed(self.store.load(id))?.ok_or_else(|| refusal::unknown_run(id))?;
        run::replay(&records, |submitted| self.plans.of(submitted)).map(Arc::new)
    }
}

/// The store closes with its engine: whoever asks later is told of the engine.
fn unless_closed<T>(answer: Result<T>) -> Result<T> {
    answer.map_err(|error| if error.code == "store.closed" { refusal::closed() } else { error })
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last handle is gone: nobody can wait for anything any more.
        let (reply, _) = mpsc::sync_channel(1);
        let _ = self.inbox.push(Message::Close { drain: 0, reply });
    }
}

/// An open engine. Cheap to clone; closes when the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

impl Engine {
    /// Opens an engine and resumes what its store holds.
    ///
    /// # Errors
    /// `store.locked`, `store.corrupt`, `store.too_new`, `store.io`, `lane.invalid`.
    pub fn open(
        options: Options,
        executor: impl FnOnce(Arc<dyn Reports>) -> Arc<dyn Executor>,
    ) -> Result<Self> {
        let lanes = lanes(&options)?;
        let store = store::open(options.path.as_deref(), &store::Options::default())?;
        let inbox = Arc::new(Inbox::default());
        let stats = Arc::new(Stats::default());
        let watch = Arc::new(Watch::default());
        let plans = Plans::default();
        let executor = executor(Arc::clone(&inbox) as Arc<dyn Reports>);
        let mut owner = Owner::new(
            Arc::clone(&inbox),
            Arc::clone(&store),
            executor,
            lanes,
            Arc::clone(&stats),
            Arc::clone(&watch),
            &options,
        );
        let recovered = owner.resume(&plans)?;
        let thread = thread::Builder::new()
            .name("goclaw-owner".into())
            .spawn(move || owner.run())
            .map_err(|error| {
                Error::new(
                    "engine.thread",
                    format!("no thread for the engine: {error}"),
                    "raise the limit on threads (ulimit -u)",
                )
            })?;
        Ok(Self {
            shared: Arc::new(Shared {
                inbox,
                store,
                stats,
                watch,
                path: options.path,
                durability: options.durability,
                recovered,
                plans,
                ids: Mutex::default(),
                owner: Mutex::new(Some(thread)),
                closed: Mutex::default(),
            }),
        })
    }

    /// Hands a run to the engine; the ticket tells when it is accepted.
    ///
    /// # Errors
    /// `engine.closed`, `engine.busy`, `submit.durability`.
    pub fn submit(&self, request: Submit) -> Result<Ticket> {
        let mut tickets = self.submit_many(vec![request])?;
        Ok(tickets.pop().expect("one request makes one ticket"))
    }

    /// Hands many runs to the engine with one message.
    ///
    /// # Errors
    /// As `submit`; then none of them was accepted.
    pub fn submit_many(&self, requests: Vec<Submit>) -> Result<Vec<Ticket>> {
        let mut tickets = Vec::with_capacity(requests.len());
        let mut submits = Vec::with_capacity(requests.len());
        for request in requests {
            let durability = self.durability(request.durability)?;
            let id = request.id.unwrap_or_else(|| self.new_id());
            let cell = Cell::new(id, durability, RunState::Pending);
            tickets.push(Ticket { cell: Arc::clone(&cell), shared: Arc::clone(&self.shared) });
            submits.push((request, cell));
        }
        let patient = submits.iter().any(|(request, _)| request.block);
        let patience = if patient { Duration::from_secs(60) } else { NO_PATIENCE };
        match self.shared.inbox.push_submits(submits, patience)? {
            None => Ok(tickets),
            Some(_) => Err(Error::new(
                "engine.busy",
                "the engine's inbox is full",
                "submit more slowly, or with submit_many, or let submit wait",
            )),
        }
    }

    fn durability(&self, wanted: Option<Durability>) -> Result<Durability> {
        let own = if self.is_memory() { Durability::None } else { self.shared.durability };
        match (own, wanted) {
            (own, None) => Ok(own),
            (Durability::None, Some(Durability::None)) => Ok(Durability::None),
            (Durability::None, Some(_)) => Err(Error::new(
                "submit.durability",
                "an engine in memory cannot make a run durable",
                "open the engine with a path",
            )),
            (_, Some(Durability::None)) => Err(Error::new(
                "submit.durability",
                "a run in an engine with a path is always journaled",
                "use durability=\"relaxed\", or an engine without a path",
            )),
            (_, Some(wanted)) => Ok(wanted),
        }
    }

    fn new_id(&self) -> RunId {
        let mut ids = self.shared.ids.lock().unwrap_or_else(PoisonError::into_inner);
        // Only after 2^80 ids within one millisecond does the generator have to break its order.
        RunId::from_u128(ids.generate().unwrap_or_else(|full| full.commit_overflow_random()).0)
    }

    /// A handle of any run that the engine knows.
    ///
    /// # Errors
    /// `run.unknown`, `engine.closed`, `store.*`.
    pub fn get(&self, run: RunId) -> Result<Handle> {
        let cell = match self.ask(|reply| Message::Find { run, reply })? {
            Some(cell) => cell,
            None => {
                let summary = unless_closed(self.shared.store.summary(run))?;
                let summary = summary.filter(|_| !self.is_memory());
                let state = summary.ok_or_else(|| refusal::unknown_run(run))?.state;
                let cell = Cell::new(run, self.shared.durability, state);
                cell.finish(End::Stored);
                cell
            }
        };
        Ok(Handle { cell, shared: Arc::clone(&self.shared) })
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Summary>> {
        unless_closed(self.shared.store.list(filter))
    }

    /// The watch: facts from sequence number `from` on, waiting up to `wait` for news. Empty where
    /// there is none yet. Late readers replay; nobody is skipped.
    ///
    /// # Errors
    /// `run.unknown` where the run was forgotten; `engine.closed`, `store.*`.
    pub fn facts(
        &self,
        run: Option<RunId>,
        from: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Fact>> {
        let deadline = Instant::now() + wait.min(WAIT_MAX);
        let mut seen = from;
        loop {
            let visible = self.shared.watch.visible();
            let mut facts = unless_closed(self.shared.store.facts(run, from, limit))?;
            if let (true, Some(run)) = (facts.is_empty(), run) {
                // Of a run that was forgotten nothing will ever come.
                let there = unless_closed(self.shared.store.summary(run))?;
                there.ok_or_else(|| refusal::unknown_run(run))?;
            }
            facts.retain(|fact| fact.seq < visible);
            if !facts.is_empty() || Instant::now() >= deadline {
                return Ok(facts);
            }
            // Nothing of this run before `visible`: sleep until there is more at all.
            seen = seen.max(visible);
            if !self.shared.watch.wait(seen, deadline) {
                return Ok(facts);
            }
        }
    }

    /// First sequence number that no event has yet.
    pub fn next_seq(&self) -> u64 {
        self.shared.watch.visible()
    }
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.shared.stats)
    }

    /// The lanes as they are now.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn lanes(&self) -> Result<Vec<LaneView>> {
        self.ask(|reply| Message::Lanes { reply })
    }

    /// Forgets finished runs: the one named, or all that ended before `before`.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        let forgotten = unless_closed(self.shared.store.purge(run, before))?;
        if self.is_memory() {
            self.shared.inbox.push(Message::Forget { run, before })?;
        }
        Ok(forgotten)
    }

    /// Unfinished runs that this opening resumed.
    pub fn recovered(&self) -> usize {
        self.shared.recovered
    }
    /// Agents that runs wait for because nobody has registered them.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn missing_agents(&self) -> Result<Vec<String>> {
        self.ask(|reply| Message::Missing { reply })
    }
    /// Looks again at runs that wait for an agent.
    pub fn wake(&self) {
        let _ = self.shared.inbox.push(Message::Wake);
    }
    pub fn is_memory(&self) -> bool {
        self.shared.is_memory()
    }
    pub fn path(&self) -> Option<&Path> {
        self.shared.path.as_deref()
    }

    /// Refuses new work, lets running work finish for `drain` milliseconds, interrupts the rest and
    /// releases every waiter. Again: answers what the first call answered.
    pub fn close(&self, drain: Millis) -> Closed {
        let lock = |closed: &Mutex<Option<Closed>>| {
            closed.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        let (reply, answer) = mpsc::sync_channel(1);
        if self.shared.inbox.push(Message::Close { drain, reply }).is_ok()
            && let Ok(closed) = answer.recv()
        {
            *self.shared.closed.lock().unwrap_or_else(PoisonError::into_inner) = Some(closed);
        }
        let owner = self.shared.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner {
            // A panic of the owner was reported where it happened; closing must still go on.
            let _ = owner.join();
        }
        lock(&self.shared.closed).unwrap_or_default()
    }

    fn ask<T>(&self, message: impl FnOnce(mpsc::SyncSender<T>) -> Message) -> Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.inbox.push(message(reply))?;
        answer.recv().map_err(|_| refusal::closed())
    }
}

/// The built-in lanes, with the declared ones in their place or beside them.
fn lanes(options: &Options) -> Result<Lanes> {
    let mut specs: Vec<LaneSpec> = options.lanes.clone();
    for (at, spec) in specs.iter().enumerate() {
        let bad = |why: &str| {
            Err(Error::new(
                "lane.invalid",
                format!("lane `{}` {why}", spec.name),
                "give each lane a name of its own, and a concurrency and capacity of at least 1",
            ))
        };
        if spec.concurrency == 0 || spec.capacity == 0 || spec.name.is_empty() {
            return bad("has no name, no concurrency or no capacity");
        }
        if specs[..at].iter().any(|other| other.name == spec.name) {
            return bad("is declared twice");
        }
    }
    let declared: Vec<_> = specs.iter().map(|spec| spec.name.clone()).collect();
    specs.extend(builtin_lanes().into_iter().filter(|spec| !declared.contains(&spec.name)));
    Ok(Lanes::new(specs, options.global))
}
