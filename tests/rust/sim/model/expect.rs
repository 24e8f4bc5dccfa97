//! What an input must cause, and that nothing else happens.

use goclaw::model::{
    CancelCause, Delivery, Event, Payload, SkipReason, Span, TaskRef, TaskState as S, Timestamp,
};
use goclaw::run::{Input, Outcome, Resolution, Turn};

use super::{Model, Verdict, demand};

/// What an input does at first hand. Skips, joins, stops and ends are consequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Tag {
    Scheduled,
    Redirected,
    Started,
    Completed,
    /// Repeated or failed: `observe` knows which of the two is right.
    Failure,
    Failed,
    Cancelled,
    Interrupted(bool),
    Due,
    Resolved,
    Expanded(u32),
    Condition,
    Unresolved,
    Progress,
    Blocking,
}

#[derive(Debug, Default)]
pub struct Expected {
    tasks: Vec<(TaskRef, Tag)>,
    stop: Option<CancelCause>,
    grows: bool,
    /// It has to do with other runs of its session.
    talks: bool,
    late: u64,
    outputs: Vec<(TaskRef, Payload)>,
}

impl Model {
    pub fn expect(&self, input: &Input, now: Timestamp) -> Expected {
        let mut expected = Expected::default();
        if let Input::Done { span, attempt, outcomes } = input {
            self.expect_outcomes(*span, *attempt, outcomes, &mut expected);
        }
        if self.ended() {
            return expected;
        }
        match input {
            Input::Grow { .. } => expected.grows = self.cancel.is_none(),
            Input::Cancel { .. } if self.cancel.is_none() => {
                expected.stop = Some(CancelCause::Asked);
            }
            Input::Stop { cause, .. } if self.cancel.is_none() => expected.stop = Some(*cause),
            Input::Steered { from, .. } => {
                expected.talks = self.cancel.is_none() && !self.steered.contains(from);
            }
            Input::Merged { from, .. } => {
                expected.talks = self.untouched() && !self.merged && !from.is_empty();
            }
            Input::Absorb { .. } => expected.talks = self.untouched(),
            Input::Unwritable { .. } if self.cancel.is_none() => {
                expected.stop = Some(CancelCause::Unwritable);
            }
            Input::Kill { .. } if self.cancel.is_none() => {
                expected.stop = Some(CancelCause::Killed);
            }
            Input::Deadline if self.cancel.is_none() => expected.stop = Some(CancelCause::Deadline),
            _ => expected.tasks.extend(self.expect_tasks(input, now)),
        }
        expected
    }

    fn expect_outcomes(&self, span: Span, attempt: u32, outcomes: &[Outcome], to: &mut Expected) {
        let stopping = self.cancel.is_some();
        for (task, outcome) in span.tasks().zip(outcomes) {
            let tag = match outcome {
                Outcome::Completed(_) => Tag::Completed,
                _ if stopping => Tag::Cancelled,
                Outcome::Returned => Tag::Interrupted(false),
                Outcome::Interrupted | Outcome::Crashed(_) if self.is_once(span) => Tag::Failed,
                Outcome::Interrupted => Tag::Interrupted(false),
                Outcome::Crashed(_) => Tag::Interrupted(true),
                Outcome::Failed(_) => Tag::Failure,
                // Nobody had asked.
                Outcome::Cancelled => Tag::Failed,
            };
            if !self.is_running(task, attempt) {
                to.late += 1;
                continue;
            }
            to.tasks.push((task, tag));
            if let Outcome::Completed(output) = outcome {
                to.outputs.push((task, output.clone()));
            }
        }
    }

    fn is_once(&self, span: Span) -> bool {
        let node = self.nodes.get(span.node as usize);
        node.is_some_and(|node| node.task.delivery == Delivery::AtMostOnce)
    }

    fn expect_tasks(&self, input: &Input, now: Timestamp) -> Vec<(TaskRef, Tag)> {
        let stopping = self.cancel.is_some();
        let all = |span: Span, tag| span.tasks().map(|task| (task, tag)).collect::<Vec<_>>();
        let whole = |span: Span, fits: &dyn Fn(TaskRef) -> bool, tag| {
            if span.len > 0 && span.tasks().all(fits) { all(span, tag) } else { vec![] }
        };
        let is = |task, state| self.item(task).is_some_and(|item| item.state == state);
        match input {
            Input::Admitted { span } => {
                let node = span.node as usize;
                let ready =
                    self.nodes.get(node).is_some_and(|n| n.resolved) && self.may_start(node);
                whole(*span, &|task| ready && is(task, S::Pending), Tag::Scheduled)
            }
            Input::Redirected { span, .. } => {
                let node = span.node as usize;
                let ready =
                    self.nodes.get(node).is_some_and(|n| n.resolved) && self.may_start(node);
                whole(*span, &|task| ready && is(task, S::Pending), Tag::Redirected)
            }
            Input::Dropped { span, .. } => {
                let node = span.node as usize;
                let ready =
                    self.nodes.get(node).is_some_and(|n| n.resolved) && self.may_start(node);
                let waits = whole(*span, &|task| ready && is(task, S::Pending), Tag::Failed);
                let placed = whole(*span, &|task| is(task, S::Scheduled), Tag::Failed);
                if waits.is_empty() { placed } else { waits }
            }
            Input::Claimed { span } => whole(*span, &|task| is(task, S::Scheduled), Tag::Started),
            Input::TimedOut { task, attempt, .. } | Input::Silent { task, attempt, .. }
                if self.is_running(*task, *attempt) =>
            {
                vec![(*task, if stopping { Tag::Cancelled } else { Tag::Failure })]
            }
            Input::TakenBack { span, attempt } => {
                let tag = if stopping { Tag::Cancelled } else { Tag::Interrupted(false) };
                whole(*span, &|task| self.is_running(task, *attempt), tag)
            }
            Input::Lost { span, attempt, crash } => {
                let tag = match stopping {
                    true => Tag::Cancelled,
                    false if self.is_once(*span) => Tag::Failed,
                    false => Tag::Interrupted(*crash),
                };
                whole(*span, &|task| self.is_running(task, *attempt), tag)
            }
            // A timer of an earlier retry comes too early for this one.
            Input::RetryDue { task } if is(*task, S::Retrying) => {
                let due = self.item(*task).and_then(|item| item.due);
                let over = due.is_some_and(|due| due <= now);
                if over { vec![(*task, Tag::Due)] } else { vec![] }
            }
            Input::Progress { task, attempt, .. } if self.is_running(*task, *attempt) => {
                vec![(*task, Tag::Progress)]
            }
            Input::Blocking { task, attempt, .. } if self.is_running(*task, *attempt) => {
                vec![(*task, Tag::Blocking)]
            }
            Input::QueueOver { span } if !stopping => self.expect_queue_over(*span, now),
            Input::TotalOver { node } if !stopping => self.expect_total_over(*node, now),
            Input::Resolved { node, resolution } => self.expect_resolved(*node, resolution),
            _ => Vec::new(),
        }
    }

    fn expect_queue_over(&self, span: Span, now: Timestamp) -> Vec<(TaskRef, Tag)> {
        if span.tasks().any(|task| self.item(task).is_none()) {
            return vec![];
        }
        let bound = self.nodes.get(span.node as usize).and_then(|n| n.task.queue_timeout_ms);
        let over = |task: &TaskRef| {
            let item = self.item(*task).expect("just asked");
            let waits = matches!(item.state, S::Pending | S::Scheduled);
            let until = item.waits.zip(bound).map(|(since, bound)| since.plus(bound));
            waits && until.is_some_and(|until| until <= now)
        };
        span.tasks().filter(over).map(|task| (task, Tag::Failed)).collect()
    }

    fn expect_total_over(&self, node: u32, now: Timestamp) -> Vec<(TaskRef, Tag)> {
        let Some(of) = self.nodes.get(node as usize) else { return vec![] };
        let until = of.since.zip(of.task.total_timeout_ms).map(|(since, ms)| since.plus(ms));
        if until.is_none_or(|until| until > now) {
            return vec![];
        }
        let left = (0..).zip(&of.items).filter(|(_, item)| !item.state.is_terminal());
        left.map(|(index, _)| (TaskRef { node, index }, Tag::Failed)).collect()
    }

    fn expect_resolved(&self, node: u32, resolution: &Resolution) -> Vec<(TaskRef, Tag)> {
        let n = node as usize;
        let Some(waits) = self.nodes.get(n) else { return vec![] };
        if waits.resolved || waits.state() != S::Pending || !self.may_start(n) {
            return vec![];
        }
        let tag = match resolution {
            Resolution::Go { .. } => Tag::Resolved,
            Resolution::Skip => Tag::Condition,
            Resolution::Items { count, .. } => Tag::Expanded(*count),
            Resolution::Failed(_) => Tag::Unresolved,
        };
        vec![(TaskRef { node, index: 0 }, tag)]
    }
}

impl Expected {
    /// True where the input must change nothing.
    pub fn nothing(&self) -> bool {
        self.tasks.is_empty() && self.stop.is_none() && !self.grows && !self.talks
    }

    /// Every expected outcome is there, and nothing that the input did not cause.
    pub fn met(&self, turn: &Turn) -> Verdict {
        demand!(turn.late == self.late, "{} late results, not {}", turn.late, self.late);
        let empty = turn.events.is_empty() && turn.effects.is_empty();
        demand!(empty || !self.nothing(), "an input that does not fit caused {:?}", turn.events);
        let mut seen: Vec<(TaskRef, Tag)> = Vec::new();
        for (task, tag) in turn.events.iter().flat_map(tags) {
            // Later events on the same task, and cancellations of tasks that wait, are consequences.
            let first = seen.iter().all(|(other, _)| *other != task);
            let wanted = self.tasks.iter().any(|(other, _)| *other == task);
            if (first && wanted) || tag != Tag::Cancelled {
                seen.push((task, tag));
            }
        }
        seen.sort_unstable();
        let mut wanted = self.tasks.clone();
        wanted.sort_unstable_by_key(|(task, _)| *task);
        let fits = |((a, want), (b, got)): (&(TaskRef, Tag), &(TaskRef, Tag))| {
            a == b && (want == got || (*want == Tag::Failure && *got == Tag::Failed))
        };
        let all = wanted.len() == seen.len() && wanted.iter().zip(&seen).all(fits);
        demand!(all, "the input must cause {wanted:?}, it caused {seen:?}");
        let mut outputs = Vec::new();
        for event in &turn.events {
            if let Event::Completed { span, outputs: of, .. } = event {
                outputs.extend(span.tasks().zip(of.iter().cloned()));
            }
        }
        demand!(outputs == self.outputs, "the outputs are not those that were reported");
        self.met_by_run(turn)
    }

    fn met_by_run(&self, turn: &Turn) -> Verdict {
        let cause = turn.events.iter().find_map(|event| match event {
            Event::CancelRequested { cause, .. } => Some(*cause),
            _ => None,
        });
        let by_itself =
            |c: &CancelCause| matches!(c, CancelCause::Failure | CancelCause::Quarantine);
        let by_hand = cause.filter(|c| !by_itself(c));
        let talk = |event: &&Event| {
            matches!(event, Event::Steered { .. } | Event::Merged { .. } | Event::Absorbed { .. })
        };
        let talks = turn.events.iter().filter(talk).count();
        demand!(talks == usize::from(self.talks), "{talks} events of its session");
        demand!(by_hand == self.stop, "stopped for {by_hand:?}, not for {:?}", self.stop);
        let grown = turn.events.iter().any(|event| matches!(event, Event::Grown(_)));
        demand!(grown == self.grows, "grown is {grown}");
        let starts = turn.events.iter().any(|event| matches!(event, Event::RunStarted));
        let claimed = self.tasks.iter().any(|(_, tag)| *tag == Tag::Started);
        demand!(claimed || !starts, "the run started by itself");
        Ok(())
    }
}

/// The tasks that an event is about, and what became of them.
fn tags(event: &Event) -> Vec<(TaskRef, Tag)> {
    let all = |span: &Span, tag| span.tasks().map(|task| (task, tag)).collect();
    let one = |task: &TaskRef, tag| vec![(*task, tag)];
    let node = |node: &u32, tag| vec![(TaskRef { node: *node, index: 0 }, tag)];
    match event {
        Event::Scheduled { span } => all(span, Tag::Scheduled),
        Event::Redirected { span, .. } => all(span, Tag::Redirected),
        Event::Started { span, .. } => all(span, Tag::Started),
        Event::Completed { span, .. } => all(span, Tag::Completed),
        Event::Cancelled { span } => all(span, Tag::Cancelled),
        Event::Interrupted { span, crash, .. } => all(span, Tag::Interrupted(*crash)),
        Event::Retrying { task, .. } => one(task, Tag::Failure),
        Event::Failed { task, .. } => one(task, Tag::Failed),
        Event::RetryDue { task } => one(task, Tag::Due),
        Event::Progress { task, .. } => one(task, Tag::Progress),
        Event::Blocking { task, .. } => one(task, Tag::Blocking),
        Event::Resolved { node: n, .. } => node(n, Tag::Resolved),
        Event::Expanded { node: n, count, .. } => node(n, Tag::Expanded(*count)),
        Event::Unresolved { node: n, .. } => node(n, Tag::Unresolved),
        Event::Skipped { node: n, reason: SkipReason::Condition } => node(n, Tag::Condition),
        _ => Vec::new(),
    }
}
