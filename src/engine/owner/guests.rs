//! Work outside of runs that waits for a permit of its lane, first come first.

use std::sync::{Arc, Weak};

use super::Owner;
use crate::engine::guests::{Admitted, GuestAsk};
use crate::engine::inbox::Reply;
use crate::model::{Result, Timestamp};

/// Guests who wait at once, over all lanes; each is a thread of its own. More are turned away.
const GUESTS_MAX: usize = 4_096;

/// Somebody who waits for a permit.
pub(super) struct Guest {
    lane: usize,
    cost: u32,
    since: Timestamp,
    /// False: it does not wait for somebody to resume the lane.
    waits_for_resume: bool,
    reply: Reply<Result<Option<Admitted>>>,
    asker: Weak<()>,
}

impl Owner {
    pub(super) fn guest_asked(&mut self, ask: GuestAsk) {
        match ask {
            GuestAsk::Enter { lane, cost, waits_for_resume, reply, asker } => {
                match self.lane_named(&lane) {
                    Ok(_) if self.guests.len() >= GUESTS_MAX => drop(reply.send(Ok(None))),
                    Ok(lane) => {
                        let since = self.now;
                        let guest = Guest { lane, cost, since, waits_for_resume, reply, asker };
                        self.guests.push(guest);
                    }
                    // The asker may have gone.
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            GuestAsk::Hold { lane, pause } => {
                if let Some(lane) = self.lanes.index(&lane) {
                    self.lanes.hold(lane, None, self.now.plus(pause));
                }
            }
            // Its permit is free already; this turn gives it away.
            GuestAsk::Left => {}
        }
    }

    /// Lets in those for whom there is a permit. Nobody overtakes another of the same lane.
    pub(super) fn let_guests_in(&mut self) {
        if self.guests.is_empty() {
            return;
        }
        let mut full: Vec<usize> = Vec::new();
        for guest in std::mem::take(&mut self.guests) {
            if guest.asker.strong_count() == 0 {
                continue;
            }
            if !guest.waits_for_resume && self.lanes.is_paused(guest.lane) {
                drop(guest.reply.send(Ok(None)));
                continue;
            }
            let permit = match full.contains(&guest.lane) {
                true => None,
                false => self.lanes.guest(guest.lane, guest.cost, guest.since, self.now),
            };
            match permit {
                // One whose asker has gone since comes back with the error, and is free again.
                Some(permit) => {
                    let card = Arc::clone(self.lanes.lane(guest.lane).card());
                    drop(guest.reply.send(Ok(Some((permit, card)))));
                }
                None => {
                    full.push(guest.lane);
                    self.guests.push(guest);
                }
            }
        }
    }

    /// When the clock alone lets somebody in.
    pub(super) fn guests_wake_at(&self) -> Option<Timestamp> {
        let mut seen: Vec<usize> = Vec::new();
        let mut first = |guest: &&Guest| {
            let is_first = !seen.contains(&guest.lane);
            seen.push(guest.lane);
            is_first
        };
        let firsts = self.guests.iter().filter(|guest| first(guest));
        firsts.filter_map(|guest| self.lanes.guest_at(guest.lane, guest.cost)).min()
    }
}
