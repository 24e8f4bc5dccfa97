//! Death of the process, closing in good order, and the way back from the journal.

use goclaw::model::Event;
use goclaw::run::{Input, outstanding};

use super::actors::Mail;
use super::journal::dump;
use super::line::Staged;
use super::{Stop, Went, World};
use crate::sim::model::{Model, Verdict, demand};
use crate::sim::mutant::Mutant;

impl World {
    /// Closes in good order: attempts under way are given back, everything is synced.
    pub fn close(&mut self) -> Went {
        self.note("closed");
        for (_, flight) in std::mem::take(&mut self.flights) {
            for span in self.still_running(&flight) {
                self.step(Input::Lost { span, attempt: flight.attempt, crash: false })?;
            }
        }
        self.commit()?;
        if self.finished {
            return Ok(());
        }
        self.journal.synced = self.journal.written;
        self.recover(false)
    }

    /// A new process finds the store.
    pub fn recover(&mut self, crash: bool) -> Went {
        self.note("recovered");
        self.turns += 1;
        self.forget_everything(crash);
        if self.journal.records.is_empty() {
            if self.strict() {
                self.witness.knows_nothing()?;
            }
            return self.submit();
        }
        self.reload()?;
        if self.strict() {
            self.witness.finds(&self.model)?;
        }
        self.model.forgets();
        let (mut inputs, mut effects) = outstanding(&self.run, crash);
        if let Some(mutant) = self.mutant {
            mutant.forget(&mut inputs, &mut effects);
        }
        self.tell(|| format!("outstanding: {inputs:?} {effects:?}"));
        self.model.lost(&inputs, crash)?;
        self.model.effects(&effects)?;
        self.model.owed()?;
        for input in inputs {
            self.step(input)?;
        }
        self.staged.effects.extend(effects);
        self.dispatch()?;
        self.commit_all()
    }

    fn forget_everything(&mut self, crash: bool) {
        let (synced, written) = (self.journal.synced, self.journal.written);
        let keep = synced + self.dice.index(written - synced + 1);
        self.journal.crash(if crash { keep } else { written });
        let middle = self.journal.records.len() / 2;
        if self.is(Mutant::JournalMissesRecord) && middle > 0 {
            self.journal.records.remove(middle);
        }
        self.staged = Staged::default();
        self.flights.clear();
        self.returning.clear();
        self.mail.clear();
        self.lanes = self.fresh_lanes();
        self.refill_at = None;
        self.finished = false;
        self.now = self.now.plus(self.dice.below(300));
    }

    /// State comes back as it was when the last durable record was written.
    fn reload(&mut self) -> Verdict {
        self.journal.check_numbers()?;
        self.run = self.journal.replay(&self.plan)?;
        let was = self.journal.dumps.last();
        demand!(was == Some(&dump(&self.run)), "the run came back as another one");
        let Some(Event::Submitted(submitted)) = self.journal.records[0].events.first() else {
            return Err("the journal does not begin with a submit".into());
        };
        self.model = Model::new(&self.scene.workflow, submitted);
        for record in &self.journal.records {
            for event in &record.events {
                self.model.observe(event, record.at)?;
            }
        }
        self.model.settled()?;
        self.model.agrees(&self.run)
    }

    /// The run has ended and its waiters are released: nothing changes any more, in this life or
    /// the next.
    pub fn epilogue(&mut self) -> Verdict {
        self.journal.check_numbers()?;
        self.check_replay()?;
        let quiet = |went: Went| match went {
            Ok(()) => Ok(()),
            Err(Stop::Wrong(why)) => Err(why),
            Err(Stop::Crash) => Err("a crash out of nowhere".into()),
        };
        let before = dump(&self.run);
        for (_, mail) in std::mem::take(&mut self.mail) {
            if !matches!(mail, Mail::Sync) {
                quiet(self.handle(mail))?;
            }
        }
        demand!(dump(&self.run) == before, "a run changed after its end");
        if self.strict() {
            let durable = self.journal.synced;
            self.journal.crash(durable);
            self.reload()?;
            self.witness.finds(&self.model)?;
        }
        Ok(())
    }
}
