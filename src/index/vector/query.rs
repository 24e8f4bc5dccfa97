//! A search by direction in some sessions: scanned in eight bits, the best scored again in full.

use std::collections::BinaryHeap;

use super::VectorIndex;
use super::cells::Cells;
use super::dot::dots;
use super::probes::{Depth, Probes};
use super::row::{Line, Quantized, cosine, quantize};
use super::rows::Rows;
use crate::index::parts::PartId;
use crate::index::top::{Hit, Top};
use crate::index::{Filter, Key};

/// Writes an entry's vector, in full precision. `false`: there is none, the scan's score stands.
pub type Truth<'a> = &'a dyn Fn(Key, &mut [f32]) -> bool;

/// Of the scan's best, so many per hit that is asked for, and so many more, may be scored again.
const POOL_PER_HIT: usize = 4;
const POOL_MORE: usize = 256;
/// What the scan's score may be off, in standard deviations of the rounding of both sides.
const MARGIN_DEVIATIONS: f32 = 6.0;

/// A question to some sessions of a [`VectorIndex`].
pub struct VectorQuery<'a> {
    index: &'a VectorIndex,
    /// In rising order.
    parts: Vec<PartId>,
    unit: Vec<f32>,
    coarse: Quantized,
    truth: Truth<'a>,
}

impl<'a> VectorQuery<'a> {
    pub(super) fn new(
        index: &'a VectorIndex,
        sessions: &[&str],
        unit: Vec<f32>,
        truth: Truth<'a>,
    ) -> Self {
        let coarse = quantize(&unit);
        Self { index, parts: index.parts.find_all(sessions), unit, coarse, truth }
    }

    /// The `k` nearest entries that `filter` allows, nearest first, with their cosines.
    pub fn top(&self, k: usize, filter: Option<Filter<'_>>) -> Vec<Hit> {
        let pool = k.saturating_mul(POOL_PER_HIT).saturating_add(POOL_MORE);
        let (coarse, margin) = self.coarse_top(if k == 0 { 0 } else { pool }, k, filter);
        self.refine(k, coarse, margin)
    }

    /// The question in eight bits.
    pub(super) fn lines(&self) -> &[Line] {
        &self.coarse.lines
    }

    /// Cosine of one entry, `None` if it is in none of the sessions.
    pub fn score(&self, key: Key) -> Option<f32> {
        let coarse = self.coarse_score(key)?;
        let mut row = vec![0.0; self.unit.len()];
        Some(if (self.truth)(key, &mut row) { cosine(&self.unit, &row) } else { coarse })
    }

    /// The scan's best with the scan's scores, and what those may be off. Of a session in cells, the first
    /// `sure` are as many of the truly best ones as was measured for it, and those behind them are near.
    pub(in crate::index) fn coarse_top(
        &self,
        k: usize,
        sure: usize,
        filter: Option<Filter<'_>>,
    ) -> (Vec<Hit>, f32) {
        let mut coarse = Top::new(k, filter);
        let mut widest_step = 0f32;
        for &part in &self.parts {
            let cells = self.index.parts.get(part);
            let widest = match cells.to_read() {
                Some(probes) => self.probe(cells, probes, &mut coarse, sure, filter),
                None => self.scan_all(cells.all(), &mut coarse),
            };
            widest_step = widest_step.max(widest);
        }
        (coarse.into_sorted(), self.margin(widest_step))
    }

    /// Like [`Self::score`], without asking for the row.
    pub(in crate::index) fn coarse_score(&self, key: Key) -> Option<f32> {
        let place = self.index.parts.place(key)?;
        self.parts.binary_search(&place.part).ok()?;
        let (lines, step) = self.index.parts.get(place.part).row(place.row);
        let mut dot = [0];
        dots(&self.coarse.lines, lines, &mut dot);
        Some(self.approximate(dot[0], step))
    }

    /// Offers the rows of the nearest cells, as many cells as it takes, and says the widest step.
    fn probe(
        &self,
        cells: &Cells,
        probes: Probes,
        top: &mut Top<'_>,
        sure: usize,
        filter: Option<Filter<'_>>,
    ) -> f32 {
        let mut depth = filter.map(|filter| Depth::of(Top::new(sure, Some(filter))));
        let loose = cells.loose().iter().map(|rows| self.scan(rows, top, &mut depth));
        let mut widest = loose.fold(0f32, f32::max);
        let Some(centres) = cells.centres() else { return widest };
        let nearness = centres.nearness(&self.coarse.lines).enumerate();
        // Only the first are taken off it, so that few are put in order.
        let order = nearness.map(|(centre, score)| Hit { key: centre as Key, score });
        let mut order: BinaryHeap<Hit> = order.collect();
        let (mut read, mut enough) = (0, probes.needed(sure));
        while let Some(centre) = order.pop() {
            widest = widest.max(self.scan(cells.about(centre.key as usize), top, &mut depth));
            read += 1;
            if top.len() < sure || enough.is_none_or(|enough| read < enough) {
                continue;
            }
            let Some(depth) = &mut depth else { break };
            // What is enough is known better the more was read; looked at again at twice as much.
            let needed = depth.reached().map_or(Some(read * 2), |depth| probes.needed(depth));
            if needed.is_some_and(|needed| read >= needed) {
                break;
            }
            enough = needed.map(|needed| needed.min(read * 2));
        }
        widest
    }

    pub(super) fn scan_all(&self, all: &[Rows], top: &mut Top<'_>) -> f32 {
        all.iter().map(|rows| self.scan(rows, top, &mut None)).fold(0f32, f32::max)
    }

    /// Offers every row, and says the widest step among them.
    fn scan(&self, rows: &Rows, top: &mut Top<'_>, depth: &mut Option<Depth<'_>>) -> f32 {
        let (mut products, mut scores) = (Vec::new(), Vec::new());
        let mut widest = 0f32;
        for (lines, keys, steps) in rows.blocks() {
            products.resize(keys.len(), 0);
            dots(&self.coarse.lines, lines, &mut products);
            let rows = products.iter().zip(steps);
            scores.clear();
            scores.extend(rows.map(|(&dot, &step)| self.approximate(dot, step)));
            widest = widest.max(widest_of(steps));
            if let Some(depth) = depth {
                depth.see(&scores, |row| keys[row]);
            }
            top.offer_all(&scores, f32::NEG_INFINITY, |row| keys[row]);
        }
        widest
    }

    fn approximate(&self, dot: i32, step: f32) -> f32 {
        (dot as f32 * step * self.coarse.step).clamp(-1.0, 1.0)
    }

    /// Rounding to a step is off by `step / sqrt(12)` in each number, hence by as much along a unit vector.
    fn margin(&self, widest_step: f32) -> f32 {
        let deviation = widest_step.hypot(self.coarse.step) / 12f32.sqrt();
        MARGIN_DEVIATIONS * deviation
    }

    /// Scores the scan's best again, best first, until those left cannot reach the `k` best any more.
    fn refine(&self, k: usize, coarse: Vec<Hit>, margin: f32) -> Vec<Hit> {
        let mut exact = Top::new(k, None);
        let mut row = vec![0.0; self.unit.len()];
        for hit in coarse {
            if hit.score + margin < exact.bar() {
                break;
            }
            let known = (self.truth)(hit.key, &mut row);
            let score = if known { cosine(&self.unit, &row) } else { hit.score };
            exact.offer(Hit { score, ..hit });
        }
        exact.into_sorted()
    }
}

/// The widest of some steps: side by side, so that they can share a register.
fn widest_of(steps: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let (whole, rest) = steps.as_chunks::<16>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, &step)| {
            if step > *lane {
                *lane = step;
            }
        });
    }
    lanes.iter().chain(rest).fold(0f32, |widest, &step| widest.max(step))
}
