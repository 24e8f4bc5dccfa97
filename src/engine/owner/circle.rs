//! Agents that wait, and what they wait for: a wait that would close a circle is refused.
//!
//! A run ends when its calls have ended, and begins when the run that has its session ends; an agent
//! waits for runs, or until a lane is quiet. What waits for itself along these would wait for ever.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::sync::Arc;

use super::Owner;
use crate::engine::waits::{Refusal, Waiter};
use crate::model::{Admission, BatchId, Error, RunId, TaskRef};

/// Runs and lanes that are looked at to find a circle; in a longer one its agents wait.
const GOALS_MAX: usize = 10_000;
/// Links of a circle that a refusal tells.
const LINKS_TOLD_MAX: usize = 8;

/// What somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Goal {
    Run(RunId),
    Lane(usize),
}

/// A goal on the way round, the one that leads to it, and the session that does.
struct Step {
    goal: Goal,
    from: usize,
    session: Option<Arc<str>>,
}

/// Agents that wait for runs, and how often: several tasks of one may wait for the same run.
#[derive(Default)]
pub(super) struct Waits(BTreeMap<(Waiter, RunId), u32>);

impl Waits {
    fn add(&mut self, by: Waiter, on: RunId) {
        *self.0.entry((by, on)).or_default() += 1;
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn remove(&mut self, by: Waiter, on: RunId) {
        if let Some(n) = self.0.get_mut(&(by, on)) {
            *n -= 1;
            if *n == 0 {
                self.0.remove(&(by, on));
            }
        }
    }

    /// Forgets what calls of a batch from `lo` up to `hi` wait for: they hold nobody up any more.
    pub(super) fn forget(&mut self, run: RunId, batch: BatchId, lo: u32, hi: u32) {
        if self.0.is_empty() {
            return;
        }
        let from = |child| (Waiter { run, batch, child }, RunId::from_u128(0));
        let gone: Vec<_> = self.0.range(from(lo)..from(hi)).map(|(key, _)| *key).collect();
        gone.iter().for_each(|key| _ = self.0.remove(key));
    }

    /// Who waits in a run, and for what.
    pub(super) fn of(&self, run: RunId) -> impl Iterator<Item = (Waiter, RunId)> {
        let first = Waiter { run, batch: BatchId(0), child: 0 };
        let from = self.0.range((first, RunId::from_u128(0))..);
        from.map(|(key, _)| *key).take_while(move |(by, _)| by.run == run)
    }
}

impl Owner {
    /// An agent is about to wait for a run.
    pub(super) fn awaits(&mut self, by: Waiter, on: RunId, refusal: &Refusal) {
        // What an agent left behind may wait on when its call has ended, and holds nobody up.
        if self.is_under_way(by) {
            match self.refused_wait(by, Goal::Run(on)) {
                Some(error) => refusal.refuse(error),
                None => self.waits.add(by, on),
            }
        }
    }

    pub(super) fn is_under_way(&self, by: Waiter) -> bool {
        let Some(flight) = self.flights.get(by.batch) else { return false };
        let task = TaskRef { node: flight.batch.span.node, index: by.child };
        let run = self.runs.get(&by.run).map(|slot| &slot.run);
        !flight.has_given_up(by.child)
            && run.is_some_and(|run| run.is_running(task, flight.batch.attempt))
    }

    /// Why a call that waits for `goal` would wait for itself, if it would.
    pub(super) fn refused_wait(&self, by: Waiter, goal: Goal) -> Option<Error> {
        let mut way = vec![Step { goal, from: 0, session: None }];
        let mut seen = HashSet::from([goal]);
        let mut at = 0;
        while at < way.len().min(GOALS_MAX) {
            let goal = way[at].goal;
            if self.is_part(by, goal) {
                return Some(self.would_wait_for_itself(by, &way, at));
            }
            for (next, session) in self.goals_of(goal) {
                if seen.insert(next) {
                    way.push(Step { goal: next, from: at, session });
                }
            }
            at += 1;
        }
        None
    }

    /// True for a call that the goal is not reached without.
    fn is_part(&self, by: Waiter, goal: Goal) -> bool {
        match goal {
            Goal::Run(run) => by.run == run,
            Goal::Lane(lane) => self.flights.get(by.batch).is_some_and(|own| own.lane == lane),
        }
    }

    /// What must be over before a goal is reached.
    fn goals_of(&self, goal: Goal) -> Vec<(Goal, Option<Arc<str>>)> {
        // A run that is being stopped ends whatever it waits for.
        if let Goal::Run(run) = goal
            && self.runs.get(&run).is_some_and(|slot| slot.run.is_cancelling())
        {
            return Vec::new();
        }
        let is_part = |by: &Waiter| self.is_part(*by, goal);
        let drains = self.drains.iter().filter(|drain| {
            drain.by.as_ref().is_some_and(|by| is_part(by) && self.is_under_way(*by))
        });
        let mut goals: Vec<_> = drains.map(|drain| (Goal::Lane(drain.lane), None)).collect();
        match goal {
            Goal::Run(run) => {
                goals
                    .extend(self.session_before(run).map(|(run, key)| (Goal::Run(run), Some(key))));
                goals.extend(self.waits.of(run).map(|(_, on)| (Goal::Run(on), None)));
            }
            Goal::Lane(_) => {
                let all = self.waits.0.keys().filter(|(by, _)| is_part(by));
                goals.extend(all.map(|(_, on)| (Goal::Run(*on), None)));
            }
        }
        goals
    }

    /// The run that has the session which a run waits for.
    fn session_before(&self, run: RunId) -> Option<(RunId, Arc<str>)> {
        let slot = self.runs.get(&run).filter(|slot| slot.seat.holds_back())?;
        let submitted = slot.run.submitted();
        // A message that was put before the session's run may be read by another agent of it.
        if submitted.conduct.admission == Admission::Steered {
            return None;
        }
        let key = submitted.session.clone()?;
        Some((self.sessions.holder(&key)?, key))
    }

    /// The refusal, with the way round that ends at `end`.
    fn would_wait_for_itself(&self, by: Waiter, way: &[Step], end: usize) -> Error {
        let mut steps = vec![&way[end]];
        let mut at = end;
        while at != 0 {
            at = way[at].from;
            steps.push(&way[at]);
        }
        steps.reverse();
        let by_session = steps.iter().any(|step| step.session.is_some());
        let by_lane = steps.iter().any(|step| matches!(step.goal, Goal::Lane(_)));
        let (code, help) = match (by_session, by_lane) {
            (true, _) => (
                "engine.own_session",
                "submit it without waiting for it, or without a session, or under a key of its own",
            ),
            (_, true) => {
                ("engine.own_lane", "call lane.pause(), or drain it from outside of agents")
            }
            _ => ("engine.own_run", "let whoever submitted both runs wait for them"),
        };
        let mut said = format!("an agent of run `{}` would wait for itself: it waits ", by.run);
        said.push_str(&self.named(way[0].goal));
        for pair in steps.windows(2).take(LINKS_TOLD_MAX) {
            let (from, to) = (pair[0], pair[1]);
            let _ = match (&to.session, from.goal, to.goal) {
                (Some(key), _, Goal::Run(holder)) => {
                    write!(said, ", which waits for session `{key}`, which run `{holder}` holds")
                }
                (_, Goal::Lane(_), goal) => {
                    write!(said, ", where an agent waits {}", self.named(goal))
                }
                (_, _, goal) => write!(said, ", of which an agent waits {}", self.named(goal)),
            };
        }
        if steps.len() > LINKS_TOLD_MAX + 1 {
            said.push_str(", and so on");
        }
        Error::new(code, said, help)
    }

    fn named(&self, goal: Goal) -> String {
        match goal {
            Goal::Run(run) => format!("for run `{run}`"),
            Goal::Lane(lane) => {
                let name = &self.lanes.lane(lane).spec().name;
                format!("until nothing of lane `{name}` runs")
            }
        }
    }
}
