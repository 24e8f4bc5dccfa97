//! The lanes of an engine, and the global lane above them.

use std::collections::HashMap;
use std::sync::Arc;

use super::check::check;
use super::named::{Lane, STYLES};
use super::permit::Slots;
use super::view::{LaneView, Whereabouts};
use super::{Entry, Front, Loan, Permit};
use crate::model::{
    Error, LaneCard, LaneSpec, NodeIx, OnFull, Result, RunId, Span, Style, Timestamp,
};

/// Entries before a task that are counted one by one at most, to say what is ahead of it.
const AHEAD_LOOKS: usize = 10_000;

/// The named lanes of an engine and the global lane.
#[derive(Debug)]
pub struct Lanes {
    pub(super) lanes: Vec<Lane>,
    by_name: HashMap<String, usize>,
    global: Slots,
    /// Whose turn it is where the global lane is short: the lane after the one that had the last.
    next: usize,
}

impl Lanes {
    /// `global` bounds the slots taken in all lanes together.
    ///
    /// # Errors
    /// As `declare`.
    pub fn new(specs: impl IntoIterator<Item = LaneSpec>, global: Option<u32>) -> Result<Self> {
        let global = Slots::new(global.unwrap_or(u32::MAX));
        let mut lanes = Self { lanes: Vec::new(), by_name: HashMap::new(), global, next: 0 };
        lanes.declare(&specs.into_iter().collect::<Vec<_>>())?;
        Ok(lanes)
    }

    /// Adds lanes; one that exists under its name stays as it is.
    ///
    /// # Errors
    /// `lane.invalid`, `lane.unknown` (a redirect), `lane.redirect_cycle`, `lane.redirect_hops`; then
    /// none is added.
    pub fn declare(&mut self, specs: &[LaneSpec]) -> Result<()> {
        let missing: Vec<LaneSpec> =
            specs.iter().filter(|spec| self.index(&spec.name).is_none()).cloned().collect();
        if missing.is_empty() {
            return Ok(());
        }
        check(self.lanes.iter().map(Lane::spec), &missing)?;
        for spec in missing {
            if self.index(&spec.name).is_none() {
                self.by_name.insert(spec.name.clone(), self.lanes.len());
                self.lanes.push(Lane::new(spec));
            }
        }
        Ok(())
    }

    /// Declares a lane, or gives the lane of that name other limits, live. What runs above a new
    /// limit goes on; what is queued above a new capacity stays.
    ///
    /// # Errors
    /// As `declare`; then nothing is changed.
    pub fn configure(&mut self, spec: LaneSpec, now: Timestamp) -> Result<usize> {
        check(self.lanes.iter().map(Lane::spec), std::slice::from_ref(&spec))?;
        match self.index(&spec.name) {
            Some(lane) => {
                self.lanes[lane].configure(spec, now);
                Ok(lane)
            }
            None => {
                self.by_name.insert(spec.name.clone(), self.lanes.len());
                self.lanes.push(Lane::new(spec));
                Ok(self.lanes.len() - 1)
            }
        }
    }

    /// Changes the bound over all lanes. `None`: none.
    pub fn set_global(&mut self, global: Option<u32>) {
        self.global.set_limit(global.unwrap_or(u32::MAX));
    }

    pub fn len(&self) -> usize {
        self.lanes.len()
    }
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
    pub fn lane(&self, index: usize) -> &Lane {
        &self.lanes[index]
    }
    pub fn lane_mut(&mut self, index: usize) -> &mut Lane {
        &mut self.lanes[index]
    }

    /// The full lane at which a new task for this lane would have to wait: redirects followed.
    pub fn full(&self, lane: usize) -> Option<usize> {
        let mut at = lane;
        loop {
            if !self.lanes[at].is_full() {
                return None;
            }
            match &self.lanes[at].spec().on_full {
                OnFull::Block => return Some(at),
                OnFull::DropNewest | OnFull::DropOldest => return None,
                // Declared lanes redirect in no circle, and to lanes that are there.
                OnFull::Redirect(to) => at = self.index(to)?,
            }
        }
    }

    /// Counts a place as taken for a task that is about to be offered to this lane.
    pub fn reserve(&mut self, lane: usize) {
        let mut at = lane;
        while self.lanes[at].is_full() {
            let OnFull::Redirect(to) = &self.lanes[at].spec().on_full else { break };
            let Some(next) = self.index(to) else { break };
            at = next;
        }
        self.lanes[at].reserve();
    }

    /// Reserved places are taken now, or not needed.
    pub fn clear_reservations(&mut self) {
        self.lanes.iter_mut().for_each(Lane::clear_reservation);
    }

    /// Counts a submit that was refused because the lane was full.
    pub fn reject(&mut self, lane: usize) {
        self.lanes[lane].counts.rejected += 1;
    }

    /// Grants nothing from now on; what is admitted waits.
    pub fn pause(&mut self, lane: usize) {
        self.lanes[lane].paused = true;
    }
    pub fn resume(&mut self, lane: usize) {
        self.lanes[lane].paused = false;
    }
    /// Names of the lanes that are paused.
    pub fn paused(&self) -> impl Iterator<Item = &str> {
        self.lanes.iter().filter(|lane| lane.paused).map(|lane| lane.spec.name.as_str())
    }
    pub fn is_paused(&self, lane: usize) -> bool {
        self.lanes[lane].paused
    }

    /// The card of a task that runs in a lane and was declared in another, perhaps.
    pub fn card(&self, lane: usize, declared: &str) -> Arc<LaneCard> {
        let here = self.lanes[lane].card();
        if here.lane == declared {
            return Arc::clone(here);
        }
        let mut from = Vec::new();
        let mut at = self.index(declared);
        // Lanes redirect in no circle.
        while let Some(index) = at.filter(|&index| index != lane) {
            from.push(Arc::clone(self.lanes[index].card()));
            at = match &self.lanes[index].spec().on_full {
                OnFull::Redirect(to) => self.index(to),
                _ => None,
            };
        }
        from.reverse();
        Arc::new(LaneCard { from, ..LaneCard::clone(here) })
    }

    /// Takes `n` units of a budget of the lane, or of a key in it, afterwards: a debt is waited for.
    ///
    /// # Errors
    /// `lane.budget`: the lane has no budget of this unit.
    pub fn charge(
        &mut self,
        lane: usize,
        key: Option<&str>,
        unit: &str,
        n: u64,
        now: Timestamp,
    ) -> Result<()> {
        let lane = &mut self.lanes[lane];
        if lane.limiters.charge(&key.map(Arc::from), unit, n, now) {
            return Ok(());
        }
        Err(Error::new(
            "lane.budget",
            format!("lane `{}` has no budget of `{unit}`", lane.spec().name),
            "declare it with the lane: budgets={\"tokens\": \"90000/m\"}",
        ))
    }

    /// Grants nothing of a key, or nothing of the lane at all, before `until`.
    pub fn hold(&mut self, lane: usize, key: Option<&str>, until: Timestamp) {
        let lane = &mut self.lanes[lane];
        match key {
            Some(key) => lane.limiters.hold(&Some(key.into()), until),
            None => lane.held = lane.held.max(until),
        }
    }

    /// When a limiter has tokens again for somebody who waits, where nothing else would tell.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let waits = self.lanes.iter().filter(|lane| lane.queued > 0 && !lane.paused);
        // A lane that is held is not looked at before.
        let due = |lane: &Lane| match lane.held {
            Timestamp(0) => lane.limiters.next_due(),
            held => Some(held),
        };
        waits.filter_map(due).min()
    }

    /// Lanes in the order of their turns: the global lane goes round.
    pub fn turns(&self) -> impl Iterator<Item = usize> + use<> {
        let (next, len) = (self.next, self.lanes.len());
        (0..len).map(move |n| (next + n) % len)
    }

    /// True where the global lane bounds: lanes then take turns, permit by permit.
    pub fn is_bounded(&self) -> bool {
        self.global.is_bounded()
    }

    /// What is next of each style, best first: threads that are all taken do not hold up coroutines.
    /// Nothing where the lane is paused or held.
    pub fn fronts(&mut self, lane: usize, now: Timestamp) -> impl Iterator<Item = Front> + use<> {
        let mut fronts = [const { None }; 3];
        let lane = &mut self.lanes[lane];
        if !lane.paused && lane.held <= now {
            lane.held = Timestamp(0);
            lane.settle(now);
        }
        if lane.queued > 0 && !lane.paused && lane.held <= now {
            for (front, style) in fronts.iter_mut().zip(STYLES) {
                *front = lane.front(style, now);
            }
            fronts.sort_unstable_by_key(|front| front.map(|(head, _)| head));
        }
        fronts.into_iter().flatten().map(|(_, front)| front)
    }

    /// Slots that a task at this style could take now.
    pub fn free(&self, lane: usize, style: Style) -> u32 {
        self.lanes[lane].free(style).min(self.global.free())
    }

    /// Takes up to `n` tasks of what is in front at a style, with the permit to run them.
    ///
    /// A batch on a thread holds one slot, calls on the loop hold one each. To be asked right after
    /// `fronts` has named the style.
    pub fn grant(
        &mut self,
        lane: usize,
        style: Style,
        n: u32,
        now: Timestamp,
    ) -> Option<(Entry, Permit)> {
        let free = self.free(lane, style);
        if free == 0 || n == 0 {
            return None;
        }
        let n = if style == Style::Loop { n.min(self.share(free)) } else { n };
        let entry = self.lanes[lane].pop(style, n, now)?;
        let slots = if style == Style::Loop { entry.span.len } else { 1 };
        self.next = lane + 1;
        Some((entry, self.permit(lane, style, slots)))
    }

    /// What one lane may take at once of the slots that are free: where the global lane bounds,
    /// others that wait get as much.
    fn share(&self, free: u32) -> u32 {
        if !self.is_bounded() {
            return free;
        }
        let waiting = self.lanes.iter().filter(|lane| lane.queued > 0 && !lane.paused).count();
        (free / u32::try_from(waiting).unwrap_or(u32::MAX).max(1)).max(1)
    }

    fn permit(&self, lane: usize, style: Style, slots: u32) -> Permit {
        let lane = &self.lanes[lane];
        let threads = (style == Style::Thread).then_some(&lane.threads);
        let holds = [Some(&lane.slots), threads, Some(&self.global)];
        Permit { holds: holds.map(|held| held.map(|held| held.take(slots))) }
    }

    /// Gives one slot of a permit back for as long as its agent waits. Before it goes on it takes one
    /// again with `retake`.
    pub fn lend(&self, lane: usize, permit: &mut Permit) -> Loan {
        permit.release(1);
        Loan { _counted: self.lanes[lane].lent.take(1) }
    }

    /// One slot for an agent that lent its own and goes on; before anything new is granted.
    pub fn retake(&mut self, lane: usize, style: Style) -> Option<Permit> {
        (self.free(lane, style) > 0).then(|| self.permit(lane, style, 1))
    }

    /// Takes everything of a run out of all queues.
    pub fn withdraw(&mut self, run: RunId) {
        self.lanes.iter_mut().for_each(|lane| lane.withdraw(run, None));
    }

    /// Takes tasks of a run out of all queues.
    pub fn withdraw_span(&mut self, run: RunId, span: Span) {
        self.lanes.iter_mut().for_each(|lane| lane.withdraw(run, Some(span)));
    }

    pub fn view(&mut self, now: Timestamp) -> Vec<LaneView> {
        for lane in &mut self.lanes {
            if lane.queued == 0 {
                lane.settle(now);
            }
            lane.limiters.expire(now, usize::MAX);
        }
        self.lanes.iter().map(|lane| lane.view(now)).collect()
    }

    /// Where the tasks of a node wait.
    pub fn whereabouts(&self, run: RunId, node: NodeIx) -> Vec<Whereabouts> {
        self.lanes.iter().flat_map(|lane| lane.whereabouts(run, node, AHEAD_LOOKS)).collect()
    }
}
