//! Calls that were given up and have not come back: counted, bounded by lane, shown.
//!
//! A thread cannot be killed. When its call is given up the permit goes back and another thread may
//! take its place, so a lane whose agents hang would gather threads for ever. With
//! `stuck_threads_max` of them it starts no more, until some come back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Owner;
use crate::agent::Batch;
use crate::engine::health::{Beat, Held, Pulse, StuckCall};
use crate::model::{BatchId, RunId, Span, Style, TaskRef, Timestamp};

struct Stuck {
    batch: Arc<Batch>,
    lane: usize,
    since: Timestamp,
}

pub(super) struct StuckCalls {
    /// By batch and child.
    calls: HashMap<(BatchId, u32), Stuck>,
    /// Threads by lane; none is 0.
    threads: HashMap<usize, u32>,
    threads_max: u32,
}

impl StuckCalls {
    pub(super) fn new(threads_max: u32) -> Self {
        Self { calls: HashMap::new(), threads: HashMap::new(), threads_max }
    }

    /// How many of a kind may be stuck before nothing of the kind is started any more.
    pub(super) fn most(&self) -> u32 {
        self.threads_max
    }

    /// True where a lane may start no more threads.
    pub(super) fn holds(&self, lane: usize) -> bool {
        self.threads.get(&lane).is_some_and(|&stuck| stuck >= self.threads_max)
    }

    fn threads(&self) -> u64 {
        self.threads.values().map(|&stuck| u64::from(stuck)).sum()
    }

    /// True where this thread is one too many for its lane.
    fn insert(&mut self, batch: &Arc<Batch>, child: u32, lane: usize, since: Timestamp) -> bool {
        let stuck = Stuck { batch: Arc::clone(batch), lane, since };
        if self.calls.insert((batch.id, child), stuck).is_some() || batch.style != Style::Thread {
            return false;
        }
        let threads = self.threads.entry(lane).or_default();
        *threads += 1;
        *threads == self.threads_max
    }

    fn remove(&mut self, batch: BatchId, child: u32) {
        let Some(stuck) = self.calls.remove(&(batch, child)) else { return };
        if stuck.batch.style == Style::Thread
            && let Some(threads) = self.threads.get_mut(&stuck.lane)
        {
            *threads -= 1;
            if *threads == 0 {
                self.threads.remove(&stuck.lane);
            }
        }
    }
}

impl Owner {
    /// Stops calls that count no more as well as they can be stopped, and keeps count of those that
    /// are `out` and have begun. A worker process is killed, and cannot be stuck.
    pub(super) fn leave_behind(&mut self, batch: &Arc<Batch>, span: Span, out: &[Span]) {
        self.executor.abandon(batch, span);
        let lane = match self.flights.get(batch.id) {
            Some(flight) => Some(flight.lane),
            None => self.lanes.index(&batch.call.plan.task(batch.span.node).lane),
        };
        let Some(lane) = lane else { return };
        let under_way: Vec<u32> = match batch.style {
            Style::Process => Vec::new(),
            Style::Thread => batch.under_way().map(|(child, _)| child).into_iter().collect(),
            Style::Loop => {
                let out = out.iter().flat_map(|span| span.lo..span.hi());
                out.filter(|&child| batch.has_begun(child)).collect()
            }
        };
        for child in under_way {
            if self.stuck.insert(batch, child, lane, self.now) {
                let (name, most) = (&self.lanes.lane(lane).spec().name, self.stuck.threads_max);
                tracing::error!(
                    target: "goclaw.health", agent = %batch.call.plan.task(batch.span.node).agent,
                    "lane `{name}` starts no more threads: {most} of its threads do not come back",
                );
            }
        }
        self.stats.threads_stuck.store(self.stuck.threads(), Ordering::Relaxed);
    }

    /// Outcomes came: calls that were given up have come back after all.
    pub(super) fn came_back(&mut self, id: BatchId, lo: u32, n: u32) {
        if !self.stuck.calls.is_empty() {
            (lo..lo + n).for_each(|child| self.stuck.remove(id, child));
            self.stats.threads_stuck.store(self.stuck.threads(), Ordering::Relaxed);
        }
    }

    /// How the engine is.
    pub(super) fn pulse(&self) -> Pulse {
        let lane_name = |lane: usize| self.lanes.lane(lane).spec().name.clone();
        let mut stuck: Vec<StuckCall> = self
            .stuck
            .calls
            .iter()
            .map(|((_, child), stuck)| StuckCall {
                run: stuck.batch.call.run,
                task: stuck.batch.name(*child),
                agent: stuck.batch.call.plan.task(stuck.batch.span.node).agent.as_str().into(),
                lane: lane_name(stuck.lane),
                style: stuck.batch.style,
                since: stuck.since,
            })
            .collect();
        stuck.sort_by(|a, b| (a.since, &a.task).cmp(&(b.since, &b.task)));
        let held = self.stuck.threads.iter().filter(|&(&lane, _)| self.stuck.holds(lane));
        Pulse {
            store: self.staged.stall().cloned(),
            stuck,
            merges: self.merges.seen(),
            held: held.map(|(&lane, &stuck)| Held { lane: lane_name(lane), stuck }).collect(),
            paused: self.lanes.paused().map(str::to_owned).collect(),
            missing_agents: self.missing().agents,
            incompatible: self.incompatible.len(),
            runs: self.runs.len(),
            closing: self.closing.is_some(),
        }
    }

    /// Heartbeats of a run's calls under way.
    pub(super) fn beats(&self, run: RunId) -> Vec<Beat> {
        let mut beats = Vec::new();
        for batch in self.flights.of(run) {
            let tasks = self.still_running(batch).into_iter().flat_map(Span::tasks);
            beats.extend(tasks.filter_map(|task: TaskRef| {
                let ago = batch.silent_for(task.index)?;
                Some(Beat { task, ago, details: batch.details(task.index) })
            }));
        }
        beats
    }
}
