//! The admission mechanism, rule by rule, and against a reference that is obviously right.

mod guests;
mod limits;
mod model;
mod order;
mod policies;
mod weight;

use super::*;
use crate::model::{LaneSpec, OnFull, Rate, RunId, Span, Style, Timestamp};

const NOW: Timestamp = Timestamp(1_000_000);

fn spec(concurrency: u32, capacity: u32) -> LaneSpec {
    LaneSpec { name: "io".into(), concurrency, capacity, ..LaneSpec::default() }
}

fn rated(units: u32, burst: u32) -> LaneSpec {
    LaneSpec { rate: Some(Rate { units, per_ms: 1_000, burst }), ..spec(99, 999) }
}

fn lanes(specs: impl IntoIterator<Item = LaneSpec>, global: Option<u32>) -> Lanes {
    Lanes::new(specs, global).expect("the lanes are sound")
}

fn entry(run: u128, len: u32, priority: i32, style: Style) -> Entry {
    let entry = Entry::new(RunId::from_u128(run), Span::new(0, 0, len), style);
    Entry { priority, order: run as u64, since: NOW, ..entry }
}

fn of_flow(run: u128, len: u32, flow: &str, weight: u32) -> Entry {
    Entry { flow: Some(flow.into()), weight, ..entry(run, len, 0, Style::Thread) }
}

fn of_key(run: u128, len: u32, key: &str) -> Entry {
    Entry { key: Some(key.into()), ..entry(run, len, 0, Style::Thread) }
}

/// Carries out what the lanes decide, as an owner would; answers with what was dropped.
fn admit_all(lanes: &mut Lanes) -> Vec<Entry> {
    let mut dropped = Vec::new();
    let mut again = true;
    while std::mem::take(&mut again) {
        for lane in 0..lanes.len() {
            while let Some(admission) = lanes.lane_mut(lane).next_admission() {
                match admission {
                    Admission::Place(entry) => lanes.lane_mut(lane).enqueue(entry),
                    Admission::Drop(entry) => dropped.push(entry),
                    Admission::Redirect(entry, to) => {
                        let to = lanes.index(&to).expect("it is declared");
                        lanes.lane_mut(to).offer(entry);
                        again = true;
                    }
                }
            }
        }
    }
    dropped
}

fn grant_at(lanes: &mut Lanes, style: Style, n: u32, now: Timestamp) -> Option<(Entry, Permit)> {
    let front = lanes.fronts(0, now).find(|front| front.style == style)?;
    let granted = lanes.grant(0, style, n, now)?;
    assert_eq!((front.run, front.node), (granted.0.run, granted.0.span.node));
    Some(granted)
}

fn grant(lanes: &mut Lanes, style: Style, n: u32) -> Option<(Entry, Permit)> {
    grant_at(lanes, style, n, NOW)
}

/// Runs of tasks in the order in which they are granted, one by one, for as long as any is.
fn order_at(lanes: &mut Lanes, now: Timestamp) -> Vec<u128> {
    std::iter::from_fn(|| grant_at(lanes, Style::Thread, 1, now))
        .map(|(entry, _)| entry.run.as_u128())
        .collect()
}

fn holds_identity(lanes: &mut Lanes) {
    for view in lanes.view(NOW) {
        let counts = view.counts;
        let sum = counts.accepted + counts.redirected + counts.dropped + view.backlog;
        assert_eq!(counts.offered, sum, "{view:?}");
    }
}
