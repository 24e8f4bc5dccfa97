//! Work outside of runs that goes through a lane: making vectors of texts, for one.
//!
//! Whoever wants to do such work asks for a [`Pass`], waits for its turn, and drops it when it is done.

use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::handle::Engine;
use super::inbox::{Inbox, Message, Reply};
use super::refusal;
use crate::agent::{Report, Reports};
use crate::lane::Permit;
use crate::model::{LaneCard, Millis, Result};

/// A permit, and the lane it is of.
pub(super) type Admitted = (Permit, Arc<LaneCard>);

/// What the owner can be told about such work.
pub(super) enum GuestAsk {
    Enter {
        lane: String,
        cost: u32,
        waits_for_resume: bool,
        reply: Reply<Result<Option<Admitted>>>,
        asker: Weak<()>,
    },
    /// Nothing of the lane begins for a while.
    Hold { lane: String, pause: Millis },
    /// A permit came back.
    Left,
}

/// The right to do one piece of work in a lane.
pub struct Pass {
    permit: Option<Permit>,
    lane: Arc<LaneCard>,
    inbox: Arc<Inbox>,
}

impl Pass {
    /// Takes units of a budget of the lane, afterwards. One that the lane does not have is not counted.
    pub fn charge(&self, unit: &str, n: u64) {
        if self.lane.units.iter().any(|own| own == unit) {
            let (lane, unit) = (self.lane.lane.as_str().into(), unit.into());
            self.inbox.report(vec![Report::Charge { lane, key: None, unit, n }]);
        }
    }

    /// Lets nothing of the lane begin for so long: whoever does the work for us asked for it.
    pub fn hold(&self, pause: Millis) {
        // A closed engine begins nothing anyway.
        let lane = self.lane.lane.clone();
        let _ = self.inbox.push(Message::Guest(GuestAsk::Hold { lane, pause }));
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // Before the owner is told, who may have somebody waiting for it.
        self.permit = None;
        let _ = self.inbox.push(Message::Guest(GuestAsk::Left));
    }
}

/// A place in the line for a pass; whoever drops it has left the line.
pub struct Entrance {
    /// `None` once it has answered.
    permit: Option<mpsc::Receiver<Result<Option<Admitted>>>>,
    inbox: Arc<Inbox>,
    _asker: Arc<()>,
}

impl Entrance {
    /// Waits for the pass. `None` when the time is over first: call again. No pass where too many wait, or where the
    /// lane is paused and the asker does not wait for that.
    ///
    /// # Errors
    /// `lane.unknown`, `engine.closed`.
    pub fn wait(&mut self, timeout: Duration) -> Option<Result<Option<Pass>>> {
        let permit = match self.permit.as_ref()?.recv_timeout(timeout) {
            Ok(permit) => permit,
            Err(mpsc::RecvTimeoutError::Timeout) => return None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(refusal::closed()),
        };
        self.permit = None;
        let inbox = &self.inbox;
        let pass = |(permit, lane)| Pass { permit: Some(permit), lane, inbox: Arc::clone(inbox) };
        Some(permit.map(|admitted| admitted.map(pass)))
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            // A permit that came when nobody waited any more goes to the next.
            drop(permit);
            let _ = self.inbox.push(Message::Guest(GuestAsk::Left));
        }
    }
}

impl Engine {
    /// A pass for a task of the lane, which holds a permit of it already.
    pub fn pass_of_holder(&self, lane: Arc<LaneCard>) -> Pass {
        Pass { permit: None, lane, inbox: Arc::clone(&self.shared.inbox) }
    }

    /// Asks for a pass into a lane, for work that takes `cost` units of its rate. Without `waits_for_resume` there
    /// is none while the lane is paused.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn enter_lane(&self, lane: &str, cost: u32, waits_for_resume: bool) -> Result<Entrance> {
        let (reply, permit) = mpsc::sync_channel(1);
        let asker = Arc::new(());
        let inbox = Arc::clone(&self.shared.inbox);
        inbox.push(Message::Guest(GuestAsk::Enter {
            lane: lane.into(),
            cost,
            waits_for_resume,
            reply,
            asker: Arc::downgrade(&asker),
        }))?;
        Ok(Entrance { permit: Some(permit), inbox, _asker: asker })
    }
}
