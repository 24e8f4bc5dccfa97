//! How much to hand out at once: learned from how long each agent's calls take.
//!
//! Handing out calls one by one costs a wake-up each; handing out many delays those behind a slow
//! one. So a thread gets about half a millisecond's worth. An agent that is short, or not known yet,
//! goes to two threads at most until one of them has been busy for a millisecond: threads that only
//! pass the interpreter's lock around make each other slower. Where many runs have one call each,
//! more go out, until they add up to as much: a commit for every two runs would cost far more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::math::Table;
use crate::model::Style;

/// Work that one thread gets at once, in nanoseconds.
const BATCH_NS: u64 = 500_000;
/// Calls that one batch holds at most.
const BATCH_CALLS_MAX: u32 = 1_024;
/// The same for a worker process: a round trip through two threads and a socket lies between batches,
/// and nobody else waits for its interpreter.
const PROCESS_BATCH_NS: u64 = 4_000_000;
const PROCESS_BATCH_CALLS_MAX: u32 = 8_192;
/// How many times as long as known a report makes a call at most: one that the system put aside for a
/// while says little about the next, and a batch of a few calls costs a round trip for each few.
const SLOWER_MAX: u64 = 4;
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
    /// How many calls of this agent to hand out now; 0: later, `wake_at` says when. Never later where
    /// there is a hurry.
    pub(super) fn batch(&mut self, agent: &str, style: Style, hurry: bool) -> u32 {
        let pace = self.agents.get(agent);
        if style == Style::Loop {
            return BATCH_CALLS_MAX;
        }
        let Some(pace) = pace else { return 1 };
        let apart = style == Style::Process;
        if !apart
            && !hurry
            && pace.call_ns < SHORT_NS
            && pace.out >= SHORT_BATCHES_MAX
            && !pace.has_little_out()
        {
            let ripe = pace.moved.map_or_else(Instant::now, |moved| moved + PROBE);
            if Instant::now() < ripe {
                self.wake_at = Some(self.wake_at.map_or(ripe, |at| at.min(ripe)));
                return 0;
            }
        }
        let (batch_ns, calls_max) = match apart {
            true => (PROCESS_BATCH_NS, PROCESS_BATCH_CALLS_MAX),
            false => (BATCH_NS, BATCH_CALLS_MAX),
        };
        match pace.call_ns {
            0 => 1,
            ns => u32::try_from(batch_ns / ns).unwrap_or(1).clamp(1, calls_max),
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
            pace.call_ns = match pace.call_ns {
                0 => seen,
                known => known.midpoint(seen.min(known.saturating_mul(SLOWER_MAX))),
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_report_does_not_cut_batches_to_pieces_and_a_few_do() {
        let agent: Arc<str> = "short".into();
        let mut paces = Paces::default();
        paces.went_out(&agent, Style::Process, 1);
        paces.learn(&agent, 100, 100 * 10_000);
        assert_eq!(paces.batch(&agent, Style::Process, false), 400);
        paces.learn(&agent, 1, 20_000_000);
        assert_eq!(paces.batch(&agent, Style::Process, false), 160);
        for _ in 0..12 {
            paces.learn(&agent, 1, 20_000_000);
        }
        assert_eq!(paces.batch(&agent, Style::Process, false), 1);
        assert!(paces.call_us(&agent).is_some_and(|us| us > 19_000));
    }

    #[test]
    fn workers_get_more_of_short_calls_and_do_not_wait_for_each_other() {
        let agent: Arc<str> = "short".into();
        for (style, calls, third) in
            [(Style::Thread, 50, 0), (Style::Process, 400, 400), (Style::Loop, 1_024, 1_024)]
        {
            let mut paces = Paces::default();
            if style != Style::Loop {
                assert_eq!(
                    paces.batch(&agent, style, false),
                    1,
                    "nobody knows yet how long it takes"
                );
            }
            paces.went_out(&agent, style, 1);
            paces.came_back(&agent, style, 1);
            paces.learn(&agent, 1, 10_000);
            for _ in 0..2 {
                assert_eq!(paces.batch(&agent, style, false), calls);
                paces.went_out(&agent, style, calls);
            }
            assert_eq!(paces.batch(&agent, style, false), third);
            assert_eq!(paces.batch(&agent, style, true), calls, "somebody would go away");
        }
    }
}
