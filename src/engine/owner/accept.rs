//! Accepting runs: ids that clash, lanes that do not exist, lanes that are full.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::blocked::{lane_full, too_many_wait};
use super::session::Seat;
use super::{Owner, Slot};
use crate::agent::Letters;
use crate::engine::cell::{Cell, End};
use crate::engine::inbox::Submits;
use crate::engine::options::{OnConflict, Submit};
use crate::engine::refusal;
use crate::math::Table;
use crate::model::{Admission, Error, Growth, Result, RunId, Submitted, Task};
use crate::plan::{Known, Plan};
use crate::run::{self, Input, Turn};

/// An answer that waits for the commit. Where the engine closes first, its submitter is told so.
struct Answer(Arc<Cell>);

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.refuse_unanswered();
    }
}

impl Owner {
    /// Takes up submits that came together.
    pub(super) fn accept_all(&mut self, submits: Submits) {
        let crowded = self.blocked.is_crowded();
        submits.into_iter().for_each(|(submit, cell)| self.accept(submit, cell, crowded));
    }

    fn accept(&mut self, submit: Submit, cell: Arc<Cell>, crowded: bool) {
        if cell.given_up.load(Ordering::Acquire) {
            return;
        }
        if let Some(error) = self.staged.stall() {
            return cell.accept(Err(error.clone()));
        }
        if let Some(answer) = self.answer_now(&submit, &cell) {
            return self.answer_late(cell, answer);
        }
        // A run that waits for its session needs no place in a lane yet.
        let full = if self.is_busy(&submit) { None } else { self.full_lane(&submit.plan) };
        match full {
            None => self.begin(submit, cell),
            Some(_) if submit.block && crowded => cell.accept(Err(too_many_wait())),
            Some(lane) if submit.block => self.block(lane, submit, cell),
            Some(lane) => {
                self.lanes.reject(lane);
                cell.accept(Err(lane_full(self.lanes.lane(lane).spec())));
            }
        }
    }

    /// Answers with the turn's commit: a run that is there already may be as young as this turn.
    pub(super) fn answer_late(&mut self, cell: Arc<Cell>, answer: Result<Arc<Cell>>) {
        let late = Answer(cell);
        self.staged.acks.push(Box::new(move || late.0.accept(answer)));
    }

    /// The answer to a submit that needs no run: a refusal, or the run that is there already.
    pub(super) fn answer_now(&mut self, submit: &Submit, cell: &Cell) -> Option<Result<Arc<Cell>>> {
        if self.closing.is_some() {
            return Some(Err(refusal::closed()));
        }
        if submit.id.is_some() {
            match self.existing(cell.id) {
                Ok(None) => {}
                Ok(Some(there)) if submit.on_conflict == OnConflict::Existing => {
                    return Some(self.same_workflow(submit, there));
                }
                Ok(Some(there)) => return Some(Err(conflict(&there))),
                Err(error) => return Some(Err(error)),
            }
        }
        if submit.plan.workflow.lanes.iter().any(|lane| self.lanes.index(&lane.name).is_none()) {
            if let Err(error) = self.lanes.declare(&submit.plan.workflow.lanes) {
                return Some(Err(error));
            }
            // A recovered run may have waited for them.
            self.unpark();
        }
        let unknown = submit
            .plan
            .workflow
            .tasks
            .iter()
            .find(|task| self.lanes.index(&task.lane).is_none())?;
        Some(Err(Error::new(
            "lane.unknown",
            format!(
                "task `{}` names lane `{}`, which this engine does not have",
                unknown.id, unknown.lane
            ),
            "declare it: Engine(lanes=[Lane(…)]), or in the workflow",
        )))
    }

    /// The run that is there, if it is of the submitted workflow.
    fn same_workflow(&self, submit: &Submit, there: Arc<Cell>) -> Result<Arc<Cell>> {
        let wanted = &submit.plan.workflow.name;
        match self.store.summary(there.id, u64::MAX)? {
            Some(summary) if summary.workflow != *wanted => Err(Error::new(
                "run.conflict",
                format!(
                    "run `{}` exists already and is of workflow `{}`, not `{wanted}`",
                    there.id, summary.workflow
                ),
                "choose another run_id; an existing run answers for its own workflow only",
            )),
            _ => Ok(there),
        }
    }

    fn existing(&self, id: RunId) -> Result<Option<Arc<Cell>>> {
        if let Some(slot) = self.runs.get(&id) {
            return Ok(Some(Arc::clone(&slot.cell)));
        }
        if let Some(cell) = self.parked.unreadable(id).or_else(|| self.kept_by_id.get(&id)) {
            return Ok(Some(Arc::clone(cell)));
        }
        let Some(summary) = self.store.summary(id, u64::MAX)? else { return Ok(None) };
        let cell = Cell::new(id, crate::model::Durability::Strict, summary.state);
        cell.finish(End::Stored);
        Ok(Some(cell))
    }

    /// A lane in which a source would have to wait for a place, redirects followed.
    fn full_lane(&self, plan: &Plan) -> Option<usize> {
        self.lanes_of(plan)
            .find(|&lane| self.lanes.full(lane).is_some() || self.blocked.is_waited_for(lane))
    }

    pub(super) fn lanes_of<'p>(&'p self, plan: &'p Plan) -> impl Iterator<Item = usize> {
        let lanes = plan.sources.iter().map(|&node| &plan.task(node).lane);
        lanes.filter_map(|name| self.lanes.index(name))
    }

    pub(super) fn begin(&mut self, submit: Submit, cell: Arc<Cell>) {
        let (conduct, weight) = match self.meet(&submit) {
            Ok(met) => met,
            Err(error) => return cell.accept(Err(error)),
        };
        let starts = conduct.admission == Admission::Started;
        let trace_id = submit.trace_id.unwrap_or_else(|| format!("{:032x}", cell.id.as_u128()));
        let submitted = Submitted {
            definition: submit.plan.definition,
            workflow: Some(Arc::clone(&submit.plan.workflow)),
            input: submit.input,
            priority: submit.priority,
            durability: cell.durability,
            tags: submit.tags,
            session: submit.session,
            memory: submit.memory,
            weight,
            conduct,
            trace_id,
            at: self.now,
        };
        let mut turn = Turn::default();
        let run = run::begin(cell.id, submit.plan, submitted, &mut turn);
        tracing::debug!(target: "goclaw.engine", run = %cell.id, "run submitted");
        // The sources take their places when the submit is durable; until then these are reserved,
        // so that a burst cannot overrun the queue.
        for &node in run.plan().sources.iter().filter(|_| starts) {
            if let Some(lane) = self.lanes.index(&run.plan().task(node).lane) {
                self.lanes.reserve(lane);
            }
        }
        let seat = if starts { Seat::Free } else { Seat::Waiting };
        if !starts {
            turn.effects.retain(|effect| !effect.waits_its_turn());
        }
        self.adopt(run, Arc::clone(&cell), seat);
        self.stage(cell.id, turn, cell.durability);
        self.take_seat(cell.id);
        let accepted = Arc::clone(&cell);
        self.staged.acks.push(Box::new(move || accepted.accept(Ok(Arc::clone(&accepted)))));
    }

    /// Takes a run, new or recovered, among the living.
    pub(super) fn adopt(&mut self, run: run::Run, cell: Arc<Cell>, seat: Seat) {
        let trace_id = run.submitted().trace_id.as_str().into();
        let cancelled = run.is_cancelling();
        self.adopted += 1;
        let has_session = run.submitted().session.is_some();
        let slot = Slot {
            order: self.adopted,
            ranking: None,
            seat,
            letters: has_session.then(|| Arc::new(Letters::read_before(run.steered()))),
            cell,
            calls: Table::default(),
            cancelled: Arc::new(cancelled.into()),
            trace_id,
            run,
        };
        self.runs.insert(slot.run.id(), slot);
        self.stats.runs_live.store(self.runs.len() as u64, Ordering::Relaxed);
    }

    /// Adds tasks to a live run.
    pub(super) fn grow(&mut self, run: RunId, growth: Growth, known: &dyn Known) -> Result<()> {
        let slot = self.runs.get(&run).ok_or_else(|| sealed(run))?;
        if slot.run.is_cancelling() || slot.run.is_sweeping() || self.closing.is_some() {
            return Err(sealed(run));
        }
        let before = slot.run.plan();
        // What is journaled is bound, so that replay needs no signatures.
        let growth = Box::new(before.bind_growth(&growth, known)?);
        if slot.run.submitted().session.is_none() {
            refuse_memory(&growth)?;
        }
        if growth.tasks.is_empty() {
            return Ok(());
        }
        let plan = Arc::new(before.regrow(&growth)?);
        self.step(run, Input::Grow { growth, plan });
        Ok(())
    }

    /// Takes an ended run from among the living.
    pub(super) fn part(&mut self, run: RunId) -> Option<Slot> {
        let slot = self.runs.remove(&run);
        self.stats.runs_live.store(self.runs.len() as u64, Ordering::Relaxed);
        slot
    }
}

fn conflict(there: &Cell) -> Error {
    Error::new(
        "run.conflict",
        format!("run `{}` exists already and is {}", there.id, there.state().as_str()),
        "choose another run_id, or pass on_conflict=\"existing\" to get the one that is there",
    )
}

/// Refuses tasks that retrieve memories in a run that has no session.
fn refuse_memory(growth: &Growth) -> Result<()> {
    let asks = |task: &&Task| task.memory.as_ref().is_some_and(|memory| memory.retrieve.is_some());
    let Some(task) = growth.tasks.iter().find(asks) else { return Ok(()) };
    Err(Error::new(
        "memory.no_session",
        format!("the run has no session, and task `{}` retrieves memories", task.id),
        "submit the run with session=\"…\": whose memory it is",
    ))
}

fn sealed(run: RunId) -> Error {
    Error::new(
        "run.sealed",
        format!("run `{run}` takes no more tasks: it is over, or stopping"),
        "add tasks while the run is under way",
    )
}
