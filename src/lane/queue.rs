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
