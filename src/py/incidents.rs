//! What the watchdog has found: logged once when it begins and once when it is over, kept for
//! `engine.health()`, and told to the run of the guilty call.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::mailbox::mailbox;
use super::watchdog::Suspect;
use crate::agent::Report;
use crate::model::TaskRef;

/// Incidents that are kept.
const KEPT_MAX: usize = 16;

static LAST: AtomicU64 = AtomicU64::new(0);
static LOOP_BLOCKED: AtomicU64 = AtomicU64::new(0);
static GIL_HOGS: AtomicU64 = AtomicU64::new(0);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The event loop does not go round.
    Loop,
    /// Nobody gets the GIL.
    Interpreter,
}

impl Kind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Loop => "loop_blocked",
            Self::Interpreter => "gil_held",
        }
    }
}

/// The call that was found guilty.
#[derive(Clone)]
pub(super) struct Guilty {
    pub(super) agent: String,
    pub(super) task: String,
    pub(super) run: String,
}

/// One incident.
#[derive(Clone)]
pub(super) struct Incident {
    id: u64,
    pub(super) kind: Kind,
    /// `None`: no call of an agent, as far as can be seen.
    pub(super) guilty: Option<Guilty>,
    /// `file:line in function`, where it could be seen.
    pub(super) place: Option<String>,
    began: Instant,
    pub(super) lasted: Duration,
    pub(super) is_over: bool,
}

impl Incident {
    /// An incident that began `ago`; tells the run of the suspect.
    pub(super) fn new(
        kind: Kind,
        suspect: Option<Suspect>,
        place: Option<String>,
        ago: Duration,
    ) -> Self {
        let guilty = suspect.as_ref().map(|Suspect { batch, child, .. }| Guilty {
            agent: batch.call.plan.task(batch.span.node).agent.clone(),
            task: batch.name(*child),
            run: batch.call.run.to_string(),
        });
        let began = Instant::now().checked_sub(ago).unwrap_or_else(Instant::now);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let made = Self { id, kind, guilty, place, began, lasted: ago, is_over: false };
        if let Some(Suspect { core, batch, child }) = suspect {
            let task = TaskRef { node: batch.span.node, index: child };
            let (run, attempt, reason) = (batch.call.run, batch.attempt, made.reason());
            core.reports.report(vec![Report::Blocking { run, task, attempt, reason }]);
        }
        made
    }

    fn what(&self) -> &'static str {
        match self.kind {
            Kind::Loop => "blocks the event loop",
            Kind::Interpreter => "keeps the interpreter to itself",
        }
    }

    /// What it is, and where.
    fn reason(&self) -> String {
        match &self.place {
            Some(place) => format!("{} at {place}", self.what()),
            None => self.what().into(),
        }
    }

    fn culprit(&self) -> String {
        match &self.guilty {
            Some(guilty) => format!("agent `{}` in task `{}`", guilty.agent, guilty.task),
            None => "no agent that goclaw knows of, but something in this process".into(),
        }
    }
}

fn kept() -> MutexGuard<'static, VecDeque<Incident>> {
    mailbox().watched.incidents.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes note of an incident that goes on.
pub(super) fn begin(incident: Incident) -> u64 {
    let (counter, cure) = match incident.kind {
        Kind::Loop => (&LOOP_BLOCKED, "await what takes long, or make the agent a plain `def`"),
        Kind::Interpreter => (&GIL_HOGS, "release the GIL in native code"),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    let (culprit, reason) = (incident.culprit(), incident.reason());
    let run = incident.guilty.as_ref().map_or("", |guilty| &guilty.run);
    let task = incident.guilty.as_ref().map_or("", |guilty| &guilty.task);
    let seconds = incident.lasted.as_secs_f64();
    tracing::warn!(
        target: "goclaw.health", run, task,
        "{culprit} {reason}, for {seconds:.1} s by now; {cure}",
    );
    let id = incident.id;
    let mut kept = kept();
    if kept.len() == KEPT_MAX {
        kept.pop_front();
    }
    kept.push_back(incident);
    id
}

/// The incident is not over yet.
pub(super) fn goes_on(id: u64) {
    if let Some(incident) = kept().iter_mut().find(|incident| incident.id == id) {
        incident.lasted = incident.began.elapsed();
    }
}

pub(super) fn over(id: u64) {
    let ended = {
        let mut kept = kept();
        let incident = kept.iter_mut().find(|incident| incident.id == id);
        incident.map(|incident| {
            (incident.lasted, incident.is_over) = (incident.began.elapsed(), true);
            incident.clone()
        })
    };
    if let Some(incident) = ended {
        let (culprit, what) = (incident.culprit(), incident.what());
        let seconds = incident.lasted.as_secs_f64();
        tracing::warn!(target: "goclaw.health", "over after {seconds:.1} s: {culprit} {what}");
    }
}

/// The latest incidents, oldest first.
pub(super) fn latest() -> Vec<Incident> {
    kept().iter().cloned().collect()
}

/// How often the loop was blocked, and the interpreter held.
pub(super) fn counts() -> (u64, u64) {
    (LOOP_BLOCKED.load(Ordering::Relaxed), GIL_HOGS.load(Ordering::Relaxed))
}
