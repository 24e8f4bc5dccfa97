//! Sessions: runs with one key go one at a time, in the order of their submits.
//!
//! A run that has to wait is journaled and adopted like any other; only what would start its work is
//! held back (`Effect::waits_its_turn`), and found again by `run::outstanding` when it is its turn. So
//! it takes no place in a lane, its timeout runs, and cancelling it ends it at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Owner;
use super::timers::Due;
use crate::engine::options::Submit;
use crate::engine::sessions::{SessionAsk, SessionInfo};
use crate::lane::{Group, Next, SESSION_WAITING_MAX, Waiting};
use crate::model::{
    Admission, CancelCause, Collect, Conduct, Error, OnRetry, Overflow, Result, RunId, WhenBusy,
};
use crate::run::{self, Input, Run};

/// What holds a run back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    /// Nothing: it has no session, or holds it.
    Free,
    /// Others of its session are before it.
    Waiting,
    /// It lets others go first until its retry is due.
    Parked,
}

impl Seat {
    pub(super) fn holds_back(self) -> bool {
        self != Self::Free
    }
}

impl Owner {
    /// True where a submit would have to wait for its session.
    pub(super) fn is_busy(&self, submit: &Submit) -> bool {
        submit.session.as_ref().is_some_and(|key| self.sessions.is_busy(key))
    }

    /// How a submit is met: what its run will do in its session, and its weight.
    ///
    /// # Errors
    /// `session.busy`, `session.full`.
    pub(super) fn meet(&self, submit: &Submit) -> Result<(Conduct, u32)> {
        let Some(key) = &submit.session else {
            return Ok((Conduct::default(), submit.weight.unwrap_or(1)));
        };
        let (usual, weight) = self.setups.of(key);
        let when_busy = submit.when_busy.as_ref().unwrap_or(usual).clone();
        let admission = if self.sessions.is_busy(key) {
            self.meet_busy(key, submit, &when_busy)?
        } else {
            Admission::Started
        };
        let conduct = Conduct { when_busy, on_retry: submit.on_retry, admission };
        Ok((conduct, submit.weight.unwrap_or(weight)))
    }

    fn meet_busy(&self, key: &str, submit: &Submit, when_busy: &WhenBusy) -> Result<Admission> {
        if *when_busy == WhenBusy::Reject {
            return Err(session_busy(key, self.sessions.holder(key)));
        }
        if self.sessions.view(key).waiting >= SESSION_WAITING_MAX {
            return Err(session_full(key, SESSION_WAITING_MAX));
        }
        Ok(match when_busy {
            WhenBusy::Followup | WhenBusy::Reject => Admission::Queued,
            WhenBusy::Interrupt => Admission::Interrupting,
            WhenBusy::Steer if self.is_steered(key, &submit.plan.workflow.name) => {
                Admission::Steered
            }
            WhenBusy::Steer => Admission::Queued,
            WhenBusy::Collect(collect) => {
                if collect.overflow == Overflow::New
                    && self.is_capped(key, &group(submit.plan.definition, collect)).is_some()
                {
                    return Err(session_full(key, collect.cap as usize));
                }
                Admission::Collected
            }
        })
    }

    /// True where there is a run that a message to this workflow can be put before.
    fn is_steered(&self, key: &str, workflow: &str) -> bool {
        let holder = self.sessions.holder(key).and_then(|holder| self.runs.get(&holder));
        holder.is_some_and(|slot| {
            let run = &slot.run;
            run.plan().workflow.name == workflow
                && !run.is_cancelling()
                && !run.state().is_terminal()
        })
    }

    /// The oldest message of a group that has as many as it may have.
    fn is_capped(&self, key: &str, group: &Group) -> Option<RunId> {
        let (n, oldest) = self.sessions.last_group(key, group)?;
        (n >= group.collect.cap as usize).then_some(oldest)
    }

    /// Gives a run that was just adopted its place in its session.
    pub(super) fn take_seat(&mut self, run: RunId) {
        let Some(slot) = self.runs.get(&run) else { return };
        let Some(key) = slot.run.submitted().session.clone() else { return };
        let waiting = waiting(&slot.run);
        match slot.run.submitted().conduct.admission {
            Admission::Started | Admission::Queued => {}
            Admission::Interrupting => self.interrupt_session(&key, run),
            Admission::Steered => self.post(&key, run),
            Admission::Collected => self.drop_oldest(&key, waiting.group.as_deref()),
        }
        self.sessions.enter(&key, waiting);
        if self.runs.get(&run).is_some_and(|slot| slot.seat == Seat::Free) {
            let next = self.sessions.next(&key, self.now);
            assert_eq!(next, Next::Start(run), "a session that is not busy starts who comes");
        } else {
            self.proceed(&key);
        }
        self.gauge_sessions();
    }

    fn interrupt_session(&mut self, key: &str, by: RunId) {
        for other in self.sessions.members(key) {
            let reason = format!("interrupted by run `{by}` of session `{key}`");
            self.advance(other, Input::Cancel { reason });
        }
    }

    /// Puts a message before the run that holds the session, once the message is durable.
    fn post(&mut self, key: &str, run: RunId) {
        let holder = self.sessions.holder(key).and_then(|holder| self.runs.get(&holder));
        let letters = holder.and_then(|slot| slot.letters.clone());
        let (Some(letters), Some(slot)) = (letters, self.runs.get(&run)) else { return };
        let (message, cancelled) = (slot.run.input().clone(), Arc::clone(&slot.cancelled));
        self.staged.acks.push(Box::new(move || {
            if !cancelled.load(Ordering::Acquire) {
                letters.put(run, message);
            }
        }));
    }

    fn drop_oldest(&mut self, key: &str, group: Option<&Group>) {
        let Some(group) = group.filter(|group| group.collect.overflow == Overflow::Old) else {
            return;
        };
        if let Some(oldest) = self.is_capped(key, group) {
            let cap = group.collect.cap;
            let reason = format!("session `{key}` collects {cap} messages, and newer ones came");
            self.advance(oldest, Input::Stop { cause: CancelCause::Dropped, reason });
            // At once: the next message of this turn must not find it there, and drop nobody.
            self.sessions.left(key, oldest);
        }
    }

    /// Lets whoever is next in the session go on.
    pub(super) fn proceed(&mut self, key: &Arc<str>) {
        loop {
            match self.sessions.next(key, self.now) {
                Next::Nothing => break,
                Next::Start(run) => self.start(run),
                Next::Resume(run) => self.resume_parked(run),
                Next::Merge { number, runs, group } => self.merge(key, number, &runs, &group),
                Next::Wait { until, first } => self.timers.at(until, Due::Session(first)),
            }
        }
        self.gauge_sessions();
    }

    pub(super) fn start(&mut self, run: RunId) {
        let Some(slot) = self.runs.get_mut(&run) else { return };
        slot.seat = Seat::Free;
        self.advance(run, Input::Seat);
        let Some(slot) = self.runs.get(&run) else { return };
        let (_, mut effects) = run::outstanding(&slot.run, false);
        // Its timeout has run since its submit; where it has ended, that is known already.
        effects.retain(run::Effect::waits_its_turn);
        self.staged.effects.extend(effects.into_iter().map(|effect| (run, effect)));
        self.staged.again = true;
    }

    fn resume_parked(&mut self, run: RunId) {
        self.start(run);
        let Some(slot) = self.runs.get(&run) else { return };
        for task in slot.run.retries_due(self.now) {
            self.advance(run, Input::RetryDue { task });
        }
    }

    /// No message has come to the group for a while, perhaps.
    pub(super) fn session_rang(&mut self, first: RunId) {
        let Some(slot) = self.runs.get(&first) else { return };
        if let Some(key) = slot.run.submitted().session.clone() {
            self.sessions.rang(&key, first);
            self.proceed(&key);
        }
    }

    /// A run has ended: the next of its session goes on.
    pub(super) fn leave_session(&mut self, run: &Run) {
        let Some(key) = run.submitted().session.as_ref() else { return };
        self.sessions.left(key, run.id());
        if run.submitted().conduct.admission == Admission::Steered
            && let Some(holder) = self.sessions.holder(key)
            && let Some(letters) = self.runs.get(&holder).and_then(|slot| slot.letters.as_ref())
        {
            letters.withdraw(run.id());
        }
        self.proceed(key);
    }

    /// Takes note of messages that agents of the run have read; who brought them is done.
    pub(super) fn note_letters(&mut self, run: RunId) {
        if self.sessions.is_empty() {
            return;
        }
        let letters = self.runs.get(&run).and_then(|slot| slot.letters.as_ref());
        let Some(letters) = letters.filter(|letters| letters.has_news()).cloned() else { return };
        for (from, message) in letters.note() {
            if self.advance(run, Input::Steered { from, message }) {
                self.advance(from, Input::Absorb { into: run });
            }
        }
    }

    /// Lets the next run of the session go on where this one only waits for its retry.
    pub(super) fn park_if_backing_off(&mut self, run: RunId) {
        if self.sessions.is_empty() {
            return;
        }
        let Some(slot) = self.runs.get_mut(&run) else { return };
        let parks = slot.run.submitted().conduct.on_retry == OnRetry::Park;
        if !parks || slot.seat != Seat::Free || !slot.run.is_backing_off() {
            return;
        }
        let Some(key) = slot.run.submitted().session.clone() else { return };
        if self.sessions.park(&key, run) {
            slot.seat = Seat::Parked;
            self.proceed(&key);
        }
    }

    /// A retry is due: true for a parked run, which goes on when its session is free.
    pub(super) fn is_parked_run_due(&mut self, run: RunId) -> bool {
        let Some(slot) = self.runs.get(&run).filter(|slot| slot.seat == Seat::Parked) else {
            return false;
        };
        if let Some(key) = slot.run.submitted().session.clone()
            && self.sessions.due(&key, run)
        {
            self.proceed(&key);
        }
        true
    }

    pub(super) fn answer(&mut self, ask: SessionAsk) {
        match ask {
            SessionAsk::Look { key, reply } => {
                let (when_busy, weight) = self.setups.of(&key);
                let (view, when_busy) = (self.sessions.view(&key), when_busy.clone());
                // The asker may have gone.
                let _ = reply.send(SessionInfo { view, when_busy, weight });
            }
            SessionAsk::Keys { reply } => {
                let keys: BTreeSet<_> = self.sessions.keys().chain(self.setups.keys()).collect();
                let _ = reply.send(keys.into_iter().cloned().collect());
            }
            SessionAsk::SetUp { key, setup, reply } => {
                self.setups.set(key, setup);
                let _ = reply.send(());
            }
        }
    }

    pub(super) fn gauge_sessions(&self) {
        self.stats.sessions_busy.store(self.sessions.len() as u64, Ordering::Relaxed);
        self.stats.sessions_waiting.store(self.sessions.waiting() as u64, Ordering::Relaxed);
    }
}

/// A run as it comes to its session. What has begun, or is merged already, is merged with nobody.
pub(super) fn waiting(run: &Run) -> Waiting {
    let submitted = run.submitted();
    let group = match &submitted.conduct.when_busy {
        WhenBusy::Collect(collect)
            if submitted.conduct.admission == Admission::Collected
                && run.is_untouched()
                && run.merged().is_empty() =>
        {
            Some(Arc::new(group(submitted.definition, collect)))
        }
        _ => None,
    };
    Waiting { run: run.id(), at: run.submitted_at(), group }
}

fn group(definition: crate::model::BlobHash, collect: &Arc<Collect>) -> Group {
    Group { definition, collect: Arc::clone(collect) }
}

fn session_busy(key: &str, holder: Option<RunId>) -> Error {
    let holder = holder.map_or_else(String::new, |run| format!(": run `{run}` is under way"));
    Error::new(
        "session.busy",
        format!("session `{key}` is busy{holder}"),
        "submit again when it has ended, or choose another when_busy than \"reject\"",
    )
}

fn session_full(key: &str, most: usize) -> Error {
    Error::new(
        "session.full",
        format!("session `{key}` is full: {most} messages wait in it"),
        "submit later; when_busy=\"interrupt\" or Collect(overflow=\"old\") let go of what waits",
    )
}
