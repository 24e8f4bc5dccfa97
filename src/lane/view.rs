//! What users see of a lane.

use super::Entry;
use super::named::{Lane, STYLES};
use crate::model::{Millis, NodeIx, OnFull, Priority, Rate, RunId, Span, Timestamp};

/// A lane as users see it.
///
/// `offered = accepted + redirected + dropped + backlog` at any moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    pub name: String,
    pub concurrency: u32,
    pub threads: Option<u32>,
    pub capacity: u32,
    pub timeout_ms: Option<Millis>,
    pub on_full: OnFull,
    pub rate: Option<Rate>,
    pub fair: bool,
    pub running: u32,
    /// Agents that wait for a run of their own, and have lent their slot.
    pub lent: u32,
    pub queued: u64,
    /// Ready tasks of accepted runs that wait for room in the queue.
    pub backlog: u64,
    pub paused: bool,
    /// Nothing is granted before: an agent asked for a pause.
    pub held_until: Option<Timestamp>,
    pub counts: Counts,
    /// Units of the rate that are free now, for tasks without a key. `None`: no rate.
    pub rate_free: Option<u32>,
    /// When the next unit for tasks without a key is there, where none is now.
    pub rate_next: Option<Timestamp>,
    /// Keys that the limiter remembers.
    pub keys: usize,
    pub wait_ms: Waits,
}

/// What became of the tasks that came to a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tasks that came, those cancelled before anything was decided left out. A retry comes again.
    pub offered: u64,
    /// Got a place, and were not dropped from it.
    pub accepted: u64,
    pub redirected: u64,
    pub dropped: u64,
    /// Submits that were refused because the lane was full.
    pub rejected: u64,
    /// Tasks that got a permit.
    pub granted: u64,
}

/// How long granted tasks waited, from ready on, in milliseconds; at most 1/16 too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    pub p50: Millis,
    pub p90: Millis,
    pub p99: Millis,
    pub max: Millis,
}

/// Where tasks of a run wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    pub lane: String,
    pub span: Span,
    /// They have a place in the queue; else they wait for room in it.
    pub queued: bool,
    /// Tasks that are likely to go before, not counting those of other sessions that take turns;
    /// of very many, some.
    pub ahead: u64,
    pub priority: Priority,
    pub since: Timestamp,
    /// The limiter has tokens then.
    pub ready_at: Option<Timestamp>,
    pub paused: bool,
}

impl Lane {
    /// Slots that are taken.
    pub fn running(&self) -> u32 {
        self.slots.taken()
    }
    /// Agents that wait and have lent their slot.
    pub fn lent(&self) -> u32 {
        self.lent.taken()
    }
    /// True where nothing of it runs: an agent that lent its slot counts, for it will go on.
    pub fn is_quiet(&self) -> bool {
        self.running() == 0 && self.lent() == 0
    }

    pub(super) fn view(&self, now: Timestamp) -> LaneView {
        let spec = &self.spec;
        let wait = |q| self.waits.quantile(q);
        LaneView {
            name: spec.name.clone(),
            concurrency: spec.concurrency,
            threads: spec.threads,
            capacity: spec.capacity,
            timeout_ms: spec.timeout_ms,
            on_full: spec.on_full.clone(),
            rate: spec.rate,
            fair: spec.fair,
            running: self.slots.taken(),
            lent: self.lent.taken(),
            queued: self.queued,
            backlog: self.waiting,
            paused: self.paused,
            held_until: (self.held > now).then_some(self.held),
            counts: self.counts,
            rate_free: self.limiters.free(&None, now),
            rate_next: Some(self.limiters.ready_at(&None, 1)).filter(|at| *at > now),
            keys: self.limiters.keys(),
            wait_ms: Waits {
                p50: wait(0.5),
                p90: wait(0.9),
                p99: wait(0.99),
                max: self.waits.max(),
            },
        }
    }

    /// Where the tasks of a node wait in this lane.
    pub(super) fn whereabouts(&self, run: RunId, node: NodeIx, looks: usize) -> Vec<Whereabouts> {
        let Some(member) = self.members.get(&run) else { return Vec::new() };
        let (flow, order) = (self.flow_of(&member.flow), member.order);
        let place = |span: Span, queued, ahead, entry: &Entry| Whereabouts {
            lane: self.spec.name.clone(),
            span,
            queued,
            ahead,
            priority: entry.priority,
            since: entry.since,
            ready_at: Some(self.held.max(self.limiters.ready_at(&entry.key, entry.cost)))
                .filter(|at| *at > Timestamp(0)),
            paused: self.paused,
        };
        let is_of = |entry: &Entry| entry.run == run && entry.span.node == node;
        let mut found = Vec::new();
        for door in STYLES.map(|style| &self.doors[style as usize]) {
            for (at, entry) in door.of_run(&flow, order).filter(|(_, entry)| is_of(entry)) {
                found.push(place(entry.span, true, door.ahead(&flow, at, entry, looks), entry));
            }
        }
        let mut ahead = self.queued;
        for entry in &self.backlog {
            if is_of(entry) {
                found.push(place(entry.span, false, ahead, entry));
            }
            ahead += entry.tasks();
        }
        found
    }
}
