//! One named lane: places, order, limits, what happens when it is full.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::band::Names;
use super::door::{Door, Head};
use super::entry::{Age, Entry, Front, Name, Place};
use super::limit::Limiters;
use super::permit::Slots;
use super::view::Counts;
use crate::math::Sketch;
use crate::math::Table;
use crate::model::{LaneCard, LaneSpec, OnFull, Priority, RunId, Span, Style, Timestamp};

/// The styles, in the order of a lane's doors.
pub(super) const STYLES: [Style; 3] = [Style::Thread, Style::Loop, Style::Process];

/// What a lane decides on tasks that came: to be journaled, then carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// They have a place: to be given to `enqueue`.
    Place(Entry),
    /// They have none, and fail; or they had one and make room for others.
    Drop(Entry),
    /// They go to the named lane.
    Redirect(Entry, String),
}

impl Admission {
    pub fn entry(&self) -> &Entry {
        match self {
            Self::Place(entry) | Self::Drop(entry) | Self::Redirect(entry, _) => entry,
        }
    }
}

/// What a lane remembers of a run that has tasks in it.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) flow: Name,
    pub(super) order: u64,
    /// Entries in queue and backlog, parts counted apart.
    entries: u64,
}

/// Where an entry lies, for those that may have to make room.
#[derive(Clone, Debug)]
struct Spot {
    style: Style,
    priority: Priority,
    names: Names,
    place: Place,
}

/// One named lane.
#[derive(Debug)]
pub struct Lane {
    pub(super) spec: LaneSpec,
    pub(super) slots: Slots,
    pub(super) threads: Slots,
    /// Slots whose agents wait: lent to others, taken again before they go on.
    pub(super) lent: Slots,
    /// By style.
    pub(super) doors: [Door; 3],
    pub(super) limiters: Limiters,
    /// Tasks in the queues; new ones only while it is below the capacity.
    pub(super) queued: u64,
    /// Ready tasks of accepted runs for which nothing is decided yet, first come first.
    pub(super) backlog: VecDeque<Entry>,
    /// Tasks in the backlog.
    pub(super) waiting: u64,
    pub(super) members: Table<RunId, Member>,
    /// By age, where the lane drops its oldest: who would go.
    by_age: BTreeMap<Age, Spot>,
    next_ticket: u64,
    /// Places for tasks of runs that are accepted but not durable yet.
    reserved: u64,
    pub(super) paused: bool,
    pub(super) held: Timestamp,
    pub(super) counts: Counts,
    pub(super) waits: Sketch,
    card: Arc<LaneCard>,
}

fn card(spec: &LaneSpec) -> Arc<LaneCard> {
    let units = spec.budgets.keys().cloned().collect();
    Arc::new(LaneCard { lane: spec.name.clone(), units, from: Vec::new() })
}

impl Lane {
    pub(super) fn new(spec: LaneSpec) -> Self {
        Self {
            slots: Slots::new(spec.concurrency),
            threads: Slots::new(spec.threads.unwrap_or(u32::MAX)),
            lent: Slots::new(u32::MAX),
            limiters: Limiters::new(&spec),
            doors: Default::default(),
            queued: 0,
            backlog: VecDeque::new(),
            waiting: 0,
            members: Table::default(),
            by_age: BTreeMap::new(),
            next_ticket: 0,
            reserved: 0,
            paused: false,
            held: Timestamp(0),
            counts: Counts::default(),
            waits: Sketch::default(),
            card: card(&spec),
            spec,
        }
    }

    pub fn spec(&self) -> &LaneSpec {
        &self.spec
    }
    pub fn card(&self) -> &Arc<LaneCard> {
        &self.card
    }

    /// True where the lane has a rate or a budget: it stands for something that others limit.
    pub fn has_limits(&self) -> bool {
        self.spec.rate.is_some() || !self.spec.budgets.is_empty()
    }

    /// Changes the limits of the lane; whatever runs or waits goes on.
    pub(super) fn configure(&mut self, spec: LaneSpec, now: Timestamp) {
        self.slots.set_limit(spec.concurrency);
        self.threads.set_limit(spec.threads.unwrap_or(u32::MAX));
        let anew = spec.fair != self.spec.fair || spec.on_full != self.spec.on_full;
        self.limiters.configure(&spec, now);
        self.card = card(&spec);
        self.spec = spec;
        if anew {
            self.line_up_anew();
        }
    }

    /// Puts everything that is queued in line by the rules as they are now.
    fn line_up_anew(&mut self) {
        self.by_age.clear();
        self.limiters.forget_waiters();
        let doors = std::mem::take(&mut self.doors);
        let mut entries: Vec<(Place, Entry)> =
            doors.iter().flat_map(Door::entries).map(|(at, entry)| (at, entry.clone())).collect();
        entries.sort_unstable_by_key(|(place, _)| place.ticket);
        for (_, entry) in entries {
            self.put(entry);
        }
    }

    /// True where a new task would not get a place at once.
    pub fn is_full(&self) -> bool {
        self.waiting > 0 || self.queued + self.reserved >= u64::from(self.spec.capacity)
    }

    /// True where what waits for room is about to be dropped, to drop others, or to go elsewhere.
    pub fn is_overflowing(&self) -> bool {
        self.spec.on_full != OnFull::Block
            && self.backlog.front().is_some_and(|first| !first.placed)
    }

    /// Counts a place as taken for a task that is about to be offered.
    pub fn reserve(&mut self) {
        self.reserved += 1;
    }
    pub(super) fn clear_reservation(&mut self) {
        self.reserved = 0;
    }

    /// Takes ready tasks; `next_admission` tells what becomes of them.
    pub fn offer(&mut self, entry: Entry) {
        self.counts.offered += entry.tasks();
        self.waiting += entry.tasks();
        self.joined(&entry);
        self.backlog.push_back(entry);
    }

    /// As `next_admission`, as far as there is room: of what finds none nothing is decided yet.
    pub fn next_place(&mut self) -> Option<Admission> {
        let room = u64::from(self.spec.capacity).saturating_sub(self.queued);
        if room == 0 {
            return None;
        }
        let entry = self.arrived(u32::try_from(room).unwrap_or(u32::MAX))?;
        self.counts.accepted += entry.tasks();
        Some(Admission::Place(entry))
    }

    /// The next decision on tasks that came: to be journaled, then carried out or taken back with
    /// `retract`. `None` where there is nothing to decide.
    ///
    /// A task that had a place before waits for room whatever the policy, and nobody overtakes it.
    pub fn next_admission(&mut self) -> Option<Admission> {
        if let Some(place) = self.next_place() {
            return Some(place);
        }
        let first = self.backlog.front().filter(|first| !first.placed)?;
        let wanted = first.span.len;
        match self.spec.on_full.clone() {
            OnFull::Block => None,
            OnFull::DropNewest => self.arrived(u32::MAX).map(|entry| self.dropped(entry)),
            OnFull::DropOldest => {
                let oldest = self.oldest(wanted).or_else(|| {
                    let entry = self.arrived(u32::MAX)?;
                    self.counts.accepted += entry.tasks();
                    Some(entry)
                })?;
                self.counts.accepted -= oldest.tasks();
                Some(self.dropped(oldest))
            }
            OnFull::Redirect(to) => {
                let entry = self.arrived(u32::MAX)?;
                self.counts.redirected += entry.tasks();
                Some(Admission::Redirect(entry, to))
            }
        }
    }

    fn dropped(&mut self, entry: Entry) -> Admission {
        self.counts.dropped += entry.tasks();
        Admission::Drop(entry)
    }

    /// Takes up to `n` tasks off the backlog.
    fn arrived(&mut self, n: u32) -> Option<Entry> {
        let (entry, gone) = self.backlog.front_mut()?.split_off(n);
        if gone {
            self.backlog.pop_front();
            self.left(entry.run);
        }
        self.waiting -= entry.tasks();
        Some(entry)
    }

    /// Takes up to `n` tasks that have waited longest in the queue, of those that may be dropped.
    fn oldest(&mut self, n: u32) -> Option<Entry> {
        let (&age, spot) = self.by_age.first_key_value()?;
        let Spot { style, priority, names, place } = spot.clone();
        let (entry, lost) = self.doors[style as usize].evict(priority, &names, place, n)?;
        if lost {
            // Whoever was woken in its place makes room for the next of its key.
            self.limiters.used(style as usize, &names.1, Timestamp(0));
        }
        self.queued -= entry.tasks();
        if entry.span.len < n || !self.doors[style as usize].has(priority, &names, place) {
            self.by_age.remove(&age);
            self.left(entry.run);
        }
        Some(entry)
    }

    /// Takes a decision back: the run does not want it any more. As if it had never come.
    pub fn retract(&mut self, admission: &Admission) {
        let n = admission.entry().tasks();
        let counts = &mut self.counts;
        counts.offered -= n;
        match admission {
            Admission::Place(_) => counts.accepted -= n,
            Admission::Drop(_) => counts.dropped -= n,
            Admission::Redirect(..) => counts.redirected -= n,
        }
    }

    /// Puts admitted tasks into the queue.
    pub fn enqueue(&mut self, entry: Entry) {
        self.queued += entry.tasks();
        self.joined(&entry);
        self.put(entry);
    }

    /// Puts an entry in line, behind what came before it.
    fn put(&mut self, entry: Entry) {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.put_at(entry, ticket);
    }

    fn put_at(&mut self, entry: Entry, ticket: u64) {
        let flow = self.flow_of(&entry.flow);
        let (style, priority) = (entry.style, entry.priority);
        let names = (self.spec.on_full == OnFull::DropOldest && !entry.placed)
            .then(|| (flow.clone(), entry.key.clone()));
        let place = self.doors[style as usize].push(flow, ticket, entry);
        if let Some(names) = names {
            self.by_age.insert(place.age(), Spot { style, priority, names, place });
        }
    }

    /// Whose turn a flow takes: its own where the lane is fair.
    pub(super) fn flow_of(&self, flow: &Name) -> Name {
        flow.clone().filter(|_| self.spec.fair)
    }

    fn joined(&mut self, entry: &Entry) {
        let member = self.members.entry(entry.run).or_insert_with(|| Member {
            flow: entry.flow.clone(),
            order: entry.order,
            entries: 0,
        });
        member.entries += 1;
    }

    fn left(&mut self, run: RunId) {
        if let Some(member) = self.members.get_mut(&run) {
            member.entries -= 1;
            if member.entries == 0 {
                self.members.remove(&run);
            }
        }
    }

    /// What could be granted of a style now: strands without tokens are parked on the way.
    pub(super) fn front(&mut self, style: Style, now: Timestamp) -> Option<(Head, Front)> {
        let door = style as usize;
        loop {
            let (head, entry) = self.doors[door].front()?;
            let front = Front { run: entry.run, node: entry.span.node, style };
            if self.limiters.is_free() {
                return Some((head, front));
            }
            let ready_at = self.limiters.ready_at(&entry.key, entry.cost);
            if ready_at <= now {
                return Some((head, front));
            }
            let (priority, parked) = self.doors[door].park()?;
            self.limiters.wait((door, priority), parked, ready_at);
        }
    }

    /// Wakes strands whose key has tokens again, for each key the one that is first.
    pub(super) fn settle(&mut self, now: Timestamp) {
        while let Some(key) = self.limiters.due(now) {
            (0..self.doors.len()).for_each(|door| self.wake(door, &key));
        }
        // Keys that were only held are not looked at by anybody else.
        self.limiters.tidy(now);
    }

    fn wake(&mut self, door: usize, key: &Name) {
        loop {
            let heads = self.limiters.heads(door, key);
            let oldest = heads.into_iter().min_by_key(|(priority, names)| {
                (self.doors[door].age_of(*priority, names), std::cmp::Reverse(*priority))
            });
            let Some((priority, names)) = oldest else { return };
            let awake = self.doors[door].wake(priority, &names);
            self.limiters.pop(door, key, priority, awake);
            if awake {
                return;
            }
        }
    }

    /// Slots that a task at this style could take now, but for the global bound.
    pub(super) fn free(&self, style: Style) -> u32 {
        let threads = if style == Style::Thread { self.threads.free() } else { u32::MAX };
        self.slots.free().min(threads)
    }

    /// Takes up to `n` tasks of what `front` has just told.
    pub(super) fn pop(&mut self, style: Style, n: u32, now: Timestamp) -> Option<Entry> {
        let door = style as usize;
        let each = style == Style::Loop;
        let mut n = if each { n.min(self.doors[door].allowance()) } else { n };
        let (_, entry) = self.doors[door].front()?;
        let (key, cost) = (entry.key.clone(), entry.cost);
        if cost > 0
            && let Some(free) = self.limiters.free(&key, now)
        {
            n = n.min((free / cost).max(1));
        }
        let permits = |tasks: u32| if each { tasks } else { 1 };
        let taken = self.doors[door].take(n, permits)?;
        let entry = taken.entry;
        self.limiters.take(&key, u64::from(cost) * entry.tasks(), now);
        if taken.woken {
            self.limiters.used(door, &key, now);
        }
        self.queued -= entry.tasks();
        self.counts.granted += entry.tasks();
        self.waits.record(now.since(entry.since), entry.tasks());
        if taken.gone {
            self.by_age.remove(&taken.place.age());
            self.left(entry.run);
        }
        Some(entry)
    }

    /// Takes tasks of a run out, all or those of a span; the rest stays where it is.
    pub(super) fn withdraw(&mut self, run: RunId, span: Option<Span>) {
        let Some(member) = self.members.get(&run) else { return };
        let (flow, order) = (self.flow_of(&member.flow), member.order);
        let before = self.waiting;
        if before > 0 {
            self.withdraw_waiting(run, span);
        }
        self.counts.offered -= before - self.waiting;
        for style in STYLES {
            let mut woken = Vec::new();
            let out = self.doors[style as usize].withdraw(&flow, run, order, &mut woken);
            for key in woken {
                self.limiters.used(style as usize, &key, Timestamp(0));
            }
            for (place, entry) in out {
                self.by_age.remove(&place.age());
                self.queued -= entry.tasks();
                self.left(run);
                let Some(span) = span else { continue };
                for part in entry.without(span) {
                    self.queued += part.tasks();
                    self.joined(&part);
                    self.put_at(part, place.ticket);
                }
            }
        }
    }

    fn withdraw_waiting(&mut self, run: RunId, span: Option<Span>) {
        let waiting = std::mem::take(&mut self.backlog);
        for entry in waiting {
            if entry.run != run {
                self.backlog.push_back(entry);
                continue;
            }
            self.waiting -= entry.tasks();
            self.left(run);
            for part in span.into_iter().flat_map(|span| entry.clone().without(span)) {
                self.waiting += part.tasks();
                self.joined(&part);
                self.backlog.push_back(part);
            }
        }
    }

    /// True where nothing waits and nothing is remembered of what did.
    #[cfg(test)]
    pub(super) fn is_forgetful(&self) -> bool {
        self.members.is_empty() && self.by_age.is_empty() && self.doors.iter().all(Door::is_empty)
    }
}
