//! Lanes as users handle them: pause, drain, new limits, new lanes.

use super::Owner;
use super::circle::Goal;
use crate::engine::lanes::{LaneAsk, Quiet};
use crate::engine::waits::Waiter;
use crate::model::{Error, LaneSpec, Result};

/// Somebody who waits until nothing of a lane runs.
pub(super) struct Draining {
    pub(super) lane: usize,
    /// The agent that waits, where one does.
    pub(super) by: Option<Waiter>,
    quiet: Quiet,
}

impl Owner {
    // Every reply may find that its asker has gone.
    pub(super) fn lane_asked(&mut self, ask: LaneAsk) {
        match ask {
            LaneAsk::Spec { lane, reply } => {
                let spec = self.lane_named(&lane).map(|lane| self.lanes.lane(lane).spec().clone());
                drop(reply.send(spec));
            }
            LaneAsk::Configure { spec, change, reply } => {
                drop(reply.send(self.put_lane(*spec, change)));
            }
            LaneAsk::Pause { lane, paused, reply } => {
                drop(reply.send(self.lane_named(&lane).map(|lane| self.pause_lane(lane, paused))));
            }
            LaneAsk::Drain { lane, by, quiet, reply } => {
                drop(reply.send(self.drain_lane(&lane, by, quiet)));
            }
        }
    }

    fn drain_lane(&mut self, name: &str, by: Option<Waiter>, quiet: Quiet) -> Result<()> {
        let lane = self.lane_named(name)?;
        // What an agent left behind may drain when its call has ended, and holds nobody up.
        let by = by.filter(|by| self.is_under_way(*by));
        if let Some(error) = by.and_then(|by| self.refused_wait(by, Goal::Lane(lane))) {
            return Err(error);
        }
        self.pause_lane(lane, true);
        // Before the answer, so that one who does not wait at all learns it, too.
        match self.lanes.lane(lane).is_quiet() {
            true => quiet.tell(),
            false => self.drains.push(Draining { lane, by, quiet }),
        }
        Ok(())
    }

    pub(super) fn lane_named(&self, name: &str) -> Result<usize> {
        self.lanes.index(name).ok_or_else(|| {
            Error::new(
                "lane.unknown",
                format!("this engine has no lane `{name}`"),
                "list(engine.lanes) names those it has; engine.lanes.declare(...) adds one",
            )
        })
    }

    fn pause_lane(&mut self, lane: usize, paused: bool) {
        if paused {
            self.lanes.pause(lane);
        } else {
            self.lanes.resume(lane);
        }
    }

    fn put_lane(&mut self, spec: LaneSpec, change: bool) -> Result<()> {
        if let (Some(lane), false) = (self.lanes.index(&spec.name), change) {
            if *self.lanes.lane(lane).spec() == spec {
                return Ok(());
            }
            return Err(Error::new(
                "lane.declared",
                format!("lane `{}` exists already and is another one", spec.name),
                "change it: engine.lanes[name].set(...)",
            ));
        }
        let lane = self.lanes.configure(spec, self.now)?;
        tracing::info!(target: "goclaw.engine", lane = %self.lanes.lane(lane).spec().name, "lane configured");
        // A recovered run may have waited for a lane of this name.
        self.unpark();
        Ok(())
    }

    /// Tells those who wait for a lane that nothing of it runs any more.
    pub(super) fn tell_drained(&mut self) {
        if self.drains.is_empty() {
            return;
        }
        let lanes = &self.lanes;
        self.drains.retain(|drain| {
            if !lanes.lane(drain.lane).is_quiet() {
                return drain.quiet.is_wanted();
            }
            drain.quiet.tell();
            false
        });
    }
}
