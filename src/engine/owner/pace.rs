//! How much to hand out at once: learned from how long each agent's calls take.
//!
//! Handing out calls one by one costs a wake-up each; handing out many delays those behind a slow
//! one. So a thread gets about half a millisecond's worth. An agent that is short, or not known yet,
//! goes to two threads at most until one of them has been busy for a millisecond: threads that only
//! pass the interpreter's lock around make each other slower. Where many runs have one call each,
//! more go out, until they add up to as much: a commit for every two runs would cost far more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::Style;
use crate::table::Table;

/// Work that one thread gets at once, in nanoseconds.
const BATCH_NS: u64 = 500_000;
/// Calls that one batch holds at most.
const BATCH_CALLS_MAX: u32 = 1_024;
/// An agent below this, in nanoseconds per call, does not gain from more threads.
const SHORT_NS: u64 = 50_000;
/// Batches of a short agent that are out at once: one being worked on, one waiting behind it.
const SHORT_BATCHES_MAX: u32 = 2;
/// A short agent's batch that is out for longer than this was not short after all.
const PROBE: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
struct Pace {
    /// Smoothed nanoseconds per call; 0 while unknown.
    call_ns: u64,
    /// Batches on threads that are out.
    out: u32,
    /// Calls in them.
    calls: u32,
    /// When the latest batch went out or came back.
    moved: Option<Instant>,
}

impl Pace {
    /// True where all that is out together is less than what one thread would get of a map.
    fn has_little_out(&self) -> bool {
        self.call_ns > 0 && u64::from(self.calls) * self.call_ns < BATCH_NS
    }
}

#[derive(Debug, Default)]
pub(super) struct Paces {
    agents: Table<Arc<str>, Pace>,
    wake_at: Option<Instant>,
}

impl Paces {
    /// How many calls of this agent to hand out now; 0: later, `wake_at` says when.
    pub(super) fn batch(&mut self, agent: &str, style: Style) -> u32 {
        let pace = self.agents.get(agent);
        if style == Style::Loop {
            return BATCH_CALLS_MAX;
        }
        let Some(pace) = pace else { return 1 };
        if pace.call_ns < SHORT_NS && pace.out >= SHORT_BATCHES_MAX && !pace.has_little_out() {
            let ripe = pace.moved.map_or_else(Instant::now, |moved| moved + PROBE);
            if Instant::now() < ripe {
                self.wake_at = Some(self.wake_at.map_or(ripe, |at| at.min(ripe)));
                return 0;
            }
        }
        match pace.call_ns {
            0 => 1,
            ns => u32::try_from(BATCH_NS / ns).unwrap_or(1).clamp(1, BATCH_CALLS_MAX),
        }
    }

    pub(super) fn went_out(&mut self, agent: &Arc<str>, style: Style, calls: u32) {
        if style != Style::Loop {
            let pace = self.agents.entry(Arc::clone(agent)).or_default();
            pace.out += 1;
            pace.calls += calls;
            pace.moved = Some(Instant::now());
        }
    }

    pub(super) fn came_back(&mut self, agent: &str, style: Style, calls: u32) {
        if let Some(pace) = self.agents.get_mut(agent).filter(|_| style != Style::Loop) {
            pace.out = pace.out.saturating_sub(1);
            pace.calls = pace.calls.saturating_sub(calls);
            pace.moved = Some(Instant::now());
        }
    }

    /// Learns from `calls` calls that took `busy_ns` together.
    pub(super) fn learn(&mut self, agent: &str, calls: usize, busy_ns: u64) {
        if let Some(pace) = self.agents.get_mut(agent) {
            let seen = (busy_ns / calls.max(1) as u64).max(1);
            pace.call_ns = if pace.call_ns == 0 { seen } else { (pace.call_ns + seen) / 2 };
        }
    }

    /// Microseconds that a call of the agent takes; `None` while nobody has seen one.
    pub(super) fn call_us(&self, agent: &str) -> Option<u32> {
        let ns = self.agents.get(agent).map(|pace| pace.call_ns).filter(|&ns| ns > 0)?;
        Some(u32::try_from(ns / 1_000).unwrap_or(u32::MAX).max(1))
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.wake_at
    }
    pub(super) fn look_again(&mut self) {
        self.wake_at = None;
    }
}
