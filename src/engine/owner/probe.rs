//! What tests may do to the owner from outside: look at what it keeps, let its clock run ahead.

use super::Owner;
use crate::model::Millis;

impl Owner {
    /// From now on it is so much later.
    pub(in crate::engine) fn skip(&mut self, ms: Millis) {
        self.clock.skip(ms);
    }

    /// What there is of all that comes with a run, by name, where there is any.
    pub(in crate::engine) fn leftovers(&self) -> Vec<(&'static str, usize)> {
        let all = [
            ("runs", self.runs.len()),
            ("flights", self.flights.out.len()),
            ("sessions", self.sessions.len()),
            ("waiting in sessions", self.sessions.waiting()),
            ("set up sessions", self.setups.keys().count()),
            ("timers", self.timers.len()),
            ("waits", self.waits.len()),
            ("returning", self.returning.len()),
        ];
        all.into_iter().filter(|(_, n)| *n > 0).collect()
    }
}
