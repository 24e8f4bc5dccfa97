//! Work of a lane that belongs to no run: it takes the lane's permits and its rate, and nothing else.

use super::{Lanes, Permit};
use crate::model::Timestamp;

impl Lanes {
    /// A permit for work outside of runs that waits since `since`; `None` where there is none now.
    ///
    /// The bound over all lanes does not count it: whoever waits for such work may hold the last permit
    /// under that bound.
    pub fn guest(
        &mut self,
        lane: usize,
        cost: u32,
        since: Timestamp,
        now: Timestamp,
    ) -> Option<Permit> {
        if self.guest_at(lane, cost).is_none_or(|at| at > now) {
            return None;
        }
        let lane = &mut self.lanes[lane];
        lane.limiters.take(&None, u64::from(cost), now);
        lane.counts.offered += 1;
        lane.counts.accepted += 1;
        lane.counts.granted += 1;
        lane.waits.record(now.since(since), 1);
        Some(Permit { holds: [Some(lane.slots.take(1)), None, None] })
    }

    /// When the clock alone lets such work begin; `None` where something else must happen first.
    pub fn guest_at(&self, lane: usize, cost: u32) -> Option<Timestamp> {
        let lane = &self.lanes[lane];
        let is_open = !lane.paused && lane.slots.free() > 0;
        is_open.then(|| lane.held.max(lane.limiters.ready_at(&None, cost)))
    }
}
