//! A run's beginning, and its way back from the journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Body, Item, Node, Yield};
use super::{Effect, Input, Run, Timer, Turn, apply, cancel, effects, timeout};
use crate::model::{
    Error, Event, NodeIx, Record, Result, RunId, RunState, Submitted, TaskState, Timestamp,
};
use crate::plan::Plan;

impl Node {
    /// A node as it is at `at`, when the run meets it.
    pub(super) fn new(plan: &Plan, node: NodeIx, waits: u32, at: Timestamp) -> Self {
        let task = plan.task(node);
        let resolved = task.when.is_none() && task.each.is_none() && task.rate_key.is_none();
        let since = (waits == 0 && resolved).then_some(at);
        Self { waits, resolved, since, body: Body::One(Item::default()) }
    }
}

impl Run {
    fn new(id: RunId, plan: Arc<Plan>, submitted: Arc<Submitted>) -> Self {
        let waits = |node: usize| plan.nodes[node].deps.len() as u32;
        let nodes = (0..plan.nodes.len())
            .map(|node| Node::new(&plan, node as NodeIx, waits(node), submitted.at))
            .collect::<Vec<_>>();
        Self {
            id,
            open: nodes.len(),
            nodes,
            keys: BTreeMap::new(),
            plan,
            submitted,
            state: RunState::Pending,
            cancel: None,
            failure: None,
            reason: None,
            ended: None,
            cancelled_at: None,
            sweeping: false,
            talk: None,
        }
    }
}

/// Begins a run: its first event, and what to do when that is durable.
pub fn begin(id: RunId, plan: Arc<Plan>, submitted: Submitted, turn: &mut Turn) -> Run {
    let run = Run::new(id, Arc::clone(&plan), Arc::new(submitted.clone()));
    turn.events.push(Event::Submitted(Box::new(submitted)));
    deadline(&run, &mut turn.effects);
    for &node in &plan.sources {
        effects::ready(&run, node, &mut turn.effects);
    }
    run
}

fn deadline(run: &Run, out: &mut Vec<Effect>) {
    if let Some(timeout) = run.plan.workflow.timeout_ms {
        out.push(Effect::Wake { at: run.submitted.at.plus(timeout), timer: Timer::Deadline });
    }
}

/// Rebuilds a run from its records.
///
/// `plan_of` finds the plan of a definition, so that runs of the same workflow share it.
///
/// # Errors
/// `store.corrupt` where the records do not begin with a submit.
pub fn replay(
    records: &[Record],
    plan_of: impl FnOnce(&Submitted) -> Result<Arc<Plan>>,
) -> Result<Run> {
    let broken = || {
        Error::new(
            "store.corrupt",
            "a run's records do not begin with its submit",
            "restore the store from a backup",
        )
    };
    let first = records.first().ok_or_else(broken)?;
    let Some(Event::Submitted(submitted)) = first.events.first() else { return Err(broken()) };
    let plan = plan_of(submitted)?;
    let mut run = Run::new(first.run, plan, Arc::new((**submitted).clone()));
    for record in records {
        for event in &record.events {
            if let Event::Grown(growth) = event {
                run.plan = Arc::new(run.plan.regrow(growth)?);
            }
            apply::apply(&mut run, event, record.at);
        }
    }
    Ok(run)
}

/// What a run that was loaded from the store still needs: inputs for attempts that died with the
/// process, and effects that were not carried out or were lost with it.
///
/// `crash` is false where the store was closed in good order.
pub fn outstanding(run: &Run, crash: bool) -> (Vec<Input>, Vec<Effect>) {
    if run.state.is_terminal() {
        return (Vec::new(), vec![Effect::Ended]);
    }
    let lost = cancel::under_way(run)
        .map(|(span, attempt)| Input::Lost { span, attempt, crash })
        .collect();
    let mut effects = Vec::new();
    if run.sweeping {
        effects.push(Effect::Sweep);
    }
    deadline(run, &mut effects);
    for node in 0..run.nodes.len() as NodeIx {
        unresolved(run, node, &mut effects);
        effects.extend(timeout::total(run, node));
    }
    // One state at a time: a lane takes a span only when all of it is in the same state. What had
    // its place in the queue gets it back first.
    for state in [TaskState::Scheduled, TaskState::Pending] {
        let waiting = cancel::spans(run, |item| item.state == state);
        let ready = |node: NodeIx| run.node(node).waits == 0 && run.node(node).resolved;
        for (span, attempts) in waiting.filter(|(span, _)| ready(span.node)) {
            for span in timeout::spans_of_one_wait(run, span) {
                effects::offer(run, span, attempts, &mut effects);
            }
        }
    }
    for (span, _) in cancel::spans(run, |item| item.state == TaskState::Retrying) {
        for task in span.tasks() {
            if let Some(Item { yields: Yield::Retrying { due, .. }, .. }) = run.item(task) {
                effects.push(Effect::Wake { at: *due, timer: Timer::Retry(task) });
            }
        }
    }
    (lost, effects)
}

fn unresolved(run: &Run, node: NodeIx, out: &mut Vec<Effect>) {
    if !run.node(node).resolved {
        effects::ready(run, node, out);
    }
}
