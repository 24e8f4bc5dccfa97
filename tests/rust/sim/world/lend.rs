//! Agents that wait on their way: their permit is lent, and taken again before they go on.

use goclaw::model::{Millis, Span, Style, TaskRef, Timestamp};
use goclaw::run::Outcome;

use super::actors::Mail;
use super::{Went, World};
use crate::sim::model::demand;
use crate::sim::mutant::Mutant;

impl World {
    /// True for a call that waits for something other than itself before it ends. On a thread only the
    /// last: those behind it would wait with it.
    pub fn waits_on_its_way(
        &mut self,
        flight: u64,
        style: Style,
        span: Span,
        task: TaskRef,
        outcome: &Outcome,
    ) -> bool {
        let may = style == Style::Loop || task.index + 1 == span.hi();
        let begins = !matches!(outcome, Outcome::Returned) && self.flights.contains_key(&flight);
        may && begins && self.dice.chance(self.scene.climate.lend)
    }

    pub fn wait_on_the_way(
        &mut self,
        id: u64,
        child: u32,
        (begins, lasts): (Timestamp, Millis),
        outcome: Outcome,
    ) {
        let first = self.dice.below(lasts + 1);
        let Some(flight) = self.flights.get_mut(&id) else { return };
        flight.ends.insert(child, (lasts - first, outcome));
        let waits = begins.plus(first);
        let returns = waits.plus(self.dice.below(60));
        self.post(waits, Mail::Waits(id, child));
        self.post(returns.plus(1), Mail::Returns(id, child));
    }

    pub fn lend(&mut self, id: u64, child: u32) {
        let Some(flight) = self.flights.get_mut(&id) else { return };
        let waits = flight.left.contains(&child) && flight.ends.contains_key(&child);
        if !waits || flight.lent.contains_key(&child) {
            return;
        }
        let keeps = self.mutant == Some(Mutant::LendKeepsPermit);
        let loan = (!keeps).then(|| self.lanes.lend(flight.place.0, &mut flight.permit));
        flight.lent.insert(child, loan);
        self.note("lent");
    }

    /// Gives those who go on a permit again, as far as there are any.
    pub fn bring_back(&mut self) {
        for (id, child) in std::mem::take(&mut self.returning) {
            let Some(flight) = self.flights.get_mut(&id) else { continue };
            if flight.lent.contains_key(&child) {
                if self.mutant != Some(Mutant::GoOnWithoutPermit) {
                    let Some(permit) = self.lanes.retake(flight.place.0, flight.style) else {
                        self.returning.push_back((id, child));
                        continue;
                    };
                    flight.permit.join(permit);
                }
                let loan = flight.lent.remove(&child).flatten();
                if self.mutant == Some(Mutant::LeakLoans) {
                    std::mem::forget(loan);
                }
            }
            let (span, attempt) = (Span::one(flight.span.node, child), flight.attempt);
            if let Some((rest, outcome)) = flight.ends.remove(&child) {
                self.note("took its permit again");
                self.report(self.now.plus(rest), id, attempt, span, vec![outcome]);
            }
        }
    }

    /// Nothing begins where somebody who goes on could have the permit.
    pub fn check_nobody_is_passed(&self, lane: usize) -> Went {
        for (id, child) in &self.returning {
            let Some(flight) = self.flights.get(id) else { continue };
            let waits = flight.place.0 == lane && flight.lent.contains_key(child);
            let passed = waits && self.lanes.free(lane, flight.style) > 0;
            demand!(!passed, "lane {lane} begins something new before call {child} of batch {id}");
        }
        Ok(())
    }

    /// Permits that are taken are those of calls that go on, and loans those of calls that wait.
    pub fn check_permits(&mut self) -> Went {
        for (lane, view) in self.lanes.view(self.now).into_iter().enumerate() {
            let of_lane = || self.flights.values().filter(|flight| flight.place.0 == lane);
            let lent: usize = of_lane().map(|flight| flight.lent.len()).sum();
            let going = of_lane().map(|flight| match flight.style {
                Style::Loop => flight.left.len() - flight.lent.len(),
                _ => 1 - flight.lent.len(),
            });
            let going: usize = going.sum();
            demand!(view.running as usize == going, "lane {lane}: {} of {going}", view.running);
            demand!(view.lent as usize == lent, "lane {lane}: {} loans of {lent}", view.lent);
        }
        Ok(())
    }
}
