//! Carrying effects out, once what caused them is durable.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::rank::rank;
use super::timers::Due;
use super::{Owner, Slot};
use crate::agent::NodeCall;
use crate::engine::cell::{Cell, End};
use crate::engine::sweeper::Sweep;
use crate::lane::Entry;
use crate::model::{NodeIx, RunId, Span, Style, TaskState, Timestamp};
use crate::run::Effect;

/// Finished runs that an engine in memory keeps.
const KEPT_RUNS_MAX: usize = 1_000;

impl Owner {
    pub(super) fn act(&mut self, run: RunId, effect: Effect) {
        match effect {
            Effect::Offer { span, attempts } => self.offer(run, span, attempts),
            Effect::Resolve { node } => {
                if let Some(call) = self.call(run, node) {
                    self.executor.resolve(call);
                }
            }
            Effect::Wake { at, timer } => self.timers.at(at, Due::Run(run, timer)),
            Effect::Abandon { span, attempt } => self.abandon(run, span, attempt),
            Effect::Withdraw => self.withdraw(run),
            Effect::Began => self.show_state(run),
            Effect::Leave { span } => self.leave(run, span),
            Effect::Sweep => self.sweep(run),
            Effect::Ended => self.ended(run),
        }
    }

    pub(super) fn offer(&mut self, run: RunId, span: Span, attempts: u32) {
        let Some(slot) = self.runs.get_mut(&run) else { return };
        let plan = slot.run.plan();
        // A plan that has grown a little keeps its ranks; those who joined have none yet.
        if slot.ranking.as_ref().is_none_or(|ranking| ranking.len() * 2 <= plan.nodes.len()) {
            slot.ranking = self.ranks.of(plan, &self.paces, self.now);
        }
        let task = plan.task(span.node);
        let submitted = slot.run.submitted();
        let style = self.executor.style(&task.agent, task.isolation);
        let placed = attempts > 0 || slot.run.span_state(span) == Some(TaskState::Scheduled);
        let entry = Entry {
            attempts,
            priority: submitted.priority.saturating_add(task.priority),
            flow: submitted.session.clone(),
            weight: submitted.weight,
            order: slot.order,
            rank: rank(slot.ranking.as_ref(), span.node),
            key: slot.run.rate_key(span.node).cloned(),
            cost: task.cost,
            since: self.now,
            placed,
            ..Entry::new(run, span, style.unwrap_or(Style::Thread))
        };
        match (style, self.lanes.index(&task.lane)) {
            (Some(_), Some(lane)) => {
                self.lanes.lane_mut(lane).offer(entry);
                self.staged.again = true;
            }
            // A recovered run whose agent or lane this process does not have (yet).
            _ => {
                let missing = if style.is_none() { "agent" } else { "lane" };
                tracing::warn!(target: "goclaw.engine", run = %run, agent = %task.agent, lane = %task.lane, "the run waits: its {missing} is not there");
                self.park(entry);
            }
        }
    }

    /// What the calls of a node share; made when the node is first worked on.
    pub(super) fn call(&mut self, run: RunId, node: NodeIx) -> Option<Arc<NodeCall>> {
        let slot = self.runs.get_mut(&run)?;
        let items = slot.run.map_items(node).cloned();
        if let Some(call) = slot.calls.get(&node)
            && call.items.is_some() == items.is_some()
        {
            return Some(Arc::clone(call));
        }
        let call = Arc::new(shared_by_calls(slot, node, items));
        slot.calls.insert(node, Arc::clone(&call));
        Some(call)
    }

    fn withdraw(&mut self, run: RunId) {
        self.lanes.withdraw(run);
        self.unpark_run(run);
        if let Some(slot) = self.runs.get(&run) {
            slot.cancelled.store(true, Ordering::Release);
        }
    }

    /// Has what the run's session is to forget found out; the answer ends the run.
    fn sweep(&mut self, run: RunId) {
        let Some(slot) = self.runs.get(&run) else { return };
        let policy = slot.run.plan().workflow.memory.as_ref();
        let below = policy.and_then(|policy| policy.forget_below);
        if let (Some(session), Some(below)) = (&slot.run.submitted().session, below) {
            self.sweeper.find(Sweep { run, session: Arc::clone(session), below });
        }
    }

    /// These tasks have ended without ever getting a permit.
    fn leave(&mut self, run: RunId, span: Span) {
        self.lanes.withdraw_span(run, span);
        self.unpark_span(run, span);
    }

    fn ended(&mut self, run: RunId) {
        self.unpark_run(run);
        let Some(slot) = self.part(run) else { return self.given_up(run) };
        self.leave_session(&slot.run);
        let state = slot.run.state();
        tracing::debug!(target: "goclaw.engine", run = %run, state = state.as_str(), "run ended");
        slot.cell.set_state(state);
        if self.memory {
            self.keep(Arc::clone(&slot.cell));
            slot.cell.finish(End::Kept(Arc::new(slot.run)));
        } else if Arc::strong_count(&slot.cell) > 1 {
            // Somebody holds a handle and will most likely ask for the result.
            slot.cell.finish(End::Kept(Arc::new(slot.run)));
        } else {
            slot.cell.finish(End::Stored);
        }
    }

    /// Lets go of ended runs that an engine in memory keeps.
    pub(super) fn forget(&mut self, run: Option<RunId>, before: Timestamp) {
        let goes =
            |cell: &Cell| run.map_or_else(|| cell.ended_before(before), |run| cell.id == run);
        self.kept.retain(|cell| !goes(cell));
        self.kept_by_id.retain(|_, cell| !goes(cell));
    }

    fn keep(&mut self, cell: Arc<Cell>) {
        self.kept_by_id.insert(cell.id, Arc::clone(&cell));
        self.kept.push_back(cell);
        while self.kept.len() > KEPT_RUNS_MAX {
            if let Some(oldest) = self.kept.pop_front()
                && self.kept_by_id.remove(&oldest.id).is_some()
                && let Err(error) = self.store.purge(Some(oldest.id), Timestamp(0))
            {
                tracing::warn!(target: "goclaw.store", code = error.code, "{}", error.message);
            }
        }
    }
}

fn shared_by_calls(slot: &Slot, node: NodeIx, items: Option<crate::model::Payload>) -> NodeCall {
    let run = &slot.run;
    let deps = &run.plan().nodes[node as usize].deps;
    NodeCall {
        run: run.id(),
        plan: Arc::clone(run.plan()),
        node,
        input: run.input().clone(),
        results: deps.iter().map(|&dep| run.result_of(dep)).collect(),
        items,
        trace_id: Arc::clone(&slot.trace_id),
        session: run.submitted().session.clone(),
        memory: run.submitted().memory.clone(),
        letters: slot.letters.clone(),
        submitted: run.submitted_at(),
        cancelled: Arc::clone(&slot.cancelled),
        memo: Default::default(),
    }
}
