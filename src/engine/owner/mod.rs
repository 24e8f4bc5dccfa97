//! The owner thread: the one place that knows what is true.
//!
//! One turn: take all messages → step the runs they concern → hand out work that is already durable →
//! append everything with one write → start the batches → sync if an effect waits for it → carry the
//! effects out. So a batch of any size costs one sync, and agents run while the disk works.

mod accept;
mod act;
mod blocked;
mod circle;
mod close;
mod commit;
mod dispatch;
mod explain;
mod flight;
mod guests;
mod ladder;
mod lanes;
mod lent;
mod merge;
mod pace;
mod parked;
#[cfg(test)]
mod probe;
mod rank;
mod recover;
mod reseat;
mod session;
mod show;
mod stuck;
mod timers;
mod unwritable;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use self::blocked::BlockedSubmits;
use self::circle::Waits;
use self::commit::Staged;
use self::flight::Flights;
use self::guests::Guest;
use self::lanes::Draining;
use self::merge::Merges;
use self::pace::Paces;
use self::parked::Parked;
use self::rank::{Ranking, Ranks};
use self::session::Seat;
use self::show::Question;
use self::stuck::StuckCalls;
use self::timers::Timers;
use super::cell::Cell;
use super::clock::Clock;
use super::inbox::{Inbox, Message, Reply};
use super::incompatible::Incompatible;
use super::options::Options;
use super::sessions::Setups;
use super::shared::{Plans, Views};
use super::sweeper::Sweeper;
use super::watch::Watch;
use crate::agent::{Executor, Letters, NodeCall};
use crate::lane::{Lanes, Sessions};
use crate::math::Table;
use crate::memory::{Memory, Shelves};
use crate::model::{
    Admission, BatchId, Durability, Event, MemoryOp, NO_RUN, NodeIx, Result, RunId, RunState,
    Stats, TaskState, Timestamp,
};
use crate::run::{Input, Run, Turn, step};
use crate::store::Store;

/// A live run.
struct Slot {
    run: Run,
    cell: Arc<Cell>,
    /// What the calls of a node share, while the node is being worked on.
    calls: Table<NodeIx, Arc<NodeCall>>,
    cancelled: Arc<AtomicBool>,
    trace_id: Arc<str>,
    /// Runs of one session, or of none, go in this order in every lane.
    order: u64,
    /// The longest remaining path from each node on; worked out when the first is offered.
    ranking: Option<Ranking>,
    seat: Seat,
    /// Messages to its session that are put before it; `None` without a session.
    letters: Option<Arc<Letters>>,
}

pub(super) struct Owner {
    inbox: Arc<Inbox>,
    store: Arc<dyn Store>,
    executor: Arc<dyn Executor>,
    lanes: Lanes,
    sessions: Sessions,
    setups: Setups,
    stats: Arc<Stats>,
    watch: Arc<Watch>,
    incompatible: Arc<Incompatible>,
    plans: Plans,
    clock: Clock,
    /// No path: nothing lasts, finished runs are kept here.
    memory: bool,
    relaxed_window: u64,
    cancel_grace: u64,

    /// The moment of this turn.
    now: Timestamp,
    runs: Table<RunId, Slot>,
    flights: Flights,
    stuck: StuckCalls,
    merges: Merges,
    paces: Paces,
    ranks: Ranks,
    /// Runs taken among the living so far.
    adopted: u64,
    /// Calls whose agent lent its permit and waits for one to go on, first come first.
    returning: VecDeque<(BatchId, u32)>,
    timers: Timers,
    /// Submits that wait for a place.
    blocked: BlockedSubmits,
    parked: Parked,
    /// To be answered when this turn's decisions are durable.
    questions: Vec<Question>,
    /// Finished runs that an engine in memory keeps, oldest first.
    kept: VecDeque<Arc<Cell>>,
    kept_by_id: Table<RunId, Arc<Cell>>,
    staged: Staged,
    shelves: Arc<Shelves>,
    sweeper: Sweeper,
    /// Level of what is memorized outside of runs.
    durability: Durability,
    dice: u64,
    closing: Option<close::Closing>,
    /// Who waits until nothing of a lane runs.
    drains: Vec<Draining>,
    /// Agents that wait for runs.
    waits: Waits,
    /// Who waits for a permit for work outside of runs, first come first.
    guests: Vec<Guest>,
}

impl Owner {
    pub(super) fn new(
        inbox: Arc<Inbox>,
        store: Arc<dyn Store>,
        executor: Arc<dyn Executor>,
        lanes: Lanes,
        views: Views,
        memory: Arc<Memory>,
        options: &Options,
    ) -> Self {
        let Views { stats, watch, incompatible, plans, shelves } = views;
        let clock = Clock::start();
        let now = clock.now();
        let staged = Staged::new(store.next_seq());
        watch.advance(store.next_seq());
        Self {
            executor,
            lanes,
            sessions: Sessions::default(),
            setups: Setups::new(options.when_busy.clone()),
            stats,
            watch,
            incompatible,
            plans,
            clock,
            memory: options.path.is_none(),
            relaxed_window: options.relaxed_window,
            cancel_grace: options.cancel_grace,
            now,
            runs: Table::default(),
            flights: Flights::default(),
            stuck: StuckCalls::new(options.stuck_threads_max),
            merges: Merges::default(),
            paces: Paces::default(),
            ranks: Ranks::default(),
            adopted: 0,
            returning: VecDeque::new(),
            timers: Timers::default(),
            blocked: BlockedSubmits::default(),
            parked: Parked::default(),
            questions: Vec::new(),
            kept: VecDeque::new(),
            kept_by_id: Table::default(),
            staged,
            shelves,
            sweeper: Sweeper::new(memory, Arc::clone(&inbox)),
            durability: options.durability,
            dice: now.0 ^ (store.epoch() << 48),
            closing: None,
            drains: Vec::new(),
            waits: Waits::default(),
            inbox,
            guests: Vec::new(),
            store,
        }
    }

    /// Turns until the engine is closed.
    pub(super) fn run(mut self) {
        let mut messages = Vec::new();
        self.turn(Vec::new());
        while !self.is_closed() {
            self.inbox.drain(&mut messages, self.next_wake());
            self.turn(std::mem::take(&mut messages));
        }
    }

    fn turn(&mut self, messages: Vec<Message>) {
        self.now = self.clock.now();
        Stats::add(&self.stats.turns, 1);
        for message in messages {
            self.handle(message);
        }
        self.fire_timers();
        self.unblock();
        self.dispatch();
        self.commit();
        // Effects may have made tasks ready, or ended attempts.
        while std::mem::take(&mut self.staged.again) {
            self.dispatch();
            self.commit();
        }
        // After the tasks of the lane, which may have had a retry or a deadline to keep.
        self.let_guests_in();
        self.tell_drained();
        self.answer_questions();
        self.close_when_drained();
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Submit(submits) => self.accept_all(submits),
            Message::Reports(reports) => reports.into_iter().for_each(|r| self.reported(r)),
            Message::Cancel { run, reason, reply } => {
                match self.parked.unreadable(run) {
                    Some(_) => self.give_up(run, reason),
                    None => drop(self.step(run, Input::Cancel { reason })),
                }
                self.staged.acks.push(Box::new(move || drop(reply.send(Ok(())))));
            }
            Message::Forsaken { run } => {
                let submitted = self.runs.get(&run).map(|slot| slot.run.submitted());
                let admission = submitted.map(|it| it.conduct.admission);
                if admission != Some(Admission::Interrupting) {
                    let reason = "whoever submitted it gave up".into();
                    _ = self.step(run, Input::Cancel { reason });
                }
            }
            Message::Kill { run, reason, reply } => {
                match self.parked.unreadable(run) {
                    Some(_) => self.give_up(run, reason),
                    None => self.kill(run, reason),
                }
                self.staged.acks.push(Box::new(move || drop(reply.send(Ok(())))));
            }
            Message::Grow { run, growth, known, reply } => {
                let grown = self.grow(run, growth, &*known);
                self.staged.acks.push(Box::new(move || drop(reply.send(grown))));
            }
            Message::Inspect { run, look } => self.questions.push(Question::Inspect(run, look)),
            Message::Find { run, reply } => self.questions.push(Question::Find(run, reply)),
            Message::Pulse { reply } => drop(reply.send(self.pulse())),
            Message::Beats { run, reply } => drop(reply.send(self.beats(run))),
            Message::Lanes { reply } => drop(reply.send(self.lanes.view(self.now))),
            Message::Lane(ask) => self.lane_asked(ask),
            Message::Guest(ask) => self.guest_asked(ask),
            Message::Explain { run, task, reply } => {
                self.questions.push(Question::Explain(run, task, reply));
            }
            Message::Sessions(ask) => self.answer(ask),
            Message::Withdrawn => self.blocked.withdrawn = true,
            #[cfg(test)]
            Message::Probe(look) => look(self),
            Message::Awaits { by, on, refusal } => self.awaits(by, on, &refusal),
            Message::AwaitsNoMore { by, on } => self.waits.remove(by, on),
            Message::Forget { run, before } => self.forget(run, before),
            Message::Memory { ops, reply } => self.memorize(ops, reply),
            Message::Swept { run, ids, left, failure } => {
                self.step(run, Input::Swept { ids, left, failure });
            }
            Message::Missing { reply } => drop(reply.send(self.missing())),
            Message::Wake => self.unpark(),
            Message::Close { drain, reply } => self.begin_closing(drain, reply),
        }
    }

    /// Steps a run and stages what came of it. False where nothing did.
    fn step(&mut self, run: RunId, input: Input) -> bool {
        self.note_letters(run);
        let changed = self.advance(run, input);
        if changed {
            self.park_if_backing_off(run);
        }
        changed
    }

    fn advance(&mut self, run: RunId, input: Input) -> bool {
        let Some(slot) = self.runs.get_mut(&run) else {
            self.count_late(&input);
            return false;
        };
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut turn = Turn::default();
        step(&mut slot.run, input, self.now, scramble(self.dice), &mut turn);
        Stats::add(&self.stats.results_late, turn.late);
        let durability = slot.cell.durability;
        if slot.seat.holds_back() {
            // What starts work is found again by `run::outstanding` when it is the run's turn.
            turn.effects.retain(|effect| !effect.waits_its_turn());
        }
        self.stage(run, turn, durability)
    }

    fn stage(&mut self, run: RunId, turn: Turn, durability: Durability) -> bool {
        let changed = !turn.events.is_empty();
        turn.events.iter().for_each(|event| self.count(event));
        self.staged.add(run, turn, durability, self.now);
        changed
    }

    /// Stages what was memorized outside of any run, in a record that belongs to none.
    fn memorize(&mut self, ops: Vec<MemoryOp>, reply: Reply<Result<()>>) {
        if let Some(error) = self.staged.stall() {
            // The asker may have gone.
            let _ = reply.send(Err(error.clone()));
            return;
        }
        let turn = Turn { events: vec![Event::Memory(ops)], ..Turn::default() };
        self.stage(NO_RUN, turn, self.durability);
        self.staged.acks.push(Box::new(move || drop(reply.send(Ok(())))));
    }

    fn count_late(&self, input: &Input) {
        if let Input::Done { outcomes, .. } = input {
            Stats::add(&self.stats.results_late, outcomes.len() as u64);
        }
    }

    fn count_memory(&self, ops: &[MemoryOp]) {
        let stats = &self.stats;
        for op in ops {
            let (counter, n) = match op {
                MemoryOp::Put(_) => (&stats.memories_written, 1),
                MemoryOp::Review { .. } => (&stats.memories_reviewed, 1),
                MemoryOp::Forget { ids, .. } => (&stats.memories_forgotten, ids.len() as u64),
                MemoryOp::DeleteSession { .. } => (&stats.memory_sessions_deleted, 1),
                _ => continue,
            };
            Stats::add(counter, n);
        }
    }

    fn count(&self, event: &Event) {
        let stats = &self.stats;
        if let Event::Memory(ops) = event {
            return self.count_memory(ops);
        }
        let (counter, n) = match event {
            Event::Submitted(_) => (&stats.runs_submitted, 1),
            Event::Absorbed { .. } => (&stats.runs_absorbed, 1),
            Event::Started { span, .. } => (&stats.tasks_started, span.len),
            Event::Completed { span, .. } => (&stats.tasks_completed, span.len),
            Event::Retrying { .. } => (&stats.tasks_retried, 1),
            Event::Failed { .. } | Event::Unresolved { .. } => (&stats.tasks_failed, 1),
            Event::Skipped { .. } => (&stats.tasks_skipped, 1),
            Event::Cancelled { span } => (&stats.tasks_cancelled, span.len),
            Event::Interrupted { span, .. } => (&stats.tasks_interrupted, span.len),
            Event::Swept { forgotten, .. } => (&stats.memories_swept, *forgotten as u32),
            Event::RunEnded { state: RunState::Completed, .. } => (&stats.runs_completed, 1),
            Event::RunEnded { state: RunState::Cancelled, .. } => (&stats.runs_cancelled, 1),
            Event::RunEnded { .. } => (&stats.runs_failed, 1),
            _ => return,
        };
        Stats::add(counter, u64::from(n));
    }

    /// When the next turn is due even without a message.
    fn next_wake(&self) -> Option<Instant> {
        let timer = self.timers.next().map(|at| self.clock.instant(at));
        // While nothing is handed out nobody need be woken for it.
        let grants = self.closing.is_none() && self.staged.stall().is_none();
        let limiter = self.lanes.wake_at().filter(|_| grants).map(|at| self.clock.instant(at));
        let guests = self.guests_wake_at().map(|at| self.clock.instant(at));
        let others = [self.paces.wake_at(), self.staged.retry_at()];
        [timer, limiter, guests].into_iter().chain(others).flatten().min()
    }
}

/// SplitMix64's output function: evenly spread bits from a counter (Steele, Lea, Flood, 2014).
fn scramble(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// True for a task that its lane may have: ready, or in the queue already (after a recovery).
fn admissible(state: Option<TaskState>) -> bool {
    matches!(state, Some(TaskState::Pending | TaskState::Scheduled))
}

/// A pause after which a stalled store is tried again.
const STORE_RETRY: Duration = Duration::from_millis(200);
