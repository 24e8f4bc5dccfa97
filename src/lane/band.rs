//! One priority of one door: flows take turns, deficit round robin.
//!
//! Source: M. Shreedhar, G. Varghese, "Efficient Fair Queuing Using Deficit Round Robin", 1995. The
//! quantum is one permit for each unit of weight: a batch on a thread is one, a coroutine is one.
//!
//! A flow keeps its entries apart by key of the rate: a strand. A strand whose key has no tokens is
//! parked, by name, until the limiter wakes it; nobody walks past it meanwhile.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Entry, Name, Place};
use crate::math::Table;
use crate::model::RunId;

/// Entries of one flow and one key.
#[derive(Debug, Default)]
struct Strand {
    /// Boxed, since a node of the map has room for eleven: most strands have one.
    entries: BTreeMap<Place, Box<Entry>>,
    /// Its key has no tokens; the limiter has its name.
    parked: bool,
    /// Its key has tokens again, and it has not used them yet.
    woken: bool,
}

#[derive(Debug, Default)]
struct Flow {
    strands: Table<Name, Strand>,
    /// The first entries of the strands that are not parked.
    ready: BTreeMap<Place, Name>,
    /// Permits that are left of its turn.
    deficit: u32,
    in_ring: bool,
}

#[derive(Debug, Default)]
pub(super) struct Band {
    flows: Table<Name, Flow>,
    /// Flows with something ready, the one whose turn it is in front; others may be among them
    /// further back.
    ring: VecDeque<Name>,
    pub(super) tasks: u64,
}

/// A strand, by the names of its flow and its key.
pub(super) type Names = (Name, Name);

/// What was taken off the front.
pub(super) struct Taken {
    pub(super) entry: Entry,
    pub(super) place: Place,
    /// Nothing is left of it in its place.
    pub(super) gone: bool,
    /// The strand had been woken for this.
    pub(super) woken: bool,
}

/// A strand that waits for tokens from now on.
pub(super) struct Parked {
    pub(super) names: Names,
    /// It had been woken, and has had nothing.
    pub(super) woken: bool,
    /// It keeps its place before others of its key: it was woken, or is in the middle of its turn.
    pub(super) first: bool,
}

impl Flow {
    /// Puts a strand's first entry in line, where the strand is not parked.
    fn line_up(&mut self, key: &Name) {
        let Some(strand) = self.strands.get(key).filter(|strand| !strand.parked) else { return };
        if let Some(place) = strand.entries.keys().next() {
            self.ready.insert(*place, key.clone());
        }
    }

    fn step_out(&mut self, key: &Name) {
        if let Some(place) = self.strands.get(key).and_then(|strand| strand.entries.keys().next()) {
            self.ready.remove(place);
        }
    }
}

impl Band {
    pub(super) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub(super) fn push(&mut self, flow: Name, place: Place, entry: Entry) {
        self.tasks += entry.tasks();
        let state = self.flows.entry(flow.clone()).or_default();
        let strand = state.strands.entry(entry.key.clone()).or_default();
        let first = strand.entries.keys().next().copied();
        let key = entry.key.clone();
        let parked = strand.parked;
        strand.entries.insert(place, Box::new(entry));
        if parked || first.is_some_and(|first| first < place) {
            return;
        }
        if let Some(first) = first {
            state.ready.remove(&first);
        }
        state.ready.insert(place, key);
        self.enter(flow, false);
    }

    /// Brings a flow into the ring: in front where its turn is not over.
    fn enter(&mut self, flow: Name, in_front: bool) {
        let Some(state) = self.flows.get_mut(&flow) else { return };
        if state.in_ring || state.ready.is_empty() {
            return;
        }
        state.in_ring = true;
        match in_front {
            true => self.ring.push_front(flow),
            false => self.ring.push_back(flow),
        }
    }

    /// What is next, and its place.
    pub(super) fn front(&self) -> Option<(Place, &Entry)> {
        let flow = self.flows.get(self.ring.front()?)?;
        let (place, key) = flow.ready.first_key_value()?;
        Some((*place, flow.strands.get(key)?.entries.get(place)?))
    }

    /// Permits that the flow in front may still take in its turn; all where it is alone.
    pub(super) fn allowance(&self) -> u32 {
        let Some(flow) = self.ring.front().filter(|_| self.ring.len() > 1) else { return u32::MAX };
        let weight = self.front().map_or(1, |(_, entry)| entry.weight.max(1));
        let left = self.flows.get(flow).map_or(0, |flow| flow.deficit);
        if left > 0 { left } else { weight }
    }

    /// Takes up to `n` tasks off the front, which cost `permits(tasks)` of the flow's turn.
    pub(super) fn take(&mut self, n: u32, permits: impl Fn(u32) -> u32) -> Option<Taken> {
        let name = self.ring.front()?.clone();
        let flow = self.flows.get_mut(&name)?;
        let (&place, key) = flow.ready.first_key_value()?;
        let key = key.clone();
        let strand = flow.strands.get_mut(&key)?;
        let mut first = strand.entries.first_entry()?;
        let (entry, gone) = first.get_mut().split_off(n);
        let woken = std::mem::take(&mut strand.woken);
        if flow.deficit == 0 {
            flow.deficit = entry.weight.max(1);
        }
        flow.deficit = flow.deficit.saturating_sub(permits(entry.span.len));
        let over = flow.deficit == 0;
        if gone {
            strand.entries.pop_first();
            flow.ready.remove(&place);
            flow.line_up(&key);
        }
        self.tasks -= entry.tasks();
        // One with nothing ready leaves, and comes back behind the others.
        if over && !flow.ready.is_empty() {
            self.ring.rotate_left(1);
        }
        if gone {
            self.tidy(&name, &key);
        }
        self.turn();
        Some(Taken { entry, place, gone, woken })
    }

    /// Goes on to the next flow that has something ready.
    fn turn(&mut self) {
        while let Some(name) = self.ring.front() {
            let Some(flow) = self.flows.get_mut(name) else { break };
            if !flow.ready.is_empty() {
                break;
            }
            flow.in_ring = false;
            if flow.strands.is_empty() {
                self.flows.remove(name);
            }
            self.ring.pop_front();
        }
    }

    /// Parks the strand in front.
    pub(super) fn park(&mut self) -> Option<Parked> {
        let name = self.ring.front()?.clone();
        let flow = self.flows.get_mut(&name)?;
        let (_, key) = flow.ready.pop_first()?;
        let strand = flow.strands.get_mut(&key)?;
        strand.parked = true;
        let woken = std::mem::take(&mut strand.woken);
        let first = woken || flow.deficit > 0;
        self.turn();
        Some(Parked { names: (name, key), woken, first })
    }

    /// Wakes a parked strand; false where nothing is left in it.
    pub(super) fn wake(&mut self, (flow, key): &Names) -> bool {
        let Some(state) = self.flows.get_mut(flow) else { return false };
        let Some(strand) = state.strands.get_mut(key) else { return false };
        strand.parked = false;
        strand.woken = !strand.entries.is_empty();
        let woken = strand.woken;
        state.line_up(key);
        let in_front = state.deficit > 0;
        self.enter(flow.clone(), in_front);
        self.tidy(flow, key);
        woken
    }

    /// The first entry of a strand.
    pub(super) fn peek(&self, (flow, key): &Names) -> Option<&Entry> {
        self.flows.get(flow)?.strands.get(key)?.entries.values().next().map(|entry| &**entry)
    }

    /// Lets go of a strand, and of its flow, with nothing in them.
    fn tidy(&mut self, name: &Name, key: &Name) {
        let Some(flow) = self.flows.get_mut(name) else { return };
        if flow.strands.get(key).is_some_and(|strand| strand.entries.is_empty() && !strand.parked) {
            flow.strands.remove(key);
        }
        // A flow in the ring goes when the ring comes round to it.
        if flow.strands.is_empty() && !flow.in_ring {
            self.flows.remove(name);
        }
    }

    /// Takes out all entries of a run. Tells the keys of strands that were woken and are gone.
    pub(super) fn withdraw(
        &mut self,
        flow: &Name,
        run: RunId,
        order: u64,
        woken: &mut Vec<Name>,
    ) -> Vec<(Place, Entry)> {
        let Some(state) = self.flows.get_mut(flow) else { return Vec::new() };
        let keys: Vec<Name> = state.strands.keys().cloned().collect();
        let mut out = Vec::new();
        for key in keys {
            let Some(state) = self.flows.get_mut(flow) else { break };
            state.step_out(&key);
            if let Some(strand) = state.strands.get_mut(&key) {
                let range = Place::first_of(order)..=Place::last_of(order);
                let found = strand.entries.range(range).filter(|(_, entry)| entry.run == run);
                let places: Vec<Place> = found.map(|(place, _)| *place).collect();
                let removed = places.iter().filter_map(|place| strand.entries.remove_entry(place));
                out.extend(removed.map(|(place, entry)| (place, *entry)));
                if strand.woken && strand.entries.is_empty() {
                    strand.woken = false;
                    woken.push(key.clone());
                }
            }
            state.line_up(&key);
            self.tidy(flow, &key);
        }
        self.tasks -= out.iter().map(|(_, entry)| entry.tasks()).sum::<u64>();
        self.turn();
        out
    }

    /// Takes up to `n` tasks of the entry at a place. Tells whether its strand was woken and is gone.
    pub(super) fn evict(&mut self, names: &Names, place: Place, n: u32) -> Option<(Entry, bool)> {
        let (name, key) = names;
        let flow = self.flows.get_mut(name)?;
        flow.step_out(key);
        let strand = flow.strands.get_mut(key)?;
        let (taken, gone) = strand.entries.get_mut(&place)?.split_off(n);
        if gone {
            strand.entries.remove(&place);
        }
        let lost = strand.woken && strand.entries.is_empty();
        strand.woken &= !lost;
        flow.line_up(key);
        self.tasks -= taken.tasks();
        self.tidy(name, key);
        self.turn();
        Some((taken, lost))
    }

    /// Tasks that go before `place` in its flow, counting `looks` entries at most.
    pub(super) fn ahead(&self, flow: &Name, place: Place, looks: usize) -> u64 {
        let strands = self.flows.get(flow).into_iter().flat_map(|flow| flow.strands.values());
        let before = strands.flat_map(|strand| strand.entries.range(..place));
        before.take(looks).map(|(_, entry)| entry.tasks()).sum()
    }

    pub(super) fn has(&self, (flow, key): &Names, place: Place) -> bool {
        let strand = self.flows.get(flow).and_then(|flow| flow.strands.get(key));
        strand.is_some_and(|strand| strand.entries.contains_key(&place))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Place, &Entry)> {
        let strands = self.flows.values().flat_map(|flow| flow.strands.values());
        strands.flat_map(|strand| strand.entries.iter().map(|(place, entry)| (*place, &**entry)))
    }

    /// Where an entry of a run is looked for.
    pub(super) fn of_run(&self, flow: &Name, order: u64) -> impl Iterator<Item = (Place, &Entry)> {
        let strands = self.flows.get(flow).into_iter().flat_map(|flow| flow.strands.values());
        let range = Place::first_of(order)..=Place::last_of(order);
        strands
            .flat_map(move |strand| strand.entries.range(range.clone()))
            .map(|(place, entry)| (*place, &**entry))
    }
}
