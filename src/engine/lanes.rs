//! Lanes of an open engine: looked at, paused, drained, declared and changed while it works.
//!
//! What is changed here lasts as long as the engine: a store keeps runs, not settings.

use std::sync::mpsc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::handle::Engine;
use super::inbox::{Message, Reply};
use super::refusal;
use super::waits::Waiter;
use crate::agent::Reports;
use crate::model::{LaneSpec, Result};

/// What the owner can be told about a lane.
pub(super) enum LaneAsk {
    Spec {
        lane: String,
        reply: Reply<Result<LaneSpec>>,
    },
    /// A new lane; where `change`, also other limits for one that exists.
    Configure {
        spec: Box<LaneSpec>,
        change: bool,
        reply: Reply<Result<()>>,
    },
    Pause {
        lane: String,
        paused: bool,
        reply: Reply<Result<()>>,
    },
    /// Pauses the lane and tells when nothing of it runs any more.
    Drain {
        lane: String,
        /// The agent that asks, where one does.
        by: Option<Waiter>,
        quiet: Quiet,
        reply: Reply<Result<()>>,
    },
}

/// How the owner tells that nothing of a lane runs, for as long as somebody waits for it.
pub(super) struct Quiet {
    tell: Reply<()>,
    asker: Weak<()>,
}

impl Quiet {
    pub(super) fn is_wanted(&self) -> bool {
        self.asker.strong_count() > 0
    }
    pub(super) fn tell(&self) {
        // The asker may have gone.
        let _ = self.tell.try_send(());
    }
}

/// A lane that is being drained.
pub struct Draining {
    quiet: mpsc::Receiver<()>,
    _asker: Arc<()>,
}

impl Draining {
    /// Waits until nothing of the lane runs. `None` when the time is over first: call again.
    ///
    /// # Errors
    /// `engine.closed`.
    pub fn wait(&self, timeout: Duration) -> Option<Result<()>> {
        match self.quiet.recv_timeout(timeout) {
            Ok(()) => Some(Ok(())),
            Err(mpsc::RecvTimeoutError::Timeout) => None,
            Err(mpsc::RecvTimeoutError::Disconnected) => Some(Err(refusal::closed())),
        }
    }
}

impl Engine {
    /// What a lane was declared with, or changed to.
    ///
    /// # Errors
    /// `lane.unknown`, `engine.closed`.
    pub fn lane_spec(&self, lane: &str) -> Result<LaneSpec> {
        let lane = lane.to_owned();
        self.ask(|reply| Message::Lane(LaneAsk::Spec { lane, reply }))?
    }

    /// Adds a lane. One that was declared in the same words before is left as it is.
    ///
    /// # Errors
    /// `lane.declared` where a lane of that name exists, `lane.invalid`, `lane.unknown` and
    /// `lane.redirect_*` for a redirect that does not end, `engine.closed`.
    pub fn declare_lane(&self, spec: LaneSpec) -> Result<()> {
        self.put_lane(spec, false)
    }

    /// Gives a lane other limits, at once. What runs above a new limit goes on, what has a place in the
    /// queue keeps it.
    ///
    /// # Errors
    /// As `declare_lane`.
    pub fn change_lane(&self, spec: LaneSpec) -> Result<()> {
        self.put_lane(spec, true)
    }

    fn put_lane(&self, spec: LaneSpec, change: bool) -> Result<()> {
        let spec = Box::new(spec);
        self.ask(|reply| Message::Lane(LaneAsk::Configure { spec, change, reply }))?
    }

    /// Lets nothing of a lane begin until it is resumed. What runs goes on, tasks queue up.
    ///
    /// # Errors
    /// `lane.unknown`, `engine.closed`.
    pub fn pause_lane(&self, lane: &str, paused: bool) -> Result<()> {
        let lane = lane.to_owned();
        self.ask(|reply| Message::Lane(LaneAsk::Pause { lane, paused, reply }))?
    }

    /// True where these reports come to this engine.
    pub fn takes(&self, reports: &Arc<dyn Reports>) -> bool {
        self.shared.takes(reports)
    }

    /// Pauses a lane; the answer tells when nothing of it runs any more.
    ///
    /// # Errors
    /// `lane.unknown`, `engine.own_lane`, `engine.closed`.
    pub fn drain_lane(&self, lane: &str, by: Option<Waiter>) -> Result<Draining> {
        let (tell, quiet) = mpsc::sync_channel(1);
        let asker = Arc::new(());
        let waits = Quiet { tell, asker: Arc::downgrade(&asker) };
        let lane = lane.to_owned();
        self.ask(|reply| Message::Lane(LaneAsk::Drain { lane, by, quiet: waits, reply }))??;
        Ok(Draining { quiet, _asker: asker })
    }
}
