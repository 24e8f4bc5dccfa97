//! The line: decide → journal → start → sync → act, with a crash possible between any two steps.

use goclaw::lane::{Entry, Permit};
use goclaw::model::{Delivery, Event, TaskRef, TaskState};
use goclaw::run::{self, Effect, Input, Turn};

use super::actors::{Flight, Mail};
use super::journal::dump;
use super::{Stop, Went, World};
use crate::sim::model::{Expected, Verdict, demand};
use crate::sim::mutant::Mutant;

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

    /// Ready tasks go to their lane; lanes admit and grant what they can.
    pub fn dispatch(&mut self) -> Went {
        for lane in 0..self.lanes.len() {
            self.admit(lane)?;
            while self.grant(lane)? {
                self.admit(lane)?;
            }
        }
        Ok(())
    }

    pub fn offered(&mut self, entry: Entry, lane: usize) {
        self.lanes.lane_mut(lane).offer(entry);
        self.staged.again = true;
    }

    fn admit(&mut self, lane: usize) -> Went {
        while let Some(entry) = self.lanes.lane_mut(lane).next_admission() {
            let admitted = match self.run.span_state(entry.span) {
                Some(TaskState::Pending) => self.step(Input::Admitted { span: entry.span })?,
                Some(TaskState::Scheduled) => true,
                _ => false,
            };
            let lost = self.is(Mutant::DropEntryAtAdmission) && entry.span.len > 1;
            if admitted && !lost {
                self.lanes.lane_mut(lane).enqueue(entry);
            }
        }
        Ok(())
    }

    fn grant(&mut self, lane: usize) -> Went<bool> {
        for front in self.lanes.lane(lane).fronts() {
            let calls = match self.run.plan().task(front.span.node).delivery {
                Delivery::AtMostOnce => 1,
                Delivery::AtLeastOnce => self.dice.between(1, 6) as u32,
            };
            if let Some((entry, permit)) = self.lanes.grant(lane, front.style, calls) {
                self.launch(entry, permit)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn launch(&mut self, entry: Entry, permit: Permit) -> Went {
        let span = entry.span;
        if !self.step(Input::Claimed { span })? {
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
        let flight = Flight::new(span, attempt, entry.style, task.timeout_ms, permit);
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
