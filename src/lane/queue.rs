//! The queue of a lane: priority bands, FIFO inside a band, one queue per style of running.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use crate::model::{Priority, RunId, Span, Style};

/// Tasks of one run that wait together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub run: RunId,
    pub span: Span,
    /// Attempts that the tasks have behind them.
    pub attempts: u32,
    pub priority: Priority,
    pub style: Style,
}

/// Waiting entries of one style.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bands: BTreeMap<Reverse<Priority>, VecDeque<(u64, Entry)>>,
}

impl Queue {
    pub(super) fn push(&mut self, ticket: u64, entry: Entry) {
        self.bands.entry(Reverse(entry.priority)).or_default().push_back((ticket, entry));
    }

    /// What is next: its priority and ticket, to compare doors, and the entry.
    pub(super) fn front(&self) -> Option<(Reverse<Priority>, u64, &Entry)> {
        let (band, entries) = self.bands.first_key_value()?;
        let (ticket, entry) = entries.front()?;
        Some((*band, *ticket, entry))
    }

    /// Takes up to `n` tasks of the next entry.
    pub(super) fn pop(&mut self, n: u32) -> Option<Entry> {
        let mut band = self.bands.first_entry()?;
        let (_, front) = band.get_mut().front_mut()?;
        let (head, rest) = front.span.split_at(n);
        let taken = Entry { span: head, ..*front };
        match rest {
            Some(rest) => front.span = rest,
            None => {
                band.get_mut().pop_front();
            }
        }
        if band.get().is_empty() {
            band.remove();
        }
        Some(taken)
    }

    /// Takes these tasks of a run out; returns how many of them were there.
    pub(super) fn withdraw_span(&mut self, run: RunId, span: Span) -> u64 {
        let mut tasks = 0;
        self.bands.retain(|_, entries| {
            let left = |(_, e): &(u64, Entry)| e.run == run && without(e.span, span).is_some();
            if entries.iter().any(left) {
                let count = |of: &VecDeque<(u64, Entry)>| -> u64 {
                    of.iter().map(|(_, entry)| u64::from(entry.span.len)).sum()
                };
                let before = count(entries);
                *entries = std::mem::take(entries)
                    .into_iter()
                    .flat_map(|(ticket, e)| rest(e, run, span).map(move |e| (ticket, e)))
                    .collect();
                tasks += before - count(entries);
            }
            !entries.is_empty()
        });
        tasks
    }

    /// Takes out everything of a run; returns how many tasks that were.
    pub(super) fn withdraw(&mut self, run: RunId) -> u64 {
        let mut tasks = 0;
        self.bands.retain(|_, entries| {
            entries.retain(|(_, entry)| {
                let stays = entry.run != run;
                tasks += if stays { 0 } else { u64::from(entry.span.len) };
                stays
            });
            !entries.is_empty()
        });
        tasks
    }
}

/// What is left of a span without another, before and behind it; `None` where they do not meet.
pub(super) fn without(span: Span, gone: Span) -> Option<[Span; 2]> {
    let (lo, hi) = (span.lo.max(gone.lo), span.hi().min(gone.hi()));
    let rest = [(span.lo, lo), (hi, span.hi())];
    (span.node == gone.node && lo < hi)
        .then(|| rest.map(|(from, to)| Span::new(span.node, from, to - from)))
}

/// What is left of an entry when these tasks of a run leave.
pub(super) fn rest(entry: Entry, run: RunId, gone: Span) -> impl Iterator<Item = Entry> {
    let parts = match without(entry.span, gone).filter(|_| entry.run == run) {
        Some(parts) => parts,
        None => [entry.span, Span { len: 0, ..entry.span }],
    };
    parts.into_iter().filter(|span| span.len > 0).map(move |span| Entry { span, ..entry })
}
