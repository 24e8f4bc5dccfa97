//! Why a run, or a task of it, is not running. Looks at this run, its lanes and what is out: never at
//! other runs.

use super::session::Seat;
use super::{Owner, Slot};
use crate::engine::explain::{Explanation, SessionPlace, Standing, TaskPlace, Why};
use crate::engine::refusal;
use crate::engine::waits::Waiter;
use crate::model::{NodeIx, Result, RunId, Span, Style, Task, TaskRef};

/// Tasks that the explanation of a whole run tells about; of more it tells the number.
const TASKS_MAX: usize = 20;
/// Tasks that one task waits for that are named; of more it tells the number.
const NAMES_MAX: usize = 20;
/// Places in lanes, and names of running children, that are told of one map.
const PLACES_MAX: usize = 5;
/// Children of a map that are looked at one by one.
const CHILDREN_MAX: u32 = 10_000;

impl Owner {
    pub(super) fn explained(&self, run: RunId, task: Option<&str>) -> Result<Option<Explanation>> {
        let Some(slot) = self.runs.get(&run) else { return Ok(None) };
        let (tasks, more) = match task {
            Some(id) => {
                let asked = named(slot, id).ok_or_else(|| refusal::unknown_task(run, id))?;
                (vec![self.place(slot, asked)], 0)
            }
            None => self.open_tasks(slot),
        };
        Ok(Some(Explanation {
            run,
            state: slot.cell.state(),
            at: self.now,
            reason: slot.run.reason().map(str::to_owned),
            stopping: slot.run.stop().map(|(reason, since)| (reason.to_owned(), since)),
            closing: self.closing.is_some(),
            stalled: self.staged.stall().map(|error| error.message.clone()),
            session: self.session_place(slot),
            tasks,
            more,
        }))
    }

    fn session_place(&self, slot: &Slot) -> Option<SessionPlace> {
        let (key, run) = (slot.run.submitted().session.as_ref()?, slot.run.id());
        Some(SessionPlace {
            key: key.clone(),
            standing: match slot.seat {
                Seat::Free => Standing::Holds,
                Seat::Waiting => Standing::Waits,
                Seat::Parked => Standing::Parked,
            },
            holder: self.sessions.holder(key),
            ahead: self.sessions.ahead(key, run),
        })
    }

    /// The open tasks that do not merely wait for others, and how many more are open.
    fn open_tasks(&self, slot: &Slot) -> (Vec<TaskPlace>, usize) {
        let run = &slot.run;
        let mut open = 0;
        let mut told = Vec::new();
        for node in 0..run.plan().nodes.len() as NodeIx {
            if run.node_state(node).is_terminal() {
                continue;
            }
            open += 1;
            if told.len() < TASKS_MAX && waits_for(slot, node).next().is_none() {
                told.push(self.place(slot, Asked { node, child: None }));
            }
        }
        let more = open - told.len();
        (told, more)
    }

    fn place(&self, slot: &Slot, asked: Asked) -> TaskPlace {
        let (run, node) = (&slot.run, asked.node);
        let task = run.plan().task(node);
        let state = asked.child.and_then(|index| run.task_state(TaskRef { node, index }));
        let state = state.unwrap_or_else(|| run.node_state(node));
        let why = if state.is_terminal() {
            let index = asked.child.unwrap_or(0);
            let failure = run.failure_of(TaskRef { node, index });
            vec![Why::Ended { error: failure.map(|failure| failure.message.clone()) }]
        } else if waits_for(slot, node).next().is_some() {
            let names: Vec<String> = waits_for(slot, node).take(NAMES_MAX).collect();
            let more = waits_for(slot, node).count() - names.len();
            vec![Why::Tasks { names, more }]
        } else {
            self.reasons(slot, task, &asked)
        };
        let children = run.children(node).filter(|_| asked.child.is_none()).map(|count| {
            let ended = |index: &u32| {
                let state = run.task_state(TaskRef { node, index: *index });
                state.is_some_and(|state| state.is_terminal())
            };
            (count, (0..count.min(CHILDREN_MAX)).filter(ended).count() as u32)
        });
        TaskPlace {
            task: match asked.child {
                Some(index) => format!("{}[{index}]", task.id),
                None => task.id.clone(),
            },
            agent: task.agent.clone(),
            lane: task.lane.clone(),
            state,
            children,
            why,
        }
    }

    /// What a task that waits for nobody is up to.
    fn reasons(&self, slot: &Slot, task: &Task, asked: &Asked) -> Vec<Why> {
        let run = slot.run.id();
        let mut why: Vec<Why> = self.under_way(run, asked).into_iter().collect();
        let places = self.lanes.whereabouts(run, asked.node);
        for place in places.into_iter().filter(|p| asked.overlaps(p.span)).take(PLACES_MAX) {
            let Some(lane) = self.lanes.index(&place.lane) else { continue };
            let style = self.executor.style(&task.agent, task.isolation);
            let (running, spec) = (self.lanes.lane(lane).running(), self.lanes.lane(lane).spec());
            let concurrency = spec.concurrency;
            let held = style == Some(Style::Thread) && self.stuck.holds(lane);
            let free = style.filter(|_| !held).map_or(0, |style| self.lanes.free(lane, style));
            why.push(Why::Queued { place, running, concurrency, free, held });
        }
        why.extend(retry(slot, asked));
        if self.parked.of_run(run).any(|entry| asked.overlaps(entry.span)) {
            let has_agent = self.executor.style(&task.agent, task.isolation).is_some();
            why.push(if has_agent { Why::Lane } else { Why::Agent });
        }
        if why.is_empty() {
            let resolved = slot.run.is_resolved(asked.node);
            why.push(match slot.seat {
                Seat::Waiting | Seat::Parked => Why::Session,
                Seat::Free if resolved => Why::Journal,
                Seat::Free => Why::Resolving,
            });
        }
        why
    }

    fn under_way(&self, run: RunId, asked: &Asked) -> Option<Why> {
        let mut found: Option<Why> = None;
        let mut who = Vec::new();
        for flight in self.flights.out_of(run) {
            let batch = flight.batch();
            let running = self.still_running(batch);
            let children = || running.iter().flat_map(|span| span.lo..span.hi());
            let meant = || children().filter(|&child| asked.means(batch.span.node, child));
            let own = meant().count() as u32;
            if own == 0 {
                continue;
            }
            let waits = meant().filter(|child| flight.lent.contains_key(child)).count() as u32;
            let own_of = |(id, child): &&_| *id == batch.id && asked.means(batch.span.node, *child);
            let back = self.returning.iter().filter(own_of).count();
            let Why::Running { calls, since, lent, returning, awaits, told, .. } = found
                .get_or_insert_with(|| Why::Running {
                    calls: 0,
                    attempt: batch.attempt,
                    since: flight.since(),
                    style: batch.style,
                    timeout_ms: batch.timeout,
                    lent: 0,
                    returning: 0,
                    awaits: Vec::new(),
                    told: None,
                    names: Vec::new(),
                })
            else {
                continue;
            };
            *calls += own;
            *lent += waits;
            *returning += back as u32;
            let own_wait =
                |by: &Waiter| by.batch == batch.id && asked.means(batch.span.node, by.child);
            let own_waits = self.waits.of(run).filter(|(by, _)| own_wait(by)).map(|(_, on)| on);
            for on in own_waits {
                if awaits.len() < PLACES_MAX && !awaits.contains(&on) {
                    awaits.push(on);
                }
            }
            *since = (*since).min(flight.since());
            // Those that were told first are given up first.
            *told = [*told, flight.told].into_iter().flatten().min_by_key(|told| told.until);
            who.extend(meant().map(|child| (child, batch)));
        }
        if let Some(Why::Running { names, .. }) = &mut found {
            who.sort_unstable_by_key(|(child, _)| *child);
            names.extend(who.iter().take(PLACES_MAX).map(|(child, batch)| batch.name(*child)));
        }
        found
    }
}

/// The task that is asked about: a node, or one child of a map.
struct Asked {
    node: NodeIx,
    child: Option<u32>,
}

impl Asked {
    fn means(&self, node: NodeIx, child: u32) -> bool {
        node == self.node && self.child.is_none_or(|asked| asked == child)
    }

    fn overlaps(&self, span: Span) -> bool {
        let child = self.child;
        span.node == self.node && child.is_none_or(|at| span.lo <= at && at < span.hi())
    }
}

/// The task of that name: `id`, or `id[3]` for a child of a map.
fn named(slot: &Slot, id: &str) -> Option<Asked> {
    let plan = slot.run.plan();
    if let Some(node) = plan.node(id) {
        return Some(Asked { node, child: None });
    }
    let (base, index) = id.strip_suffix(']')?.rsplit_once('[')?;
    let (node, index) = (plan.node(base)?, index.parse().ok()?);
    (index < slot.run.children(node)?).then_some(Asked { node, child: Some(index) })
}

/// Ids of the tasks that a node still waits for.
fn waits_for(slot: &Slot, node: NodeIx) -> impl Iterator<Item = String> + '_ {
    let plan = slot.run.plan();
    let open = |dep: &&NodeIx| !slot.run.node_state(**dep).is_terminal();
    plan.nodes[node as usize].deps.iter().filter(open).map(|&dep| plan.task(dep).id.clone())
}

/// The next retry of a task, or of the children of a map.
fn retry(slot: &Slot, asked: &Asked) -> Option<Why> {
    let count = slot.run.children(asked.node).unwrap_or(1).min(CHILDREN_MAX);
    let children = asked.child.map_or(0..count, |index| index..index + 1);
    let due = |index| {
        let task = TaskRef { node: asked.node, index };
        slot.run.retry_due(task).map(|due| (due, task))
    };
    let (due, task) = children.filter_map(due).min_by_key(|(due, _)| *due)?;
    let error = slot.run.failure_of(task).map(|failure| failure.message.clone());
    Some(Why::Retry { due, error })
}
