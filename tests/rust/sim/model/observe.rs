//! Which events are legal when, and what each does.

use goclaw::model::{
    CancelCause, Delivery, Event, Failure, NodeIx, Payload, RunState, SkipReason, Span, TaskRef,
    TaskState, Timestamp,
};

use super::rules::{retry_window, retryable, throttles};
use super::{Item, Model, Verdict, demand};

use TaskState as S;

impl Model {
    /// Takes one event, or says why it must not have happened.
    pub fn observe(&mut self, event: &Event, now: Timestamp) -> Verdict {
        demand!(!self.ended(), "an event after the end of the run: {event:?}");
        self.happens(event, now)?;
        self.begin_waits(now);
        Ok(())
    }

    /// Nodes whose inputs are there and that are resolved wait for their lane from now on.
    fn begin_waits(&mut self, now: Timestamp) {
        for n in 0..self.nodes.len() {
            if self.nodes[n].since.is_none() && self.nodes[n].resolved && self.may_start(n) {
                self.nodes[n].since = Some(now);
                self.nodes[n].items.iter_mut().for_each(|item| item.waits = Some(now));
            }
        }
    }

    fn happens(&mut self, event: &Event, now: Timestamp) -> Verdict {
        match event {
            Event::Submitted(_) | Event::Memory(_) => {}
            Event::Grown(growth) => {
                demand!(self.cancel.is_none(), "a stopping run grew");
                self.grow(&growth.tasks);
            }
            Event::RunStarted => {
                demand!(self.run == RunState::Pending, "the run started twice");
                self.run = RunState::Running;
            }
            Event::Dropped { span, .. } => self.dropped(*span)?,
            Event::Redirected { span, .. } => self.redirected(*span)?,
            Event::Resolved { node, .. } => {
                self.unresolved(*node)?;
                demand!(self.node(*node)?.task.each.is_none(), "a map was resolved without items");
                self.nodes[*node as usize].resolved = true;
            }
            Event::Expanded { node, count, .. } => {
                self.unresolved(*node)?;
                demand!(self.node(*node)?.task.each.is_some(), "only maps have items");
                let node = &mut self.nodes[*node as usize];
                node.resolved = true;
                node.map = Some(S::Running);
                node.items = vec![Item::default(); *count as usize];
            }
            Event::Scheduled { span } => self.scheduled(*span)?,
            Event::Started { span, attempt } => self.started(*span, *attempt)?,
            Event::Completed { span, attempt, outputs } => {
                self.completed(*span, *attempt, outputs)?;
            }
            Event::Retrying { task, attempt, failure, due, throttled } => {
                self.retrying(*task, *attempt, failure, (*due, *throttled), now)?;
            }
            Event::RetryDue { task } => {
                let item = self.item_mut(*task)?;
                demand!(item.state == S::Retrying, "{task:?} was not waiting for a retry");
                let due = item.due.unwrap_or_default();
                demand!(due <= now, "{task:?} is due at {due:?}, not at {now:?}");
                let waits = (Some(now), false);
                *item = Item { state: S::Pending, due: None, offered: false, ..item.clone() };
                (item.waits, item.wait_timed) = waits;
            }
            Event::Failed { task, attempt, failure } => {
                if matches!(&*failure.code, "task.queue_timeout" | "task.total_timeout") {
                    return self.overdue(*task, *attempt, failure, now);
                }
                self.failed(*task, *attempt, failure)?;
            }
            Event::Unresolved { node, .. } => {
                self.unresolved(*node)?;
                self.nodes[*node as usize].items[0].state = S::Failed;
            }
            Event::Interrupted { span, attempt, crash, .. } => {
                self.interrupted(*span, *attempt, *crash, now)?;
            }
            Event::Skipped { node, reason } => self.skipped(*node, *reason)?,
            Event::Cancelled { span } => self.cancelled(*span)?,
            Event::Joined { node, state } => self.joined(*node, *state)?,
            Event::Progress { task, attempt, .. } => {
                demand!(self.is_running(*task, *attempt), "progress of {task:?}, not under way");
            }
            Event::Seated => demand!(self.untouched(), "what has begun had its turn already"),
            Event::Steered { from, .. } => {
                demand!(self.cancel.is_none(), "a stopping run took a message");
                demand!(!self.steered.contains(from), "a message was taken twice");
                self.steered.push(*from);
            }
            Event::Merged { from, .. } => {
                demand!(self.untouched() && !self.merged, "what has begun got another input");
                demand!(!from.is_empty(), "merged with nobody");
                self.merged = true;
            }
            Event::Absorbed { into } => {
                demand!(self.untouched(), "what has begun was absorbed");
                self.into = Some(*into);
            }
            Event::Blocking { task, attempt, .. } => {
                demand!(self.is_running(*task, *attempt), "{task:?} blocks, not under way");
            }
            Event::Warned { task, attempt, .. } => {
                demand!(self.is_running(*task, *attempt), "{task:?} warns, not under way");
            }
            Event::Sweeping => {
                let open = self.nodes.iter().position(|node| !node.ended());
                demand!(open.is_none(), "the run sweeps, node {open:?} has not ended");
            }
            Event::Swept { .. } => {}
            Event::CancelRequested { cause, .. } => self.cancel_requested(*cause)?,
            Event::RunEnded { state, .. } => {
                let open = self.nodes.iter().position(|node| !node.ended());
                demand!(open.is_none(), "the run ended, node {open:?} did not");
                let end = self.expected_end();
                demand!(*state == end, "the run ended {state:?}, not {end:?}");
                self.run = *state;
            }
        }
        Ok(())
    }

    fn node(&self, node: NodeIx) -> Verdict<&super::Node> {
        self.nodes.get(node as usize).ok_or_else(|| format!("there is no node {node}"))
    }

    fn span(&mut self, span: Span) -> Verdict<&mut [Item]> {
        demand!(span.len > 0, "an empty span");
        let items = self.nodes.get_mut(span.node as usize).map(|node| &mut node.items[..]);
        items
            .and_then(|items| items.get_mut(span.lo as usize..span.hi() as usize))
            .ok_or_else(|| format!("there is no span {span:?}"))
    }

    fn unresolved(&self, n: NodeIx) -> Verdict {
        let node = self.node(n)?;
        demand!(!node.resolved, "node {n} was resolved twice, or has nothing to resolve");
        demand!(node.state() == S::Pending, "node {n} is {:?}", node.state());
        demand!(self.may_start(n as usize), "node {n} was resolved before its inputs were there");
        demand!(self.cancel.is_none(), "node {n} was resolved in a stopping run");
        Ok(())
    }

    fn scheduled(&mut self, span: Span) -> Verdict {
        let node = self.node(span.node)?;
        demand!(node.resolved, "{span:?} was scheduled unresolved");
        demand!(self.may_start(span.node as usize), "{span:?} was scheduled too early");
        demand!(self.cancel.is_none(), "{span:?} was scheduled in a stopping run");
        for item in self.span(span)? {
            demand!(item.state == S::Pending, "a {:?} task was scheduled: {span:?}", item.state);
            item.state = S::Scheduled;
        }
        Ok(())
    }

    /// A lane had no place, or took it back. Only what has no attempt behind it: a task that had a
    /// place once is never dropped.
    fn dropped(&mut self, span: Span) -> Verdict {
        demand!(self.cancel.is_none(), "{span:?} was dropped in a stopping run");
        demand!(self.may_start(span.node as usize), "{span:?} was dropped too early");
        for item in self.span(span)? {
            let waits = matches!(item.state, S::Pending | S::Scheduled);
            demand!(waits, "a {:?} task was dropped: {span:?}", item.state);
            demand!(item.attempt == 0, "a task was dropped after {} attempts", item.attempt);
            item.dropped = true;
        }
        Ok(())
    }

    fn redirected(&mut self, span: Span) -> Verdict {
        demand!(self.cancel.is_none(), "{span:?} was redirected in a stopping run");
        for item in self.span(span)? {
            demand!(item.state == S::Pending, "a {:?} task was redirected", item.state);
            demand!(item.attempt == 0, "a task was redirected after {} attempts", item.attempt);
        }
        Ok(())
    }

    fn started(&mut self, span: Span, attempt: u32) -> Verdict {
        demand!(self.run == RunState::Running, "{span:?} started in a run that had not");
        demand!(self.may_start(span.node as usize), "{span:?} started too early");
        demand!(self.cancel.is_none(), "{span:?} started in a stopping run");
        for item in self.span(span)? {
            demand!(item.state == S::Scheduled, "a {:?} task started: {span:?}", item.state);
            demand!(attempt == item.attempt + 1, "attempt {attempt} after {}", item.attempt);
            item.state = S::Running;
            item.attempt = attempt;
        }
        Ok(())
    }

    /// The attempt whose outcome comes is the one under way.
    fn under_way(&mut self, task: TaskRef, attempt: u32) -> Verdict<&mut Item> {
        let item = self.item_mut(task)?;
        let is = (item.state, item.attempt);
        demand!(is == (S::Running, attempt), "an outcome of {task:?}/{attempt}, which is {is:?}");
        Ok(item)
    }

    fn completed(&mut self, span: Span, attempt: u32, outputs: &[Payload]) -> Verdict {
        demand!(outputs.len() == span.len as usize, "{} outputs of {span:?}", outputs.len());
        demand!(span.len > 0, "an empty span");
        for (task, output) in span.tasks().zip(outputs) {
            let item = self.under_way(task, attempt)?;
            item.state = S::Completed;
            item.output = Some(output.clone());
        }
        Ok(())
    }

    fn retrying(
        &mut self,
        task: TaskRef,
        attempt: u32,
        failure: &Failure,
        (due, throttled): (Timestamp, bool),
        now: Timestamp,
    ) -> Verdict {
        demand!(self.cancel.is_none(), "{task:?} retries in a stopping run");
        let policy = self.node(task.node)?.task.retry.clone();
        let item = self.under_way(task, attempt)?;
        let asked = throttles(&policy, failure);
        demand!(throttled == asked, "that {task:?} was asked to wait is {asked}: {failure:?}");
        if throttled {
            let pause = failure.retry_after.unwrap_or_default();
            demand!(due == now.plus(pause), "{task:?} asked for {pause} ms, got {due:?}");
            item.state = S::Retrying;
            item.throttled += 1;
            (item.due, item.woken) = (Some(due), false);
            return Ok(());
        }
        demand!(
            item.retried < policy.retries,
            "{task:?} retries more often than {}",
            policy.retries
        );
        demand!(retryable(&policy, failure), "{task:?} retries what is final: {failure:?}");
        let (first, last) = retry_window(&policy, item.retried, failure, now);
        demand!(first <= due && due <= last, "{task:?}: {due:?} is not in {first:?}..={last:?}");
        item.state = S::Retrying;
        item.retried += 1;
        (item.due, item.woken) = (Some(due), false);
        Ok(())
    }

    fn failed(&mut self, task: TaskRef, attempt: u32, failure: &Failure) -> Verdict {
        demand!(self.cancel.is_none(), "{task:?} failed in a stopping run");
        let spec = self.node(task.node)?.task.clone();
        if failure.code == "lane.dropped" {
            let item = self.item_mut(task)?;
            demand!(std::mem::take(&mut item.dropped), "{task:?} failed, no lane dropped it");
            item.state = S::Failed;
            return Ok(());
        }
        let item = self.under_way(task, attempt)?;
        demand!(!throttles(&spec.retry, failure), "{task:?} was asked to wait, and failed");
        let lost = failure.code == "task.interrupted";
        demand!(!lost || spec.delivery == Delivery::AtMostOnce, "{task:?} could be repeated");
        let spent = item.retried >= spec.retry.retries;
        demand!(lost || spent || !retryable(&spec.retry, failure), "{task:?} had retries left");
        item.state = S::Failed;
        Ok(())
    }

    /// A task whose time in the queue, or altogether, is over: not a moment earlier.
    fn overdue(
        &mut self,
        task: TaskRef,
        attempt: u32,
        failure: &Failure,
        now: Timestamp,
    ) -> Verdict {
        demand!(self.cancel.is_none(), "{task:?} failed in a stopping run");
        let node = self.node(task.node)?;
        let (spec, ready) = (node.task.clone(), node.since);
        let item = self.item_mut(task)?;
        let (since, bound, fits) = match &*failure.code {
            "task.queue_timeout" => {
                let waits = matches!(item.state, S::Pending | S::Scheduled);
                (item.waits, spec.queue_timeout_ms, waits)
            }
            _ => (ready, spec.total_timeout_ms, !item.state.is_terminal()),
        };
        demand!(fits, "{task:?} is {:?}, and {}", item.state, failure.code);
        demand!(item.attempt == attempt, "{task:?} has {} attempts", item.attempt);
        let over = since.zip(bound).is_some_and(|(since, bound)| since.plus(bound) <= now);
        demand!(over, "{task:?}: {since:?} and {bound:?} is not over at {now:?}");
        (item.state, item.overdue) = (S::Failed, true);
        Ok(())
    }

    fn interrupted(&mut self, span: Span, attempt: u32, crash: bool, now: Timestamp) -> Verdict {
        demand!(self.cancel.is_none(), "{span:?} goes back to its lane in a stopping run");
        demand!(span.len > 0, "an empty span");
        for task in span.tasks() {
            let item = self.under_way(task, attempt)?;
            item.state = S::Pending;
            item.crashes += u32::from(crash);
            item.offered = false;
            (item.waits, item.wait_timed) = (Some(now), false);
        }
        Ok(())
    }

    fn skipped(&mut self, n: NodeIx, reason: SkipReason) -> Verdict {
        match reason {
            SkipReason::Condition => self.unresolved(n)?,
            SkipReason::Absorbed => {
                demand!(self.into.is_some(), "node {n} was skipped as absorbed");
                demand!(self.node(n)?.state() == S::Pending, "node {n} had begun");
            }
            SkipReason::Upstream => {
                let state = self.node(n)?.state();
                demand!(state == S::Pending, "node {n} was skipped, {state:?}");
                demand!(self.must_skip(n as usize), "node {n} was skipped without reason");
            }
        }
        self.nodes[n as usize].items[0].state = S::Skipped;
        Ok(())
    }

    fn cancelled(&mut self, span: Span) -> Verdict {
        demand!(self.cancel.is_some(), "{span:?} was cancelled, nobody had asked");
        for item in self.span(span)? {
            demand!(!item.state.is_terminal(), "a {:?} task was cancelled", item.state);
            item.state = S::Cancelled;
        }
        Ok(())
    }

    fn joined(&mut self, n: NodeIx, state: TaskState) -> Verdict {
        let node = self.node(n)?;
        demand!(node.map == Some(S::Running), "node {n} was joined as {:?}", node.map);
        let open = node.items.iter().filter(|item| !item.state.is_terminal()).count();
        demand!(open == 0, "node {n} was joined with {open} children under way");
        demand!(state == node.joined(), "node {n} was joined {state:?}, not {:?}", node.joined());
        self.nodes[n as usize].map = Some(state);
        Ok(())
    }

    fn cancel_requested(&mut self, cause: CancelCause) -> Verdict {
        demand!(self.cancel.is_none(), "the run was stopped twice");
        demand!(self.nodes.iter().any(|node| !node.ended()), "stopped when all was done");
        let reason = match cause {
            CancelCause::Asked
            | CancelCause::Killed
            | CancelCause::Deadline
            | CancelCause::Dropped
            | CancelCause::Merge
            | CancelCause::MergeTimeout
            | CancelCause::Unwritable => true,
            CancelCause::Failure => self.fails_fast(),
            CancelCause::Quarantine => self.crashed_too_often(),
        };
        demand!(reason, "stopped for {cause:?}, which is not so");
        self.cancel = Some(cause);
        Ok(())
    }

    pub(super) fn fails_fast(&self) -> bool {
        self.on_failure == goclaw::model::OnFailure::FailFast && self.any_failed()
    }

    /// A fifth crash under one task.
    pub(super) fn crashed_too_often(&self) -> bool {
        self.nodes.iter().any(|node| node.items.iter().any(|item| item.crashes >= 5))
    }
}
