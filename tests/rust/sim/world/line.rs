//! The line: decide → journal → start → sync → act, with a crash possible between any two steps.

use std::sync::Arc;

use goclaw::lane::{Admission, Entry, Permit};
use goclaw::model::{Delivery, Event, LaneSpec, TaskRef, TaskState};
use goclaw::run::{self, Effect, Input, Turn};

use super::actors::{Flight, Mail};
use super::journal::dump;
use super::{Stop, Went, World};
use crate::sim::model::{Expected, Verdict, demand};
use crate::sim::mutant::Mutant;
use crate::sim::scene;

/// Milliseconds within which a relaxed run is brought to disk.
const WINDOW_MS: u64 = 10;

/// What a turn has decided and not carried out.
#[derive(Default)]
pub struct Staged {
    pub effects: Vec<Effect>,
    pub launches: Vec<u64>,
    pub launches_durable: Vec<u64>,
    pub acks: Vec<Ack>,
    pub gated: bool,
    pub sync_timer: bool,
    again: bool,
}

/// Answers to people who wait.
pub enum Ack {
    Submitted,
    Cancelled,
    Grown(usize),
}

impl World {
    /// One input through the machine, past the reference, into the open record.
    pub fn step(&mut self, input: Input) -> Went<bool> {
        let expected = self.model.expect(&input, self.now);
        let before = self.mutant.map(|_| self.run.clone());
        let given = match self.mutant {
            Some(mutant) => mutant.redirect(input.clone(), &self.run),
            None => input.clone(),
        };
        self.tell(|| told(&input));
        let mut turn = Turn::default();
        run::step(&mut self.run, given, self.now, self.dice.bits(), &mut turn);
        let tampered = match (self.mutant, before) {
            (Some(mutant), Some(before)) => mutant.tamper(&input, &before, &mut turn, self.now),
            _ => false,
        };
        let changed = !turn.events.is_empty();
        self.observe(&turn, Some(&expected), tampered)?;
        Ok(changed)
    }

    /// Takes a turn that no input caused: a run's beginning.
    pub fn take(&mut self, turn: Turn) -> Went {
        self.observe(&turn, None, false)
    }

    fn observe(&mut self, turn: &Turn, expected: Option<&Expected>, tampered: bool) -> Went {
        for event in &turn.events {
            self.tell(|| format!("    {event:?}"));
            self.count_event(event);
        }
        turn.effects.iter().for_each(|effect| self.tell(|| format!("      > {effect:?}")));
        if turn.late > 0 {
            self.note("late result");
        }
        for event in &turn.events {
            self.model.observe(event, self.now)?;
        }
        if let Some(expected) = expected {
            expected.met(turn)?;
        }
        self.model.settled()?;
        self.model.effects(&turn.effects)?;
        self.model.owed()?;
        self.stage(turn);
        if tampered {
            self.run = self.journal.replay(&self.plan)?;
        }
        self.model.agrees(&self.run)?;
        if self.thorough { Ok(self.check_replay()?) } else { Ok(()) }
    }

    fn stage(&mut self, turn: &Turn) {
        let weight = match self.is(Mutant::CountEventsNotTasks) {
            true => turn.events.len() as u64,
            false => turn.events.iter().map(Event::weight).sum(),
        };
        let mut events = &turn.events[..];
        if self.is(Mutant::JournalMissesEvent) && events.len() > 2 {
            events = &events[..events.len() - 1];
        }
        self.journal.stage(events, self.now, weight);
        self.staged.gated |= self.strict() && turn.events.iter().any(Event::gates);
        self.staged.effects.extend(turn.effects.iter().cloned());
    }

    /// State is the replay of the journal, byte for byte.
    pub fn check_replay(&self) -> Verdict {
        let again = self.journal.replay(&self.plan)?;
        demand!(dump(&again) == dump(&self.run), "the journal tells of another run");
        Ok(())
    }

    /// Here the process may die.
    fn point(&mut self, name: &'static str) -> Went {
        if self.dice.chance(self.scene.climate.crash) {
            self.note(name);
            return Err(Stop::Crash);
        }
        Ok(())
    }

    pub fn commit_all(&mut self) -> Went {
        self.commit()?;
        while std::mem::take(&mut self.staged.again) {
            self.dispatch()?;
            self.commit()?;
        }
        Ok(())
    }

    pub fn commit(&mut self) -> Went {
        self.point("crash: decided, not written")?;
        if self.is(Mutant::ActBeforeJournal) {
            self.act_all()?;
        }
        if self.journal.write(&self.run) {
            self.point("crash: written, not started")?;
        }
        for flight in std::mem::take(&mut self.staged.launches) {
            self.execute(flight)?;
            self.point("crash: started, not synced")?;
        }
        self.sync();
        self.point("crash: synced, not acted")?;
        for flight in std::mem::take(&mut self.staged.launches_durable) {
            self.execute(flight)?;
            self.point("crash: started once")?;
        }
        self.act_all()?;
        for ack in std::mem::take(&mut self.staged.acks) {
            self.witness.acknowledged(&ack);
        }
        Ok(())
    }

    fn sync(&mut self) {
        let behind = self.journal.synced < self.journal.written;
        if self.is(Mutant::NeverSync) {
            self.staged.gated = false;
        } else if std::mem::take(&mut self.staged.gated) {
            self.journal.synced = self.journal.written;
        } else if behind && !self.staged.sync_timer {
            self.staged.sync_timer = true;
            self.post(self.now.plus(WINDOW_MS), Mail::Sync);
        }
    }

    fn act_all(&mut self) -> Went {
        for effect in std::mem::take(&mut self.staged.effects) {
            self.act(effect)?;
            self.point("crash: half acted")?;
        }
        Ok(())
    }

    /// Ready tasks go to their lane; lanes admit and grant what they can. Who goes on comes first, and
    /// what finds no room may find it once the permits that are free are given away.
    pub fn dispatch(&mut self) -> Went {
        let late = self.is(Mutant::ReturnersLast);
        if !late {
            self.bring_back();
        }
        loop {
            for lane in 0..self.lanes.len() {
                self.let_in(lane)?;
            }
            if self.is(Mutant::OverflowFirst) {
                self.overflow_somewhere()?;
            }
            for lane in self.lanes.turns() {
                while self.grant(lane)? {
                    self.let_in(lane)?;
                }
            }
            if !self.overflow_somewhere()? {
                break;
            }
        }
        if late {
            self.bring_back();
        }
        self.check_lanes()?;
        self.check_permits()?;
        self.await_refill();
        Ok(())
    }

    pub fn offered(&mut self, entry: Entry, lane: usize) {
        self.lanes.lane_mut(lane).offer(entry);
        self.staged.again = true;
    }

    /// Lets in what there is room for.
    fn let_in(&mut self, lane: usize) -> Went {
        while let Some(admission) = self.lanes.lane_mut(lane).next_place() {
            self.carried_out(lane, admission)?;
        }
        Ok(())
    }

    /// Carries out what the lanes decide on what found no room, until another lane has got some of it.
    fn overflow_somewhere(&mut self) -> Went<bool> {
        for lane in 0..self.lanes.len() {
            let mut elsewhere = false;
            while let Some(admission) = self.lanes.lane_mut(lane).next_admission() {
                let placed = matches!(admission, Admission::Place(_));
                if !placed {
                    self.check_nothing_is_free(lane)?;
                }
                elsewhere |= self.carried_out(lane, admission)?.is_some();
                // What others made room for goes before the next to come takes its place away.
                if placed && self.lanes.fronts(lane, self.now).next().is_some() {
                    return Ok(true);
                }
            }
            if elsewhere {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Nothing is dropped or sent away while what is queued could have a permit, and make room.
    fn check_nothing_is_free(&mut self, lane: usize) -> Went {
        for front in self.lanes.fronts(lane, self.now) {
            let free = self.lanes.free(lane, front.style);
            demand!(free == 0, "lane {lane} overflows with {free} permits free for {front:?}");
        }
        Ok(())
    }

    fn carried_out(&mut self, lane: usize, admission: Admission) -> Went<Option<usize>> {
        let entry = admission.entry();
        let (span, state) = (entry.span, self.run.span_state(entry.span));
        let name: Arc<str> = self.lanes.lane(lane).spec().name.as_str().into();
        let wanted = match &admission {
            Admission::Place(_) => match state {
                Some(TaskState::Pending) => self.step(Input::Admitted { span })?,
                state => state == Some(TaskState::Scheduled),
            },
            Admission::Drop(_) if self.is(Mutant::DropSilently) => true,
            Admission::Drop(_) => self.step(Input::Dropped { span, lane: name })?,
            Admission::Redirect(_, to) => {
                let to = to.as_str().into();
                self.step(Input::Redirected { span, from: name, to })?
            }
        };
        if !wanted {
            self.lanes.lane_mut(lane).retract(&admission);
            return Ok(None);
        }
        match admission {
            Admission::Place(entry) => {
                let lost = self.is(Mutant::DropEntryAtAdmission) && span.len > 1;
                if !lost {
                    self.lanes.lane_mut(lane).enqueue(entry);
                }
            }
            // Counted as accepted, and granted all the same.
            Admission::Drop(entry) if self.is(Mutant::EnqueueDropped) => {
                self.lanes.lane_mut(lane).enqueue(entry);
            }
            Admission::Drop(_) => {}
            Admission::Redirect(..) if self.is(Mutant::LoseRedirected) => {}
            Admission::Redirect(entry, to) => {
                let target = self.lanes.index(&to).expect("redirects are checked");
                self.lanes.lane_mut(target).offer(entry);
                return Ok(Some(target));
            }
        }
        Ok(None)
    }

    /// What must hold between any two turns: bounds and accounts.
    fn check_lanes(&mut self) -> Went {
        let mut running = 0;
        for (lane, view) in self.lanes.view(self.now).into_iter().enumerate() {
            let counts = view.counts;
            let sum = counts.accepted + counts.redirected + counts.dropped + view.backlog;
            demand!(counts.offered == sum, "lane {lane}: {counts:?} and {} wait", view.backlog);
            demand!(view.queued <= self.room[lane], "lane {lane} holds {}", view.queued);
            demand!(view.running <= self.most[lane], "lane {lane} runs {}", view.running);
            // What runs above a limit that was lowered goes on; nothing new begins.
            let spec = &self.scene.lanes[lane];
            self.most[lane] = view.running.max(spec.concurrency);
            self.room[lane] = view.queued.max(spec.capacity.into());
            running += view.running;
        }
        let most = self.scene.global.unwrap_or(u32::MAX);
        demand!(running <= most, "{running} run, {most} may");
        Ok(())
    }

    /// Comes back when a limiter has tokens again.
    fn await_refill(&mut self) {
        let Some(at) = self.lanes.wake_at().filter(|_| !self.is(Mutant::NeverWake)) else { return };
        if self.refill_at.is_none_or(|known| known > at) {
            self.refill_at = Some(at);
            self.mail.insert((at.max(self.now), self.dice.bits()), Mail::Refill);
        }
    }

    /// People who look after lanes.
    pub fn operators(&mut self) -> Went {
        let lane = self.dice.index(self.lanes.len());
        match self.dice.below(30) {
            0 => {
                self.note("pause");
                self.lanes.pause(lane);
                let at = self.now.plus(self.dice.below(200));
                if !self.is(Mutant::NeverResume) {
                    self.mail.insert((at, self.dice.bits()), Mail::Resume(lane));
                }
            }
            1 => {
                self.note("live limits");
                let count = self.lanes.len() as u64;
                let spec = scene::lane(lane as u64, count, &mut self.dice);
                let (most, room) = (self.most[lane], self.room[lane]);
                // Only what runs and waits now may go beyond.
                let view = &self.lanes.view(self.now)[lane];
                self.most[lane] = view.running.max(spec.concurrency);
                self.room[lane] = view.queued.max(spec.capacity.into());
                demand!(view.running <= most && view.queued <= room, "a bound was broken before");
                self.scene.lanes[lane] = spec.clone();
                let over = u32::from(self.is(Mutant::OneOverAfterShrink));
                let spec = LaneSpec { concurrency: spec.concurrency + over, ..spec };
                self.lanes.configure(spec, self.now).map_err(|error| error.message)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn grant(&mut self, lane: usize) -> Went<bool> {
        for front in self.lanes.fronts(lane, self.now) {
            let calls = match self.run.plan().task(front.node).delivery {
                Delivery::AtMostOnce => 1,
                Delivery::AtLeastOnce => self.dice.between(1, 6) as u32,
            };
            self.check_nobody_is_passed(lane)?;
            if let Some((entry, permit)) = self.lanes.grant(lane, front.style, calls, self.now) {
                self.launch(lane, entry, permit)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn launch(&mut self, lane: usize, entry: Entry, permit: Permit) -> Went {
        let span = entry.span;
        if !self.step(Input::Claimed { span })? {
            drop(permit);
            self.bring_back();
            return Ok(());
        }
        let attempt = entry.attempts + 1;
        let is = self.run.attempt(TaskRef { node: span.node, index: span.lo });
        if is != attempt {
            return Err(Stop::Wrong(format!(
                "{span:?} starts attempt {attempt}, the run says {is}"
            )));
        }
        let id = self.number();
        let task = self.run.plan().task(span.node);
        let once = task.delivery == Delivery::AtMostOnce;
        let place = (lane, entry.key.clone());
        let flight = Flight::new(span, attempt, entry.style, task.timeout_ms, permit, place);
        self.flights.insert(id, flight);
        if once && !self.is(Mutant::StartBeforeSync) {
            self.staged.gated = true;
            self.staged.launches_durable.push(id);
        } else {
            self.staged.launches.push(id);
        }
        Ok(())
    }
}

/// An input as a story tells it: of a growth only what is new.
fn told(input: &Input) -> String {
    match input {
        Input::Grow { growth, .. } => format!("Grow {{ {:?} }}", growth.tasks),
        input => format!("{input:?}"),
    }
}
