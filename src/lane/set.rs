//! The lanes of an engine, and the global lane above them.

use std::collections::{HashMap, VecDeque};

use super::permit::Slots;
use super::queue::{Queue, rest, without};
use super::{Entry, Permit};
use crate::model::{LaneSpec, RunId, Span, Style};

/// One named lane.
#[derive(Debug)]
pub struct Lane {
    spec: LaneSpec,
    slots: Slots,
    threads: Option<Slots>,
    /// By style: `Thread`, `Loop`, `Process`.
    queues: [Queue; 3],
    /// Tasks in the queues; never more than the lane's capacity.
    queued: u64,
    /// Ready tasks of accepted runs for which the queue has no room yet, first come first.
    backlog: VecDeque<Entry>,
    next_ticket: u64,
    /// Places for tasks of runs that are accepted but not durable yet.
    reserved: u64,
}

/// A lane as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneView {
    pub name: String,
    pub concurrency: u32,
    pub capacity: u32,
    pub running: u32,
    pub queued: u64,
    /// Ready tasks of accepted runs that wait for room in the queue.
    pub backlog: u64,
}

impl Lane {
    fn new(spec: LaneSpec) -> Self {
        Self {
            slots: Slots::new(spec.concurrency),
            threads: spec.threads.map(Slots::new),
            spec,
            queues: Default::default(),
            queued: 0,
            backlog: VecDeque::new(),
            next_ticket: 0,
            reserved: 0,
        }
    }

    pub fn spec(&self) -> &LaneSpec {
        &self.spec
    }

    /// True where a new task would not get a place at once: submitters wait.
    pub fn is_full(&self) -> bool {
        !self.backlog.is_empty() || self.queued + self.reserved >= u64::from(self.spec.capacity)
    }

    /// Counts a place as taken for a task that is about to be offered.
    pub fn reserve(&mut self) {
        self.reserved += 1;
    }

    /// Takes ready tasks; they get a place as soon as the queue has room.
    pub fn offer(&mut self, entry: Entry) {
        self.backlog.push_back(entry);
    }

    /// The next tasks that fit into the queue: to be journaled, then given to `enqueue` or dropped.
    pub fn next_admission(&mut self) -> Option<Entry> {
        let room = u64::from(self.spec.capacity).saturating_sub(self.queued);
        if room == 0 {
            return None;
        }
        let mut entry = self.backlog.pop_front()?;
        let (head, rest) = entry.span.split_at(u32::try_from(room).unwrap_or(u32::MAX));
        if let Some(rest) = rest {
            self.backlog.push_front(Entry { span: rest, ..entry });
        }
        entry.span = head;
        Some(entry)
    }

    /// Puts admitted tasks into the queue.
    pub fn enqueue(&mut self, entry: Entry) {
        self.queued += u64::from(entry.span.len);
        self.queues[entry.style as usize].push(self.next_ticket, entry);
        self.next_ticket += 1;
    }

    fn free(&self, style: Style) -> u32 {
        let threads = match (style, &self.threads) {
            (Style::Thread, Some(threads)) => threads.free(),
            _ => u32::MAX,
        };
        self.slots.free().min(threads)
    }

    /// What is next of each style, best first: threads that are all taken do not hold up coroutines.
    pub fn fronts(&self) -> impl Iterator<Item = Entry> + use<> {
        let mut fronts = [const { None }; 3];
        for (front, queue) in fronts.iter_mut().zip(&self.queues) {
            *front = queue.front().map(|(band, ticket, entry)| (band, ticket, *entry));
        }
        fronts.sort_unstable_by_key(|front| front.map(|(band, ticket, _)| (band, ticket)));
        fronts.into_iter().flatten().map(|(_, _, entry)| entry)
    }

    fn pop(&mut self, style: Style, n: u32) -> Option<Entry> {
        let entry = self.queues[style as usize].pop(n)?;
        self.queued -= u64::from(entry.span.len);
        Some(entry)
    }

    fn withdraw(&mut self, run: RunId) {
        self.backlog.retain(|entry| entry.run != run);
        self.queued -= self.queues.iter_mut().map(|queue| queue.withdraw(run)).sum::<u64>();
    }

    fn withdraw_span(&mut self, run: RunId, span: Span) {
        let left = |entry: &Entry| entry.run == run && without(entry.span, span).is_some();
        if self.backlog.iter().any(left) {
            let backlog = std::mem::take(&mut self.backlog);
            self.backlog = backlog.into_iter().flat_map(|entry| rest(entry, run, span)).collect();
        }
        self.queued -=
            self.queues.iter_mut().map(|queue| queue.withdraw_span(run, span)).sum::<u64>();
    }

    fn view(&self) -> LaneView {
        LaneView {
            name: self.spec.name.clone(),
            concurrency: self.spec.concurrency,
            capacity: self.spec.capacity,
            running: self.slots.taken(),
            queued: self.queued,
            backlog: self.backlog.iter().map(|entry| u64::from(entry.span.len)).sum(),
        }
    }
}

/// The named lanes of an engine and the global lane.
#[derive(Debug)]
pub struct Lanes {
    lanes: Vec<Lane>,
    by_name: HashMap<String, usize>,
    global: Option<Slots>,
}

impl Lanes {
    /// `global` bounds the slots taken in all lanes together.
    pub fn new(specs: impl IntoIterator<Item = LaneSpec>, global: Option<u32>) -> Self {
        let mut lanes =
            Self { lanes: Vec::new(), by_name: HashMap::new(), global: global.map(Slots::new) };
        specs.into_iter().for_each(|spec| lanes.declare(spec));
        lanes
    }

    /// Adds a lane; one that exists under this name stays as it is.
    pub fn declare(&mut self, spec: LaneSpec) {
        if !self.by_name.contains_key(&spec.name) {
            self.by_name.insert(spec.name.clone(), self.lanes.len());
            self.lanes.push(Lane::new(spec));
        }
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

    /// Slots that a task at this style could take now.
    pub fn free(&self, lane: usize, style: Style) -> u32 {
        let global = self.global.as_ref().map_or(u32::MAX, Slots::free);
        self.lanes[lane].free(style).min(global)
    }

    /// Takes up to `n` tasks of the next entry at a style, with the permit to run them.
    ///
    /// A batch on a thread holds one slot, calls on the loop hold one each.
    pub fn grant(&mut self, lane: usize, style: Style, n: u32) -> Option<(Entry, Permit)> {
        let free = self.free(lane, style);
        if free == 0 || n == 0 {
            return None;
        }
        let n = if style == Style::Loop { n.min(free) } else { n };
        let entry = self.lanes[lane].pop(style, n)?;
        let slots = if style == Style::Loop { entry.span.len } else { 1 };
        let lane = &self.lanes[lane];
        let threads = lane.threads.as_ref().filter(|_| style == Style::Thread);
        let holds = [Some(&lane.slots), threads, self.global.as_ref()];
        Some((entry, Permit { holds: holds.map(|held| held.map(|held| held.take(slots))) }))
    }

    /// Drops the next entry at a style: its run is over.
    pub fn discard(&mut self, lane: usize, style: Style) {
        self.lanes[lane].pop(style, u32::MAX);
    }

    /// Reserved places are taken now, or not needed.
    pub fn clear_reservations(&mut self) {
        self.lanes.iter_mut().for_each(|lane| lane.reserved = 0);
    }

    /// Takes everything of a run out of all queues.
    pub fn withdraw(&mut self, run: RunId) {
        self.lanes.iter_mut().for_each(|lane| lane.withdraw(run));
    }

    /// Takes these tasks of a run out of all queues.
    pub fn withdraw_span(&mut self, run: RunId, span: Span) {
        self.lanes.iter_mut().for_each(|lane| lane.withdraw_span(run, span));
    }

    pub fn view(&self) -> Vec<LaneView> {
        self.lanes.iter().map(Lane::view).collect()
    }
}
