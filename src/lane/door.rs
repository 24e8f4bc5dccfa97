//! The queue of one style: bands of priority that age, and the tasks by their age.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::band::{Band, Names, Parked, Taken};
use super::entry::{AGING_MS, Entry, Name, Place};
use crate::model::{Priority, RunId};

/// When an entry would have come, were it of priority 0: what orders bands. A constant of the entry,
/// so that nothing has to be moved as time passes.
fn virtual_since(entry: &Entry) -> i64 {
    let since = i64::try_from(entry.since.0).unwrap_or(i64::MAX);
    since.saturating_sub(i64::from(entry.priority) * AGING_MS as i64)
}

/// What is next of a door, to compare doors by.
pub(super) type Head = (i64, u64);

/// Waiting entries of one style.
#[derive(Debug, Default)]
pub(super) struct Door {
    bands: BTreeMap<Priority, Band>,
    /// Bands with something ready, by the virtual age of what is next in them.
    heads: BTreeSet<(i64, Reverse<Priority>)>,
    /// The head of each band in `heads`.
    head_of: BTreeMap<Priority, i64>,
}

impl Door {
    pub(super) fn push(&mut self, flow: Name, ticket: u64, entry: Entry) -> Place {
        let (priority, place) = (entry.priority, Place::of(&entry, ticket));
        self.bands.entry(priority).or_default().push(flow, place, entry);
        self.refresh(priority);
        place
    }

    /// Brings the order of bands up to date with what is next in one of them.
    fn refresh(&mut self, priority: Priority) {
        let band = self.bands.get(&priority);
        let head = band.and_then(|band| Some(virtual_since(band.front()?.1)));
        let old = match head {
            Some(head) => self.head_of.insert(priority, head),
            None => self.head_of.remove(&priority),
        };
        if old != head {
            if let Some(old) = old {
                self.heads.remove(&(old, Reverse(priority)));
            }
            if let Some(head) = head {
                self.heads.insert((head, Reverse(priority)));
            }
        }
        if self.bands.get(&priority).is_some_and(Band::is_empty) {
            self.bands.remove(&priority);
        }
    }

    fn best(&self) -> Option<(&Band, i64)> {
        let (head, Reverse(priority)) = self.heads.first()?;
        Some((self.bands.get(priority)?, *head))
    }

    fn best_priority(&self) -> Option<Priority> {
        self.heads.first().map(|(_, Reverse(priority))| *priority)
    }

    /// What is next.
    pub(super) fn front(&self) -> Option<(Head, &Entry)> {
        let (band, head) = self.best()?;
        let (place, entry) = band.front()?;
        Some(((head, place.ticket), entry))
    }

    /// Permits that the flow in front may take in its turn.
    pub(super) fn allowance(&self) -> u32 {
        self.best().map_or(0, |(band, _)| band.allowance())
    }

    pub(super) fn take(&mut self, n: u32, permits: impl Fn(u32) -> u32) -> Option<Taken> {
        let priority = self.best_priority()?;
        let taken = self.bands.get_mut(&priority)?.take(n, permits);
        self.refresh(priority);
        taken
    }

    pub(super) fn park(&mut self) -> Option<(Priority, Parked)> {
        let priority = self.best_priority()?;
        let parked = self.bands.get_mut(&priority)?.park();
        self.refresh(priority);
        Some((priority, parked?))
    }

    pub(super) fn wake(&mut self, priority: Priority, names: &Names) -> bool {
        let woken = self.bands.get_mut(&priority).is_some_and(|band| band.wake(names));
        self.refresh(priority);
        woken
    }

    /// The virtual age of what a strand has first; the oldest of all where there is nothing in it.
    pub(super) fn age_of(&self, priority: Priority, names: &Names) -> i64 {
        let entry = self.bands.get(&priority).and_then(|band| band.peek(names));
        entry.map_or(i64::MIN, virtual_since)
    }

    pub(super) fn withdraw(
        &mut self,
        flow: &Name,
        run: RunId,
        order: u64,
        woken: &mut Vec<Name>,
    ) -> Vec<(Place, Entry)> {
        let mut out = Vec::new();
        for priority in self.bands.keys().copied().collect::<Vec<_>>() {
            if let Some(band) = self.bands.get_mut(&priority) {
                out.extend(band.withdraw(flow, run, order, woken));
            }
            self.refresh(priority);
        }
        out
    }

    pub(super) fn evict(
        &mut self,
        priority: Priority,
        names: &Names,
        place: Place,
        n: u32,
    ) -> Option<(Entry, bool)> {
        let evicted = self.bands.get_mut(&priority)?.evict(names, place, n);
        self.refresh(priority);
        evicted
    }

    /// Tasks that are likely to go before an entry: those of bands that are ahead, and those before
    /// it in its flow, of which `looks` entries are counted at most.
    pub(super) fn ahead(&self, flow: &Name, place: Place, entry: &Entry, looks: usize) -> u64 {
        let own = virtual_since(entry);
        let better = self.heads.iter().filter(|(head, band)| {
            (*head, band.0) < (own, entry.priority) && band.0 != entry.priority
        });
        let bands = better.filter_map(|(_, band)| self.bands.get(&band.0));
        let others: u64 = bands.map(|band| band.tasks).sum();
        let band = self.bands.get(&entry.priority);
        others + band.map_or(0, |band| band.ahead(flow, place, looks))
    }

    /// True where an entry lies at a place.
    pub(super) fn has(&self, priority: Priority, names: &Names, place: Place) -> bool {
        self.bands.get(&priority).is_some_and(|band| band.has(names, place))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Place, &Entry)> {
        self.bands.values().flat_map(Band::entries)
    }

    pub(super) fn of_run(&self, flow: &Name, order: u64) -> impl Iterator<Item = (Place, &Entry)> {
        self.bands.values().flat_map(move |band| band.of_run(flow, order))
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.bands.is_empty() && self.heads.is_empty() && self.head_of.is_empty()
    }
}
