//! Submits that wait for a place in a lane: first come first, each as long as the lane's timeout says.
//!
//! A lane has one timer at most, for the submit whose time is over first, however many wait. It may ring
//! when that one has long got a place: then it is set for the next.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Owner;
use super::timers::Due;
use crate::engine::cell::Cell;
use crate::engine::options::Submit;
use crate::math::Table;
use crate::model::{Error, LaneSpec, Timestamp};

/// Submits that may wait for places in lanes. A message that finds fewer there may go over.
const BLOCKED_SUBMITS_MAX: usize = 65_536;

/// A submit that waits for a place.
struct Blocked {
    submit: Submit,
    cell: Arc<Cell>,
    until: Option<Timestamp>,
}

impl Blocked {
    fn is_withdrawn(&self) -> bool {
        self.cell.given_up.load(Ordering::Acquire)
    }
}

/// Submits that wait, by the lane that is full.
#[derive(Default)]
pub(super) struct BlockedSubmits {
    waiting: Table<usize, VecDeque<Blocked>>,
    /// For when a lane's timer is set.
    armed: Table<usize, Timestamp>,
    /// Some were withdrawn since the last look.
    pub(super) withdrawn: bool,
}

impl BlockedSubmits {
    fn len(&self) -> usize {
        self.waiting.values().map(VecDeque::len).sum()
    }

    /// True where as many wait as may.
    pub(super) fn is_crowded(&self) -> bool {
        self.len() >= BLOCKED_SUBMITS_MAX
    }

    /// True where submits wait for the lane already: nobody overtakes them.
    pub(super) fn is_waited_for(&self, lane: usize) -> bool {
        self.waiting.contains_key(&lane)
    }

    /// True for a timer that is not one of old.
    pub(super) fn is_armed(&self, lane: usize) -> bool {
        self.armed.contains_key(&lane)
    }

    /// Takes a submit in. Answers when the lane's timer is to be set, where it is not set for then.
    fn put(&mut self, lane: usize, blocked: Blocked) -> Option<Timestamp> {
        let until = blocked.until;
        self.waiting.entry(lane).or_default().push_back(blocked);
        self.arm(lane, until?)
    }

    fn arm(&mut self, lane: usize, until: Timestamp) -> Option<Timestamp> {
        if self.armed.get(&lane).is_some_and(|&armed| armed <= until) {
            return None;
        }
        self.armed.insert(lane, until);
        Some(until)
    }

    fn pop(&mut self, lane: usize) -> Option<Blocked> {
        let waiting = self.waiting.get_mut(&lane)?;
        let next = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&lane);
        }
        next
    }

    /// The timer of a lane has rung: those whose time is over, and when it is to ring next.
    fn rang(&mut self, lane: usize, now: Timestamp) -> (VecDeque<Blocked>, Option<Timestamp>) {
        if self.armed.get(&lane).is_some_and(|&armed| armed <= now) {
            self.armed.remove(&lane);
        }
        let waiting = self.waiting.remove(&lane).unwrap_or_default();
        // Not only in front: the lane may have had another timeout, or none, when those came.
        let overdue = |blocked: &Blocked| blocked.until.is_some_and(|until| until <= now);
        let (late, patient): (VecDeque<_>, VecDeque<_>) = waiting.into_iter().partition(overdue);
        let next = patient.iter().filter_map(|blocked| blocked.until).min();
        if !patient.is_empty() {
            self.waiting.insert(lane, patient);
        }
        (late, next.and_then(|until| self.arm(lane, until)))
    }

    /// Forgets those that were withdrawn.
    fn prune(&mut self) {
        if std::mem::take(&mut self.withdrawn) {
            self.waiting.retain(|_, waiting| {
                waiting.retain(|blocked| !blocked.is_withdrawn());
                !waiting.is_empty()
            });
        }
    }
}

impl Owner {
    pub(super) fn block(&mut self, lane: usize, submit: Submit, cell: Arc<Cell>) {
        let until = self.lanes.lane(lane).spec().timeout_ms.map(|ms| self.now.plus(ms));
        self.wait_in(lane, Blocked { submit, cell, until });
    }

    fn wait_in(&mut self, lane: usize, blocked: Blocked) {
        if let Some(at) = self.blocked.put(lane, blocked) {
            self.timers.at(at, Due::Blocked(lane));
        }
    }

    /// A lane that has no place for a submit which has waited for this one. Only who has waited goes
    /// before others that wait there, or two lanes could send a submit back and forth.
    fn other_full_lane(&self, submit: &Submit, waited: usize) -> Option<usize> {
        if self.is_busy(submit) {
            return None;
        }
        let mut lanes = self.lanes_of(&submit.plan);
        lanes.find(|&lane| lane != waited && self.lanes.full(lane).is_some())
    }

    /// Accepts blocked submits, first come first, for as long as their lane has room.
    pub(super) fn unblock(&mut self) {
        self.blocked.prune();
        let lanes: Vec<usize> = self.blocked.waiting.keys().copied().collect();
        for lane in lanes {
            while self.lanes.full(lane).is_none() {
                let Some(next) = self.blocked.pop(lane) else { break };
                if next.is_withdrawn() {
                    continue;
                }
                if let Some(error) = self.staged.stall() {
                    next.cell.accept(Err(error.clone()));
                    continue;
                }
                if let Some(answer) = self.answer_now(&next.submit, &next.cell) {
                    self.answer_late(next.cell, answer);
                    continue;
                }
                // Another of its sources may find its lane full.
                match self.other_full_lane(&next.submit, lane) {
                    Some(other) => self.wait_in(other, next),
                    None => self.begin(next.submit, next.cell),
                }
            }
        }
    }

    /// Refuses submits that have waited for a lane as long as its timeout allows.
    pub(super) fn refuse_overdue(&mut self, lane: usize) {
        let (late, next) = self.blocked.rang(lane, self.now);
        if let Some(at) = next {
            self.timers.at(at, Due::Blocked(lane));
        }
        let error = lane_full(self.lanes.lane(lane).spec());
        for blocked in late {
            self.lanes.reject(lane);
            blocked.cell.accept(Err(error.clone()));
        }
    }

    /// Refuses every submit that still waits.
    pub(super) fn refuse_blocked(&mut self, error: &Error) {
        for (_, waiting) in std::mem::take(&mut self.blocked.waiting) {
            waiting.into_iter().for_each(|blocked| blocked.cell.accept(Err(error.clone())));
        }
    }
}

pub(super) fn lane_full(spec: &LaneSpec) -> Error {
    Error::new(
        "lane.full",
        format!("lane `{}` is full: {} tasks wait in it", spec.name, spec.capacity),
        "submit later, let submit wait, or give the lane more capacity or concurrency",
    )
}

pub(super) fn too_many_wait() -> Error {
    Error::new(
        "engine.busy",
        format!("{BLOCKED_SUBMITS_MAX} submits wait for places in lanes already"),
        "submit more slowly, or give the lanes more capacity or concurrency",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_has_one_timer_however_many_wait_in_it() {
        let mut blocked = BlockedSubmits::default();
        assert_eq!(blocked.arm(0, Timestamp(50)), Some(Timestamp(50)));
        assert_eq!(blocked.arm(0, Timestamp(50)), None);
        assert_eq!(blocked.arm(0, Timestamp(60)), None, "it rings before that anyway");
        assert_eq!(blocked.arm(0, Timestamp(40)), Some(Timestamp(40)), "a shorter timeout");
        assert_eq!(blocked.arm(1, Timestamp(60)), Some(Timestamp(60)));
        let (late, next) = blocked.rang(0, Timestamp(40));
        assert!(late.is_empty() && next.is_none() && !blocked.is_armed(0), "nobody waits");
        let (_, next) = blocked.rang(1, Timestamp(50));
        assert!(next.is_none() && blocked.is_armed(1), "one of old: its own is still to come");
    }
}
