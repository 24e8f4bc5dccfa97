//! What people outside have seen, and must find again after a crash.

use std::collections::BTreeMap;

use goclaw::model::{Delivery, Event, RunState, Span, TaskRef, TaskState};

use super::World;
use super::line::Ack;
use crate::sim::model::{Model, Verdict, demand};

#[derive(Default)]
pub struct Witness {
    submitted: bool,
    cancelled: bool,
    /// Nodes of the run that somebody was told of.
    nodes: usize,
    /// Ends of nodes that work on other nodes has begun upon.
    built_upon: BTreeMap<usize, TaskState>,
    /// The end that waiters were told of.
    pub told: Option<RunState>,
    /// How often the agent of an at-most-once task was called, over all lives of the process.
    once: BTreeMap<TaskRef, u16>,
}

impl Witness {
    pub fn acknowledged(&mut self, ack: &Ack) {
        match ack {
            Ack::Submitted => self.submitted = true,
            Ack::Cancelled => self.cancelled = true,
            Ack::Grown(nodes) => self.nodes = self.nodes.max(*nodes),
        }
    }

    /// Agents are called.
    pub fn executes(&mut self, model: &Model, span: Span) -> Verdict {
        let node = &model.nodes[span.node as usize];
        for &dep in &node.deps {
            self.built_upon.insert(dep, model.nodes[dep].state());
        }
        if node.task.delivery == Delivery::AtMostOnce {
            for task in span.tasks() {
                let calls = self.once.entry(task).or_default();
                // Every call before this one has a failure on record that the policy repeats.
                let failures = model.item(task).map_or(0, |item| item.retried + item.throttled);
                demand!(
                    *calls == failures,
                    "{task:?} was called {calls} times before, at most once"
                );
                *calls += 1;
            }
        }
        Ok(())
    }

    /// The executor hands a call back that nobody had begun: it was none.
    pub fn returns(&mut self, task: TaskRef) {
        if let Some(calls) = self.once.get_mut(&task) {
            *calls = calls.saturating_sub(1);
        }
    }

    /// Nothing was submitted yet, as far as anybody knows.
    pub fn knows_nothing(&self) -> Verdict {
        demand!(!self.submitted, "an acknowledged submit is gone");
        Ok(())
    }

    /// What was acknowledged is there again.
    pub fn finds(&self, model: &Model) -> Verdict {
        let stops = model.cancel.is_some() || model.ended();
        demand!(!self.cancelled || stops, "an acknowledged cancel is gone");
        demand!(model.nodes.len() >= self.nodes, "acknowledged growth is gone");
        for (&n, &state) in &self.built_upon {
            let is = model.nodes.get(n).map(|node| node.state());
            demand!(
                is == Some(state),
                "node {n} was {state:?}, work was built upon it, now {is:?}"
            );
        }
        let told = self.told.is_none_or(|state| state == model.run);
        demand!(told, "waiters were told {:?}, the run is {:?}", self.told, model.run);
        Ok(())
    }
}

impl World {
    /// What a simulation has met, to see that it meets everything.
    pub fn count_event(&mut self, event: &Event) {
        let name = match event {
            Event::Submitted(_) => "Submitted",
            Event::Grown(_) => "Grown",
            Event::RunStarted => "RunStarted",
            Event::Resolved { .. } => "Resolved",
            Event::Expanded { count: 0, .. } => "Expanded to nothing",
            Event::Expanded { .. } => "Expanded",
            Event::Dropped { .. } => "Dropped",
            Event::Redirected { .. } => "Redirected",
            Event::Scheduled { .. } => "Scheduled",
            Event::Started { .. } => "Started",
            Event::Completed { .. } => "Completed",
            Event::Retrying { throttled: true, .. } => "Retrying: throttled",
            Event::Retrying { .. } => "Retrying",
            Event::RetryDue { .. } => "RetryDue",
            Event::Failed { failure, .. } if failure.code == "task.interrupted" => "Failed: once",
            Event::Failed { failure, .. } if failure.code == "lane.dropped" => "Failed: dropped",
            Event::Failed { failure, .. } if failure.code == "task.queue_timeout" => {
                "Failed: waited too long"
            }
            Event::Failed { failure, .. } if failure.code == "task.total_timeout" => {
                "Failed: took too long"
            }
            Event::Failed { .. } => "Failed",
            Event::Interrupted { crash: true, .. } => "Interrupted by a crash",
            Event::Interrupted { .. } => "Interrupted",
            Event::Skipped { reason: goclaw::model::SkipReason::Condition, .. } => "Skipped: when",
            Event::Skipped { reason: goclaw::model::SkipReason::Absorbed, .. } => {
                "Skipped: absorbed"
            }
            Event::Seated => "Seated",
            Event::Steered { .. } => "Steered",
            Event::Merged { .. } => "Merged",
            Event::Absorbed { .. } => "Absorbed",
            Event::Skipped { .. } => "Skipped: upstream",
            Event::Cancelled { .. } => "Cancelled",
            Event::Joined { .. } => "Joined",
            Event::Unresolved { .. } => "Unresolved",
            Event::Progress { .. } => "Progress",
            Event::Memory(_) => "Memory",
            Event::Blocking { .. } => "Blocking",
            Event::Warned { .. } => "Warned",
            Event::Sweeping => "Sweeping",
            Event::Swept { .. } => "Swept",
            Event::CancelRequested { .. } => "CancelRequested",
            Event::RunEnded { state, .. } => state.as_str(),
        };
        *self.seen.entry(name).or_default() += 1;
    }
}
