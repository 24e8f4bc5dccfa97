//! One input through the machine.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Effect, Input, Run, apply, decide, effects, follow};
use crate::model::{Event, Timestamp};

/// What came of one or more inputs: facts to journal, then effects to carry out.
#[derive(Debug, Default)]
pub struct Turn {
    pub events: Vec<Event>,
    /// Carried out once every event above is as durable as the run demands.
    pub effects: Vec<Effect>,
    /// Outcomes that came after their attempt was given up.
    pub late: u64,
}

/// Decides on an input, applies what follows, and collects events and effects in `turn`.
///
/// `dice` are 64 random bits for backoff jitter. An input that does not fit the state (a late
/// result, a cancelled task's permit) changes nothing.
pub fn step(run: &mut Run, input: Input, now: Timestamp, dice: u64, turn: &mut Turn) {
    let grown = if let Input::Grow { plan, .. } = &input { Some(Arc::clone(plan)) } else { None };
    let mut next = VecDeque::from(decide::decide(run, input, now, dice, &mut turn.late));
    if let (Some(plan), false) = (grown, next.is_empty()) {
        run.plan = plan;
    }
    while let Some(event) = next.pop_front() {
        if follow::is_moot(run, &event) {
            continue;
        }
        apply::apply(run, &event, now);
        next.extend(follow::follow(run, &event));
        effects::effects(run, &event, &mut turn.effects);
        turn.events.push(event);
    }
}
