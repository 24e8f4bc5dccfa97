//! The only place where state changes.

use std::sync::Arc;

use super::Run;
use super::state::{Body, Item, Map, Node, Yield};
use crate::model::{
    Event, Failure, NodeIx, Payload, RunState, Span, TaskRef, TaskState, Timestamp,
};

/// Applies one event. Total: any event of a true history fits the state before it.
pub(super) fn apply(run: &mut Run, event: &Event, at: Timestamp) {
    match event {
        // The run was built from the first; the others change nothing of the run.
        Event::Submitted(_)
        | Event::Progress { .. }
        | Event::Blocking { .. }
        | Event::Warned { .. }
        | Event::Swept { .. }
        | Event::Memory(_) => {}
        // What became of the tasks is told by the events that follow.
        Event::Dropped { .. } | Event::Redirected { .. } => {}
        Event::Grown(growth) => grown(run, growth.tasks.len(), at),
        Event::RunStarted => run.state = RunState::Running,
        Event::Resolved { node, key } => {
            keyed(run, *node, key.as_ref());
            let node = &mut run.nodes[*node as usize];
            node.resolved = true;
            node.since = Some(at);
        }
        Event::Expanded { node, items, count, key } => {
            expanded(run, *node, items.clone(), *count, at);
            keyed(run, *node, key.as_ref());
        }
        Event::Scheduled { span } => each(run, *span, |item| item.state = TaskState::Scheduled),
        Event::Started { span, attempt } => each(run, *span, |item| {
            item.state = TaskState::Running;
            item.attempt = *attempt;
            item.yields = Yield::Nothing;
        }),
        Event::Completed { span, outputs, .. } => completed(run, *span, outputs, at),
        Event::Retrying { task, failure, due, throttled, .. } => {
            each(run, (*task).into(), |item| {
                item.state = TaskState::Retrying;
                item.failures += u16::from(!throttled);
                item.yields = Yield::Retrying { failure: Arc::clone(failure), due: *due };
            })
        }
        Event::RetryDue { task } => each(run, (*task).into(), |item| {
            item.state = TaskState::Pending;
            item.yields = Yield::Ready { since: at };
        }),
        Event::Failed { task, failure, .. } => failed(run, *task, failure, at),
        Event::Unresolved { node, failure } => {
            failed(run, TaskRef { node: *node, index: 0 }, failure, at);
        }
        Event::Interrupted { span, crash, .. } => each(run, *span, |item| {
            item.state = TaskState::Pending;
            item.yields = Yield::Ready { since: at };
            item.crashes += u8::from(*crash);
        }),
        Event::Skipped { node, .. } => {
            each(run, Span::one(*node, 0), |item| item.state = TaskState::Skipped);
            node_ended(run, *node, at);
        }
        Event::Cancelled { span } => {
            each(run, *span, |item| item.state = TaskState::Cancelled);
            tasks_ended(run, *span, at);
        }
        Event::Joined { node, state } => {
            if let Body::Map(map) = &mut run.nodes[*node as usize].body {
                map.state = *state;
            }
            node_ended(run, *node, at);
        }
        Event::Seated => {
            run.nodes.iter_mut().for_each(|node| node.since = node.since.map(|_| at));
            run.talk_mut().seated = true;
        }
        Event::Steered { from, message } => {
            run.talk_mut().steered.push((*from, message.clone()));
        }
        Event::Merged { from, input } => {
            let talk = run.talk_mut();
            talk.merged.clone_from(from);
            talk.input = Some(input.clone());
        }
        Event::Absorbed { into } => run.talk_mut().into = Some(*into),
        Event::Sweeping => run.sweeping = true,
        Event::CancelRequested { cause, reason } => {
            run.cancel = Some((*cause, reason.clone()));
            run.cancelled_at = Some(at);
        }
        Event::RunEnded { state, reason } => {
            run.state = *state;
            run.reason.clone_from(reason);
            run.ended = Some(at);
        }
    }
}

fn each(run: &mut Run, span: Span, change: impl Fn(&mut Item)) {
    let all = match &mut run.nodes[span.node as usize].body {
        Body::One(item) => std::slice::from_mut(item),
        Body::Map(map) => &mut map.children[..],
    };
    all[span.lo as usize..span.hi() as usize].iter_mut().for_each(change);
}

fn grown(run: &mut Run, added: usize, at: Timestamp) {
    let first = run.nodes.len();
    let plan = Arc::clone(&run.plan);
    for node in first..first + added {
        let deps = &plan.nodes[node].deps;
        let waits = deps
            .iter()
            .filter(|&&dep| run.nodes.get(dep as usize).is_none_or(|n| !n.state().is_terminal()));
        run.nodes.push(Node::new(&plan, node as NodeIx, waits.count() as u32, at));
    }
    run.open += added;
}

fn keyed(run: &mut Run, node: NodeIx, key: Option<&Arc<str>>) {
    if let Some(key) = key {
        run.keys.insert(node, Arc::clone(key));
    }
}

fn expanded(run: &mut Run, node: NodeIx, items: Payload, count: u32, at: Timestamp) {
    let children = vec![Item::default(); count as usize];
    let map = Map { items, children, open: count, state: TaskState::Running };
    let node = &mut run.nodes[node as usize];
    node.resolved = true;
    node.since = Some(at);
    node.body = Body::Map(Box::new(map));
}

fn completed(run: &mut Run, span: Span, outputs: &[Payload], at: Timestamp) {
    for (task, output) in span.tasks().zip(outputs) {
        each(run, task.into(), |item| {
            item.state = TaskState::Completed;
            item.yields = Yield::Output(output.clone());
        });
    }
    tasks_ended(run, span, at);
}

fn failed(run: &mut Run, task: TaskRef, failure: &Arc<Failure>, at: Timestamp) {
    each(run, task.into(), |item| {
        item.state = TaskState::Failed;
        item.failures = item.failures.saturating_add(1);
        item.yields = Yield::Failure(Arc::clone(failure));
    });
    if run.failure.is_none() {
        run.failure = Some((task, Arc::clone(failure)));
    }
    tasks_ended(run, task.into(), at);
}

/// Tasks of a span ended: a map counts them down, a node that is one task has ended itself.
fn tasks_ended(run: &mut Run, span: Span, at: Timestamp) {
    match &mut run.nodes[span.node as usize].body {
        Body::Map(map) => map.open -= span.len,
        Body::One(_) => node_ended(run, span.node, at),
    }
}

fn node_ended(run: &mut Run, node: NodeIx, at: Timestamp) {
    run.open -= 1;
    let plan = Arc::clone(&run.plan);
    for &dependent in &plan.nodes[node as usize].dependents {
        // A grown plan names dependents that the run has not met yet.
        if let Some(dependent) = run.nodes.get_mut(dependent as usize) {
            dependent.waits -= 1;
            if dependent.waits == 0 && dependent.resolved {
                dependent.since = Some(at);
            }
        }
    }
}
