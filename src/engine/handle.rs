//! An engine as users hold it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::cell::{Cell, End};
use super::clock::Clock;
use super::health::Pulse;
use super::inbox::{Inbox, Message};
use super::options::{Closed, Options, Submit, lanes};
use super::owner::Owner;
use super::refusal;
use super::sessions::{SessionAsk, SessionInfo, SessionSetup};
use super::shared::{Ending, Shared, Views, unless_closed};
use super::ticket::{Handle, Ticket};
use crate::agent::{Executor, Reports};
use crate::lane::LaneView;
use crate::memory::{Journal, Memory};
use crate::model::{Durability, Error, Fact, Millis, Result, RunId, RunState, Stats, Timestamp};
use crate::store::{self, Store, Summary};

/// How long a submit without patience tries to get into the inbox.
const NO_PATIENCE: Duration = Duration::ZERO;
/// How long one that blocks does.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longest wait for news, so that adding it to the clock cannot overflow: 34 years.
const WAIT_MAX: Duration = Duration::from_secs(1 << 30);

/// An open engine. Cheap to clone; closes when the last handle is gone.
#[derive(Clone)]
pub struct Engine {
    pub(super) shared: Arc<Shared>,
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
        Self::open_with(options, |reports, _| executor(reports))
    }

    /// Opens an engine whose agents remember: their executor gets the memory, too.
    ///
    /// # Errors
    /// As `open`.
    pub fn open_with(
        options: Options,
        executor: impl FnOnce(Arc<dyn Reports>, &Arc<Memory>) -> Arc<dyn Executor>,
    ) -> Result<Self> {
        let store = store::open(options.path.as_deref(), &store::Options::default())?;
        Self::start(options, store, executor)
    }

    /// Starts an engine on a store that is open.
    pub(super) fn start(
        options: Options,
        store: Arc<dyn Store>,
        executor: impl FnOnce(Arc<dyn Reports>, &Arc<Memory>) -> Arc<dyn Executor>,
    ) -> Result<Self> {
        let lanes = lanes(&options)?;
        let inbox = Arc::new(Inbox::default());
        let views = Views::default();
        let (journal, shelves) =
            (Arc::clone(&inbox) as Arc<dyn Journal>, Arc::clone(&views.shelves));
        let clock = Clock::start();
        let now = move || clock.now();
        let memory = Memory::new(Arc::clone(&store), journal, shelves, now)?;
        let memory = Arc::new(memory.with_cold(options.cold.clone()));
        let executor = executor(Arc::clone(&inbox) as Arc<dyn Reports>, &memory);
        let mut owner = Owner::new(
            Arc::clone(&inbox),
            Arc::clone(&store),
            executor,
            lanes,
            views.clone(),
            Arc::clone(&memory),
            &options,
        );
        let recovered = owner.resume()?;
        // Before the owner: where this fails nobody is left behind. What it commits waits in the inbox.
        Memory::start_cold(&memory)?;
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
        let Views { stats, watch, incompatible, plans, shelves: _ } = views;
        Ok(Self {
            shared: Arc::new(Shared {
                inbox,
                store,
                stats,
                memory,
                watch,
                incompatible,
                path: options.path,
                durability: options.durability,
                recovered,
                plans,
                ids: Mutex::default(),
                owner: Mutex::new(Some(thread)),
                closed: Ending::default(),
            }),
        })
    }

    /// Hands a run to the engine; the ticket tells when it is accepted.
    ///
    /// # Errors
    /// `engine.closed`, `engine.busy`, `config.durability`, `memory.no_session`, `memory.session`.
    pub fn submit(&self, request: Submit) -> Result<Ticket> {
        let mut tickets = self.submit_many(vec![request])?;
        Ok(tickets.pop().expect("one request makes one ticket"))
    }

    /// Hands many runs to the engine with one message.
    ///
    /// # Errors
    /// As `submit`; then none of them was accepted.
    pub fn submit_many(&self, requests: Vec<Submit>) -> Result<Vec<Ticket>> {
        let patient = requests.iter().any(|request| request.block);
        self.put(requests, if patient { PATIENCE } else { NO_PATIENCE })
    }

    /// As `submit_many`, and never waits for room in the engine's inbox.
    ///
    /// # Errors
    /// As `submit`; then none of them was accepted.
    pub fn offer_many(&self, requests: Vec<Submit>) -> Result<Vec<Ticket>> {
        self.put(requests, NO_PATIENCE)
    }

    fn put(&self, requests: Vec<Submit>, patience: Duration) -> Result<Vec<Ticket>> {
        let mut tickets = Vec::with_capacity(requests.len());
        let mut submits = Vec::with_capacity(requests.len());
        for request in requests {
            let durability = self.durability(request.durability)?;
            check_session(&request)?;
            let id = request.id.unwrap_or_else(|| self.new_id());
            let cell = Cell::new(id, durability, RunState::Pending);
            tickets.push(Ticket { cell: Arc::clone(&cell), shared: Arc::clone(&self.shared) });
            submits.push((request, cell));
        }
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
                "config.durability",
                "an engine in memory cannot make a run durable",
                "open the engine with a path",
            )),
            (_, Some(Durability::None)) => Err(Error::new(
                "config.durability",
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
                let summary = self.summary(run)?;
                let summary = summary.filter(|_| !self.is_memory());
                let state = summary.ok_or_else(|| refusal::unknown_run(run))?.state;
                let cell = Cell::new(run, self.shared.durability, state);
                cell.finish(End::Stored);
                cell
            }
        };
        Ok(Handle { cell, shared: Arc::clone(&self.shared) })
    }

    fn summary(&self, run: RunId) -> Result<Option<Summary>> {
        unless_closed(self.shared.store.summary(run, self.next_seq()))
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
                let there = self.summary(run)?;
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

    /// How the engine is. Answered by the owner, who needs neither Python nor the store for it.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn pulse(&self) -> Result<Pulse> {
        self.ask(|reply| Message::Pulse { reply })
    }

    /// The lanes as they are now.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn lanes(&self) -> Result<Vec<LaneView>> {
        self.ask(|reply| Message::Lanes { reply })
    }

    /// A session as it is now. Every key has one; an idle one costs nothing.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn session(&self, key: &str) -> Result<SessionInfo> {
        self.ask(|reply| Message::Sessions(SessionAsk::Look { key: key.into(), reply }))
    }

    /// Keys of the sessions that are busy or set up, in order.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn sessions(&self) -> Result<Vec<Arc<str>>> {
        self.ask(|reply| Message::Sessions(SessionAsk::Keys { reply }))
    }

    /// Says what submits to a session do that do not say it themselves.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn set_up_session(&self, key: &str, setup: SessionSetup) -> Result<()> {
        self.ask(|reply| Message::Sessions(SessionAsk::SetUp { key: key.into(), setup, reply }))
    }

    /// Forgets finished runs: the one named, or all that ended before `before`. One that cannot be
    /// replayed has no other end, so naming it is enough.
    ///
    /// # Errors
    /// `engine.closed`, `store.*`.
    pub fn purge(&self, run: Option<RunId>, before: Timestamp) -> Result<u64> {
        if let Some(run) = run.filter(|run| self.shared.incompatible.contains(*run)) {
            let handle = self.get(run)?;
            if matches!(handle.cell.end(), Some(End::Unreadable(_))) {
                handle.cancel("purged")?;
            }
        }
        let forgotten = unless_closed(self.shared.store.purge(run, before))?;
        if self.is_memory() {
            self.shared.inbox.push(Message::Forget { run, before })?;
        }
        Ok(forgotten)
    }

    /// What agents remember in this engine's store.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.memory
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
        Ok(self.ask(|reply| Message::Missing { reply })?.agents)
    }
    /// Lanes that runs wait for because this engine does not have them.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn missing_lanes(&self) -> Result<Vec<String>> {
        Ok(self.ask(|reply| Message::Missing { reply })?.lanes)
    }
    /// Looks again at runs that wait for an agent or a lane.
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
    /// releases every waiter. Again, or meanwhile: hurries if it may, and answers the same.
    pub fn close(&self, drain: Millis) -> Closed {
        // It writes, and would only be refused.
        self.shared.memory.stop_cold();
        let (reply, answer) = mpsc::sync_channel(1);
        let told = self.shared.inbox.push(Message::Close { drain, reply }).is_ok();
        // No answer: the owner was past reading this, and tells whoever came before.
        let closed = answer.recv().ok().filter(|_| told);
        let owner = self.shared.owner.lock().unwrap_or_else(PoisonError::into_inner).take();
        match owner {
            Some(owner) => {
                // A panic of the owner was reported where it happened; closing must still go on.
                let _ = owner.join();
                self.shared.memory.close_cold();
                self.shared.closed.settle(closed.unwrap_or_default())
            }
            None => closed.unwrap_or_else(|| self.shared.closed.wait()),
        }
    }

    pub(super) fn ask<T>(&self, message: impl FnOnce(mpsc::SyncSender<T>) -> Message) -> Result<T> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.shared.inbox.push(message(reply))?;
        answer.recv().map_err(|_| refusal::closed())
    }
}

/// Refuses a run that is to remember and has nobody to remember for.
fn check_session(request: &Submit) -> Result<()> {
    let Submit { session, plan, memory, .. } = request;
    let granted = memory.read.iter().chain(&memory.write);
    granted.into_iter().try_for_each(|session| Memory::check_session(session))?;
    let why = match session {
        Some(session) if plan.needs_session().is_some() => return Memory::check_session(session),
        Some(_) => return Ok(()),
        None if memory.is_empty() => plan.needs_session(),
        None => Some("it is granted the memory of other sessions".into()),
    };
    let Some(why) = why else { return Ok(()) };
    Err(Error::new(
        "memory.no_session",
        format!("the run has no session, and {why}"),
        "submit it with session=\"…\": whose memory it is",
    ))
}
